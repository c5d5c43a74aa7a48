"""A submitted record is a cell of the suite in all that makes it one: identity, id, selection and every evaluation."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.publishing.expected import ExpectedCell, ExpectedSuite, record_faults
from harness.records.record import Record, Submission, identity_hash
from tests.harness.publishing.forging import evaluated, trained

Edit = Callable[[Record], Record]


def named(record: Record, **identity: object) -> Record:
    """The record under another identity, with the id that goes with it."""
    made = record.identity.model_copy(update=identity)
    name = f"{made.dataset}-{made.detector}-{made.method}-s{made.seed}-{identity_hash(made)[:10]}"
    return record.model_copy(update={"identity": made, "id": name})


def demanding(suite: ExpectedSuite, record: Record, **evaluation: object) -> ExpectedSuite:
    """A suite of one cell with a record's identity, whose evaluation is the mini suite's with these changes."""
    expected = suite.cells[0].evaluations["test"].model_copy(update=evaluation)
    return suite.model_copy(update={"cells": (ExpectedCell(identity=record.identity, evaluations={"test": expected}),)})


def submitted(record: Record) -> Record:
    """The record with predictions for a server in the place of its evaluation."""
    kept = record.evaluations[0].model_dump(include=set(Submission.model_fields))
    return record.model_copy(
        update={"evaluations": (), "submissions": (Submission.model_validate(kept | {"why": "labels private"}),)}
    )


@pytest.mark.parametrize(
    ("size", "suites", "processes", "fits"),
    [
        (16, 16, 1, True), (15, 16, 1, True), (17, 16, 1, False), (0, 16, 1, False), (None, 16, 1, False),
        (None, None, 1, True), (15, None, 1, True), (16, None, 1, False), (7, None, 2, True), (8, None, 2, False),
        (12, 8, 1, False),
    ],
)  # fmt: skip
def test_a_micro_batch_is_the_suites_or_less_than_a_process_shares_of_the_batch(
    record: Record, suite: ExpectedSuite, size: int | None, suites: int | None, processes: int, fits: bool
) -> None:
    recipe = {**record.identity.recipe, "batch_size": 16}
    owned = named(record, recipe=recipe, micro_batch_size=suites, processes=processes)
    faults, marks = record_faults(named(owned, micro_batch_size=size), demanding(suite, owned))
    assert marks == []
    assert [fault.split("'")[1] for fault in faults] == ([] if fits else ["identity.micro_batch_size"])


def test_an_id_says_what_its_record_is_of(record: Record, suite: ExpectedSuite) -> None:
    start, _, digest = record.id.rpartition("-")
    (said,) = record_faults(record.model_copy(update={"id": f"roads-other-baseline-s0-{digest}"}), suite)[0]
    assert said.startswith("key 'id' is 'roads-other-baseline-s0-")
    assert record_faults(record.model_copy(update={"id": f"{start}-{'0' * 10}"}), suite)[0] != []
    programs = record.model_copy(update={"id": f"{start.removesuffix('-s0')}-{digest}"})
    assert record_faults(programs, suite) == ([], [])


def test_a_training_by_epochs_takes_the_steps_that_the_suites_images_give(record: Record, suite: ExpectedSuite) -> None:
    """Of 89 images a batch of 16 is taken five times, what is left over is dropped."""
    owned = named(record, recipe={**record.identity.recipe, "steps": None, "epochs": 44})
    wanted = demanding(suite, owned)
    for images, steps in ((89, 220), (96, 264), (3, 44)):
        counted = wanted.model_copy(update={"training_images": {"roads": images}})
        assert record_faults(trained(owned, steps=steps), counted) == ([], [])
        for other in (steps - 1, steps + 1):
            (said,) = record_faults(trained(owned, steps=other), counted)[0]
            assert said.startswith(
                f"key 'training.steps' is {other}, not 44 epochs of the {images} training images of "
            )
    assert record_faults(owned, wanted.model_copy(update={"training_images": {}})) == ([], [])


@pytest.mark.parametrize(
    ("edit", "key"),
    [
        (lambda record: evaluated(record, dataset="highways"), "evaluations.test.dataset"),
        (lambda record: evaluated(record, split="train"), "evaluations.test.split"),
        (lambda record: evaluated(record, corruption="fog-3"), "evaluations.test.corruption"),
        (lambda record: record.model_copy(update={"evaluations": record.evaluations * 2}), "evaluations"),
        (lambda record: named(record, recipe={**record.identity.recipe, "trick": None}), None),
        (lambda record: named(record, recipe={**record.identity.recipe, "trick": 1}), "identity.recipe.trick"),
        # 1 and 1.0 and true are equal to Python, and have other hashes.
        (
            lambda record: named(
                record, recipe={**record.identity.recipe, "steps": float(record.identity.recipe["steps"])}
            ),
            "identity.recipe.steps",
        ),
        (submitted, "test"),
    ],
)
def test_what_is_other_than_the_suite_has_it_is_refused_by_key(
    record: Record, suite: ExpectedSuite, edit: Edit, key: str | None
) -> None:
    faults, _ = record_faults(edit(record), suite)
    assert [fault.split("'")[1] for fault in faults] == ([] if key is None else [key])


def test_predictions_for_a_server_are_demanded_where_it_alone_has_the_labels(
    record: Record, suite: ExpectedSuite
) -> None:
    private = demanding(suite, record, private=True)
    assert record_faults(submitted(record), private) == ([], [])
    (said,) = record_faults(record, private)[0]
    assert said.endswith("has no public labels")


def test_every_seed_of_the_suite_is_a_cell_of_its_own(record: Record, suite: ExpectedSuite) -> None:
    evaluations = suite.cells[0].evaluations
    rows = [named(record, seed=seed) for seed in range(3)]
    cells = tuple(ExpectedCell(identity=row.identity, evaluations=evaluations) for row in rows)
    seeds = suite.model_copy(update={"cells": cells})
    assert [record_faults(row, seeds) for row in rows] == [([], [])] * 3


@pytest.mark.parametrize(
    ("identity", "key"),
    [
        ({"weights": "own", "micro_batch_size": 3}, None),
        ({"precision": "bf16"}, "identity.precision"),
        ({"method_configuration": {"kind": "baseline", "trick": 1}}, "identity.method_configuration.trick"),
        ({"selection": "val-best"}, "identity.selection"),
        ({"seed": 7}, "identity.seed"),
        # A name of one's own for a detector of this repository makes none from elsewhere of it.
        ({"detector_meta": {"name": "resa_micro"}}, "identity.detector"),
    ],
)
def test_a_detector_from_elsewhere_brings_its_recipe_and_weights_and_nothing_else(
    record: Record, suite: ExpectedSuite, identity: dict[str, object], key: str | None
) -> None:
    recipe = {"epochs": 44, "batch_size": 16}
    brought = {"detector": "mine", "recipe": recipe, "detector_meta": {"name": "mine"}}
    owned = trained(named(record, **(brought | identity)), steps=220)
    wanted = suite.model_copy(update={"training_images": {"roads": 89}})
    assert [fault.split("'")[1] for fault in record_faults(owned, wanted)[0]] == ([] if key is None else [key])
    if key is None:
        damaged = evaluated(trained(owned, steps=221), split="train")
        keys = [fault.split("'")[1] for fault in record_faults(damaged, wanted)[0]]
        assert keys == ["training.steps", "evaluations.test.split"]
