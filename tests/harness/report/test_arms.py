"""Which records make a row, which rows a pair."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.records.record import Artefact, Record
from harness.report.arms import arms_of, why_not_paired, why_not_ranked


def test_seeds_of_one_detector_and_method_are_one_arm_in_seed_order(made: Any, tmp_path: Path) -> None:
    records = made.pairs(tmp_path, 3)
    arms, _ = arms_of(records[::-1])
    assert [(arm.method, [record.identity.seed for record in arm.records]) for arm in arms] == [
        ("baseline", [0, 1, 2]),
        ("samiro", [0, 1, 2]),
    ]
    assert [arm.is_baseline for arm in arms] == [True, False]
    assert arms[0].pairs_with == arms[1].pairs_with


def test_a_baseline_by_another_name_is_still_one(made: Any, tmp_path: Path) -> None:
    changes = {"method_configuration": {"kind": "baseline"}}
    ((arm,), _) = arms_of([made.record(tmp_path, made.split(), method="plain", identity_changes=changes)])
    assert arm.is_baseline


def test_a_method_pairs_with_its_baseline_whatever_its_options_and_oracle(made: Any, tmp_path: Path) -> None:
    base = made.record(tmp_path, made.split())
    changes = {"method_configuration": {"kind": "samiro", "weight": 0.1}, "oracle": {"name": "mim"}}
    (one, two), _ = arms_of([base, made.record(tmp_path, made.split(), method="samiro", identity_changes=changes)])
    assert one.pairs_with == two.pairs_with


def test_arms_of_the_same_names_are_told_apart_by_what_differs(made: Any, tmp_path: Path) -> None:
    records = [
        made.record(
            tmp_path,
            made.split(),
            method="samiro",
            name=f"weight{weight}",
            identity_changes={"method_configuration": {"kind": "samiro", "weight": weight, "taps": "all"}},
        )
        for weight in (0.1, 1.0)
    ]
    assert [arm.variant for arm in arms_of(records)[0]] == ["weight=0.1", "weight=1.0"]


@pytest.mark.parametrize(
    "changes",
    [
        {"recipe": {"optimizer": "sgd"}},
        {"detector_meta": {"name": "another"}},
        {"dataset_key": {"rendered": "e" * 64}},
        {"weights": "file:another"},
        {"precision": "bf16"},
        {"selection": "val-best"},
        {"confidence": "val-best"},
        {"processes": 2},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_differs_beside_the_method_makes_another_row_that_pairs_with_nothing_of_the_first(
    made: Any, tmp_path: Path, changes: dict[str, Any]
) -> None:
    base = made.record(tmp_path, made.split())
    other = made.record(tmp_path, made.split(), method="samiro", identity_changes=changes)
    (one, two), _ = arms_of([base, other])
    assert one.pairs_with != two.pairs_with


def test_a_seed_or_an_id_given_twice_is_left_out_by_name(made: Any, tmp_path: Path) -> None:
    first, second, third = (made.record(tmp_path, made.split(), name=name) for name in ("a", "b", "c"))
    other = made.record(tmp_path, made.split(), name="d", seed=1)
    arms, faults = arms_of([first, second, third, other])
    assert [arm.records for arm in arms] == [(other,)]
    assert [line.split("; ")[0] for line in faults] == [
        "a.json: key 'identity.seed': seed 0 of this row is also b.json",
        "b.json: key 'identity.seed': seed 0 of this row is also c.json",
        "c.json: key 'identity.seed': seed 0 of this row is also a.json",
    ]
    assert arms_of([first, first]) == ([], ["a.json: given twice; leave one of the two out"])


def test_pairs_need_equal_threads_and_micro_batches(made: Any, tmp_path: Path) -> None:
    base = made.record(tmp_path, made.split())
    assert why_not_paired(made.record(tmp_path, made.split(), method="samiro"), base) is None
    threads = made.record(tmp_path, made.split(), method="samiro", identity_changes={"threads": 4})
    assert why_not_paired(threads, base) == "threads differ: 4 and 2"
    small = made.record(tmp_path, made.split(), method="samiro", training=made.training(micro_batch_size=8))
    assert why_not_paired(small, base) == "micro-batches differ: 8 and 16"


def test_pairs_need_equal_batches_and_two_trainings_of_ours(made: Any, tmp_path: Path) -> None:
    base = made.record(tmp_path, made.split())
    large = made.record(tmp_path, made.split(), method="samiro", training=made.training(batch_size=32))
    assert why_not_paired(large, base) == "batches differ: 32 and 16"
    foreign = made.record(tmp_path, made.split(), method="samiro", training=None)
    assert why_not_paired(foreign, base) == "one of them was trained elsewhere"
    assert why_not_paired(base, foreign) == "one of them was trained elsewhere"


def test_seeds_of_other_threads_and_micro_batches_are_still_one_row(made: Any, tmp_path: Path) -> None:
    differing: list[dict[str, int]] = [{}, {"threads": 4}, {"micro_batch_size": 8}]
    records = [
        made.record(tmp_path, made.split(), seed=seed, identity_changes=changes)
        for seed, changes in enumerate(differing)
    ]
    ((arm,), _) = arms_of(records)
    assert arm.records == tuple(records)


CHECKPOINT, THRESHOLD = (
    "checkpoint selected on the scored split 'val'",
    "confidence threshold selected on the scored split 'val'",
)


@pytest.mark.parametrize(
    ("selection", "confidence", "evaluated", "reasons"),
    [
        ("val-best", "published", {"split": "val"}, [CHECKPOINT]),
        ("last", "published", {"split": "val"}, [CHECKPOINT]),
        ("last", "val-best", {"split": "val"}, [THRESHOLD]),
        ("val-best", "val-best", {"split": "val"}, [THRESHOLD, CHECKPOINT]),
        ("val-best", "val-best", {"split": "test"}, []),
        ("val-best", "val-best", {"split": "val", "dataset": "elsewhere"}, []),
    ],
)
def test_what_was_selected_on_the_scored_split_is_told_of_the_own_dataset_alone(
    made: Any, tmp_path: Path, selection: str, confidence: str, evaluated: dict[str, str], reasons: list[str]
) -> None:
    record = made.record(
        tmp_path,
        made.split(),
        selected_on="val",
        identity_changes={"selection": selection, "confidence": confidence},
        evaluation_changes=evaluated,
    )
    assert why_not_ranked(record, record.evaluations[0]) == reasons


def test_pairs_need_one_start_of_the_backbone(made: Any, tmp_path: Path) -> None:
    def started(method: str, digest: str) -> Record:
        roads = Artefact(kind="rendered", name="roads", key="d" * 64, sha256="d" * 64)
        weights = Artefact(kind="backbone weights", name="resnet18.tv_in1k", key="resnet18", sha256=digest)
        return made.record(tmp_path, made.split(), method=method, artefacts=(roads, weights))

    base = started("baseline", "a" * 64)
    assert why_not_paired(started("samiro", "a" * 64), base) is None
    assert why_not_paired(started("samiro", "b" * 64), base) == f"backbone weights differ: {'b' * 12} and {'a' * 12}"
    assert why_not_paired(made.record(tmp_path, made.split()), base) == f"backbone weights differ: None and {'a' * 12}"
