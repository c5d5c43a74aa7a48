"""A cluster's engine, on a scheduler that gives each job a process of this machine."""

from __future__ import annotations

import errno
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from harness.engines import spool
from harness.engines.base import Job, Resources
from harness.engines.cluster import ClusterEngine, SchedulerState, Submitted, key_of
from harness.engines.spool import News, SpooledJob, say
from harness.engines.states import JobState, read_states, states_file, write_states
from harness.errors import InputWarning
from harness.processes.faults import InfrastructureError
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

    def submit(self, jobs: Sequence[SpooledJob]) -> list[dict[str, str]]:
        self.batches.append(len(jobs))
        return [{job.job.name: self.start(job) for job in jobs}]

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


class Unread(Notes):
    """Whoever read on is gone."""

    def event(self, event: Event) -> None:
        raise BrokenPipeError


def left_behind(folder: Path, scheduler: Processes, job: Job) -> None:
    """A job in the scheduler's hands, of a run that came to a sudden end."""
    with (
        pytest.warns(InputWarning, match=r"goes on with what was submitted \(jobs: 1\); the same command follows it"),
        pytest.raises(BrokenPipeError),
    ):
        engine(folder, scheduler).run([job], Unread())
    assert scheduler.cancelled == []


def test_jobs_that_could_not_be_cancelled_are_found_by_the_next_run(jobs: ModuleType, tmp_path: Path) -> None:
    """As those of another user, which go on."""
    job, scheduler = Job("wait", partial(jobs.wait, tmp_path / "wait", 2)), Processes()
    left_behind(tmp_path, scheduler, job)

    class Stopped(Notes):
        def event(self, event: Event) -> None:
            if event.phase != "stops":
                raise KeyboardInterrupt

    def refused(ids: Collection[str]) -> None:
        raise InfrastructureError("they are another user's")

    cancel, scheduler.cancel = scheduler.cancel, refused  # type: ignore[method-assign]
    with pytest.raises(InfrastructureError):
        engine(tmp_path, scheduler).run([job], Stopped())
    scheduler.cancel = cancel  # type: ignore[method-assign]
    (outcome,) = engine(tmp_path, scheduler).run([job], Notes())
    assert (outcome.state, scheduler.batches) == ("done", [1])


def test_where_jobs_end_with_their_run_a_run_that_ends_suddenly_cancels_them(jobs: ModuleType, tmp_path: Path) -> None:
    scheduler = Processes()
    scheduler.survives = False
    with pytest.raises(BrokenPipeError):
        engine(tmp_path, scheduler).run([Job("wait", partial(jobs.wait, tmp_path / "wait", 8))], Unread())
    assert scheduler.cancelled == list(scheduler.running)


