"""Lanes drawn on images."""

from __future__ import annotations

import numpy as np

from harness.datasets.drawing import draw_lanes
from harness.lanes import Lane


def line(x: float) -> Lane:
    return Lane(np.array([[x, 95.0], [x, 5.0]]))


def test_lanes_are_drawn_where_they_are_and_labels_white_on_top() -> None:
    image = np.full((100, 480, 3), 90, np.uint8)
    drawn = draw_lanes(image, [line(300), line(100.0)], labels=[line(100)])
    assert (image == 90).all()
    assert drawn[50, 100].min() > 220
    changed = np.flatnonzero((drawn[50] != 90).any(axis=1))
    assert set(changed) <= set(range(96, 105)) | set(range(296, 305))
    assert {100, 300} <= set(changed)
    first, second = draw_lanes(image, [line(100.0), line(300)])[50, [100, 300]]
    assert first.tolist() != second.tolist()
    assert np.array_equal(draw_lanes(image, [line(300), line(100)])[50, 100], first)


def test_degenerate_lanes_draw_nothing_and_far_points_do_no_harm() -> None:
    image = np.zeros((50, 100, 3), np.uint8)
    empty, point = Lane(np.zeros((0, 2))), Lane(np.array([[5.0, 5.0]]))
    assert (draw_lanes(image, [empty, point], labels=[empty, point]) == 0).all()
    far = Lane(np.array([[50.0, 49.0], [50.0, 20.0], [np.nan, 3.0], [1e9, -1e9]]))
    assert draw_lanes(image, [far])[40, 50].any()
