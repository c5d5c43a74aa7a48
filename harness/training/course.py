"""The course of a training: what has happened so far, what one step showed, and whether that is still a training."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from harness.sums import added_in_order
from harness.training.plan import TrainingPlan, TrainingSummary
from harness.training.ranks import Ranks

SKIPS_IN_A_ROW = 32
"""After so many fp16 steps without an update in a row a training has diverged: halved as often, the scaler's first scale of 65,536 is
1.5e-5, and gradients that overflow even there aren't finite."""


@dataclass
class Course:
    """What has happened so far; part of every checkpoint."""

    step: int = 0
    resumed: int = 0
    seconds: list[float] = field(default_factory=list)
    clipped: list[float] = field(default_factory=list)
    skipped: int = 0
    skipped_in_a_row: int = 0
    losses: dict[str, float] = field(default_factory=dict)
    diagnostics: dict[str, float] = field(default_factory=dict)
    peak_memory: int | None = None
    best_step: int | None = None
    best_score: float | None = None
    validated: int = 0


@dataclass(frozen=True)
class Reading:
    """What one step showed, on the host, of all processes. due: whether a checkpoint is. stops: whether the training is to stop."""

    losses: dict[str, float]
    gradient_norm: float
    learning_rates: dict[str, float]
    due: bool
    stops: bool

    @property
    def loss(self) -> float:
        """The sum of the loss terms."""
        return added_in_order([*self.losses.values()])


def fault_of(reading: Reading, course: Course, plan: TrainingPlan) -> str | None:
    """Why a training has diverged with its last step, None if it hasn't."""
    if not math.isfinite(reading.loss):
        return "the loss isn't finite"
    if reading.loss > plan.loss_limit:
        return f"the loss {reading.loss:g} is above {plan.loss_limit:g}"
    # With fp16 the scaler skips steps whose gradients overflow: that is how it finds its scale.
    if plan.precision != "fp16" and not math.isfinite(reading.gradient_norm):
        return "the gradient isn't finite"
    if course.skipped_in_a_row >= SKIPS_IN_A_ROW:
        return f"the gradient wasn't finite in {SKIPS_IN_A_ROW} steps in a row, whatever the scale of the loss"
    return None


def summary_of(plan: TrainingPlan, course: Course, ranks: Ranks) -> TrainingSummary:
    """What a training that has taken all of its steps came to."""
    return TrainingSummary(
        steps=course.step,
        images=course.step * plan.recipe.batch_size,
        batch_size=plan.recipe.batch_size,
        micro_batch_size=plan.micro_batch_size or plan.recipe.batch_size // ranks.count,
        seconds=float(np.sum(course.seconds)),
        seconds_per_step=float(np.median(course.seconds)),
        peak_memory_bytes=course.peak_memory,
        resumed=course.resumed,
        clip_rate=None if plan.recipe.clip_gradient_norm is None else float(np.mean(course.clipped)),
        skipped_steps=course.skipped,
        final_losses=course.losses,
        # A record is JSON, which has no number for one that isn't finite; the log has it as null.
        final_diagnostics={name: value for name, value in course.diagnostics.items() if math.isfinite(value)},
        best_step=course.best_step,
        best_score=course.best_score,
    )
