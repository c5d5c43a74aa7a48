"""SCNN: Pan et al., "Spatial As Deep: Spatial CNN for Traffic Scene Understanding", AAAI 2018.

Lanes are found by segmentation (`detectors.parts.segmentation`). Between a dilated backbone of stride 8 and the classifier, the feature
map passes messages along itself: row after row downwards, upwards, then column after column to the right and to the left, each slice
is added what a convolution makes of the slice before, as that is by then. What lies at one edge so reaches the other. Facts come from
the paper and from voldemortX/pytorch-auto-drive (BSD-3).

`scnn_resnet18`, `scnn_resnet34` and `scnn_resnet101` are pytorch-auto-drive's network, losses and recipe. The passes back leave their
last slice (the first row, the first column) as it is, as upstream's do, whose released weights are trained so.

`scnn_micro` is the same code with other numbers, for budgets of a few hundred steps on a CPU.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv2d_weight

from detectors.meta import DetectorMeta, Form
from detectors.parts.sampling import linear_sampling
from detectors.parts.segmentation import SegmentationDetector, SegmentationOptions, channel_reduction
from detectors.parts.segmentation_configurations import micros, on_culane, on_llamas, on_tusimple, published

KERNEL = 9
"""Length of the convolutions between slices: the paper's, and utils/models/common_models/plugins/spatial_conv.py."""


class Architecture(SegmentationOptions):
    """Architecture options of SCNN; the defaults are the published CULane configuration.

    channels: of the reduced features. existence_hidden: of the existence head.
    """

    channels: int = Field(128, gt=0)
    existence_hidden: int = Field(128, gt=0)


class MessagePassing(nn.Module):
    """The spatial convolutions in four directions: down, up, right, left."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        kernels = ((1, KERNEL), (1, KERNEL), (KERNEL, 1), (KERNEL, 1))
        self.convolutions = nn.ModuleList(
            nn.Conv2d(channels, channels, kernel, padding=(kernel[0] // 2, kernel[1] // 2)) for kernel in kernels
        )
        # Smaller than torch's by sqrt(5), so that the added maps don't drown the first (XingangPan/SCNN, issue 82).
        bound = math.sqrt(2.0 / (channels * KERNEL * 5))
        for convolution in self.convolutions:
            nn.init.uniform_(cast(Tensor, convolution.weight), -bound, bound)

    # Compiled, the hundreds of small steps would be unrolled into one graph.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, features: Tensor) -> Tensor:
        """Features (B, C, h, w) -> features of the same shape. Under autocast all of it is in the lower precision, as upstream's is."""
        device = features.device.type
        if torch.is_autocast_enabled(device):
            features = features.to(torch.get_autocast_dtype(device))
        down, up, right, left = self.convolutions
        with torch.autocast(device, enabled=False):
            rows = _passed(_passed(features.permute(2, 0, 1, 3), down), up, back=True)
            columns = _passed(_passed(rows.permute(3, 1, 2, 0), right), left, back=True)
        return columns.permute(1, 2, 3, 0)


def _passed(slices: Tensor, convolution: nn.Module, *, back: bool = False) -> Tensor:
    """Slices (S, B, C, P) after each got a message from the one before, or `back`, from the one behind, as that is by then."""
    weight, bias = (cast(Tensor, parameter).to(slices.dtype) for parameter in (convolution.weight, convolution.bias))
    weight = weight.reshape(*weight.shape[:2], 1, KERNEL)
    if torch.is_grad_enabled() and _receivers(len(slices), back):
        return cast(Tensor, _Passing.apply(slices, weight, bias, back))  # type: ignore[no-untyped-call]
    received, _ = _send(_images(slices), weight, bias, back)
    return _slices(torch.cat(received), len(received))


def _images(slices: Tensor) -> list[Tensor]:
    """Slices (S, B, C, P) -> S images (B, C, 1, P), channels last in memory: convolutions of so little are fastest there."""
    return list(slices.permute(0, 1, 3, 2).contiguous().permute(0, 1, 3, 2).unsqueeze(3).unbind())


def _slices(images: Tensor, count: int) -> Tensor:
    """The inverse, of images that are joined: (S B, C, 1, P) -> (S, B, C, P)."""
    return images.view(count, -1, images.shape[1], images.shape[3])


def _receivers(count: int, back: bool) -> range:
    """The slices that get a message, in their order. The last one `back` gets none (see the module)."""
    return range(count - 2, 0, -1) if back else range(1, count)


