"""Jobs on a cluster: handed to a scheduler when they are ready, followed by what they write, and by what the scheduler says of them."""

from __future__ import annotations

import hashlib
import re
import signal
import time
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from harness.engines.attempts import BACK_OFF_SECONDS, Attempts
from harness.engines.base import Job, Listener, Outcome
from harness.engines.order import ready, skipped
from harness.engines.spool import News, SpooledJob
from harness.engines.states import JobState, read_states, states_file, write_states
from harness.engines.worker_process import not_started, outcome_of
from harness.errors import InputError, InputWarning
from harness.processes.faults import FaultKind, InfrastructureError, fault_of
from harness.processes.progress import WAITS, Event, stopping

FULL_SECONDS = 15.0
"""How often a scheduler that refused a job is asked whether it takes one more; its user's other jobs end unheard of."""

SILENCE_SECONDS = 30.0
"""How long a job may be silent that its scheduler has ended or doesn't know: files take a while to show on another machine."""


class QueueFull(Exception):
    """A scheduler takes no more jobs of this user's now, and will when others have ended. The message is its word for it."""


@dataclass(frozen=True)
class SchedulerState:
    """What a scheduler says of a job, in its own words; no text is no news. `over`: as it is, the job won't start (again).

    decided: it is over because somebody, or a limit of the scheduler's, ended it, and not because something broke. waits: whether it
    has no machine (any more); None where the scheduler doesn't say.
    """

    text: str
    over: bool
    decided: bool = False
    waits: bool | None = None


class Scheduler(Protocol):
    """Whoever gives jobs their machines."""

    name: str
    survives: bool
    """Whether jobs go on when the process that submitted them is gone."""

    def submit(self, jobs: Sequence[SpooledJob]) -> Iterable[Mapping[str, str]]:
        """Queue jobs, some at a time; gives the ids of these by their names as soon as they are queued.

        InfrastructureError where it can't be reached now, QueueFull where it takes no more: what wasn't given before isn't queued.
        """

    def states(self, ids: Collection[str]) -> dict[str, SchedulerState]:
        """What it says of jobs; it may have forgotten those that ended, and then leaves them out."""

    def cancel(self, ids: Collection[str]) -> None:
        """End jobs, whether they wait or run; returns when they have ended. InfrastructureError where some can't be ended from here."""


@dataclass
class Submitted:
    """A job in the scheduler's hands. begun: when it was first heard of as running. `last`: its worker's latest news.

    waits: whether it has no machine, as far as is known. told: the last state that was passed on. `ending`, `code`: what it said of its
    end, and how it ended.
    """

    job: Job
    id: str
    news: News
    log: Path
    begun: float | None = None
    heard: float = field(default_factory=time.monotonic)
    state: str = "submitted"
    waits: bool = True
    told: str = ""
    last: Event | None = None
    ending: dict[str, Any] | None = None
    code: int | None = None


@dataclass
class Queue:
    """How many of a run's jobs its scheduler takes at once, as far as its refusals tell.

    most: so many it had when it refused one more; None as long as it never did. refused_at: so many the last time, which are fewer
    where one that has ended is still counted. until: no more are tried before, by the monotonic clock. held: jobs that were refused.
    """

    most: int | None = None
    refused_at: int = 0
    until: float = 0.0
    held: set[str] = field(default_factory=set)

    def fitting(self, waiting: Sequence[Job], queued: int) -> Sequence[Job]:
        """Of the jobs that wait, those to be submitted beside so many: all, or as many as there was room for, or one, to see.

        Where more were taken since, as when others' jobs had filled it, twice as many are tried every time.
        """
        if self.most is None:
            return waiting
        if queued >= self.refused_at and time.monotonic() < self.until:
            return []
        beyond = queued - self.most
        return waiting[: -beyond if beyond < 0 else beyond + 1]

    def refused(self, queued: int) -> None:
        """With so many in the queue one more was refused."""
        self.most, self.refused_at = max(queued, self.most or 0), queued
        self.until = time.monotonic() + FULL_SECONDS


