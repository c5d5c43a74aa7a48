"""Lanes as the page draws them."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from harness.lanes import Lane
from harness.publishing.polylines import MOST_POINTS, TOLERANCE, needed_points, polylines


def test_drawn_lines_lie_beside_their_lanes_by_less_than_a_pixel_of_the_picture() -> None:
    rows = np.arange(590, 250, -10)
    points = np.stack([820 + 0.002 * (590 - rows) ** 2, rows], axis=1).astype(np.float32)
    (line,) = polylines([Lane(points), Lane(points[:1])], (590, 1640))
    drawn = np.array(line).reshape(-1, 2)
    assert len(drawn) < len(points) / 3
    across = np.interp(-rows, -drawn[:, 1], drawn[:, 0])
    assert np.abs(across - points[:, 0]).max() < 1640 * TOLERANCE + 1


def beside(point: tuple[int, int], start: tuple[int, int], end: tuple[int, int]) -> Fraction:
    """The squared distance of a point from the line through two others, in fractions, from its foot on that line."""
    (x, y), (dx, dy) = (point[0] - start[0], point[1] - start[1]), (end[0] - start[0], end[1] - start[1])
    if dx == dy == 0:
        return Fraction(x * x + y * y)
    along = Fraction(x * dx + y * dy, dx * dx + dy * dy)
    return (x - along * dx) ** 2 + (y - along * dy) ** 2


coordinates = st.integers(-40, 40)


@given(st.lists(st.tuples(coordinates, coordinates), min_size=2, max_size=12), st.integers(0, 30))
def test_no_point_lies_farther_beside_the_line_than_is_tolerated(points: list[tuple[int, int]], tenths: int) -> None:
    tolerance = Fraction(tenths, 10)
    kept = needed_points(np.array(points, dtype=np.int64), tolerance)
    assert kept[0] == 0
    assert kept[-1] == len(points) - 1
    for first, last in pairwise(kept):
        farther = 2 if points[first] == points[last] else 1  # of a line without length the larger coordinate counts
        for place in range(first + 1, last):
            assert beside(points[place], points[first], points[last]) <= farther * tolerance**2


def test_a_point_that_lies_beside_by_just_the_tolerance_is_not_needed() -> None:
    points = np.array([[0, 0], [50, 3], [100, 0]], dtype=np.int64)
    assert needed_points(points, Fraction(3)) == [0, 2]
    assert needed_points(points, Fraction(299, 100)) == [0, 1, 2]


def test_a_lane_of_very_many_points_is_drawn_by_some_of_them_from_end_to_end() -> None:
    rows = np.arange(100_000)
    (line,) = polylines([Lane(np.stack([rows % 7 * 100, rows % 590], axis=1))], (590, 1640))
    assert line[:2] == [0, 0]
    assert line[-2:] == [99_999 % 7 * 100, 99_999 % 590]
    assert len(line) <= 2 * MOST_POINTS
