"""The contract between the training loop and a method.

`attach` (harness.methods.attach) wraps a detector and gives a TrainingModel. The loop sees only this: one module whose forward gives
named loss terms, the groups that its optimizers are made of, and the model that is left at inference.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from detectors.base import Batch, Detector
from harness.pytorch.random_state import kept_random_state


@dataclass(frozen=True, eq=False)
class ParameterGroup:
    """Parameters that train alike.

    optimizer `recipe`: the detector's own recipe (learning rate, weight decay, clipping all as the recipe says). optimizer `adamw`: an
    AdamW of its own at `learning_rate` (peak) without weight decay, never clipped, that follows the shape of the recipe's schedule.
    """

    name: str
    parameters: tuple[nn.Parameter, ...]
    optimizer: Literal["recipe", "adamw"] = "recipe"
    learning_rate: float | None = None


@contextmanager
def apart(generator: torch.Generator) -> Iterator[None]:
    """Around a pass of a method's own: what is drawn within from the global generators (dropout, say) comes of `generator`.

    Afterwards the global generators are where they were, so that the detector's own pass draws what it draws in the baseline.
    generator: the one that `attach` was given, of the CPU.
    """
    with kept_random_state(int(torch.randint(2**32, (), generator=generator))):
        yield


class TrainingModel(nn.Module, ABC):
    """A detector with a method around it, while it trains. The detector is the registered submodule `detector`.

    All that a training changes lies in parameters and persistent buffers that are there from `__init__` on: checkpoints hold no more.
    """

    detector: Detector

    @abstractmethod
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Scalar loss terms by name, weighted: their sum is minimised. The detector's own terms come first, under their own names."""

    @abstractmethod
    def parameter_groups(self) -> tuple[ParameterGroup, ...]:
        """Every trainable parameter exactly once; frozen ones never."""

    @abstractmethod
    def diagnostics(self) -> dict[str, float]:
        """What the last forward showed beyond its losses (per tap R^2, MI in nats, ...), as plain numbers. May synchronise."""

    def after_step(self) -> None:
        """Called once after every step of the optimizers, without gradients: what follows the weights (an EMA teacher) is moved here.

        A forward is no place for it, since a step has as many of them as micro-batches.
        """

    @abstractmethod
    def inference_model(self) -> Detector:
        """The detector as it is deployed: with what the method leaves in it (attention), without what it only needed to train.

        Its state dict is plain tensors, and loads strictly into `harness.methods.attach.inference_model(detector, config)`.
        """
