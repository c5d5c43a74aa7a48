"""What a method costs a training step: protocol step-cost/2.

Both arms, the method and the baseline, train side by side in one process on one fixed list of batches. After WARM_STEPS steps each they
take turns, one step at a time, in BLOCKS blocks of baseline, method, method, baseline: a drift of the machine falls on both alike.
A block's ratio is that of its two sums of time: wall time, but CPU time where all runs on one CPU thread. Reported are the median over
the blocks, and their lowest and highest value, between which the true median lies with probability 1 - 2 / 2^BLOCKS, which is 96.9 %,
whatever the distribution.

A step is all that the training loop does for a batch that lies in host memory: transfer, forward, backward, clipping and optimizers.
Loading and augmentation of images, logs, diagnostics and checkpoints aren't part of it.

Where lambda_mode `ratio` steers lambda, some of a training's forwards measure gradients besides; none of those above do. After each
block the method takes turns with itself, without, with, with, without a measurement in every forward, and the block's ratio grows by
what these cost times the share of the training's forwards that measure. step-cost/1 was the same, but left this out.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any

import torch

from detectors.base import Batch
from harness.files.scratch import scratch_folder
from harness.methods.base import TrainingModel
from harness.methods.weighting import RatioWeight, measuring
from harness.pytorch.random_state import random_state, set_random_state
from harness.records.timings import StepCost
from harness.throughput.devices import Timer, device_name, noise_flags, ratio_timer_of, usage
from harness.throughput.interleaved import turns
from harness.training.determinism import deterministic
from harness.training.loop import steps_of
from harness.training.plan import TrainingPlan

WARM_STEPS = 2
BLOCKS = 6

Step = Callable[[Batch], Any]


@dataclass(frozen=True, eq=False)
class Arm:
    """A model that takes steps. peak: of memory in its warm-up, in bytes. steered: what could measure, which `step` has it never do."""

    step: Step
    peak: int | None
    steered: tuple[RatioWeight, ...]

    @property
    def measured_share(self) -> float:
        """The share of a training's forwards that measure; 0 where there is nothing to steer."""
        return max((weight.measured_share for weight in self.steered), default=0.0)

    def measured_step(self, batch: Batch) -> None:
        """A step in which every forward measures."""
        with measuring(self.steered):
            self.step(batch)


def measure_step_cost(
    baseline: Callable[[], TrainingModel],
    method: Callable[[], TrainingModel],
    batches: Sequence[Batch],
    plan: TrainingPlan,
    *,
    device: torch.device,
    threads: int,
) -> StepCost:
    """Time both arms, made by the functions given, by step-cost/2 on batches that are taken in turn.

    Runs under training's settings (deterministic kernels), and leaves those and the global generators as they were. Flags that
    it sets: `noisy` (others used the device). ValueError without a batch.
    """
    if not batches:
        raise ValueError("no batch: give at least one")
    before = random_state()
    timer = ratio_timer_of(device, threads)
    with scratch_folder() as nowhere, deterministic(threads=threads):
        try:
            base, ours = (_warm(build, batches, plan, device, nowhere) for build in (baseline, method))
            start = usage()
            blocks, factors = [], []
            for batch, _ in zip(cycle(batches), range(BLOCKS), strict=False):
                blocks.append(turns(partial(base.step, batch), partial(ours.step, batch), timer))
                factors.append(_with_measurements(ours, batch, timer))
            end = usage()
        finally:
            set_random_state(before)
    ratios = [factor * sum(second) / sum(first) for factor, (first, second) in zip(factors, blocks, strict=True)]
    means = [factor * one for factor, (_, second) in zip(factors, blocks, strict=True) for one in second]
    return StepCost(
        protocol="step-cost/2",
        device=device_name(device),
        threads=threads,
        precision=plan.precision,
        batch_size=plan.recipe.batch_size,
        micro_batch_size=plan.micro_batch_size or plan.recipe.batch_size,
        blocks=len(blocks),
        ratio=median(ratios),
        ratio_low=min(ratios),
        ratio_high=max(ratios),
        seconds_per_step=median(means) / 1e9,
        baseline_seconds_per_step=median(nanoseconds for first, _ in blocks for nanoseconds in first) / 1e9,
        peak_memory_bytes=ours.peak,
        baseline_peak_memory_bytes=base.peak,
        flags=tuple(noise_flags(device, start, end)),
    )


def _warm(
    build: Callable[[], TrainingModel], batches: Sequence[Batch], plan: TrainingPlan, device: torch.device, folder: Path
) -> Arm:
    """An arm after its warm-up, and its peak of memory beyond what was there before it."""
    with _peak_memory(device) as peaks:
        model = build()
        steered = tuple(module for module in model.modules() if isinstance(module, RatioWeight))
        for weight in steered:
            weight.warm_up = sys.maxsize
        arm = Arm(steps_of(model, plan, device=device, folder=folder), None, steered)
        for batch, _ in zip(cycle(batches), range(WARM_STEPS), strict=False):
            arm.step(batch)
        if arm.measured_share:
            arm.measured_step(batches[0])
    return replace(arm, peak=peaks[0])


def _with_measurements(arm: Arm, batch: Batch, timer: Timer) -> float:
    """The mean time of an arm's steps over that of one without a measurement; 1 for an arm that makes none."""
    if not arm.measured_share:
        return 1.0
    without, within = turns(partial(arm.step, batch), partial(arm.measured_step, batch), timer)
    return 1.0 + arm.measured_share * (sum(within) / sum(without) - 1.0)


@contextmanager
def _peak_memory(device: torch.device) -> Iterator[list[int | None]]:
    """A list that holds, after the block, the peak of tensor memory within it on a CUDA device, None elsewhere."""
    peaks: list[int | None] = []
    if device.type != "cuda":
        yield peaks
        peaks.append(None)
        return
    there = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    yield peaks
    torch.cuda.synchronize(device)
    peaks.append(torch.cuda.max_memory_allocated(device) - there)
