"""Frames, augmentations and pictures that the tests of augmentation share."""

from __future__ import annotations

import numpy as np

from detectors.meta import Augmentation
from harness.lanes import plain_geometry

EVERYTHING = Augmentation(flip=0.5, rotation=10, shift_x=0.1, shift_y=0.1, scale=0.2)
CROPPED = EVERYTHING.model_copy(update={"crop": 0.3})
FRAME = (240, 480)
CROP = (40, 0, 240, 480)


def plain(network: tuple[int, int], crop=CROP):
    return lambda size: plain_geometry(size, crop, network)


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(40, 180, (20, 30, 3), dtype=np.uint8)
