"""The mutual-information regularizer: how well a detector's features predict a frozen oracle's.

    p = P(A N(z)),  t = standardised N(o),  L = 1/2 mean((p - t)^2 / s + log s),  s = softplus(b) + floor per channel

bounds -I(z; o) up to the constant H(o): the variational bound of MIRO (Cha et al., ECCV 2022, equation 4; kakaobrain/miro,
domainbed/algorithms/miro.py) on normalised features and through a learned projection. Everything here runs in float32 whatever the
autocast around it, because logarithms and divisions of small variances don't survive less.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.errors import InputError
from harness.methods.attention import blank_convolution
from harness.methods.config import RegularizedConfiguration
from harness.methods.normalization import normalized, resampled_target
from harness.methods.pairing import TapPair
from harness.methods.resample import Resampler
from harness.methods.statistics import PairStatistics

VARIANCES = {"unit": (1.0, 0.05), "miro": (0.1, 1e-5), "fixed": (1.0, 0.0)}
"""Start and floor of the learned variance by option; `miro`: kakaobrain/miro, VarianceEncoder (init 0.1, eps 1e-5)."""


@dataclass(frozen=True, eq=False)
class PairTerms:
    """What one pair of taps gave: its loss, and without gradient, per channel, the squared error and the target's variance.

    Both are means over images and positions; with mi_attention `weight` over positions weighted alike.
    """

    loss: Tensor
    squared_error: Tensor
    target_variance: Tensor

    def explained(self) -> float:
        """R^2 = 1 - MSE / Var over all channels: the share of the target's variance that is predicted. Near 0, nothing is."""
        return 1.0 - float(self.squared_error.sum() / self.target_variance.sum().clamp_min(TINY))

    def mutual_information(self) -> float:
        """-1/2 mean log(MSE / Var) over channels, in nats: the information of a Gaussian channel with this error."""
        ratio = self.squared_error.clamp_min(TINY) / self.target_variance.clamp_min(TINY)
        return float(-0.5 * ratio.log().mean())


TINY = 1e-12
"""Keeps the ratios of constant channels finite."""


