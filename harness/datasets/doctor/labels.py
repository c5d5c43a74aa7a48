"""What is odd about labels, seen on the arrays of the label index at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from harness.datasets.base import Frame
from harness.datasets.doctor.findings import Finding, grouped
from harness.datasets.doctor.layouts import Place
from harness.datasets.doctor.sources import CULANE_PAGE
from harness.datasets.index import LabelIndex

OUTSIDE = 1.0
"""A point further out than this many widths or heights of the image isn't a lane that leaves it."""

TYPICAL = 0.99
"""The quantile of the points that tells for which image size labels were made."""
LOWEST_NEAR_END, HIGHEST = 0.6, 1.1
"""Where, in heights and widths of the image, that quantile lies if the size is right."""

EMPTY_SHARE = 0.5
"""Of the labels of a split, at most so many are empty in a dataset of roads."""

EMPTY_SCENARIO = "cross"
"""CULane's scenario whose images have no lanes."""


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
    wrong_size = _wrong_size(index, names, size)
    if wrong_size:
        return found + wrong_size
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
    return [Finding("warning", "empty-labels", empty[0], what, place.restore(public))]


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
    if LOWEST_NEAR_END * height <= low <= HIGHEST * height and right <= HIGHEST * width:
        return []
    what = (
        f"the images are {width} x {height}, but the labels reach to x = {right:.0f}, y = {low:.0f} (quantile {TYPICAL}): "
        "they seem made for images of another size"
    )
    return [Finding("error", "label-size", names[0], what, "scale the labels or the images (--sheet FILE shows both)")]
