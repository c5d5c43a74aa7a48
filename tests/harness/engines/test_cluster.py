"""A cluster's engine, on a scheduler that gives each job a process of this machine."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

from harness.engines.base import Job, Resources
from harness.engines.cluster import ClusterEngine, SchedulerState
from harness.engines.spool import News, SpooledJob, say
from harness.engines.states import read_states, states_file
from harness.errors import InputWarning
from harness.processes.progress import Event
from tests.harness.engines.notes import Notes


class Processes:
    """A scheduler: a job a process, started at once; it forgets those that ended well."""

    name = "processes"
    survives = True

    def __init__(self) -> None:
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.batches: list[int] = []
        self.cancelled: list[str] = []

    def submit(self, jobs: Sequence[SpooledJob]) -> list[str]:
        self.batches.append(len(jobs))
        return [self.start(job) for job in jobs]

    def start(self, job: SpooledJob) -> str:
        program = "import pickle, sys; sys.exit(pickle.loads(sys.stdin.buffer.read())() != 0)"
        process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdin is not None
        with process.stdin as pipe:
            pipe.write(pickle.dumps(job))
        self.running[str(process.pid)] = process
        return str(process.pid)

    def states(self, ids: Collection[str]) -> dict[str, SchedulerState]:
        found = {}
        for identifier in ids:
            code = self.running[identifier].poll() if identifier in self.running else 0
            if code != 0:
                found[identifier] = SchedulerState("RUNNING" if code is None else "FAILED", over=code is not None)
        return found

    def cancel(self, ids: Collection[str]) -> None:
        for identifier in ids:
            self.cancelled.append(identifier)
            if identifier in self.running:
                self.running[identifier].send_signal(signal.SIGINT)
                self.running[identifier].wait(20)


def engine(folder: Path, scheduler: Processes, pauses: tuple[float, ...] = ()) -> ClusterEngine:
    return ClusterEngine(scheduler, folder, threads=1, poll_seconds=0.1, silence_seconds=1.0, pauses=pauses)


def test_jobs_are_submitted_together_when_their_needs_are_done_and_tell_how_it_goes(
    jobs: ModuleType, tmp_path: Path
) -> None:
    todo = [
        Job("last", partial(jobs.touch, tmp_path / "last"), needs=("first", "second")),
        Job("first", partial(jobs.touch, tmp_path / "first")),
        Job("second", partial(jobs.touch, tmp_path / "second")),
        Job("broken", jobs.bad_input),
        Job("behind", partial(jobs.touch, tmp_path / "behind"), needs=("broken",)),
    ]
    notes, scheduler = Notes(), Processes()
    outcomes = engine(tmp_path, scheduler).run(todo, notes)
    assert [outcome.state for outcome in outcomes] == ["done", "done", "done", "failed", "skipped"]
    assert (outcomes[3].kind, outcomes[3].message) == ("input", "x.jpg: truncated; restore it")
    assert scheduler.batches == [3, 1]
    assert {event.note for event in notes.events if event.phase == "work"} == {"note"}
    assert "noise" in (tmp_path / "logs/first.log").read_text()
    assert (tmp_path / "last").exists()
    assert not (tmp_path / "behind").exists()
    assert read_states(states_file(tmp_path)) == {}


def test_a_worker_that_was_killed_and_a_job_that_vanished_are_told(jobs: ModuleType, tmp_path: Path) -> None:
    killed, vanished = engine(tmp_path, Processes()).run(
        [Job("killed", jobs.die), Job("vanished", partial(jobs.end_parent, "SIGKILL"))], Notes()
    )
    assert "SIGKILL" in killed.message
    assert "ended without a word, and processes says: it is FAILED" in vanished.message
    assert (killed.kind, vanished.kind) == ("infrastructure", "infrastructure")


def test_what_a_job_warns_of_is_warned_of_where_it_was_submitted(jobs: ModuleType, tmp_path: Path) -> None:
    with pytest.warns(InputWarning) as said:
        engine(tmp_path, Processes()).run([Job("odd", jobs.odd_input)], Notes())
    told = [str(one.message) for one in said if one.category is InputWarning]
    assert told == ["x.txt: two points in one place"]


def test_what_is_queued_is_told_while_it_is(jobs: ModuleType, tmp_path: Path) -> None:
    scheduler, seen = Processes(), []

    class Looking(Notes):
        def event(self, event: Event) -> None:
            seen.append(read_states(states_file(tmp_path))["wait"])

    engine(tmp_path, scheduler).run([Job("wait", partial(jobs.wait, tmp_path / "wait", 0.5))], Looking())
    assert {(state.engine, state.id) for state in seen} == {("processes", str(next(iter(scheduler.running))))}


def test_ctrl_c_ends_the_workers_and_leaves_nothing_queued(jobs: ModuleType, tmp_path: Path) -> None:
    class Interrupting(Notes):
        def event(self, event: Event) -> None:
            super().event(event)
            if event.phase == "starts":
                time.sleep(1.0)  # the worker has begun its task
                raise KeyboardInterrupt

    scheduler = Processes()
    notes = Interrupting()
    with pytest.raises(KeyboardInterrupt):
        engine(tmp_path, scheduler).run([Job("wait", partial(jobs.wait, tmp_path / "wait", 8))], notes)
    (stops,) = (event for event in notes.events if event.phase == "stops")
    assert stops.note == "without a checkpoint, so what it was at begins anew; Ctrl-C again doesn't wait for it"
    assert scheduler.cancelled == list(scheduler.running)
    assert not (tmp_path / "wait").exists()
    assert read_states(states_file(tmp_path)) == {}


class Gone(Exception):
    """The process that submitted is gone, and said nothing."""


def left_behind(folder: Path, scheduler: Processes, job: Job) -> None:
    """A job in the scheduler's hands, of a run that was killed."""

    class Killed(Processes):
        submit = staticmethod(scheduler.submit)  # type: ignore[assignment]
        states = staticmethod(scheduler.states)  # type: ignore[assignment]

        def cancel(self, ids: Collection[str]) -> None:
            raise Gone

    class Leaving(Notes):
        def event(self, event: Event) -> None:
            raise KeyboardInterrupt

    with pytest.raises(Gone):
        engine(folder, Killed()).run([job], Leaving())