class PairRegularizer(nn.Module):
    """L of one pair of taps."""

    kept: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(
        self, pair: TapPair, statistics: PairStatistics | None, configuration: RegularizedConfiguration
    ) -> None:
        super().__init__()
        self.normalize = configuration.normalize
        self.mi_attention = configuration.mi_attention
        self.oracle_attention = configuration.oracle_attention
        self.student_resampler = Resampler(pair.grid, pair.common)
        self.oracle_resampler = Resampler(pair.oracle_grid, pair.common)
        self._set_target(pair, statistics)
        channels = int(self.kept.numel())
        self.dropped = pair.oracle_tap.channels - channels
        self.projection = _projection(configuration.projection, pair, channels)
        start, self.floor = VARIANCES[configuration.variance]
        # softplus(log(expm1(x))) = x
        self.raw_variance = (
            None
            if configuration.variance == "fixed"
            else nn.Parameter(torch.full((channels,), math.log(math.expm1(start - self.floor))))
        )

    def forward(self, features: Tensor, gates: Tensor | None, oracle_features: Tensor) -> PairTerms:
        """(B, C, H, W) features, their (B, 1, H, W) gates where there is attention, (B, D, H', W') oracle features."""
        target = self.target(oracle_features)
        student = normalized(features, self.normalize)
        if gates is not None and self.mi_attention == "gate":
            student = gates.float() * student
        student = self.student_resampler(student)
        prediction = student.index_select(1, self.kept) if self.projection is None else self.projection(student)
        weights = None if gates is None or self.mi_attention != "weight" else self.weights(gates)
        squared_error = _channel_means((prediction - target).square(), weights)
        variance = self.variance()
        # Equal to the mean over all positions, because s doesn't depend on the position.
        loss = 0.5 * (squared_error / variance + variance.log()).mean()
        # By its moments: the target is standardised, and torch's variance takes ten times as long on a CPU.
        spread = (_channel_means(target.square(), weights) - _channel_means(target, weights).square()).clamp_min(0.0)
        return PairTerms(loss, squared_error.detach(), spread)

    def target(self, oracle_features: Tensor) -> Tensor:
        """t: normalised, gated if asked, on the common grid, standardised, without the dropped channels. No gradient."""
        with torch.no_grad():
            resampled = resampled_target(oracle_features, self.normalize, self.oracle_attention, self.oracle_resampler)
            if self.kept.numel() < resampled.shape[1]:
                resampled = resampled.index_select(1, self.kept)
            return (resampled - self.mean).div_(self.deviation)

    def weights(self, gates: Tensor) -> Tensor:
        """What each position of the common grid counts: (B, 1, h, w), of mean 1 in every image. No gradient."""
        weights = self.student_resampler(gates.detach().float())
        scaled: Tensor = weights / weights.mean((2, 3), keepdim=True)
        return scaled

    def variance(self) -> Tensor:
        """s, one a channel."""
        if self.raw_variance is None:
            return torch.ones_like(self.mean.flatten())
        return functional.softplus(self.raw_variance) + self.floor

    def _set_target(self, pair: TapPair, statistics: PairStatistics | None) -> None:
        count = pair.oracle_tap.channels
        kept = torch.arange(count) if statistics is None else statistics.kept.nonzero().flatten()
        mean = torch.zeros(count) if statistics is None else statistics.mean[kept]
        deviation = torch.ones(count) if statistics is None else statistics.variance[kept].sqrt()
        if kept.numel() == 0:
            raise InputError(f"oracle tap {pair.oracle_tap.path!r}: every channel is constant: train the oracle anew")
        self.register_buffer("kept", kept)
        self.register_buffer("mean", mean.float().view(1, -1, 1, 1))
        self.register_buffer("deviation", deviation.float().view(1, -1, 1, 1))


class Regularizer(nn.Module):
    """L_MI = the sum over pairs of taps."""

    def __init__(
        self,
        pairs: Sequence[TapPair],
        statistics: Sequence[PairStatistics] | None,
        configuration: RegularizedConfiguration,
    ) -> None:
        super().__init__()
        per_pair = [None] * len(pairs) if statistics is None else list(statistics)
        self.indices = tuple(pair.index for pair in pairs)
        self.pairs = nn.ModuleList(
            PairRegularizer(pair, one, configuration) for pair, one in zip(pairs, per_pair, strict=True)
        )

    def forward(
        self, features: Sequence[Tensor], gates: Sequence[Tensor | None], oracle_features: Sequence[Tensor]
    ) -> tuple[Tensor, tuple[PairTerms, ...]]:
        """L_MI, and what each pair gave. Features and gates in the order of the pairs, oracle features in that of its taps."""
        with torch.autocast(features[0].device.type, enabled=False):
            terms = tuple(
                pair(feature, gate, oracle_features[index])
                for pair, feature, gate, index in zip(self.pairs, features, gates, self.indices, strict=True)
            )
            return torch.stack([term.loss for term in terms]).sum(), terms


def _channel_means(values: Tensor, weights: Tensor | None) -> Tensor:
    """The mean of each channel over images and positions, which count alike without weights."""
    return (values if weights is None else values * weights).mean((0, 2, 3))


def _projection(kind: str, pair: TapPair, channels: int) -> nn.Conv2d | None:
    """A 1x1 convolution with bias, all zero, so that the first prediction is the target's mean; None for the identity."""
    if kind == "conv1x1":
        return blank_convolution(pair.tap.channels, channels, 1, bias=True)
    if pair.tap.channels != pair.oracle_tap.channels:
        raise InputError(
            f"key 'projection': 'identity' needs equal channels, but tap {pair.tap.path!r} has {pair.tap.channels} and the "
            f"oracle's {pair.oracle_tap.path!r} {pair.oracle_tap.channels}: give 'conv1x1'"
        )
    return None
