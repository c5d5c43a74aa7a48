"""N: what is taken out of features before they are compared."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from harness.methods.resample import Resampler

Normalization = Literal["channel_layernorm", "l2", "batch_standardize", "none"]

EPSILON = 1e-5
"""Torch's own in layer and batch normalisation."""


def normalized(features: Tensor, kind: Normalization) -> Tensor:
    """(B, C, H, W) features in float32, normalised without learned parameters.

    `channel_layernorm`: mean 0 and variance 1 over the channels of each position. `l2`: mean square 1 over the channels of each
    position, which is a unit vector times sqrt(C), so that a channel's variance is of order 1 whatever C is.
    `batch_standardize`: mean 0 and variance 1 of each channel over the batch. `none`: as they are.
    """
    features = features.float()
    if kind == "channel_layernorm":
        normal: Tensor = _ChannelLayerNorm.apply(features)  # type: ignore[no-untyped-call]
        return normal
    if kind == "l2":
        return features * (features.square().mean(1, keepdim=True) + EPSILON).rsqrt()
    if kind == "batch_standardize":
        centred = features - features.mean((0, 2, 3), keepdim=True)
        return centred * (centred.square().mean((0, 2, 3), keepdim=True) + EPSILON).rsqrt()
    return features


class _ChannelLayerNorm(torch.autograd.Function):
    """Mean 0 and variance 1 over dimension 1, with the gradient in closed form: a fifth of what autograd's takes on a CPU.

    With y the result, r the reciprocal deviation and means over the channels: dx = r (g - mean g - y mean(g y)). Both directions keep
    the memory layout that they are given.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor) -> Tensor:
        normal = features - features.mean(1, keepdim=True)
        reciprocal = normal.square().mean(1, keepdim=True).add_(EPSILON).rsqrt_()
        normal.mul_(reciprocal)
        ctx.save_for_backward(normal, reciprocal)
        return normal

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        normal, reciprocal = ctx.saved_tensors
        along = (gradient * normal).mean(1, keepdim=True)
        found = gradient - gradient.mean(1, keepdim=True)
        return found.addcmul_(normal, along, value=-1).mul_(reciprocal)


def fixed_attention(features: Tensor) -> Tensor:
    """The mean of abs(features) over channels, scaled to mean 1 in each image: (B, 1, H, W)."""
    strength = features.float().abs().mean(1, keepdim=True)
    return strength / strength.mean((2, 3), keepdim=True).clamp_min(EPSILON)


def resampled_target(
    features: Tensor, kind: Normalization, oracle_attention: Literal["none", "fixed"], resampler: Resampler
) -> Tensor:
    """The oracle's features as they are compared but for their standardisation: N(o), gated if asked, on the common grid."""
    target = normalized(features, kind)
    if oracle_attention == "fixed":
        target = fixed_attention(features) * target
    resampled: Tensor = resampler(target)
    return resampled
