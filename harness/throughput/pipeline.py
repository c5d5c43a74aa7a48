"""A detector's way from an image to lanes, step by step, on any device and in any mode."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from detectors.base import Detector
from harness.lanes import Geometry
from harness.pytorch.compilation import compiled
from harness.throughput.devices import Timer
from harness.throughput.modes import AUTOCAST, Mode

View = Callable[[int], tuple[npt.NDArray[np.uint8], Geometry]]
"""Position of an image -> what a detector sees of its file, uint8 RGB (3, H, W), and by way of which geometry."""

Frame = tuple[Tensor, Geometry]
"""An image in host memory, uint8 (1, 3, H, W), and its geometry."""


def frames_of(view: View, count: int, *, pin: bool) -> list[Frame]:
    """The first `count` images in host memory, pinned for copies to a GPU. ValueError where image and geometry don't fit."""
    if count < 1:
        raise ValueError("no image: give at least one")
    frames = [frame_of(*view(index)) for index in range(count)]
    return [(image.pin_memory(), geometry) for image, geometry in frames] if pin else frames


def frame_of(pixels: npt.NDArray[np.uint8], geometry: Geometry) -> Frame:
    """One image as a batch of one."""
    if pixels.dtype != np.uint8 or pixels.shape != (3, *geometry.network):
        raise ValueError(f"image is {pixels.dtype} {pixels.shape}, its geometry wants uint8 {(3, *geometry.network)}")
    return torch.from_numpy(np.ascontiguousarray(pixels))[None], geometry


@contextmanager
def deployed(detector: Detector, device: torch.device, mode: Mode) -> Iterator[None]:
    """The detector in evaluation on `device`, in the mode's layout; put back into the mode and layout that it was in."""
    was_training = detector.training
    detector.eval().to(device)
    if mode.channels_last:
        detector.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    try:
        yield
    finally:
        if mode.channels_last:
            detector.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        detector.train(was_training)


class Pipeline:
    """One frame, or a batch, after the other, without end. The detector is `deployed`."""

    def __init__(
        self, detector: Detector, view: View, frames: Sequence[Frame], device: torch.device, mode: Mode
    ) -> None:
        self.detector = detector
        self.network: Callable[[Tensor], Any] = compiled(detector) if mode.compiled else detector
        self.view = view
        self.frames = frames
        self.device = device
        self.mode = mode
        self.turn = 0

    def next_frames(self, count: int) -> tuple[Tensor, list[Geometry]]:
        """The next `count` frames in turn, as a batch in host memory."""
        taken = [self.frames[(self.turn + offset) % len(self.frames)] for offset in range(count)]
        self.turn += count
        images = taken[0][0] if count == 1 else torch.cat([image for image, _ in taken])
        if self.device.type == "cuda" and not images.is_pinned():
            images = images.pin_memory()
        return images, [geometry for _, geometry in taken]

    def forward(self, images: Tensor) -> Any:
        """The network, in the mode that is measured, on images that lie on the device."""
        dtype = AUTOCAST.get(self.mode.precision)
        with torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None):
            return self.network(images.contiguous(memory_format=self.mode.memory_format))

    def lanes(self, images: Tensor, geometries: Sequence[Geometry]) -> None:
        """From host memory to lanes in original pixels."""
        self.detector.decode(self.forward(images.to(self.device, non_blocking=True)), geometries)

    def whole(self, timer: Timer, count: int = 1) -> int:
        """Nanoseconds of the next `count` frames, together, from host memory to lanes."""
        images, geometries = self.next_frames(count)
        timer.synchronise()
        start = timer.now()
        self.lanes(images, geometries)
        timer.synchronise()
        return timer.now() - start

    def regions(self, timer: Timer) -> tuple[int, int, int]:
        """Nanoseconds of the copy to the device, of the model and of post-processing for one frame."""
        image, geometries = self.next_frames(1)
        timer.synchronise()
        marks = [timer.mark()]
        on_device = image.to(self.device, non_blocking=True)
        marks.append(timer.mark())
        outputs = self.forward(on_device)
        marks.append(timer.mark())
        self.detector.decode(outputs, geometries)
        marks.append(timer.mark())
        timer.synchronise()
        copied, modelled, decoded = (timer.between(*pair) for pair in pairwise(marks))
        return copied, modelled, decoded

    def from_file(self, timer: Timer) -> tuple[int, int]:
        """Nanoseconds of one frame's reading (decoding, cropping, resizing), and of its whole way from file to lanes."""
        position = self.turn % len(self.frames)
        self.turn += 1
        timer.synchronise()
        start = time.perf_counter_ns()
        image, geometry = frame_of(*self.view(position))
        read = time.perf_counter_ns()
        self.lanes(image, [geometry])
        timer.synchronise()
        return read - start, time.perf_counter_ns() - start
