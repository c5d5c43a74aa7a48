"""Lanes as the page draws them: few points, in whole pixels, the same on every machine."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from harness.lanes import PIXEL_FRACTION, Lane
from harness.publishing.rescoring import LONGEST_SIDE

TOLERANCE = Fraction(1, 1200)
"""How far a drawn line may lie beside the lane, of the frame's width: a third of a pixel of its picture."""

MOST_POINTS = 1000
"""Of a lane are looked at. None that a detector finds has as many; a stranger's with a million would take hours."""


def polylines(lanes: Sequence[Lane], size: tuple[int, int]) -> list[list[int]]:
    """Lanes as x, y, x, y, ... in whole pixels of the frame, left to right at their near ends, without points that a line needs not."""
    visible = sorted((lane for lane in lanes if len(lane) > 1), key=lambda lane: float(lane.points[0, 0]))
    drawn = []
    for lane in visible:
        some = np.linspace(0, len(lane) - 1, min(len(lane), MOST_POINTS)).round().astype(int)
        points = np.clip(np.nan_to_num(lane.points[some]), -LONGEST_SIDE, LONGEST_SIDE)
        eighths = np.rint(points * PIXEL_FRACTION).astype(np.int64)
        kept = needed_points(eighths, size[1] * PIXEL_FRACTION * TOLERANCE)
        drawn.append(np.rint(eighths[kept] / PIXEL_FRACTION).astype(int).ravel().tolist())
    return drawn


def needed_points(points: npt.NDArray[np.int64], tolerance: Fraction) -> list[int]:
    """The places of those points (N, 2) that a line through them needs, for no other to lie farther beside it than `tolerance`.

    By Douglas and Peucker (Cartographica 10, 1973), exactly: what OpenCV's approxPolyDP keeps depends on its release, and a page has to
    come out byte for byte wherever it is made again.
    """
    kept, parts = {0, len(points) - 1}, [(0, len(points) - 1)]
    while parts:
        first, last = parts.pop()
        if last - first < 2:
            continue
        chord, others = points[last] - points[first], points[first + 1 : last] - points[first]
        if chord.any():
            beside = np.abs(others @ np.array([-chord[1], chord[0]]))  # times the length of the chord
            limit = tolerance**2 * int(chord @ chord)
        else:
            beside, limit = np.abs(others).max(axis=1), tolerance**2
        farthest = int(beside.argmax())
        if int(beside[farthest]) ** 2 > limit:
            middle = first + 1 + farthest
            kept.add(middle)
            parts += [(first, middle), (middle, last)]
    return sorted(kept)
