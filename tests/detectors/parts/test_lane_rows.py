from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import CubicSpline

from detectors.parts.dynamic_assignment import LENGTH, PRESENT, START_X, START_Y, THETA, XS
from detectors.parts.lane_rows import ABSENT, LaneRows, clipped

NETWORK = (320, 800)
ROWS = LaneRows(NETWORK, 72)
HEIGHTS = np.linspace(320.0, 0.0, 72)


def straight(foot: float, slope: float, top: float = 40.0, bottom: float = 320.0) -> np.ndarray:
    """A line with x = foot at the bottom that moves `slope` pixels to the right for each pixel up, of a point every 10 pixels."""
    y = np.append(np.arange(bottom, top, -10.0), top)
    return np.stack([foot + slope * (320 - y), y], axis=1)


@pytest.mark.parametrize(("foot", "slope"), [(100.0, 1.0), (700.0, -0.5), (400.0, 0.0)])
def test_a_straight_lane_is_on_each_row_where_its_line_is(foot: float, slope: float) -> None:
    (lane,) = ROWS.encode([straight(foot, slope)], 1)
    on = HEIGHTS >= 40
    np.testing.assert_allclose(lane[XS][on], (foot + slope * (320 - HEIGHTS))[on], atol=1e-3)
    assert (lane[XS][~on] == ABSENT).all()
    assert (lane[0], lane[PRESENT], lane[START_Y], lane[LENGTH]) == (0, 1, 0, on.sum())
    assert lane[START_X] == pytest.approx(foot)
    # From level to the right, counter-clockwise, in half-turns.
    assert lane[THETA] == pytest.approx(math.atan2(1, slope) / math.pi, abs=1e-6)


def test_a_bent_lane_is_on_each_row_where_the_cubic_spline_through_its_points_is() -> None:
    y = np.array([310.0, 250.0, 190.0, 110.0, 50.0])
    x = np.array([300.0, 340.0, 420.0, 430.0, 380.0])
    (lane,) = ROWS.encode([np.stack([x, y], axis=1)], 1)
    on = (HEIGHTS <= 310) & (HEIGHTS >= 50)
    expected = CubicSpline(y[::-1], x[::-1], bc_type="not-a-knot")(HEIGHTS[on])
    np.testing.assert_allclose(lane[XS][on], expected, rtol=1e-6)
    # Below its points it goes on along the line through the two lowest.
    below = HEIGHTS > 310
    np.testing.assert_allclose(lane[XS][below], 300 - (HEIGHTS[below] - 310) * 40 / 60, rtol=1e-6)


def test_a_lane_that_is_prolonged_out_of_the_image_starts_where_it_is_in_it() -> None:
    (lane,) = ROWS.encode([straight(-100, 1.0, bottom=200)], 1)
    first = np.flatnonzero((HEIGHTS <= 220) & (HEIGHTS >= 40))[0]
    assert lane[START_Y] * 71 == pytest.approx(first)
    assert lane[START_X] == pytest.approx(-100 + 320 - HEIGHTS[first], abs=1e-3)
    assert lane[LENGTH] == ((HEIGHTS <= 220) & (HEIGHTS >= 40)).sum()
    np.testing.assert_allclose(lane[XS][:first], -100 + 320 - HEIGHTS[:first], atol=1e-2)


def test_a_lane_that_comes_back_into_the_image_is_two_lanes() -> None:
    lane = np.array([[700.0, 300.0], [900.0, 200.0], [700.0, 100.0]])
    targets = ROWS.encode([lane], 4)
    assert targets[:, PRESENT].tolist() == [1, 1, 0, 0]
    assert (targets[2:, XS] == ABSENT).all()
    assert targets[2:, 0].tolist() == [1, 1]


def test_of_too_many_lanes_the_longest_are_kept_in_their_order() -> None:
    lanes = [straight(foot, 0.1, top=top) for foot, top in ((100, 200), (200, 50), (300, 250), (400, 60))]
    targets = ROWS.encode(lanes, 2)
    assert targets[:, START_X].tolist() == pytest.approx([200, 400])


@pytest.mark.parametrize(
    "points",
    [
        [],
        [[400, 200]],
        [[400, 200], [400, 200]],
        [[100, 200], [700, 200]],
        [[400, 200], [401, 199.9]],
        [[900, 300], [1000, 100]],
        [[-1e6, 1e6], [-1e6, -1e6]],
    ],
)
def test_what_is_on_fewer_than_two_rows_is_no_lane(points: list[list[float]]) -> None:
    targets = ROWS.encode([np.array(points, dtype=np.float64).reshape(-1, 2)], 3)
    assert targets.shape == (3, 78)
    assert not targets[:, PRESENT].any()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), max_size=12))
def test_any_points_give_finite_targets_that_agree_with_themselves(points: list[tuple[float, float]]) -> None:
    targets = ROWS.encode([np.array(points, dtype=np.float64).reshape(-1, 2)], 4)
    assert np.isfinite(targets).all()
    for lane in targets[targets[:, PRESENT] == 1]:
        inside = np.flatnonzero((lane[XS] >= 0) & (lane[XS] < 800))
        assert lane[LENGTH] >= 2
        # In single precision an x below 800 may become 800.
        assert abs(lane[LENGTH] - len(inside)) <= (lane[XS] == 800).sum()
        assert 0 <= lane[THETA] <= 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(-400, 1200), st.integers(-200, 500)), min_size=2, max_size=8))
def test_clipping_keeps_what_is_in_the_image_and_nothing_else(points: list[tuple[int, int]]) -> None:
    polyline = np.array(points, dtype=np.float64)
    pieces = clipped(polyline, NETWORK)
    inside = [tuple(p) for p in polyline if 0 <= p[0] < 800 and 0 <= p[1] < 320]
    found = [tuple(p) for piece in pieces for p in piece]
    assert [p for p in found if p in inside] == inside
    for piece in pieces:
        assert (piece >= -1e-6).all()
        assert (piece <= [800, 320]).all()
    # As much of it is kept as a walk along it, step by step, sees inside.
    steps = np.linspace(0, 1, 1001)[:-1, None]
    kept = sum(float(np.hypot(*np.diff(piece, axis=0).T).sum()) for piece in pieces)
    walked = 0.0
    for start, end in itertools.pairwise(polyline):
        places = start + steps * (end - start)
        share = ((places >= 0) & (places <= [800, 320])).all(axis=1).mean()
        walked += share * float(np.hypot(*(end - start)))
    assert kept == pytest.approx(walked, abs=0.003 * float(np.hypot(*np.diff(polyline, axis=0).T).sum()) + 0.05)


def test_a_lane_that_leaves_the_image_ends_at_its_edge() -> None:
    (piece,) = clipped(np.array([[700.0, 300.0], [750.0, 200.0], [850.0, 100.0]]), NETWORK)
    np.testing.assert_allclose(piece, [[700, 300], [750, 200], [799.999, 150.001]], atol=1e-6)
    assert clipped(np.array([[900.0, 300.0], [900.0, 100.0]]), NETWORK) == []
