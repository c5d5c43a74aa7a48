"""IoU of painted lanes against full frames."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.metrics.overlaps import Painter, polylines

PAINTER = Painter((120, 200), 10)

INSIDE = st.tuples(st.integers(8, 190), st.integers(8, 110))
LANES = st.lists(st.lists(INSIDE, max_size=6), max_size=4)


def full_frame(lane):
    mask = np.zeros((120, 200), np.uint8)
    for start, end in pairwise(lane):
        cv2.line(mask, start, end, 1, 10)
    return mask > 0


@settings(max_examples=100, deadline=None)
@given(LANES, LANES)
def test_ious_are_those_of_full_frames(labels, predictions):
    arrays = [[np.array(lane, np.int32).reshape(-1, 2) for lane in lanes] for lanes in (labels, predictions)]
    ious = PAINTER.ious(polylines(arrays[0]), polylines(arrays[1]))
    assert ious.shape == (len(labels), len(predictions))
    for i, label in enumerate(labels):
        for j, prediction in enumerate(predictions):
            a, b = full_frame(label), full_frame(prediction)
            short = len(label) < 2 or len(prediction) < 2
            assert ious[i, j] == (0.0 if short else (a & b).sum() / (a | b).sum())


def test_two_lanes_without_a_pixel_have_no_iou():
    outside = [np.array([[-500, 10], [-400, 90]], np.int32)]
    inside = [np.array([[50, 10], [60, 90]], np.int32)]
    assert np.isnan(PAINTER.ious(polylines(outside), polylines(outside)))
    assert PAINTER.ious(polylines(outside), polylines(inside)) == 0.0


def test_hundreds_of_lanes_that_cover_the_image():
    lanes = [np.array([[0, i % 120], [199, 119 - i % 120]], np.int32) for i in range(300)]
    ious = PAINTER.ious(polylines(lanes), polylines(lanes[:5]))
    assert (ious[np.arange(5), np.arange(5)] == 1.0).all()
    assert (ious[120:125].diagonal() == 1.0).all()
