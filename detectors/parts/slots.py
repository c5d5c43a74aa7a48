"""The order of lanes: detectors with a fixed number of outputs give each of them, its slot, one place among an image's lanes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

LANES = 4
"""Slots, from left to right: outer left, ego left, ego right, outer right."""


def slots_of(
    polylines: Sequence[npt.NDArray[np.float64]], network: tuple[int, int], *, slots: int = LANES
) -> dict[int, int]:
    """Index of each placed polyline (network pixels, two points or more) -> its slot, of an even number of `slots`.

    Lanes are ordered by where they cross the bottom of the frame; those left of its centre fill the left half of the slots from ego
    left outwards, the others the right half from ego right. Where a side has more lanes than slots, the nearest the centre are placed.
    """
    height, width = network
    offsets = np.array([_bottom_crossing(polyline, height - 0.5) for polyline in polylines]) - (width - 1) / 2
    placed: dict[int, int] = {}
    middle = slots // 2
    for side, outwards in ((offsets < 0, range(middle - 1, -1, -1)), (offsets >= 0, range(middle, slots))):
        nearest = sorted(np.flatnonzero(side), key=lambda index: abs(offsets[index]))
        placed |= {int(index): slot for index, slot in zip(nearest, outwards, strict=False)}
    return placed


def _bottom_crossing(polyline: npt.NDArray[np.float64], bottom: float) -> float:
    """x where a polyline crosses the row `bottom`, the near end prolonged along its first stretch; its own x where that lies flat."""
    ordered = polyline if polyline[0, 1] >= polyline[-1, 1] else polyline[::-1]
    stretch = ordered[: max(2, len(ordered) // 4)]
    above = ordered[:, 1] < bottom
    if above.any() and not above[0]:
        first = int(above.argmax())
        stretch = ordered[first - 1 : first + 1]
    (x0, y0), (x1, y1) = stretch[0], stretch[-1]
    if y0 - y1 <= 1e-3 * abs(x1 - x0):
        return float(x0)
    return float(x0 + (bottom - y0) * (x1 - x0) / (y1 - y0))
