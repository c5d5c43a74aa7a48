"""GANet: Wang, Ma, Huang, Hui, Wang, Qian, Zhang, "A Keypoint-based Global Association Network for Lane Detection", CVPR 2022.

A lane is a set of keypoints that point at the same start. A map says where keypoints are, another how far each is from the start of
its lane, a third where in its cell it lies. A backbone's features, the coarsest through self-attention, are joined on the finest map;
there keypoints look along their lane before they are told: every place predicts some points of the lane it is on and gathers the
features there, by a deformable convolution with a row of taps. In decoding, the keypoints that lie at their lane's start by their own
account are clustered, and each keypoint goes to the cluster that it points at. Facts come from the paper and from the authors' code,
Wolfwjs/GANet (MIT), whose network, losses and recipes these are.

Left out is what upstream has and nothing depends on: the map of starts, whose loss counts nothing and which decoding doesn't read;
the outputs and aggregations of coarser maps; the refined points. As upstream's labels, coordinates count from a frame's first pixel.

What differs: labels on one row are no curve, and of two points on one row the first counts (upstream fails); of more than `labels`
lanes, the tallest teach the aggregation (upstream fails); a lane wholly below the frame teaches nothing; the learning rate falls step
by step, upstream's epoch by epoch. A decoded lane's points go upwards one by one; upstream writes them without their fractions and in
the order of their cells, so that a flat lane jumps to and fro within a row of cells.

`ganet_micro` is the same code with other numbers, small enough for a CPU.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, ClassVar, Self, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from detectors.backbones import backbone_taps, build_backbone
from detectors.base import Batch, Detector, Tap, normalise
from detectors.meta import Augmentation, Configuration, Data, DetectorMeta, Form, InputSize, Normalisation, Recipe
from detectors.parts.deformable import deformable_convolution
from detectors.parts.frozen import freeze_stages, keep_statistics, with_frozen
from detectors.parts.heat_maps import heat_loss, probabilities
from detectors.parts.keypoints import clustered, curve_through, keypoint_map, keypoints_of, points_along
from detectors.parts.matching import matched_pairs
from detectors.parts.micro import FRAMES, micro_input, micro_recipe
from detectors.parts.pyramid import added_downwards
from detectors.parts.self_attention import SelfAttention
from detectors.parts.shares import shares_of
from harness.lanes import Geometry, Lane

WEIGHTS = {"keypoint": 1.0, "offset": 0.5, "error": 1.0, "aggregation": 0.2}
SHORT = 0.4
"""Weights of the terms, and of the offsets of a lane that is less than a cell high: `loss_weights` and `joint_weights` of upstream's
configurations."""

FEW = 2
"""Keypoints of a whole batch up to which their map isn't learned: mmdet/models/losses/ganetloss.py."""

RADIUS = 2
"""Cells around a keypoint whose value in the map rises towards it."""

BEND = 1 / 9
"""Error up to which the aggregation's loss is square: `beta` of the same file's `loss_reg`."""

PASSED = 0.1
"""Share of the gradient that reaches the points through the features that they gather: mmdet/models/dense_heads/lanepoints_conv.py."""

ROOT = 1.0
"""Rows that a keypoint may be from its start to count as one: `root_thr` of mmdet/models/dense_heads/ganet_head.py."""


class Architecture(Data):
    """Architecture options of GANet; the defaults are the published CULane configuration of ResNet-18.

    stride: of the keypoints' map. width: of the joined maps and of the branches. attention: widths of the self-attention layers.
    taps: points of a lane that a place gathers. gathered: features of the layers before, of which there are `layers` on the way to
    the features and to the points. samples: keypoints that a label is made of, evenly by rows; `learned`: points that the aggregation
    learns of it, of so many `labels` at most. reach: distance in cells in which starts are one cluster, and in which a keypoint
    belongs to it. least: a lane has more keypoints than this.
    frozen_stages: stages of the backbone that don't learn. frozen_statistics: its normalisations keep their statistics.
    """

    stride: int = 8
    width: int = Field(64, gt=0)
    attention: tuple[int, ...] = (64, 64)
    taps: int = Field(7, gt=0)
    gathered: int = Field(256, gt=0)
    layers: int = Field(3, gt=0)
    samples: int = Field(45, ge=2)
    learned: int = Field(41, ge=2)
    labels: int = Field(6, ge=1)
    reach: float = Field(5.0, gt=0)
    least: int = Field(10, ge=1)
    frozen_stages: int = Field(1, ge=0, le=4)
    frozen_statistics: bool = True

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.stride not in (4, 8, 16):
            raise ValueError("'stride' is that of a stage but the last: 4, 8 or 16")
        if not self.attention or any(width % 4 for width in self.attention):
            raise ValueError("'attention' is a list of widths, multiples of 4")
        if self.taps % 2 == 0 or self.taps > self.learned:
            raise ValueError("'taps' is an odd number, of no more points than are 'learned'")
        return self


