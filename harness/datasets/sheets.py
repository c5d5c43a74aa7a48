"""Contact sheets: one JPEG with many small pictures, each with a caption."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from harness.datasets.images import Image, write_jpeg

JPEG_QUALITY = 88

CAPTION_PLACE = (14, 34)
"""(x, y) in pixels where a caption of size 1 begins, its baseline's left end; OpenCV's letters of that size are some 22 pixels high."""


def tile(image: Image, width: int, caption: str, caption_size: float = 0.7) -> Image:
    """An RGB image (H, W, 3) made `width` pixels wide, proportions kept, with a caption at its upper left, readable on any ground."""
    height = round(width * image.shape[0] / image.shape[1])
    small = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    place = (round(CAPTION_PLACE[0] * caption_size), round(CAPTION_PLACE[1] * caption_size))
    for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(small, caption, place, cv2.FONT_HERSHEY_SIMPLEX, caption_size, colour, thickness, cv2.LINE_AA)
    return small


def write_sheet(path: Path, tiles: Sequence[Image], columns: int) -> None:
    """Write tiles of one width, row by row from the left, on white; at least one tile. Fewer than `columns` make one shorter row."""
    columns = min(columns, len(tiles))
    height = max(len(tile) for tile in tiles)
    level = [np.pad(tile, ((0, height - len(tile)), (0, 0), (0, 0)), constant_values=255) for tile in tiles]
    level += [np.full_like(level[0], 255)] * (-len(level) % columns)
    rows = [np.hstack(level[start : start + columns]) for start in range(0, len(level), columns)]
    write_jpeg(path, np.asarray(np.vstack(rows), np.uint8), JPEG_QUALITY)
