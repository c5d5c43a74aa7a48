"""The local engine: one process a job, on slots of this machine."""

from __future__ import annotations

import json
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from harness.engines.base import Job, Listener, Outcome
from harness.environment import available_cores
from harness.progress import Event

GRACE_SECONDS = 20.0
"""How long a stopped job has to close its files before it is killed."""


@dataclass(frozen=True)
class Slot:
    """Room for one job. `environment` is what tells the job which device is its own."""

    name: str
    environment: Mapping[str, str] = field(default_factory=dict)


def cpu_slots(threads: int) -> tuple[Slot, ...]:
    """As many slots as jobs of `threads` threads fit this process's cores."""
    return tuple(Slot(f"cpu{index}") for index in range(max(1, available_cores() // threads)))


def gpu_slots(count: int, each: int = 1) -> tuple[Slot, ...]:
    """Slots of `each` GPUs; those that are left over stay idle."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = (visible.split(",") if visible else [str(index) for index in range(count)])[:count]
    groups = [",".join(names[first : first + each]) for first in range(0, len(names) - each + 1, each)]
    return tuple(Slot(f"gpu{group}", {"CUDA_VISIBLE_DEVICES": group}) for group in groups)


@dataclass
class Running:
    """A job that has a process now. `ending` is the last thing that it said of itself."""

    job: Job
    slot: Slot
    process: subprocess.Popen[bytes]
    log: Path
    started: float
    ending: dict[str, Any] | None = None


@dataclass(frozen=True)
class LocalEngine:
    """Runs jobs on `slots`; their output goes to one file a job in `logs`. `threads` is what each job may use."""

    slots: tuple[Slot, ...]
    logs: Path
    threads: int

    def run(self, jobs: Sequence[Job], listener: Listener) -> list[Outcome]:
        """See `harness.engines.base.Engine.run`."""
        outcomes: dict[str, Outcome] = {}
        running: dict[str, Running] = {}
        news: queue.Queue[tuple[str, bytes | None]] = queue.Queue()
        try:
            while len(outcomes) < len(jobs):
                self.skip(jobs, outcomes, listener)
                for job in startable(jobs, outcomes, running, len(self.slots)):
                    slot = next(slot for slot in self.slots if slot.name not in {r.slot.name for r in running.values()})
                    running[job.name] = self.start(job, slot, news)
                    listener.started(job)
                if running:
                    self.take(news, running, outcomes, listener)
        except BaseException:
            stop(running.values())
            raise
        return [outcomes[job.name] for job in jobs]

    def skip(self, jobs: Sequence[Job], outcomes: dict[str, Outcome], listener: Listener) -> None:
        """Mark jobs whose needs failed, also those behind them."""
        for job in jobs:
            failed = [name for name in job.needs if name in outcomes and outcomes[name].state != "done"]
            if failed and job.name not in outcomes:
                outcomes[job.name] = Outcome(job.name, "skipped", message=f"needs {failed[0]}, which did not end well")
                listener.ended(outcomes[job.name])

    def start(self, job: Job, slot: Slot, news: queue.Queue[tuple[str, bytes | None]]) -> Running:
        """Give a job its process, and a thread that reads what it says."""
        self.logs.mkdir(parents=True, exist_ok=True)
        log = self.logs / f"{job.name.replace('/', '_').replace(' ', '-')}.log"
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(self.threads),
            # Waiting threads that spin steal the cores of the job beside them: up to 4x on a loaded machine.
            "GOMP_SPINCOUNT": "0",
            "OMP_WAIT_POLICY": "PASSIVE",
            **slot.environment,
        }
        with open(log, "ab") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "harness.engines.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                env=environment,
            )
        assert process.stdin is not None
        assert process.stdout is not None
        threading.Thread(target=read_lines, args=(job.name, process.stdout, news), daemon=True).start()
        # A process that died before it read its job breaks the pipe: its end of output says so in a moment.
        with suppress(BrokenPipeError), process.stdin as pipe:
            pipe.write(pickle.dumps(job))
        return Running(job, slot, process, log, time.monotonic())

    def take(
        self,
        news: queue.Queue[tuple[str, bytes | None]],
        running: dict[str, Running],
        outcomes: dict[str, Outcome],
        listener: Listener,
    ) -> None:
        """Wait for one line of any running job, and act on it."""
        try:
            name, line = news.get(timeout=0.5)
        except queue.Empty:
            return
        entry = running[name]
        if line is not None:
            said = json.loads(line)
            if "event" in said:
                listener.event(Event(**said["event"]))
            else:
                entry.ending = said
            return
        code = entry.process.wait()
        del running[name]
        outcomes[name] = outcome_of(entry, code)
        listener.ended(outcomes[name])


def startable(
    jobs: Sequence[Job], outcomes: Mapping[str, Outcome], running: Mapping[str, Running], slots: int
) -> list[Job]:
    """The jobs to start now: ready ones in order while there is room; an exclusive one only when it is all alone."""
    if any(entry.job.exclusive for entry in running.values()):
        return []
    ready = [
        job
        for job in jobs
        if job.name not in outcomes
        and job.name not in running
        and all(name in outcomes and outcomes[name].state == "done" for name in job.needs)
    ]
    shared = [job for job in ready if not job.exclusive][: max(0, slots - len(running))]
    if shared or running:
        return shared
    return ready[:1]


def outcome_of(entry: Running, code: int) -> Outcome:
    """What an ended process comes to."""
    seconds = time.monotonic() - entry.started
    ending = entry.ending or {}
    if code == 0 and ending.get("done"):
        return Outcome(entry.job.name, "done", seconds, log=str(entry.log))
    if "failed" in ending:
        return Outcome(
            entry.job.name, "failed", seconds, kind=ending["kind"], message=ending["failed"], log=str(entry.log)
        )
    how = f"was ended by signal {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    return Outcome(
        entry.job.name,
        "failed",
        seconds,
        kind="error",
        message=f"its process {how}; see {entry.log}",
        log=str(entry.log),
    )


def read_lines(name: str, stream: IO[bytes], news: queue.Queue[tuple[str, bytes | None]]) -> None:
    """Pass on each line of a job, and None at its end."""
    with stream:
        for line in stream:
            news.put((name, line))
    news.put((name, None))


def stop(running: Any) -> None:
    """End processes: ask, wait, kill."""
    entries = list(running)
    for entry in entries:
        entry.process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + GRACE_SECONDS
    for entry in entries:
        try:
            entry.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            entry.process.kill()
            entry.process.wait()
