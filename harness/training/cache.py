"""Decoded images that all loader workers share, so that a small dataset is decoded once."""

from __future__ import annotations

import mmap
from dataclasses import replace

import numpy as np

from harness.training.augmentation import ReducedImage


class SharedImageCache:
    """Reduced images of equal size, by index, in memory that forked workers share with their parent.

    template: the reduced form of one frame; frames of another size aren't kept. frames: how many there are; the first
    `byte_limit` bytes' worth of them have a place, and memory is taken only as they are put. It is an anonymous mapping and not
    /dev/shm, which containers keep small.
    """

    def __init__(self, template: ReducedImage, *, frames: int, byte_limit: int) -> None:
        self._template = template
        self.capacity = min(frames, byte_limit // template.pixels.nbytes)
        if self.capacity:
            memory = mmap.mmap(-1, self.capacity * (template.pixels.nbytes + 1))
            everything = np.frombuffer(memory, dtype=np.uint8)
            self._filled = everything[: self.capacity]
            self._pixels = everything[self.capacity :].reshape(self.capacity, *template.pixels.shape)

    def get(self, index: int) -> ReducedImage | None:
        """The image at an index; None if it isn't there."""
        if index >= self.capacity or not self._filled[index]:
            return None
        return replace(self._template, pixels=self._pixels[index])

    def put(self, index: int, image: ReducedImage) -> None:
        """Keep an image if it has a place and the template's size. Two workers that put the same one write the same bytes."""
        if index < self.capacity and image.original == self._template.original:
            self._pixels[index] = image.pixels
            self._filled[index] = 1