def test_a_job_that_a_killed_run_left_behind_is_taken_up_again(jobs: ModuleType, tmp_path: Path) -> None:
    job, scheduler = Job("wait", partial(jobs.wait, tmp_path / "wait", 2)), Processes()
    left_behind(tmp_path, scheduler, job)
    (outcome,) = engine(tmp_path, scheduler).run([job], Notes())
    assert (outcome.state, scheduler.batches, scheduler.cancelled) == ("done", [1], [])


def test_one_that_is_not_the_same_any_more_is_cancelled_first(jobs: ModuleType, tmp_path: Path) -> None:
    job, scheduler = Job("wait", partial(jobs.wait, tmp_path / "wait", 30)), Processes()
    left_behind(tmp_path, scheduler, job)
    other = Job("wait", partial(jobs.wait, tmp_path / "wait", 0), resources=Resources(cpus=2))
    (outcome,) = engine(tmp_path, scheduler).run([other], Notes())
    assert (outcome.state, scheduler.cancelled) == ("done", [next(iter(scheduler.running))])


def test_a_stopped_job_says_nothing_and_can_be_called_again(jobs: ModuleType, tmp_path: Path) -> None:
    """As a scheduler does that queues it again: the second attempt's end counts."""
    task = SpooledJob(
        Job("once", partial(jobs.stopped_once, tmp_path / "begun")), tmp_path, tmp_path / "news", tmp_path / "log", 1
    )
    scheduler = Processes()
    first = scheduler.start(task)
    while not (tmp_path / "begun").exists():
        time.sleep(0.05)
    scheduler.cancel([first])
    assert [line for line in News(tmp_path / "news").read() if "exit" in line] == []
    scheduler.running[scheduler.start(task)].wait(30)
    said = News(tmp_path / "news").read()
    assert [next(iter(line)) for line in said] == ["attempt", "attempt", "done", "exit"]
    assert said[-1] == {"exit": 0}


def test_news_are_whole_lines_and_a_torn_one_spoils_none(tmp_path: Path) -> None:
    news = News(tmp_path / "news")
    assert news.read() == []
    say(news.path, {"attempt": "here"})
    with open(news.path, "a") as stream:
        stream.write('{"event": {"jo')
    assert news.read() == [{"attempt": "here"}]
    assert news.read() == []
    say(news.path, {"exit": 0})
    assert news.read() == [{"exit": 0}]


def test_a_torn_list_of_states_is_named_with_the_remedy(tmp_path: Path) -> None:
    states_file(tmp_path).write_text('{"a": {"engine"')
    with pytest.raises(Exception, match=r"jobs.json: not a readable list of jobs .* delete it"):
        read_states(states_file(tmp_path))
    assert os.path.exists(states_file(tmp_path))
