"""A moving average of the weights that a detector is deployed with."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from harness.methods.base import TrainingModel

WARM_UP_STEPS = 2000
"""The average follows the weights closely at first: over so many steps the share of the newest falls by a factor of e towards
1 - decay. It is the default `gamma` of mmdetection 3's ExpMomentumEMA (mmdet/models/layers/ema.py), which CLRerNet trains with
(configs/clrernet/culane/clrernet_culane_dla34_ema.py: momentum 0.0001, a decay of 0.9999)."""


class MovingAverage:
    """The exponential moving average of a model's inference weights: the detector and the attention in its stream, nothing else.

    All floating-point tensors of the inference model's state dict are averaged, the running statistics of batch normalization
    among them; whole numbers are the newest.
    """

    def __init__(self, model: TrainingModel, decay: float) -> None:
        self._model, self._decay = model, decay
        self._tensors = {name: value.clone() for name, value in self._newest().items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take up the weights after a step (1, 2, ...)."""
        newest_share = newest_weight(self._decay, step)
        for name, value in self._newest().items():
            if value.is_floating_point():
                self._tensors[name].lerp_(value, newest_share)
            else:
                self._tensors[name].copy_(value)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Give the model the average's weights for a while."""
        kept = {name: value.clone() for name, value in self._newest().items()}
        self.put_in_place()
        try:
            yield
        finally:
            self._put(kept)

    def put_in_place(self) -> None:
        """Give the model the average's weights."""
        self._put(self._tensors)

    def state_dict(self) -> dict[str, Tensor]:
        """The averages by name."""
        return self._tensors

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what `state_dict` gave. KeyError or RuntimeError where it is of another model."""
        for name, value in self._tensors.items():
            value.copy_(state[name])

    @torch.no_grad()
    def _put(self, tensors: dict[str, Tensor]) -> None:
        for name, value in self._newest().items():
            value.copy_(tensors[name])

    def _newest(self) -> dict[str, Tensor]:
        return self._model.inference_model().state_dict()


def newest_weight(decay: float, step: int) -> float:
    """The share of the newest weights in the average at a step (1, 2, ...): 1 - decay in the long run."""
    return (1.0 - decay) + decay * math.exp(-step / WARM_UP_STEPS)
