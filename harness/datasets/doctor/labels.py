"""What is odd about labels, seen on the arrays of the label index at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from harness.datasets.doctor.findings import Finding, grouped
from harness.datasets.index import LabelIndex

OUTSIDE = 1.0
"""A point further out than this many widths or heights of the image isn't a lane that leaves it."""

TYPICAL = 0.99
"""The quantile of the points that tells for which image size labels were made."""
LOWEST_NEAR_END, HIGHEST = 0.6, 1.1
"""Where, in heights and widths of the image, that quantile lies if the size is right."""


def label_findings(index: LabelIndex, names: Sequence[str], size: tuple[int, int] | None) -> list[Finding]:
    """Findings on the labels of a split. names: the label file of each frame. size: (height, width) of the images."""
    frame_of_lane = np.repeat(np.arange(len(index)), np.diff(index.frame_starts))
    lengths = np.diff(index.lane_starts)
    lane_of_point = np.repeat(np.arange(len(lengths)), lengths)

    def files(lanes: npt.NDArray[np.bool_]) -> list[str]:
        return [names[frame] for frame in np.unique(frame_of_lane[lanes])]

    found = []
    short = lengths < 2
    found += grouped(
        "note", "short-lane", files(short), f"labels hold {int(short.sum()):,} lanes of fewer than two points",
        "nothing: the official evaluator counts them as lanes, training leaves them out",
    )  # fmt: skip
    upward = _steps(index, lane_of_point, lambda rise: rise < 0, len(lengths))
    downward = _steps(index, lane_of_point, lambda rise: rise > 0, len(lengths))
    found += grouped(
        "warning", "reversed-lane", files(downward & ~upward), "labels hold lanes from top to bottom",
        "the harness turns them round; write lanes from the near end to the far end for the official tools",
    )  # fmt: skip
    found += grouped(
        "warning", "zigzag-lane", files(downward & upward), "labels hold lanes whose points go up and down again",
        "look at them (--sheet FILE); sort the points if they are in a wrong order",
    )  # fmt: skip
    if size is None or not len(index.points):
        return found
    wrong_size = _wrong_size(index, names, size)
    if wrong_size:
        return found + wrong_size
    x, y = index.points.T
    height, width = size
    out = (np.abs(x - width / 2) > (0.5 + OUTSIDE) * width) | (np.abs(y - height / 2) > (0.5 + OUTSIDE) * height)
    return found + grouped(
        "warning", "far-out", files(np.bincount(lane_of_point[out], minlength=len(lengths)) > 0),
        "labels hold points more than an image's size outside the image", "look at them (--sheet FILE) and correct them",
    )  # fmt: skip


def _steps(index: LabelIndex, lane_of_point, which, lanes: int) -> npt.NDArray[np.bool_]:  # type: ignore[no-untyped-def]
    """Whether each lane has a step from point to point whose change of row fulfils `which`."""
    inside = lane_of_point[1:] == lane_of_point[:-1]
    chosen = inside & which(np.diff(index.points[:, 1]))
    return np.bincount(lane_of_point[1:][chosen], minlength=lanes) > 0


def _wrong_size(index: LabelIndex, names: Sequence[str], size: tuple[int, int]) -> list[Finding]:
    height, width = size
    x, y = index.points.T
    right, low = np.quantile(np.clip(x, 0, None), TYPICAL), np.quantile(y, TYPICAL)
    if LOWEST_NEAR_END * height <= low <= HIGHEST * height and right <= HIGHEST * width:
        return []
    what = (
        f"the images are {width} x {height}, but the labels reach to x = {right:.0f}, y = {low:.0f} (quantile {TYPICAL}): "
        "they seem made for images of another size"
    )
    return [Finding("error", "label-size", names[0], what, "scale the labels or the images (--sheet FILE shows both)")]