def test_a_run_that_ends_suddenly_cancels_jobs_that_the_next_one_would_not_find(
    jobs: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the same command submits them again, and two of each work at once."""

    def full(path: Path, states: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    scheduler = Processes()
    monkeypatch.setattr("harness.engines.cluster.write_states", full)
    with pytest.warns(InputWarning) as told, pytest.raises(BrokenPipeError):
        engine(tmp_path, scheduler).run([Job("wait", partial(jobs.wait, tmp_path / "wait", 8))], Unread())
    assert not any("follows it" in str(warning.message) for warning in told)
    assert scheduler.cancelled == list(scheduler.running)


def test_a_job_that_a_killed_run_left_behind_is_taken_up_again(jobs: ModuleType, tmp_path: Path) -> None:
    job, scheduler = Job("wait", partial(jobs.wait, tmp_path / "wait", 2)), Processes()
    left_behind(tmp_path, scheduler, job)
    notes = Notes()
    (outcome,) = engine(tmp_path, scheduler).run([job], notes)
    assert (outcome.state, scheduler.batches, scheduler.cancelled) == ("done", [1], [])
    assert notes.order == ["+wait", "-wait"]


def test_one_whose_need_is_made_again_is_cancelled_and_waits_for_it(jobs: ModuleType, tmp_path: Path) -> None:
    scheduler, last = Processes(), Job("last", partial(jobs.wait, tmp_path / "last", 1))
    left_behind(tmp_path, scheduler, last)
    first, notes = Job("first", partial(jobs.touch, tmp_path / "first")), Notes()
    outcomes = engine(tmp_path, scheduler).run([first, replace(last, needs=("first",))], notes)
    assert [outcome.state for outcome in outcomes] == ["done", "done"]
    assert notes.order == ["+first", "-first", "+last", "-last"]
    assert scheduler.cancelled == [next(iter(scheduler.running))]


def test_one_that_somebody_cancelled_while_nobody_watched_is_submitted_again_at_once(
    jobs: ModuleType, tmp_path: Path
) -> None:
    """It is no failure of the run that follows."""
    job, scheduler = Job("touch", partial(jobs.touch, tmp_path / "made")), Processes()
    state = JobState(engine="processes", id="1", key=key_of(job), state="PENDING (Priority)", time="")
    write_states(states_file(tmp_path), {"touch": state})
    known = scheduler.states

    def states(ids: Collection[str]) -> dict[str, SchedulerState]:
        return {"1": SchedulerState("CANCELLED", over=True, decided=True)} if list(ids) == ["1"] else known(ids)

    scheduler.states = states  # type: ignore[method-assign]
    notes = Notes()
    (outcome,) = engine(tmp_path, scheduler).run([job], notes)
    assert (outcome.state, scheduler.batches, notes.order) == ("done", [1], ["+touch", "-touch"])


def test_one_that_ended_while_nobody_heard_and_is_asked_for_all_the_same_runs_again(
    jobs: ModuleType, tmp_path: Path
) -> None:
    """As where what it made was moved aside since."""
    job, scheduler = Job("touch", partial(jobs.touch, tmp_path / "made")), Processes()
    news = engine(tmp_path, scheduler).submitted(job, "1").news.path
    news.parent.mkdir()
    for said in ({"attempt": "node7"}, {"done": True}, {"exit": 0}):
        say(news, said)
    state = JobState(engine="processes", id="1", key=key_of(job), state="RUNNING on node7", time="")
    write_states(states_file(tmp_path), {"touch": state})
    (outcome,) = engine(tmp_path, scheduler).run([job], Notes())
    assert (outcome.state, (tmp_path / "made").exists()) == ("done", True)


@pytest.mark.parametrize("name", ["wait", "other"])
def test_one_that_is_not_the_same_any_more_is_cancelled_first(jobs: ModuleType, tmp_path: Path, name: str) -> None:
    job, scheduler = Job("wait", partial(jobs.wait, tmp_path / "wait", 30)), Processes()
    left_behind(tmp_path, scheduler, job)
    other = Job(name, partial(jobs.wait, tmp_path / "wait", 0), resources=Resources(cpus=2))
    kept: list[str] = []
    notes = Notes(lambda event: kept.append(read_states(states_file(tmp_path))[name].id))
    (outcome,) = engine(tmp_path, scheduler).run([other], notes)
    before, now = scheduler.running
    assert (outcome.state, scheduler.cancelled) == ("done", [before])
    assert set(kept) == {now}


def test_a_job_is_the_same_in_every_process_and_when_what_it_needed_or_its_training_is_done() -> None:
    """Else whoever goes on with a matrix that a killed run had submitted would end its trainings, and begin them again."""
    task, same = (partial(lambda: None) for _ in range(2))
    assert repr(task) != repr(same)
    first = key_of(Job("cell", task, needs=("render roads",), resources=Resources(hours=1, cache_gigabytes=40)))
    assert first == key_of(Job("cell", same, resources=Resources(hours=1)))
    assert first != key_of(Job("cell", same, resources=Resources(hours=2)))


@pytest.mark.parametrize("exclusive", [True, False])
def test_where_whole_nodes_are_given_up_only_what_asked_for_one_is_another_job(exclusive: bool) -> None:
    asks = Job("cell", print, exclusive=exclusive)
    assert (key_of(asks) == key_of(replace(asks, resources=Resources(whole_node=False)))) is not exclusive


@pytest.mark.parametrize(("engine_name", "survives"), [("slurm", True), ("processes", False)])
def test_what_another_engine_left_or_what_ended_with_its_run_is_not_taken_up(
    tmp_path: Path, engine_name: str, survives: bool
) -> None:
    job, scheduler = Job("job", print), Processes()
    scheduler.survives = survives
    write_states(
        states_file(tmp_path), {"job": JobState(engine=engine_name, id="1", key=key_of(job), state="RUNNING", time="")}
    )
    running: dict[str, Submitted] = {}
    engine(tmp_path, scheduler).take_up([job], running, Notes())
    assert (running, scheduler.cancelled) == ({}, [])


@pytest.mark.parametrize(
    ("said", "lines", "ended"),
    [
        (None, [], True),
        ("RUNNING", [], False),
        (None, [{"event": {"job": "job", "phase": "train"}}], False),
        (None, [{"failed": "ouch", "kind": "error"}, {"exit": 1}, {"attempt": "node8"}], False),
        (None, [{"attempt": "node8"}, {"failed": "ouch", "kind": "error"}, {"exit": 1}], True),
    ],
    ids=["silent", "it ran till now", "it says something", "queued again", "ended"],
)
def test_a_job_that_its_scheduler_knows_no_more_has_time_for_its_last_word(
    tmp_path: Path, said: str | None, lines: list[dict[str, Any]], ended: bool
) -> None:
    answers = [{} if said is None else {"1": SchedulerState(said, over=False)}, {}]

    class Forgetful(Processes):
        def states(self, ids: Collection[str]) -> dict[str, SchedulerState]:
            return answers.pop(0)

    on_cluster = engine(tmp_path, Forgetful())
    entry = on_cluster.submitted(Job("job", print), "1")
    entry.heard -= 1.1
    entry.news.path.parent.mkdir()
    for line in lines:
        say(entry.news.path, line)
    followed = [on_cluster.follow({"job": entry}, Notes()) for _ in range(2)]
    assert bool(followed[1]) is ended


def test_a_job_that_is_tried_again_does_not_end_by_what_it_said_before(jobs: ModuleType, tmp_path: Path) -> None:
    again = Job("again", partial(jobs.fails, tmp_path / "attempts", 1, errno.ESTALE))
    (outcome,) = engine(tmp_path, Processes(), pauses=(0.01,)).run([again], Notes())
    assert (outcome.state, outcome.message) == ("done", "")
    assert "Traceback" in Path(outcome.log).read_text(), "of the first attempt"


def test_a_job_has_the_suites_threads_and_begins_in_the_folder_of_whoever_submitted_it(
    jobs: ModuleType, tmp_path: Path
) -> None:
    job = Job("env", partial(jobs.environment, Path("env")))
    assert SpooledJob(job, tmp_path, tmp_path / "news", tmp_path / "log", threads=5)() == 0
    assert (tmp_path / "env").read_text().startswith("5 ")


def test_a_worker_that_ends_before_it_has_read_its_job_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "worker_command", lambda seconds: [sys.executable, "-c", "raise SystemExit(3)"])
    job = Job("large", partial(print, "more than a pipe holds" * 10_000))
    assert SpooledJob(job, tmp_path, tmp_path / "news", tmp_path / "log", 1)() == 3


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


def worker_first(task: SpooledJob) -> None:
    """What a scheduler's signal to all processes of a job may come to."""
    assert task.process is not None
    task.process.terminate()
    task.process.wait()
    time.sleep(0.5)
    task.stop()


def announced(task: SpooledJob) -> None:
    """A scheduler tells all processes of a job that it ends soon."""
    assert task.process is not None
    task.process.send_signal(signal.SIGUSR2)
    task.stop()


def late(task: SpooledJob) -> None:
    """Stop a worker that doesn't end in the time that it has."""
    task.stop()


@pytest.mark.parametrize(
    "stop",
    [SpooledJob.stop, lambda task: os.kill(os.getpid(), signal.SIGINT), worker_first, announced, late],
    ids=["by a signal's handler", "by Ctrl-C", "the worker before", "announced", "one that takes too long"],
)
def test_a_job_that_is_stopped_waits_for_its_checkpoint_and_leaves_without_an_end(
    jobs: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: Callable[[SpooledJob], None]
) -> None:
    monkeypatch.setattr(spool, "GRACE_SECONDS", 0.1 if stop is late else 45)
    job = Job("steps", partial(jobs.keeps_checkpoints, tmp_path / "kept", 60 if stop is late else 0.1))
    task = SpooledJob(job, tmp_path, tmp_path / "news", tmp_path / "log", 1)

    def stop_at_the_first_step() -> None:
        while b"event" not in (tmp_path / "news").read_bytes():
            time.sleep(0.02)
        stop(task)

    (tmp_path / "news").touch()
    stopping = threading.Thread(target=stop_at_the_first_step)
    stopping.start()
    with pytest.raises(KeyboardInterrupt):
        task()
    stopping.join()
    assert (tmp_path / "kept").exists() is (stop is not late)
    assert not [line for line in News(tmp_path / "news").read() if "exit" in line]


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
    for half, found in (('{"exit"', []), (": 1}\n", [{"exit": 1}])):
        with open(news.path, "a") as stream:
            stream.write(half)
        assert news.read() == found


def test_a_torn_list_of_states_is_named_with_the_remedy(tmp_path: Path) -> None:
    states_file(tmp_path).write_text('{"a": {"engine"')
    with pytest.raises(Exception, match=r"jobs.json: not a readable list of jobs .* delete it"):
        read_states(states_file(tmp_path))
    assert os.path.exists(states_file(tmp_path))


def test_that_a_job_waits_is_no_place_at_which_it_would_lose_its_checkpoint(tmp_path: Path) -> None:
    """As after the time limit, when Slurm has queued it again: Ctrl-C then ends a training that has a checkpoint."""
    entry = engine(tmp_path, Processes()).submitted(Job("cell", print), "1")
    entry.news.path.parent.mkdir()
    train, waits = ({"job": "cell", "phase": phase, "step": 3, "total": 9} for phase in ("train", "waits"))
    for event in (train, waits):
        say(entry.news.path, {"event": event})
    engine(tmp_path, Processes()).hear(entry, Notes())
    assert entry.last == Event("cell", "train", 3, 9)
