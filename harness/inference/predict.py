"""Lanes of any images."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from detectors.base import Detector
from harness.inference.detector import with_confidence_threshold
from harness.inference.soundness import check_sound
from harness.lanes import Geometry, Lane
from harness.training.augmentation import FrameGeometry, planes, read_reduced, warped
from harness.training.loading import batches_in_order
from harness.training.plan import AUTOCAST, Precision

View = Callable[[int], tuple[npt.NDArray[np.uint8], Geometry]]
"""Position of an image -> what a detector sees of it, uint8 RGB (3, H, W), and by way of which geometry."""


@dataclass(frozen=True)
class Settings:
    """Where and how images go through a detector.

    workers: loader processes, 0 for none. progress: called after every batch with (images done, images in all).
    """

    device: torch.device
    batch_size: int = 16
    precision: Precision = "fp32"
    channels_last: bool = False
    workers: int = 0
    progress: Callable[[int, int], None] | None = None


def network_images(detector: Detector, images: Sequence[Path], *, batch_size: int = 16) -> Iterator[Tensor]:
    """The images as the detector sees them without augmentation: uint8 RGB (B, 3, H, W) on the host, in order."""
    view = view_of_files(images, detector.geometry_of)
    with closing(_views(view, len(images), batch_size=batch_size, workers=0, pin_memory=False)) as views:
        for batch in views:
            yield batch["images"]


def predict(detector: Detector, images: Sequence[Path], settings: Settings) -> list[list[Lane]]:
    """The lanes of each image, in the order of `images`, in original pixels of each, whatever its size.

    Moves the detector to the device and leaves it in the mode (train or eval) in which it was. Raises InputError that names an image
    that is missing, truncated or none.
    """
    (lanes,) = predict_at(detector, images, [detector.configuration.recipe.confidence_threshold], settings)
    return lanes


def predict_at(
    detector: Detector, images: Sequence[Path], thresholds: Sequence[float], settings: Settings
) -> list[list[list[Lane]]]:
    """What `predict` gives at each of several confidence thresholds, by one forward of each image; the detector keeps its own."""
    view = view_of_files(images, detector.geometry_of)
    return predict_views(detector, view, [str(image) for image in images], thresholds, settings)


def predict_views(
    detector: Detector, view: View, images: Sequence[str], thresholds: Sequence[float], settings: Settings
) -> list[list[list[Lane]]]:
    """What `predict_at` gives of images, by name, that are seen by `view`; lanes are in the original pixels of its geometries.

    Raises BrokenDetector, which names the image, for a lane that isn't sound.
    """
    device, was_training, own = settings.device, detector.training, detector.meta
    metas = [with_confidence_threshold(own, threshold) for threshold in thresholds]
    detector.to(device).eval()
    memory_format = torch.channels_last if settings.channels_last else torch.contiguous_format
    if settings.channels_last:
        detector.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    dtype = AUTOCAST[settings.precision]
    lanes: list[list[list[Lane]]] = [[] for _ in metas]
    done, count = 0, len(images)
    pinned = device.type == "cuda"
    views = _views(view, count, batch_size=settings.batch_size, workers=settings.workers, pin_memory=pinned)
    try:
        with closing(views), torch.inference_mode():
            for batch in views:
                pixels = batch["images"].to(device, non_blocking=True).contiguous(memory_format=memory_format)
                with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
                    outputs = detector(pixels)
                for found, detector.meta in zip(lanes, metas, strict=True):
                    for image, its_lanes in enumerate(decoded(detector, outputs, batch["geometries"]), start=done):
                        check_sound(its_lanes, detector, images[image])
                        found.append(its_lanes)
                done += len(batch["geometries"])
                if settings.progress:
                    settings.progress(done, count)
    finally:
        detector.meta = own
        detector.train(was_training)
    return lanes


def decoded(detector: Detector, outputs: Any, geometries: Sequence[Geometry]) -> list[list[Lane]]:
    """What a detector decodes of a batch, in memory of its own: an adapter may write its next lanes where it wrote these.

    Raises TypeError where it gives other things than lists of lanes, and ValueError where there isn't one list an image, so that no
    image can get another one's.
    """
    lanes = detector.decode(outputs, geometries)
    _check_lists(lanes, type(detector).__name__)
    if len(lanes) != len(geometries):
        raise ValueError(
            f"decode of {type(detector).__name__} gives lanes of {len(lanes)} images for {len(geometries)}: give a list for "
            "each, empty where it has no lane"
        )
    return [[Lane(lane.points.copy(), lane.score) for lane in image] for image in lanes]


def _check_lists(lanes: Any, name: str) -> None:
    wanted = "give a list of `Lane`s for each image"
    if not isinstance(lanes, Sequence):
        raise TypeError(f"decode of {name} gives a {type(lanes).__name__}; {wanted}")
    for image in lanes:
        if not isinstance(image, Sequence):
            raise TypeError(f"decode of {name} gives a list of {type(image).__name__}; {wanted}")
        for lane in image:
            if not isinstance(lane, Lane):
                raise TypeError(f"decode of {name} gives a {type(lane).__name__} for a lane; {wanted}")


def view_of_files(images: Sequence[Path], geometry_of: FrameGeometry) -> View:
    """Images as they are, without augmentation."""

    def view(index: int) -> tuple[npt.NDArray[np.uint8], Geometry]:
        image = read_reduced(images[index], geometry_of)
        geometry = geometry_of(image.original)
        return planes(warped(image, geometry)), geometry

    return view


def _views(
    view: View, count: int, *, batch_size: int, workers: int, pin_memory: bool
) -> Generator[dict[str, Any], None, None]:
    return batches_in_order(view, _collate, range(count), batch_size=batch_size, workers=workers, pin_memory=pin_memory)


def _collate(views: list[tuple[npt.NDArray[np.uint8], Geometry]]) -> dict[str, Any]:
    return {
        "images": torch.from_numpy(np.stack([image for image, _ in views])),
        "geometries": [geometry for _, geometry in views],
    }
