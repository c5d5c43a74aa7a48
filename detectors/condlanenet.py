"""CondLaneNet: Liu, Chen, Liu, Zhu, Xu, Wu, "CondLaneNet: a Top-to-down Lane Detection Framework Based on Conditional Convolution",
ICCV 2021.

A coarse map says where lanes start, at their near end, and there also what to look for: the weights of two 1x1 convolutions that are
that lane's alone. Read over a finer map, the first says on each row where the lane is, as the expected column; the second how far it is
from each cell; and a small network says from the first on which rows the lane is at all. Features come from a pyramid whose coarsest
map goes through self-attention. Facts come from the paper and from the authors' code, aliyun/conditional-lane-detection (Apache-2.0).
Its recurrent instance module, for lanes that fork from one start, belongs to CurveLanes: neither the CULane nor the TuSimple
configurations have it, so it isn't here. As upstream's labels, coordinates count from a frame's first pixel.

What differs in training: places around a start that also learn the lane are drawn from the labels and the geometry, not at random; the
offset is learned in cells within half of `width` of the lane, which upstream paints with whole cells; a label that leaves the image
and comes back is two lanes, to upstream none; a batch of two starts or fewer still teaches the coarse map, upstream's skips it. The
warm-up rises from a third of the learning rate, upstream's stays there. Of upstream's augmentations there are no shifted channels, no
shift of the value and no JPEG artefacts, a Gaussian blur stands for box and median, crops keep their aspect, and rotation, scale, shift
and crop come together.

What differs in decoding: at most `seeds` starts of an image are looked at. As upstream, of starts that are near each other the last
from left to right and from top to bottom stands for all, whatever the scores.

`condlanenet_micro` is the same code with other numbers, for budgets of a few hundred steps on a CPU.
"""

from __future__ import annotations

import math
import zlib
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
from detectors.meta import Augmentation, Configuration, Data, DetectorMeta, Form, InputSize, Normalisation, Recipe
from detectors.parts.frozen import freeze_stages, keep_statistics, with_frozen
from detectors.parts.heat_maps import gaussian_peaks, heat_loss, local_maxima, probabilities
from detectors.parts.lane_rows import EDGE, clipped
from detectors.parts.lane_starts import ABSENT, drawn_around, last_of_each, radii_of, row_crossings
from detectors.parts.micro import FRAMES, micro_input, micro_recipe
from detectors.parts.self_attention import AttentivePyramid, normalised_convolution
from harness.lanes import Geometry, Lane, apply_matrix, near_to_far, plain_geometry

Floats = npt.NDArray[np.float64]

WEIGHTS = {"heat": 1.0, "location": 1.0, "offset": 0.4, "range": 1.0}
"""Of the terms: `loss_weights` of upstream's configurations."""

RARE = -2.19
"""Bias of what is rare at first, a share of .1: mmdet/models/dense_heads/ctnet_head.py, and condlanenet_head.py for the lanes' maps."""

UNIT = 8.0
"""Kernels and features are given times this: of what is free to change, their products would else be far steeper than other outputs."""

SHORTEST = 1.0
"""Cells in length below which a label is none: mmdet/datasets/pipelines/lane_formating.py."""


