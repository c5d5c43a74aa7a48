"""UFLD: Qin, Wang, Li, "Ultra Fast Structure-aware Deep Lane Detection", ECCV 2020.

Lanes are found by classification along rows: on each of a few rows of the frame a fully connected layer, which sees all of it, selects
the cell in which each of four lanes lies, or says that it isn't there. Rows that follow each other are drawn together by structural
losses. In training a second head segments the lanes, so that the backbone learns where they are; it isn't there afterwards. Facts come
from the paper and from cfzd/Ultra-Fast-Lane-Detection (MIT): model/*.py, utils/loss.py, utils/factory.py, data/*.py, configs/*.py.

`ufld_resnet18` and `ufld_resnet34` are the published network, losses and decoding (evaluation/eval_wrapper.py); `ufld_resnet101` is the
same on a backbone that upstream's program takes. With them comes what is peculiar: on CULane a lane is looked for on other rows than
it was learned on, by up to 3 px, and its place is the far edge of the expected cell, less a pixel. What differs: upstream truncates
(CULane) or rounds (TuSimple) places to whole pixels, here they are exact; on TuSimple it also writes lanes of one point, and of none,
which count as false ones. Labels are where a lane crosses a row, upstream's the mean of the pixels of a mask, 16 px wide, in that row;
lanes are given to slots by where they cross the bottom of the augmented frame, not by the mask's numbers. Upstream's TuSimple is
trained on train and val (scripts/convert_tusimple.py: 3,626 frames), here on train (3,268), and without lanes shorter than 90 px.

`ufld_micro` is the same code with other numbers, for budgets of a few hundred steps on a CPU.
"""

from __future__ import annotations

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
from detectors.parts.masks import placed_mask
from detectors.parts.micro import micro_input, micro_recipe
from detectors.parts.row_wise import (
    Anchors,
    FullyConnectedHead,
    RowHead,
    anchor_targets,
    expected_cell,
    focal_loss,
    placed_lanes,
    shared_cells,
)
from detectors.parts.slots import LANES
from harness.lanes import Geometry, Lane, near_to_far, plain_geometry

AUXILIARY_DEPTHS = (4, 3, 2)
AUXILIARY_WIDTHS = ((3, 2, 2), (2, 1, 2), (1, 1, 2), (1, 1, 4))
"""Of the auxiliary head: convolutions on the features of strides 8, 16 and 32, and what joins them, in channels (in, out) over those of
a branch, and dilation (model/model.py)."""


class Architecture(Data):
    """Architecture options of UFLD; the defaults are the published CULane configuration.

    Rows and places are in pixels of the configured frame. head: `frame` (published), whose layers see all of the coarsest feature;
    `row`, whose layers see a row of a finer one and are the same for all rows. rows: where lanes are learned, from the top down;
    decoded_rows: where they are taken to be, None for the same. cells: of a row, the last of which begins at its last pixel;
    decoded_span: the places that the first and the last cell stand for, None for their centres. min_points: of a lane. labels: `cell`
    (published), the cell's index; `fraction`, the exact place, shared between the two nearest cells. prolong: whether labels go on to
    the last row, along a line through the lane's lower half. hidden: of the head, channels: of the feature that a `row` head sees.
    auxiliary: channels of the auxiliary head, None for no such head; lane_width: of a lane in its mask, in network pixels.
    similarity, shape: weights of the structural losses.
    """

    head: Literal["frame", "row"] = "frame"
    rows: tuple[float, ...] = (
        *(247, 268, 288, 307, 327, 348, 368, 387, 407),
        *(428, 448, 467, 487, 508, 528, 546, 567, 587),
    )
    decoded_rows: tuple[float, ...] | None = tuple(range(249, 590, 20))
    cells: int = Field(200, ge=3)
    decoded_span: tuple[float, float] | None = (799 / 199 * 1640 / 800 - 1, 200 * 799 / 199 * 1640 / 800 - 1)
    min_points: int = Field(3, ge=2)
    labels: Literal["cell", "fraction"] = "cell"
    prolong: bool = True
    hidden: int = Field(2048, gt=0)
    channels: int = Field(32, gt=0)
    auxiliary: int | None = Field(128, gt=0)
    lane_width: int = Field(8, gt=0)
    similarity: float = Field(0.0, ge=0)
    shape: float = Field(0.0, ge=0)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.rows) < 4 or list(self.rows) != sorted(set(self.rows)):
            raise ValueError("'rows' are four or more, from the top down")
        if self.decoded_rows is not None and len(self.decoded_rows) != len(self.rows):
            raise ValueError("'decoded_rows' are as many as 'rows'")
        return self


