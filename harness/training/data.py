"""The stream of training batches: a pure function of seed and position.

Position p of the stream is sample p % B of step p // B, B being the global batch size. Which image it is and how it is augmented
follow from (seed, p) alone: not from the count of workers, nor from what ran before, so a training resumed at step s just asks for
the batches from s on.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from detectors.base import Batch, Detector, stack_targets
from detectors.meta import Augmentation
from harness.datasets.base import Frame
from harness.errors import InputError
from harness.lanes import Geometry, Lane
from harness.training.augmentation import ReducedImage, drawn_change, read_reduced
from harness.training.cache import GIGABYTE, SharedImageCache
from harness.training.loading import batches_in_order
from harness.training.views import views_on

_ORDER = 1
"""Third word of the seeds of permutations, which keeps them apart from those of samples: [seed, position]."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One image, prepared for augmentation or augmented (`Views.prepared`), with its labels: lanes in network pixels, each (P, 2)."""

    image: Any
    targets: dict[str, npt.NDArray[Any]]
    lanes: list[npt.NDArray[np.float32]]
    geometry: Geometry
    id: str


class TrainingStream:
    """Augmented samples of a split, without end, by position.

    frames: the split. lanes: labels of a frame (original pixels), e.g. `Dataset.lanes`. detector: gives the plain geometry and
    encodes targets, in the workers. augmentation and batch_size: the recipe's. seed: of order and augmentation. workers: loader
    processes, 0 for none. cache_bytes: how much memory decoded images may fill (all workers together); what doesn't fit is
    decoded every time, with the same result. pin_memory: page-lock batches, for CUDA. augment_on: a device that makes the images
    of a batch, on which they then lie; None: the workers make them, on the host. share: (k, n) gives the k-th n-th of every batch,
    from 0 on; n divides the batch. check: called with each frame that is decoded and its (height, width); raises InputError where its
    label isn't one of such an image. Raises InputError where there is no frame, or the first image can't be read.
    """

    def __init__(
        self,
        frames: Sequence[Frame],
        lanes: Callable[[Frame], Sequence[Lane]],
        detector: Detector,
        *,
        augmentation: Augmentation,
        batch_size: int,
        seed: int,
        workers: int = 0,
        cache_bytes: int = GIGABYTE,
        pin_memory: bool = False,
        augment_on: torch.device | None = None,
        share: tuple[int, int] = (0, 1),
        check: Callable[[Frame, tuple[int, int]], None] | None = None,
    ) -> None:
        if not frames:
            raise InputError("there is no image to train on; check the dataset's list of its train split")
        self.frames = tuple(frames)
        self.batch_size = batch_size
        self._lanes = lanes
        self._detector = detector
        self._augmentation = augmentation
        self._seed = seed
        self._workers = workers
        self._pin_memory = pin_memory
        self._share = share
        self._check = check
        template = self._decoded(0)
        self._views = views_on(augment_on, detector.configuration.input.network)
        self._cache = SharedImageCache(template, frames=len(self.frames), byte_limit=cache_bytes)
        self._cache.put(0, template)

    def batches(self, first_step: int, last_step: int) -> Generator[Batch, None, None]:
        """The batches of steps first_step .. last_step - 1, each of exactly `batch_size` samples (or a share of them).

        All but images that a device makes lie on the host.

        Raises InputError that names the file where an image or a label is missing or damaged.
        """
        part, parts = self._share
        size = self.batch_size // parts

        def own(place: int) -> Sample:
            step, rank = divmod(place, size)
            return self.sample(step * self.batch_size + part * size + rank)

        collated = batches_in_order(
            own,
            self._collated,
            range(first_step * size, last_step * size),
            batch_size=size,
            workers=self._workers,
            pin_memory=self._pin_memory,
        )
        with closing(collated):
            for fields in collated:
                yield Batch(
                    images=self._views.images(fields["views"]),
                    **fields["labels"],
                    geometries=tuple(fields["geometries"]),
                    ids=tuple(fields["ids"]),
                )

    def sample(self, position: int) -> Sample:
        """The sample at a position of the stream."""
        index = frame_index(len(self.frames), self.batch_size, self._seed, position)
        frame = self.frames[index]
        generator = np.random.default_rng([self._seed, position])
        image = self._image(index)
        change = drawn_change(self._detector.geometry_of(image.original), self._augmentation, generator)
        geometry, lanes = change.geometry, list(self._lanes(frame))
        return Sample(
            image=self._views.prepared(image, change),
            targets=self._detector.encode_targets(lanes, geometry),
            lanes=[geometry.to_network(lane.points).astype(np.float32) for lane in lanes],
            geometry=geometry,
            id=frame.id,
        )

    def _collated(self, samples: list[Sample]) -> dict[str, Any]:
        """What a Batch is made of, in nested dicts and tuples, which the loader can page-lock."""
        lanes, lane_counts, point_counts = padded_lanes([sample.lanes for sample in samples])
        return {
            "views": self._views.collated([sample.image for sample in samples]),
            "labels": {
                "targets": stack_targets([sample.targets for sample in samples]),
                "lanes": lanes,
                "lane_counts": lane_counts,
                "point_counts": point_counts,
            },
            "geometries": tuple(sample.geometry for sample in samples),
            "ids": tuple(sample.id for sample in samples),
        }

    def _image(self, index: int) -> ReducedImage:
        image = self._cache.get(index)
        if image is None:
            image = self._decoded(index)
            self._cache.put(index, image)
        return image

    def _decoded(self, index: int) -> ReducedImage:
        frame = self.frames[index]
        image = read_reduced(frame.image, self._detector.geometry_of)
        if self._check is not None:
            self._check(frame, image.original)
        return image


