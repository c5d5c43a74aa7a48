"""A record whose training or thresholds aren't those of its identity differs, though its scores follow from its predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.files.stored import sha256_of_json
from harness.publishing.agreement import disagreements
from harness.publishing.examine import examine
from harness.publishing.expected import ExpectedSuite, record_faults
from harness.publishing.verify import verify
from harness.records.record import Artefact, Record, Submission, read_record, read_records
from tests.harness.publishing.forging import BOUNDS, MINI, RECORD, changed, evaluated, submission, trained
from tests.harness.publishing.forging import identified as identity_changed

PUBLISHED = sorted(path.parent for path in MINI.parent.glob("*/records"))

pytestmark = pytest.mark.usefixtures("labelled_once")


def identified(record: Record, **update: Any) -> Record:
    return identity_changed(**update)(record)


def by_recipe(record: Record, **update: Any) -> Record:
    return identified(record, recipe={**record.identity.recipe, **update})


NO_LENGTH = "key 'identity.recipe' has neither steps nor epochs, so that nothing says how long a training is"


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda folder: folder.name)
def test_every_record_published_here_agrees_with_its_identity(folder: Path) -> None:
    assert [list(disagreements(record)) for record in read_records(folder / "records")] == [
        [] for _ in (folder / "records").glob("*.json")
    ]


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda record: trained(record, steps=440, images=7040), ["key 'training.steps' is 440, key 'identity' gives 220"]),
        (lambda record: trained(record, images=7040), ["key 'training.images' isn't its steps times its batch size"]),
        (
            lambda record: trained(record, batch_size=32, images=7040, micro_batch_size=32),
            ["key 'training.batch_size' is 32, key 'identity' gives 16"],
        ),
        (lambda record: trained(record, micro_batch_size=8), ["key 'training.micro_batch_size' is 8, key 'identity' gives 16"]),
        (lambda record: trained(identified(record, micro_batch_size=8), micro_batch_size=8), []),
        (lambda record: trained(identified(record, processes=2), micro_batch_size=8), []),
        (lambda record: by_recipe(record, steps=None, epochs=22), []),
        (
            lambda record: by_recipe(record, steps=None, epochs=23),
            ["key 'training.steps' is 220, no multiple of the 23 epochs of key 'identity.recipe'"],
        ),
        (
            lambda record: record.model_copy(update={"training": None}),
            ["key 'training' is null, but key 'identity.recipe' says how it was trained"],
        ),
        (lambda record: by_recipe(record, steps=None, epochs=0), [NO_LENGTH]),
        (lambda record: by_recipe(record, steps=None, epochs="22"), [NO_LENGTH]),
        (
            lambda record: trained(identified(record, validations=3), best_step=74),
            ["key 'training.best_step' is 74 of 220 steps, key 'identity.validations' is 3"],
        ),
        (
            lambda record: record.model_copy(update={"checkpoint_sha256": "c" * 40}),
            [f"key 'checkpoint_sha256' is '{'c' * 40}', no sha256"],
        ),
        (
            lambda record: record.model_copy(update={"checkpoint_sha256": "x" * 64}),
            [f"key 'checkpoint_sha256' is '{'x' * 56}..., no sha256"],
        ),
        (
            lambda record: record.model_copy(update={"selected_on": "test"}),
            ["key 'selected_on' is 'test', keys 'selection' and 'confidence' of the identity give None"],
        ),
        (
            lambda record: evaluated(record, confidence_threshold=0.55),
            ["key 'test.confidence_threshold' is 0.55, key 'identity' gives 0.5"],
        ),
    ],
)  # fmt: skip
def test_what_contradicts_the_identity_is_named_by_key(record: Record, edit: Any, said: list[str]) -> None:
    assert list(disagreements(edit(record))) == said


ORACLE = Artefact(kind="oracle", name="small", key="e" * 64, sha256="f" * 64)
UNKNOWN = "on which split its checkpoint was chosen is not known"


@pytest.mark.parametrize(
    ("described", "identity", "shown", "keys"),
    [
        ({}, {}, {}, []),
        ({}, {"selection": "val-best"}, {}, ["identity.selection"]),
        ({}, {"confidence": "val-best"}, {}, ["identity.confidence"]),
        ({}, {"method_configuration": {"kind": "samiro"}}, {}, ["identity.method_configuration.kind"]),
        ({}, {"method_configuration": {}}, {}, ["identity.method_configuration.kind"]),
        ({}, {"oracle": {"configuration": {}}}, {}, ["identity.oracle"]),
        ({}, {}, {"throughput": ("measured here",)}, ["throughput"]),
        ({}, {}, {"step_cost": "measured here"}, ["step_cost"]),
        ({}, {}, {"inference_cost": ("measured here",)}, ["inference_cost"]),
        ({}, {}, {"artefacts": (ORACLE,)}, ["artefacts.oracle"]),
        ({}, {}, {"selected_on": None}, ["selected_on"]),
        ({"selected_on": "test"}, {}, {"selected_on": "test"}, []),
        ({"selected_on": "last"}, {}, {"selected_on": None}, []),
        ({"selected_on": "unknown"}, {}, {"selected_on": None, "flags": ("another",)}, ["flags"]),
        ({"selected_on": "unknown"}, {}, {"selected_on": None, "flags": (UNKNOWN,)}, []),
        ({"trained_on": "all of it"}, {}, {}, ["flags"]),
        ({"trained_on": "all of it"}, {}, {"flags": ("trained on all of it",)}, []),
        ({}, {}, {"checkpoint_sha256": "d" * 64}, ["checkpoint_sha256"]),
        ({"confidence_threshold": 0.4}, {}, {}, ["test.confidence_threshold"]),
        ({"confidence_threshold": None}, {}, {}, ["identity.recipe"]),
        ({}, {"detector_meta": {"program": "mine"}}, {}, ["identity.recipe"]),
        ({}, {"detector_meta": {}}, {}, ["identity.recipe"]),
    ],
)
def test_a_program_is_what_its_identity_describes(
    record: Record, described: dict[str, Any], identity: dict[str, Any], shown: dict[str, Any], keys: list[str]
) -> None:
    program = {
        "checkpoint": "c" * 64,
        "confidence_threshold": 0.5,
        "selected_on": "val",
        "command": ["see"],
    } | described
    made = identified(record, **{"recipe": {}, "detector_meta": {"program": program}} | identity)
    own = {"training": None, "throughput": (), "selected_on": "val", "checkpoint_sha256": "c" * 64}
    made = made.model_copy(update=own | shown)
    assert [line.split("'")[1] for line in disagreements(made)] == keys
    trained_here = list(disagreements(made.model_copy(update={"training": record.training})))
    assert [line.split("'")[1] for line in trained_here] == ["training", *keys]


def test_a_threshold_of_the_validation_split_may_be_any_but_is_one_for_all_evaluations(record: Record) -> None:
    chosen = identified(record, confidence="val-best").model_copy(update={"selected_on": "val"})
    own = evaluated(chosen, confidence_threshold=0.55).evaluations[0]
    foggy = own.model_copy(update={"name": "fog"})
    assert list(disagreements(chosen.model_copy(update={"evaluations": (own, foggy)}))) == []
    foggy = foggy.model_copy(update={"confidence_threshold": 0.6})
    (said,) = disagreements(chosen.model_copy(update={"evaluations": (own, foggy)}))
    assert said == "key 'fog.confidence_threshold' is 0.6, key 'identity' gives 0.55"
    kept = foggy.model_dump(include=set(Submission.model_fields)) | {"why": "labels private"}
    private = {"evaluations": (own,), "submissions": (Submission.model_validate(kept),)}
    assert list(disagreements(chosen.model_copy(update=private))) == [said]


@pytest.mark.parametrize(
    ("validations", "best", "agrees"),
    [
        (3, 74, True), (3, 148, True), (3, 220, True), (3, 75, False), (3, 222, False), (3, 0, False), (3, None, False),
        (500, 7, True), (None, None, True), (None, 220, False), (-1, None, True),
    ],
)  # fmt: skip
def test_a_chosen_step_is_one_of_the_evenly_spread_that_were_validated(
    record: Record, validations: int | None, best: int | None, agrees: bool
) -> None:
    """Of 220 steps three validations lie at 74, 148 and 220."""
    chosen = trained(identified(record, selection="val-best", validations=validations), best_step=best)
    said = list(disagreements(chosen.model_copy(update={"selected_on": "val"})))
    assert [line.partition(" is ")[0] for line in said] == ([] if agrees else ["key 'training.best_step'"])


def test_numbers_of_no_training_are_named_and_not_computed_with(record: Record) -> None:
    huge = 10**4000
    odd = identified(trained(record, steps=huge, batch_size=huge), processes=0, selection="val-best", validations=-7)
    said = list(disagreements(by_recipe(odd, steps=-huge)))
    assert "key 'training.images' isn't its steps times its batch size" in said
    assert max(map(len, said)) < 300


def test_a_threshold_tuned_on_the_scored_images_differs_and_is_refused(tmp_path: Path, suite: ExpectedSuite) -> None:
    folder = submission(tmp_path / "mini/alice", RECORD)
    changed(folder, lambda record: evaluated(record, confidence_threshold=0.55))
    (row,) = verify(folder).rows
    assert (row.outcome, row.told) == (
        "differs",
        ("key 'test.confidence_threshold' is 0.55, key 'identity' gives 0.5",),
    )
    (reason,) = examine(folder, "alice", suite, BOUNDS).reasons
    assert reason.endswith(row.told[0])


def oracle_changed(record: Record, facts: dict[str, Any] | None = None, **update: Any) -> Record:
    """The record with another oracle among its artefacts."""
    made = [
        one.model_copy(update={"facts": one.facts | (facts or {}), **update}) if one.kind == "oracle" else one
        for one in record.artefacts
    ]
    return record.model_copy(update={"artefacts": tuple(made)})


def without_oracle(record: Record) -> Record:
    return record.model_copy(update={"artefacts": tuple(one for one in record.artefacts if one.kind != "oracle")})


def longer(record: Record) -> Record:
    (oracle,) = (one for one in record.artefacts if one.kind == "oracle")
    return oracle_changed(record, {"configuration": oracle.facts["configuration"] | {"steps": 100_000}})


NAMED = "key 'artefacts.oracle."


@pytest.mark.parametrize(
    ("rows", "edit", "said"),
    [
        ("mini/records/*-resa_micro-samiro-*", without_oracle, "key 'artefacts' has 0 oracles, but key 'identity.oracle' is one"),
        ("mini/records/*-resa_micro-samiro-*", longer, f"{NAMED}facts.configuration.steps' is 100000, key 'identity' gives 200"),
        (
            "mini/records/*-resa_micro-samiro-*",
            lambda record: oracle_changed(record, {"steps": 100_000}),
            f"{NAMED}facts.steps' is 100000, key 'identity' gives 200",
        ),
        ("mini/records/*-resa_micro-samiro-*", lambda record: oracle_changed(record, name="big"), f"{NAMED}name' is 'big', key"),
        ("mini/records/*-resa_micro-samiro-*", lambda record: oracle_changed(record, key="f" * 64), f"{NAMED}key' is 'ffff"),
        (
            "mini/records/*-resa_micro-samiro-*",
            lambda record: identified(record, oracle={"shuffled": "mine"}),
            "key 'identity.oracle' is {'shuffled': 'mine'}, which tells of none",
        ),
        ("ablation/records/*-samiro_shuffled-*", lambda record: oracle_changed(record, key="f" * 64), f"{NAMED}key' is 'ffff"),
        (
            "ablation/records/*-samiro_random-*",
            lambda record: oracle_changed(record, {"steps": 5_000}),
            f"{NAMED}facts.steps' is 5000, key 'identity' gives 0",
        ),
        (
            "ablation/records/*-samiro_random-*",
            lambda record: oracle_changed(record, {"seed": 7}),
            f"{NAMED}facts.seed' is 7, key 'identity' gives 0",
        ),
        ("ablation/records/*-samiro_init-*", lambda record: oracle_changed(record, key="f" * 64), f"{NAMED}key' is 'ffff"),
        (
            "ablation/records/*-samiro_init-*",
            lambda record: oracle_changed(record, {"seed": 7}),
            f"{NAMED}facts.seed' is 7, key 'identity' gives 0",
        ),
        (
            "mini/records/*-resa_micro-baseline-*",
            lambda record: record.model_copy(update={"artefacts": (*record.artefacts, ORACLE)}),
            "key 'artefacts' has an oracle, but key 'identity.oracle' is null",
        ),
    ],
)  # fmt: skip
def test_an_oracle_that_is_not_the_identitys_is_named_by_key(rows: str, edit: Any, said: str) -> None:
    path = sorted(MINI.parent.glob(f"{rows}.json"))[0]
    (told,) = disagreements(edit(read_record(path)))
    assert told.startswith(said)


def test_an_oracle_of_published_weights_is_held_to_its_name_and_its_hash(record: Record) -> None:
    asked = {"configuration": {"name": "timm:resnet18"}, "weights": "resnet18.a1_in1k"}
    key = sha256_of_json({"name": "timm:resnet18", "weights": "f" * 64})
    facts = {"weights": "resnet18.a1_in1k"}
    oracle = Artefact(kind="oracle", name="timm:resnet18", key=key, sha256="f" * 64, facts=facts)
    made = identified(record, oracle=asked).model_copy(update={"artefacts": (oracle,)})
    assert list(disagreements(made)) == []
    (other,) = disagreements(oracle_changed(made, {"weights": "another"}))
    assert other == f"{NAMED}facts.weights' is 'another', key 'identity' gives 'resnet18.a1_in1k'"
    (swapped,) = disagreements(oracle_changed(made, sha256="e" * 64))
    assert swapped.startswith(f"{NAMED}key' is ")


@pytest.mark.parametrize(("images", "faults"), [(342, 0), (360, 0), (361, 1), (0, 1), ("many", 1)])
def test_an_oracle_of_more_images_than_the_suite_trains_on_is_refused(
    suite: ExpectedSuite, images: Any, faults: int
) -> None:
    record = read_record(sorted(MINI.glob("records/*-resa_micro-samiro-*.json"))[0])
    told, _ = record_faults(oracle_changed(record, {"data": {"images": images, "held_out": 18}}), suite)
    assert len(told) == faults
    assert all(f"key 'artefacts.oracle.facts.data.images' is {images!r}, this" in one for one in told)
