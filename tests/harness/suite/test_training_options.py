"""Which options of a training make another cell of it, and which don't."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cell.train import training_plan
from harness.errors import InputError
from harness.matrix.pricing import step_key
from harness.suite import Suite, cells_of, load_suite

ROOT = Path(__file__).resolve().parents[3]


def ids(suite: Suite) -> list[str]:
    return [cell.id for cell in cells_of(suite)]


def test_cells_without_options_keep_the_ids_that_are_published() -> None:
    published = {path.stem for path in (ROOT / "results/mini/records").glob("*.json")}
    assert set(ids(load_suite("mini"))) == published


@pytest.mark.parametrize(
    "option",
    [
        {"precision": "bf16"},
        {"channels_last": True},
        {"compile": True},
        {"micro_batch_size": 1},
        {"processes": 2},
        {"selection": "val-best"},
        {"confidence": "val-best"},
    ],
)
def test_what_changes_the_arithmetic_makes_another_cell(loading: Callable[..., Suite], option: dict[str, Any]) -> None:
    splits = {"train": {"frames": 4}, "val": {"frames": 4}, "test": {"frames": 4}}
    datasets = {"roads": {"rendered": {"seed": 1, "splits": splits}}}
    plain, changed = (loading(datasets=datasets, training=part) for part in ({}, option))
    assert not set(ids(plain)) & set(ids(changed))
    keys = [step_key(cells_of(suite)[0].identity.model_dump(mode="json"), "m") for suite in (plain, changed)]
    assert (keys[0] == keys[1]) == ("val-best" in option.values())


@pytest.mark.parametrize(
    "option",
    [
        {"workers": 3},
        {"cache_gigabytes": 2},
        {"checkpoint_seconds": 5},
        {"tensorboard": True},
        {"device": "cpu"},
        {"micro_batch_size": 4096},
        {"validations": 3},
    ],
)
def test_what_does_not_leaves_the_cell_what_it_is(loading: Callable[..., Suite], option: dict[str, Any]) -> None:
    assert ids(loading(training=option)) == ids(loading())


def test_what_jobs_need_of_machines_leaves_the_cell_what_it_is(loading: Callable[..., Suite]) -> None:
    needs = {"hours": 3, "cpus": 2, "whole_node": False, "slurm": {"partition": "gpu"}}
    assert ids(loading(resources=needs)) == ids(loading())


def test_a_recipe_that_averages_weights_makes_another_cell_and_one_that_says_not_to_doesnt(
    loading: Callable[..., Suite],
) -> None:
    plain = ids(loading())
    assert not set(plain) & set(ids(loading(defaults={"recipe": {"ema_decay": 0.99}})))
    assert plain == ids(loading(defaults={"recipe": {"ema_decay": None}}))


def test_processes_that_cannot_share_a_batch_are_refused(loading: Callable[..., Suite]) -> None:
    with pytest.raises(InputError, match=r"'training\.processes': 3 can't share a batch of 16 \(ufldv2_micro\) evenly"):
        cells_of(loading(training={"processes": 3}))


def test_a_plan_is_what_the_identity_says(loading: Callable[..., Suite]) -> None:
    options = {"precision": "bf16", "channels_last": True, "compile": True, "micro_batch_size": 2, "processes": 4}
    plan = training_plan(cells_of(loading(training=options))[0], 7)
    assert (plan.precision, plan.channels_last, plan.compiled, plan.micro_batch_size) == ("bf16", True, True, 2)
    assert plan.total_steps == 7


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        ({"threads": True}, r"key 'training\.threads': .*integer \(it is True\)"),
        ({"threads": "2"}, r"key 'training\.threads': .*integer \(it is '2'\)"),
        ({"channels_last": 1}, r"key 'training\.channels_last': .*boolean \(it is 1\)"),
        ({"cache_gigabytes": "1"}, r"key 'training\.cache_gigabytes': .*number \(it is '1'\)"),
    ],
)
def test_no_option_of_a_training_is_taken_for_one_of_another_type(
    loading: Callable[..., Suite], option: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(InputError, match=complaint):
        loading(training=option)
