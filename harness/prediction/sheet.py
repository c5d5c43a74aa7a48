"""One picture of what several detectors find in the same images: a row a detector, a column an image."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch

from detectors.base import Detector
from harness.datasets.drawing import draw_lanes
from harness.datasets.images import Image
from harness.errors import InputError
from harness.lanes import Lane, Part
from harness.prediction.frames import Viewer, lanes_of
from harness.prediction.sources import Source

TILE = (180, 400)
"""(height, width) in pixels of one image in the sheet, in which it is shown whole, its proportions kept."""

LABEL_WIDTH = 300
"""Pixels, of the column that says whose lanes a row shows."""

WHITE, INK = 255, (30, 30, 30)

LONGEST_SIDE = 65_500
"""Pixels of a JPEG."""


def lanes_in(
    detector: Detector, sources: Sequence[Source], part: Part | None, device: torch.device
) -> list[list[Lane]]:
    """The lanes of every image, in pixels of the whole image, of which the detector is shown all or a `part`.

    Moves the detector to `device`, in eval mode. InputError for an image that can't be read or is smaller than the part.
    """
    faults: list[InputError] = []
    pictures = Viewer(detector.geometry_of, part).images(sources)
    found = lanes_of(detector.to(device).eval(), pictures, device=device, batch_size=1, faults=faults)
    lanes = [lanes for _, lanes in found]
    if faults:
        raise faults[0]
    return lanes


def check_size(images: int, rows: int) -> None:
    """InputError if a sheet of so many images and rows is more than a JPEG holds."""
    if rows * TILE[0] > LONGEST_SIDE or LABEL_WIDTH + images * TILE[1] > LONGEST_SIDE:
        raise InputError(f"{rows} cells and {images} images are more than one page holds; choose cells with --only")


def comparison_sheet(images: Sequence[Image], rows: Sequence[tuple[str, Sequence[Sequence[Lane]]]]) -> Image:
    """uint8 RGB: every row a label, then all images, each with that row's lanes, which are in pixels of the whole image.

    images: at least one, uint8 RGB (H, W, 3), of any sizes. rows: at least one, each with the lanes of every image.
    """
    tiles = [_Tile(image) for image in images]
    drawn = [
        np.hstack([_label(label), *(tile.with_lanes(found) for tile, found in zip(tiles, lanes, strict=True))])
        for label, lanes in rows
    ]
    return np.asarray(np.vstack(drawn), dtype=np.uint8)


class _Tile:
    """An image in the middle of a white tile."""

    def __init__(self, image: Image) -> None:
        height, width = image.shape[:2]
        scale = min(TILE[0] / height, TILE[1] / width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        self.small: Image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        self.scales = np.array([size[0] / width, size[1] / height])
        self.top, self.left = (TILE[0] - size[1]) // 2, (TILE[1] - size[0]) // 2

    def with_lanes(self, lanes: Sequence[Lane]) -> Image:
        """The tile with lanes, which are drawn at its own size to be seen."""
        placed = [Lane((lane.points + 0.5) * self.scales - 0.5, lane.score) for lane in lanes]
        tile = np.full((*TILE, 3), WHITE, dtype=np.uint8)
        height, width = self.small.shape[:2]
        tile[self.top : self.top + height, self.left : self.left + width] = draw_lanes(self.small, placed)
        return tile


def _label(text: str) -> Image:
    """Words on white, a line each, as large as the widest allows."""
    label = np.full((TILE[0], LABEL_WIDTH, 3), WHITE, dtype=np.uint8)
    lines = text.split()
    widest = max(cv2.getTextSize(line, cv2.FONT_HERSHEY_SIMPLEX, 1.0, 1)[0][0] for line in lines)
    scale = min(0.7, (LABEL_WIDTH - 20) / widest)
    for number, line in enumerate(lines):
        place = (10, TILE[0] // 2 + 30 * number - 15 * (len(lines) - 1))
        cv2.putText(label, line, place, cv2.FONT_HERSHEY_SIMPLEX, scale, INK, 1, cv2.LINE_AA)
    return label
