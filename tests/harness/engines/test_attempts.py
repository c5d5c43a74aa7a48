"""What a fault of the infrastructure ends starts again, a bounded number of times; what the code or the data ends doesn't."""

from __future__ import annotations

import errno
import os
import subprocess
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from harness.engines import cluster, local
from harness.engines.attempts import Attempts
from harness.engines.base import Job, Outcome
from harness.engines.cluster import ClusterEngine, SchedulerState
from harness.engines.local import LocalEngine
from harness.engines.room import Machine
from harness.engines.spool import News, SpooledJob, say
from harness.engines.states import read_states, states_file
from harness.errors import InputWarning
from harness.processes.faults import InfrastructureError
from tests.harness.engines.notes import Notes

PAUSES = (0.01, 0.02)


def engine(tmp_path: Path) -> LocalEngine:
    return LocalEngine(Machine(cores=2, memory_gigabytes=8), tmp_path / "logs", threads=1, pauses=PAUSES)


def attempts(path: Path) -> int:
    return len(path.read_text().splitlines())


def test_a_vanished_mount_and_a_killed_worker_are_tried_again_and_told_once(jobs: ModuleType, tmp_path: Path) -> None:
    todo = [
        Job("mount", partial(jobs.fails, tmp_path / "mount", 2, errno.ESTALE)),
        Job("killed", partial(jobs.fails, tmp_path / "killed", 1, None)),
        Job("behind", partial(jobs.touch, tmp_path / "behind"), needs=("mount", "killed")),
    ]
    notes = Notes()
    assert [(outcome.state, outcome.message) for outcome in engine(tmp_path).run(todo, notes)] == [("done", "")] * 3
    assert (attempts(tmp_path / "mount"), attempts(tmp_path / "killed")) == (3, 2)
    assert sorted(notes.order) == ["+behind", "+killed", "+mount", "-behind", "-killed", "-mount"]
    for pause in PAUSES:
        assert sum(f"Stale file handle; starts again in {pause} s" in note for note in notes.waits) == 1
    assert sum("was ended by signal SIGKILL" in note for note in notes.waits) == 1


def test_it_ends_after_a_bounded_number_of_attempts_and_the_rest_goes_on(jobs: ModuleType, tmp_path: Path) -> None:
    todo = [
        Job("full", partial(jobs.fails, tmp_path / "full", 99, errno.ENOSPC)),
        Job("apart", partial(jobs.touch, tmp_path / "apart")),
    ]
    full, apart = engine(tmp_path).run(todo, Notes())
    assert (full.state, full.kind, apart.state) == ("failed", "infrastructure", "done")
    assert full.message.endswith("full: No space left on device (3 attempts)")
    assert attempts(tmp_path / "full") == 1 + len(PAUSES)
    assert Path(full.log).read_text().count("Traceback") == 1 + len(PAUSES)


def test_errors_of_code_and_data_are_final_at_once_with_their_traceback(jobs: ModuleType, tmp_path: Path) -> None:
    notes = Notes()
    bug, data = engine(tmp_path).run([Job("bug", jobs.bug), Job("data", jobs.bad_input)], notes)
    assert (bug.kind, data.kind, notes.waits) == ("error", "input", [])
    for outcome in (bug, data):
        assert Path(outcome.log).read_text().count("Traceback") == 1


def test_a_process_that_cannot_be_started_is_tried_again_after_the_pause(
    jobs: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[float] = []

    def popen(*words: Any, **options: Any) -> Any:
        tried.append(time.monotonic())
        if len(tried) == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "logs/touch.log")
        return real(*words, **options)

    real = subprocess.Popen
    monkeypatch.setattr(local.subprocess, "Popen", popen)
    notes = Notes()
    patient = replace(engine(tmp_path), pauses=(0.3,))
    (outcome,) = patient.run([Job("touch", partial(jobs.touch, tmp_path / "touch"))], notes)
    assert (outcome.state, len(tried)) == ("done", 2)
    assert tried[1] - tried[0] >= 0.3
    assert notes.waits[0].startswith("not started: logs/touch.log: No space left on device; starts again in 0.3 s")


def test_a_clock_that_jumps_moves_no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: -1e12)
    attempts, outcome = Attempts(Notes(), (0.05,)), Outcome("a", "failed", kind="infrastructure", message="lost")
    attempts.ended(outcome)
    assert attempts.pausing() == {"a"}
    time.sleep(0.06)
    assert attempts.pausing() == set()
    assert not attempts.outcomes
    attempts.ended(outcome)
    assert attempts.outcomes["a"].message == "lost (2 attempts)"


class Done:
    """A scheduler whose jobs are over at once, or break."""

    name = "done"
    survives = True

    def __init__(self, *faults: Exception | SchedulerState) -> None:
        self.faults = list(faults)
        self.over: dict[str, SchedulerState] = {}
        self.submitted = 0

    def submit(self, jobs: Sequence[SpooledJob]) -> list[dict[str, str]]:
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, Exception):
            raise fault
        ids = {}
        for job in jobs:
            self.submitted += 1
            ids[job.job.name] = str(self.submitted)
            if fault is None:
                for line in ({"done": True}, {"exit": 0}):
                    say(job.news, line)
            else:
                self.over[ids[job.job.name]] = fault
        return [ids]

    def states(self, ids: Sequence[str]) -> dict[str, SchedulerState]:
        return {identifier: self.over[identifier] for identifier in ids if identifier in self.over}

    def cancel(self, ids: Sequence[str]) -> None: ...


