from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.parts.bezier import bernstein, evenly, fitted_curve, part_of

CURVE = np.array([[10.0, 580.0], [40.0, 420.0], [200.0, 380.0], [230.0, 250.0]])


def point(curve: np.ndarray, t: float) -> np.ndarray:
    """A point of a curve by its definition, as repeated means of control points."""
    points = [list(map(float, p)) for p in curve]
    while len(points) > 1:
        points = [[(1 - t) * a + t * b for a, b in zip(p, q, strict=True)] for p, q in itertools.pairwise(points)]
    return np.array(points[0])


def test_points_of_a_curve_are_those_of_its_definition() -> None:
    t = np.array([0.0, 0.2, 0.5, 0.9, 1.0])
    np.testing.assert_allclose(bernstein(t) @ CURVE, [point(CURVE, each) for each in t], atol=1e-9)
    np.testing.assert_allclose((evenly(7) @ CURVE)[[0, 3, 6]], [point(CURVE, each) for each in (0, 0.5, 1)], atol=1e-9)


@given(start=st.floats(0, 0.9), length=st.floats(0.05, 1))
def test_a_part_of_a_curve_runs_over_it_from_one_parameter_to_the_other(start: float, length: float) -> None:
    end = min(1.0, start + length)
    t = np.linspace(0, 1, 5)
    expected = bernstein(start + t * (end - start)) @ CURVE
    np.testing.assert_allclose(bernstein(t) @ part_of(CURVE, start, end), expected, atol=1e-9)


def test_a_straight_line_has_its_control_points_at_the_thirds_however_its_points_lie() -> None:
    shares = np.array([0.0, 0.02, 0.3, 0.31, 0.7, 0.95, 1.0])[:, None]
    ends = np.array([[820.0, 589.0], [400.0, 260.0]])
    expected = ends[0] + np.array([[0], [1], [2], [3]]) / 3 * (ends[1] - ends[0])
    np.testing.assert_allclose(fitted_curve(ends[0] + shares * (ends[1] - ends[0])), expected, atol=1e-6)


def test_a_bent_lane_is_met_within_a_pixel() -> None:
    y = np.arange(589.0, 260.0, -10.0)
    lane = np.stack([500 + 0.6 * (589 - y) - 0.001 * (589 - y) ** 2, y], axis=1)
    curve = fitted_curve(lane)
    assert curve is not None
    dense = evenly(2000) @ curve
    assert max(np.hypot(*(dense - each).T).min() for each in lane) < 1.0


@pytest.mark.parametrize(
    "points", [[(100, 500), (200, 300)], [(100, 500), (150, 400), (300, 300)], [(0, 9), (0, 9), (5, 4), (9, 9), (9, 9)]]
)
def test_few_points_are_taken_for_the_polyline_that_they_are(points: list[tuple[float, float]]) -> None:
    curve = fitted_curve(np.array(points, dtype=np.float64))
    assert curve is not None
    drawn = evenly(50) @ curve
    low, high = np.min(points, axis=0), np.max(points, axis=0)
    slack = 0.15 * (high - low).max()
    assert (drawn >= low - slack).all()
    assert (drawn <= high + slack).all()
    assert np.hypot(*(drawn[[0, -1]] - [points[0], points[-1]]).T).max() < slack


@pytest.mark.parametrize("points", [np.zeros((0, 2)), np.ones((1, 2)), np.ones((5, 2))])
def test_what_has_no_length_has_no_curve(points: np.ndarray) -> None:
    assert fitted_curve(points) is None
