"""The process of one job as whoever starts it sees it: its command, its environment, and what its end means."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.engines.base import Job, Outcome
from harness.processes.faults import FaultKind, fault_of

REPORT_SECONDS = 0.25
"""At most one event of a phase in this time: a display can't show more."""

INTERRUPTED = 130
"""Exit code of a worker that was stopped: 128 + SIGINT, as shells have it."""

STOPPED = "stopped"
"""The phase of the event by which a worker that was asked to stop says what went wrong meanwhile."""

UNHEARD = 75
"""Exit code of a worker that couldn't say how its job ended: EX_TEMPFAIL of sysexits.h."""


def worker_command(report_seconds: float = REPORT_SECONDS) -> list[str]:
    """The command of a process, a child of this one, that reads a job from standard input and tells of it on standard output.

    report_seconds: at most one event of a phase in this time.
    """
    # -P: modules aren't looked for in the folder that it is started in, which may be another checkout or have a queue.py of its own.
    return [sys.executable, "-P", "-m", "harness.engines.worker", str(report_seconds), str(os.getpid())]


def thread_environment(threads: int) -> dict[str, str]:
    """The variables that hold a process to its threads."""
    return {
        "OMP_NUM_THREADS": str(threads),
        # Waiting threads that spin steal the cores of the job beside them: up to 4x on a loaded machine.
        "GOMP_SPINCOUNT": "0",
        "OMP_WAIT_POLICY": "PASSIVE",
    }


def outcome_of(job: str, ending: Mapping[str, Any] | None, code: int, seconds: float, log: Path) -> Outcome:
    """What an ended process comes to: `ending` is the last thing that it said of itself, `code` how it ended."""
    said = ending or {}
    # Whatever its code: without room for its log, what was printed last fails when all is done.
    if said.get("done"):
        return Outcome(job, "done", seconds, log=str(log))
    if "failed" in said:
        return Outcome(job, "failed", seconds, kind=said["kind"], message=said["failed"], log=str(log))
    how = f"was ended by signal {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    if code == -signal.SIGKILL:
        how += ", perhaps because memory was short: see what else fills it, or say by 'resources.memory_gigabytes' what a job takes"
    lost = code < 0 or code in {INTERRUPTED, UNHEARD}
    kind: FaultKind = "infrastructure" if lost else "error"
    return Outcome(job, "failed", seconds, kind=kind, message=f"its process {how}", log=str(log))


def not_started(job: Job, error: Exception) -> Outcome:
    """What it comes to that a job has no process."""
    fault = fault_of(error)
    return Outcome(job.name, "failed", kind=fault.kind, message=f"not started: {fault.message}")
