"""The local engine: one process a job, as many at a time as fit this machine."""

from __future__ import annotations

import json
import os
import pickle
import queue
import subprocess
import threading
import time
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from harness.engines.attempts import BACK_OFF_SECONDS, Attempts
from harness.engines.base import Job, Listener, Outcome
from harness.engines.order import ready, skipped
from harness.engines.room import Machine, Place, memory_of, place_for, waits_for_memory
from harness.engines.worker_process import STOPPED, not_started, outcome_of, thread_environment, worker_command
from harness.errors import InputError, InputWarning
from harness.processes.progress import Event, stopping

GRACE_SECONDS = 60.0
"""How long a stopped job has to end its step and write a checkpoint before it is killed. Who can't wait presses Ctrl-C again."""

LOOK_SECONDS = 0.5
"""How often it is looked whether a paused job may start, while none says anything."""

LAST_WORDS_SECONDS = 2.0
"""How long the end of a stopped job's output is waited for: what it started may hold it open."""

News = queue.Queue[tuple[str, bytes | None]]
"""What running jobs say: a job's name and its line, None at its end."""


@dataclass
class Running:
    """A job that has a process now. `last` is its latest news, `ending` what it said of its end."""

    job: Job
    place: Place
    process: subprocess.Popen[bytes]
    log: Path
    started: float
    last: Event | None = None
    ending: dict[str, Any] | None = None


