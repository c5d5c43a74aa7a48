"""What is odd about labels, seen on the arrays of the label index at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from harness.datasets.base import Frame
from harness.datasets.culane import EMPTY_SCENARIO
from harness.datasets.doctor.findings import Finding, grouped
from harness.datasets.doctor.layouts import Place
from harness.datasets.doctor.sources import CULANE_PAGE
from harness.datasets.index import LabelIndex

OUTSIDE = 1.0
"""A point further out than this many widths or heights of the image isn't a lane that leaves it."""

TYPICAL = 0.99
"""The quantile of the points that tells how far labels reach."""
LOWEST_NEAR_END = 0.6
"""Labels of an image's size reach further down than this share of its height."""
LEAVING = 0.75
"""The quantile of the points that lies in the image if its size is right: lanes may leave it, but not most of every lane."""

TOP, SHORT_OF_BOTTOM = 0.1, 0.85
"""Labels that reach higher than the one share of the height and not as low as the other are upside down: roads end below the sky."""

SWAPPED_REACH = 1.1
"""Labels with x and y swapped reach at most so far, in heights of the image across and in widths down."""

EMPTY_SHARE = 0.5
"""Of the labels of a split, at most so many are empty in a dataset of roads."""


def label_findings(index: LabelIndex, names: Sequence[str], size: tuple[int, int] | None) -> list[Finding]:
    """Short lanes, points far outside, a wrong size. names: the label file of each frame. size: (height, width) of the images."""
    lengths = np.diff(index.lane_starts)
    short = lengths < 2
    found = grouped(
        "note", "short-lane", _files(index, names, short), f"labels hold {int(short.sum()):,} lanes of fewer than two points",
        "nothing: the official evaluators count them as lanes; nothing can be trained on them",
    )  # fmt: skip
    if size is None or not len(index.points):
        return found
    if wrong := _wrong_axes(index, names, size) or _wrong_size(index, names, size):
        return found + wrong
    x, y = index.points.T
    height, width = size
    out = (np.abs(x - width / 2) > (0.5 + OUTSIDE) * width) | (np.abs(y - height / 2) > (0.5 + OUTSIDE) * height)
    far = np.bincount(_lane_of_point(index)[out], minlength=len(lengths)) > 0
    return found + grouped(
        "warning", "far-out", _files(index, names, far),
        "labels hold points more than an image's size outside the image", "look at them (--sheet FILE) and correct them",
    )  # fmt: skip


def empty_findings(
    place: Place, split: str, index: LabelIndex, names: Sequence[str], frames: Sequence[Frame]
) -> list[Finding]:
    """A split most of whose labels hold no lane of two points or more; frames at crossings, which have none, aside."""
    lanes = np.repeat(np.arange(len(index)), np.diff(index.frame_starts))[np.diff(index.lane_starts) >= 2]
    held = np.bincount(lanes, minlength=len(index)) > 0
    rows = [row for row, frame in enumerate(frames) if frame.scenario != EMPTY_SCENARIO]
    empty = [names[row] for row in rows if not held[row]]
    if not empty or len(empty) <= EMPTY_SHARE * len(rows):
        return []
    what = f"{len(empty):,} of the {len(rows):,} labels of split {split} hold no lane"
    public = "look at them (--sheet FILE) and restore the labels from the dataset's source"
    if place.form == "culane":
        public += (
            f"; CULane's from before 16 April 2018 were wrong: unpack annotations_new.tar.gz of {CULANE_PAGE} over them"
        )
    own = "look at them (--sheet FILE) and label their lanes, or leave out images that nobody labelled"
    return [Finding("warning", "empty-labels", empty[0], what, place.restore(public, own))]


def crossing_findings(index: LabelIndex, names: Sequence[str], frames: Sequence[Frame]) -> list[Finding]:
    """Labels of the scenario without lanes that hold some: tables count false positives of it, and no F1."""
    held = np.diff(index.frame_starts) > 0
    labelled = [names[row] for row, frame in enumerate(frames) if frame.scenario == EMPTY_SCENARIO and held[row]]
    return grouped(
        "warning", "cross-lanes", labelled,
        f"labels of scenario {EMPTY_SCENARIO} hold lanes, but of it false positives alone are counted, as officially",
        f"give the scenario another name, as list/test_split/test0_junction.txt, to have its F1 in tables; {EMPTY_SCENARIO} is for "
        "images without lanes",
    )  # fmt: skip


