"""Pictures to predict, one after the other, and their lanes, a batch at a time. What is wrong with one doesn't stop the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from detectors.base import Detector
from harness.datasets.images import Image, read_image
from harness.datasets.videos import Video
from harness.errors import InputError
from harness.inference import view_of
from harness.lanes import Lane
from harness.prediction.sources import Source
from harness.training.augmentation import FrameGeometry, ReducedImage, read_reduced, reduced


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture. name: of its outputs, without a suffix; file: what a list of predictions calls it; both as in `Source`.

    image: as a detector wants it read. whole: gives it at full size, uint8 RGB (H, W, 3).
    """

    source: Source
    name: str
    file: str
    image: ReducedImage
    whole: Callable[[], Image]


def image_files(sources: Iterable[Source], geometry_of: FrameGeometry) -> Iterator[Picture | InputError]:
    """Image files, read exactly as training and evaluation read them; in the place of a damaged one, what is wrong."""
    for source in sources:
        try:
            image = read_reduced(source.path, geometry_of)
        except InputError as fault:
            yield fault
        else:
            yield Picture(source, source.name, source.file, image, partial(read_image, source.path))


def video_frames(
    source: Source, video: Video, geometry_of: FrameGeometry, every: int
) -> Iterator[Picture | InputError]:
    """Frames 0, every, 2 every, ... of a video, named by their numbers; behind the last one what is wrong, if it is cut short."""
    with closing(video):
        try:
            for number, frame in video.every(every):
                name = f"{number:06d}"
                image = reduced(frame, geometry_of)
                yield Picture(source, f"{source.name}/{name}", f"{source.file}/{name}", image, partial(_itself, frame))
        except InputError as fault:
            yield fault


def _itself(frame: Image) -> Image:
    return frame


def lanes_of(
    detector: Detector,
    pictures: Iterable[Picture | InputError],
    *,
    device: torch.device,
    batch_size: int,
    faults: list[InputError],
) -> Iterator[tuple[Picture, list[Lane]]]:
    """Each picture with its lanes, in its own pixels. Faults among the pictures are added to `faults` as they come.

    The detector is on `device` and in eval mode. No more than a batch is ever held.
    """
    batch: list[Picture] = []
    for picture in pictures:
        if isinstance(picture, InputError):
            faults.append(picture)
            continue
        batch.append(picture)
        if len(batch) == batch_size:
            yield from zip(batch, _detected(detector, batch, device), strict=True)
            batch = []
    if batch:
        yield from zip(batch, _detected(detector, batch, device), strict=True)


def _detected(detector: Detector, batch: list[Picture], device: torch.device) -> list[list[Lane]]:
    views = [view_of(detector, picture.image) for picture in batch]
    pixels = torch.stack([torch.from_numpy(view) for view, _ in views]).to(device)
    with torch.inference_mode():
        found = detector.decode(detector(pixels), [geometry for _, geometry in views])
    for picture, lanes in zip(batch, found, strict=True):
        if any(np.isnan(lane.points).any() for lane in lanes):
            name = detector.meta.name
            raise InputError(f"{picture.file}: {name} gives coordinates that are no numbers; its weights are broken")
    return found
