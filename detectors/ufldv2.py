"""UFLDv2: Qin, Zhang, Li, "Ultra Fast Deep Lane Detection with Hybrid Anchor Driven Ordinal Classification", TPAMI 2022.

Lanes are found by classification along anchors: on every row anchor (a horizontal line) the network says in which of a row of cells
each lane lies, and whether it is there at all; on column anchors (vertical lines), which serve the flat outer lanes, likewise.
Locations are ordinal: a focal classification over cells and the distance of the distribution's expectation are learned together.
Facts come from the paper and from cfzd/Ultra-Fast-Lane-Detection-v2 (MIT); configurations from its configs/*.py and utils/common.py.

`ufldv2_resnet18` and `ufldv2_resnet34` are the published network, losses and decoding. What differs in training: lanes are given to
the four slots by where they cross the bottom of the augmented frame, not by the label file's lane numbers; a lane that ends above the
last row anchor keeps its labels, which go on along a straight line (upstream puts them on that line from the lane's lower half on,
data/dali_data.py); scaling is alike in both directions, and as turning about the middle of what the network sees, upstream's about the
frame's. Published CULane figures average test-time shifts of the features; decoding here has none, as upstream's without `tta`. On
TuSimple places are exact, where upstream truncates them to whole pixels; upstream trains there on train and val
(scripts/convert_tusimple.py: 3,626 frames), here on train alone (3,268).

`ufldv2_micro` departs from the paper, for budgets of a few hundred steps on a CPU. The published head, two fully connected layers
on the coarsest feature, hardly learns in so few steps (F1@50 .25 against .77 after 220 steps of 16 on rendered roads); its head is
convolutional and reads each lane's place off a feature map of stride 8 at that place. Its cells are 21 px of a CULane frame wide, so
labels are shared between the two nearest cells. All four lanes are found on row anchors. Backbone code, losses and decoding are
those of the published variants.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from detectors.backbones import backbone_taps, build_backbone
from detectors.base import Batch, Detector, Tap, normalise
from detectors.meta import Augmentation, Configuration, Data, DetectorMeta, Form, InputSize, Recipe
from detectors.parts.micro import micro_input, micro_recipe
from detectors.parts.row_wise import (
    Anchors,
    ConvolutionalHead,
    FullyConnectedHead,
    PlacedLane,
    anchor_targets,
    expected_cell,
    focal_loss,
    placed_lanes,
    shared_cells,
)
from detectors.parts.slots import LANES
from harness.lanes import Geometry, Lane, near_to_far, plain_geometry
from harness.pytorch.constants import constant

SMOOTHING = 0.05
EXPECTATION_WEIGHT = 0.05
"""Label mass of each neighbouring cell and weight of the expectation loss: upstream's utils/loss.py and configs/*.py."""


class Architecture(Data):
    """Architecture options of UFLDv2; the defaults are the published CULane configuration, but for `prolong`.

    row_span: the first and last row anchor, as shares of the frame's height; column anchors span its whole width. row_lanes: slots
    that are decoded from row anchors, the others from column anchors. row_share, column_share: a lane is predicted where it exists on
    more than this share of its anchors. reach: cells on each side of the best one that its place is averaged over. labels: `cell`
    (published), the cell's index with smoothing; `fraction`, the exact place, shared between the two nearest cells. prolong
    (published): whether labels on row anchors go on to the last one, along a line through the lane's lower half. hidden, layer_norm:
    of the fully connected head; channels: of the convolutional one.
    """

    head: Literal["fully_connected", "convolutional"] = "fully_connected"
    labels: Literal["cell", "fraction"] = "cell"
    row_anchors: int = Field(72, ge=2)
    row_cells: int = Field(200, ge=3)
    row_span: tuple[float, float] = (0.42, 1.0)
    column_anchors: int = Field(81, ge=0)
    column_cells: int = Field(100, ge=3)
    row_lanes: tuple[int, ...] = (1, 2)
    row_share: float = Field(0.5, ge=0, lt=1)
    column_share: float = Field(0.25, ge=0, lt=1)
    reach: int = Field(1, ge=0, exclude_if=lambda cells: cells == 1)
    # These two came after the first records: where they are off, identities of cells are what they were.
    prolong: bool = Field(False, exclude_if=lambda on: not on)
    hidden: int = Field(2048, gt=0)
    layer_norm: bool = True
    channels: int = Field(48, gt=0)

    @model_validator(mode="after")
    def _decodable(self) -> Self:
        if not set(self.row_lanes) <= set(range(LANES)):
            raise ValueError(f"'row_lanes' names slots 0 to {LANES - 1}")
        if len(set(self.row_lanes)) < LANES and self.column_anchors < 2:
            raise ValueError("lanes that aren't in 'row_lanes' need at least 2 'column_anchors'")
        return self


