"""The jobs that a plan comes to: what has to run, in which order, and what each needs of a machine."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from harness.cell.artefacts import build_oracle, build_rendering
from harness.cell.assembly import time_and_record
from harness.cell.phases import phase_state
from harness.cell.run import run_cell
from harness.engines.base import Job, Resources
from harness.matrix.builds import Pretraining, Rendering, builds_before
from harness.matrix.plan import AnyCell, Plan
from harness.matrix.preflight import decoded_bytes
from harness.programs.cell import ProgramCell, run_program_cell
from harness.suite import Cell, Suite, needs_of
from harness.training.cache import GIGABYTE


def jobs_of(plan: Plan) -> tuple[Job, ...]:
    """What has to run: what cells share, so that none waits long for it, then cells, and time measurements alone."""
    builds, jobs = dict[str, Job](), dict[str, Job]()
    for state in plan.pending:
        cell, resources = state.cell, resources_of(plan.suite, state.cell)
        if state.states[0][1].state == "done":
            resources = replace(resources, cache_gigabytes=0.0)  # only a training keeps images
        renderings, pretraining = builds_before(plan.results, state)
        for rendering in renderings:
            builds.setdefault(rendering.job, rendering_job(plan, rendering))
        needs = [rendering.job for rendering in renderings]
        if isinstance(cell, ProgramCell):
            task = partial(run_program_cell, plan.results, cell)
            jobs[cell.id] = Job(cell.id, task, tuple(needs), exclusive=True, resources=resources)
            continue
        if pretraining is not None:
            builds.setdefault(pretraining.job, pretraining_job(plan, pretraining, tuple(needs)))
            needs.append(pretraining.job)
        if any(phase_state(phase).state != "done" for phase in state.phases.all()[:-1]):
            jobs[cell.id] = Job(cell.id, partial(run_cell, plan.results, cell), tuple(needs), resources=resources)
            needs.append(cell.id)
        timing, task = f"time {cell.id}", partial(time_and_record, plan.results, cell)
        jobs[timing] = Job(timing, task, tuple(needs), exclusive=True, resources=resources)
    return (*builds.values(), *jobs.values())


def rendering_job(plan: Plan, rendering: Rendering) -> Job:
    """The job that renders a dataset."""
    task = partial(build_rendering, plan.results, rendering.spec, rendering.job)
    return Job(rendering.job, task, exclusive=True, resources=replace(resources_of(plan.suite), gpu=False))


def pretraining_job(plan: Plan, made: Pretraining, needs: tuple[str, ...]) -> Job:
    """The job that makes an oracle."""
    task = partial(build_oracle, plan.results, made.title, made.oracle, made.dataset, plan.suite.training, made.job)
    return Job(made.job, task, needs, resources=resources_of(plan.suite))


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
