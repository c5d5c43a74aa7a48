"""The training loop: batches in, a trained model, its log and its checkpoints out.

It knows a detector and a method only as a TrainingModel, and data only as batches by step. Everything that the next step depends on
is in the checkpoint, so that a training killed at any time continues bit for bit on the same device with the same threads.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

from detectors.base import Batch
from detectors.meta import Recipe
from harness.errors import InputError
from harness.methods.base import TrainingModel
from harness.methods.samiro import gradient_ratios
from harness.training.checkpoint import load_training_state, save_training_state
from harness.training.data import micro_batches
from harness.training.determinism import random_state, set_random_state
from harness.training.log import TrainingLog
from harness.training.optimization import build_optimization

Precision = Literal["fp32", "bf16", "fp16"]

AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Precision -> dtype of autocast; parameters and their updates stay fp32 in all of them."""

RATIO_SHARES = (0.01, 0.1, 0.5, 1.0)
"""Where in a training the ratio of the method's gradients to the detector's is measured, as shares of its steps."""

STATE_FILE = "training.pt"
BEST_FILE = "best.pt"
LOG_FILE = "training.jsonl"


BatchesOfSteps = Callable[[int, int], Generator[Batch, None, None]]
"""`TrainingStream.batches`: (first, last) -> the batches of steps first .. last - 1, closed where they are left early."""


@dataclass(frozen=True)
class TrainingPlan:
    """How one training runs.

    recipe: its batch_size is the global batch. total_steps: optimizer steps in all. micro_batch_size: how many samples go
    through the model at once, None for all; gradients of a batch are the mean over its samples either way, but a loss that is
    normalised within a batch, and batch normalization, see the micro-batch. checkpoint_seconds, checkpoint_steps: a checkpoint
    is written when either has passed since the last. log_every, diagnostics_every: in steps; the last step has both.
    loss_limit: a total loss above it is a divergence.
    """

    recipe: Recipe
    total_steps: int
    precision: Precision = "fp32"
    micro_batch_size: int | None = None
    channels_last: bool = False
    checkpoint_seconds: float = 60.0
    checkpoint_steps: int | None = None
    log_every: int = 10
    diagnostics_every: int = 50
    loss_limit: float = 1e6

    def arithmetic(self) -> dict[str, Any]:
        """What the weights depend on: a checkpoint is continued only where all of it is the same."""
        return {
            "recipe": self.recipe.model_dump(mode="json"),
            "total_steps": self.total_steps,
            "precision": self.precision,
            "micro_batch_size": self.micro_batch_size or self.recipe.batch_size,
            "channels_last": self.channels_last,
        }


@dataclass(frozen=True)
class Validation:
    """Choice of the best step: `score` (higher is better) of the model, in eval mode, every `every` steps and at the last."""

    every: int
    score: Callable[[TrainingModel], float]


