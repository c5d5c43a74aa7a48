"""A detector of three stages on 32 x 64 images whose stages may have any layout, be frozen, or misbehave."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from detectors.base import Batch, Detector, Tap, normalise
from detectors.meta import Configuration, DetectorMeta, InputSize, Normalisation, Recipe
from harness.lanes import Geometry, Lane
from harness.methods.oracle import Oracle

SIZE = (32, 64)
CHANNELS = (8, 12, 16)
STRIDES = (4, 8, 16)

META = DetectorMeta(
    name="toy",
    paper="none",
    year=2020,
    family="row-wise",
    backbone="three stages",
    upstream="none",
    licence="none",
    configurations={
        "culane": Configuration(
            input=InputSize(frame=SIZE, crop=(0, 0, *SIZE), network=SIZE),
            recipe=Recipe(optimizer="sgd", learning_rate=0.1, schedule="constant", steps=10, batch_size=4),
        )
    },
)


class Stage(nn.Module):
    """One convolution of stride 2 (the first of stride 4) with batch normalisation; its output may be laid out in other ways."""

    def __init__(self, channels: int, outputs: int, stride: int, layout: str) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(
            channels, outputs, 5 if stride == 4 else 3, stride, padding=2 if stride == 4 else 1
        )
        self.normalization = nn.BatchNorm2d(outputs)
        self.layout = layout

    def forward(self, x: Tensor) -> Tensor:
        x = self.normalization(self.convolution(x)).relu()
        if self.layout == "nhwc":
            return x.permute(0, 2, 3, 1)
        if self.layout == "tokens":
            cells = x.flatten(2).transpose(1, 2)
            return torch.cat([cells.mean(1, keepdim=True), cells], 1)
        return x

    def plain(self, output: Tensor, shape: tuple[int, int]) -> Tensor:
        if self.layout == "nhwc":
            return output.permute(0, 3, 1, 2)
        if self.layout == "tokens":
            return output[:, 1:].transpose(1, 2).unflatten(2, shape)
        return output


class ToyDetector(Detector):
    """Predicts where in the middle row the one lane lies, as a share of the width."""

    metas: ClassVar = {"toy": META}

    def __init__(
        self, *, layout: str = "nchw", frozen: int = 0, calls: int = 1, stated: int = 0, path: str = "stages.0"
    ) -> None:
        super().__init__(META, "culane")
        self.stages = nn.ModuleList(
            Stage(before, after, 4 if place == 0 else 2, layout)
            for place, (before, after) in enumerate(zip((3, *CHANNELS[:2]), CHANNELS, strict=True))
        )
        self.head = nn.Linear(CHANNELS[-1], 1)
        self.layout, self.frozen, self.calls, self.stated, self.path = layout, frozen, calls, stated, path
        self.stages[:frozen].requires_grad_(False)

    def taps(self) -> tuple[Tap, ...]:
        return tuple(
            Tap(
                self.path if place == 0 else f"stages.{place}",
                channels + self.stated,
                stride,
                self.layout,  # type: ignore[arg-type]
                1 if self.layout == "tokens" else 0,
                place >= self.frozen,
            )
            for place, (channels, stride) in enumerate(zip(CHANNELS, STRIDES, strict=True))
        )

    def encode_targets(self, lanes: Sequence[Lane], geometry: Geometry) -> dict[str, Any]:
        return {"x": np.float32(np.mean(lanes[0].points[:, 0]) / SIZE[1])}

    def forward(self, images: Tensor) -> Tensor:
        x = normalise(images, self.meta.normalisation)
        for place, stage in enumerate(self.stages):
            for _ in range(self.calls):
                output = stage(x)
            x = stage.plain(
                output, (x.shape[2] // stage.convolution.stride[0], x.shape[3] // stage.convolution.stride[1])
            )
            assert place < 3
        return self.head(x.mean((2, 3)))[:, 0]

    def losses(self, outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
        return {"position": (outputs - batch.targets["x"]).square().mean(), "size": 0.01 * outputs.square().mean()}

    def decode(self, outputs: Tensor, geometries: Sequence[Geometry]) -> list[list[Lane]]:
        return [[Lane(np.array([[x, 31.0], [x, 0.0]], np.float32), 1.0)] for x in outputs.tolist()]


def detector(seed: int = 0, **options: Any) -> ToyDetector:
    """A detector with the weights of `seed`."""
    torch.manual_seed(seed)
    return ToyDetector(**options)


def batch(seed: int = 0, count: int = 4) -> Batch:
    """Random images, each with a lane somewhere."""
    generator = torch.Generator().manual_seed(seed)
    return Batch(
        images=torch.randint(0, 256, (count, 3, *SIZE), dtype=torch.uint8, generator=generator),
        targets={"x": torch.rand(count, generator=generator)},
        lanes=torch.zeros(count, 1, 2, 2),
        lane_counts=torch.ones(count, dtype=torch.int64),
        point_counts=torch.full((count, 1), 2),
        geometries=(Geometry(SIZE, (0, 0, *SIZE), SIZE, np.eye(3)),) * count,
        ids=tuple(str(index) for index in range(count)),
    )


class Patches(nn.Module):
    """Non-overlapping patches, twice: strides 4 and 8, cells centred at s i + (s - 1) / 2, as in a ConvNeXt."""

    def __init__(self, channels: tuple[int, int] = (10, 14)) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, channels[0], 4, 4)
        self.second = nn.Conv2d(channels[0], channels[1], 2, 2)

    def forward(self, x: Tensor) -> list[Tensor]:
        first = self.first(x).tanh()
        return [first, self.second(first).tanh()]


def oracle(seed: int = 1, channels: tuple[int, int] = (10, 14)) -> Oracle:
    """An oracle on patches, with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        patches = Patches(channels)
    taps = (Tap("backbone.first", channels[0], 4), Tap("backbone.second", channels[1], 8))
    return Oracle(patches, taps, Normalisation())