def frame_index(frames: int, batch_size: int, seed: int, position: int) -> int:
    """Which of `frames` images stands at a position: every epoch is a fresh permutation without its last incomplete batch.

    A split smaller than one batch has nothing to drop: its permutations follow one another without a gap.
    """
    per_epoch = frames - frames % batch_size or frames
    epoch, rank = divmod(position, per_epoch)
    return int(_permutation(frames, seed, epoch)[rank])


@lru_cache(maxsize=4)
def _permutation(frames: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng([seed, epoch, _ORDER]).permutation(frames)


def padded_lanes(lanes: Sequence[Sequence[npt.NDArray[np.float32]]]) -> tuple[Tensor, Tensor, Tensor]:
    """Lanes of B images -> (lanes (B, M, P, 2) padded with NaN, lane counts (B,), point counts (B, M)); M and P at least 1."""
    most_lanes = max(1, max(map(len, lanes), default=0))
    most_points = max(1, max((len(lane) for image in lanes for lane in image), default=0))
    padded = np.full((len(lanes), most_lanes, most_points, 2), np.nan, dtype=np.float32)
    point_counts = np.zeros((len(lanes), most_lanes), dtype=np.int64)
    for image, image_lanes in enumerate(lanes):
        for number, lane in enumerate(image_lanes):
            padded[image, number, : len(lane)] = lane
            point_counts[image, number] = len(lane)
    lane_counts = torch.tensor([len(image) for image in lanes], dtype=torch.int64)
    return torch.from_numpy(padded), lane_counts, torch.from_numpy(point_counts)


def micro_batches(batch: Batch, size: int) -> Iterator[Batch]:
    """A batch in parts of `size` samples; the last may be smaller."""
    for start in range(0, len(batch.ids), size):
        part = slice(start, start + size)
        yield Batch(
            images=batch.images[part],
            targets={name: value[part] for name, value in batch.targets.items()},
            lanes=batch.lanes[part],
            lane_counts=batch.lane_counts[part],
            point_counts=batch.point_counts[part],
            geometries=batch.geometries[part],
            ids=batch.ids[part],
        )
