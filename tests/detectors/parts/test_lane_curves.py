from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.interpolate import CubicSpline

from detectors.parts.lane_curves import claimed_rows, curve_on_rows, seen_rows

UPRIGHT = np.full(33, 0.5, dtype=np.float32)


@pytest.mark.parametrize(
    ("start", "length", "first", "last"),
    [
        (4, 10, 4, 13),
        (4.5, 10, 4, 13),
        (5.5, 10, 6, 15),
        (4, 10.5, 4, 13),
        (4, 11.5, 4, 15),
        (4, 90, 4, 32),
        (-3, 10, 0, 9),
        (0, math.inf, 0, 32),
        (math.nan, 2, 0, 1),
    ],
)
def test_start_and_length_are_rounded_half_to_even(start: float, length: float, first: int, last: int) -> None:
    rows = claimed_rows(start / 32, length, UPRIGHT, prolonged=0)
    np.testing.assert_array_equal(rows, np.arange(first, last + 1))


@pytest.mark.parametrize("length", [0.0, 0.5, -3.0, -80.0, -math.inf, math.nan])
def test_without_length_there_is_no_row(length: float) -> None:
    assert len(claimed_rows(0.0, length, UPRIGHT, prolonged=0)) == 0


def test_a_lane_is_prolonged_downwards_until_it_leaves_the_image() -> None:
    xs = UPRIGHT.copy()
    assert claimed_rows(0.5, 3, xs, prolonged=33).tolist() == list(range(19))
    assert claimed_rows(0.5, 3, xs, prolonged=4).tolist() == list(range(12, 19))
    xs[9] = 1.01
    assert claimed_rows(0.5, 3, xs, prolonged=33).tolist() == list(range(10, 19))
    xs[9], xs[11] = 1.0, -0.01
    assert claimed_rows(0.5, 3, xs, prolonged=33).tolist() == list(range(12, 19))


def test_rows_left_of_the_image_are_claimed_and_not_seen() -> None:
    xs = UPRIGHT.copy()
    xs[4], xs[5], xs[6] = -0.1, 1.2, math.nan
    assert claimed_rows(0.0, 8, xs, prolonged=0).tolist() == [0, 1, 2, 3, 4, 5, 7]
    assert seen_rows(0.0, 8, xs, prolonged=0).tolist() == [0, 1, 2, 3, 5, 7]


def test_a_curve_is_the_cubic_spline_through_the_points_and_a_little_beyond() -> None:
    y = np.array([580.0, 520.0, 470.0, 410.0, 330.0])
    x = np.array([300.0, 360.0, 380.0, 500.0, 510.0])
    rows = np.arange(270.0, 600.0, 10.0)
    points = curve_on_rows(np.stack([x, y], axis=1), rows, prolonged=10.0)
    np.testing.assert_array_equal(points[:, 1], np.arange(590.0, 315.0, -10.0))
    expected = CubicSpline(y[::-1], x[::-1], bc_type="not-a-knot")(points[:, 1])
    np.testing.assert_allclose(points[:, 0], expected, atol=1e-9)


def test_two_points_make_a_straight_line() -> None:
    points = curve_on_rows(np.array([[100.0, 500.0], [200.0, 400.0]]), np.arange(400.0, 501.0, 25.0), prolonged=0.0)
    np.testing.assert_allclose(points, [[100, 500], [125, 475], [150, 450], [175, 425], [200, 400]])
