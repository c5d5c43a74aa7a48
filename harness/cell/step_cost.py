"""The step cost of a cell's method, measured with the cell's own detector, oracle, recipe and images."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from harness.cell.timing import kept
from harness.cell.train import attach_method, method_generator, new_detector, training_plan
from harness.datasets.base import Dataset
from harness.files.stored import write_json
from harness.methods.attach import attach
from harness.methods.base import TrainingModel
from harness.methods.config import BaselineConfiguration
from harness.processes.faults import is_out_of_memory, worded
from harness.processes.progress import Event, Report
from harness.pytorch.device import resolve_device
from harness.records.timings import StepCost
from harness.suite import Cell
from harness.training.data import TrainingStream
from harness.training.determinism import seed_everything
from harness.training.step_cost import measure_step_cost

BATCHES = 2
"""Batches that are taken in turn: what a step costs hardly depends on what is in them."""


def write_step_cost(results: Path, cell: Cell, content: str, dataset: Dataset, report: Report, folder: Path) -> None:
    """Measure what a cell's method costs a step; writes step_cost.json.

    Both arms are in memory at once here, and in no training: where that is too much, the reason is told and stands in the figure's
    place, for a cell is not to lose its row to it.
    """
    found: dict[str, Any]
    try:
        cost = cell_step_cost(results, cell, content, dataset, report)
        found = {"step_cost": None if cost is None else kept(cost)}
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        why = f"not measured: out of memory with both arms in it ({worded(error)})"
        # Under a name of its own: of one phase a log has a line every few seconds.
        report(Event(cell.id, "step cost", note=why))
        found = {"step_cost": None, "why": why}
    write_json(folder / "step_cost.json", found)


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
        detector, generator = new_detector(cell), method_generator(cell)
        return attach_method(results, cell, content, detector, frames, device, report, generator)

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
