"""How far lanes are apart: closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.parity.lanes import compared, lane_distances, point_distances


def line(x: float, *, slope: float = 0.0, rows: tuple[float, float, float] = (0.0, 100.0, 10.0)) -> np.ndarray:
    y = np.arange(rows[0], rows[1] + 1e-9, rows[2])
    return np.stack([x + slope * y, y], axis=1)


def test_points_are_measured_to_the_nearest_place_of_a_polyline() -> None:
    corner = np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 10.0]])
    points = np.array([[5.0, 3.0], [12.0, 5.0], [-3.0, -4.0], [13.0, 14.0], [10.0, 0.0]])
    np.testing.assert_allclose(point_distances(points, corner), [3, 2, 5, 5, 0], atol=1e-12)
    np.testing.assert_allclose(point_distances(points[:1], corner[:1]), [math.hypot(5, 3)])


def test_the_rows_of_the_two_may_be_other_ones() -> None:
    theirs, ours = line(50.0, slope=0.5), line(50.0, slope=0.5, rows=(3.0, 97.0, 4.7))
    # Only upstream's two ends lie beyond ours, by 3 rows of a line with a slope of a half.
    distances = np.sort(lane_distances(theirs, ours))
    np.testing.assert_allclose(distances[:-2], 0.0, atol=1e-9)
    np.testing.assert_allclose(distances[-2:], 3.0 * math.hypot(1.0, 0.5), atol=0.5)


@pytest.mark.parametrize(("beyond", "counts"), [(9.0, False), (25.0, True)])
def test_ours_may_reach_beyond_by_less_than_a_row_of_upstreams(beyond: float, counts: bool) -> None:
    ours = line(50.0, rows=(0.0, 100.0 + beyond, 1.0))
    assert lane_distances(line(50.0), ours).max() == pytest.approx(beyond if counts else 0.0, abs=1e-9)


def test_lanes_are_matched_whatever_their_order() -> None:
    theirs = [[line(10.0), line(40.0), line(90.0)]]
    found = compared(theirs, [[line(90.25), line(10.0), line(40.5)]])
    assert (found.matched, found.unmatched, found.points) == (3, 0, 33)
    assert found.largest == pytest.approx(0.5)
    assert found.mean == pytest.approx(0.25)


def test_lanes_without_a_counterpart_are_counted_on_both_sides() -> None:
    found = compared([[line(10.0)], []], [[line(10.0), line(50.0)], [line(20.0)]])
    assert (found.matched, found.unmatched) == (1, 2)
    nothing = compared([[]], [[]])
    assert (nothing.matched, nothing.unmatched, nothing.points) == (0, 0, 0)
