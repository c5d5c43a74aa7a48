"""The board: where every job of a suite's runs stands, folded from their events and the heartbeats of what runs now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from harness.processes.progress import WAITS
from harness.watching.events import Ended, JobKind, Progress, Queued, RunEnded, RunEvent, RunStarted, Started
from harness.watching.heartbeats import Heartbeat

JobState = Literal["queued", "running", "done", "failed", "skipped", "lost"]
"""`lost`: it was running and neither it nor the run that started it shows any life; the next `bench` takes it up."""

BENCH = "bench "
"""What the heartbeat of a run begins with, before the run's name."""


@dataclass(frozen=True)
class JobView:
    """One job as it is shown. started: when it began; phase_started: when its phase did, at `first_step`. seconds: once it ended."""

    name: str
    kind: JobKind = "cell"
    alone: bool = False
    state: JobState = "queued"
    run: str = ""
    host: str = ""
    expected_seconds: float | None = None
    started: datetime | None = None
    phase: str = ""
    step: int = 0
    total: int = 0
    note: str = ""
    phase_started: datetime | None = None
    first_step: int = 0
    seconds: float = 0.0
    message: str = ""
    log: str = ""


@dataclass
class Board:
    """Takes events in the order of their runs. jobs: the newest word of each; runs: those that began; over: those that said their end.

    durations: seconds of every job that ended well, in any run. widest: how many jobs a run had going at once at most. tally: how many
    jobs are in each state, kept while events come in, for there may be tens of thousands.
    """

    jobs: dict[str, JobView] = field(default_factory=dict)
    runs: dict[str, RunStarted] = field(default_factory=dict)
    over: dict[str, RunEnded] = field(default_factory=dict)
    durations: dict[str, float] = field(default_factory=dict)
    widest: Counter[str] = field(default_factory=Counter)
    tally: Counter[JobState] = field(default_factory=Counter)
    _going: dict[str, set[str]] = field(default_factory=dict)

    def take(self, events: Iterable[RunEvent]) -> None:
        """Take in some events."""
        for event in events:
            self._take(event)

    def _take(self, event: RunEvent) -> None:
        if isinstance(event, RunStarted):
            self.runs[event.run] = event
        elif isinstance(event, RunEnded):
            self.over[event.run] = event
            # Whoever says its end has ended what was running before: the next run takes it up from its checkpoint.
            for name in self._going.pop(event.run, ()):
                if self.jobs[name].state == "running":
                    self._set(replace(self.jobs[name], state="queued"))
        elif isinstance(event, Queued):
            self._set(
                JobView(event.job, event.kind, event.alone, run=event.run, expected_seconds=event.expected_seconds)
            )
        elif isinstance(event, Started):
            run = self.runs.get(event.run)
            if run is None or run.engine == "local":
                self._begin(event)
            else:  # a scheduler has it, and says when it runs
                self._set(replace(self._job(event.job), state="queued", run=event.run, phase=WAITS))
        elif isinstance(event, Progress):
            self._advance(event)
        else:
            self._end(event)

    def _begin(self, event: Started | Progress) -> None:
        going = self._going.setdefault(event.run, set())
        going.add(event.job)
        self.widest[event.run] = max(self.widest[event.run], len(going))
        self._set(replace(self._job(event.job), state="running", run=event.run, started=event.time))

    def _advance(self, event: Progress) -> None:
        """A job that waits does so until it says something else, and then runs from that moment on."""
        job = self._job(event.job)
        if event.phase == WAITS:
            self._going.setdefault(event.run, set()).discard(event.job)
            job = replace(job, state="queued", started=None)
        elif job.phase == WAITS and job.state == "queued":
            self._begin(event)
            job = self.jobs[event.job]
        self._set(advanced(job, event))

    def _end(self, event: Ended) -> None:
        self._going.setdefault(event.run, set()).discard(event.job)
        if event.state == "done":
            self.durations[event.job] = event.seconds
        self._set(
            replace(
                self._job(event.job),
                state=event.state,
                run=event.run,
                seconds=event.seconds,
                message=event.message,
                log=event.log,
            )
        )

    def _set(self, job: JobView) -> None:
        before = self.jobs.get(job.name)
        if before is not None:
            self.tally[before.state] -= 1
        self.tally[job.state] += 1
        self.jobs[job.name] = job

    def _job(self, name: str) -> JobView:
        return self.jobs.get(name, JobView(name))

    @property
    def running(self) -> list[JobView]:
        """The jobs that run, those that began first before the others."""
        # Copies: whoever draws the board does so in a thread of its own, while events come in.
        going = [self.jobs[name] for names in list(self._going.values()) for name in list(names)]
        return sorted((job for job in going if job.state == "running"), key=lambda job: (str(job.started), job.name))

    @property
    def newest(self) -> RunStarted | None:
        """The run that began last."""
        return self.runs[max(self.runs)] if self.runs else None

    def seen(self, heartbeats: Mapping[str, Heartbeat], now: float) -> Board:
        """The board as it is now: what runs has its own word for where it is, and what shows no life any more is lost or queued.

        A job counts as running while it beats, whatever became of the run that started it. Between its start and its first beat, and
        in a scheduler's queue, the word of a living run counts.
        """
        living = {run for run in self.runs if self.is_living(run, heartbeats, now)}
        jobs = {}
        for name, job in self.jobs.items():
            beat = heartbeats.get(name)
            if beat is not None and beat.liveness(now) != "silent" and job.state in {"queued", "running"}:
                jobs[name] = replace(heard(job, beat), state="running", host=beat.host)
            elif job.state == "running" and job.run not in living:
                jobs[name] = replace(job, state="lost", host="" if beat is None else beat.host)
            else:
                jobs[name] = job
        going = {"": {name for name, job in jobs.items() if job.state == "running"}}
        return replace(self, jobs=jobs, tally=Counter(job.state for job in jobs.values()), _going=going)

    def is_living(self, run: str, heartbeats: Mapping[str, Heartbeat], now: float) -> bool:
        """Whether a run's own process shows life and hasn't said its end."""
        beat = heartbeats.get(f"{BENCH}{run}")
        return run not in self.over and beat is not None and beat.liveness(now) != "silent"


def heard(job: JobView, beat: Heartbeat) -> JobView:
    """A job as its heartbeat tells of it, which knows no time at which a phase began."""
    if not beat.phase:
        return job
    same = beat.phase == job.phase
    return replace(
        job,
        phase=beat.phase,
        step=beat.step,
        total=beat.total,
        note=beat.note,
        phase_started=job.phase_started if same else None,
        first_step=job.first_step if same else beat.step,
    )


def advanced(job: JobView, event: Progress) -> JobView:
    """A job after news of its progress; a new phase starts a clock of its own, once it counts its steps.

    What comes before, such as compiling, says nothing of how long they take.
    """
    moved = replace(job, phase=event.phase, step=event.step, total=event.total, note=event.note)
    if event.phase == job.phase and job.total:
        return moved
    return replace(moved, phase_started=event.time, first_step=event.step)