def _send(images: list[Tensor], weight: Tensor, bias: Tensor, back: bool) -> tuple[list[Tensor], list[Tensor]]:
    """All slices after their messages, and the messages, in the order of the slices that got one."""
    received, messages = list(images), []
    for receiver in _receivers(len(images), back):
        sender = received[receiver + 1 if back else receiver - 1]
        messages.append(F.conv2d(sender, weight, bias, padding=(0, KERNEL // 2)).relu_())
        received[receiver] = images[receiver] + messages[-1]
    return received, messages[::-1] if back else messages


class _Passing(torch.autograd.Function):
    """The same with gradients: that of the weights is one convolution's, where autograd would add up one a step."""

    @staticmethod
    def forward(ctx: Any, slices: Tensor, weight: Tensor, bias: Tensor, back: bool) -> Tensor:
        received, messages = _send(_images(slices), weight, bias, back)
        joined = torch.cat(received)
        ctx.save_for_backward(joined, torch.cat(messages) > 0, weight)
        ctx.count, ctx.back = len(received), back
        return _slices(joined, len(received))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        joined, active, weight = ctx.saved_tensors
        count, back = ctx.count, ctx.back
        batch = len(joined) // count
        transposed = weight.flip(3).transpose(0, 1).contiguous()
        gradients = _images(gradient)
        through: list[Tensor] = []
        for receiver in reversed(_receivers(count, back)):
            through.append(gradients[receiver] * active[(receiver - 1) * batch : receiver * batch])
            sender = receiver + 1 if back else receiver - 1
            gradients[sender] = gradients[sender] + F.conv2d(through[-1], transposed, padding=(0, KERNEL // 2))
        messages = torch.cat(through if back else through[::-1])
        senders = joined[2 * batch :] if back else joined[:-batch]
        weights: Tensor = conv2d_weight(senders, weight.shape, messages, padding=(0, KERNEL // 2))  # type: ignore[no-untyped-call]
        return _slices(torch.cat(gradients), count), weights, messages.sum(dim=(0, 2, 3)), None


class ExistenceHead(nn.Module):
    """Logits of the classes, pooled -> a logit a lane: utils/models/common_models/heads/simple_lane_exist.py."""

    def __init__(self, options: Architecture, grid: tuple[int, int]) -> None:
        super().__init__()
        flattened = (1 + options.slots) * math.prod(side // 2 for side in grid)
        self.hidden = nn.Linear(flattened, options.existence_hidden)
        self.output = nn.Linear(options.existence_hidden, options.slots)

    def forward(self, logits: Tensor) -> Tensor:
        """Logits (B, 1 + slots, h, w) -> logits (B, slots)."""
        pooled = F.avg_pool2d(logits.softmax(dim=1), 2)
        existence: Tensor = self.output(F.relu(self.hidden(pooled.flatten(1))))
        return existence


class SCNN(SegmentationDetector):
    """Segmentation of up to `slots` lanes with messages between the slices of the feature map (see the module)."""

    metas: ClassVar[dict[str, DetectorMeta]]
    architecture: ClassVar[type[SegmentationOptions]] = Architecture
    options: Architecture
    checkpoint_names: ClassVar[tuple[tuple[str, str], ...]] = (
        *SegmentationDetector.checkpoint_names,
        *((rf"^scnn_layer\.conv_{initial}\.", f"messages.convolutions.{i}.") for i, initial in enumerate("durl")),
        (r"^classifier\.0\.conv\.", "classifier."),
    )

    def __init__(self, meta: DetectorMeta, form: Form) -> None:
        """Raises InputError where the configuration's architecture has unknown or impossible options."""
        super().__init__(meta, form, stages=4)
        options = self.options
        self.reduce = channel_reduction(self.taps()[-1].channels, options.channels)
        self.messages = MessagePassing(options.channels)
        self.classifier = nn.Conv2d(options.channels, 1 + options.slots, 3, padding=1)
        self.existence = ExistenceHead(options, self.grid)
        height, width = self.configuration.input.network
        self.register_buffer("enlarged_rows", _corner_to_corner(self.grid[0], height), persistent=False)
        self.register_buffer("enlarged_columns", _corner_to_corner(self.grid[1], width).T, persistent=False)
        self._reads_maps_of(height)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """uint8 RGB (B, 3, H, W) -> logits: `mask` (B, 1 + slots, H, W), `existence` (B, slots)."""
        logits = self.classifier(self.messages(self.reduce(self.features(images))))
        # Upstream enlarges them before the softmax, in its criterion as in its decoding: `interpolate` with corners aligned, here as
        # products of matrices, whose gradient is fast and deterministic on CUDA too.
        mask = self.get_buffer("enlarged_rows") @ (logits @ self.get_buffer("enlarged_columns"))
        return {"mask": mask, "existence": self.existence(logits)}


def _corner_to_corner(size: int, enlarged: int) -> Tensor:
    """The matrix (enlarged, size) that stretches a row of places linearly, the first and the last staying ends."""
    return linear_sampling(np.linspace(0, size - 1, enlarged), size)


_PAPER = "Pan et al.: Spatial As Deep: Spatial CNN for Traffic Scene Understanding, AAAI 2018"
_UPSTREAM = "https://github.com/voldemortX/pytorch-auto-drive"
_COMMIT = "137e63a9e6c3cd2cfeb15e101808478d7b25ddbd"


# Upstream's trainings run on one device.
_CULANE = on_culane(published(0.2, 12, warmup_steps=200))
_TUSIMPLE = on_tusimple(published(0.2, 50, warmup_steps=200))
_LLAMAS = on_llamas(published(0.1, 18, warmup_steps=200))
_CULANE_101 = on_culane(published(0.08, 12, warmup_steps=500, batch_size=8))
_TUSIMPLE_101 = on_tusimple(published(0.13, 50, warmup_steps=500, batch_size=8))

SCNN.metas = {
    name: DetectorMeta(
        name=name,
        paper=_PAPER,
        year=2018,
        family="segmentation",
        backbone=backbone,
        upstream=_UPSTREAM,
        commit=_COMMIT,
        licence="BSD-3-Clause",
        configurations=configurations,
    )
    for name, backbone, configurations in (
        ("scnn_resnet18", "resnet18", {"culane": _CULANE, "tusimple": _TUSIMPLE}),
        ("scnn_resnet34", "resnet34", {"culane": _CULANE, "tusimple": _TUSIMPLE, "llamas": _LLAMAS}),
        ("scnn_resnet101", "resnet101", {"culane": _CULANE_101, "tusimple": _TUSIMPLE_101}),
        ("scnn_micro", "resnet_micro", micros()),
    )
}