def label_anchors(size: InputSize, options: Architecture) -> Anchors:
    """Where lanes are learned (data/dataset.py)."""
    return _anchors(size, options, options.rows, 0.0, (size.frame[1] - 1) / (options.cells - 1))


def decoding_anchors(size: InputSize, options: Architecture) -> Anchors:
    """Where lanes are taken to be: their expected cell is a position on these (evaluation/eval_wrapper.py)."""
    width = (size.frame[1] - 1) / (options.cells - 1)
    first, last = options.decoded_span or (0.5 * width, (options.cells - 0.5) * width)
    return _anchors(size, options, options.decoded_rows or options.rows, first, (last - first) / (options.cells - 1))


def _anchors(size: InputSize, options: Architecture, rows: Sequence[float], first: float, width: float) -> Anchors:
    plain = plain_geometry(size.frame, size.crop, size.network)
    places = plain.to_network([[first, row] for row in rows])
    return Anchors(1, places[:, 1], options.cells, float(places[0, 0]), width * float(plain.matrix[0, 0]))


class AuxiliaryHead(nn.Module):
    """Features of strides 8 to 32 -> logits (B, 1 + LANES, H / 8, W / 8): which lane a place belongs to."""

    def __init__(self, taps: Sequence[Tap], channels: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(
                _convolution(tap.channels, channels), *(_convolution(channels, channels) for _ in range(depth - 1))
            )
            for tap, depth in zip(taps[1:], AUXILIARY_DEPTHS, strict=True)
        )
        self.combine = nn.Sequential(
            *(
                _convolution(before * channels, after * channels, dilation)
                for before, after, dilation in AUXILIARY_WIDTHS
            ),
            nn.Conv2d(channels, 1 + LANES, 1),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, features: list[Tensor]) -> Tensor:
        """All features of the backbone -> logits."""
        size = features[1].shape[-2:]
        levels = [branch(feature) for branch, feature in zip(self.branches, features[1:], strict=True)]
        joined = [levels[0], *(F.interpolate(level, size=size, mode="bilinear") for level in levels[1:])]
        logits: Tensor = self.combine(torch.cat(joined, dim=1))
        return logits


def _convolution(before: int, after: int, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=dilation, dilation=dilation, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
    )