@dataclass(frozen=True)
class TrainingSummary:
    """What a training took and where it ended, over all its resumed parts.

    seconds: wall time of the steps, waiting for data included, validation and checkpoints not; of the steps that the final weights
    went through: work lost to a kill isn't in it. seconds_per_step: the median. peak_memory_bytes: of tensors on a CUDA device,
    None on a CPU. resumed: how often it was continued. clip_rate: share of steps whose gradient was clipped, None without
    clipping. final_losses and final_diagnostics: of the last step; with a regularizer, `gradient_ratio/<tap>` among them is the
    norm of its gradient over that of the detector's losses. best_step, best_score: None without validation.
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
    final_losses: dict[str, float]
    final_diagnostics: dict[str, float]
    best_step: int | None
    best_score: float | None


class TrainingDiverged(Exception):
    """A loss or gradient that isn't finite, or a loss above the limit. The message is one line.

    step: counted from 1. losses: the terms. ids: of the batch's samples.
    """

    def __init__(self, step: int, reason: str, losses: dict[str, float], ids: tuple[str, ...]) -> None:
        terms = ", ".join(f"{name} {value:g}" for name, value in losses.items())
        super().__init__(f"training diverged at step {step}: {reason}; losses: {terms}; batch: {', '.join(ids)}")
        self.step, self.reason, self.losses, self.ids = step, reason, losses, ids


@dataclass
class _Course:
    """What has happened so far; part of every checkpoint."""

    step: int = 0
    resumed: int = 0
    seconds: list[float] = field(default_factory=list)
    clipped: list[float] = field(default_factory=list)
    losses: dict[str, float] = field(default_factory=dict)
    diagnostics: dict[str, float] = field(default_factory=dict)
    peak_memory: int | None = None
    best_step: int | None = None
    best_score: float | None = None


def train(
    model: TrainingModel,
    batches: BatchesOfSteps,
    plan: TrainingPlan,
    *,
    device: torch.device,
    folder: Path,
    validation: Validation | None = None,
    progress: Callable[[int, int, float], None] | None = None,
) -> TrainingSummary:
    """Train a model to the plan's last step, from the checkpoint in `folder` where there is one.

    Moves the model to `device`. It ends with the weights of the last step or, with `validation`, of the best one (the earliest of
    equals), in train mode. `folder` gets `training.jsonl` and `training.pt`, with validation `best.pt`; a folder whose training is
    complete gives model and summary back without a step. progress: called after every step with (steps done, steps in all, total loss).

    Raises TrainingDiverged; InputError where the checkpoint is broken or of another training, and what the batches raise.
    """
    training = _Training(model, plan, device, folder)
    training.restore()
    course = training.course
    if course.step < plan.total_steps:
        log = TrainingLog(folder / LOG_FILE, step=course.step)
        if course.step:
            course.resumed += 1
            log.write({"step": course.step, "resumed": course.resumed})
        # Closing the generator ends its workers now, whatever ended the loop.
        with closing(batches(course.step, plan.total_steps)) as coming:
            training.run(coming, log, validation, progress or (lambda step, total, loss: None))
    if course.best_step is not None:
        model.load_state_dict(load_training_state(folder / BEST_FILE)["model"])
    return _summary(plan, course)


def steps_of(model: TrainingModel, plan: TrainingPlan, *, device: torch.device, folder: Path) -> Callable[[Batch], Any]:
    """What takes a model through the plan's steps one by one, a batch each, as `train` does, but without log and checkpoints.

    Moves the model to `device`; nothing is written to `folder`.
    """
    return _Training(model, plan, device, folder).step


class _Training:
    """One training in flight: a model, its optimizers, and what has happened so far."""

    def __init__(self, model: TrainingModel, plan: TrainingPlan, device: torch.device, folder: Path) -> None:
        self.model, self.plan, self.device, self.folder = model, plan, device, folder
        self.course = _Course()
        model.to(device)
        if plan.channels_last:
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        model.train()
        self.optimization = build_optimization(plan.recipe, model.parameter_groups(), model)
        self.scaler = GradScaler(device.type, enabled=plan.precision == "fp16")
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def run(
        self,
        batches: Iterator[Batch],
        log: TrainingLog,
        validation: Validation | None,
        progress: Callable[[int, int, float], None],
    ) -> None:
        """All steps that are left."""
        course, plan = self.course, self.plan
        ratio_steps = {math.ceil(share * plan.total_steps) for share in RATIO_SHARES}
        saved_at, saved_step = time.monotonic(), course.step
        started = time.perf_counter()
        for batch in batches:
            reading = self.step(batch)
            course.seconds.append(time.perf_counter() - started)
            last = course.step == plan.total_steps
            if fault := _fault(reading, plan):
                log.write(self.entry(reading) | {"diverged": fault, "batch": list(batch.ids)})
                raise TrainingDiverged(course.step, fault, reading.losses, batch.ids)
            if last or course.step % plan.diagnostics_every == 0 or course.step in ratio_steps:
                course.diagnostics = self.model.diagnostics()
                if course.step in ratio_steps:
                    course.diagnostics |= self.gradient_ratios(batch)
                log.write(self.entry(reading) | {"diagnostics": course.diagnostics})
            elif course.step == 1 or course.step % plan.log_every == 0:
                log.write(self.entry(reading))
            progress(course.step, plan.total_steps, reading.loss)
            if validation and (last or course.step % validation.every == 0):
                log.write({"step": course.step, "validation": self.validate(validation)})
            due = plan.checkpoint_steps is not None and course.step - saved_step >= plan.checkpoint_steps
            if last or due or time.monotonic() - saved_at >= plan.checkpoint_seconds:
                self.save()
                saved_at, saved_step = time.monotonic(), course.step
            started = time.perf_counter()

    def step(self, batch: Batch) -> _Reading:
        """One optimizer step on one batch, in micro-batches."""
        plan, optimization = self.plan, self.optimization
        rates = optimization.set_learning_rates(self.course.step, plan.total_steps)
        optimization.zero_grad()
        losses: dict[str, Tensor] = {}
        for part in micro_batches(batch, plan.micro_batch_size or len(batch.ids)):
            share = len(part.ids) / len(batch.ids)
            with self.precision():
                terms: dict[str, Tensor] = self.model(self.placed(part))
            total = torch.stack([term.float() for term in terms.values()]).sum()
            self.scaler.scale(total * share).backward()  # type: ignore[no-untyped-call]
            for name, term in terms.items():
                losses[name] = losses.get(name, 0.0) + term.detach().float() * share
        for optimizer in optimization.optimizers.values():
            self.scaler.unscale_(optimizer)
        norm = optimization.gradient_norm().to(self.device)
        clipped = optimization.clip(norm)
        for optimizer in optimization.optimizers.values():
            self.scaler.step(optimizer)
        self.scaler.update()
        self.course.step += 1
        # The one synchronisation of a step: all that is read of it comes over at once.
        values = torch.stack([*losses.values(), norm.float(), clipped.float()]).tolist()
        reading = _Reading(dict(zip(losses, values, strict=False)), values[-2], rates)
        self.course.clipped.append(values[-1])
        self.course.losses = reading.losses
        return reading

    def placed(self, batch: Batch) -> Batch:
        """A batch on the device, in the plan's memory layout."""
        batch = batch.to(self.device)
        if self.plan.channels_last:
            return replace(batch, images=batch.images.contiguous(memory_format=torch.channels_last))
        return batch

    def precision(self) -> torch.autocast:
        """The plan's autocast."""
        dtype = AUTOCAST[self.plan.precision]
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None)

    def gradient_ratios(self, batch: Batch) -> dict[str, float]:
        """How much the method pulls at each tap, over how much the detector's losses do, for the first micro-batch of a batch."""
        part = next(micro_batches(batch, self.plan.micro_batch_size or len(batch.ids)))
        with self.unmeasured(), self.precision():
            found = gradient_ratios(self.model, self.placed(part))
        return {f"gradient_ratio/{path}": value for path, value in found.items()}

    @contextmanager
    def unmeasured(self) -> Iterator[None]:
        """Keep what happens inside out of the peak memory of the training."""
        self.note_peak_memory()
        yield
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def note_peak_memory(self) -> None:
        """Take up the device's peak since the last reset."""
        if self.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(self.device)
            self.course.peak_memory = max(peak, self.course.peak_memory or 0)

    def validate(self, validation: Validation) -> float:
        """Score the model without leaving a trace in its training, and keep it if it is the best so far."""
        before = random_state()
        self.model.eval()
        with self.unmeasured():
            score = float(validation.score(self.model))
        self.model.train()
        set_random_state(before)
        if self.course.best_score is None or score > self.course.best_score:
            self.course.best_step, self.course.best_score = self.course.step, score
            save_training_state(self.folder / BEST_FILE, {"model": self.model.state_dict()})
        return score

    def entry(self, reading: _Reading) -> dict[str, Any]:
        """A line of the log: `clip_rate` and `step_seconds` are means over the steps since the last multiple of `log_every`."""
        recent = (self.course.step - 1) % self.plan.log_every + 1
        return {
            "step": self.course.step,
            "loss": reading.loss,
            "losses": reading.losses,
            "learning_rate": reading.learning_rates,
            "gradient_norm": reading.gradient_norm,
            "clip_rate": float(np.mean(self.course.clipped[-recent:])),
            "step_seconds": float(np.mean(self.course.seconds[-recent:])),
        }

    def save(self) -> None:
        """Write the checkpoint: all that the next step depends on."""
        self.note_peak_memory()
        state = {
            "arithmetic": self.plan.arithmetic(),
            "course": asdict(self.course),
            "model": self.model.state_dict(),
            "optimizers": self.optimization.state_dict(),
            "scaler": self.scaler.state_dict(),
            "random": random_state(),
        }
        save_training_state(self.folder / STATE_FILE, state)

    def restore(self) -> None:
        """Take up the checkpoint, if there is one. InputError where it doesn't belong to this training."""
        path = self.folder / STATE_FILE
        if not path.exists():
            return
        state = load_training_state(path)
        advice = "train in another folder, or delete it to train again"
        theirs = state.get("arithmetic")
        for key, value in self.plan.arithmetic().items():
            if not isinstance(theirs, dict) or theirs.get(key) != value:
                raise InputError(f"{path}: a checkpoint of another training, its {key!r} differs; {advice}")
        try:
            self.model.load_state_dict(state["model"])
            self.optimization.load_state_dict(state["optimizers"])
            self.scaler.load_state_dict(state["scaler"])
            self.course = _Course(**state["course"])
            set_random_state(state["random"])
        except (RuntimeError, KeyError, ValueError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{path}: a checkpoint of another model ({reason}); {advice}") from error


@dataclass(frozen=True)
class _Reading:
    """What one step showed, on the host."""

    losses: dict[str, float]
    gradient_norm: float
    learning_rates: dict[str, float]

    @property
    def loss(self) -> float:
        return sum(self.losses.values())


def _fault(reading: _Reading, plan: TrainingPlan) -> str | None:
    if not math.isfinite(reading.loss):
        return "the loss isn't finite"
    if reading.loss > plan.loss_limit:
        return f"the loss {reading.loss:g} is above {plan.loss_limit:g}"
    # With fp16 the scaler skips steps whose gradients overflow: that is how it finds its scale.
    if plan.precision != "fp16" and not math.isfinite(reading.gradient_norm):
        return "the gradient isn't finite"
    return None


def _summary(plan: TrainingPlan, course: _Course) -> TrainingSummary:
    return TrainingSummary(
        steps=course.step,
        images=course.step * plan.recipe.batch_size,
        batch_size=plan.recipe.batch_size,
        micro_batch_size=plan.micro_batch_size or plan.recipe.batch_size,
        seconds=float(np.sum(course.seconds)),
        seconds_per_step=float(np.median(course.seconds)),
        peak_memory_bytes=course.peak_memory,
        resumed=course.resumed,
        clip_rate=None if plan.recipe.clip_gradient_norm is None else float(np.mean(course.clipped)),
        final_losses=course.losses,
        final_diagnostics=course.diagnostics,
        best_step=course.best_step,
        best_score=course.best_score,
    )
