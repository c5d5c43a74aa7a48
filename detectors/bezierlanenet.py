"""BézierLaneNet: Feng, Guo, Tan, Xu, Wang, Ma, "Rethinking Efficient Lane Detection via Curve Modeling", CVPR 2022.

A lane is a cubic Bézier curve. The coarsest of three stages of a ResNet is fused with its own mirror image, read through a
deformable convolution because roads aren't quite symmetric; its mean over the rows leaves one feature a column, and each column says
whether it stands for a lane and where that lane's control points are, in shares of the frame. In training labels are matched with the
columns whose score is highest among their neighbours, one to one, and the feature also learns which pixels are of a lane. Facts come
from the paper and from the authors' code in voldemortX/pytorch-auto-drive (BSD-3), whose network, losses and recipes these are.

What differs in training: curves are fitted to the labels from near to far in every dataset, upstream's TuSimple has them from far to
near; points left of the frame count, which upstream drops before the fit, so that its labels end at the last point inside; labels of
two or three points are fitted as polylines (upstream's least-squares solution runs off to the frame's corner); masks are drawn from the
labels. In decoding, the points are of the curve itself where upstream writes TuSimple's rows from the nearest of 720 points, and
pictures have no limit of half a pixel (shares count from a frame's first pixel, as upstream's labels do).

`bezierlanenet_micro` is the same code with other numbers, small enough for a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from pydantic import Field, field_validator
from torch import Tensor, nn

from detectors.backbones import backbone_taps, build_backbone
from detectors.base import Batch, Detector, Tap, normalise
from detectors.meta import Augmentation, Configuration, Data, DetectorMeta, Form, InputSize, Recipe
from detectors.parts.bezier import evenly, fitted_curve, part_of
from detectors.parts.deformable import deformable_convolution
from detectors.parts.masks import binary_mask
from detectors.parts.matching import matched_pairs
from detectors.parts.micro import micro_input, micro_recipe
from detectors.parts.sampling import linear_sampling
from detectors.parts.shares import shares_of
from harness.lanes import Geometry, Lane, near_to_far
from harness.pytorch.constants import constant

SAMPLES = 100
"""Points of a curve that are compared with those of a label."""

ALPHA = 0.8
"""Exponent of the likeness of curves in the matching, whose score counts with the rest of 1."""

WEIGHTS = {"curve": 1.0, "lane": 0.1, "mask": 0.75}
POSITIVE = 2.5
"""Weights of the terms, and of lanes over background: configs/lane_detection/common/optims/matchingloss_bezier.py, as are the above."""

IGNORED = 255
"""In masks: no part of the frame."""


class Architecture(Data):
    """Architecture options of BézierLaneNet; the defaults are the published CULane configuration.

    dilations: of the blocks after the backbone, `bottleneck` channels wide. layers: convolutions along the columns before the outputs.
    mask_channels: of the head that only training has. window: a column stands for a lane only where none of so many around it has a
    higher score. labels: so many lanes of an image are learned, those that span the most rows. max_lanes: at most so many are
    predicted, those with the highest scores, as `points` points; `trimmed`: without those beyond the frame's sides. lane_width: of a
    lane in the masks, in network pixels.

    Not of the paper: stages: of the ResNet, the last of stride 8 or 16. placed: features are joined with their coordinates, and x of
    control points counts from the column.
    """

    dilations: tuple[int, ...] = (4, 8)
    bottleneck: int = Field(64, gt=0)
    layers: int = Field(2, ge=0)
    mask_channels: int = Field(64, gt=0)
    window: int = Field(9, gt=0)
    labels: int = Field(16, ge=1)
    max_lanes: int = Field(4, ge=1)
    points: int = Field(50, ge=2)
    trimmed: bool = False
    lane_width: int = Field(8, gt=0)
    stages: int = Field(3, ge=2, le=3)
    placed: bool = False

    @field_validator("window")
    @classmethod
    def _has_a_middle(cls, window: int) -> int:
        if window % 2 == 0:
            raise ValueError("is an odd number of columns")
        return window


class DilatedBottleneck(nn.Module):
    """A residual block that looks around itself (of YOLOF: Chen et al., CVPR 2021)."""

    def __init__(self, channels: int, bottleneck: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = _normalised(nn.Conv2d(channels, bottleneck, 1))
        self.conv2 = _normalised(nn.Conv2d(bottleneck, bottleneck, 3, padding=dilation, dilation=dilation))
        self.conv3 = _normalised(nn.Conv2d(bottleneck, channels, 1))

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, C, h, w) -> features of the same shape."""
        found = F.relu(self.conv2(F.relu(self.conv1(features))))
        return F.relu(self.conv3(found)) + features


