"""What isn't what its record says is left out of the leaderboard, named, and the rest reported."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.records.counts import write_counts
from harness.records.record import counts_path
from harness.report.leaderboard import Leaderboard, leaderboard
from harness.report.tables import to_markdown
from tests.harness.report.boards import assert_left_out


def test_a_forged_counts_file_is_left_out_and_the_rest_reported(made: Any, tmp_path: Path) -> None:
    records = made.pairs(tmp_path, 1)
    write_counts(counts_path(tmp_path, records[1].id, "test"), made.split())
    board = leaderboard(records, tmp_path)
    assert_left_out(board, r"mini-ufld-samiro-s0\.test\.counts\.npz: differs from key 'counts_sha256'")
    assert [row.arm.method for row in board.sections[0].rows] == ["baseline"]
    assert [arm.method for arm in board.timings] == ["baseline"]


def test_a_score_that_is_not_what_the_counts_give_is_left_out(made: Any, tmp_path: Path) -> None:
    record = made.record(tmp_path, made.noisy(made.split(), 1))
    total = record.evaluations[0].total.model_copy(update={"f1_50": 0.99})
    evaluation = record.evaluations[0].model_copy(update={"total": total})
    board = leaderboard([record.model_copy(update={"evaluations": (evaluation,)})], tmp_path)
    assert_left_out(board, r"key 'evaluations\.test\.total\.f1_50' says 0\.99")


def test_a_scenarios_score_that_is_not_what_the_counts_give_is_left_out(made: Any, tmp_path: Path) -> None:
    record = made.record(tmp_path, made.noisy(made.split(), 1))
    (evaluation,) = record.evaluations
    night = evaluation.scenarios["night"]

    def board(**scenarios: Any) -> Leaderboard:
        changed = evaluation.model_copy(update={"scenarios": evaluation.scenarios | scenarios})
        return leaderboard([record.model_copy(update={"evaluations": (changed,)})], tmp_path)

    forged = night.model_copy(update={"f1_50": night.f1_50 + 1e-6})
    assert_left_out(board(night=forged), rf"key 'evaluations\.test\.scenarios\.night\.f1_50' says {forged.f1_50}")
    assert_left_out(board(fog=night), r"key 'evaluations\.test\.scenarios\.fog': .* has no such scenario")
    assert board(night=night.model_copy(update={"f1_50": night.f1_50 + 1e-14})).left_out == ()


def test_a_score_where_the_counts_give_none_and_none_where_they_give_one_are_left_out(
    made: Any, tmp_path: Path
) -> None:
    record = made.record(tmp_path, made.noisy(made.split(), 1))
    (evaluation,) = record.evaluations
    cross, night = evaluation.scenarios["cross"], evaluation.scenarios["night"]
    assert cross.f1_50 is None  # nothing is labelled there
    for name, forged in (
        ("cross", cross.model_copy(update={"f1_50": 0.5})),
        ("night", night.model_copy(update={"f1_50": None})),
    ):
        changed = evaluation.model_copy(update={"scenarios": evaluation.scenarios | {name: forged}})
        board = leaderboard([record.model_copy(update={"evaluations": (changed,)})], tmp_path)
        assert_left_out(board, rf"key 'evaluations\.test\.scenarios\.{name}\.f1_50' says {forged.f1_50}, but .* gives ")


def test_a_record_or_an_evaluation_that_stands_twice_is_left_out(made: Any, tmp_path: Path) -> None:
    record = made.record(tmp_path, made.noisy(made.split(), 1))
    assert_left_out(leaderboard([record, record], tmp_path), r"mini-ufld-baseline-s0\.json: given twice")
    board = leaderboard([record.model_copy(update={"evaluations": record.evaluations * 2})], tmp_path)
    assert_left_out(board, r"mini-ufld-baseline-s0\.json: key 'evaluations': 'test' stands twice")


def renamed(made: Any) -> Any:
    """A split of which one image has another name."""
    counts = made.split()
    images = counts.image.copy()
    images[0] = "/99999.jpg"
    return replace(counts, image=images)


def test_counts_with_the_recorded_hash_but_other_images_than_most_are_left_out(made: Any, tmp_path: Path) -> None:
    records = [
        *(made.record(tmp_path, made.split(), seed=seed) for seed in range(2)),
        made.record(tmp_path, renamed(made), method="samiro"),
    ]
    board = leaderboard(records, tmp_path)
    assert_left_out(board, r"samiro-s0\.json: .* of other images, clips or scenarios than those of mini-ufld-baseline")
    assert [row.seeds for row in board.sections[0].rows] == [(0, 1)]


@pytest.mark.parametrize("name", ["clip", "scenario"])
def test_counts_of_the_same_images_in_other_clips_or_scenarios_than_most_are_left_out(
    made: Any, tmp_path: Path, name: str
) -> None:
    """No score shows other clips, only every interval. That a baseline is read first gives it no more weight."""
    split = made.split()
    other = replace(split, **{name: np.roll(getattr(split, name), 1)})
    records = [
        made.record(tmp_path, other),
        *(made.record(tmp_path, split, method="samiro", seed=seed) for seed in range(2)),
    ]
    board = leaderboard(records, tmp_path)
    assert_left_out(board, r"baseline-s0\.json: .* of other images, clips or scenarios than those of mini-ufld-samiro")


def test_of_two_splits_that_differ_neither_is_known_to_be_right(made: Any, tmp_path: Path) -> None:
    first, second = made.record(tmp_path, made.split()), made.record(tmp_path, renamed(made), method="samiro")
    assert_left_out(leaderboard([first, second], tmp_path), *[r"of other images, clips or scenarios than those of"] * 2)


def test_counts_of_other_labels_are_left_out(made: Any, tmp_path: Path) -> None:
    first, second = made.record(tmp_path, made.split()), made.record(tmp_path, made.split(lanes=3), method="samiro")
    assert_left_out(leaderboard([first, second], tmp_path), *[r"of other labels than those of"] * 2)


def test_missing_counts_are_named(made: Any, tmp_path: Path) -> None:
    record = made.record(tmp_path, made.split())
    counts_path(tmp_path, record.id, "test").unlink()
    assert_left_out(leaderboard([record], tmp_path), r"test\.counts\.npz: missing")


def test_counts_without_images_are_named(made: Any, tmp_path: Path) -> None:
    nothing = made.split(images=1, clips=1)
    empty = replace(nothing, **{name: getattr(nothing, name)[:0] for name in vars(nothing)})
    assert_left_out(leaderboard([made.record(tmp_path, empty)], tmp_path), r"has no images")


def test_what_is_left_out_and_missing_stands_in_the_page_without_the_folder(made: Any, tmp_path: Path) -> None:
    record = made.record(tmp_path, made.split())
    counts_path(tmp_path, record.id, "test").write_bytes(b"")
    faults = [f"{tmp_path}/x.json: not a readable record (*)"]
    page = to_markdown(leaderboard([record], tmp_path, faults=faults, missing=["ufld: no record of seed 1 of 2"]))
    assert "## Not used" in page
    assert "- mini-ufld-baseline-s0.test.counts.npz: differs" in page
    assert "- x.json: not a readable record (\\*)" in page
    assert "- ufld: no record of seed 1 of 2" in page
    assert str(tmp_path) not in page
