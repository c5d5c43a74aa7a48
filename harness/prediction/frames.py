"""Pictures to predict, one after the other, and their lanes, a batch at a time. What is wrong with one doesn't stop the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from detectors.base import Detector
from harness.datasets.images import Image, read_image
from harness.datasets.videos import Video
from harness.errors import InputError
from harness.inference.predict import decoded
from harness.inference.soundness import check_sound
from harness.lanes import Geometry, Lane, Part
from harness.prediction.sources import Source
from harness.training.augmentation import FrameGeometry, ReducedImage, planes, read_reduced, reduced, warped


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture. name: of its outputs, without a suffix; file: what a list of predictions calls it; both as in `Source`.

    view: what the detector sees, uint8 RGB (3, H, W), by way of `geometry`. whole: gives the picture, uint8 RGB (H, W, 3).
    """

    source: Source
    name: str
    file: str
    view: npt.NDArray[np.uint8]
    geometry: Geometry
    whole: Callable[[], Image]


@dataclass(frozen=True)
class Viewer:
    """How a detector looks at pictures: at all of each, or at one `part` of each as if that were its frame."""

    frame_geometry: FrameGeometry
    part: Part | None = None

    def geometry_of(self, source: Source) -> FrameGeometry:
        """(height, width) of a picture -> its geometry; InputError, naming the source, where the part doesn't fit into it."""

        def geometry(size: tuple[int, int]) -> Geometry:
            if self.part is None:
                return self.frame_geometry(size)
            if not self.part.fits(size):
                where = f"{source.path}: {size[1]}x{size[0]} pixels"
                raise InputError(f"{where}, too small for the crop {self.part}; give one that lies in the picture")
            return self.part.geometry(self.frame_geometry((self.part.height, self.part.width)), size)

        return geometry

    def images(self, sources: Iterable[Source]) -> Iterator[Picture | InputError]:
        """Image files, read exactly as training and evaluation read them; in the place of a damaged one, what is wrong."""
        for source in sources:
            geometry_of = self.geometry_of(source)
            try:
                image = read_reduced(source.path, geometry_of)
            except InputError as fault:
                yield fault
            else:
                whole = partial(read_image, source.path)
                yield _picture(source, source.name, source.file, image, geometry_of, whole)

    def frames(self, source: Source, video: Video, every: int) -> Iterator[Picture | InputError]:
        """Frames 0, every, 2 every, ... of a video, named by their numbers; behind the last what is wrong, if it is cut short."""
        geometry_of = self.geometry_of(source)
        with closing(video):
            try:
                for number, frame in video.every(every):
                    name, file = f"{source.name}/{number:06d}", f"{source.file}/{number:06d}"
                    image = reduced(frame, geometry_of)
                    yield _picture(source, name, file, image, geometry_of, partial(_itself, frame))
            except InputError as fault:
                yield fault


def pictures_of(detector: Detector, sources: Iterable[Source], part: Part | None) -> list[Picture]:
    """All image files as a detector sees them. InputError for the first that can't be read or is smaller than the part."""
    pictures = []
    for picture in Viewer(detector.geometry_of, part).images(sources):
        if isinstance(picture, InputError):
            raise picture
        pictures.append(picture)
    return pictures


def _itself(frame: Image) -> Image:
    return frame


def _picture(
    source: Source, name: str, file: str, image: ReducedImage, geometry_of: FrameGeometry, whole: Callable[[], Image]
) -> Picture:
    geometry = geometry_of(image.original)
    return Picture(source, name, file, planes(warped(image, geometry)), geometry, whole)


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
    pixels = torch.from_numpy(np.stack([picture.view for picture in batch])).to(device)
    with torch.inference_mode():
        found = decoded(detector, detector(pixels), [picture.geometry for picture in batch])
    for picture, lanes in zip(batch, found, strict=True):
        check_sound(lanes, detector, picture.file)
    return found
