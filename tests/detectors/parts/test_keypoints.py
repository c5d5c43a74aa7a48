from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.parts.keypoints import Floats, clustered, curve_through, keypoint_map, keypoints_of, points_along

GRID = (20, 30)


def test_a_curve_is_the_cubic_that_its_points_lie_on_and_ends_at_the_map() -> None:
    y = np.array([-4.0, 2.0, 7.0, 11.0, 16.0, 25.0])

    def x(rows: Floats) -> Floats:
        return 3 + 0.9 * rows - 0.08 * rows**2 + 0.003 * rows**3

    curve = curve_through(np.stack([x(y), y], axis=1)[[4, 1, 3, 0, 5, 2]], GRID)
    # The first and the last lie left and right of the map: x(-4) = -2.1, x(25) = 22.4.
    assert curve is not None
    assert (curve.far, curve.near) == (2.0, 20.0)
    points = points_along(curve, 7)
    np.testing.assert_allclose(points[:, 1], np.linspace(2, 20, 7))
    np.testing.assert_allclose(points[:, 0], x(points[:, 1]), rtol=1e-9)


def test_three_points_are_joined_by_straight_lines() -> None:
    curve = curve_through(np.array([[5.0, 18.0], [9.0, 10.0], [10.0, 2.0]]), GRID)
    assert curve is not None
    np.testing.assert_allclose(points_along(curve, 5), [[10, 2], [9.5, 6], [9, 10], [7, 14], [5, 18]])


@pytest.mark.parametrize(
    "points",
    [
        [],
        [(3.0, 4.0)],
        [(3.0, 4.0), (3.0, 4.0)],
        [(1.0, 4.0), (29.0, 4.0)],
        [(-5.0, 4.0), (3.0, 9.0)],
        [(3.0, -9.0), (4.0, -2.0)],
        [(3.0, 20.0), (4.0, 29.0)],
        [(1e6, 1e6), (-1e6, -1e6)],
    ],
)
def test_what_has_no_two_rows_of_points_on_the_map_is_no_curve(points: list[tuple[float, float]]) -> None:
    assert curve_through(np.array(points, dtype=np.float64).reshape(-1, 2), GRID) is None


def test_of_points_on_one_row_the_first_counts() -> None:
    curve = curve_through(np.array([[5.0, 18.0], [10.0, 2.0], [20.0, 2.0], [25.0, 18.0]]), GRID)
    assert curve is not None
    np.testing.assert_allclose(points_along(curve, 2), [[10, 2], [5, 18]])


def test_keypoints_go_from_the_near_end_to_the_far_one_and_are_cut_at_the_edges() -> None:
    # x = y - 5, from the row 5.5 on to 20; the last row of cells is the 19th.
    curve = curve_through(np.array([[0.5, 5.5], [15.0, 20.0]]), GRID)
    assert curve is not None
    keypoints = keypoints_of(curve, 30, GRID)
    rows = np.linspace(20, 5.5, 30)
    expected = np.concatenate([[19.0], rows[rows < 19]])
    np.testing.assert_allclose(keypoints[:, 1], expected)
    np.testing.assert_allclose(keypoints[:, 0], expected - 5)


def test_less_than_a_cell_of_a_curve_has_no_keypoints() -> None:
    for length, some in ((0.9, False), (1.1, True)):
        curve = curve_through(np.array([[5.0, 7.0], [5.0, 7.0 + length]]), GRID)
        assert curve is not None
        assert len(keypoints_of(curve, 9, GRID)) == 9 * some


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 29)), max_size=12), st.integers(1, 3))
def test_a_map_is_the_highest_of_the_peaks_around_each_cell(cells: list[tuple[int, int]], radius: int) -> None:
    found = keypoint_map(np.array(cells, dtype=np.intp).reshape(-1, 2), GRID, radius)
    deviation = (2 * radius + 1) / 6
    for (row, column), value in np.ndenumerate(found):
        near = [
            math.exp(-((row - y) ** 2 + (column - x) ** 2) / (2 * deviation**2))
            for y, x in cells
            if max(abs(row - y), abs(column - x)) <= radius
        ]
        assert value == pytest.approx(max(near, default=0.0), abs=1e-6)
        assert (value == 1) == ((row, column) in cells)


def plainly_clustered(
    cells: list[tuple[int, int]], aims: list[tuple[float, float]], starts: list[bool], reach: float
) -> list[int]:
    """Point by point, as tools/ganet/post_process.py of Wolfwjs/GANet does it."""
    groups: list[list[tuple[int, int]]] = []
    for cell in sorted(cell for cell, start in zip(cells, starts, strict=True) if start):
        near = [group for group in groups if any(math.dist(cell, member) <= reach for member in group)]
        if near:
            near[0].append(cell)
        else:
            groups.append([cell])
    centres = [tuple(int(sum(axis) / len(group)) for axis in zip(*group, strict=True)) for group in groups]
    return [
        next((number for number, centre in enumerate(centres) if math.dist(aim, centre) <= reach), -1) for aim in aims
    ]


@settings(max_examples=50)
@given(st.data(), st.sampled_from([1.0, 2.5, 4.0, 6.0]))
def test_clusters_are_those_of_upstreams_loops(data: st.DataObject, reach: float) -> None:
    cells = data.draw(st.lists(st.tuples(st.integers(0, 29), st.integers(0, 19)), unique=True, max_size=40))
    size = len(cells)
    place = st.tuples(st.floats(-5, 35, width=16), st.floats(-5, 25, width=16))
    aims = data.draw(st.lists(place, min_size=size, max_size=size))
    starts = data.draw(st.lists(st.booleans(), min_size=size, max_size=size))
    found, count = clustered(
        np.array(cells, dtype=np.intp).reshape(-1, 2),
        np.array(aims).reshape(-1, 2),
        np.array(starts, dtype=bool),
        reach,
    )
    assert found.tolist() == plainly_clustered(cells, aims, starts, reach)
    assert found.max(initial=-1) < count <= sum(starts)


def test_an_aim_that_is_no_number_belongs_to_nothing() -> None:
    cells, aims = np.array([[3, 4], [3, 5]]), np.array([[math.nan, 4.0], [3.0, 4.0]])
    found, count = clustered(cells, aims, np.array([True, False]), 2.0)
    assert (found.tolist(), count) == ([-1, 0], 1)
