"""The contract between the training loop and a method.

`attach` (harness.methods.attach) wraps a detector and gives a TrainingModel. The loop sees only this: one module whose forward gives
named loss terms, the groups that its optimizers are made of, and the model that is left at inference.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from detectors.base import Batch, Detector


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


class TrainingModel(nn.Module, ABC):
    """A detector with a method around it, while it trains. The detector is the registered submodule `detector`."""

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

    @abstractmethod
    def inference_model(self) -> Detector:
        """The detector as it is deployed: with what the method leaves in it (attention), without what it only needed to train.

        Its state dict is plain tensors, and loads strictly into `harness.methods.attach.inference_model(detector, config)`.
        """
