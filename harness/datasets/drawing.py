"""Pictures of lanes."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from harness.datasets.images import Image
from harness.lanes import Lane

COLOURS = ((0, 190, 255), (255, 176, 0), (120, 220, 60), (255, 84, 112), (178, 110, 255), (0, 224, 190))
"""RGB of the lanes of an overlay, in turn."""

_SUBPIXEL_BITS = 4


def draw_lanes(image: Image, lanes: Sequence[Lane], labels: Sequence[Lane] | None = None) -> Image:
    """A copy of an RGB image (H, W, 3) with lanes drawn in colours, left to right at their near ends, and labels as thin white lines.

    Lanes are in pixels of the image; a lane of fewer than two points draws nothing.
    """
    canvas = np.ascontiguousarray(image).copy()
    width = max(2, round(canvas.shape[1] / 240))
    visible = [lane for lane in lanes if len(lane) > 1]
    for number, lane in enumerate(sorted(visible, key=lambda lane: float(lane.points[0, 0]))):
        # A dark edge keeps every colour readable on bright road as well as on dark.
        _draw(canvas, lane, (20, 20, 20), width + 2)
        _draw(canvas, lane, COLOURS[number % len(COLOURS)], width)
    for lane in labels or ():
        if len(lane) > 1:
            _draw(canvas, lane, (255, 255, 255), 1)
    return canvas


def _draw(canvas: Image, lane: Lane, colour: tuple[int, int, int], thickness: int) -> None:
    finite = lane.points[np.isfinite(lane.points).all(axis=1)]
    # Far outside the picture OpenCV's fixed-point coordinates would overflow.
    points = np.round(np.clip(finite, -1e5, 1e5) * 2**_SUBPIXEL_BITS).astype(np.int32)
    cv2.polylines(canvas, [points[:, None]], False, colour, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)