class MirrorFusion(nn.Module):
    """Features and their mirror image, which is read where the features beside it say, added up."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.own = _normalised(nn.Conv2d(channels, channels, 1))
        self.weight = nn.Parameter(torch.empty(channels, channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(channels))
        bound = 1 / math.sqrt(9 * channels)
        nn.init.uniform_(self.weight, -bound, bound)
        # Of each tap its two offsets, in the order in which the convolution takes them, then each tap's weight.
        self.offsets = nn.Conv2d(2 * channels, 27, 3, padding=1)
        nn.init.zeros_(self.offsets.weight)
        nn.init.zeros_(cast(Tensor, self.offsets.bias))
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, C, h, w) -> features of the same shape."""
        mirrored, own = features.flip(-1), self.own(features)
        moves, mask = self.offsets(torch.cat([mirrored, own], dim=1)).split([18, 9], dim=1)
        read = deformable_convolution(mirrored, moves, mask.sigmoid(), self.weight, self.bias, padding=(1, 1))
        return F.relu(own + self.norm(read))


class BezierLaneNet(Detector):
    """Lanes as Bézier curves, one candidate a column (see the module)."""

    metas: ClassVar[dict[str, DetectorMeta]]
    architecture: ClassVar[type[Data]] = Architecture
    checkpoint_names: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"^dilated_blocks\.", "blocks."),
        (r"^simple_flip_2d\.proj1\.", "fusion.own."),
        (r"^simple_flip_2d\.proj2_conv\.conv_offset\.", "fusion.offsets."),
        (r"^simple_flip_2d\.proj2_conv\.", "fusion."),
        (r"^simple_flip_2d\.proj2_norm\.", "fusion.norm."),
        (r"^regression_head\.hidden_layers\.(\d+)\.", r"columns.\1.0."),
        (r"^regression_head\.hidden_norms\.(\d+)\.", r"columns.\1.1."),
        (r"^proj_classification\.", "score."),
        (r"^proj_regression\.", "curve."),
        (r"^segmentation_head\.conv\.conv\.", "mask.0."),
        (r"^segmentation_head\.conv\.bn\.", "mask.1."),
        (r"^segmentation_head\.conv_out\.", "mask.3."),
    )

    def __init__(self, meta: DetectorMeta, form: Form) -> None:
        """Raises InputError where the configuration's architecture has unknown or impossible options."""
        super().__init__(meta, form)
        self.options = options = self.options_of(Architecture)
        size = self.configuration.input
        self.frame = shares_of(size)
        self.backbone = build_backbone(meta.backbone, stages=options.stages)
        last = self.taps()[-1]
        channels, middle = last.channels, options.bottleneck
        grid = [math.ceil(side / last.stride) for side in size.network]
        self.place = nn.Conv2d(channels + 2, channels, 1) if options.placed else None
        self.blocks = nn.Sequential(*(DilatedBottleneck(channels, middle, dilation) for dilation in options.dilations))
        self.fusion = MirrorFusion(channels)
        layers = (nn.Conv1d(channels, channels, 3, padding=1) for _ in range(options.layers))
        self.columns = nn.Sequential(*(nn.Sequential(layer, nn.BatchNorm1d(channels), nn.ReLU()) for layer in layers))
        self.score = nn.Conv1d(channels, 1, 1)
        self.curve = nn.Conv1d(channels, 8, 1)
        self.mask = nn.Sequential(
            nn.Conv2d(channels, options.mask_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(options.mask_channels),
            nn.ReLU(),
            nn.Conv2d(options.mask_channels, 1, 1, bias=False),
        )
        for layer in (self.mask[0], self.mask[3]):
            nn.init.kaiming_normal_(cast(nn.Conv2d, layer).weight, a=1)
        # Upstream enlarges maps so that their outermost places are the outermost pixels.
        for name, pixels, places in zip(("mask_rows", "mask_columns"), size.network, grid, strict=True):
            matrix = linear_sampling(np.linspace(0, places - 1, pixels), places)
            self.register_buffer(name, matrix, persistent=False)
        rows, centres = ((torch.arange(places) + 0.5) / places for places in grid)
        coordinates = torch.stack([rows[:, None].expand(*grid), centres.expand(*grid)]) * 2 - 1
        self.register_buffer("coordinates", coordinates, persistent=False)
        for name, count in (("samples", SAMPLES), ("drawn", options.points)):
            self.register_buffer(name, torch.from_numpy(evenly(count)).float(), persistent=False)

    def taps(self) -> tuple[Tap, ...]:
        """The first three stages of the ResNet, strides 4 to 16."""
        return backbone_taps(self.backbone, "backbone")

    def encode_targets(self, lanes: Sequence[Lane], geometry: Geometry) -> dict[str, npt.NDArray[Any]]:
        """`curves`: float32 (labels, 4, 2), control points in shares of the frame; `present`: float32 (labels,), whether there is one;
        `mask`: uint8 (H, W), 1 where a lane lies, IGNORED where no frame is seen.

        Curves are cut at the frame's edges; a lane of which less than two of SAMPLES points lie inside is left out.
        """
        points = [near_to_far(lane.points[np.isfinite(lane.points).all(axis=1)]) for lane in lanes]
        fitted = [curve for line in points if (curve := fitted_curve(line)) is not None]
        inside = [curve for whole in fitted if (curve := self._inside(geometry.to_network(whole))) is not None]
        tallest = np.argsort([-abs(curve[0, 1] - curve[-1, 1]) for curve in inside], kind="stable")
        curves = np.zeros((self.options.labels, 4, 2), dtype=np.float32)
        present = np.zeros(self.options.labels, dtype=np.float32)
        # In the order of the labels: where two pairs of label and column are equally good, the matching follows it.
        for index, chosen in enumerate(sorted(tallest[: self.options.labels])):
            curves[index], present[index] = inside[chosen], 1.0
        lines = [geometry.to_network(line) for line in points if len(line) > 1]
        mask = binary_mask(lines, geometry, width=self.options.lane_width, beyond=IGNORED)
        return {"curves": curves, "present": present, "mask": mask}

    def _inside(self, curve: npt.NDArray[np.float64]) -> npt.NDArray[np.float64] | None:
        """The part of a curve in network pixels from the first to the last of its points inside the frame, in shares; None for none."""
        shares = self.frame.of(curve)
        sampled = evenly(SAMPLES) @ shares
        found = np.flatnonzero(((sampled > 0) & (sampled < 1)).all(axis=1))
        return part_of(shares, found[0] / (SAMPLES - 1), found[-1] / (SAMPLES - 1)) if len(found) > 1 else None

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """uint8 RGB (B, 3, H, W) -> `logits` (B, Q) and `curves` (B, Q, 4, 2) of Q columns; in training `mask` (B, h, w), logits."""
        normalised = normalise(images, self.meta.normalisation)
        features = self.backbone(normalised.contiguous(memory_format=torch.channels_last))[-1]
        spread = self.blocks(self._placed(features))
        # Places of the deformable convolution need all of fp32's digits.
        with torch.autocast(features.device.type, enabled=False):
            fused = self.fusion(spread.float())
        columns = self.columns(fused.mean(dim=2))
        logits, curves = self.score(columns)[:, 0], self.curve(columns).transpose(1, 2)
        curves = curves.reshape(*logits.shape, 4, 2)
        if self.place is not None:
            x = cast(Tensor, self.coordinates)[1, 0].to(curves.dtype)
            curves = curves + torch.stack([(x + 1) / 2, torch.zeros_like(x)], dim=-1)[:, None]
        outputs = {"logits": logits, "curves": curves}
        return outputs | {"mask": self.mask(features)[:, 0]} if self.training else outputs

    def _placed(self, features: Tensor) -> Tensor:
        if self.place is None:
            return features
        coordinates = cast(Tensor, self.coordinates).to(features.dtype).expand(len(features), -1, -1, -1)
        return F.relu(self.place(torch.cat([features, coordinates], dim=1)))

    def losses(self, outputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """`curve` (L1 of a matched curve's points, mean over its points), `lane` and `mask` (cross-entropies of columns and pixels)."""
        curves, logits = outputs["curves"].float(), outputs["logits"].float()
        present, samples = batch.targets["present"], cast(Tensor, self.samples)
        labels = (samples @ batch.targets["curves"]).flatten(2)
        with torch.no_grad():
            scores = logits.sigmoid()
            likeness = 1 - torch.cdist((samples @ curves).flatten(2), labels, p=1) / SAMPLES
            merit = (scores * self._highest(scores))[..., None] ** (1 - ALPHA) * likeness.clamp(0, 1) ** ALPHA
            pairs = matched_pairs(-merit, present > 0).float()
        # Of each label the curve that it is matched with: a product with zeros and ones, whose gradient is summed in a fixed order.
        matched = torch.einsum("bqm,bqnx->bmnx", pairs, curves)
        errors = ((samples @ matched).flatten(2) - labels).abs().sum(dim=-1) / SAMPLES
        weight = constant(POSITIVE, logits.device)
        lane = F.binary_cross_entropy_with_logits(logits, pairs.sum(dim=-1), pos_weight=weight) / POSITIVE
        mask = torch.einsum(
            "bhw,yh,xw->byx", outputs["mask"].float(), self.get_buffer("mask_rows"), self.get_buffer("mask_columns")
        )
        truth = batch.targets["mask"]
        pixels = F.binary_cross_entropy_with_logits(mask, (truth == 1).float(), pos_weight=weight, reduction="none")
        return {
            "curve": WEIGHTS["curve"] * (errors * present).sum() / present.sum().clamp(min=1),
            "lane": WEIGHTS["lane"] * lane,
            "mask": WEIGHTS["mask"] * (pixels * (truth != IGNORED)).mean() / POSITIVE,
        }

    def _highest(self, scores: Tensor) -> Tensor:
        """Whether each column (B, Q) is the first with the highest score of the window around it."""
        reach = self.options.window // 2
        _, best = F.max_pool1d(scores[:, None], self.options.window, stride=1, padding=reach, return_indices=True)
        return best[:, 0] == torch.arange(scores.shape[1], device=scores.device)

    def decode(self, outputs: dict[str, Tensor], geometries: Sequence[Geometry]) -> list[list[Lane]]:
        """The curves of the likeliest columns that are lanes by the threshold, from left to right. One tensor leaves the device."""
        scores = outputs["logits"].float().sigmoid()
        scores = scores * self._highest(scores)
        best = scores.topk(min(self.options.max_lanes, scores.shape[1])).indices.sort().values
        points = cast(Tensor, self.drawn) @ outputs["curves"].float().take_along_dim(best[..., None, None], dim=1)
        decoded = torch.cat([scores.gather(1, best)[..., None], points.flatten(2)], dim=2).cpu().numpy()
        threshold = self.configuration.recipe.confidence_threshold
        images: list[list[Lane]] = []
        for found, geometry in zip(decoded, geometries, strict=True):
            found = found[found[:, 0] >= max(threshold, np.finfo(np.float32).tiny)]
            shares = found[:, 1:].reshape(len(found), self.options.points, 2)
            lines = geometry.to_original(self.frame.to_network(shares))
            seen = ((shares[..., 0] >= 0) & (shares[..., 0] <= 1)) | (not self.options.trimmed)
            images.append(
                [
                    Lane(near_to_far(line[visible]), float(score))
                    for line, visible, score in zip(lines, seen, found[:, 0], strict=True)
                    if visible.sum() > 1
                ]
            )
        return images


def _normalised(layer: nn.Conv2d) -> nn.Sequential:
    return nn.Sequential(layer, nn.BatchNorm2d(layer.out_channels))


_PAPER = "Feng et al.: Rethinking Efficient Lane Detection via Curve Modeling, CVPR 2022"
_UPSTREAM = "https://github.com/voldemortX/pytorch-auto-drive"
_COMMIT = "137e63a9e6c3cd2cfeb15e101808478d7b25ddbd"


def _published(
    frame: tuple[int, int], network: tuple[int, int], epochs: int, threshold: float, **architecture: Any
) -> Configuration:
    """What upstream's configs/lane_detection/bezierlanenet share."""
    height, width = frame
    return Configuration(
        input=InputSize(frame=frame, crop=(0, 0, height, width), network=network),
        architecture=architecture,
        weights="imagenet",
        recipe=Recipe(
            optimizer="adam",
            learning_rate=6e-4,
            learning_rate_factors={"fusion.offsets": 0.1},
            schedule="cosine",
            epochs=epochs,
            batch_size=20,
            # Level 1b: shifts are given in pixels, the hue as a share of the circle.
            augmentation=Augmentation(
                flip=0.5,
                rotation=10,
                shift_x=50 / width,
                shift_y=20 / height,
                scale=0.2,
                brightness=0.3,
                contrast=0.3,
                saturation=0.3,
                hue=0.15 * 360,
            ),
            confidence_threshold=threshold,
        ),
    )


_PUBLISHED: dict[Form, Configuration] = {
    "culane": _published((590, 1640), (288, 800), 36, 0.95),
    "tusimple": _published((720, 1280), (360, 640), 400, 0.5, max_lanes=5, points=100, trimmed=True),
    "llamas": _published((717, 1276), (360, 640), 20, 0.95),
}


def _micro(form: Form, **architecture: Any) -> Configuration:
    """Numbers of this project: small, and trained in two minutes."""
    options = {"dilations": (2, 4), "bottleneck": 32, "mask_channels": 32, "window": 3, "lane_width": 4}
    return Configuration(
        input=micro_input(form),
        architecture=options | architecture,
        recipe=micro_recipe(
            learning_rate=8e-3,
            weight_decay=1e-2,
            steps=660,
            learning_rate_factors={"fusion.offsets": 0.1},
            confidence_threshold=0.5,
        ),
    )


_MICRO: dict[Form, Configuration] = {
    "culane": _micro("culane"),
    "tusimple": _micro("tusimple", max_lanes=5),
    "llamas": _micro("llamas"),
}

BezierLaneNet.metas = {
    name: DetectorMeta(
        name=name,
        paper=_PAPER,
        year=2022,
        family="parametric",
        backbone=backbone,
        upstream=_UPSTREAM,
        commit=_COMMIT,
        licence="BSD-3-Clause",
        configurations=configurations,
    )
    for name, backbone, configurations in (
        ("bezierlanenet_resnet18", "resnet18", _PUBLISHED),
        ("bezierlanenet_resnet34", "resnet34", _PUBLISHED),
        ("bezierlanenet_micro", "resnet_micro", _MICRO),
    )
}
