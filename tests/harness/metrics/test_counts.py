from __future__ import annotations

import numpy as np
import pytest

from harness.errors import InputError
from harness.metrics.counts import LADDER, Counts, Sums, columns, joined


def counts(tp, n_gt, n_pred):
    return Counts(
        tuple(map(str, range(len(tp)))),
        np.array(n_gt),
        np.array(n_pred),
        np.repeat(np.array(tp)[:, None], 10, 1),
        LADDER,
    )


def test_ratios():
    sums = Sums(tp=3, fp=1, fn=3)
    assert (sums.precision, sums.recall) == (0.75, 0.5)
    assert sums.f1 == pytest.approx(0.6)


def test_of_as_many_lanes_found_as_invented_and_missed_all_ratios_are_a_half():
    sums = Sums(tp=2, fp=2, fn=2)
    assert (sums.precision, sums.recall, sums.f1) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("sums", [Sums(0, 0, 0), Sums(0, 2, 0), Sums(0, 0, 2), Sums(0, 2, 2)])
def test_undefined_ratios_are_none(sums):
    assert sums.f1 is None
    assert (sums.precision is None) == (sums.fp == 0)
    assert (sums.recall is None) == (sums.fn == 0)


def test_an_undefined_f1_counts_as_zero_in_the_mean():
    half = counts([1], [1], [1])
    half.tp[:, 5:] = 0
    assert half.mf1 == pytest.approx(0.5)
    assert counts([0], [0], [0]).mf1 == 0.0


def test_further_thresholds_take_no_part_in_mf1():
    ten = counts([1], [1], [1])
    ten.tp[:, 5:] = 0
    eleven = Counts(ten.images, ten.n_gt, ten.n_pred, np.hstack([ten.tp, [[1]]]), columns([0.3]))
    assert eleven.mf1 == pytest.approx(0.5)


def test_joined_counts_sum_up():
    both = joined([counts([1, 0], [2, 1], [1, 3]), counts([2], [2], [2])])
    assert both.sums(0.5) == Sums(tp=3, fp=3, fn=2)
    assert both.images == ("0", "1", "0")


def test_further_thresholds_come_after_the_ladder_and_once():
    assert columns([0.75, 0.3, 0.3]) == (*LADDER, 0.3)
    assert columns([0.0, 1.0]) == (*LADDER, 0.0, 1.0)
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(InputError, match="between 0 and 1"):
            columns([wrong])