class Aggregation(nn.Module):
    """The lane-aware feature aggregator: each place predicts points of its lane, as seen from it, and gathers features there."""

    def __init__(self, options: Architecture) -> None:
        super().__init__()
        width, gathered, taps = options.width, options.gathered, options.taps
        widths = [width, *[gathered] * options.layers]
        self.features = nn.ModuleList(_square(*pair) for pair in itertools.pairwise(widths))
        self.places = nn.ModuleList(_square(*pair) for pair in zip(widths, [*widths[1:], width], strict=True))
        self.points = nn.Conv2d(width, 2 * taps, 1)
        self.weight = nn.Parameter(torch.empty(width, gathered, 1, taps))
        bound = 1 / math.sqrt(gathered * taps)
        nn.init.uniform_(self.weight, -bound, bound)
        at = torch.arange(taps) - taps // 2
        self.register_buffer("row", torch.stack([torch.zeros_like(at), at], dim=1).view(1, -1, 1, 1), persistent=False)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, width, h, w) -> the gathered ones, of the same shape, and points (B, 2 * taps, h, w): of each y and x."""
        gathered, places = features, features
        for layer in self.features:
            gathered = F.relu(layer(gathered))
        for layer in self.places:
            places = F.relu(layer(places))
        points = self.points(places)
        # Places of the deformable convolution need all of fp32's digits.
        with torch.autocast(features.device.type, enabled=False):
            exact = points.float()
            moves = (1 - PASSED) * exact.detach() + PASSED * exact - self.get_buffer("row")
            padding = (0, self.weight.shape[-1] // 2)
            output = deformable_convolution(gathered.float(), moves, None, self.weight.float(), padding=padding)
        return F.relu(output), points


class GANet(Detector):
    """Lanes as keypoints that point at the start of their lane (see the module)."""

    metas: ClassVar[dict[str, DetectorMeta]]
    architecture: ClassVar[type[Data]] = Architecture
    checkpoint_names: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"^neck\.trans_head\.attn_layers\.", "attention."),
        (r"\.pre_conv\.conv\.", ".before.0."),
        (r"\.pre_conv\.bn\.", ".before.1."),
        (r"\.final_conv\.conv\.", ".after.0."),
        (r"\.final_conv\.bn\.", ".after.1."),
        (r"\.(query|key|value)_conv\.", r".\1."),
        (r"\.gamma$", ".share"),
        (r"^neck\.lateral_convs\.(\d)\.conv\.", r"lateral.\1."),
        (r"^neck\.fpn_convs\.0\.conv\.", "joined."),
        (r"^neck\.def_convs\.0\.cls_convs\.(\d)\.conv\.", r"aggregation.features.\1."),
        (r"^neck\.def_convs\.0\.reg_convs\.(\d)\.conv\.", r"aggregation.places.\1."),
        (r"^neck\.def_convs\.0\.reppoints_pts_init_conv\.", "aggregation.places.3."),
        (r"^neck\.def_convs\.0\.reppoints_pts_init_out\.", "aggregation.points."),
        (r"^neck\.def_convs\.0\.reppoints_cls_conv\.", "aggregation."),
        (r"^bbox_head\.keypts_head\.hm\.", "keypoint."),
        (r"^bbox_head\.offset_head\.offset_map\.", "offset."),
        (r"^bbox_head\.reg_head\.offset_map\.", "error."),
    )
    checkpoint_spare: ClassVar[tuple[str, ...]] = (
        r"^neck\.def_convs\.[1-9]\.",
        r"^neck\.def_convs\.0\.reppoints_pts_refine_",
        r"^neck\.fpn_convs\.[1-9]\.",
        r"^bbox_head\.centerpts_head\.",
    )

    def __init__(self, meta: DetectorMeta, form: Form) -> None:
        """Raises InputError where the configuration's architecture has unknown or impossible options."""
        super().__init__(meta, form)
        self.options = options = self.options_of(Architecture)
        size = self.configuration.input
        self.frame = shares_of(size)
        self.grid = size.network[0] // options.stride, size.network[1] // options.stride
        self.backbone = build_backbone(meta.backbone)
        freeze_stages(self.backbone, options.frozen_stages)
        taps = [tap for tap in self.taps() if tap.stride >= options.stride]
        last, widths = taps[-1], [taps[-1].channels, *options.attention]
        coarsest = math.ceil(size.network[0] / last.stride), math.ceil(size.network[1] / last.stride)
        self.attention = nn.Sequential(*(SelfAttention(*pair, coarsest) for pair in itertools.pairwise(widths)))
        channels = [*(tap.channels for tap in taps[:-1]), widths[-1]]
        self.lateral = nn.ModuleList(nn.Conv2d(count, options.width, 1) for count in channels)
        self.aggregation = Aggregation(options)
        self.joined = _square(options.width, options.width)
        for layer in (*self.attention.modules(), *self.lateral, *self.aggregation.modules(), self.joined):
            if isinstance(layer, nn.Conv2d):
                nn.init.xavier_uniform_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        self.keypoint, self.offset, self.error = (_branch(options.width, count) for count in (1, 2, 2))
        # CenterNet's: keypoints are rare.
        nn.init.constant_(cast(Tensor, self.keypoint[-1].bias), -2.19)
        for branch in (self.offset, self.error):
            for layer in (branch[0], branch[-1]):
                nn.init.zeros_(cast(Tensor, layer.bias))

    def train(self, mode: bool = True) -> Self:
        """As of any module, but for normalisations that keep their statistics."""
        super().train(mode)
        if self.options.frozen_statistics:
            keep_statistics(self.backbone)
        return self

    def taps(self) -> tuple[Tap, ...]:
        """The four stages, strides 4 to 32, of which the first don't train where they are frozen."""
        return with_frozen(backbone_taps(self.backbone, "backbone"), self.options.frozen_stages)

    def encode_targets(self, lanes: Sequence[Lane], geometry: Geometry) -> dict[str, npt.NDArray[Any]]:
        """All float32, in cells of the map, counted from the frame's first pixel: `keypoint` (h, w), 1 at a keypoint and falling off
        around it; `error` and `offset` (2, h, w), x and y of what lacks to the keypoint and from there to the lane's start; `weight`
        (h, w), how much that counts, 0 without a keypoint; `points` (labels, learned, 2), y and x of the cells of a lane from the far
        end, -1 for none.
        """
        height, width = self.grid
        scale = np.array([width, height])
        lines = [geometry.to_network(lane.points[np.isfinite(lane.points).all(axis=1)]) for lane in lanes]
        cells = [self.frame.of(line) * scale for line in lines]
        curves = [curve for line in cells if (curve := curve_through(line, self.grid)) is not None]
        error, offset = np.zeros((2, 2, *self.grid), dtype=np.float32)
        weight = np.zeros(self.grid, dtype=np.float32)
        found = [keypoints_of(curve, self.options.samples, self.grid) for curve in curves]
        for keypoints in (one for one in found if len(one)):
            x, y = keypoints.astype(np.intp).T
            # Where two keypoints share a cell, the further one is kept.
            error[:, y, x] = keypoints.T - [x, y]
            offset[:, y, x] = (keypoints[0] - keypoints).T
            weight[y, x] = 1.0 if keypoints[0, 1] - keypoints[-1, 1] >= 1 else SHORT
        tallest = np.argsort([curve.far - curve.near for curve in curves], kind="stable")[: self.options.labels]
        points = np.full((self.options.labels, self.options.learned, 2), -1.0, dtype=np.float32)
        for place, chosen in enumerate(sorted(tallest)):
            inside = points_along(curves[chosen], self.options.learned).clip(0, scale - 1)
            points[place] = inside.astype(np.intp)[:, ::-1]
        peaks = keypoint_map(np.argwhere(weight), self.grid, RADIUS)
        return {"keypoint": peaks, "error": error, "offset": offset, "weight": weight, "points": points}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """uint8 RGB (B, 3, H, W) -> maps of the size of the targets: `keypoint` (B, 1, h, w), logits, `offset` and `error`
        (B, 2, h, w); in training also `points` (B, 2 * taps, h, w), y and x of points of the lane as seen from each place.
        """
        normalised = normalise(images, self.meta.normalisation)
        features = self.backbone(normalised.contiguous(memory_format=torch.channels_last))[-len(self.lateral) :]
        features[-1] = self.attention(features[-1])
        maps = [lateral(feature) for lateral, feature in zip(self.lateral, features, strict=True)]
        joined = added_downwards(maps)[0]
        gathered, points = self.aggregation(joined)
        outputs = {
            "keypoint": self.keypoint(self.joined(gathered)),
            "offset": self.offset(joined),
            "error": self.error(joined),
        }
        return outputs | {"points": points} if self.training else outputs

    def losses(self, outputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """`keypoint` (focal), `error` and `offset` (L1 at the keypoints), `aggregation` (smooth L1 of the points that places on a lane
        predict to those of the label that they are matched with).
        """
        targets = batch.targets
        few = (targets["keypoint"] == 1).sum() <= FEW
        keypoint = heat_loss(outputs["keypoint"].float()[:, 0], targets["keypoint"]) * ~few
        weight = targets["weight"][:, None]
        known = (weight > 0).float()
        error = ((outputs["error"].float() - targets["error"]).abs() * known).sum() / (known.sum() + 1e-4)
        offset = ((outputs["offset"].float() - targets["offset"]).abs() * weight).sum() / (2 * known.sum() + 1e-4)
        return {
            "keypoint": WEIGHTS["keypoint"] * keypoint,
            "error": WEIGHTS["error"] * error,
            "offset": WEIGHTS["offset"] * offset,
            "aggregation": WEIGHTS["aggregation"] * self._aggregation(outputs["points"].float(), targets["points"]),
        }

    def _aggregation(self, maps: Tensor, labels: Tensor) -> Tensor:
        """Mean over all places for labels, those without one count nothing, nor those on the first row as upstream has it."""
        image, place = torch.nonzero(labels[:, :, 0, 0] > 0, as_tuple=True)
        points = labels[image, place]
        y, x = points.long().unbind(-1)
        height, width = maps.shape[-2:]
        # A read whose gradient is summed in a fixed order.
        table = maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])
        seen = F.embedding((image[:, None] * height + y) * width + x, table)
        predicted = points[:, :, None] + seen.view(*y.shape, self.options.taps, 2)
        with torch.no_grad():
            costs = (predicted[:, :, :, None] - points[:, None, None]).square().sum(dim=-1)
            pairs = matched_pairs(costs, torch.ones_like(costs[..., 0, :], dtype=torch.bool))
            matched = pairs.to(points.dtype) @ points[:, None]
        total = F.smooth_l1_loss(predicted, matched, reduction="sum", beta=BEND)
        return total / (labels.numel() * self.options.taps)

    def decode(self, outputs: dict[str, Tensor], geometries: Sequence[Geometry]) -> list[list[Lane]]:
        """Keypoints above the threshold, highest among their neighbours on a row, by the cluster of starts that they point at.

        A lane's score is the mean of its keypoints'. One tensor leaves the device.
        """
        scores = probabilities(outputs["keypoint"].float())
        highest = F.max_pool2d(scores, (1, 3), stride=1, padding=(0, 1)) == scores
        maps = torch.cat([scores * highest, outputs["offset"].float(), outputs["error"].float()], dim=1).cpu().numpy()
        return [self._lanes(found, geometry) for found, geometry in zip(maps, geometries, strict=True)]

    def _lanes(self, maps: npt.NDArray[np.float32], geometry: Geometry) -> list[Lane]:
        y, x = np.nonzero(maps[0] > max(self.configuration.recipe.confidence_threshold, 0.0))
        values = maps[:, y, x].T.astype(np.float64)
        finite = np.isfinite(values).all(axis=1)
        cells, values = np.stack([x, y], axis=1)[finite], values[finite]
        belongs, count = clustered(cells, cells + values[:, 1:3], values[:, 2] < ROOT, self.options.reach)
        shares = (cells + values[:, 3:]) / [self.grid[1], self.grid[0]]
        points = geometry.to_original(self.frame.to_network(shares))
        lanes = []
        for cluster in range(count):
            members = np.flatnonzero(belongs == cluster)
            if len(members) > self.options.least:
                order = np.argsort(-points[members, 1], kind="stable")
                lanes.append(Lane(points[members][order].astype(np.float32), float(values[members, 0].mean())))
        return lanes