@dataclass(frozen=True)
class ClusterEngine:
    """Runs jobs through a scheduler. `folder`: the suite's, where logs, news and states lie; every machine has to see it.

    A job that an earlier run left in the queue is taken up again if it is the same and still runs or waits, else it is cancelled.
    """

    scheduler: Scheduler
    folder: Path
    threads: int
    poll_seconds: float
    silence_seconds: float = SILENCE_SECONDS
    pauses: tuple[float, ...] = BACK_OFF_SECONDS

    def run(self, jobs: Sequence[Job], listener: Listener) -> list[Outcome]:
        """See `harness.engines.base.Engine.run`."""
        attempts = Attempts(listener, self.pauses)
        outcomes = attempts.outcomes
        running: dict[str, Submitted] = {}
        queue = Queue()
        try:
            self.take_up(jobs, running, listener)
            while len(outcomes) < len(jobs):
                for outcome in skipped(jobs, outcomes):
                    attempts.final(outcome)
                waiting = ready(jobs, outcomes, running.keys() | attempts.pausing())
                # The others haven't been tried, so nothing is told of them, and no fault of the scheduler's is theirs.
                tried = queue.fitting(waiting, len(running))
                for job in tried:
                    if job.name not in queue.held:
                        attempts.started(job)
                try:
                    self.submit(tried, running)
                except QueueFull as full:
                    queue.refused(len(running))
                    self.hold(queue, [job for job in tried if job.name not in running], full, listener)
                except (OSError, InfrastructureError) as error:  # the spool, or the scheduler
                    for job in tried:
                        if job.name not in running:
                            attempts.ended(not_started(job, error))
                queue.held -= running.keys()
                ended = self.follow(running, listener)
                for outcome in ended:
                    del running[outcome.job]
                    attempts.ended(outcome)
                self.keep(running)
                if not ended and len(outcomes) < len(jobs):
                    time.sleep(self.poll_seconds)
        except BaseException as error:
            if not isinstance(error, KeyboardInterrupt) and self.found_again(running):
                # A fault here (nobody reads the output on, a mount that is gone) is no reason to end what can be followed again.
                if running:
                    told = f"{self.scheduler.name} goes on with what was submitted (jobs: {len(running)})"
                    with suppress(OSError):  # of standard error, where a terminal is gone
                        warnings.warn(f"{told}; the same command follows it", InputWarning, stacklevel=2)
                raise
            try:
                for name, entry in running.items():
                    listener.event(stopping(name, entry.last, "doesn't wait for it"))
            finally:
                self.scheduler.cancel([entry.id for entry in running.values()])
                self.keep({})
            raise
        return [outcomes[job.name] for job in jobs]

    def hold(self, queue: Queue, jobs: Sequence[Job], full: QueueFull, listener: Listener) -> None:
        """Tell of jobs, once, that the scheduler has no room for them yet."""
        note = f"{self.scheduler.name} takes no more jobs of yours now ({full}); submitted when others have ended"
        for job in jobs:
            if job.name not in queue.held:
                listener.event(Event(job.name, WAITS, note=note))
        queue.held |= {job.name for job in jobs}

    def keep(self, running: Mapping[str, Submitted]) -> None:
        """Keep what is known of the jobs in the scheduler's hands, if it is news. Where there is no room for it they go on."""
        with passing(states_file(self.folder)):
            self.keep_states(running)

    def found_again(self, running: Mapping[str, Submitted]) -> bool:
        """Whether the jobs in the scheduler's hands go on, and the next run finds them; what isn't kept of them yet is, if it can be.

        Else that run would submit them once more, beside those that go on.
        """
        if not self.scheduler.survives:
            return False
        ids = {entry.id for entry in running.values()}
        try:
            if not ids <= self.kept_ids():
                self.keep_states(running)
            return ids <= self.kept_ids()
        except (OSError, InputError):
            return False

    def kept_ids(self) -> set[str]:
        """The ids of the jobs that are kept."""
        return {state.id for state in read_states(states_file(self.folder)).values()}

    def keep_states(self, running: Mapping[str, Submitted]) -> None:
        """The same; errors of the system are the caller's."""
        before = read_states(states_file(self.folder))
        now = datetime.now().isoformat(" ", "seconds")
        states = {}
        for name, entry in running.items():
            found = JobState(
                engine=self.scheduler.name, id=entry.id, key=key_of(entry.job), state=entry.state, time=now
            )
            old = before.get(name)
            same = old is not None and (old.id, old.state) == (found.id, found.state)
            states[name] = old if same and old is not None else found
        if states != before:
            write_states(states_file(self.folder), states)

    def take_up(self, jobs: Sequence[Job], running: dict[str, Submitted], listener: Listener) -> None:
        """Find again what an earlier run submitted and left behind; what isn't wanted any more is cancelled."""
        wanted = {job.name: job for job in jobs}
        unwanted = []
        kept = read_states(states_file(self.folder)) if self.scheduler.survives else {}
        left = {name: state for name, state in kept.items() if state.engine == self.scheduler.name}
        now = self.scheduler.states([state.id for state in left.values()]) if left else {}
        for name, state in left.items():
            job = wanted.get(name)
            # One that needs what is to be made works on what was there before; one that has ended left undone what is asked for.
            same = job is not None and key_of(job) == state.key and not job.needs
            entry = self.submitted(job, state.id) if job is not None and same else None
            # One that somebody cancelled, or a limit ended, while nobody watched isn't the failure of this run, which tries it again.
            found = now.get(state.id)
            cancelled = found is not None and found.over and found.decided
            if entry is not None and not cancelled and not has_ended(entry.news.path):
                running[name] = entry
                listener.started(entry.job)
            else:
                unwanted.append(state.id)
        if unwanted:
            self.scheduler.cancel(unwanted)

    def submit(self, jobs: Sequence[Job], running: dict[str, Submitted]) -> None:
        """Hand jobs over, each with a fresh file of news. An error leaves those `running` that were queued before it."""
        if not jobs:
            return
        tasks = []
        for job in jobs:
            entry = self.submitted(job, "")
            for file in (entry.news.path, entry.log):
                file.parent.mkdir(parents=True, exist_ok=True)
            entry.news.path.write_bytes(b"")
            tasks.append(SpooledJob(job, Path.cwd(), entry.news.path, entry.log, self.threads))
        by_name = {job.name: job for job in jobs}
        for ids in self.scheduler.submit(tasks):
            running |= {name: self.submitted(by_name[name], identifier) for name, identifier in ids.items()}
            # At once: who is killed now finds them again.
            self.keep(running)

    def submitted(self, job: Job, identifier: str) -> Submitted:
        """A job with its files."""
        folder = self.folder.resolve()
        return Submitted(job, identifier, News(job.file(folder / "news", ".jsonl")), job.file(folder / "logs", ".log"))

    def follow(self, running: Mapping[str, Submitted], listener: Listener) -> list[Outcome]:
        """Take in what jobs and scheduler say; the outcomes of those that ended."""
        if not running:
            return []
        states = self.scheduler.states([entry.id for entry in running.values()])
        ended = []
        for entry in running.values():
            self.hear(entry, listener)
            outcome = self.judged(entry, states.get(entry.id), listener)
            if outcome is not None:
                ended.append(outcome)
        return ended

    def hear(self, entry: Submitted, listener: Listener) -> None:
        """Take in what a job wrote."""
        found: list[dict[str, Any]] = []
        with passing(entry.news.path):
            found = entry.news.read()
        for said in found:
            entry.heard = time.monotonic()
            if "event" in said:
                event = Event(**said["event"])
                entry.last = entry.last if event.phase == WAITS else event
                listener.event(event)
            elif "warning" in said:
                warnings.warn(said["warning"], InputWarning, stacklevel=2)
            elif "attempt" in said:
                entry.last = entry.ending = entry.code = None
                entry.begun = entry.begun or time.monotonic()
                entry.state = entry.told = f"RUNNING on {said['attempt']}"
                entry.waits = False
                listener.event(Event(entry.job.name, "starts", note=f"on {said['attempt']}"))
            elif "exit" in said:
                entry.code = said["exit"]
            else:
                entry.ending = said

    def judged(self, entry: Submitted, state: SchedulerState | None, listener: Listener) -> Outcome | None:
        """How a job ended, None if it hasn't."""
        seconds = 0.0 if entry.begun is None else time.monotonic() - entry.begun
        if entry.code is not None:
            return self.ended(entry, entry.code, state, seconds)
        if state is not None and not state.over:
            entry.heard = time.monotonic()
            entry.state = state.text or entry.state
            entry.waits = entry.waits if state.waits is None else state.waits
            if entry.state != entry.told:
                entry.told = entry.state
                told = f"{entry.id} {entry.state}"
                phase, note = (WAITS, f"{self.scheduler.name} {told}") if entry.waits else (self.scheduler.name, told)
                listener.event(Event(entry.job.name, phase, note=note))
            return None
        if time.monotonic() - entry.heard < self.silence_seconds:
            return None
        why = f"it is {state.text}" if state is not None else "it knows the job no more"
        message = f"{self.scheduler.name} job {entry.id} ended without a word, and {self.scheduler.name} says: {why}"
        kind: FaultKind = "scheduler" if state is not None and state.decided else "infrastructure"
        return Outcome(entry.job.name, "failed", seconds, kind=kind, message=message, log=str(entry.log))

    def ended(self, entry: Submitted, code: int, state: SchedulerState | None, seconds: float) -> Outcome | None:
        """How a job ended that said so. One that was killed may have met a limit of its scheduler's, which says so in a moment."""
        outcome = outcome_of(entry.job.name, entry.ending, code, seconds, entry.log)
        if code != -signal.SIGKILL or state is None:
            return outcome
        if not state.over and time.monotonic() - entry.heard < self.silence_seconds:
            return None
        if not state.decided:
            return outcome
        message = f"{outcome.message}; {self.scheduler.name} says of its job {entry.id}: it is {state.text}"
        return replace(outcome, kind="scheduler", message=message)


