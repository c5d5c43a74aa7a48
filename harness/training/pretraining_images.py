"""Images for pre-training: decoded once, cropped by a draw that depends on seed and position alone."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from harness.datasets.images import Image, read_image, read_size
from harness.errors import InputError
from harness.methods.config import OracleConfiguration
from harness.training.cache import GIGABYTE, SharedPixels

CACHE_BYTES = 2 * GIGABYTE
"""Decoded images are kept in memory up to this much, by all loader workers together; the rest is read again each time."""


SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
"""Files of a folder that are taken for images."""


MASKS = ("laneseg_label", "seg_label")
"""Beginnings of the names of folders that hold label masks: CULane's and TuSimple's. Their files are images to no one else."""


def images_below(folder: Path, *, smallest: int) -> list[Path]:
    """All images below a folder in the order of their paths, links followed, folders of label masks left out.

    smallest: pixels that the shorter side of each must have. Raises InputError for a folder that isn't there or has no images, and for
    the first image that is too small or whose header can't be read.
    """
    if not folder.is_dir():
        what = (
            "this is a file; give the folder of images that it lies in"
            if folder.is_file()
            else "there is no such folder"
        )
        raise InputError(f"{folder}: {what}")
    found = sorted(
        Path(parent) / name
        for parent, _, names in os.walk(folder, followlinks=True)
        for name in names
        if Path(name).suffix.lower() in SUFFIXES and not is_mask(Path(parent).relative_to(folder))
    )
    if not found:
        raise InputError(
            f"{folder}: holds no images, at any depth ({', '.join(sorted(SUFFIXES))}); give a folder that does"
        )
    for path in found:
        height, width = read_size(path)
        if min(height, width) < smallest:
            raise InputError(
                f"{path}: {width} x {height} pixels are too small, {smallest} are needed on each side: move it out of the folder"
            )
    return found


def is_mask(folder: Path) -> bool:
    """Whether a folder, or one that it lies in, is one of label masks."""
    return any(part.startswith(MASKS) for part in folder.parts)


class Pictures:
    """A list of image files as a source of random crops of one size."""

    def __init__(self, files: Sequence[Path], configuration: OracleConfiguration) -> None:
        self.files = list(files)
        self.size = configuration.image_size
        self.crop_scale = configuration.crop_scale
        self.flip = configuration.flip
        self.batch_size = configuration.batch_size
        self.seed = configuration.seed
        # At this size the smallest crop still has as many pixels as it is resized to.
        enlarged = 1 / math.sqrt(self.crop_scale[0])
        self.kept_size = (math.ceil(self.size[0] * enlarged), math.ceil(self.size[1] * enlarged))
        self._kept = SharedPixels((*self.kept_size, 3), images=len(self.files), byte_limit=CACHE_BYTES)
        self._order: tuple[int, npt.NDArray[np.int64]] = (-1, np.empty(0, np.int64))

    def crop(self, position: int) -> Image:
        """Sample number `position` of the training, uint8 RGB (H, W, 3): part of a frame, of the frame's aspect, maybe mirrored."""
        random = np.random.default_rng([self.seed, 1, position])
        frame = self._frame(self._index(position))
        side = math.sqrt(random.uniform(*self.crop_scale))
        height, width = max(1, round(frame.shape[0] * side)), max(1, round(frame.shape[1] * side))
        top = int(random.integers(frame.shape[0] - height + 1))
        left = int(random.integers(frame.shape[1] - width + 1))
        image = resized(frame[top : top + height, left : left + width], self.size)
        return np.ascontiguousarray(image[:, ::-1]) if random.random() < self.flip else image

    def whole_frames(self, device: torch.device) -> Tensor:
        """All images without augmentation, uint8 RGB (B, 3, H, W)."""
        frames = np.stack([resized(self._frame(index), self.size) for index in range(len(self.files))])
        return torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous().to(device)

    def files_of(self, step: int) -> list[Path]:
        """The files of one batch."""
        return [self.files[self._index(step * self.batch_size + place)] for place in range(self.batch_size)]

    def _index(self, position: int) -> int:
        """Every image once in each epoch, in an order drawn for the epoch."""
        epoch, place = divmod(position, len(self.files))
        if self._order[0] != epoch:
            self._order = (epoch, np.random.default_rng([self.seed, 0, epoch]).permutation(len(self.files)))
        return int(self._order[1][place])

    def _frame(self, index: int) -> Image:
        kept = self._kept.get(index)
        if kept is not None:
            return kept
        path = self.files[index]
        frame = resized(read_image(path, reduction=self._reduction(path)), self.kept_size)
        self._kept.put(index, frame)
        return frame

    def _reduction(self, path: Path) -> int:
        """The coarsest decoding that still has the pixels that are kept."""
        height, width = read_size(path)
        fitting = [r for r in (8, 4, 2) if height // r >= self.kept_size[0] and width // r >= self.kept_size[1]]
        return fitting[0] if fitting else 1


def resized(image: npt.NDArray[np.uint8], size: tuple[int, int]) -> Image:
    """An image resized to (height, width), averaged over areas where it shrinks."""
    shrinks = image.shape[0] >= size[0] and image.shape[1] >= size[1]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (size[1], size[0]), interpolation=interpolation), dtype=np.uint8)


def held_out_split(clips: Sequence[str], share: float, most: int) -> tuple[list[int], list[int]]:
    """Indices of training images and of held-out ones, by clip, so that no scene is in both.

    Which clips are held out (at least one, `share` of them) follows from their names alone. Of their images at most `most` are used,
    evenly spread. A list of a single clip is split by image instead.
    """
    groups = list(clips) if len(set(clips)) > 1 else [str(index) for index in range(len(clips))]
    names = sorted(set(groups), key=lambda name: hashlib.sha256(name.encode()).digest())
    kept = set(names[: min(len(names) - 1, max(1, round(share * len(names))))])
    training = [index for index, group in enumerate(groups) if group not in kept]
    held_out = [index for index, group in enumerate(groups) if group in kept]
    return training, evenly_spread(held_out, most)


def evenly_spread(values: Sequence[int], most: int) -> list[int]:
    """At most `most` of the values, the first and the last among them."""
    if len(values) <= most:
        return list(values)
    return [values[round(place)] for place in np.linspace(0, len(values) - 1, most)]
