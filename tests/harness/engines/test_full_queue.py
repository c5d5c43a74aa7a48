"""A scheduler that takes no more jobs of a user's at once than so many."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import pytest

from harness.engines import cluster
from harness.engines.base import Job
from harness.engines.cluster import ClusterEngine, Queue, QueueFull, SchedulerState, has_ended
from harness.engines.spool import SpooledJob, say
from harness.processes.faults import InfrastructureError
from tests.harness.engines.notes import Notes


class Limited:
    """Takes two jobs at once, of which the first has ended whenever it is asked for their states."""

    name, survives = "limited", True

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.taken: list[SpooledJob] = []

    def submit(self, jobs: Sequence[SpooledJob]) -> Iterator[dict[str, str]]:
        self.batches.append(len(jobs))
        for job in jobs:
            if sum(not has_ended(taken.news) for taken in self.taken) == 2:
                raise QueueFull("QOSMaxSubmitJobPerUserLimit")
            self.taken.append(job)
            yield {job.job.name: str(len(self.taken))}

    def states(self, ids: Collection[str]) -> dict[str, SchedulerState]:
        first = next(job.news for job in self.taken if not has_ended(job.news))
        for line in ({"attempt": "node7"}, {"done": True}, {"exit": 0}):
            say(first, line)
        return {}

    def cancel(self, ids: Collection[str]) -> None: ...


def test_jobs_for_which_the_queue_has_no_room_wait_for_it_and_say_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "FULL_SECONDS", 600)
    notes, scheduler = Notes(), Limited()
    made = ClusterEngine(scheduler, tmp_path, threads=1, poll_seconds=0.01)
    outcomes = made.run([Job(name, print) for name in "abcde"], notes)
    assert [outcome.state for outcome in outcomes] == ["done"] * 5
    assert [job.job.name for job in scheduler.taken] == list("abcde")
    # All, and then as many as there is room for: not once in each look at the queue.
    assert scheduler.batches == [5, 1, 1, 1]
    assert [order for order in notes.order if order[0] == "+"] == ["+a", "+b", "+c", "+d", "+e"]
    told = "limited takes no more jobs of yours now (QOSMaxSubmitJobPerUserLimit); submitted when others have ended"
    assert [event.job for event in notes.events if event.note == told] == ["c", "d", "e"]


def test_a_full_queue_is_tried_with_one_job_more_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(cluster.time, "monotonic", lambda: now[0])
    waiting = [Job(str(number), print) for number in range(9)]
    queue = Queue()
    assert len(queue.fitting(waiting, 4)) == 9
    queue.refused(4)
    assert [len(queue.fitting(waiting, queued)) for queued in (4, 3, 0)] == [0, 1, 4]
    now[0] += 61
    assert len(queue.fitting(waiting, 4)) == 1
    # One that has ended is counted for a while yet: that lowers nothing for good.
    queue.refused(3)
    assert [len(queue.fitting(waiting, queued)) for queued in (3, 2)] == [0, 2]
    now[0] += 61
    assert len(queue.fitting(waiting, 3)) == 1


def test_a_queue_that_others_had_filled_takes_hundreds_again_within_a_few_looks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr(cluster.time, "monotonic", lambda: now[0])
    waiting, queue, queued = [Job(str(number), print) for number in range(300)], Queue(), 2
    queue.refused(queued)
    now[0] += 61
    tried = []
    while queued < 302:
        tried.append(len(queue.fitting(waiting[queued - 2 :], queued)))
        queued += tried[-1]
    assert tried == [1, 2, 4, 8, 16, 32, 64, 128, 45]


class Slow(Limited):
    """One of its jobs ends whenever it is asked for the third time. `busy`: it can't be reached at every third call of `submit`."""

    def __init__(self, *, busy: bool = False) -> None:
        super().__init__()
        self.busy, self.asked = busy, 0

    def submit(self, jobs: Sequence[SpooledJob]) -> Iterator[dict[str, str]]:
        if self.busy and len(self.batches) % 3 == 2:
            self.batches.append(len(jobs))
            raise InfrastructureError("sbatch can't reach the cluster (Socket timed out)")
        return super().submit(jobs)

    def states(self, ids: Collection[str]) -> dict[str, SchedulerState]:
        self.asked += 1
        if self.asked % 3 == 0:
            super().states(ids)
        return {identifier: SchedulerState("RUNNING", over=False) for identifier in ids}


def test_of_jobs_that_become_ready_while_the_queue_is_full_nothing_is_told_before_they_are_submitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of the times of cells that have ended: that they start would be written down at each look at the queue."""
    monkeypatch.setattr(cluster, "FULL_SECONDS", 600)
    notes, todo = Notes(), [Job(name, print) for name in "abc"]
    todo += [Job(f"time {name}", print, needs=(name,)) for name in "abc"]
    outcomes = ClusterEngine(Slow(), tmp_path, threads=1, poll_seconds=0.01).run(todo, notes)
    assert [outcome.state for outcome in outcomes] == ["done"] * 6
    assert sorted(order for order in notes.order if order[0] == "+") == sorted(f"+{job.name}" for job in todo)


def test_a_scheduler_that_is_not_reached_now_and_then_costs_no_attempt_of_jobs_that_wait_for_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queue may be full for days, and one job is tried every quarter of a minute."""
    monkeypatch.setattr(cluster, "FULL_SECONDS", 0)
    made = ClusterEngine(Slow(busy=True), tmp_path, threads=1, poll_seconds=0.001, pauses=(0.001,) * 2)
    outcomes = made.run([Job(str(number), print) for number in range(12)], Notes())
    assert [outcome.state for outcome in outcomes] == ["done"] * 12
