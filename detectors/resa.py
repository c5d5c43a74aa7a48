"""RESA: Zheng et al., "RESA: Recurrent Feature-Shift Aggregator for Lane Detection", AAAI 2021.

Lanes are found by segmentation: every pixel belongs to the background or to one of the lanes, which are told apart by their order from
left to right, and one number a lane says whether it exists. Between a dilated backbone of stride 8 and the decoder, the feature map is
shifted by several strides downwards, upwards, to the right and to the left, and what a convolution makes of the shifted map is added
to it, so that a place learns from places far away. Facts come from the paper, from ZJULearning/resa (Apache-2.0) and from
voldemortX/pytorch-auto-drive (BSD-3).

`resa_resnet18`, `resa_resnet34` and `resa_resnet101` are pytorch-auto-drive's network, losses and recipe: against the authors' code,
normalised reduced features, five iterations, the bilateral decoder on CULane too, a larger existence head, no crop. Targets, losses and
decoding, and where they depart from upstream's, are those of `detectors.parts.segmentation`.

`resa_micro` is the same code with other numbers, for budgets of a few hundred steps on a CPU. Its maps have stride 4, and what the
aggregator adds counts a tenth: with the published weight of 2, a network that starts at random learns where lanes usually lie and
hardly looks at the image (F1@50 .17 after 220 steps of 16 on rendered roads, at stride 2, 4 iterations and 32 channels).
`resa_micro_2x` and `resa_micro_4x` are `resa_micro` on a backbone of two and four times the channels, the latter as wide as
ResNet-18, and nothing else, to tell what a wider network changes.
"""

from __future__ import annotations

import math
from typing import ClassVar, Self

import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from detectors.meta import Configuration, DetectorMeta, Form
from detectors.parts.segmentation import SegmentationDetector, SegmentationOptions, channel_reduction
from detectors.parts.segmentation_configurations import micros, on_culane, on_tusimple, published

KERNEL = 9
"""Length of the aggregator's convolutions: conv_stride of ZJULearning/resa's configs."""

DROPOUT = 0.1
EXISTENCE_MAPS = 5
"""Of the existence head, whatever the number of lanes: utils/models/common_models/heads/encoder_decoder_lane_exist.py."""


class Architecture(SegmentationOptions):
    """Architecture options of RESA; the defaults are the published CULane configuration.

    channels: of the reduced features; each of `upsamplings` steps of the decoder halves them and the stride of 8. iterations: shifts in
    each of the four directions; each adds `gain` (upstream's alpha) times what it finds. existence_channels, existence_hidden: of the
    existence head.
    """

    channels: int = Field(128, gt=0)
    iterations: int = Field(5, ge=0)
    gain: float = Field(2.0, gt=0)
    upsamplings: int = Field(3, ge=0, le=3)
    existence_channels: int = Field(32, gt=0)
    existence_hidden: int = Field(128, gt=0)

    @model_validator(mode="after")
    def _halved(self) -> Self:
        if self.channels % 2**self.upsamplings:
            raise ValueError("'upsamplings' halve 'channels' so often that no whole number is left")
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


class RESA(SegmentationDetector):
    """Segmentation of up to `slots` lanes with a feature-shift aggregator (see the module)."""

    metas: ClassVar[dict[str, DetectorMeta]]
    architecture: ClassVar[type[SegmentationOptions]] = Architecture
    options: Architecture
    checkpoint_names: ClassVar[tuple[tuple[str, str], ...]] = (
        *SegmentationDetector.checkpoint_names,
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
    )

    def __init__(self, meta: DetectorMeta, form: Form) -> None:
        """Raises InputError where the configuration's architecture has unknown or impossible options."""
        super().__init__(meta, form, stages=3)
        options, grid = self.options, self.grid
        self.reduce = channel_reduction(self.taps()[-1].channels, options.channels)
        self.aggregate = Aggregator(options.channels, grid, iterations=options.iterations, gain=options.gain)
        widths = [options.channels // 2**step for step in range(options.upsamplings + 1)]
        self.decoder = nn.Sequential(
            *(BilateralUpsampling(width) for width in widths[:-1]), nn.Conv2d(widths[-1], 1 + options.slots, 1)
        )
        self.existence = ExistenceHead(options, grid)
        self._reads_maps_of(grid[0] * 2**options.upsamplings)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """uint8 RGB (B, 3, H, W) -> logits: `mask` (B, 1 + slots, H / s, W / s), s = 8 / 2^upsamplings, `existence` (B, slots)."""
        features = self.aggregate(self.reduce(self.features(images)))
        return {"mask": self.decoder(features), "existence": self.existence(features)}


_PAPER = "Zheng et al.: RESA: Recurrent Feature-Shift Aggregator for Lane Detection, AAAI 2021"
_UPSTREAM = "https://github.com/voldemortX/pytorch-auto-drive"
_COMMIT = "137e63a9e6c3cd2cfeb15e101808478d7b25ddbd"

# Upstream's batch is a device's: 5 on each of four, for ResNet-101 2 on each of eight.
_BOTH: dict[Form, Configuration] = {
    "culane": on_culane(published(0.06, 12, warmup_steps=500)),
    "tusimple": on_tusimple(published(0.06, 50, warmup_steps=200)),
}
_BOTH_101: dict[Form, Configuration] = {
    "culane": on_culane(published(0.048, 12, warmup_steps=600, batch_size=16)),
    "tusimple": on_tusimple(published(0.048, 50, warmup_steps=250, batch_size=16)),
}
_MICRO = micros(iterations=3, gain=0.1, upsamplings=1, existence_channels=16)

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
        ("resa_resnet18", "resnet18", _BOTH),
        ("resa_resnet34", "resnet34", _BOTH),
        ("resa_resnet101", "resnet101", _BOTH_101),
        ("resa_micro", "resnet_micro", _MICRO),
        ("resa_micro_2x", "resnet_micro_2x", _MICRO),
        ("resa_micro_4x", "resnet_micro_4x", _MICRO),
    )
}
