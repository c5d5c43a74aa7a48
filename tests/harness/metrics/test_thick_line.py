"""The rasterizer against OpenCV: recorded pictures of 4.6 everywhere, the installed version where lines stay inside."""

from __future__ import annotations

import json
import zlib
from functools import cache
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.metrics.overlaps import disc_half_widths, make_stamps, new_canvas, new_spans
from harness.metrics.thick_line import painted_runs

RECORDED = json.loads((Path(__file__).parent / "thick_lines.json").read_text())["lines"]
NO_STAMPS = np.zeros((0, 0, 0, 0), np.int64)


@cache
def tables(thickness):
    half_widths = disc_half_widths(thickness)
    return half_widths, make_stamps(thickness, half_widths)


def painted(points, *, width=1640, height=590, thickness=30, stamped=True):
    half_widths, stamps = tables(thickness)
    canvas, bounds = new_canvas(height, width)
    spans = new_spans(height, half_widths)
    lane = np.array(points, np.int32).reshape(-1, 2)
    steps, run_ends, counts = painted_runs(
        lane,
        np.array([len(lane)]),
        width,
        thickness,
        half_widths,
        stamps if stamped else NO_STAMPS,
        spans,
        canvas,
        bounds,
    )
    assert (spans == new_spans(height, half_widths)).all(), "the spans must be left empty"
    assert not canvas.any(), "the canvas must be left empty"
    assert (bounds == new_canvas(height, width)[1]).all(), "the bounds must be left empty"
    assert run_ends.tolist() == [len(steps) / 2]
    assert counts.tolist() == [len(lane)]
    rest = height * width - int(steps.sum(dtype=np.int64))
    assert rest >= 0, "a pixel beyond the image is set"
    states = np.arange(len(steps) + 1) % 2
    return np.repeat(states, [*steps.tolist(), rest]).astype(np.uint8).reshape(height, width)


def painted_by_opencv(points, *, width=1640, height=590, thickness=30):
    mask = np.zeros((height, width), np.uint8)
    for start, end in pairwise(points):
        cv2.line(mask, tuple(map(int, start)), tuple(map(int, end)), 1, thickness)
    return mask


@pytest.mark.parametrize("thickness", [30, 31, 10, 2, 60])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_lines_inside_the_image_are_what_opencv_paints(thickness, data):
    margin = thickness // 2 + 2
    inside = st.tuples(st.integers(margin, 499 - margin), st.integers(margin, 299 - margin))
    points = data.draw(st.lists(inside, min_size=2, max_size=4))
    ours = painted(points, width=500, height=300, thickness=thickness)
    np.testing.assert_array_equal(ours, painted_by_opencv(points, width=500, height=300, thickness=thickness))


@settings(max_examples=100, deadline=None)
@given(
    start=st.tuples(st.integers(100, 300), st.integers(100, 200)),
    steps=st.lists(st.tuples(st.integers(-8, 8), st.integers(-8, 8)), min_size=1, max_size=40),
)
def test_polylines_of_short_steps_are_what_opencv_paints(start, steps):
    points = np.clip(np.cumsum([start, *steps], axis=0), [17, 17], [483, 283])
    ours = painted(points, width=500, height=300)
    np.testing.assert_array_equal(ours, painted_by_opencv(points, width=500, height=300))


def test_lines_that_leave_the_image_are_what_opencv_4_6_painted():
    for width, height, thickness, x1, y1, x2, y2, area, checksum in RECORDED:
        mask = painted([(x1, y1), (x2, y2)], width=width, height=height, thickness=thickness)
        what = f"{thickness} px from ({x1}, {y1}) to ({x2}, {y2}) on {width} x {height}"
        assert int(mask.sum()) == area, what
        assert zlib.crc32(np.packbits(mask, axis=1).tobytes()) == checksum, what


@settings(max_examples=100, deadline=None)
@given(
    start=st.tuples(st.integers(-40, 240), st.integers(-40, 140)),
    steps=st.lists(st.tuples(st.integers(-7, 7), st.integers(-7, 7)), min_size=1, max_size=30),
    thickness=st.sampled_from([30, 5, 61]),
)
def test_stamps_change_nothing(start, steps, thickness):
    points = np.cumsum([start, *steps], axis=0)
    with_stamps = painted(points, width=200, height=100, thickness=thickness)
    without = painted(points, width=200, height=100, thickness=thickness, stamped=False)
    np.testing.assert_array_equal(with_stamps, without)


@settings(max_examples=200, deadline=None)
@given(points=st.lists(st.tuples(*[st.integers(-(2**31), 2**31 - 1)] * 2), max_size=3))
def test_any_coordinates_are_painted_without_a_fault(points):
    assert painted(points, width=70, height=40).shape == (40, 70)


def test_fewer_than_two_points_paint_nothing():
    assert not painted([]).any()
    assert not painted([(100, 100)]).any()


def test_two_equal_points_paint_a_disc():
    np.testing.assert_array_equal(painted([(100, 100)] * 2), painted_by_opencv([(100, 100)] * 2))
