"""The counts of every image come back as they were written, and only such as a scoring gives."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import InputError
from harness.files.stored import sha256_of_file
from harness.metrics.tusimple import rates as official_rates
from harness.records.counts import (
    AccuracyCounts,
    AccuracyScores,
    Counts,
    OverlapCounts,
    clrnet_f1,
    f1_score,
    read_counts,
    scope_scores,
    write_counts,
)
from harness.records.record import counts_path, read_checked_counts
from tests.harness.example_records import counts, rates, record

ARRAYS = [field.name for field in fields(OverlapCounts)]


def test_counts_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = counts_path(tmp_path, "x", "test")
    write_counts(path, counts())
    read = read_counts(path)
    for name in ARRAYS:
        assert np.array_equal(getattr(read, name), getattr(counts(), name))
        assert getattr(read, name).dtype == getattr(counts(), name).dtype


@pytest.mark.parametrize(
    "broken",
    [
        replace(counts(), clip=np.array(["a"])),
        replace(counts(), labels=np.array([1, 2], dtype=np.int32)),
        replace(counts(), predictions=np.zeros((3, 2), dtype=np.int32)),
        replace(counts(), true_positives=np.zeros((3, 9), dtype=np.int32)),
    ],
)
def test_counts_whose_arrays_disagree_are_refused_by_file(tmp_path: Path, broken: Counts) -> None:
    path = tmp_path / "x.npz"
    write_counts(path, broken)
    with pytest.raises(InputError, match=r"x\.npz: its arrays disagree"):
        read_counts(path)


@pytest.mark.parametrize("keep", [0, 10, 200, -1])
def test_truncated_counts_are_refused_by_file(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "x.npz"
    write_counts(path, counts())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"x\.npz: not a readable counts file"):
        read_counts(path)


def test_counts_without_one_array_or_with_pickled_objects_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, image=counts().image)
    with pytest.raises(InputError, match=r"x\.npz: not a readable counts file .*clip"):
        read_counts(path)
    arrays = {name: getattr(counts(), name) for name in ARRAYS}
    np.savez_compressed(path, **(arrays | {"image": np.array([{}, {}, {}], dtype=object)}))
    with pytest.raises(InputError, match=r"x\.npz: not a readable counts file"):
        read_counts(path)


def test_counts_are_read_only_with_the_recorded_hash(tmp_path: Path) -> None:
    made = record()
    evaluation = made.evaluations[0]
    path = tmp_path / evaluation.counts_file
    with pytest.raises(
        InputError, match=r"npz: missing, though mini-net-baseline-s0\.json names it under 'counts_file'"
    ):
        read_checked_counts(tmp_path, made, evaluation)
    write_counts(path, counts())
    with pytest.raises(InputError, match=r"npz: differs from key 'counts_sha256' of mini-net-baseline-s0\.json"):
        read_checked_counts(tmp_path, made, evaluation)
    right = evaluation.model_copy(update={"counts_sha256": sha256_of_file(path)})
    assert np.array_equal(read_checked_counts(tmp_path, made, right).labels, counts().labels)


def test_scores_of_three_images_by_hand() -> None:
    total = scope_scores(counts())
    assert (total.images, total.labels, total.predictions) == (3, 6, 7)
    assert total.true_positives == (4, 4, 4, 4, 4, 3, 3, 3, 3, 3)
    assert total.f1_50 == pytest.approx(2 * 4 / 13)
    assert total.f1_75 == pytest.approx(2 * 3 / 13)
    assert total.mf1 == pytest.approx((5 * 8 / 13 + 5 * 6 / 13) / 10)


def test_a_scope_without_labels_has_no_f1() -> None:
    crossroads = scope_scores(counts(), counts().scenario == "cross")
    assert (crossroads.labels, crossroads.predictions, crossroads.f1_50, crossroads.f1_75) == (0, 1, None, None)
    assert crossroads.mf1 == 0.0


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))
def test_f1_is_the_harmonic_mean_of_precision_and_recall(found: int, missed: int, invented: int) -> None:
    labels, predictions = found + missed, found + invented
    f1 = f1_score(found, labels, predictions)
    if labels == 0:
        assert f1 is None
    elif found == 0:
        assert f1 == 0.0
    else:
        precision, recall = found / predictions, found / labels
        assert f1 == pytest.approx(2 * precision * recall / (precision + recall))


def test_tusimples_counts_come_back_as_they_were_written(tmp_path: Path) -> None:
    write_counts(tmp_path / "x.npz", rates())
    read = read_counts(tmp_path / "x.npz")
    assert isinstance(read, AccuracyCounts)
    for field in fields(read):
        assert np.array_equal(getattr(read, field.name), getattr(rates(), field.name))


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (replace(rates(), fp=np.array([0.0, np.nan, 0.0])), "'fp' holds something else"),
        (replace(rates(), fn=np.zeros(2)), "disagree in length"),
        (replace(rates(), matched=np.zeros(3)), "'matched' holds something else"),
        (replace(counts(), clip=np.zeros(3)), "'clip' holds something else"),
    ],
)
def test_counts_of_other_types_are_refused_by_file(tmp_path: Path, broken: Any, said: str) -> None:
    write_counts(tmp_path / "x.npz", broken)
    with pytest.raises(InputError, match=rf"x\.npz: .*{said}"):
        read_counts(tmp_path / "x.npz")


def test_scores_of_three_tusimple_images_by_hand() -> None:
    total = scope_scores(rates())
    assert isinstance(total, AccuracyScores)
    assert (total.images, total.labels, total.predictions, total.matched) == (3, 11, 9, 9)
    assert total.accuracy == pytest.approx(2.85 / 3)
    assert (total.fp, total.fn) == (pytest.approx(-0.25), pytest.approx(0.25 / 3))
    assert total.f1_matched == pytest.approx(18 / 20)
    # a = 1.25: 2 a / (a + FN + 1)
    assert total.f1_clrnet == pytest.approx(2.5 / (1.25 + 0.25 / 3 + 1))
    assert total.images_with_negative_fp == 1
    assert clrnet_f1(1.0, 1.0) is None
    assert clrnet_f1(1.0, 0.0) is None


def test_rates_are_added_one_after_another_whatever_pythons_sum_does() -> None:
    """To the last digit, as `verify` compares it: Python 3.12 made `sum` of floats more exact than the official script is."""
    rng = np.random.default_rng(0)
    names = np.array([f"{number}.jpg" for number in range(2782)])
    four, rate = np.full(len(names), 4, np.int32), rng.integers(0, 49, len(names)) / 48
    added = 0.0
    for one in rate.tolist():
        added += one
    assert added not in (math.fsum(rate), float(rate.sum())), "no case that could tell them apart"
    total = scope_scores(AccuracyCounts(names, names, names, four, four, four, rate, rate, rate))
    assert isinstance(total, AccuracyScores)
    assert total.accuracy == total.fp == total.fn == added / len(names)


def test_an_images_quality_is_its_f1_at_the_lowest_overlap_and_1_where_nothing_is_to_be_found_and_nothing_was() -> None:
    nothing = replace(counts(), predictions=np.array([3, 0, 3], dtype=np.int32))
    assert counts().quality().tolist() == [6 / 7, 0.0, 2 / 5]
    assert nothing.quality().tolist() == [6 / 7, 1.0, 2 / 5]


def broken_at(counts: Counts, name: str, value: Any) -> Counts:
    """Counts whose last image has another value."""
    array = getattr(counts, name).copy()
    array[-1] = value
    return replace(counts, **{name: array})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("labels", -2), ("labels", 0), ("predictions", -1), ("predictions", 0), ("true_positives", -1), ("true_positives", 3),
        ("true_positives", [3] + [1] * 9), ("true_positives", [1] * 9 + [-1]), ("labels", -(2**31)), ("predictions", 2**31 - 1),
    ],
)  # fmt: skip
def test_counts_of_lanes_that_no_scoring_gives_are_refused_with_the_image(
    tmp_path: Path, name: str, value: Any
) -> None:
    path = tmp_path / "x.counts.npz"
    write_counts(path, broken_at(counts(), name, value))
    if value == 2**31 - 1:
        assert read_counts(path).predictions[-1] == value
        return
    with pytest.raises(InputError, match=r"counts of '/2.jpg' that no scoring gives \(1 images\)"):
        read_counts(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("labels", -1), ("predictions", -1), ("matched", -1), ("matched", 99), ("accuracy", -0.1), ("accuracy", 1.1),
        ("fn", -0.1), ("fn", 1.1), ("fp", 1.1), ("fp", -9.0), ("matched", 3), ("fp", -1.01),
    ],
)  # fmt: skip
def test_rates_that_no_scoring_gives_are_refused(tmp_path: Path, name: str, value: float) -> None:
    path = tmp_path / "x.counts.npz"
    write_counts(path, rates())
    read_counts(path)
    write_counts(path, broken_at(rates(), name, value))
    with pytest.raises(InputError, match="that no scoring gives"):
        read_counts(path)


@pytest.mark.parametrize(
    ("labels", "accuracy", "sound"), [(6, 1.25, True), (6, 1.3, False), (5, 1.25, False), (2, 1.0, True)]
)
def test_the_official_accuracy_passes_1_only_beyond_five_labels(
    tmp_path: Path, labels: int, accuracy: float, sound: bool
) -> None:
    """`harness.metrics.tusimple.rates` of as many lanes, all of them found."""
    if sound:
        assert official_rates([1.0] * labels, labels, labels, 0)[0] == accuracy
    path = tmp_path / "x.counts.npz"
    changed = broken_at(broken_at(broken_at(rates(), "labels", labels), "matched", 0), "fn", 0.5)
    write_counts(path, broken_at(changed, "accuracy", accuracy))
    if sound:
        assert read_counts(path).quality()[-1] == accuracy
    else:
        with pytest.raises(InputError, match="that no scoring gives"):
            read_counts(path)


def test_counts_too_wide_to_be_summed_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.counts.npz"
    write_counts(path, replace(counts(), labels=np.array([2**62] * 3, dtype=np.int64)))
    with pytest.raises(InputError, match="'labels' holds something else"):
        read_counts(path)
