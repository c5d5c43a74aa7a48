"""The seam between the matrix and an engine: jobs in, outcomes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from harness.processes.faults import FaultKind
from harness.processes.progress import Event, Report

Task = Callable[[Report], None]
"""What a job does: a picklable callable (a `functools.partial` of a module's function) that gets the report to tell its progress to."""


@dataclass(frozen=True)
class Resources:
    """What a job needs of a machine.

    processes: into how many it splits, each with a GPU of its own if `gpu` says that it can use any. cpus: cores in all; None leaves
    them to the engine. memory_gigabytes: main memory in all; where it isn't stated, cache_gigabytes are known to be kept of it at most,
    for decoded images. gpu_memory_gigabytes: what it takes of each of its GPUs; None is a whole
    GPU. hours: after which a scheduler may end it; None is the scheduler's default. whole_node: whether Slurm gives an exclusive one a
    node of its own. slurm: options of sbatch by their long names.
    """

    processes: int = 1
    gpu: bool = False
    cpus: int | None = None
    memory_gigabytes: float | None = None
    cache_gigabytes: float = 0.0
    gpu_memory_gigabytes: float | None = None
    hours: float | None = None
    whole_node: bool = True
    slurm: Mapping[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """One piece of work for one process.

    needs: names of jobs that must be done before. exclusive: runs while nothing else does on its machine, because it uses every core
    itself or because it measures time.
    """

    name: str
    task: Task
    needs: tuple[str, ...] = ()
    exclusive: bool = False
    resources: Resources = Resources()

    def file(self, folder: Path, suffix: str) -> Path:
        """The file in a folder that is named after the job."""
        return folder / f"{self.name.replace('/', '_').replace(' ', '-')}{suffix}"


@dataclass(frozen=True)
class Outcome:
    """How a job ended. kind: of the fault (`harness.processes.faults`). `log` is where its output went, tracebacks included."""

    job: str
    state: Literal["done", "failed", "skipped"]
    seconds: float = 0.0
    kind: FaultKind | None = None
    message: str = ""
    log: str = ""


class Listener(Protocol):
    """Whoever shows what goes on."""

    def started(self, job: Job) -> None:
        """A job has a process now, or is handed to a scheduler, in whose queue it may wait (`harness.processes.progress.WAITS`)."""

    def event(self, event: Event) -> None:
        """News of a running job."""

    def ended(self, outcome: Outcome) -> None:
        """A job ended, or was skipped because one that it needs didn't end well."""


class Engine(Protocol):
    """Runs jobs, each when those it needs are done; one that fails doesn't stop the others."""

    def run(self, jobs: Sequence[Job], listener: Listener) -> list[Outcome]:
        """Run all jobs to their end, in an order of the engine's choosing; outcomes in the order of `jobs`.

        Jobs whose fault is of the infrastructure start again (`harness.engines.attempts`). KeyboardInterrupt stops every running job,
        after a checkpoint where its phase keeps any, before it is passed on; a second one ends them at once.
        """
