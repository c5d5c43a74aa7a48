"""Decoded images that all loader workers share, so that a small dataset is decoded once."""

from __future__ import annotations

import mmap
from dataclasses import replace

import numpy as np

from harness.datasets.images import Image
from harness.training.augmentation import ReducedImage

GIGABYTE = 10**9


class SharedPixels:
    """Images of one shape (h, w, 3), by index, in memory that forked workers share with their parent.

    images: how many there are; the first `byte_limit` bytes' worth of them have a place, whatever the count of workers, and memory
    is taken only as they are put. It is an anonymous mapping and not /dev/shm, which containers keep small.
    """

    def __init__(self, shape: tuple[int, ...], *, images: int, byte_limit: int) -> None:
        size = int(np.prod(shape))
        self.capacity = min(images, byte_limit // size)
        if self.capacity:
            memory = mmap.mmap(-1, self.capacity * (size + 1))
            everything = np.frombuffer(memory, dtype=np.uint8)
            self._filled = everything[: self.capacity]
            self._pixels = everything[self.capacity :].reshape(self.capacity, *shape)

    def get(self, index: int) -> Image | None:
        """The image at an index; None if it isn't there."""
        if index >= self.capacity or not self._filled[index]:
            return None
        found: Image = self._pixels[index]
        return found

    def put(self, index: int, image: Image) -> None:
        """Keep an image if it has a place. Two workers that put the same one write the same bytes."""
        if index < self.capacity:
            self._pixels[index] = image
            self._filled[index] = 1


class SharedImageCache:
    """Reduced images of the frames of a split, by index, as `SharedPixels` keeps them.

    template: the reduced form of one frame; frames of another size aren't kept.
    """

    def __init__(self, template: ReducedImage, *, frames: int, byte_limit: int) -> None:
        self._template = template
        self._kept = SharedPixels(template.pixels.shape, images=frames, byte_limit=byte_limit)

    @property
    def capacity(self) -> int:
        """How many images have a place."""
        return self._kept.capacity

    def get(self, index: int) -> ReducedImage | None:
        """The image at an index; None if it isn't there."""
        pixels = self._kept.get(index)
        return None if pixels is None else replace(self._template, pixels=pixels)

    def put(self, index: int, image: ReducedImage) -> None:
        """Keep an image if it has a place and the template's size."""
        if image.original == self._template.original:
            self._kept.put(index, image.pixels)
