from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from detectors.parts.lane_starts import ABSENT, drawn_around, last_of_each, radii_of, row_crossings


def test_a_polyline_is_read_on_whole_rows_between_its_ends() -> None:
    polyline = np.array([[10.0, 7.5], [6.0, 3.5], [6.0, 1.25]])
    columns, reach = row_crossings(polyline, 9, 3.0)
    expected = [ABSENT, ABSENT, 6.0, 6.0, 6.5, 7.5, 8.5, 9.5, ABSENT]
    assert columns.tolist() == pytest.approx(expected)
    # At 45 degrees a band of half-width 3 is 3 times the square root of 2 wide along the row.
    leaning = 3 * math.sqrt(2)
    assert reach.tolist() == pytest.approx([0, 0, 3, 3, leaning, leaning, leaning, leaning, 0])


def test_rows_at_the_ends_and_at_corners_belong_to_the_polyline() -> None:
    columns, _ = row_crossings(np.array([[4.0, 5.0], [2.0, 3.0], [3.0, 2.0]]), 7, 1.0)
    assert columns.tolist() == pytest.approx([ABSENT, ABSENT, 3, 2, 3, 4, ABSENT])


def test_level_stretches_give_a_place_on_them_and_the_widest_reach() -> None:
    columns, reach = row_crossings(np.array([[1.0, 4.0], [9.0, 4.0]]), 6, 2.0)
    assert 1 <= columns[4] <= 9
    assert (np.delete(columns, 4) == ABSENT).all()
    assert reach.tolist() == [0, 0, 0, 0, 10, 0]
    flat, reach = row_crossings(np.array([[1.0, 4.4], [30.0, 4.3]]), 6, 2.0)
    assert (flat == ABSENT).all()
    assert not reach.any()


def test_crowded_starts_have_smaller_radii() -> None:
    starts = np.array([[0.0, 0.0], [5.0, 0.0], [40.0, 0.0], [40.5, 0.0]])
    # Nearer than 1.5 radii: the distance over 1.5, but 1 at least, to the nearest whole number.
    assert radii_of(starts, 6).tolist() == [3, 3, 1, 1]
    assert radii_of(starts[[0, 2]], 6).tolist() == [6, 6]
    assert radii_of(starts[:1], 6).tolist() == [6]
    assert radii_of(starts[:0], 6).tolist() == []


@pytest.mark.parametrize(
    ("cell", "radius", "around"), [((10, 8), 6, 28), ((0, 0), 6, 10), ((10, 8), 1, 4), ((10, 8), 3, 4)]
)
def test_places_around_a_start_are_within_half_its_radius(cell: tuple[int, int], radius: int, around: int) -> None:
    generator = np.random.default_rng(0)
    every = drawn_around(np.array(cell), radius, (16, 20), 100, generator)
    assert len(every) == len(set(every.tolist())) == 1 + around
    y, x = np.divmod(every, 20)
    assert (x[0], y[0]) == cell
    assert np.hypot(x - cell[0], y - cell[1]).max() <= max(radius // 2, 1)
    few = drawn_around(np.array(cell), radius, (16, 20), 5, generator)
    assert len(few) == 5
    assert few[0] == every[0]
    assert set(few.tolist()) <= set(every.tolist())


def test_the_last_of_each_group_of_starts_stands_for_it() -> None:
    def places(*cells: tuple[int, int]) -> np.ndarray:
        return np.array([y * 50 + x for x, y in cells], dtype=np.float32)

    # 0 and 6 are apart, but 3 joins the group of 0, and 6 that of 3.
    assert last_of_each(places((0, 5), (3, 5), (6, 5), (20, 5)), 50, 4.0) == [2, 3]
    assert last_of_each(places((0, 5), (5, 5)), 50, 4.0) == [0, 1]
    assert last_of_each(places((0, 5), (4, 5)), 50, 4.0) == [1]
    # A start that is near two groups joins the first and doesn't join them.
    assert last_of_each(places((0, 0), (8, 0), (4, 0)), 50, 4.0) == [2, 1]
    assert last_of_each(places(), 50, 4.0) == []


@given(st.lists(st.tuples(st.integers(0, 49), st.integers(0, 19)), max_size=12, unique=True), st.floats(0, 8))
@example(cells=[(0, 0), (0, 8)], distance=math.nextafter(8.0, 0.0))
@settings(max_examples=60)
def test_every_start_is_near_one_of_the_group_that_it_joined(cells: list[tuple[int, int]], distance: float) -> None:
    ordered = sorted(y * 50 + x for x, y in cells)
    kept = last_of_each(np.array(ordered, dtype=np.float32), 50, distance)
    groups: list[list[int]] = []
    for index, place in enumerate(ordered):
        for group in groups:
            if any(math.dist(divmod(place, 50), divmod(ordered[other], 50)) <= distance for other in group):
                group.append(index)
                break
        else:
            groups.append([index])
    assert kept == [group[-1] for group in groups]