def order_findings(index: LabelIndex, names: Sequence[str]) -> list[Finding]:
    """Lanes whose points don't go up the image from the near end, for forms that leave the order to whoever writes the labels."""
    lanes = _lane_of_point(index)
    inside = lanes[1:] == lanes[:-1]
    rise = np.diff(index.points[:, 1])
    count = len(index.lane_starts) - 1
    upward, downward = (np.bincount(lanes[1:][inside & step], minlength=count) > 0 for step in (rise < 0, rise > 0))
    return grouped(
        "warning", "reversed-lane", _files(index, names, downward & ~upward), "labels hold lanes from top to bottom",
        "the harness turns them round; write lanes from the near end to the far end for the official tools",
    ) + grouped(
        "warning", "zigzag-lane", _files(index, names, downward & upward),
        "labels hold lanes whose points go up and down again",
        "look at them (--sheet FILE); sort the points if they are in a wrong order",
    )  # fmt: skip


def _lane_of_point(index: LabelIndex) -> npt.NDArray[np.int64]:
    lengths = np.diff(index.lane_starts)
    return np.repeat(np.arange(len(lengths)), lengths)


def _files(index: LabelIndex, names: Sequence[str], lanes: npt.NDArray[np.bool_]) -> list[str]:
    """The label files that hold some of the lanes, each once, in the order of the frames."""
    frame_of_lane = np.repeat(np.arange(len(index)), np.diff(index.frame_starts))
    return list(dict.fromkeys(names[frame] for frame in frame_of_lane[lanes]))


def _wrong_size(index: LabelIndex, names: Sequence[str], size: tuple[int, int]) -> list[Finding]:
    height, width = size
    right, low = np.quantile(index.points, TYPICAL, axis=0)
    typical_x, typical_y = np.quantile(index.points, LEAVING, axis=0)
    if LOWEST_NEAR_END * height <= low and typical_y <= height and typical_x <= width:
        return []
    what = (
        f"the images are {width} x {height}, but the labels reach to x = {right:.0f}, y = {low:.0f} (quantile {TYPICAL}): "
        "they seem made for images of another size"
    )
    return [Finding("error", "label-size", names[0], what, "scale the labels or the images (--sheet FILE shows both)")]


def _wrong_axes(index: LabelIndex, names: Sequence[str], size: tuple[int, int]) -> list[Finding]:
    """Labels whose x and y are swapped, or whose y is measured from below; only where no other size explains them."""
    height, width = size
    top = np.quantile(index.points[:, 1], 1 - TYPICAL)
    right, low = np.quantile(index.points, TYPICAL, axis=0)
    swapped = np.quantile(index.points[:, 1], LEAVING) > height and low <= SWAPPED_REACH * width
    if swapped and LOWEST_NEAR_END * height <= right <= SWAPPED_REACH * height:
        likely, fix = "x and y look swapped", "write x before y"
    elif (
        0 <= top < TOP * height and LOWEST_NEAR_END / 2 * height <= low < SHORT_OF_BOTTOM * height and right > width / 2
    ):
        likely, fix = "y looks measured from below", "write y from the top of the image down: height - 1 - y"
    else:
        return []
    what = f"the images are {width} x {height}, and the labels reach to x = {right:.0f} and from y = {top:.0f} to {low:.0f}: {likely}"
    return [Finding("error", "label-axes", names[0], what, f"{fix} (--sheet FILE shows both)")]


def double_lanes(index: LabelIndex, names: Sequence[str]) -> list[Finding]:
    """Lanes that a label holds twice, point for point: no prediction could match both, as the scorers have it."""
    lengths = np.diff(index.lane_starts)
    frames = np.repeat(np.arange(len(index)), np.diff(index.frame_starts))
    lanes = np.flatnonzero(lengths >= 2)
    ends = [index.points[index.lane_starts[lanes]], index.points[index.lane_starts[lanes + 1] - 1]]
    sums = [np.bincount(_lane_of_point(index), along, len(lengths))[lanes] for along in index.points.T]
    # Equal lanes lie beside each other in the order of these.
    keys = np.column_stack([frames[lanes], lengths[lanes], *ends, *sums])
    order = np.lexsort(keys.T)
    double = np.zeros(len(lengths), np.bool_)
    for place in np.flatnonzero((np.diff(keys[order], axis=0) == 0).all(axis=1)):
        one, other = (
            index.points[index.lane_starts[lane] : index.lane_starts[lane + 1]]
            for lane in lanes[order[place : place + 2]]
        )
        double[lanes[order[place + 1]]] = np.array_equal(one, other)
    return grouped(
        "warning", "double-lane", _files(index, names, double), f"labels hold {int(double.sum()):,} lanes twice",
        "write each lane once: of two equal ones a scorer counts one as missed",
    )  # fmt: skip
