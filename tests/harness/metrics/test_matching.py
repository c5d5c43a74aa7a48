"""The assignment against a slow, recursive statement of the same algorithm, and against the exact optimum."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from harness.metrics.matching import match_lanes


def matched_slowly(overlaps):
    """Kuhn-Munkres with a depth-first search and a slack of 0.01, in Python floats."""
    swapped = overlaps.shape[0] > overlaps.shape[1]
    weights = (overlaps.T if swapped else overlaps).tolist()
    size, others = len(weights), len(weights[0])
    potential = [max([-1e5, *(w for w in row if w == w)]) for row in weights]
    price, partner = [0.0] * others, [None] * others

    def search(i, rows, columns):
        rows.add(i)
        for j in range(others):
            if j not in columns and abs(potential[i] + price[j] - weights[i][j]) < 1e-2:
                columns.add(j)
                if partner[j] is None or search(partner[j], rows, columns):
                    partner[j] = i
                    return True
        return False

    def place(i):
        while True:
            rows, columns = set(), set()
            if search(i, rows, columns):
                return True
            gaps = [potential[r] + price[c] - weights[r][c] for r in rows for c in range(others) if c not in columns]
            gaps = [gap for gap in gaps if gap < 1e10]
            if not gaps:
                return False
            for r in rows:
                potential[r] -= min(gaps)
            for c in columns:
                price[c] += min(gaps)

    for i in range(size):
        if not place(i):
            break
    pairs = {i: j for j, i in enumerate(partner) if i is not None}
    if swapped:
        pairs = {j: i for i, j in pairs.items()}
    return [pairs.get(row, -1) for row in range(overlaps.shape[0])]


@settings(max_examples=400, deadline=None)
@given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 2**32 - 1), st.sampled_from([0.001, 0.02, 0.3, 1.0]))
def test_it_is_the_algorithm_with_slack(rows, columns, seed, scale):
    generator = np.random.default_rng(seed)
    overlaps = generator.random((rows, columns)) * scale
    overlaps[generator.random((rows, columns)) < 0.3] = 0.0
    overlaps[generator.random((rows, columns)) < 0.05] = np.nan
    assert match_lanes(overlaps).tolist() == matched_slowly(overlaps)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_the_sum_is_the_largest_to_within_the_slack(rows, columns, seed):
    overlaps = np.random.default_rng(seed).random((rows, columns))
    matched = match_lanes(overlaps)
    assert len(set(matched[matched >= 0])) == (matched >= 0).sum() == min(rows, columns)
    best = overlaps[linear_sum_assignment(-overlaps)].sum()
    assert overlaps[np.arange(rows), matched][matched >= 0].sum() >= best - 0.01 * 2 * min(rows, columns)


@pytest.mark.parametrize(("first", "kept"), [([0.4997, 0.5083], 0), ([0.5083, 0.4997], 0)])
def test_of_two_almost_equal_predictions_the_first_is_kept(first, kept):
    assert match_lanes(np.array([first])).tolist() == [kept]


def test_a_row_without_a_number_ends_the_matching():
    overlaps = np.array([[0.9, 0.1], [np.nan, np.nan], [0.1, 0.8]]).T[:, :]
    assert match_lanes(np.array([[np.nan, np.nan], [0.1, 0.8]])).tolist() == [-1, -1]
    assert match_lanes(overlaps).tolist() == matched_slowly(overlaps)


def test_thousands_of_edges_need_no_recursion():
    matched = match_lanes(np.full((1, 3000), 0.5))
    assert matched.tolist() == [0]
    assert sorted(match_lanes(np.full((150, 150), 0.5)).tolist()) == list(range(150))