def on_cluster(folder: Path, scheduler: Done, pauses: tuple[float, ...] = PAUSES) -> tuple[Outcome, Notes]:
    notes = Notes()
    made = ClusterEngine(scheduler, folder, threads=1, poll_seconds=0.01, silence_seconds=0.05, pauses=pauses)  # type: ignore[arg-type]
    (outcome,) = made.run([Job("job", print)], notes)
    return outcome, notes


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "spool/1.pkl"), "spool/1.pkl: No space left on device"),
        (InfrastructureError("sbatch can't reach the cluster"), "sbatch can't reach the cluster"),
    ],
)
def test_a_full_spool_and_a_scheduler_that_is_away_are_tried_again_after_the_pause(
    tmp_path: Path, fault: Exception, told: str
) -> None:
    began = time.monotonic()
    outcome, notes = on_cluster(tmp_path, Done(fault), (0.2,))
    assert time.monotonic() - began >= 0.2
    assert outcome.state == "done"
    assert notes.order == ["+job", "-job"]
    assert notes.waits[0].startswith(f"not started: {told}; starts again")


def test_a_job_whose_node_was_lost_is_submitted_again(tmp_path: Path) -> None:
    scheduler = Done(SchedulerState("NODE_FAIL on node7", over=True))
    outcome, notes = on_cluster(tmp_path, scheduler)
    assert (outcome.state, scheduler.submitted) == ("done", 2)
    assert "it is NODE_FAIL on node7; starts again" in notes.waits[0]


def test_only_what_was_not_queued_is_submitted_again(tmp_path: Path) -> None:
    class Half(Done):
        """Takes the first job, and can't be reached for the second."""

        def submit(self, jobs: Sequence[SpooledJob]) -> Iterator[dict[str, str]]:  # type: ignore[override]
            for job in jobs:
                yield from super().submit([job])

    scheduler = Half()
    scheduler.faults = [None, InfrastructureError("sbatch can't reach the cluster")]  # type: ignore[list-item]
    made = ClusterEngine(scheduler, tmp_path, threads=1, poll_seconds=0.01, silence_seconds=0.05, pauses=PAUSES)  # type: ignore[arg-type]
    notes = Notes()
    outcomes = made.run([Job("a", print), Job("b", print)], notes)
    assert [outcome.state for outcome in outcomes] == ["done", "done"]
    assert scheduler.submitted == 2
    assert [note.partition(":")[0] for note in notes.waits] == ["not started"]


@pytest.mark.parametrize(
    ("decided", "kind", "told"), [(True, "scheduler", "done says of its job 1: it is OUT_OF_MEMORY"), (False, None, "")]
)
def test_of_a_process_that_was_killed_the_scheduler_is_asked_whether_it_met_a_limit(
    tmp_path: Path, decided: bool, kind: str | None, told: str
) -> None:
    class Kills(Done):
        """Kills the first attempt's process, and says what for when it was asked once more."""

        asked = 0

        def submit(self, jobs: Sequence[SpooledJob]) -> list[dict[str, str]]:
            found = super().submit(jobs)
            if self.submitted == 1:
                jobs[0].news.write_text('{"exit": -9}\n')
            return found

        def states(self, ids: Sequence[str]) -> dict[str, SchedulerState]:
            self.asked += 1
            over = SchedulerState("OUT_OF_MEMORY", over=True, decided=decided)
            return dict.fromkeys(ids, over if self.asked > 2 else SchedulerState("RUNNING", over=False, waits=False))

    outcome, notes = on_cluster(tmp_path, Kills())
    assert (outcome.state, outcome.kind) == ("failed" if decided else "done", kind)
    assert told in outcome.message
    assert len(notes.waits) == (0 if decided else 1)


def test_a_job_that_somebody_cancelled_is_not(tmp_path: Path) -> None:
    scheduler = Done(SchedulerState("CANCELLED", over=True, decided=True))
    outcome, notes = on_cluster(tmp_path, scheduler)
    assert (outcome.state, outcome.kind, scheduler.submitted, notes.waits) == ("failed", "scheduler", 1, [])


@pytest.mark.parametrize(("what", "number"), [("jobs.json", errno.ENOSPC), ("news/job.jsonl", errno.ESTALE)])
def test_where_the_list_of_jobs_cannot_be_written_or_their_news_read_they_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, number: int
) -> None:
    def fails(*given: Any) -> Any:
        if what == "jobs.json" or not failed:
            failed.append(what)
            raise OSError(number, os.strerror(number), what)
        return read(*given)

    failed: list[str] = []
    read = News.read
    monkeypatch.setattr(*((cluster, "write_states") if what == "jobs.json" else (News, "read")), fails)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", InputWarning)
        outcome, _ = on_cluster(tmp_path, Done())
    assert outcome.state == "done"
    assert f"{what}: {os.strerror(number)}; the jobs go on" in str(said[0].message)
    assert read_states(states_file(tmp_path)) == {}
