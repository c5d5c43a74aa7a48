"""The jobs that a plan comes to: what has to run, in which order, and what each needs of a machine."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from harness.cell.artefacts import build_oracle, build_rendering, oracle_name, oracle_phase, rendering_phase
from harness.cell.assembly import time_and_record
from harness.cell.keys import scored_datasets
from harness.cell.phases import phase_state
from harness.cell.run import run_cell
from harness.engines.base import Job, Resources
from harness.matrix.plan import AnyCell, Plan
from harness.matrix.preflight import decoded_bytes
from harness.programs.cell import ProgramCell, run_program_cell
from harness.suite import Cell, DatasetPart, Suite, needs_of
from harness.training.cache import GIGABYTE


def jobs_of(plan: Plan) -> tuple[Job, ...]:
    """What has to run, artefacts before cells, time measurements last and alone."""
    jobs: dict[str, Job] = {}
    for state in plan.pending:
        cell, needs, resources = state.cell, [], resources_of(plan.suite, state.cell)
        untrained = state.states[0][1].state != "done"
        if not untrained:
            resources = replace(resources, cache_gigabytes=0.0)  # only a training keeps images
        oracle = None
        if isinstance(cell, Cell) and untrained and cell.oracle is not None and cell.oracle_dataset is not None:
            oracle = oracle_phase(plan.results, oracle_name(cell), cell.oracle, cell.oracle_dataset)
        unmade = oracle is not None and phase_state(oracle).state != "done"
        read = scored_datasets(cell)
        for name, part in cell.datasets.items():
            if name not in read and not unmade:
                continue  # the images of an oracle that is made
            job = rendering_job(plan, name, part)
            if job is not None:
                jobs.setdefault(job.name, job)
                needs.append(job.name)
        if isinstance(cell, ProgramCell):
            task = partial(run_program_cell, plan.results, cell)
            jobs[cell.id] = Job(cell.id, task, tuple(needs), exclusive=True, resources=resources)
            continue
        if unmade:
            job = oracle_job(plan, cell, tuple(needs))
            jobs.setdefault(job.name, job)
            needs.append(job.name)
        if any(phase_state(phase).state != "done" for phase in state.phases.all()[:-1]):
            jobs[cell.id] = Job(cell.id, partial(run_cell, plan.results, cell), tuple(needs), resources=resources)
            needs.append(cell.id)
        timing, task = f"time {cell.id}", partial(time_and_record, plan.results, cell)
        jobs[timing] = Job(timing, task, tuple(needs), exclusive=True, resources=resources)
    return tuple(jobs.values())


def oracle_job(plan: Plan, cell: Cell, needs: tuple[str, ...]) -> Job:
    """The job that pre-trains the oracle of a cell."""
    assert cell.oracle is not None
    assert cell.oracle_dataset is not None
    phase = oracle_phase(plan.results, oracle_name(cell), cell.oracle, cell.oracle_dataset)
    name, training = f"oracle {phase.name}", plan.suite.training
    task = partial(build_oracle, plan.results, oracle_name(cell), cell.oracle, cell.oracle_dataset, training, name)
    return Job(name, task, needs, resources=resources_of(plan.suite))


def rendering_job(plan: Plan, name: str, part: DatasetPart) -> Job | None:
    """The job that renders a dataset, None if there is nothing to render."""
    if part.rendered is None or phase_state(rendering_phase(plan.results, part.rendered)).state == "done":
        return None
    title = f"render {name}"
    task = partial(build_rendering, plan.results, part.rendered, title)
    return Job(title, task, exclusive=True, resources=replace(resources_of(plan.suite), gpu=False))


def resources_of(suite: Suite, cell: AnyCell | None = None) -> Resources:
    """What the jobs of a cell need; without one, what a job needs that builds what cells share, in one process."""
    needs = needs_of(suite, None if cell is None else cell.identity)
    return Resources(
        processes=1 if cell is None else suite.training.processes,
        gpu=suite.training.device != "cpu",
        cache_gigabytes=cache_gigabytes(cell),
        **needs.model_dump(),
    )


def cache_gigabytes(cell: AnyCell | None) -> float:
    """The memory in which a cell keeps decoded images at most, as far as that is known of a dataset that perhaps isn't there yet."""
    if not isinstance(cell, Cell):
        return 0.0
    allowed, rendered = cell.training.cache_gigabytes, cell.dataset.rendered
    return (
        allowed if rendered is None else min(allowed, decoded_bytes(cell, rendered.splits["train"].frames) / GIGABYTE)
    )