class Architecture(Data):
    """Architecture options of CondLaneNet; the defaults are the published CULane configuration of ResNet-18.

    finest: stride of the maps that lanes are found on, and of the pyramid's finest level. start_stride: of the map of starts. channels:
    of pyramid and heads, attention: of the self-attention's layers, hidden: of the network that tells a lane's rows.
    radius: in cells of the map of starts, of what a start teaches it; half of it is drawn from for the places, `places` with the start
    itself, that learn its lane. width: cells across a lane that learn their offset. labels: lanes of an image that are learned.
    seeds: starts of an image that are looked at, apart: those within so many cells of each other are one. extended: rows by which a
    predicted lane is longer at both ends than it says.
    frozen_stages: stages of the backbone that don't learn. frozen_statistics: its normalisations keep their statistics.
    """

    finest: Literal[4, 8] = 8
    start_stride: Literal[4, 8, 16, 32] = 16
    channels: int = Field(64, gt=0)
    attention: int = Field(64, gt=0, multiple_of=4)
    hidden: int = Field(64, gt=0)
    radius: int = Field(6, ge=1)
    places: int = Field(5, ge=1)
    width: float = Field(12.0, gt=0)
    labels: int = Field(12, ge=1)
    seeds: int = Field(32, ge=1)
    apart: float = Field(4.0, ge=0)
    extended: int = Field(1, ge=0)
    frozen_stages: int = Field(1, ge=0, le=4)
    frozen_statistics: bool = True

    @model_validator(mode="after")
    def _in_the_pyramid(self) -> Self:
        if self.start_stride < self.finest:
            raise ValueError("'start_stride' is that of a level of the pyramid, none of which is finer than 'finest'")
        return self


