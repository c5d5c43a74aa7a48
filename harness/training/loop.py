"""The training loop: batches in, a trained model, its log and its checkpoints out.

It knows a detector and a method only as a TrainingModel, and data only as batches by step. Everything that the next step depends on
is in the checkpoint, so that a training killed at any time continues bit for bit on the same device with the same threads.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

from detectors.base import Batch
from harness.errors import InputError, mending
from harness.methods.base import TrainingModel
from harness.methods.promises import Watch
from harness.methods.samiro import gradient_ratios
from harness.methods.weighting import RatioWeight, refuse_compiled_measurement
from harness.processes.faults import OutOfMemory, is_out_of_memory
from harness.processes.stopping import after_checkpoint, at_once, stop_asked
from harness.pytorch.compilation import compile_in_place
from harness.pytorch.constants import constant
from harness.pytorch.random_state import random_state, set_random_state
from harness.training.average import MovingAverage
from harness.training.board import Board
from harness.training.checkpoint import load_training_state, save_training_state
from harness.training.course import Course, Reading, fault_of, summary_of
from harness.training.data import micro_batches
from harness.training.log import LOG_FILE, TrainingLog
from harness.training.optimization import build_optimization
from harness.training.plan import AUTOCAST, TrainingDiverged, TrainingPlan, TrainingSummary, Validation
from harness.training.ranks import ALONE, Ranks

RATIO_SHARES = (0.01, 0.1, 0.5, 1.0)
"""Where in a training the ratio of the method's gradients to the detector's is measured, as shares of its steps."""

STATE_FILE = "training.safetensors"
BEST_FILE = "best.safetensors"
BOARD_FOLDER = "tensorboard"


BatchesOfSteps = Callable[[int, int], Generator[Batch, None, None]]
"""`TrainingStream.batches`: (first, last) -> the batches of steps first .. last - 1, closed where they are left early."""

Progress = Callable[[int, int, float], None]
"""Called after every step with (steps done, steps in all, total loss)."""


def train(
    model: TrainingModel,
    batches: BatchesOfSteps,
    plan: TrainingPlan,
    *,
    device: torch.device,
    folder: Path,
    validation: Validation | None = None,
    progress: Progress | None = None,
    ranks: Ranks = ALONE,
    generator: torch.Generator | None = None,
) -> TrainingSummary:
    """Train a model to the plan's last step, from the checkpoint in `folder` where there is one.

    Moves the model to `device`. It ends with the weights of the last step or, with `validation`, of the best one (the earliest of
    equals), in train mode; where the recipe averages weights, those of the inference model are the average. `folder` gets
    `training.jsonl` and `training.safetensors`, with validation `best.safetensors`; a folder whose training is complete gives
    model and summary back without a step. Of several processes (`ranks`) each gives its own model and its share of the batches;
    the first alone validates, writes and tells its progress, and ends with the weights as above. generator: the one that the method
    was given when it was attached; its state is part of the checkpoint as those of the global ones are.

    Asked to stop (`harness.processes.stopping`), it leaves by KeyboardInterrupt after the step at hand and a checkpoint.
    Raises TrainingDiverged; OutOfMemory, with the size of the micro-batch; InputError where the checkpoint is broken or of another
    training, or the method breaks a promise (`harness.methods.promises`), and what the batches raise.
    """
    training = _Training(model, plan, device, folder, ranks, generator)
    training.restore()
    course = training.course
    owed = "validation" if training.owes(validation) else None
    if course.step < plan.total_steps or owed:
        log = _log(plan, folder, course.step, owed) if ranks.first else None
        # Closing the generator ends its workers now, whatever ended the loop.
        with closing(log) if log else nullcontext(), closing(batches(course.step, plan.total_steps)) as coming:
            training.log = log
            if course.step:
                course.resumed += 1
                training.note({"resumed": course.resumed})
            with after_checkpoint():
                training.run(coming, validation, progress if progress and ranks.first else _silent)
    if course.best_step is not None and ranks.first:
        model.load_state_dict(_best_state(folder)["model"])
    elif training.average:
        training.average.put_in_place()
    return summary_of(plan, course, ranks)


def _log(plan: TrainingPlan, folder: Path, step: int, owed: str | None) -> TrainingLog:
    board = Board(folder / BOARD_FOLDER, step=step) if plan.tensorboard else None
    return TrainingLog(folder / LOG_FILE, step=step, owed=owed, board=board)


def _best_state(folder: Path) -> dict[str, Any]:
    try:
        return load_training_state(folder / BEST_FILE)
    except InputError as error:
        # The training's own checkpoint is of a later step, and goes on believing in this file.
        reason = str(error).partition("; ")[0]
        lost = f"these weights are in no other file: delete the folder {folder} to train again"
        raise InputError(f"{reason}; {mending(error, lost)}") from error


def _silent(step: int, total: int, loss: float) -> None:
    pass


def steps_of(model: TrainingModel, plan: TrainingPlan, *, device: torch.device, folder: Path) -> Callable[[Batch], Any]:
    """What takes a model through the plan's steps one by one, a batch each, as `train` does, but without log and checkpoints.

    Moves the model to `device`; nothing is written to `folder`.
    """
    return _Training(model, plan, device, folder).step


class _Training:
    """One training in flight: a model, its optimizers, and what has happened so far."""

    def __init__(
        self,
        model: TrainingModel,
        plan: TrainingPlan,
        device: torch.device,
        folder: Path,
        ranks: Ranks = ALONE,
        generator: torch.Generator | None = None,
    ) -> None:
        self.model, self.plan, self.device, self.folder, self.ranks = model, plan, device, folder, ranks
        self.generator = generator
        self.course = Course()
        self.log: TrainingLog | None = None
        self.saved_at, self.saved_step = time.monotonic(), 0
        model.to(device)
        if plan.channels_last:
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        model.train()
        steered = any(isinstance(module, RatioWeight) for module in model.modules())
        refuse_compiled_measurement(plan.compiled, "ratio" if steered else "fixed")
        if plan.compiled:
            # After the method has hooked its taps; the bare detector stays as it is.
            compile_in_place(model)
        self.optimization = build_optimization(plan.recipe, model.parameter_groups(), model)
        self.scaler = GradScaler(device.type, enabled=plan.precision == "fp16")
        decay = plan.recipe.ema_decay
        self.average = None if decay is None else MovingAverage(model, decay)
        self.network = ranks.network(model)
        self.watch = Watch(model, compiled=plan.compiled)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def run(self, batches: Iterator[Batch], validation: Validation | None, progress: Progress) -> None:
        """All steps that are left."""
        course, plan = self.course, self.plan
        ratio_steps = {math.ceil(share * plan.total_steps) for share in RATIO_SHARES}
        self.saved_at, self.saved_step = time.monotonic(), course.step
        self.make_up(validation)
        started = time.perf_counter()
        for batch in batches:
            with self.in_memory(batch, course.step + 1):
                reading = self.step(batch)
            course.seconds.append(time.perf_counter() - started)
            last = course.step == plan.total_steps
            if fault := fault_of(reading, course, plan):
                ids = tuple(name for share in self.ranks.of_all(batch.ids) for name in share)
                entry = self.entry(reading) | {"diverged": fault, "batch": list(ids)}
                # Whoever is first to raise ends all: not before it is written.
                self.ranks.from_first(partial(self.note, entry))
                raise TrainingDiverged(course.step, fault, reading.losses, ids)
            if last or course.step % plan.diagnostics_every == 0 or course.step in ratio_steps:
                course.diagnostics = self.watch.diagnostics()
                if course.step in ratio_steps:
                    with self.in_memory(batch, course.step):
                        course.diagnostics |= self.gradient_ratios(batch)
                self.note(self.entry(reading) | {"diagnostics": course.diagnostics})
            elif course.step == 1 or course.step % plan.log_every == 0:
                self.note(self.entry(reading))
            progress(course.step, plan.total_steps, reading.loss)
            stops = reading.stops or (self.ranks.count == 1 and stop_asked())
            if stops or last or reading.due or self.owes(validation):
                # Before a validation, which takes long: whoever is asked to stop in the middle of it has lost nothing else.
                self.save()
            if stops:
                return
            self.make_up(validation)
            started = time.perf_counter()

    def make_up(self, validation: Validation | None) -> None:
        """Validate, and write that down, where it is owed: also by a training that was stopped before it."""
        if validation and self.owes(validation):
            self.note({"validation": self.validate(validation)})
            self.save()

    def owes(self, validation: Validation | None) -> bool:
        """Whether the step that was taken last is to be validated and wasn't."""
        step = self.course.step
        if validation is None or not step or self.course.validated == step:
            return False
        return step == self.plan.total_steps or step % validation.every == 0

    def note(self, entry: dict[str, Any]) -> None:
        """Write a line of the log, in the process that has one."""
        if self.log:
            self.log.write({"step": self.course.step, **entry})

    @contextmanager
    def in_memory(self, batch: Batch, step: int) -> Iterator[None]:
        """Around what the batch of a step takes of the device's memory: OutOfMemory, in one line, where it doesn't fit."""
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            size = min(len(batch.ids), self.plan.micro_batch_size or len(batch.ids))
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise OutOfMemory(step, size, reason) from error

    def step(self, batch: Batch) -> Reading:
        """One optimizer step on one batch, in micro-batches."""
        plan, optimization = self.plan, self.optimization
        rates = optimization.set_learning_rates(self.course.step, plan.total_steps)
        optimization.zero_grad()
        losses: dict[str, Tensor] = {}
        parts = list(micro_batches(batch, plan.micro_batch_size or len(batch.ids)))
        for part in parts:
            share = len(part.ids) / len(batch.ids)
            with self.ranks.accumulating(self.network, last=part is parts[-1]):
                with self.precision():
                    terms = self.watch.terms(self.network, self.placed(part))
                total = torch.stack([term.float() for term in terms.values()]).sum()
                self.scaler.scale(total * share).backward()  # type: ignore[no-untyped-call]
            for name, term in terms.items():
                losses[name] = losses.get(name, 0.0) + term.detach().float() * share
        norm, clipped = self.update()
        self.watch.after_step()
        self.course.step += 1
        if self.average:
            self.average.update(self.course.step)
        # The one synchronisation of a step: all that is read of it comes over at once, and of all processes.
        asked = constant([self.due(), stop_asked()], norm.device)
        shown = torch.stack([*losses.values(), norm.float(), clipped.float(), *asked])
        *values, gradient_norm, was_clipped, due, stops = self.ranks.mean(shown).tolist()
        self.course.clipped.append(was_clipped)
        self.course.losses = dict(zip(losses, values, strict=True))
        return Reading(self.course.losses, gradient_norm, rates, due=due > 0, stops=stops > 0)

    def due(self) -> bool:
        """Whether it is time for a checkpoint; clocks differ, so one process's word is enough for all."""
        plan = self.plan
        steps = plan.checkpoint_steps is not None and self.course.step - self.saved_step >= plan.checkpoint_steps
        return steps or time.monotonic() - self.saved_at >= plan.checkpoint_seconds

    def update(self) -> tuple[Tensor, Tensor]:
        """One step of the optimizers; gives the norm of the gradients, and whether they were clipped."""
        optimization, scale = self.optimization, self.scaler.get_scale()
        # As one: by themselves some would step, and others not.
        self.scaler.unscale_(optimization.together)
        norm = optimization.gradient_norm().to(self.device)
        clipped = optimization.clip(norm)
        self.scaler.step(optimization.together)
        self.scaler.update()
        # The scaler lowers its scale where it left a step out, and at no other time.
        skipped = self.scaler.get_scale() < scale
        self.course.skipped += skipped
        self.course.skipped_in_a_row = self.course.skipped_in_a_row + 1 if skipped else 0
        return norm, clipped

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
        """How much the method pulls over how much the detector's losses do, for the first micro-batch of a batch, as diagnostics."""
        part = next(micro_batches(batch, self.plan.micro_batch_size or len(batch.ids)))
        with self.unmeasured(), self.precision():
            found = gradient_ratios(self.model, self.placed(part))
        at_taps = {f"gradient_ratio/{path}": value for path, value in found.taps.items()}
        return at_taps | {f"weight_gradient_ratio/{group}": value for group, value in found.weights.items()}

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
        before = random_state(self.generator)
        # A request to stop doesn't wait for the end of a long validation, in which there is nothing to keep.
        with at_once(), self.unmeasured(), self.average.in_place() if self.average else nullcontext():
            self.model.eval()
            score = self.ranks.from_first(lambda: float(validation.score(self.model)))
            self.model.train()
            self.course.validated = self.course.step
            if self.course.best_score is None or score > self.course.best_score:
                self.course.best_step, self.course.best_score = self.course.step, score
                if self.ranks.first:
                    save_training_state(self.folder / BEST_FILE, {"model": self.watch.state()})
        set_random_state(before, self.generator)
        return score

    def entry(self, reading: Reading) -> dict[str, Any]:
        """A line of the log: `clip_rate` and `step_seconds` are means over the steps since the last multiple of `log_every`."""
        recent = (self.course.step - 1) % self.plan.log_every + 1
        found = {
            "loss": reading.loss,
            "losses": reading.losses,
            "learning_rate": reading.learning_rates,
            "gradient_norm": reading.gradient_norm,
            "clip_rate": float(np.mean(self.course.clipped[-recent:])),
            "step_seconds": float(np.mean(self.course.seconds[-recent:])),
        }
        return found | ({"skipped_steps": self.course.skipped} if self.scaler.is_enabled() else {})

    def save(self) -> None:
        """Write the checkpoint: all that the next step depends on, in every process."""
        self.note_peak_memory()
        self.saved_at, self.saved_step = time.monotonic(), self.course.step
        random_states = self.ranks.of_all(random_state(self.generator))
        if not self.ranks.first:
            return
        if self.log:
            self.log.sync()
        state = {
            "arithmetic": self.arithmetic(),
            "course": asdict(self.course),
            "model": self.watch.state(),
            "optimizers": self.optimization.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": self.average.state_dict() if self.average else {},
            "random": random_states,
        }
        save_training_state(self.folder / STATE_FILE, state)

    def arithmetic(self) -> dict[str, Any]:
        """What the weights depend on."""
        return self.plan.arithmetic() | {"processes": self.ranks.count}

    def restore(self) -> None:
        """Take up the checkpoint, if there is one. InputError where it doesn't belong to this training."""
        path = self.folder / STATE_FILE
        if not path.exists():
            return
        state = load_training_state(path)
        advice = "train in another folder, or delete it to train again"
        theirs = state.get("arithmetic")
        for key, value in self.arithmetic().items():
            if not isinstance(theirs, dict) or theirs.get(key) != value:
                raise InputError(f"{path}: a checkpoint of another training, its {key!r} differs; {advice}")
        try:
            self.model.load_state_dict(state["model"])
            self.optimization.load_state_dict(state["optimizers"])
            self.scaler.load_state_dict(state["scaler"])
            if self.average:
                self.average.load_state_dict(state["average"])
            self.course = Course(**state["course"])
            drawn = state["random"][self.ranks.rank]
            if self.generator is not None and "own" not in drawn:
                raise InputError(
                    f"{path}: a checkpoint of earlier code, without what the method's generator drew; {advice}"
                )
            set_random_state(drawn, self.generator)
        except (RuntimeError, KeyError, ValueError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{path}: a checkpoint of another model ({reason}); {advice}") from error
