"""The IoU of every label lane with every predicted lane, both painted as thick lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from harness.metrics.painted_lanes import Ious, PaintedLanes, ious
from harness.metrics.thick_line import (
    HALF,
    NOWHERE,
    STAMP_REACH,
    Canvas,
    Integers,
    Pixels,
    paint_polyline,
    painted_runs,
    quadrilateral_reach,
)

Polylines = tuple[Pixels, Integers]
"""Points int32 (N, 2) of several lanes and where each lane ends in them."""


def disc_half_widths(thickness: int) -> npt.NDArray[np.int64]:
    """Half widths of the rows -radius..radius of the disc at a line's end (OpenCV's midpoint circle)."""
    radius = (thickness * HALF + HALF) >> 16
    half_widths = np.zeros(2 * radius + 1, np.int64)
    error, dx, dy, plus, minus = 0, radius, 0, 1, 2 * radius - 1
    while dx >= dy:
        for row, half in ((dy, dx), (dx, dy)):
            half_widths[radius - row] = max(half_widths[radius - row], half)
            half_widths[radius + row] = max(half_widths[radius + row], half)
        dy += 1
        error += plus
        plus += 2
        if error > 0:
            error -= minus
            dx -= 1
            minus -= 2
    return half_widths


def make_stamps(thickness: int, half_widths: Integers) -> Integers:
    """The spans of every short segment: int64 (2 reach + 1, 2 reach + 1, 2, rows + 1), indexed by dy and dx plus reach.

    Entry [.., 0, row] is the leftmost pixel, [.., 1, row] the rightmost, relative to the first end's x; row 0 lies a radius above
    the upper end. After a segment's last row come the reach of its quadrilateral in x and in y beyond its ends, in fixed point:
    where that lies inside the image, a segment's pixels depend on (dx, dy) alone. A few nearly horizontal segments have a row of two
    spans; their reach is beyond any image, so that they are never taken from here.
    """
    reach, radius = STAMP_REACH, len(half_widths) // 2
    rows = 2 * radius + 1 + reach
    stamps = np.zeros((2 * reach + 1, 2 * reach + 1, 2, rows + 1), np.int64)
    none = np.zeros((0, 0, 0, 0), np.int64)
    margin = radius + 1
    side = 2 * margin + 1 + reach
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            canvas, bounds = new_canvas(side, side)
            x, y = margin - min(dx, 0), margin - min(dy, 0)
            segment = np.array([[x, y], [x + dx, y + dy]], np.int32)
            paint_polyline(canvas, bounds, side, thickness, half_widths, none, new_spans(side, half_widths), segment)
            pixels = np.unpackbits(canvas.view(np.uint8), axis=1, bitorder="little")[1 : 2 * radius + abs(dy) + 2]
            stamp = stamps[dy + reach, dx + reach]
            begins, ends = pixels.argmax(axis=1), pixels.shape[1] - pixels[:, ::-1].argmax(axis=1)
            stamp[0, : len(pixels)], stamp[1, : len(pixels)] = begins - x, ends - 1 - x
            whole = np.array_equal(ends - begins, pixels.sum(axis=1))
            stamp[:, len(pixels)] = np.abs(quadrilateral_reach(dx, dy, thickness)) if whole else NOWHERE
    return stamps


def new_canvas(height: int, width: int) -> tuple[Canvas, Integers]:
    """An empty canvas of that size in pixels, with its bounds."""
    words = (width + 63) // 64
    return np.zeros((height, words), np.uint64), np.tile(np.array([words, 0]), (height, 1))


def new_spans(height: int, half_widths: Integers) -> Integers:
    """Room for the present span of each row: int64 (2, rows), first and last pixel, empty; also for rows off the image."""
    rows = height + 2 * (len(half_widths) // 2 + STAMP_REACH) + 1
    return np.stack([np.full(rows, NOWHERE), np.full(rows, -NOWHERE)])


@dataclass(frozen=True, eq=False)
class Painter:
    """Paints and compares lanes on images of `size` (height, width) with lines `thickness` pixels thick. For one thread at a time.

    Raises ValueError for lines of less than 2 pixels, which OpenCV doesn't paint as quadrilaterals with discs.
    """

    size: tuple[int, int]
    thickness: int
    tables: tuple[Integers, Integers, Integers] = field(init=False, repr=False)
    canvas: tuple[Canvas, Integers] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Make the tables and a clear canvas."""
        if self.thickness < 2:
            raise ValueError(f"lines of {self.thickness} px are painted by other rules of OpenCV's; give 2 or more")
        half_widths = disc_half_widths(self.thickness)
        tables = half_widths, make_stamps(self.thickness, half_widths), new_spans(self.size[0], half_widths)
        object.__setattr__(self, "tables", tables)
        object.__setattr__(self, "canvas", new_canvas(*self.size))

    def painted(self, lanes: Polylines) -> PaintedLanes:
        """What each lane paints; parts outside the image are left out, a lane of fewer than two points paints nothing.

        Raises ZeroDivisionError for a lane that the official program crashes on; the painter is of no use after that.
        """
        pixels, ends = lanes
        runs, run_ends, points = painted_runs(pixels, ends, self.size[1], self.thickness, *self.tables, *self.canvas)
        return PaintedLanes(runs.reshape(-1, 2), run_ends, points)

    def ious(self, labels: Polylines, predictions: Polylines) -> Ious:
        """`painted_lanes.ious` of both painted; nothing is painted where one side has no lane."""
        if not (len(labels[1]) and len(predictions[1])):
            return np.zeros((len(labels[1]), len(predictions[1])))
        return ious(self.painted(labels), self.painted(predictions))


def polylines(lanes: Sequence[Pixels]) -> Polylines:
    """Lanes of int32 points (N, 2) put one after the other."""
    ends = np.cumsum([len(lane) for lane in lanes], dtype=np.int64)
    pixels = np.concatenate(lanes) if lanes else np.empty((0, 2), np.int32)
    return np.ascontiguousarray(pixels), ends  # one memory layout, so that one compiled version serves all
