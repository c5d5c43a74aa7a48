"""The curve against scipy's natural cubic spline."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import CubicSpline

from harness.metrics.natural_spline import STEPS, cube, curve_pixels, curves, rounded

INT_MIN = -(2**31)

COORDINATES = st.floats(-500, 2500, width=32)


@settings(deadline=None)
@given(st.lists(st.tuples(COORDINATES, COORDINATES), min_size=3, max_size=12))
def test_it_is_the_natural_spline_over_the_chord_length(points):
    lane = np.array(points, np.float32)
    chords = np.linalg.norm(np.diff(lane.astype(np.float64), axis=0), axis=1)
    if chords.min() < 1.0:
        return
    lengths = np.concatenate([[0.0], np.cumsum(chords)])
    steps = np.concatenate([(lengths[:-1, None] + chords[:, None] * np.arange(STEPS) / STEPS).ravel(), lengths[-1:]])
    exact = CubicSpline(lengths, lane.astype(np.float64), bc_type="natural")(steps)
    tolerance = 0.5 + 1e-3 + 1e-5 * np.abs(exact).max()
    assert np.abs(curve_pixels(lane) - exact).max() <= tolerance


def test_halves_are_rounded_to_even():
    pixels = curve_pixels(np.array([[100.5, 101.5], [-0.5, -1.5]], np.float32))
    assert pixels.tolist() == [[100, 102], [0, -2]]


def test_chords_are_double_though_points_are_single():
    """The official program's pixels for lanes whose squared chord no float32 holds; in the second, not to the last digit."""
    far = curve_pixels(np.array([[10, 20], [1e30, 30], [40, 50]], np.float32))
    assert far[0].tolist() == [10, 20]
    assert far[50].tolist() == [INT_MIN, 30]


@given(st.floats(1e-60, 1e90))
def test_cubes_are_rounded_once(value):
    assert cube(value) == float(Fraction(value) ** 3)


def test_cubes_of_wild_numbers():
    assert np.isnan(cube(np.nan))
    assert cube(1e150) == cube(np.inf) == np.inf
    assert cube(0.0) == cube(5e-324) == 0.0


def test_two_points_are_joined_by_a_straight_line():
    assert curve_pixels(np.array([[0, 0], [1000, 500]], np.float32)).tolist() == [[0, 0], [1000, 500]]


def test_a_repeated_point_leaves_only_the_last_pixel_of_the_curve():
    pixels = curve_pixels(np.array([[10, 10], [20, 20], [20, 20], [30, 30]], np.float32))
    assert pixels[-1].tolist() == [30, 30]
    assert (pixels[:-1] == INT_MIN).all()


def test_what_an_integer_cannot_hold_becomes_the_least_integer():
    for value in (np.nan, np.inf, -np.inf, 1e12, -1e12, 2.0**31, -(2.0**31) - 256):
        assert rounded(np.float32(value)) == INT_MIN
    assert rounded(np.float32(-(2.0**31))) == INT_MIN
    for value in (2.0**31 - 128, 128 - 2.0**31):
        assert rounded(np.float32(value)) == value


def test_several_lanes_are_the_single_ones_one_after_the_other():
    points = np.array([[0, 0], [10, 30], [5, 60], [7, 7], [1, 2], [3, 4]], np.float32)
    pixels, ends = curves(points, np.array([3, 3, 4, 6]))
    assert ends.tolist() == [101, 101, 102, 104]
    np.testing.assert_array_equal(pixels[:101], curve_pixels(points[:3]))
    np.testing.assert_array_equal(pixels[102:], curve_pixels(points[4:]))