def anchors_of(size: InputSize, architecture: Architecture) -> dict[str, Anchors]:
    """The anchors of an architecture by family, `row` and, where there are any, `column`.

    Anchors and cells are laid out over the whole frame, of which the network sees a part, and the last cell begins at its far edge:
    the conventions of upstream's data/dali_data.py.
    """
    plain = plain_geometry(size.frame, size.crop, size.network)
    frame = np.array([size.frame[1], size.frame[0]], dtype=np.float64)
    origin, end = plain.to_network([0.0, 0.0]), plain.to_network(frame)
    rows = np.linspace(*architecture.row_span, architecture.row_anchors)
    columns = np.linspace(0.0, 1.0, architecture.column_anchors)
    extent = end - origin
    row_width = float(extent[0]) / (architecture.row_cells - 1)
    families = {
        "row": Anchors(1, origin[1] + rows * extent[1], architecture.row_cells, float(origin[0]), row_width),
    }
    if architecture.column_anchors:
        width = float(extent[1]) / (architecture.column_cells - 1)
        lines = origin[0] + columns * extent[0]
        families["column"] = Anchors(0, lines, architecture.column_cells, float(origin[1]), width)
    return families


class UFLDv2(Detector):
    """Row-wise and column-wise ordinal classification of up to four lanes (see the module)."""

    metas: ClassVar[dict[str, DetectorMeta]]
    architecture: ClassVar[type[Data]] = Architecture
    checkpoint_names: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"^model\.", "backbone."),
        (r"^pool\.", "head.squeeze."),
        (r"^cls\.0\.", "head.norm."),
        (r"^cls\.1\.", "head.hidden."),
        (r"^cls\.3\.", "head.output."),
    )

    def __init__(self, meta: DetectorMeta, form: Form) -> None:
        """Raises InputError where the configuration's architecture has unknown or impossible options."""
        super().__init__(meta, form)
        self.options = self.options_of(Architecture)
        self.families = anchors_of(self.configuration.input, self.options)
        self.backbone = build_backbone(meta.backbone)
        self.head = self._head()

    def _head(self) -> nn.Module:
        options, network = self.options, self.configuration.input.network
        if options.head == "convolutional":
            return ConvolutionalHead(self.taps(), self.families, network, channels=options.channels)
        shapes = {f"{name}_location": (anchors.cells, len(anchors.lines)) for name, anchors in self.families.items()}
        shapes |= {f"{name}_existence": (2, len(anchors.lines)) for name, anchors in self.families.items()}
        return FullyConnectedHead(
            self.taps()[-1], shapes, network, hidden=options.hidden, layer_norm=options.layer_norm
        )

    def taps(self) -> tuple[Tap, ...]:
        """The four stages of the ResNet, strides 4 to 32."""
        return backbone_taps(self.backbone, "backbone")

    def encode_targets(self, lanes: Sequence[Lane], geometry: Geometry) -> dict[str, npt.NDArray[Any]]:
        """`row` and, with column anchors, `column`: float32 (anchors, LANES), the lane's position in cells or ABSENT.

        A lane that no anchor crosses within the frame takes no slot.
        """
        placed = placed_lanes(lanes, geometry, self.families)
        if self.options.prolong:
            placed = {slot: self._prolonged(lane) for slot, lane in placed.items()}
        return {name: anchor_targets(placed, name, anchors) for name, anchors in self.families.items()}

    def _prolonged(self, lane: PlacedLane) -> PlacedLane:
        longer = self.families["row"].prolonged(lane.positions["row"])
        return PlacedLane(lane.polyline, {**lane.positions, "row": longer})

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """uint8 RGB (B, 3, H, W) -> `row_location` (B, cells, anchors, LANES), `row_existence` (B, 2, anchors, LANES), and columns."""
        normalised = normalise(images, self.meta.normalisation)
        features = self.backbone(normalised.contiguous(memory_format=torch.channels_last))
        return cast(dict[str, Tensor], self.head(features))

    def losses(self, outputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """For each family of anchors: location (focal), existence (cross-entropy), expectation (.05 x smooth L1, in cells)."""
        terms: dict[str, Tensor] = {}
        for name in self.families:
            positions = batch.targets[name]
            absent, present = outputs[f"{name}_existence"].float().unbind(dim=1)
            location, expectation = self._location_losses(outputs[f"{name}_location"].float(), positions)
            terms[f"{name}_location"] = location
            # The cross-entropy of two classes, in a form whose CUDA kernels are deterministic.
            exists = (positions >= 0).float()
            terms[f"{name}_existence"] = F.binary_cross_entropy_with_logits(present - absent, exists)
            terms[f"{name}_expectation"] = EXPECTATION_WEIGHT * expectation
        return terms

    def _location_losses(self, logits: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, cells, anchors, LANES) and positions -> means over the anchors that a lane crosses, 0 where there are none."""
        cells = logits.shape[1]
        present = (positions >= 0).float()
        count = present.sum().clamp(min=1.0)
        position = positions.clamp(min=0.0)
        if self.options.labels == "cell":
            place = position.floor()
            indices = torch.stack([place - 1, place, place + 1], dim=1)
            shares = constant([SMOOTHING, 1 - 2 * SMOOTHING, SMOOTHING], logits.device).view(1, 3, 1, 1)
        else:
            place, indices, shares = shared_cells(position, cells)
        log_share = logits.log_softmax(dim=1)
        focal = focal_loss(log_share, indices, shares)
        expectation = expected_cell(log_share.exp())
        distance = F.smooth_l1_loss(expectation, place, reduction="none")
        return (focal * present).sum() / count, (distance * present).sum() / count

    def decode(self, outputs: dict[str, Tensor], geometries: Sequence[Geometry]) -> list[list[Lane]]:
        """Expectation over the best cell and its neighbours, where the lane exists; a lane's score is its mean existence there.

        The rules of upstream's evaluation/eval_wrapper.py, with existence above one half. All that leaves the device is one tensor.
        """
        families = list(self.families)[: 1 if len(set(self.options.row_lanes)) == LANES else 2]
        decoded = torch.cat([_decoded(outputs, name, self.options.reach) for name in families], dim=2).cpu().numpy()
        threshold = self.configuration.recipe.confidence_threshold
        images: list[list[Lane]] = []
        for (positions, existence), geometry in zip(decoded, geometries, strict=True):
            lanes = [self._lane(slot, positions[:, slot], existence[:, slot], geometry) for slot in range(LANES)]
            images.append([lane for lane in lanes if lane is not None and (lane.score or 0.0) >= threshold])
        return images

    def _lane(
        self,
        slot: int,
        positions: npt.NDArray[np.float32],
        existence: npt.NDArray[np.float32],
        geometry: Geometry,
    ) -> Lane | None:
        """The lane of a slot in original pixels, from its position and existence on every anchor of all families; None if absent."""
        rows = self.options.row_anchors
        by_row = slot in self.options.row_lanes
        anchors = self.families["row" if by_row else "column"]
        part = slice(0, rows) if by_row else slice(rows, None)
        share = self.options.row_share if by_row else self.options.column_share
        exists = existence[part] > 0.5
        if exists.sum() < 2 or exists.sum() <= share * len(exists):
            return None
        points = geometry.to_original(anchors.points(positions[part])[exists])
        return Lane(near_to_far(points), float(existence[part][exists].mean()))


def _decoded(outputs: dict[str, Tensor], family: str, reach: int) -> Tensor:
    """Logits of a family -> (B, 2, anchors, LANES): position in cells and probability of existence."""
    logits = outputs[f"{family}_location"].float()
    around = torch.arange(-reach, reach + 1, device=logits.device).view(1, -1, 1, 1)
    indices = logits.argmax(dim=1, keepdim=True) + around
    inside = (indices >= 0) & (indices < logits.shape[1])
    near = logits.gather(1, indices.clamp(0, logits.shape[1] - 1)).masked_fill(~inside, -math.inf)
    positions = (near.softmax(dim=1) * indices).sum(dim=1) + 0.5
    existence = outputs[f"{family}_existence"].float().softmax(dim=1)[:, 1]
    return torch.stack([positions, existence], dim=1)


_PAPER = "Qin, Zhang, Li: Ultra Fast Deep Lane Detection with Hybrid Anchor Driven Ordinal Classification, TPAMI 2022"
_UPSTREAM = "https://github.com/cfzd/Ultra-Fast-Lane-Detection-v2"
_COMMIT = "c903880678454dfd9b55a63022368db05c00bc6d"


def _published(recipe: dict[str, Any], frame: tuple[int, int]) -> Recipe:
    """What upstream's configs share, and the augmentation of its data/dali_data.py: 6 degrees, +-200 and +-100 px, scale .8 to 1.2."""
    augmentation = Augmentation(rotation=6, shift_x=200 / frame[1], shift_y=100 / frame[0], scale=0.2)
    return Recipe(
        optimizer="sgd",
        learning_rate=0.05,
        weight_decay=1e-4,
        momentum=0.9,
        schedule="multistep",
        gamma=0.1,
        augmentation=augmentation,
        **recipe,
    )


# `get_model` of upstream's model/model_*.py asks for pretrained weights whatever the config says.
# Upstream resizes a CULane frame to 533 rows, of which it keeps the lower 320: 354.2 of 590.
_CULANE = Configuration(
    input=InputSize(frame=(590, 1640), crop=(236, 0, 590, 1640), network=(320, 1600)),
    architecture={"prolong": True},
    weights="imagenet",
    # The learning rate belongs to eight processes of 32 images each (upstream's README).
    recipe=_published(
        {"epochs": 50, "milestones": (25 / 50, 38 / 50), "warmup_steps": 695, "batch_size": 256}, (590, 1640)
    ),
)
_TUSIMPLE = Configuration(
    input=InputSize(frame=(720, 1280), crop=(144, 0, 720, 1280), network=(320, 800)),
    architecture={
        "row_anchors": 56,
        "row_cells": 100,
        "row_span": (160 / 720, 710 / 720),
        "column_anchors": 41,
        # Upstream's evaluation finds all lanes on row anchors, each on more than 3.
        "row_lanes": (0, 1, 2, 3),
        "row_share": 3 / 56,
        "reach": 14,
        "layer_norm": False,
        "prolong": True,
    },
    weights="imagenet",
    recipe=_published(
        {"epochs": 100, "milestones": (50 / 100, 75 / 100), "warmup_steps": 100, "batch_size": 32}, (720, 1280)
    ),
)
_MICRO = Configuration(
    input=micro_input("culane"),
    architecture={
        "head": "convolutional",
        "labels": "fraction",
        "row_anchors": 32,
        "row_cells": 80,
        "row_span": (0.42, 0.99),
        "column_anchors": 0,
        "row_lanes": (0, 1, 2, 3),
        "row_share": 0.1,
        "channels": 32,
    },
    recipe=micro_recipe(learning_rate=8e-3, weight_decay=5e-2, steps=220, confidence_threshold=0.7),
)
# Rows are those that TuSimple scores, from above its highest horizons down.
_MICRO_TUSIMPLE = Configuration(
    input=micro_input("tusimple"),
    architecture={**_MICRO.architecture, "row_anchors": 51, "row_span": (210 / 720, 710 / 720)},
    recipe=_MICRO.recipe,
)
_MICRO_LLAMAS = Configuration(
    input=micro_input("llamas"),
    architecture={**_MICRO.architecture, "row_anchors": 42, "row_span": (300 / 717, 710 / 717)},
    recipe=_MICRO.recipe,
)

UFLDv2.metas = {
    name: DetectorMeta(
        name=name,
        paper=_PAPER,
        year=2022,
        family="row-wise",
        backbone=backbone,
        upstream=_UPSTREAM,
        commit=_COMMIT,
        licence="MIT",
        configurations=configurations,
    )
    for name, backbone, configurations in (
        ("ufldv2_resnet18", "resnet18", {"culane": _CULANE, "tusimple": _TUSIMPLE}),
        ("ufldv2_resnet34", "resnet34", {"culane": _CULANE, "tusimple": _TUSIMPLE}),
        (
            "ufldv2_micro",
            "resnet_micro",
            {"culane": _MICRO, "tusimple": _MICRO_TUSIMPLE, "llamas": _MICRO_LLAMAS},
        ),
    )
}
