"""What both models are shown: rendered frames of the dataset's own size, as the JPEG files that its images are, and labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from detectors.base import Batch, Detector, stack_targets
from detectors.upstream.reference import Frame
from harness.conformance.samples import hostile_labels, rendered_frames
from harness.datasets.images import read_image, write_jpeg
from harness.inference.predict import network_images
from harness.lanes import Lane

FRAMES = 4
"""So many frames, of as many roads."""

TRAINING_FRAMES = 2
QUALITY = 95


@dataclass(frozen=True, eq=False)
class Shown:
    """frames: whole images. images: the same as the detector sees them, uint8 RGB (B, 3, h, w). labels: their lanes."""

    frames: tuple[Frame, ...]
    images: Tensor
    labels: tuple[list[Lane], ...]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the frames."""
        height, width = self.frames[0].shape[:2]
        return height, width


def frames_for(detector: Detector, folder: Path) -> Shown:
    """Frames of the size that the detector is configured for, written below `folder` and read by the harness as any image is."""
    rendered = rendered_frames(detector.configuration.input.frame)
    rendered = rendered[:: len(rendered) // FRAMES]
    paths = [folder / f"{number}.jpg" for number in range(len(rendered))]
    for path, frame in zip(paths, rendered, strict=True):
        write_jpeg(path, np.asarray(cv2.cvtColor(frame.image, cv2.COLOR_BGR2RGB), dtype=np.uint8), QUALITY)
    images = torch.cat(list(network_images(detector, paths)))
    return Shown(tuple(read_image(path) for path in paths), images, tuple(frame.lanes for frame in rendered))


def unusual_labels(labels: Sequence[Sequence[Lane]], size: tuple[int, int]) -> dict[str, list[list[Lane]]]:
    """Sets of labels of as many images, by what is unusual: none, one lane, only one image with lanes, more than there are slots."""
    many = hostile_labels(size)["twelve lanes"]
    return {
        "no lane": [[] for _ in labels],
        "one lane": [list(lanes[:1]) for lanes in labels],
        "lanes in one image only": [list(lanes) if number else [] for number, lanes in enumerate(labels)],
        "more lanes than slots": [list(many) for _ in labels],
    }


def batch_of(detector: Detector, images: Tensor, labels: Sequence[Sequence[Lane]], size: tuple[int, int]) -> Batch:
    """A training batch of images that were not augmented; `size` is that of their frames."""
    geometry = detector.geometry_of(size)
    points = max((len(lane) for lanes in labels for lane in lanes), default=0)
    padded = torch.full((len(labels), max(map(len, labels)), points, 2), float("nan"))
    counts = torch.zeros(padded.shape[:2], dtype=torch.int64)
    for image, lanes in enumerate(labels):
        for number, lane in enumerate(lanes):
            padded[image, number, : len(lane)] = torch.from_numpy(geometry.to_network(lane.points)).float()
            counts[image, number] = len(lane)
    return Batch(
        images=images,
        targets=stack_targets([detector.encode_targets(lanes, geometry) for lanes in labels]),
        lanes=padded,
        lane_counts=torch.tensor([len(lanes) for lanes in labels]),
        point_counts=counts,
        geometries=(geometry,) * len(labels),
        ids=tuple(str(number) for number in range(len(labels))),
    )
