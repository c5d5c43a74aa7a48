"""PolyLaneNet: Tabelini, Berriel, Paixão, Badue, De Souza, Oliveira-Santos, "PolyLaneNet: Lane Estimation via Deep Polynomial
Regression", ICPR 2020.

An image classifier with other outputs: a fixed number of lanes, from left to right, each a confidence, the rows that it lies between
and a cubic x(y), all in shares of the frame. The far end of the first lane is that of all. Facts come from the paper and from
lucastabelini/PolyLaneNet (MIT), commit 6155ce2.

What differs in training: a lane that leaves the frame and comes back keeps its longest piece (upstream makes two lanes of it and drops
the last of all); lanes beyond the number of outputs are left out, the shortest first (upstream fails); a batch without lanes costs
nothing but confidence (upstream's mean over no lanes isn't a number); crops are up to a tenth of the frame, where upstream's are a
tenth; the rate falls step by step, upstream's epoch by epoch. In decoding, points are spread evenly between a lane's ends, cut at the
frame's upper and lower edge, where upstream reads the rows of the label file.

`polylanenet_micro` is the same code with other numbers, small enough for a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from detectors.backbones import backbone_taps, build_backbone
from detectors.base import Batch, Detector, Tap, normalise
from detectors.meta import Augmentation, Configuration, Data, DetectorMeta, Form, InputSize, Normalisation, Recipe
from detectors.parts.efficientnet import EfficientStages
from detectors.parts.lane_rows import clipped
from detectors.parts.micro import FRAMES, micro_input, micro_recipe
from detectors.parts.shares import shares_of
from harness.lanes import Geometry, Lane, near_to_far

CURVE_WEIGHT = 300.0
"""Of the curves beside the other terms (poly_weight of upstream's cfgs)."""

ERROR_FREE = (15 / 720) ** 2
"""Squared distances up to this cost nothing (`loss` of upstream's lib/models.py)."""

ABSENT = -1.0
"""x of a place in the targets that holds no point."""

OUTPUTS = 7
"""Numbers a lane: confidence, far and near end, and four coefficients, the cube's first."""


class Architecture(Data):
    """Architecture options of PolyLaneNet; the defaults are the published TuSimple configuration.

    lanes: outputs, each a lane. dropout: before them. label_points: so many points of a lane are learned, of longer ones so many spread
    evenly over them. points: of a lane that is predicted. Not of the paper: squeezed: so many channels of the last feature are given to
    the outputs from every place of it, 0 for all channels' means.
    """

    lanes: int = Field(5, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)
    label_points: int = Field(64, ge=2)
    points: int = Field(72, ge=2)
    squeezed: int = Field(0, ge=0)


class PolyLaneNet(Detector):
    """Lanes as polynomials, regressed from the mean of the last feature (see the module)."""

    metas: ClassVar[dict[str, DetectorMeta]]
    architecture: ClassVar[type[Data]] = Architecture
    checkpoint_names: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"^model\.", ""),
        (r"^fc\.regular_outputs_layer\.", "output."),
        (r"^(conv1|bn1|layer\d)\.", r"backbone.\1."),
    )

    def __init__(self, meta: DetectorMeta, form: Form) -> None:
        """Raises InputError where the configuration's architecture has unknown or impossible options."""
        super().__init__(meta, form)
        self.options = options = self.options_of(Architecture)
        self.frame = shares_of(self.configuration.input)
        self.backbone = build_backbone(meta.backbone)
        efficient = isinstance(self.backbone, EfficientStages)
        channels = cast(int, self.backbone.channels) if efficient else self.taps()[-1].channels
        self.squeeze = nn.Conv2d(channels, options.squeezed, 1) if options.squeezed else None
        if self.squeeze is not None:
            last = self.taps()[-1]
            channels = options.squeezed * math.prod(
                math.ceil(side / last.stride) for side in self.configuration.input.network
            )
        self.dropout = nn.Dropout(options.dropout)
        self.output = nn.Linear(channels, OUTPUTS * options.lanes)
        self.register_buffer("steps", torch.linspace(0.0, 1.0, options.points), persistent=False)

    def taps(self) -> tuple[Tap, ...]:
        """The four stages, strides 4 to 32."""
        return backbone_taps(self.backbone, "backbone")

    def encode_targets(self, lanes: Sequence[Lane], geometry: Geometry) -> dict[str, npt.NDArray[Any]]:
        """`points`: float32 (lanes, label_points, 2) in shares of the frame, from far to near, x ABSENT behind the last; `ends`:
        float32 (lanes, 2), far and near y, both 0 for no lane.

        Lanes are in the order of their far ends, from left to right.
        """
        found = [piece for lane in lanes if (piece := self._visible(lane, geometry)) is not None]
        longest = sorted(found, key=lambda line: line[0, 1] - line[-1, 1])[: self.options.lanes]
        points = np.full((self.options.lanes, self.options.label_points, 2), ABSENT, dtype=np.float32)
        ends = np.zeros((self.options.lanes, 2), dtype=np.float32)
        for index, line in enumerate(sorted(longest, key=lambda line: float(line[0, 0]))):
            points[index, : len(line)], ends[index] = line, (line[0, 1], line[-1, 1])
        return {"points": points, "ends": ends}

    def _visible(self, lane: Lane, geometry: Geometry) -> npt.NDArray[np.float64] | None:
        """A label's longest piece in the frame, in shares, from far to near; None where it spans no rows."""
        points = near_to_far(lane.points[np.isfinite(lane.points).all(axis=1)])[::-1]
        if len(points) < 2:
            return None
        height, width = self.configuration.input.network
        pieces = clipped(self.frame.of(geometry.to_network(points)) * (width, height), (height, width))
        pieces = [piece / (width, height) for piece in pieces]
        piece = max(pieces, key=lambda piece: piece[-1, 1] - piece[0, 1], default=np.zeros((1, 2)))
        if piece[-1, 1] <= piece[0, 1]:
            return None
        if len(piece) > self.options.label_points:
            places = np.linspace(0, len(piece) - 1, self.options.label_points)
            piece = np.stack([np.interp(places, np.arange(len(piece)), values) for values in piece.T], axis=1)
        return piece

    def forward(self, images: Tensor) -> Tensor:
        """uint8 RGB (B, 3, H, W) -> (B, lanes, 7): the confidence's logit, far y, near y, and x's coefficients of y^3 to y^0."""
        normalised = normalise(images, self.meta.normalisation)
        feature = self.backbone(normalised.contiguous(memory_format=torch.channels_last))[-1]
        if isinstance(self.backbone, EfficientStages):
            feature = self.backbone.above(feature)
        gathered = feature.mean(dim=(2, 3)) if self.squeeze is None else F.relu(self.squeeze(feature)).flatten(1)
        outputs: Tensor = self.output(self.dropout(gathered))
        return outputs.reshape(-1, self.options.lanes, OUTPUTS)

    def losses(self, outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
        """`lane` (cross-entropy), `far` and `near` (mean squares over the lanes), `curve` (mean square in x beyond ERROR_FREE).

        The far end that is taught is the furthest of the image's lanes. A curve's points count more where there are fewer of them.
        """
        outputs = outputs.float()
        points, ends = batch.targets["points"], batch.targets["ends"]
        present = ends[..., 1] > 0
        count = present.sum().clamp(min=1)
        furthest = ends[..., 0].masked_fill(~present, 1.0).amin(dim=1, keepdim=True)
        far = (outputs[:, :1, 1] - furthest).square() * present
        near = (outputs[..., 2] - ends[..., 1]).square() * present
        x, y = points.unbind(dim=-1)
        seen = x != ABSENT
        total, own = seen.sum(), seen.sum(dim=-1, keepdim=True)
        weights = total / own.clamp(min=1)
        errors = weights * (places(outputs[..., 3:], y) - x).square()
        # Asked like this, what isn't a number is no small error.
        errors = torch.where(seen & ~(errors <= ERROR_FREE), errors, 0.0)
        return {
            "lane": F.binary_cross_entropy_with_logits(outputs[..., 0], present.float()),
            "far": far.sum() / count,
            "near": near.sum() / count,
            "curve": CURVE_WEIGHT * errors.sum() / (count * total.clamp(min=1)),
        }

    def decode(self, outputs: Tensor, geometries: Sequence[Geometry]) -> list[list[Lane]]:
        """The lanes that are confident enough, as points between the first output's far end and their own near ends.

        All that leaves the device is one tensor.
        """
        outputs = outputs.float()
        far, near = outputs[:, :1, 1:2].clamp(0.0, 1.0), outputs[..., 2:3].clamp(0.0, 1.0)
        y = far + (near - far) * cast(Tensor, self.steps)
        decoded = torch.cat([outputs[..., :1].sigmoid(), places(outputs[..., 3:], y), y], dim=-1).cpu().numpy()
        threshold, points = self.configuration.recipe.confidence_threshold, self.options.points
        images: list[list[Lane]] = []
        for found, geometry in zip(decoded, geometries, strict=True):
            shares = found[:, 1:].reshape(len(found), 2, points).swapaxes(1, 2)
            chosen = (found[:, 0] >= threshold) & (shares[:, 0, 1] < shares[:, -1, 1])
            lines = geometry.to_original(self.frame.to_network(shares[chosen]))
            pairs = zip(lines, found[chosen, 0], strict=True)
            images.append([Lane(near_to_far(line), float(score)) for line, score in pairs if np.isfinite(line).all()])
        return images


def places(coefficients: Tensor, y: Tensor) -> Tensor:
    """x of cubics (..., 4) at rows y (..., P): (..., P)."""
    cube, square, slope, constant = (coefficients[..., index, None] for index in range(4))
    return ((cube * y + square) * y + slope) * y + constant


def _block_names(depths: Sequence[int]) -> tuple[tuple[str, str], ...]:
    """efficientnet_pytorch numbers its blocks through and its normalisations from 0; the first stage's blocks don't expand."""
    blocks = [(stage, block) for stage, depth in enumerate(depths) for block in range(depth)]
    numbers = [(rf"^_blocks\.{n}\.", f"blocks.{stage}.{block}.") for n, (stage, block) in enumerate(blocks)]
    plain = {"_project_conv": "conv_pw", "_bn1": "bn1", "_bn2": "bn2"}
    expanding = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_bn1": "bn2", "_project_conv": "conv_pwl", "_bn2": "bn3"}
    return (
        (r"^model\.", ""),
        *numbers,
        *((rf"^(blocks\.0\.\d+)\.{theirs}\.", rf"\1.{ours}.") for theirs, ours in plain.items()),
        *((rf"^(blocks\.[1-9]\.\d+)\.{theirs}\.", rf"\1.{ours}.") for theirs, ours in expanding.items()),
        (r"\._depthwise_conv\.", ".conv_dw."),
        (r"\._se_(reduce|expand)\.", r".se.conv_\1."),
        (r"^_bn0\.", "bn1."),
        (r"^_bn1\.", "bn2."),
        (r"^_(conv_stem|conv_head)\.", r"\1."),
        (r"^(conv_stem|bn1|blocks|conv_head|bn2)\.", r"backbone.\1."),
        (r"^_fc\.regular_outputs_layer\.", "output."),
    )


class PolyLaneNetB0(PolyLaneNet):
    """On EfficientNet-b0."""

    checkpoint_names: ClassVar[tuple[tuple[str, str], ...]] = _block_names((1, 2, 2, 3, 3, 4, 1))


class PolyLaneNetB1(PolyLaneNet):
    """On EfficientNet-b1."""

    checkpoint_names: ClassVar[tuple[tuple[str, str], ...]] = _block_names((2, 3, 3, 4, 4, 5, 2))


# cfgs/*.yaml, each with lib/datasets/lane_dataset.py: images are in OpenCV's channel order, the numbers in that of ImageNet.
_BGR = Normalisation(order="bgr")


def _published(
    frame: tuple[int, int], epochs: int, half_cycles: int, augmentation: Augmentation, **architecture: Any
) -> Configuration:
    """What upstream's configurations share."""
    return Configuration(
        input=InputSize(frame=frame, crop=(0, 0, *frame), network=(360, 640)),
        architecture=architecture,
        weights="imagenet",
        recipe=Recipe(
            optimizer="adam",
            learning_rate=3e-4,
            schedule="cosine",
            half_cycles=half_cycles,
            epochs=epochs,
            batch_size=16,
            augmentation=augmentation,
            confidence_threshold=0.5,
        ),
    )


def _tusimple(**architecture: Any) -> Configuration:
    """cfgs/tusimple.yaml: 2,695 epochs are 7 times the schedule's 385. Of 11 images 10 are augmented."""
    augmentation = Augmentation(flip=0.5 * 10 / 11, rotation=10, crop=0.1, geometric_probability=10 / 11)
    return _published((720, 1280), 2695, 7, augmentation, **architecture)


def _llamas(**architecture: Any) -> Configuration:
    """cfgs/llamas.yaml: a label has a point on each row."""
    return _published((717, 1276), 75, 1, Augmentation(), label_points=480, **architecture)


def _micro(form: Form) -> Configuration:
    """Numbers of this project: small, and trained in a minute."""
    return Configuration(
        input=micro_input(form),
        recipe=micro_recipe(
            learning_rate=3e-3, weight_decay=1e-2, steps=400, clip_gradient_norm=5.0, confidence_threshold=0.5
        ),
    )


_MICRO: dict[Form, Configuration] = {form: _micro(form) for form in FRAMES}


def _meta(
    name: str, backbone: str, normalisation: Normalisation, configurations: dict[Form, Configuration]
) -> dict[str, DetectorMeta]:
    meta = DetectorMeta(
        name=name,
        paper="Tabelini et al.: PolyLaneNet: Lane Estimation via Deep Polynomial Regression, ICPR 2020",
        year=2020,
        family="parametric",
        backbone=backbone,
        upstream="https://github.com/lucastabelini/PolyLaneNet",
        commit="6155ce2e7d3841c46a0035a25acc9d2e304d9856",
        licence="MIT",
        normalisation=normalisation,
        configurations=configurations,
    )
    return {name: meta}


PolyLaneNet.metas = {
    **_meta("polylanenet_resnet34", "resnet34", _BGR, {"tusimple": _tusimple()}),
    **_meta("polylanenet_resnet50", "resnet50", _BGR, {"tusimple": _tusimple()}),
    **_meta("polylanenet_micro", "resnet_micro", Normalisation(), _MICRO),
}
PolyLaneNetB0.metas = _meta(
    "polylanenet_efficientnet_b0",
    "efficientnet_b0",
    _BGR,
    {"tusimple": _tusimple(dropout=0.2), "llamas": _llamas(dropout=0.2)},
)
PolyLaneNetB1.metas = _meta(
    "polylanenet_efficientnet_b1", "efficientnet_b1", _BGR, {"tusimple": _tusimple(dropout=0.2)}
)
