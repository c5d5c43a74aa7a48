"""The weight of the regularizer: fixed, or steered by the ratio of gradients at the taps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

TARGET_RATIO = 0.1
"""Ratio mode holds the norm of the regularizer's gradient at this share of the detector's."""

WARM_UP_SHARE = 0.01
"""Share of the training in which ratio mode leaves the weight at its start: the projection starts at zero, and so does the gradient."""

INTERVAL = 10
"""Ratio mode measures every so many forwards, because a measurement costs about two backward passes."""

DECAY = 0.9
"""Of the moving averages of the two norms, a measurement."""

SMALLEST, LARGEST = 1e-3, 10.0
"""Bounds of a steered weight."""


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

    The first hundredth of `total` training forwards keeps `start`. Its state lies in buffers, so that a resumed training goes on alike.
    """

    seen: Tensor
    detector_norm: Tensor
    regularizer_norm: Tensor
    weight: Tensor

    def __init__(self, start: float, total: int) -> None:
        super().__init__()
        self.warm_up = max(1, round(WARM_UP_SHARE * total))
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
            if past >= 0 and past % INTERVAL == 0:
                detector_loss = torch.stack(list(detector_losses)).sum()
                self._measure(detector_loss, regularizer_loss, features, first=past == 0)
            self.seen += 1
        return self.weight.clone()

    def current(self) -> float:
        """The weight of the last forward."""
        return float(self.weight)

    def _measure(
        self, detector_loss: Tensor, regularizer_loss: Tensor, features: Sequence[Tensor], *, first: bool
    ) -> None:
        norms = (self.detector_norm, self.regularizer_norm)
        for norm, loss in zip(norms, (detector_loss, regularizer_loss), strict=True):
            found = torch.stack(list(gradient_norms(loss, features))).norm()
            norm.copy_(found if first else DECAY * norm + (1 - DECAY) * found)
        ratio = TARGET_RATIO * self.detector_norm / self.regularizer_norm.clamp_min(1e-20)
        self.weight.copy_(ratio.clamp(SMALLEST, LARGEST))


def gradient_norms(loss: Tensor, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The norm of d loss / d feature for each feature, in float32; zero where the loss doesn't depend on it. The graph stays."""
    gradients = torch.autograd.grad(loss, features, retain_graph=True, allow_unused=True)
    return tuple(
        torch.zeros((), device=feature.device) if gradient is None else gradient.float().norm()
        for gradient, feature in zip(gradients, features, strict=True)
    )
