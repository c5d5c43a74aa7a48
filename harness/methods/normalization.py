"""N: what is taken out of features before they are compared."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

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
        centred = features - features.mean(1, keepdim=True)
        return centred * (centred.square().mean(1, keepdim=True) + EPSILON).rsqrt()
    if kind == "l2":
        return features * (features.square().mean(1, keepdim=True) + EPSILON).rsqrt()
    if kind == "batch_standardize":
        centred = features - features.mean((0, 2, 3), keepdim=True)
        return centred * (centred.square().mean((0, 2, 3), keepdim=True) + EPSILON).rsqrt()
    return features


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
