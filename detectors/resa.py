"""RESA: Zheng et al., "RESA: Recurrent Feature-Shift Aggregator for Lane Detection", AAAI 2021.

Lanes are found by segmentation: every pixel belongs to the background or to one of the lanes, which are told apart by their order from
left to right, and one number a lane says whether it exists. Between a dilated backbone of stride 8 and the decoder, the feature map is
shifted by several strides downwards, upwards, to the right and to the left, and what a convolution makes of the shifted map is added
to it, so that a place learns from places far away. Facts come from the paper, from ZJULearning/resa (Apache-2.0) and from
voldemortX/pytorch-auto-drive (BSD-3).

`resa_resnet18` and `resa_resnet34` are pytorch-auto-drive's network, losses and recipe: against the authors' code, normalised reduced
features, five iterations, the bilateral decoder on CULane too, a larger existence head, no crop. What differs in training: masks are
drawn from the labels in network pixels and lanes are given to slots by where they cross the bottom of the augmented frame, not by the
label file's lane numbers; lanes beyond the slots are background, upstream ignores them; the warm-up multiplies the polynomial decay,
which upstream starts only after it. Decoding reads the probabilities at exactly the rows of the frame and gives pixel centres, where
upstream truncates both to whole pixels.

`resa_micro` is the same code with other numbers, for budgets of a few hundred steps on a CPU. Its maps have stride 4, and what the
aggregator adds counts a tenth: with the published weight of 2, a network that starts at random learns where lanes usually lie and
hardly looks at the image (F1@50 .17 after 220 steps of 16 on rendered roads, at stride 2, 4 iterations and 32 channels).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from detectors.backbones import backbone_taps, build_backbone
from detectors.base import Batch, Detector, Tap, normalise
from detectors.meta import Augmentation, Configuration, Data, DetectorMeta, Form, InputSize, Recipe
from detectors.parts.masks import slot_mask
from detectors.parts.sampling import linear_sampling
from harness.lanes import Geometry, Lane, near_to_far, plain_geometry
from harness.validation import validated

STRIDE = 8
KERNEL = 9
"""Stride of the backbone and length of the aggregator's convolutions: fea_stride and conv_stride of ZJULearning/resa's configs."""

BACKGROUND_WEIGHT = 0.4
EXISTENCE_WEIGHT = 0.1
"""Of the background in the cross-entropy, and of the existence loss: configs/lane_detection/common/optims/segloss_5class.py."""

DROPOUT = 0.1
EXISTENCE_MAPS = 5
"""Of the existence head, whatever the number of lanes: utils/models/common_models/heads/encoder_decoder_lane_exist.py."""


class Architecture(Data):
    """Architecture options of RESA; the defaults are the published CULane configuration.

    slots: lanes that the network tells apart, of which the `max_lanes` likeliest are predicted. channels: of the reduced features;
    each of `upsamplings` steps of the decoder halves them and the stride of 8. iterations: shifts in each of the four directions; each
    adds `gain` (upstream's alpha) times what it finds. existence_channels, existence_hidden: of the existence head. lane_width: of a
    lane in the masks, in network pixels. A lane is looked for in `rows` rows, `row_step` pixels of the configured frame apart from
    `bottom_row` upwards, in probabilities averaged over `blur` x `blur` network pixels, and has a point where they exceed
    `probability`.
    """

    slots: int = Field(4, ge=2, multiple_of=2)
    max_lanes: int = Field(4, ge=1)
    channels: int = Field(128, gt=0)
    iterations: int = Field(5, ge=0)
    gain: float = Field(2.0, gt=0)
    upsamplings: int = Field(3, ge=0, le=3)
    existence_channels: int = Field(32, gt=0)
    existence_hidden: int = Field(128, gt=0)
    lane_width: int = Field(8, gt=0)
    bottom_row: float = 589
    row_step: float = Field(20, gt=0)
    rows: int = Field(18, ge=2)
    blur: int = Field(9, gt=0)
    probability: float = Field(0.3, ge=0, lt=1)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.channels % 2**self.upsamplings:
            raise ValueError("'upsamplings' halve 'channels' so often that no whole number is left")
        if self.blur % 2 == 0:
            raise ValueError("'blur' is an odd number of pixels")
        return self


class Aggregator(nn.Module):
    """The recurrent feature-shift aggregator (ZJULearning/resa, models/resa.py) on maps of size `grid` (height, width).

    In iteration k of K the map is shifted by its size / 2^(K - k), round its edges, the longest shift last.
    """

    def __init__(self, channels: int, grid: tuple[int, int], *, iterations: int, gain: float) -> None:
        super().__init__()
        self.gain = gain
        halves = [2 ** (iterations - k) for k in range(iterations)]
        # A roll by -n brings down to a row what lies n rows below it, which upstream calls "down".
        self.shifts = [
            (axis, sign * (grid[axis - 2] // half)) for axis in (2, 3) for sign in (-1, 1) for half in halves
        ]
        kernels = [(1, KERNEL) if axis == 2 else (KERNEL, 1) for axis, _ in self.shifts]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(channels, channels, kernel, padding=(kernel[0] // 2, kernel[1] // 2), bias=False)
            for kernel in kernels
        )
        # Smaller than torch's by sqrt(5), so that the added maps don't drown the first (XingangPan/SCNN, issue 82).
        bound = math.sqrt(2.0 / (channels * KERNEL * 5))
        for parameter in self.convolutions.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, C, h, w) -> features of the same shape."""
        for (axis, shift), convolution in zip(self.shifts, self.convolutions, strict=True):
            features = features + self.gain * F.relu(convolution(features.roll(shift, dims=axis)))
        return features


class FactorisedResidual(nn.Module):
    """ERFNet's residual block: 3x3 convolutions as pairs of a vertical and a horizontal one."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, (3, 1), padding=(1, 0)),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, (1, 3), padding=(0, 1)),
            nn.BatchNorm2d(channels, eps=1e-3),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, (3, 1), padding=(1, 0)),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, (1, 3), padding=(0, 1)),
            nn.BatchNorm2d(channels, eps=1e-3),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, C, h, w) -> features of the same shape."""
        return F.relu(self.layers(features) + features)


class BilateralUpsampling(nn.Module):
    """One step of the bilateral up-sampling decoder: a coarse and a fine branch, each at twice the resolution, added up."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        out = channels // 2
        self.coarse = nn.Sequential(nn.Conv2d(channels, out, 1, bias=False), nn.BatchNorm2d(out, eps=1e-3), nn.ReLU())
        self.fine = nn.Sequential(
            nn.ConvTranspose2d(channels, out, 3, stride=2, padding=1, output_padding=1),
            nn.BatchNorm2d(out, eps=1e-3),
            nn.ReLU(inplace=True),
            FactorisedResidual(out),
            FactorisedResidual(out),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, C, h, w) -> features (B, C / 2, 2 h, 2 w)."""
        fine: Tensor = self.fine(features)
        coarse = F.interpolate(self.coarse(features), size=fine.shape[-2:], mode="bilinear", align_corners=True)
        return fine + coarse


class ExistenceHead(nn.Module):
    """Reduced features -> a logit a lane, from a few maps that say what lies where."""

    def __init__(self, options: Architecture, grid: tuple[int, int]) -> None:
        super().__init__()
        width = options.existence_channels
        self.maps = nn.Sequential(
            nn.Conv2d(options.channels, width, 3, padding=4, dilation=4, bias=False),
            nn.BatchNorm2d(width, eps=1e-3),
            nn.ReLU(inplace=True),
            nn.Dropout2d(DROPOUT),
            nn.Conv2d(width, EXISTENCE_MAPS, 1),
            nn.Softmax(dim=1),
            nn.AvgPool2d(2),
        )
        flattened = EXISTENCE_MAPS * math.prod(side // 2 for side in grid)
        self.hidden = nn.Linear(flattened, options.existence_hidden)
        self.output = nn.Linear(options.existence_hidden, options.slots)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, C, h, w) -> logits (B, slots)."""
        logits: Tensor = self.output(F.relu(self.hidden(self.maps(features).flatten(1))))
        return logits


class RESA(Detector):
    """Segmentation of up to `slots` lanes with a feature-shift aggregator (see the module)."""

    metas: ClassVar[dict[str, DetectorMeta]]
    architecture: ClassVar[type[Data]] = Architecture
    checkpoint_names: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"^channel_reducer\.conv1\.", "reduce.0."),
        (r"^channel_reducer\.bn1\.", "reduce.1."),
        # Five iterations in each direction.
        *(
            (rf"^spatial_conv\.conv_{direction}\.{k}\.", f"aggregate.convolutions.{5 * number + k}.")
            for number, direction in enumerate("durl")
            for k in range(5)
        ),
        (r"^decoder\.output_proj\.", "decoder.3."),
        (r"^decoder\.layers\.", "decoder."),
        (r"^(decoder\.\d)\.conv\.", r"\1.fine.0."),
        (r"^(decoder\.\d)\.bn\.", r"\1.fine.1."),
        (r"^(decoder\.\d)\.follows\.0\.", r"\1.fine.3.layers."),
        (r"^(decoder\.\d)\.follows\.1\.", r"\1.fine.4.layers."),
        (r"\.conv3x1_1\.", ".0."),
        (r"\.conv1x3_1\.", ".2."),
        (r"^(decoder\.\d\..*)\.bn1\.", r"\1.3."),
        (r"\.conv3x1_2\.", ".5."),
        (r"\.conv1x3_2\.", ".7."),
        (r"^(decoder\.\d\..*)\.bn2\.", r"\1.8."),
        (r"\.interpolate_conv\.", ".coarse.0."),
        (r"\.interpolate_bn\.", ".coarse.1."),
        (r"^lane_classifier\.layers\.", "existence.maps."),
        (r"^lane_classifier\.layers_final\.1\.", "existence.maps.4."),
        (r"^lane_classifier\.linear1\.", "existence.hidden."),
        (r"^lane_classifier\.linear2\.", "existence.output."),
    )

    def __init__(self, meta: DetectorMeta, form: Form) -> None:
        """Raises InputError where the configuration's architecture has unknown or impossible options."""
        super().__init__(meta, form)
        where = f"detector {meta.name}, architecture for {form}"
        self.options = validated(Architecture, self.configuration.architecture, where=where)
        options, size = self.options, self.configuration.input
        grid = (math.ceil(size.network[0] / STRIDE), math.ceil(size.network[1] / STRIDE))
        self.backbone = build_backbone(meta.backbone, stages=3, output_stride=STRIDE)
        _dilate_first_convolutions_only(self.backbone)
        self.reduce = nn.Sequential(
            nn.Conv2d(self.taps()[-1].channels, options.channels, 1, bias=False),
            nn.BatchNorm2d(options.channels),
            nn.ReLU(inplace=True),
        )
        self.aggregate = Aggregator(options.channels, grid, iterations=options.iterations, gain=options.gain)
        widths = [options.channels // 2**step for step in range(options.upsamplings + 1)]
        self.decoder = nn.Sequential(
            *(BilateralUpsampling(width) for width in widths[:-1]), nn.Conv2d(widths[-1], 1 + options.slots, 1)
        )
        self.existence = ExistenceHead(options, grid)
        self.frame_rows = _frame_rows(size, options)
        means = _row_means(self.frame_rows, size.network[0], grid[0] * 2**options.upsamplings, options.blur)
        self.register_buffer("row_means", means, persistent=False)

    def taps(self) -> tuple[Tap, ...]:
        """The first three stages of the ResNet, strides 4, 8 and 8."""
        return backbone_taps(self.backbone, "backbone")

    def encode_targets(self, lanes: Sequence[Lane], geometry: Geometry) -> dict[str, npt.NDArray[Any]]:
        """`mask`: uint8 (H, W), 0 or 1 + the slot whose lane lies there; `existence`: float32 (slots,), 0 or 1.

        A lane without a pixel in the network's part of the frame takes no slot. Where lanes cross, the inner one is seen.
        """
        finite = [lane.points[np.isfinite(lane.points).all(axis=1)] for lane in lanes]
        polylines = [geometry.to_network(points) for points in finite if len(points) > 1]
        options = self.options
        mask, existence = slot_mask(polylines, geometry.network, slots=options.slots, width=options.lane_width)
        return {"mask": mask, "existence": existence}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """uint8 RGB (B, 3, H, W) -> logits: `mask` (B, 1 + slots, H / s, W / s), s = 8 / 2^upsamplings, `existence` (B, slots)."""
        normalised = normalise(images, self.meta.normalisation)
        features = self.backbone(normalised.contiguous(memory_format=torch.channels_last))[-1]
        features = self.aggregate(self.reduce(features))
        return {"mask": self.decoder(features), "existence": self.existence(features)}

    def losses(self, outputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """`mask`: cross-entropy over pixels, the background's weighted .4; `existence`: .1 x binary cross-entropy.

        Where the map is coarser than the mask, a place's label is the share that each class has of its pixels.
        """
        logits = outputs["mask"].float()
        height, width = logits.shape[-2:]
        classes = torch.arange(1 + self.options.slots, device=logits.device).view(1, -1, 1, 1)
        lies = (batch.targets["mask"][:, None] == classes).float()
        shares = F.adaptive_avg_pool2d(lies, (height, width))
        weights = torch.where(classes == 0, BACKGROUND_WEIGHT * shares, shares)
        existence = F.binary_cross_entropy_with_logits(outputs["existence"].float(), batch.targets["existence"])
        return {
            # The cross-entropy of classes, in a form whose CUDA kernels are deterministic.
            "mask": -(weights * logits.log_softmax(dim=1)).sum() / weights.sum(),
            "existence": EXISTENCE_WEIGHT * existence,
        }

    def decode(self, outputs: dict[str, Tensor], geometries: Sequence[Geometry]) -> list[list[Lane]]:
        """For each lane that exists, the likeliest place on each row where it is likely enough; its score is its existence.

        The rules of upstream's utils/lane_det_utils.py. All that leaves the device is one tensor.
        """
        decoded = self._decoded(outputs).cpu().numpy().astype(np.float64)
        threshold, options = self.configuration.recipe.confidence_threshold, self.options
        images: list[list[Lane]] = []
        for (columns, probability, (scores, *_)), geometry in zip(decoded, geometries, strict=True):
            likeliest = set(np.argsort(-scores, kind="stable")[: options.max_lanes])
            lanes: list[Lane] = []
            for slot, score in enumerate(scores):
                found = probability[:, slot] > options.probability
                if slot in likeliest and score >= threshold and found.sum() > 1:
                    points = np.stack([columns[found, slot], self.frame_rows[found]], axis=1)
                    lanes.append(Lane(near_to_far(geometry.to_original(points)), float(score)))
            images.append(lanes)
        return images

    def _decoded(self, outputs: dict[str, Tensor]) -> Tensor:
        """Logits -> (B, 3, rows, slots): column of the highest averaged probability, that probability, the lane's existence."""
        shares = outputs["mask"].float().softmax(dim=1)[:, 1:]
        on_rows = torch.einsum("bshw,rh->brsw", shares, self.get_buffer("row_means"))
        on_rows = F.interpolate(on_rows, size=(on_rows.shape[2], self.configuration.input.network[1]), mode="bilinear")
        reach = self.options.blur // 2
        averaged = F.avg_pool2d(
            F.pad(on_rows, (reach, reach, 0, 0), mode="replicate"), (1, self.options.blur), stride=1
        )
        probability, column = averaged.max(dim=-1)
        existence = outputs["existence"].float().sigmoid()[:, None].expand_as(probability)
        return torch.stack([column.float(), probability, existence], dim=1)


def _dilate_first_convolutions_only(backbone: nn.Module) -> None:
    """As in upstream's utils/models/resnet.py; timm dilates both convolutions of a block."""
    for name, module in backbone.named_modules():
        if name.endswith(".conv2") and isinstance(module, nn.Conv2d):
            module.dilation, module.padding = (1, 1), (1, 1)


def _frame_rows(size: InputSize, options: Architecture) -> npt.NDArray[np.float64]:
    """The rows in which lanes are looked for, in network pixels, from the bottom upwards."""
    rows = options.bottom_row - options.row_step * np.arange(options.rows)
    plain = plain_geometry(size.frame, size.crop, size.network)
    found: npt.NDArray[np.float64] = plain.to_network(np.stack([np.zeros_like(rows), rows], axis=1))[:, 1]
    return found


def _row_means(rows: npt.NDArray[np.float64], network: int, height: int, blur: int) -> Tensor:
    """The matrix (rows, height) that reads a map linearly in given network rows and averages over the `blur` rows around each.

    The map's `height` rows share the `network` rows of the input evenly.
    """
    around = rows[:, None] + np.arange(blur) - blur // 2
    places = (around + 0.5) * (height / network) - 0.5
    return linear_sampling(places.ravel(), height).view(len(rows), blur, height).mean(dim=1)


_PAPER = "Zheng et al.: RESA: Recurrent Feature-Shift Aggregator for Lane Detection, AAAI 2021"
_UPSTREAM = "https://github.com/voldemortX/pytorch-auto-drive"
_COMMIT = "137e63a9e6c3cd2cfeb15e101808478d7b25ddbd"


def _published(epochs: int, warmup_steps: int) -> Recipe:
    """What upstream's configs/lane_detection/resa share; its batch is 5 on each of four devices."""
    return Recipe(
        optimizer="sgd",
        learning_rate=0.06,
        weight_decay=1e-4,
        momentum=0.9,
        schedule="poly",
        power=0.9,
        epochs=epochs,
        warmup_steps=warmup_steps,
        batch_size=20,
        augmentation=Augmentation(rotation=3),
    )


# CULane's masks are drawn 16 px wide in frames of 1640 (laneseg_label_w16), TuSimple's 15 px in frames of 1280.
_CULANE = Configuration(
    input=InputSize(frame=(590, 1640), crop=(0, 0, 590, 1640), network=(288, 800)),
    weights="imagenet",
    recipe=_published(epochs=12, warmup_steps=500),
)
_TUSIMPLE = Configuration(
    input=InputSize(frame=(720, 1280), crop=(0, 0, 720, 1280), network=(360, 640)),
    architecture={"slots": 6, "max_lanes": 5, "bottom_row": 710, "row_step": 10, "rows": 56},
    weights="imagenet",
    recipe=_published(epochs=50, warmup_steps=200),
)
_MICRO = Configuration(
    input=InputSize(frame=(590, 1640), crop=(236, 0, 590, 1640), network=(128, 320)),
    architecture={
        "channels": 16,
        "iterations": 3,
        "gain": 0.1,
        "upsamplings": 1,
        "existence_channels": 16,
        "existence_hidden": 64,
        "lane_width": 4,
        "row_step": 10,
        "rows": 33,
        "blur": 5,
    },
    recipe=Recipe(
        optimizer="adamw",
        learning_rate=1e-2,
        weight_decay=5e-2,
        schedule="one_cycle",
        steps=220,
        batch_size=16,
        augmentation=Augmentation(
            flip=0.5, rotation=2, shift_x=0.06, shift_y=0.02, scale=0.1, brightness=0.2, contrast=0.2
        ),
        confidence_threshold=0.5,
    ),
)
_MICRO_TUSIMPLE = Configuration(
    input=InputSize(frame=(720, 1280), crop=(200, 0, 720, 1280), network=(128, 320)),
    architecture={**_MICRO.architecture, "slots": 6, "max_lanes": 5, "bottom_row": 710, "rows": 51},
    recipe=_MICRO.recipe,
)
_MICRO_LLAMAS = Configuration(
    input=InputSize(frame=(717, 1276), crop=(280, 0, 717, 1276), network=(128, 320)),
    architecture={**_MICRO.architecture, "bottom_row": 716, "rows": 42},
    recipe=_MICRO.recipe,
)

RESA.metas = {
    name: DetectorMeta(
        name=name,
        paper=_PAPER,
        year=2021,
        family="segmentation",
        backbone=backbone,
        upstream=_UPSTREAM,
        commit=_COMMIT,
        licence="BSD-3-Clause",
        configurations=configurations,
    )
    for name, backbone, configurations in (
        ("resa_resnet18", "resnet18", {"culane": _CULANE, "tusimple": _TUSIMPLE}),
        ("resa_resnet34", "resnet34", {"culane": _CULANE, "tusimple": _TUSIMPLE}),
        (
            "resa_micro",
            "resnet_micro",
            {"culane": _MICRO, "tusimple": _MICRO_TUSIMPLE, "llamas": _MICRO_LLAMAS},
        ),
    )
}
