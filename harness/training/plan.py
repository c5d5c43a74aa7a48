"""What one training is asked to be, what it comes to, and how it fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch

from detectors.meta import Recipe
from harness.methods.base import TrainingModel

Precision = Literal["fp32", "bf16", "fp16"]

AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Precision -> dtype of autocast; parameters and their updates stay fp32 in all of them."""

NAMED_IMAGES = 16
"""So many images of a batch are named in the message of a divergence; the log has them all."""


@dataclass(frozen=True)
class TrainingPlan:
    """How one training runs.

    recipe: its batch_size is the global batch. total_steps: optimizer steps in all. micro_batch_size: how many samples go
    through the model at once, None for all; gradients of a batch are the mean over its samples either way, but a loss that is
    normalised within a batch, and batch normalization, see the micro-batch. compiled: by torch.compile. checkpoint_seconds,
    checkpoint_steps: a checkpoint is written when either has passed since the last. log_every, diagnostics_every: in steps; the
    last step has both. tensorboard: the log as TensorBoard's events as well. loss_limit: a total loss above it is a divergence.
    """

    recipe: Recipe
    total_steps: int
    precision: Precision = "fp32"
    micro_batch_size: int | None = None
    channels_last: bool = False
    compiled: bool = False
    checkpoint_seconds: float = 60.0
    checkpoint_steps: int | None = None
    log_every: int = 10
    diagnostics_every: int = 50
    tensorboard: bool = False
    loss_limit: float = 1e6

    def arithmetic(self) -> dict[str, Any]:
        """What the weights depend on: a checkpoint is continued only where all of it is the same."""
        return {
            "recipe": self.recipe.model_dump(mode="json"),
            "total_steps": self.total_steps,
            "precision": self.precision,
            "micro_batch_size": self.micro_batch_size or self.recipe.batch_size,
            "channels_last": self.channels_last,
            "compiled": self.compiled,
        }


@dataclass(frozen=True)
class Validation:
    """Choice of the best step: `score` (higher is better) of the model, in eval mode, every `every` steps and at the last.

    With an average of the weights it is the average that is scored.
    """

    every: int
    score: Callable[[TrainingModel], float]


@dataclass(frozen=True)
class TrainingSummary:
    """What a training took and where it ended, over all its resumed parts.

    seconds: wall time of the steps, waiting for data included, validation and checkpoints not; of the steps that the final weights
    went through: work lost to a kill isn't in it. seconds_per_step: the median. peak_memory_bytes: of tensors on a CUDA device,
    None on a CPU. resumed: how often it was continued. clip_rate: share of steps whose gradient was clipped, None without
    clipping. skipped_steps: those without an update, because fp16 gradients overflowed. final_losses and final_diagnostics: of the
    last step, those that are finite; with a regularizer, `gradient_ratio/<tap>` and `weight_gradient_ratio/<group>` among them are
    those of `harness.methods.samiro.GradientRatios`. best_step, best_score: None without validation.
    """

    steps: int
    images: int
    batch_size: int
    micro_batch_size: int
    seconds: float
    seconds_per_step: float
    peak_memory_bytes: int | None
    resumed: int
    clip_rate: float | None
    skipped_steps: int
    final_losses: dict[str, float]
    final_diagnostics: dict[str, float]
    best_step: int | None
    best_score: float | None


class TrainingDiverged(Exception):
    """A loss or gradient that isn't finite, or a loss above the limit. The message is one line.

    step: counted from 1. losses: the terms. ids: of the batch's samples, which are the names of their image files.
    """

    def __init__(self, step: int, reason: str, losses: dict[str, float], ids: tuple[str, ...]) -> None:
        terms = ", ".join(f"{name} {value:g}" for name, value in losses.items())
        more = f" and {len(ids) - NAMED_IMAGES} more (in the training's log)" if len(ids) > NAMED_IMAGES else ""
        named = ", ".join(ids[:NAMED_IMAGES]) + more
        super().__init__(f"training diverged at step {step}: {reason}; losses: {terms}; batch: {named}")
        self.step, self.reason, self.losses, self.ids = step, reason, losses, ids

    def __reduce__(self) -> tuple[Any, ...]:
        """How it travels between processes."""
        return type(self), (self.step, self.reason, self.losses, self.ids)
