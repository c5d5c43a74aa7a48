"""Predictions that can't be in the pixels of the labels are told from those that are merely bad."""

from __future__ import annotations

import numpy as np
import pytest

from harness.metrics.coordinates import Floats, coordinates_of, other_pixels


@pytest.fixture
def labels() -> Floats:
    """Points of lanes on pictures of 1640 x 590."""
    g = np.random.default_rng(3)
    return np.stack([g.uniform(0, 1640, 3000), g.uniform(250, 590, 3000)], axis=1).astype(np.float32)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda points: points * np.float32([800 / 1640, 288 / 590]),
            "other pixels, such as those of a network's input?",
        ),
        (lambda points: points / np.float32([1640, 590]), "other pixels"),
        (lambda points: points * np.float32([600 / 1640, 320 / 590]), "other pixels"),  # x now ends where y did
        (lambda points: points * np.float32([800 / 1640, 1]), "other pixels"),
        (lambda points: points * np.float32([1, 288 / 590]), "other pixels"),
        (lambda points: points * np.float32([1, 1080 / 590]), "other pixels"),
        (
            lambda points: points * np.float32([1280 / 1640, 720 / 590]),
            "other pixels",
        ),  # neither edge is far away by itself
        (lambda points: points[:, ::-1], "x and y exchanged?"),
        (lambda points: (points - np.float32([0, 240])) * np.float32([800 / 1640, 320 / 350]), "other pixels"),
    ],
)
def test_other_pixels_are_told_with_both_ranges(labels: Floats, change: object, told: str) -> None:
    why = other_pixels(labels, change(labels))  # type: ignore[operator]
    assert why is not None
    assert told in why
    assert "labels have x 3" in why


def test_bad_predictions_in_the_same_pixels_are_not(labels: Floats) -> None:
    g = np.random.default_rng(4)
    moved = labels + g.normal(0, 60, labels.shape).astype(np.float32)
    assert other_pixels(labels, moved) is None
    assert other_pixels(labels, labels[(labels[:, 0] > 400) & (labels[:, 0] < 1300)]) is None
    assert other_pixels(labels, moved[:50] / 1000) is None, "too few to tell"


def test_points_that_are_not_finite_are_left_out() -> None:
    points = coordinates_of([np.float32([[1, 2], [np.inf, 3]]), np.zeros((0, 2))])
    assert points.tolist() == [[1, 2]]
    assert coordinates_of([]).shape == (0, 2)