class UFLD(Detector):
    """Row-wise classification of up to four lanes by a fully connected head (see the module)."""

    metas: ClassVar[dict[str, DetectorMeta]]
    architecture: ClassVar[type[Data]] = Architecture
    checkpoint_names: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"^model\.", "backbone."),
        (r"^pool\.", "head.squeeze."),
        (r"^cls\.0\.", "head.hidden."),
        (r"^cls\.2\.", "head.output."),
        (r"^aux_header2\.", "auxiliary.branches.0."),
        (r"^aux_header3\.", "auxiliary.branches.1."),
        (r"^aux_header4\.", "auxiliary.branches.2."),
        (r"^aux_combine\.", "auxiliary.combine."),
        (r"^(auxiliary\..*\.)conv\.", r"\g<1>0."),
        (r"^(auxiliary\..*\.)bn\.", r"\g<1>1."),
    )

    def __init__(self, meta: DetectorMeta, form: Form) -> None:
        """Raises InputError where the configuration's architecture has unknown or impossible options."""
        super().__init__(meta, form)
        self.options = self.options_of(Architecture)
        options, size = self.options, self.configuration.input
        self.labels, self.places = label_anchors(size, options), decoding_anchors(size, options)
        self.backbone = build_backbone(meta.backbone)
        self.head = self._head()
        self.auxiliary = None if options.auxiliary is None else AuxiliaryHead(self.taps(), options.auxiliary)

    def _head(self) -> nn.Module:
        options, network = self.options, self.configuration.input.network
        if options.head == "row":
            place = ("location", self.labels, options.cells + 1, network)
            return RowHead(self.taps(), *place, channels=options.channels, hidden=options.hidden)
        shapes = {"location": (options.cells + 1, len(options.rows))}
        return FullyConnectedHead(self.taps()[-1], shapes, network, hidden=options.hidden, layer_norm=False)

    def taps(self) -> tuple[Tap, ...]:
        """The four stages of the ResNet, strides 4 to 32."""
        return backbone_taps(self.backbone, "backbone")

    def encode_targets(self, lanes: Sequence[Lane], geometry: Geometry) -> dict[str, npt.NDArray[Any]]:
        """`position`: float32 (rows, LANES), in cells or ABSENT; with an auxiliary head `mask`: uint8 (H / 8, W / 8), 0 or 1 + slot.

        A lane that crosses no row within the frame takes no slot.
        """
        options = self.options
        placed = placed_lanes(lanes, geometry, {"position": self.labels})
        targets: dict[str, npt.NDArray[Any]] = {"position": anchor_targets(placed, "position", self.labels)}
        if options.prolong:
            for slot in placed:
                targets["position"][:, slot] = self.labels.prolonged(targets["position"][:, slot])
        if options.auxiliary is not None:
            polylines = {slot: lane.polyline for slot, lane in placed.items()}
            mask = placed_mask(polylines, geometry.network, slots=LANES, width=options.lane_width)
            stride = self.taps()[1].stride
            targets["mask"] = mask[stride // 2 :: stride, stride // 2 :: stride].copy()
        return targets

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """uint8 RGB (B, 3, H, W) -> logits: `location` (B, cells + 1, rows, LANES), the last for a lane that isn't there; in training,
        with an auxiliary head, also `segmentation` (B, 1 + LANES, H / 8, W / 8).
        """
        normalised = normalise(images, self.meta.normalisation)
        features = self.backbone(normalised.contiguous(memory_format=torch.channels_last))
        outputs = cast(dict[str, Tensor], self.head(features))
        if self.training and self.auxiliary is not None:
            outputs["segmentation"] = self.auxiliary(features)
        return outputs

    def losses(self, outputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """`location`: focal loss; `segmentation`: cross-entropy, of outputs in training; `similarity`, `shape` where they weigh."""
        logits, options = outputs["location"].float(), self.options
        indices, shares = self._labels(batch.targets["position"])
        terms = {"location": focal_loss(logits.log_softmax(dim=1), indices, shares).mean()}
        if "segmentation" in outputs:
            segmentation = outputs["segmentation"].float()
            classes = torch.arange(segmentation.shape[1], device=segmentation.device).view(1, -1, 1, 1)
            lies = (batch.targets["mask"][:, None] == classes).float()
            # The cross-entropy of classes, in a form whose CUDA kernels are deterministic.
            terms["segmentation"] = -(lies * segmentation.log_softmax(dim=1)).sum(dim=1).mean()
        if options.similarity:
            terms["similarity"] = options.similarity * similarity_loss(logits)
        if options.shape:
            terms["shape"] = options.shape * shape_loss(logits)
        return terms

    def _labels(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Positions (B, rows, LANES) -> choices of each place and their shares, both (B, K, rows, LANES)."""
        cells = self.options.cells
        present = (positions >= 0)[:, None]
        if self.options.labels == "cell":
            indices = positions.floor()[:, None]
            shares = torch.ones_like(indices)
        else:
            _, indices, shares = shared_cells(positions.clamp(min=0.0), cells)
        absent = torch.zeros_like(shares)
        absent[:, 0] = 1.0
        return torch.where(present, indices, cells), torch.where(present, shares, absent)

    def decode(self, outputs: dict[str, Tensor], geometries: Sequence[Geometry]) -> list[list[Lane]]:
        """The expected cell on each row where a cell is likelier than the lane's absence; a lane's score is its mean presence there.

        The rules of upstream's evaluation/eval_wrapper.py. All that leaves the device is one tensor.
        """
        decoded = _decoded(outputs["location"]).cpu().numpy()
        threshold = self.configuration.recipe.confidence_threshold
        images: list[list[Lane]] = []
        for (cells, presence), geometry in zip(decoded, geometries, strict=True):
            points = geometry.to_original(self.places.points(cells.T))
            lanes: list[Lane] = []
            for slot in range(LANES):
                found = presence[:, slot] > 0
                if (
                    found.sum() >= self.options.min_points
                    and (score := float(presence[found, slot].mean())) >= threshold
                ):
                    lanes.append(Lane(near_to_far(points[slot, found]), score))
            images.append(lanes)
        return images


def similarity_loss(logits: Tensor) -> Tensor:
    """Logits (B, choices, rows, LANES) -> how far those of neighbouring rows lie apart (`ParsingRelationLoss`)."""
    steps = logits[:, :, :-1] - logits[:, :, 1:]
    return F.smooth_l1_loss(steps, torch.zeros_like(steps))


def shape_loss(logits: Tensor) -> Tensor:
    """Logits (B, cells + 1, rows, LANES) -> how much lanes bend in the upper half of the rows, in cells (`ParsingRelationDis`)."""
    place = expected_cell(logits[:, :-1].softmax(dim=1))
    steps = place[:, :-1] - place[:, 1:]
    upper = steps[:, : place.shape[1] // 2]
    return (upper[:, :-1] - upper[:, 1:]).abs().mean()


def _decoded(logits: Tensor) -> Tensor:
    """Logits -> (B, 2, rows, LANES): expected cell, and probability that the lane is there, 0 where its absence is the likeliest."""
    logits = logits.float()
    cells, absence = logits[:, :-1].flatten(2), logits[:, -1].flatten(1)
    # The two means over cells in one product, from one exponential: this is most of decoding.
    best = cells.amax(dim=1)
    shares = (cells - best[:, None]).exp_()
    places = torch.arange(cells.shape[1], device=logits.device, dtype=shares.dtype)
    total, moment = (torch.stack([torch.ones_like(places), places]) @ shares).unbind(dim=1)
    presence = total / (total + (absence - best).exp()) * (absence <= best)
    return torch.stack([moment / total, presence], dim=1).view(-1, 2, *logits.shape[2:])


_PAPER = "Qin, Wang, Li: Ultra Fast Structure-aware Deep Lane Detection, ECCV 2020"
_UPSTREAM = "https://github.com/cfzd/Ultra-Fast-Lane-Detection"
_COMMIT = "353df107756b8c03c22c27201e33fc63d84ecfe6"


def _augmentation(height: int, width: int) -> Augmentation:
    """Of data/dataloader.py: 6 degrees, +-200 and +-100 px."""
    return Augmentation(rotation=6, shift_x=200 / width, shift_y=100 / height)


# train.py asks for pretrained weights whatever the config says.
_CULANE = Configuration(
    input=InputSize(frame=(590, 1640), crop=(0, 0, 590, 1640), network=(288, 800)),
    weights="imagenet",
    recipe=Recipe(
        optimizer="sgd",
        learning_rate=0.1,
        weight_decay=1e-4,
        momentum=0.9,
        schedule="multistep",
        milestones=(25 / 50, 38 / 50),
        gamma=0.1,
        epochs=50,
        warmup_steps=695,
        # 32 on each of the four devices of launch_training.sh: the warm-up is one epoch of 88,880 images.
        batch_size=128,
        augmentation=_augmentation(590, 1640),
    ),
)
_TUSIMPLE = Configuration(
    input=InputSize(frame=(720, 1280), crop=(0, 0, 720, 1280), network=(288, 800)),
    architecture={
        # Those of the data set; upstream's arithmetic puts three of them a pixel higher when it reads labels.
        "rows": tuple(row - (row in (230, 370, 460)) for row in range(160, 711, 10)),
        "decoded_rows": tuple(range(160, 711, 10)),
        "cells": 100,
        "decoded_span": (0.5 * 1280 / 99, 99.5 * 1280 / 99),
        "min_points": 2,
        "lane_width": 10,
        "similarity": 1.0,
    },
    weights="imagenet",
    recipe=Recipe(
        optimizer="adam",
        learning_rate=4e-4,
        weight_decay=1e-4,
        schedule="cosine",
        epochs=100,
        warmup_steps=100,
        batch_size=32,
        augmentation=_augmentation(720, 1280),
    ),
)


def _rows(first: float, last: float, count: int) -> tuple[float, ...]:
    return tuple(np.linspace(first, last, count).round(2).tolist())


_MICRO = Configuration(
    input=micro_input("culane"),
    architecture={
        "rows": _rows(248, 584, 32),
        "decoded_rows": None,
        "cells": 80,
        "decoded_span": None,
        "labels": "fraction",
        "prolong": False,
        "head": "row",
        "hidden": 256,
        "channels": 32,
        "auxiliary": 16,
        "lane_width": 4,
    },
    recipe=micro_recipe(learning_rate=8e-3, weight_decay=5e-2, steps=220),
)
# Rows are those that TuSimple scores, from above its highest horizons down.
_MICRO_TUSIMPLE = Configuration(
    input=micro_input("tusimple"),
    architecture={**_MICRO.architecture, "rows": _rows(210, 710, 51)},
    recipe=_MICRO.recipe,
)
_MICRO_LLAMAS = Configuration(
    input=micro_input("llamas"),
    architecture={**_MICRO.architecture, "rows": _rows(300, 710, 42)},
    recipe=_MICRO.recipe,
)

UFLD.metas = {
    name: DetectorMeta(
        name=name,
        paper=_PAPER,
        year=2020,
        family="row-wise",
        backbone=backbone,
        upstream=_UPSTREAM,
        commit=_COMMIT,
        licence="MIT",
        configurations=configurations,
    )
    for name, backbone, configurations in (
        ("ufld_resnet18", "resnet18", {"culane": _CULANE, "tusimple": _TUSIMPLE}),
        ("ufld_resnet34", "resnet34", {"culane": _CULANE, "tusimple": _TUSIMPLE}),
        ("ufld_resnet101", "resnet101", {"culane": _CULANE, "tusimple": _TUSIMPLE}),
        (
            "ufld_micro",
            "resnet_micro",
            {"culane": _MICRO, "tusimple": _MICRO_TUSIMPLE, "llamas": _MICRO_LLAMAS},
        ),
    )
}
