"""Which scorings a cell gets, and what of them and of its oracle is part of its identity."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cell.keys import cell_phases
from harness.errors import InputError
from harness.matrix.jobs import jobs_of
from harness.matrix.plan import make_plan
from harness.suite import Cell, Suite, cells_of
from harness.suite.evaluations import splits_read

SPLITS = {"train": {"frames": 4}, "test": {"frames": 4}}
TWO = {name: {"rendered": {"seed": seed, "splits": SPLITS}} for seed, name in enumerate(("near", "far"))}


def first(suite: Suite) -> Cell:
    return cells_of(suite)[0]


def keys(suite: Suite) -> dict[str, str]:
    """Phase -> key, of the first cell."""
    return {phase.name: phase.key for phase in cell_phases(Path("results"), first(suite)).all()}


@pytest.mark.parametrize(("form", "split"), [("culane", "test"), ("tusimple", "test"), ("llamas", "val")])
def test_without_evaluations_the_split_that_the_field_scores_is_scored(
    loading: Callable[..., Suite], form: str, split: str
) -> None:
    suite = loading(
        datasets={"real": {"form": form}},
        oracles={},
        methods={"baseline": None},
        detectors={"ufldv2_resnet18": {"forms": {"llamas": {"like": "tusimple"}}}},
    )
    assert {name: part.split for name, part in first(suite).evaluations.items()} == {split: split}
    assert splits_read(suite)["real"] == {"train": "training", split: f"evaluations.{split}"}


def test_a_corruption_is_one_evaluation_a_severity(loading: Callable[..., Suite]) -> None:
    suite = loading(
        evaluations={
            "clean": None,
            "fog": {"corruption": {"name": "fog", "severities": [2, 5]}},
            "rain": {"corruption": {"name": "rain"}},
        }
    )
    assert list(first(suite).evaluations) == [
        "clean",
        "fog-2",
        "fog-5",
        *(f"rain-{severity}" for severity in range(1, 6)),
    ]
    assert first(suite).evaluations["fog-5"].corruption.severities == (5,)


def test_evaluations_are_for_the_datasets_that_they_name(loading: Callable[..., Suite]) -> None:
    suite = loading(
        datasets=TWO,
        oracles={"small": {"configuration": {"name": "random:resnet_micro"}}},
        evaluations={"all": {}, "n": {"trained_on": "ne*"}, "f": {"trained_on": ["far"]}},
    )
    found = {cell.identity.dataset: list(cell.evaluations) for cell in cells_of(suite)}
    assert found == {"near": ["all", "n"], "far": ["all", "f"]}


def test_images_of_an_evaluation_are_in_its_own_keys_and_in_no_other(loading: Callable[..., Suite]) -> None:
    def with_fog(severity: int, name: str = "fog") -> dict[str, str]:
        return keys(loading(evaluations={"test": {}, "a": {"corruption": {"name": name, "severities": severity}}}))

    plain, fog, worse, rain = keys(loading()), with_fog(1), with_fog(2), with_fog(1, "rain")
    assert all(plain[name] == fog[name] for name in ("train", "predict-test", "score-test", "time"))
    assert len({plain["predict-test"], fog["predict-a-1"], worse["predict-a-2"], rain["predict-a-1"]}) == 4


def test_another_dataset_of_an_evaluation_is_in_its_key_with_its_content_and_has_to_be_there(
    loading: Callable[..., Suite], tmp_path: Path
) -> None:
    def transferred(**datasets: Any) -> Suite:
        return loading(datasets={**TWO, **datasets}, oracles={}, methods={"baseline": None},
                       evaluations={"test": {}, "other": {"dataset": "far"}})  # fmt: skip

    suite = transferred()
    changed = transferred(far={"rendered": {"seed": 5, "splits": SPLITS}})
    assert first(suite).id == first(changed).id
    assert keys(suite)["predict-test"] == keys(changed)["predict-test"]
    assert len({keys(suite)["predict-other"], keys(changed)["predict-other"], keys(suite)["predict-test"]}) == 3
    jobs = {job.name: job for job in jobs_of(make_plan(suite, tmp_path))}
    assert set(jobs[first(suite).id].needs) == {"render near", "render far"}
    # Named for a cell that trained on it, the other dataset is the cell's own.
    assert [cell.evaluations["other"].dataset for cell in cells_of(suite) if cell.identity.seed == 0][::2] == [
        "far",
        None,
    ]


def test_an_oracle_without_a_dataset_is_made_from_the_one_that_a_cell_trains_on(loading: Callable[..., Suite]) -> None:
    configuration = {"name": "mim:resnet_micro", "steps": 2}
    own = cells_of(loading(datasets=TWO, oracles={"small": {"configuration": configuration}}))
    near = cells_of(loading(datasets=TWO, oracles={"small": {"configuration": configuration, "dataset": "near"}}))
    assert {cell.oracle.dataset for cell in own if cell.oracle and cell.identity.dataset == "far"} == {"far"}
    same = [a.id == b.id for a, b in zip(own, near, strict=True) if a.oracle is not None]
    assert same == [cell.identity.dataset == "near" for cell in own if cell.oracle is not None]


def test_what_a_control_oracle_is_a_control_of_is_in_the_identity(loading: Callable[..., Suite]) -> None:
    def shuffled(steps: int) -> dict[str, Any] | None:
        oracles = {
            "base": {"configuration": {"name": "mim:resnet_micro", "steps": steps}},
            "small": {"configuration": {"name": "shuffled:base"}},
        }
        return next(cell.identity.oracle for cell in cells_of(loading(oracles=oracles)) if cell.oracle is not None)

    def bare(name: str) -> dict[str, Any] | None:
        return cells_of(loading(oracles={"small": {"configuration": {"name": name}}}))[1].identity.oracle

    assert shuffled(2) != shuffled(3)
    assert bare("init") == {"configuration": {"name": "init"}} != bare("timm:resnet18") != bare("supervised:resnet18")


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"evaluations": {"a": {"dataset": "raods"}}}, "'evaluations.a.dataset': unknown dataset 'raods': did you mean 'roads'"),
        ({"evaluations": {"a": {"trained_on": "raods"}}}, "'evaluations.a.trained_on': unknown dataset 'raods': did you mean"),
        ({"datasets": TWO, "oracles": {}, "methods": {"baseline": None}, "evaluations": {"a": {"trained_on": "near"}}},
         "'evaluations': none is for cells trained on 'far'"),
        ({"evaluations": {"a": {"corruption": {"name": "frog"}}}}, "'evaluations.a.corruption.name'.*'fog'"),
        ({"evaluations": {"a": {"corruption": {"name": "fog", "severities": [6]}}}}, "'evaluations.a.corruption.severities.0'"),
        ({"evaluations": {"a": {"corruption": {"nam": "fog"}}}}, "unknown key 'evaluations.a.corruption.nam': did you mean 'name'"),
        ({"evaluations": {"a": {"corruption": {"name": "fog"}}, "a-1": {}}}, "'evaluations': 'a-1' is the name of two"),
        ({"evaluations": {"a": {"dataset": "roads", "split": "val"}}}, "has no 'val', which evaluations.a reads"),
        ({"training": {"selection": "val-best"}}, r"has no 'val', which training\.selection reads"),
        ({"training": {"confidence": "val-best"}}, r"has no 'val', which training\.confidence reads"),
        ({"oracles": {"small": {"configuration": {"name": "shuffled:smal"}}}}, "unknown oracle 'smal'"),
        ({"oracles": {"small": {"configuration": {"name": "shuffled:small"}}}}, "unknown oracle 'small'"),
        ({"oracles": {"small": {"configuration": {"name": "tim:a"}}}}, "'oracles.small.configuration.name'.*did you mean 'timm'"),
        ({"oracles": {"small": {"configuration": {"name": "init"}, "dataset": "roads"}}}, "'oracles.small.dataset': 'init' isn't made"),
        ({"oracles": {"small": {"configuration": {"name": "timm:a", "steps": 3}}}}, "oracles.small.configuration.steps': means"),
    ],
)  # fmt: skip
def test_a_mistake_names_its_key(loading: Callable[..., Suite], parts: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        loading(**parts)


def test_a_dataset_that_is_only_tested_on_needs_no_training_split(loading: Callable[..., Suite]) -> None:
    far = {"rendered": {"seed": 3, "splits": {"val": {"frames": 4}}}}
    parts: dict[str, Any] = {
        "datasets": {"near": TWO["near"], "far": far},
        "oracles": {},
        "methods": {"baseline": None},
        "evaluations": {"own": {"trained_on": "near"}, "other": {"dataset": "far", "split": "val"}},
    }
    with pytest.raises(InputError, match=r"datasets\.far\.rendered\.splits': has no 'train', which training reads"):
        loading(**parts)
    parts["evaluations"]["other"]["trained_on"] = "near"
    suite = loading(**parts, exclude=[{"dataset": "far"}])
    assert splits_read(suite) == {
        "near": {"train": "training", "test": "evaluations.own"},
        "far": {"val": "evaluations.other"},
    }
    assert {cell.identity.dataset for cell in cells_of(suite)} == {"near"}


def test_a_split_is_asked_for_by_the_key_that_does_so_first(loading: Callable[..., Suite]) -> None:
    suite = loading(evaluations={"first": None, "second": {"batch_size": 2}})
    assert splits_read(suite) == {"roads": {"train": "training", "test": "evaluations.first"}}
    far = {"rendered": {"seed": 3, "splits": {"test": {"frames": 4}}}}
    oracle = {"dataset": "far", "configuration": {"name": "mim:resnet_micro", "steps": 2}}
    with pytest.raises(InputError, match=r"datasets\.far\..*: has no 'train', which oracles\.small reads"):
        loading(datasets={"near": TWO["near"], "far": far}, oracles={"small": oracle}, exclude=[{"dataset": "far"}])


def test_a_dataset_that_only_a_program_is_asked_about_is_read_for_its_evaluations_alone(
    loading: Callable[..., Suite],
) -> None:
    suite = loading(
        datasets={"roads": {"rendered": {"seed": 1, "splits": {"test": {"frames": 4}}}}},
        oracles={},
        methods={"baseline": None},
        detectors={"tea.yaml": None},
        training={"selection": "val-best"},
    )
    assert splits_read(suite) == {"roads": {"test": "evaluations.test"}}
