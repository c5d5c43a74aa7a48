"""The step cost of a cell's method, measured with the cell's own detector, oracle, recipe and images."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import torch

from harness.cell.artefacts import resolve_device
from harness.cell.train import attach_method, new_detector, training_plan
from harness.datasets.base import Dataset
from harness.methods.attach import attach
from harness.methods.base import TrainingModel
from harness.methods.config import BaselineConfiguration
from harness.processes.progress import Event, Report
from harness.records.timings import StepCost
from harness.suite import Cell
from harness.training.data import TrainingStream
from harness.training.determinism import seed_everything
from harness.training.step_cost import measure_step_cost

BATCHES = 2
"""Batches that are taken in turn: what a step costs hardly depends on what is in them."""


def cell_step_cost(results: Path, cell: Cell, content: str, dataset: Dataset, report: Report) -> StepCost | None:
    """Step time of a cell's method over the baseline's (protocol step-cost/2); None for the baseline.

    Both arms start from random weights, on which no time depends, and take the first batches of the cell's own training.
    """
    if isinstance(cell.method, BaselineConfiguration):
        return None
    report(Event(cell.id, "time", 0, 1, "a training step with the method and without"))
    device = torch.device(resolve_device(cell.training.device))
    frames = dataset.frames("train")
    recipe = cell.configuration.recipe

    def baseline() -> TrainingModel:
        seed_everything(cell.identity.seed)
        return attach(
            new_detector(cell), BaselineConfiguration(), oracle=None, statistics=None, generator=torch.Generator()
        )

    def method() -> TrainingModel:
        seed_everything(cell.identity.seed)
        return attach_method(results, cell, content, new_detector(cell), frames, device, report)

    stream = TrainingStream(
        frames,
        dataset.lanes,
        new_detector(cell),
        augmentation=recipe.augmentation,
        batch_size=recipe.batch_size,
        seed=cell.identity.seed,
    )
    with closing(stream.batches(0, BATCHES)) as coming:
        batches = list(coming)
    plan = training_plan(cell, recipe.total_steps(len(frames)))
    return measure_step_cost(baseline, method, batches, plan, device=device, threads=cell.training.threads)
