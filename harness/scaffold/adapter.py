"""Scaffold: say in a line what it is; then name the paper, and the repository and commit that its facts come from.

On each of 24 rows it says where each of four lanes crosses, and whether it does. Put your network and head in place of this one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from detectors.backbones import backbone_taps, build_backbone
from detectors.base import Batch, Detector, Tap, normalise
from detectors.meta import Augmentation, Configuration, Data, DetectorMeta, Form, InputSize, Recipe
from detectors.parts.row_wise import ABSENT, Anchors
from detectors.parts.slots import LANES, slots_of
from harness.lanes import Geometry, Lane, near_to_far

ROWS = 24

CULANE = Configuration(
    input=InputSize(frame=(590, 1640), crop=(236, 0, 590, 1640), network=(128, 320)),
    recipe=Recipe(
        optimizer="adamw",
        learning_rate=3e-3,
        weight_decay=1e-2,
        schedule="one_cycle",
        steps=220,
        batch_size=16,
        augmentation=Augmentation(flip=0.5, rotation=2, shift_x=0.06, scale=0.1, brightness=0.2, contrast=0.2),
    ),
)


class Scaffold(Detector):
    """A linear layer on the coarsest feature gives, for each of four lanes, a place and an existence on every row."""

    metas: ClassVar[dict[str, DetectorMeta]] = {
        "scaffold": DetectorMeta(
            name="scaffold",
            paper="Authors: Scaffold, venue and year",
            year=2026,
            family="row-wise",
            backbone="resnet_micro",
            upstream="https://example.org/repository",
            licence="Apache-2.0",
            configurations={"culane": CULANE},
        )
    }
    architecture: ClassVar[type[Data]] = Data

    def __init__(self, meta: DetectorMeta, form: Form) -> None:
        super().__init__(meta, form)
        height, width = self.configuration.input.network
        # A row's cells are pixels: a position on it is an x in network pixels.
        self.rows = Anchors(1, np.linspace(0.1, 0.97, ROWS) * height, width, origin=0.0, width=1.0)
        self.backbone = build_backbone(meta.backbone)
        last = self.taps()[-1]
        cells = math.ceil(height / last.stride) * math.ceil(width / last.stride)
        squeezed = nn.Conv2d(last.channels, 32, 1)
        self.head = nn.Sequential(squeezed, nn.ReLU(), nn.Flatten(), nn.Linear(32 * cells, 2 * LANES * ROWS))

    def taps(self) -> tuple[Tap, ...]:
        """The stages of the backbone."""
        return backbone_taps(self.backbone, "backbone")

    def encode_targets(self, lanes: Sequence[Lane], geometry: Geometry) -> dict[str, npt.NDArray[Any]]:
        """`x`: float32 (LANES, ROWS) in network pixels, ABSENT where a lane doesn't cross the row."""
        lines = [geometry.to_network(lane.points[np.isfinite(lane.points).all(axis=1)]) for lane in lanes]
        found = [(line, x) for line in lines if (x := self.rows.positions(line)).max() >= 0]
        target = np.full((LANES, ROWS), ABSENT, dtype=np.float32)
        for index, slot in slots_of([line for line, _ in found], geometry.network).items():
            target[slot] = found[index][1]
        return {"x": target}

    def forward(self, images: Tensor) -> Tensor:
        """uint8 RGB (B, 3, H, W) -> logits (B, 2, LANES, ROWS): place and existence."""
        features = self.backbone(normalise(images, self.meta.normalisation))
        logits: Tensor = self.head(features[-1])
        return logits.view(-1, 2, LANES, ROWS)

    def losses(self, outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
        """`place`: distance as a share of the width, where the lane is; `existence`: cross-entropy."""
        place, existence = outputs.float().unbind(1)
        x = batch.targets["x"]
        exists = (x >= 0).float()
        distance = (place.sigmoid() - x / self.rows.cells).abs() * exists
        return {
            "place": 20 * distance.sum() / exists.sum().clamp(min=1),
            "existence": binary_cross_entropy_with_logits(existence, exists),
        }

    def decode(self, outputs: Tensor, geometries: Sequence[Geometry]) -> list[list[Lane]]:
        """A lane is where its existence is above one half, on two rows or more; its score is the mean existence there."""
        return [
            [lane for place, exists in zip(*image, strict=True) if (lane := self._lane(place, exists, geometry))]
            for image, geometry in zip(outputs.float().sigmoid().cpu().numpy(), geometries, strict=True)
        ]

    def _lane(self, place: npt.NDArray[Any], exists: npt.NDArray[Any], geometry: Geometry) -> Lane | None:
        seen = exists > 0.5
        if seen.sum() < 2 or exists[seen].mean() < self.configuration.recipe.confidence_threshold:
            return None
        points = geometry.to_original(self.rows.points(place * self.rows.cells)[seen])
        return Lane(near_to_far(points), float(exists[seen].mean()))