class CondLaneNet(Detector):
    """Lanes by convolutions that their starts give (see the module)."""

    metas: ClassVar[dict[str, DetectorMeta]]
    architecture: ClassVar[type[Data]] = Architecture
    checkpoint_names: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"^neck\.trans_head\.attn_layers\.", "neck.attention."),
        (r"\.pre_conv\.conv\.", ".before.0."),
        (r"\.pre_conv\.bn\.", ".before.1."),
        (r"\.final_conv\.conv\.", ".after.0."),
        (r"\.final_conv\.bn\.", ".after.1."),
        (r"\.(query|key|value)_conv\.", r".\1."),
        (r"\.gamma$", ".share"),
        (r"^neck\.lateral_convs\.(\d)\.conv\.", r"neck.lateral.\1."),
        (r"^neck\.fpn_convs\.(\d)\.conv\.", r"neck.output.\1."),
        (r"^bbox_head\.mask_branch\.(\d)\.conv\.", r"branch.\1.0."),
        (r"^bbox_head\.mask_branch\.(\d)\.bn\.", r"branch.\1.1."),
        (r"^bbox_head\.ctnet_head\.hm\.", "heat."),
        (r"^bbox_head\.ctnet_head\.params\.", "kernels."),
        (r"^bbox_head\.mlp\.layers\.0\.", "rows.0."),
        (r"^bbox_head\.mlp\.layers\.1\.", "rows.2."),
    )
    # Of levels that nothing is read from.
    checkpoint_spare: ClassVar[tuple[str, ...]] = (r"^neck\.fpn_convs\.2\.",)

    def __init__(self, meta: DetectorMeta, form: Form) -> None:
        """Raises InputError where the configuration's architecture has unknown or impossible options."""
        super().__init__(meta, form)
        self.options = options = self.options_of(Architecture)
        size = self.configuration.input
        self.backbone = build_backbone(meta.backbone)
        levels = [tap for tap in self.taps() if tap.stride >= options.finest]
        self.grid, self.starts, coarsest = (
            (math.ceil(size.network[0] / stride), math.ceil(size.network[1] / stride))
            for stride in (options.finest, options.start_stride, levels[-1].stride)
        )
        outputs = (0, [tap.stride for tap in levels].index(options.start_stride))
        channels, maps = options.channels, options.channels + 2
        self.neck = AttentivePyramid([tap.channels for tap in levels], channels, options.attention, coarsest, outputs)
        self.branch = nn.Sequential(*(normalised_convolution(channels, channels) for _ in range(3)))
        self.heat = _head(channels, 1)
        self.kernels = _head(channels, 2 * (maps + 1))
        nn.init.constant_(cast(Tensor, cast(nn.Conv2d, self.heat[2]).bias), RARE)
        for layer in (self.kernels[0], self.kernels[2]):
            nn.init.zeros_(cast(Tensor, cast(nn.Conv2d, layer).bias))
        hidden = nn.Conv1d(self.grid[1], options.hidden, 1)
        self.rows = nn.Sequential(hidden, nn.ReLU(), nn.Conv1d(options.hidden, 2, 1))
        height, width = self.grid
        x, y = torch.arange(width).expand(height, width), torch.arange(height)[:, None].expand(height, width)
        # Both as shares of the width.
        self.register_buffer("coordinates", torch.stack([x, y])[None] / width, persistent=False)
        self.register_buffer("column_indices", torch.arange(width, dtype=torch.float32), persistent=False)
        self.register_buffer("cells", torch.arange(math.prod(self.starts)), persistent=False)
        # From cells of the fine map, counted from the frame's first pixel, to network pixels.
        corner = plain_geometry(size.frame, size.crop, size.network).to_network([size.crop[1], size.crop[0]])
        self.placed = np.array([[options.finest, 0, corner[0]], [0, options.finest, corner[1]], [0, 0, 1.0]])
        freeze_stages(self.backbone, options.frozen_stages)

    def train(self, mode: bool = True) -> Self:
        """As of any module, but for normalisations whose statistics are frozen."""
        super().train(mode)
        if self.options.frozen_statistics:
            keep_statistics(self.backbone)
        return self

    def taps(self) -> tuple[Tap, ...]:
        """The four stages of the ResNet, strides 4 to 32; those that are frozen don't train."""
        return with_frozen(backbone_taps(self.backbone, "backbone"), self.options.frozen_stages)

    def encode_targets(self, lanes: Sequence[Lane], geometry: Geometry) -> dict[str, npt.NDArray[Any]]:
        """In cells, of the map of starts (h, w) or of the fine one (H, W):

        `heat`: float32 (h, w), 1 at the start of each lane and falling off around it. `columns`: float32 (labels, H), where a lane
        crosses each row, else ABSENT. `reach`: float32 (labels, H), how far along the row offsets are learned. `places`: int64
        (labels, places), indices into the map of starts, -1 for none. A frame without lanes has one place, which learns that there is
        none.
        """
        options = self.options
        pieces = [piece for lane in lanes for piece in self._pieces(lane.points, geometry)]
        crossings = [row_crossings(piece, self.grid[0], options.width / 2) for piece in pieces]
        if len(pieces) > options.labels:
            longest = sorted(range(len(pieces)), key=lambda index: -int((crossings[index][0] >= 0).sum()))
            kept = sorted(longest[: options.labels])
            pieces, crossings = [pieces[index] for index in kept], [crossings[index] for index in kept]
        starts = np.array([piece[0] for piece in pieces]).reshape(-1, 2) * (options.finest / options.start_stride)
        cells, radii = starts.astype(np.int64), radii_of(starts, options.radius)
        columns = np.full((options.labels, self.grid[0]), ABSENT, dtype=np.float32)
        reach = np.zeros_like(columns)
        places = np.full((options.labels, options.places), -1, dtype=np.int64)
        generator = np.random.default_rng(zlib.crc32(geometry.matrix.tobytes() + starts.tobytes()))
        for index, (crossing, cell, radius) in enumerate(zip(crossings, cells, radii, strict=True)):
            columns[index], reach[index] = crossing
            drawn = drawn_around(cell, radius, self.starts, options.places, generator)
            places[index, : len(drawn)] = drawn
        if not pieces:
            places[0, 0] = generator.integers(math.prod(self.starts))
        heat = gaussian_peaks(cells, radii, self.starts)
        return {"heat": heat, "columns": columns, "reach": reach, "places": places}

    def _pieces(self, points: npt.NDArray[np.float32], geometry: Geometry) -> list[Floats]:
        """The parts of a label in the fine map, from the lowest point up, in its cells."""
        finite = points[np.isfinite(points).all(axis=1)]
        cells = apply_matrix(np.linalg.inv(self.placed) @ geometry.matrix, finite)
        cells = cells[np.argsort(-cells[:, 1], kind="stable")]
        if len(cells) < 2:
            return []
        height, width = self.grid
        pieces = clipped(cells, (height - 1 + EDGE, width - 1 + EDGE))
        return [piece for piece in pieces if np.hypot(*np.diff(piece, axis=0).T).sum() >= SHORTEST]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """uint8 RGB (B, 3, H, W) -> in training `heat` (B, h, w), logits of starts, `kernels` (B, P, h, w), `features` (B, C, H, W).

        In evaluation, of the K likeliest starts: `scores` (B, K), 0 for none; `places` (B, K), indices into the map of starts, rising,
        but for those without a start, which lie at 0 behind the others; of each row `columns` (B, K, H), the expected index, `offsets`
        (B, K, H) from there, `rows` (B, K, 2, H), logits of whether the lane isn't or is on it.
        """
        normalised = normalise(images, self.meta.normalisation)
        features = self.backbone(normalised.contiguous(memory_format=torch.channels_last))
        fine, coarse = self.neck(features[-len(self.neck.lateral) :])
        kernels, read = UNIT * self.kernels(coarse), UNIT * self.branch(fine)
        maps = {"heat": self.heat(coarse)[:, 0], "kernels": kernels, "features": read}
        return maps if self.training else self._found(maps)

    def _found(self, maps: dict[str, Tensor]) -> dict[str, Tensor]:
        """What `forward` gives in evaluation, of what it gives in training."""
        heat = maps["heat"].float()
        shares = probabilities(heat)
        peaks = local_maxima(shares).flatten(1)
        count = heat[0].numel()
        # By logits, which don't tie where shares do that are as good as 0.
        best = heat.flatten(1).masked_fill(~peaks, -torch.inf).topk(min(self.options.seeds, count)).indices
        # In the order in which they lie: it is steadier than that of the scores.
        places = torch.where(peaks.gather(1, best), best, count).sort(dim=1).values
        real = places < count
        places = torch.where(real, places, 0)
        scores = torch.where(real, shares.flatten(1).gather(1, places), 0.0)
        read = self._read(maps, places)
        columns = self._expected_columns(read["location"])
        index = columns.nan_to_num().clamp(0, self.grid[1] - 1).long()
        offsets = read["offset"].gather(-1, index[..., None])[..., 0]
        return {"scores": scores, "places": places, "columns": columns, "offsets": offsets, "rows": read["rows"]}

    def _read(self, maps: dict[str, Tensor], places: Tensor) -> dict[str, Tensor]:
        """Maps of training and indices (B, N), -1 for none -> `location`, `offset` (B, N, H, W) and logits `rows` (B, N, 2, H)."""
        height, width = self.grid
        with torch.autocast(places.device.type, enabled=False):
            features, kernels = (maps[name].float() / UNIT for name in ("features", "kernels"))
            placed = torch.cat([self.get_buffer("coordinates").expand(len(features), -1, -1, -1), features], dim=1)
            # As a product with zeros and ones, whose gradient is summed in a fixed order.
            chosen = (places[..., None] == self.get_buffer("cells")).to(kernels.dtype)
            own = (chosen @ kernels.flatten(2).transpose(1, 2)).reshape(len(kernels), -1, kernels.shape[1] // 2)
            read = own[..., :-1] @ placed.flatten(2) + own[..., -1:] + RARE
            location, offset = read.view(len(read), -1, 2, height, width).unbind(dim=2)
            rows = self.rows(location.flatten(0, 1).transpose(1, 2)).view(len(read), -1, 2, height)
        return {"location": location, "offset": offset, "rows": rows}

    def _expected_columns(self, location: Tensor) -> Tensor:
        """Location (..., H, W) -> the expected index of the column on each row (..., H)."""
        return (location.softmax(dim=-1) * self.get_buffer("column_indices")).sum(dim=-1)

    def losses(self, outputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """`heat` (focal), `location` and `offset` (L1 in cells, of a lane's rows and of cells near it), `range` (cross-entropy)."""
        targets = batch.targets
        places, columns, reach = targets["places"], targets["columns"][:, :, None], targets["reach"][:, :, None]
        read = self._read(outputs, places.flatten(1))
        location, offset, rows = (
            read[name].view(*places.shape, *read[name].shape[2:]) for name in ("location", "offset", "rows")
        )
        there = (places >= 0)[..., None]
        on = columns >= 0
        away = columns[..., None] - self.get_buffer("column_indices")
        # The centre of a column's cell is half a cell beyond its index.
        misplaced = (self._expected_columns(location) + 0.5 - columns).abs()
        wrong = torch.where(on, rows[..., 0, :] - rows[..., 1, :], rows[..., 1, :] - rows[..., 0, :])
        terms = {
            "heat": heat_loss(outputs["heat"].float(), targets["heat"]),
            "location": _mean(misplaced, on & there),
            "offset": _mean((offset - away).abs(), (away.abs() < reach[..., None]) & there[..., None]),
            "range": _mean(F.softplus(wrong), there.expand_as(wrong)),
        }
        return {name: WEIGHTS[name] * term for name, term in terms.items()}

    def decode(self, outputs: dict[str, Tensor], geometries: Sequence[Geometry]) -> list[list[Lane]]:
        """The lanes of starts that are likely enough and apart, a point a row, from the one below its first to the one above its last.

        One tensor leaves the device.
        """
        found = outputs if "scores" in outputs else self._found(outputs)
        rows = found["rows"]
        kept = [
            found["scores"].float()[..., None],
            found["places"].float()[..., None],
            # From the index's whole part, as the cell's that the offset was read in.
            found["columns"].float().trunc() + found["offsets"].float(),
            (rows[..., 1, :] > rows[..., 0, :]).float(),
        ]
        decoded = torch.cat(kept, dim=-1).cpu().numpy()
        return [self._lanes(image, geometry) for image, geometry in zip(decoded, geometries, strict=True)]

    def _lanes(self, seeds: npt.NDArray[np.float32], geometry: Geometry) -> list[Lane]:
        """Seeds (K, 2 + 2 H) of an image: score, place, columns, and which rows are the lane's."""
        threshold = max(self.configuration.recipe.confidence_threshold, float(np.finfo(np.float32).tiny))
        seeds = seeds[seeds[:, 0] >= threshold]
        to_original = np.linalg.inv(geometry.matrix) @ self.placed
        lanes: list[Lane] = []
        for seed in seeds[last_of_each(seeds[:, 1], self.starts[1], self.options.apart)]:
            columns, on = np.split(seed[2:], 2)
            rows = np.flatnonzero(on)
            if len(rows):
                longer = self.options.extended
                rows = np.arange(max(rows[0] - longer, 0), min(rows[-1] + longer + 1, len(on)))
                rows = rows[np.isfinite(columns[rows])]
            if len(rows) > 1:
                points = apply_matrix(to_original, np.stack([columns[rows], rows], axis=1))
                lanes.append(Lane(near_to_far(points), float(seed[0])))
        return lanes


class CondLaneNetLarge(CondLaneNet):
    """With a pyramid from stride 4 on, of which it reads the first and the third level."""

    checkpoint_spare: ClassVar[tuple[str, ...]] = (r"^neck\.fpn_convs\.[13]\.",)


def _head(channels: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, outputs, 1))


def _mean(errors: Tensor, counted: Tensor) -> Tensor:
    """Of the errors that count; 0 where none does. `counted` broadcasts."""
    return (errors * counted).sum() / counted.expand_as(errors).sum().clamp(min=1)


_PAPER = "Liu, Chen, Liu, Zhu, Xu, Wu: CondLaneNet: a Top-to-down Lane Detection Framework Based on Conditional Convolution, ICCV 2021"
_UPSTREAM = "https://github.com/aliyun/conditional-lane-detection"
_COMMIT = "c57b242deea809800d1bb3ec547f12cc357ce95b"

_OWN_MEAN = Normalisation(
    mean=(75.3 / 255, 76.6 / 255, 77.6 / 255), std=(50.5 / 255, 53.8 / 255, 54.3 / 255), order="bgr"
)


def _published(frame: tuple[int, int], top: int, recipe: dict[str, Any], **architecture: Any) -> Configuration:
    """What configs/condlanenet share. They list two devices, whose batches make a step here.

    Upstream's program doesn't read that list, and its README has CULane trained on four, with the same learning rate: the batch of the
    published figures isn't known.
    """
    augmentation = Augmentation(
        rotation=10,
        # After crop and resize.
        in_view=True,
        shift_x=0.1,
        shift_y=0.1,
        scale=0.2,
        # 0.8 of the area.
        crop=1 - math.sqrt(0.8),
        # albumentations' RandomBrightness adds a share of white.
        lift=0.2,
        # OpenCV's hue has 180 steps, its saturation 255.
        hue=20,
        saturation=15 / 255,
        blur=0.2,
        blur_sigma=0.8,
        geometric_probability=0.6,
        colour_probability=0.7,
    )
    return Configuration(
        input=InputSize(frame=frame, crop=(top, 0, *frame), network=(320, 800)),
        architecture=architecture,
        weights="imagenet",
        recipe=Recipe(
            optimizer="adam",
            schedule="multistep",
            warmup_start=1 / 3,
            augmentation=augmentation,
            confidence_threshold=0.5,
            **recipe,
        ),
    )


def _forms(**architecture: Any) -> dict[Form, Configuration]:
    culane = {"learning_rate": 3e-4, "epochs": 16, "milestones": (8 / 16, 14 / 16), "batch_size": 8}
    tusimple = {"learning_rate": 2.5e-4, "epochs": 70, "milestones": (40 / 70, 60 / 70), "batch_size": 16}
    return {
        "culane": _published((590, 1640), 270, culane | {"warmup_steps": 100}, **architecture),
        # The configuration says that starts within 2 cells are one; the script that tests doesn't read it, and 3 is its default.
        "tusimple": _published((720, 1280), 160, tusimple | {"warmup_steps": 10}, apart=3.0, **architecture),
    }


def _micro(form: Form) -> Configuration:
    """Numbers of this project: small, and trained in a minute."""
    return Configuration(
        input=micro_input(form),
        architecture={
            "start_stride": 8,
            "channels": 32,
            "attention": 32,
            "hidden": 32,
            "radius": 4,
            "width": 4.0,
            "seeds": 16,
            "apart": 3.0,
            "extended": 0,
            "frozen_stages": 0,
            "frozen_statistics": False,
        },
        recipe=micro_recipe(
            learning_rate=1.2e-2, weight_decay=1e-2, steps=220, clip_gradient_norm=5.0, confidence_threshold=0.5
        ),
    )


def _metas(*variants: tuple[str, str, Normalisation, dict[Form, Configuration]]) -> dict[str, DetectorMeta]:
    return {
        name: DetectorMeta(
            name=name,
            paper=_PAPER,
            year=2021,
            family="row-wise",
            backbone=backbone,
            upstream=_UPSTREAM,
            commit=_COMMIT,
            licence="Apache-2.0",
            normalisation=normalisation,
            configurations=configurations,
        )
        for name, backbone, normalisation, configurations in variants
    }


CondLaneNet.metas = _metas(
    ("condlanenet_resnet18", "resnet18", _OWN_MEAN, _forms()),
    ("condlanenet_resnet34", "resnet34", _OWN_MEAN, _forms()),
    (
        "condlanenet_micro",
        "resnet_micro",
        Normalisation(),
        {form: _micro(form) for form in FRAMES},
    ),
)
CondLaneNetLarge.metas = _metas(
    ("condlanenet_resnet101", "resnet101", _OWN_MEAN, _forms(finest=4, attention=256)),
)