def _square(channels: int, width: int) -> nn.Conv2d:
    return nn.Conv2d(channels, width, 3, padding=1)


def _branch(width: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(_square(width, width), nn.ReLU(), nn.Conv2d(width, outputs, 1))


_PAPER = "Wang et al.: A Keypoint-based Global Association Network for Lane Detection, CVPR 2022"
_UPSTREAM = "https://github.com/Wolfwjs/GANet"
_COMMIT = "8685a61fdccdf20a2846a99ba1f83135b772ba97"
_NORMALISATION = Normalisation(
    mean=(75.3 / 255, 76.6 / 255, 77.6 / 255), std=(50.5 / 255, 53.8 / 255, 54.3 / 255), order="bgr"
)
_FINE: dict[str, Any] = {"stride": 4, "taps": 9, "attention": (256, 256), "samples": 90, "learned": 81}
"""What ResNet-101 has in both datasets."""


def _published(
    frame: tuple[int, int], top: int, epochs: int, threshold: float, reach: float, least: int, **architecture: Any
) -> Configuration:
    """What upstream's configs/*/final_exp_*.py share; what they import last, common.py, overrules the recipe above it."""
    height, width = frame
    return Configuration(
        input=InputSize(frame=frame, crop=(top, 0, height, width), network=(320, 800)),
        architecture={**architecture, "reach": reach, "least": least},
        weights="imagenet",
        recipe=Recipe(
            optimizer="adam",
            learning_rate=1e-3,
            schedule="poly",
            power=1.0,
            warmup_steps=100,
            warmup_start=0.1,
            epochs=epochs,
            # 32 on each of two devices.
            batch_size=64,
            clip_gradient_norm=35,
            # Upstream moves and crops a sample by chances of their own, .6 each, shifts its colours by .7 and its brightness by .6; a
            # crop keeps four fifths of the area or more, but not the aspect; the hue is given in steps of two degrees, the saturation's
            # shift in grey levels; the value's isn't here.
            augmentation=Augmentation(
                # After crop and resize.
                in_view=True,
                flip=0.5,
                rotation=10,
                shift_x=0.1,
                shift_y=0.1,
                scale=0.2,
                crop=0.1,
                geometric_probability=0.6,
                # albumentations' RandomBrightness adds a share of white.
                lift=0.2,
                hue=20,
                saturation=15 / 255,
                colour_probability=0.7,
                blur=0.2,
                blur_sigma=0.8,
            ),
            confidence_threshold=threshold,
        ),
    )


_CULANE: dict[str, Any] = {"frame": (590, 1640), "top": 270, "epochs": 60}
_TUSIMPLE: dict[str, Any] = {"frame": (720, 1280), "top": 160, "epochs": 300}

_COARSE: dict[Form, Configuration] = {
    "culane": _published(**_CULANE, threshold=0.4, reach=5, least=10),
    "tusimple": _published(**_TUSIMPLE, threshold=0.3, reach=4, least=7),
}
_LARGE: dict[Form, Configuration] = {
    "culane": _published(**_CULANE, threshold=0.3, reach=10, least=20, **_FINE),
    "tusimple": _published(**_TUSIMPLE, threshold=0.3, reach=6, least=6, **_FINE),
}


def _micro(form: Form, **architecture: Any) -> Configuration:
    """Numbers of this project: small, and trained in a minute."""
    options = {
        "width": 32,
        "attention": (32,),
        "taps": 5,
        "gathered": 32,
        "layers": 1,
        "samples": 20,
        "learned": 17,
        "reach": 3.0,
        "least": 3,
        "frozen_stages": 0,
        "frozen_statistics": False,
    }
    return Configuration(
        input=micro_input(form),
        architecture=options | architecture,
        recipe=micro_recipe(learning_rate=3e-3, weight_decay=1e-2, steps=220, confidence_threshold=0.4),
    )


_MICRO: dict[Form, Configuration] = {form: _micro(form) for form in FRAMES}

GANet.metas = {
    name: DetectorMeta(
        name=name,
        paper=_PAPER,
        year=2022,
        family="keypoint",
        backbone=backbone,
        upstream=_UPSTREAM,
        commit=_COMMIT,
        licence="MIT",
        normalisation=_NORMALISATION,
        configurations=configurations,
    )
    for name, backbone, configurations in (
        ("ganet_resnet18", "resnet18", _COARSE),
        ("ganet_resnet34", "resnet34", _COARSE),
        ("ganet_resnet101", "resnet101", _LARGE),
        ("ganet_micro", "resnet_micro", _MICRO),
    )
}
