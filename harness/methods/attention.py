"""Spatial attention over a feature map, in the manner of CBAM (Woo et al., ECCV 2018)."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.nn.grad import conv2d_weight

from detectors.base import Detector, Tap, tap_module
from harness.errors import InputError
from harness.methods.taps import as_map, token_shape

Gate = Literal["2sigmoid", "cbam"]

KERNEL = 7
"""CBAM's kernel size: section 3.2 of the paper; Jongchan/attention-module, MODELS/cbam.py, SpatialGate."""

CHILD = "spatial_attention"
"""Under this name a detector carries its attention modules."""


class SpatialAttention(nn.Module):
    """A = g(conv7x7([mean over channels; maximum over channels])): (B, C, H, W) -> (B, 1, H, W), without bias.

    gate `2sigmoid`: g is 2 sigmoid and the convolution starts at zero, so that A is exactly 1 at the start. gate `cbam`: g is
    sigmoid and the weights are drawn from `generator` as torch draws a convolution's (Kaiming uniform, a = sqrt 5). CBAM's batch
    normalisation is left out: its statistics would be one more thing that differs between training and inference.
    """

    def __init__(self, gate: Gate, generator: torch.Generator) -> None:
        super().__init__()
        self.amplitude = 2.0 if gate == "2sigmoid" else 1.0
        self.convolution = blank_convolution(2, 1, KERNEL, bias=False)
        if gate == "cbam":
            bound = 1 / math.sqrt(2 * KERNEL * KERNEL)
            with torch.no_grad():
                self.convolution.weight.uniform_(-bound, bound, generator=generator)

    def forward(self, features: Tensor) -> Tensor:
        """The gate of each position, in (0, 2) or (0, 1)."""
        weight = self.convolution.weight
        pooled = torch.cat([features.mean(1, keepdim=True), features.amax(1, keepdim=True)], 1)
        # What is deployed, and exported, is a plain convolution.
        convolved = same_convolution(pooled, weight) if torch.is_grad_enabled() else self.convolution(pooled)
        gates: Tensor = self.amplitude * functional.sigmoid(convolved)
        return gates


class _SameConvolution(torch.autograd.Function):
    """The gradient of its input is the convolution with the mirrored kernel, and is computed as one: oneDNN's own kernel for it takes
    eighteen times as long for two channels.
    """

    @staticmethod
    def forward(ctx: Any, maps: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(maps, weight)
        return functional.conv2d(maps, weight, padding=weight.shape[-1] // 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        maps, weight = ctx.saved_tensors
        # Under autocast the gradient is in the precision in which the convolution ran.
        kind, padding = gradient.dtype, weight.shape[-1] // 2
        mirrored = weight.to(kind).flip(2, 3).transpose(0, 1)
        return (
            functional.conv2d(gradient, mirrored, padding=padding).to(maps.dtype),
            conv2d_weight(maps.to(kind), weight.shape, gradient, padding=padding).to(weight.dtype),  # type: ignore[no-untyped-call]
        )


def same_convolution(maps: Tensor, weight: Tensor) -> Tensor:
    """A convolution (B, C, H, W) -> (B, D, H, W) by an odd kernel (D, C, K, K), differentiable once and without bias."""
    convolved: Tensor = _SameConvolution.apply(maps, weight)  # type: ignore[no-untyped-call]
    return convolved


class StreamAttention(SpatialAttention):
    """Spatial attention that takes the place of a tap's output: the detector goes on with A z."""

    def __init__(self, gate: Gate, generator: torch.Generator, tap: Tap, shape: tuple[int, int]) -> None:
        super().__init__(gate, generator)
        self.tap, self.shape = tap, shape

    def replace_output(self, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        """Forward hook of the tap's module. A bound method of a registered module, so that a deep copy hooks its own copy."""
        gates: Tensor = self(as_map(output, self.tap, self.shape)).to(output.dtype)
        if self.tap.layout == "nchw":
            return output * gates
        if self.tap.layout == "nhwc":
            return output * gates.permute(0, 2, 3, 1)
        prefix, cells = output[:, : self.tap.prefix_tokens], output[:, self.tap.prefix_tokens :]
        return torch.cat([prefix, cells * gates.flatten(2).transpose(1, 2)], 1)


def blank_convolution(channels: int, outputs: int, kernel: int, *, bias: bool) -> nn.Conv2d:
    """A convolution of odd kernel that keeps the map's size, all weights zero; draws nothing from torch's global generator."""
    convolution: nn.Conv2d = nn.utils.skip_init(  # type: ignore[no-untyped-call]
        nn.Conv2d, channels, outputs, kernel, padding=kernel // 2, bias=bias
    )
    for parameter in convolution.parameters():
        nn.init.zeros_(parameter)
    return convolution


def add_stream_attention(detector: Detector, taps: tuple[Tap, ...], *, gate: Gate, generator: torch.Generator) -> None:
    """Register an attention module per tap inside the detector and hook it to the tap's output."""
    if hasattr(detector, CHILD):
        raise InputError(f"{type(detector).__name__} already has {CHILD!r}: attach a method to a fresh detector")
    size = detector.configuration.input.network
    attentions = nn.ModuleDict()
    for tap in taps:
        attention = StreamAttention(gate, generator, tap, token_shape(tap, size))
        tap_module(detector, tap).register_forward_hook(attention.replace_output)
        attentions[module_key(tap)] = attention
    detector.add_module(CHILD, attentions)


def attention_modules(detector: Detector) -> list[nn.Module]:
    """The attention modules inside a detector, in the order of their taps."""
    attentions = getattr(detector, CHILD, None)
    return [] if attentions is None else list(attentions.values())


def module_key(tap: Tap) -> str:
    """A tap's path as the name of a submodule, which can't have dots."""
    return tap.path.replace(".", "_")