@contextmanager
def passing(path: Path) -> Iterator[None]:
    """Around reading and writing what the jobs don't depend on: a disk or mount that fails now is a warning, said once."""
    try:
        yield
    except (OSError, InputError) as error:
        fault = fault_of(error)
        if fault.kind != "infrastructure":
            raise
        told = fault.message if str(path) in fault.message else f"{path}: {fault.message}"
        warnings.warn(f"{told}; the jobs go on, and it is tried again", InputWarning, stacklevel=3)


def has_ended(path: Path) -> bool:
    """Whether the last process that wrote news into a file has said that it ended."""
    found: list[dict[str, Any]] = []
    with passing(path):
        found = News(path).read()
    return "exit" in next((said for said in reversed(found) if said.keys() & {"exit", "attempt"}), {})


def key_of(job: Job) -> str:
    """A hash of what a job is, the same in every process: of its representation, without addresses in memory.

    And without what it needs and what images it will keep: jobs, and its training, that are done by now are no part of the next run,
    and the same job goes on. Nor does a training end where whole nodes are given up, of which it asks for none.
    """
    whole_node = job.resources.whole_node or not job.exclusive
    told = repr(replace(job, needs=(), resources=replace(job.resources, cache_gigabytes=0.0, whole_node=whole_node)))
    return hashlib.sha256(re.sub(r" at 0x[0-9a-f]+", "", told).encode()).hexdigest()[:16]