@dataclass(frozen=True)
class LocalEngine:
    """Runs jobs on `machine`; their output goes to one file a job in `logs`. `threads` is what each process of a job may use.

    pauses: of jobs that start again, see `harness.engines.attempts`.
    """

    machine: Machine
    logs: Path
    threads: int
    pauses: tuple[float, ...] = BACK_OFF_SECONDS

    def run(self, jobs: Sequence[Job], listener: Listener) -> list[Outcome]:
        """See `harness.engines.base.Engine.run`."""
        attempts = Attempts(listener, self.pauses)
        outcomes = attempts.outcomes
        running: dict[str, Running] = {}
        news: News = queue.Queue()
        changed, paused, told = True, set[str](), False
        needed = {name for job in jobs for name in job.needs}
        try:
            while len(outcomes) < len(jobs):
                # What a running job says of itself changes nothing of what may start: with thousands that wait that isn't cheap to see.
                if changed or paused != attempts.pausing():
                    changed, paused = False, attempts.pausing()
                    for outcome in skipped(jobs, outcomes):
                        attempts.final(outcome)
                    waiting = ready(jobs, outcomes, running.keys() | attempts.pausing())
                    while (found := self.next(waiting, running, needed)) is not None:
                        job, place = found
                        attempts.started(job)
                        try:
                            running[job.name] = self.start(job, place, news)
                        except OSError as error:  # no process, or no room for its log
                            attempts.ended(not_started(job, error))
                            changed = True
                        waiting = ready(jobs, outcomes, running.keys() | attempts.pausing())
                    told = told or self.tell_of_memory(waiting, running)
                if running or attempts.pausing():
                    ended = self.take(news, running, listener)
                    if ended is not None:
                        attempts.ended(ended)
                        changed = True
        except BaseException:
            stop(running.values(), news, listener)
            raise
        return [outcomes[job.name] for job in jobs]

    def next(
        self, waiting: Sequence[Job], running: Mapping[str, Running], needed: Collection[str]
    ) -> tuple[Job, Place] | None:
        """The next job to start of those that may, and its place: the first that fits, an exclusive one only when it is all alone.

        Exclusive ones that others need come before all others: later, cores would idle until the last of what runs had ended.
        """
        if any(entry.job.exclusive for entry in running.values()):
            return None
        taken = [entry.place for entry in running.values()]
        alone = None if taken else next((job for job in waiting if job.exclusive and job.name in needed), None)
        if alone is None:
            for job in waiting:
                if not job.exclusive and (place := place_for(job, self.machine, taken, self.threads)) is not None:
                    return job, place
            if taken or not waiting:
                return None
            alone = next((job for job in waiting if job.exclusive), waiting[0])
        place = place_for(alone, self.machine, (), self.threads)
        if place is None:
            raise InputError(
                f"{alone.name}: asks for {alone.resources.processes} GPUs (key 'training.processes'), and there are "
                f"{len(self.machine.gpus)} here: give as many at most, or say 'training.device: cpu'"
            )
        return alone, place

    def tell_of_memory(self, waiting: Sequence[Job], running: Mapping[str, Running]) -> bool:
        """Warn where a job waits for main memory alone, though there are cores or GPUs for it; whether one does."""
        if any(entry.job.exclusive for entry in running.values()):
            return False
        taken = [entry.place for entry in running.values()]
        short = (
            job for job in waiting if not job.exclusive and waits_for_memory(job, self.machine, taken, self.threads)
        )
        if (job := next(short, None)) is None:
            return False
        kept = sum(place.memory_gigabytes for place in taken)
        free = "GPU" if job.resources.gpu and self.machine.gpus else "core"
        less = (
            "less 'training.cache_gigabytes' lets more run at once (images beyond it are decoded in each epoch), or say"
            if job.resources.memory_gigabytes is None  # what is stated counts, whatever is kept
            else "say"
        )
        warnings.warn(
            f"{job.name} waits for memory, though a {free} is free: of {figure(self.machine.memory_gigabytes)} GB what runs counts for "
            f"{figure(kept)}, and it for {figure(memory_of(job.resources))}; {less} by 'resources.memory_gigabytes' what a cell really "
            "takes",
            InputWarning,
            stacklevel=2,
        )
        return True

    def start(self, job: Job, place: Place, news: News) -> Running:
        """Give a job its process, and a thread that reads what it says."""
        self.logs.mkdir(parents=True, exist_ok=True)
        log = job.file(self.logs, ".log")
        devices = {"CUDA_VISIBLE_DEVICES": ",".join(place.gpus)} if place.gpus else {}
        environment = {**os.environ, **thread_environment(self.threads), **devices}
        with open(log, "ab") as stream:
            process = subprocess.Popen(
                worker_command(),
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
        return Running(job, place, process, log, time.monotonic())

    def take(self, news: News, running: dict[str, Running], listener: Listener) -> Outcome | None:
        """Wait a moment for one line of any running job, and act on it; the outcome of a job whose process has ended."""
        try:
            name, line = news.get(timeout=LOOK_SECONDS)
        except queue.Empty:
            return None
        entry = running[name]
        if line is not None:
            said = json.loads(line)
            if "event" in said:
                entry.last = Event(**said["event"])
                listener.event(entry.last)
            elif "warning" in said:
                warnings.warn(said["warning"], InputWarning, stacklevel=2)
            else:
                entry.ending = said
            return None
        code = entry.process.wait()
        del running[name]
        seconds = time.monotonic() - entry.started
        return outcome_of(name, entry.ending, code, seconds, entry.log)


def figure(gigabytes: float) -> str:
    """Gigabytes as people say them: of terabytes all digits, of little as many as say something."""
    return f"{gigabytes:,.0f}" if gigabytes >= 100 else f"{gigabytes:.3g}"


def read_lines(name: str, stream: IO[bytes], news: News) -> None:
    """Pass on each line of a job, and None at its end."""
    with stream:
        for line in stream:
            if line.endswith(b"\n"):  # else it was torn when the process was killed
                news.put((name, line))
    news.put((name, None))


def stop(running: Iterable[Running], news: News, listener: Listener) -> None:
    """End processes: ask, wait while they write checkpoints, and kill those that take too long; all at once on Ctrl-C.

    What went wrong in one of them meanwhile is passed on.
    """
    entries = list(running)
    try:
        for entry in entries:
            entry.process.terminate()
            with suppress(OSError):  # of a terminal or pipe that is gone, which may be why this stops
                listener.event(stopping(entry.job.name, entry.last, "ends it at once"))
        deadline = time.monotonic() + GRACE_SECONDS
        for entry in entries:
            with suppress(subprocess.TimeoutExpired):
                entry.process.wait(max(0.1, deadline - time.monotonic()))
        for event in last_words(news, {entry.job.name for entry in entries if entry.process.poll() is not None}):
            with suppress(OSError):
                listener.event(event)
    finally:
        for entry in entries:
            entry.process.kill()
            entry.process.wait()


def last_words(news: News, ended: set[str]) -> Iterator[Event]:
    """What jobs whose processes have ended say of what went wrong while they were stopped."""
    while ended:
        try:
            name, line = news.get(timeout=LAST_WORDS_SECONDS)
        except queue.Empty:
            return
        if line is None:
            ended = ended - {name}
            continue
        event = json.loads(line).get("event")
        if event is not None and event["phase"] == STOPPED:
            yield Event(**event)
