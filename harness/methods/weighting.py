"""The weight of the regularizer: fixed, or steered by the ratio of gradients at the taps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.distributed
from torch import Tensor, nn

from harness.errors import InputError

TARGET_RATIO = 0.1
"""Ratio mode holds the norm of the regularizer's gradient at this share of the detector's."""

WARM_UP_SHARE, WARM_UP_FORWARDS = 0.01, 50
"""Ratio mode leaves the weight at its start for this share of the training, but for so many forwards at least: the projection starts at
zero, so the regularizer's gradient at first says nothing of what it comes to be, and a weight steered by it would overshoot."""

INTERVAL = 10
"""Ratio mode measures every so many forwards, because a measurement costs about two backward passes."""

DECAY, HORIZON_SHARE = 0.9, 0.05
"""Decay, a measurement, of the moving averages of the two norms. It is less where the average would look back further than over this
share of the training."""

SMALLEST, LARGEST = 1e-3, 10.0
"""Bounds of a steered weight."""

HALF_SCALE = 2.0**12
"""By so much a loss is scaled where its gradients at the taps are of float16."""


class FixedWeight(nn.Module):
    """lambda as it was given."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, detector_losses: Iterable[Tensor], regularizer_loss: Tensor, features: Sequence[Tensor]) -> float:
        """The weight of this forward."""
        return self.value

    def current(self) -> float:
        """The weight of the last forward."""
        return self.value


class RatioWeight(nn.Module):
    """lambda such that the gradient of lambda L_MI at the taps is a tenth of that of the detector's loss.

    The first of `total` training forwards keep `start`; `measured_share` of all measure. Its state lies in buffers, so that a resumed
    training goes on alike. Where several processes share a batch they take the mean of what each measures, so that all have the same
    weight.
    """

    seen: Tensor
    detector_norm: Tensor
    regularizer_norm: Tensor
    weight: Tensor

    def __init__(self, start: float, total: int) -> None:
        super().__init__()
        self.warm_up = max(WARM_UP_FORWARDS, round(WARM_UP_SHARE * total))
        self.interval = INTERVAL
        self.measured_share = max(0, math.ceil((total - self.warm_up) / INTERVAL)) / total
        self.decay = min(DECAY, max(0.0, 1.0 - INTERVAL / (HORIZON_SHARE * total)))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("detector_norm", torch.zeros(()))
        self.register_buffer("regularizer_norm", torch.zeros(()))
        self.register_buffer("weight", torch.tensor(start))

    def forward(
        self, detector_losses: Iterable[Tensor], regularizer_loss: Tensor, features: Sequence[Tensor]
    ) -> Tensor:
        """The weight of this forward. In training mode it counts, and measures where it is time to."""
        if self.training:
            past = int(self.seen) - self.warm_up
            if past >= 0 and past % self.interval == 0:
                detector_loss = torch.stack(list(detector_losses)).sum()
                self._measure(detector_loss, regularizer_loss, features)
            self.seen += 1
        return self.weight.clone()

    def current(self) -> float:
        """The weight of the last forward."""
        return float(self.weight)

    def _measure(self, detector_loss: Tensor, regularizer_loss: Tensor, features: Sequence[Tensor]) -> None:
        losses = (detector_loss, regularizer_loss)
        found = mean_of_all(torch.stack([torch.stack(gradient_norms(loss, features)).norm() for loss in losses]))
        if not bool(found.isfinite().all()):
            # An overflow of float16, whose step the training's scaler leaves out as well.
            return
        decay = self.decay if bool(self.detector_norm > 0) else 0.0
        for norm, value in zip((self.detector_norm, self.regularizer_norm), found, strict=True):
            norm.copy_(decay * norm + (1 - decay) * value)
        ratio = TARGET_RATIO * self.detector_norm / self.regularizer_norm.clamp_min(1e-20)
        self.weight.copy_(ratio.clamp(SMALLEST, LARGEST))


@contextmanager
def measuring(weights: Sequence[RatioWeight]) -> Iterator[None]:
    """Within, every training forward measures; afterwards weights and counts are as they were."""
    kept = [
        (weight, weight.warm_up, weight.interval, {name: value.clone() for name, value in weight.state_dict().items()})
        for weight in weights
    ]
    for weight in weights:
        weight.warm_up, weight.interval = 0, 1
    try:
        yield
    finally:
        for weight, warm_up, interval, state in kept:
            weight.warm_up, weight.interval = warm_up, interval
            weight.load_state_dict(state)


def gradient_norms(loss: Tensor, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The norm of d loss / d feature for each feature, in float32; zero where the loss doesn't depend on it. The graph stays.

    A mean over the cells of large maps has gradients that float16 rounds to zero: for such features the loss is scaled meanwhile.
    """
    scale = HALF_SCALE if any(feature.dtype == torch.float16 for feature in features) else 1.0
    gradients = torch.autograd.grad(scale * loss, features, retain_graph=True, allow_unused=True)
    return tuple(
        torch.zeros((), device=feature.device) if gradient is None else gradient.float().norm() / scale
        for gradient, feature in zip(gradients, features, strict=True)
    )


def refuse_compiled_measurement(compiled: bool, lambda_mode: str) -> None:
    """InputError where a weight would be steered in a compiled step: what its graph gives out isn't what its losses were made of, so
    that every gradient at a tap would be found to be zero.
    """
    if compiled and lambda_mode == "ratio":
        raise InputError(
            "key 'training.compile': lambda_mode 'ratio' measures gradients at the taps, which a compiled step doesn't keep: leave the "
            "key out, or give lambda_mode 'fixed'"
        )


def mean_of_all(values: Tensor) -> Tensor:
    """The mean over the processes of a training; the values themselves where it has one."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(values)
        values /= torch.distributed.get_world_size()
    return values
