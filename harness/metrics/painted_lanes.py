"""Painted lanes as runs of pixels, and the IoU of every two of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.metrics.compiled import compiled

Runs = npt.NDArray[np.uint16]
Integers = npt.NDArray[np.int64]
Ious = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PaintedLanes:
    """What lanes paint on an image. runs: see `thick_line`, one lane after the other; lane i is runs[ends[i - 1]:ends[i]].

    points: int64, how many points each lane was drawn through; with fewer than two it isn't drawn at all.
    """

    runs: Runs
    ends: Integers
    points: Integers


def ious(labels: PaintedLanes, predictions: PaintedLanes) -> Ious:
    """The IoU of each label with each prediction: pixels painted in both / in either, as float64 (labels, predictions).

    A lane of fewer than two points has IoU 0 with all; two lanes without a pixel have IoU NaN.
    """
    return iou_matrix(labels.runs, labels.ends, labels.points, predictions.runs, predictions.ends, predictions.points)


@compiled
def clear(runs: Runs, run: int) -> int:
    """How many pixels a run leaves clear, signed: `int` would leave the number unsigned, and differences would wrap around."""
    return int(np.int64(runs[run, 0]))


@compiled
def painted(runs: Runs, run: int) -> int:
    """How many pixels a run paints, signed."""
    return int(np.int64(runs[run, 1]))


@compiled
def area(runs: Runs) -> int:
    """The number of pixels that are set."""
    pixels = 0
    for run in range(len(runs)):
        pixels += painted(runs, run)
    return pixels


@compiled
def common_area(runs: Runs, others: Runs) -> int:
    """The number of pixels that are set in both."""
    if len(runs) == 0 or len(others) == 0:
        return 0
    pixels = run = other = 0
    begin, other_begin = clear(runs, 0), clear(others, 0)
    end, other_end = begin + painted(runs, 0), other_begin + painted(others, 0)
    while True:
        pixels += max(min(end, other_end) - max(begin, other_begin), 0)
        if end <= other_end:
            run += 1
            if run == len(runs):
                return pixels
            begin = end + clear(runs, run)
            end = begin + painted(runs, run)
        else:
            other += 1
            if other == len(others):
                return pixels
            other_begin = other_end + clear(others, other)
            other_end = other_begin + painted(others, other)


@compiled
def iou_matrix(
    label_runs: Runs, label_ends: Integers, label_points: Integers, runs: Runs, ends: Integers, points: Integers
) -> Ious:
    """See `ious`."""
    found = np.zeros((len(label_ends), len(ends)))
    areas = np.empty(len(ends), np.int64)
    start = 0
    for prediction in range(len(ends)):
        areas[prediction] = area(runs[start : ends[prediction]])
        start = ends[prediction]
    label_start = 0
    for label in range(len(label_ends)):
        lane = label_runs[label_start : label_ends[label]]
        label_start, label_area, start = label_ends[label], area(lane), 0
        for prediction in range(len(ends)):
            if label_points[label] >= 2 and points[prediction] >= 2:
                common = common_area(lane, runs[start : ends[prediction]])
                found[label, prediction] = common / (label_area + areas[prediction] - common)
            start = ends[prediction]
    return found
