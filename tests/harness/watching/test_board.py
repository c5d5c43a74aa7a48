"""The board says the newest word of every job, and a forecast of the whole from what jobs took."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from harness.watching.board import BENCH, Board, JobState
from harness.watching.events import Ended, JobKind, Progress, Queued, RunEnded, RunEvent, RunStarted, Started
from harness.watching.forecast import duration, forecast, left_of_phase, row_of, told
from harness.watching.heartbeats import Heartbeat

ZERO = datetime(2026, 1, 1, tzinfo=UTC)
CELLS = [f"roads-net-samiro-s{seed}-00000000{seed:02x}" for seed in range(6)]


def at(seconds: float) -> datetime:
    return ZERO + timedelta(seconds=seconds)


def began(run: str = "1", engine: str = "local") -> RunStarted:
    return RunStarted(time=ZERO, run=run, suite="s", engine=engine, host="h", pid=7, cells=6, done=0)


def queued(job: str, run: str = "1", *, kind: JobKind = "cell", expected: float | None = None) -> Queued:
    return Queued(time=ZERO, run=run, job=job, kind=kind, alone=kind == "time", expected_seconds=expected)


def started(job: str, seconds: float, run: str = "1") -> Started:
    return Started(time=at(seconds), run=run, job=job)


def ended(job: str, seconds: float, state: str = "done", run: str = "1") -> Ended:
    return Ended(time=at(seconds), run=run, job=job, state=state, seconds=seconds)  # type: ignore[arg-type]


def progress(job: str, seconds: float, step: int, total: int = 100, phase: str = "train") -> Progress:
    return Progress(time=at(seconds), run="1", job=job, phase=phase, step=step, total=total)


def board(events: Sequence[RunEvent]) -> Board:
    found = Board()
    found.take(events)
    return found


def beat(what: str, age: float, *, step: int = 0, host: str = "there") -> Heartbeat:
    return Heartbeat(
        what=what, host=host, pid=9, beat=1, started=0, time=1000 - age, phase="train", step=step, total=100
    )


def test_the_board_counts_what_runs_what_is_done_and_what_failed() -> None:
    a, b, c, d = CELLS[:4]
    found = board(
        [began(), *map(queued, (a, b, c, d)), started(a, 0), started(b, 1), ended(a, 9), ended(b, 9, "failed")]
    )
    assert {state: count for state, count in found.tally.items() if count} == {"queued": 2, "done": 1, "failed": 1}
    found.take([started(c, 10), progress(c, 11, 5)])
    assert [(job.name, job.phase, job.step) for job in found.running] == [(c, "train", 5)]
    assert found.widest["1"] == 2
    assert sum(found.tally.values()) == 4


def test_a_job_in_a_schedulers_queue_is_queued_until_it_has_a_process_and_again_where_it_lost_it() -> None:
    a, b, c = CELLS[:3]
    found = board([began(engine="slurm"), *map(queued, (a, b, c)), *(started(cell, 0) for cell in (a, b, c))])
    assert (found.tally["queued"], found.tally["running"], found.running) == (3, 0, [])
    found.take([progress(a, 1, 0, 0, "waits"), progress(b, 1, 0, 0, "waits"), progress(b, 50, 0, 0, "starts")])
    assert [(job.name, job.started) for job in found.running] == [(b, at(50))]
    assert found.widest["1"] == 1
    found.take([progress(b, 60, 5), progress(b, 70, 0, 0, "waits")])
    assert (found.tally["queued"], found.running) == (3, [])
    assert found.seen({}, 1000).jobs[b].state == "queued", "it waits on where nobody looks"
    found.take([progress(b, 80, 6), ended(b, 90)])
    assert (found.tally["queued"], found.tally["done"], found.tally["running"]) == (2, 1, 0)


def test_a_later_run_takes_a_job_up_again() -> None:
    a = CELLS[0]
    found = board([began("1"), queued(a), started(a, 0), ended(a, 5, "failed"), began("2"), queued(a, "2")])
    assert (found.jobs[a].state, found.jobs[a].run) == ("queued", "2")
    assert found.newest is not None
    assert found.newest.run == "2"


@pytest.mark.parametrize(
    ("bench", "job", "state"),
    [
        (5, 5, "running"),
        (5, None, "running"),  # between its start and its first beat
        (300, 5, "running"),  # a cluster's job, whose bench is gone
        (None, 5, "running"),
        (300, 300, "lost"),
        (300, None, "lost"),
        (None, None, "lost"),
    ],
)
def test_who_runs_is_known_by_heartbeats_alone(bench: int | None, job: int | None, state: JobState) -> None:
    found = board([began(), queued(CELLS[0]), started(CELLS[0], 0), progress(CELLS[0], 1, 5)])
    beats = {} if bench is None else {f"{BENCH}1": beat(f"{BENCH}1", bench)}
    beats |= {} if job is None else {CELLS[0]: beat(CELLS[0], job, step=40)}
    seen = found.seen(beats, 1000.0)
    assert seen.jobs[CELLS[0]].state == state
    assert seen.tally[state] == 1
    if state == "running" and job is not None:
        assert (seen.jobs[CELLS[0]].step, seen.jobs[CELLS[0]].host) == (40, "there")
        assert [view.name for view in seen.running] == [CELLS[0]]
    assert found.jobs[CELLS[0]].state == "running", "the board itself keeps to the events"


def test_a_run_that_said_its_end_is_over_however_fresh_its_last_beat_is() -> None:
    found = board([began(), queued(CELLS[0]), started(CELLS[0], 0), RunEnded(time=at(3), run="1", why="stopped")])
    beats = {f"{BENCH}1": beat(f"{BENCH}1", 1)}
    assert not found.is_living("1", beats, 1000.0)
    assert found.seen(beats, 1000.0).jobs[CELLS[0]].state == "queued"


def test_what_an_orderly_end_stopped_is_not_lost() -> None:
    a, b = CELLS[:2]
    found = board([began(), queued(a), queued(b), started(a, 0), RunEnded(time=at(9), run="1", why="stopped")])
    assert found.running == []
    assert {job.state for job in found.seen({}, 1000).jobs.values()} == {"queued"}
    assert found.tally["queued"] == 2
    # A job of a cluster that hasn't heard of it yet.
    assert found.seen({a: beat(a, 1)}, 1000).jobs[a].state == "running"


def test_a_matrix_is_forecast_by_what_its_cells_took() -> None:
    found = board([began(), *map(queued, CELLS), started(CELLS[0], 0), started(CELLS[1], 0), ended(CELLS[0], 100)])
    left = forecast(found.jobs.values(), found.durations, 2, at(100), alone_waits=True)
    # Four whole ones, and one that has had its 100 s, on two places.
    assert (left.seconds, left.unknown) == (200.0, 0)


def test_the_longest_job_bounds_the_forecast() -> None:
    found = board([began(), queued(CELLS[0], expected=500), queued(CELLS[1], expected=10)])
    assert forecast(found.jobs.values(), {}, 8, ZERO, alone_waits=True).seconds == 500


def test_jobs_that_have_their_machine_alone_come_on_top_of_the_others_on_one_machine_only() -> None:
    jobs = [queued(f"time {cell}", kind="time", expected=10) for cell in CELLS]
    found = board([began(), *jobs, queued(CELLS[0], expected=10)])
    assert forecast(found.jobs.values(), {}, 7, ZERO, alone_waits=True).seconds == 70
    assert forecast(found.jobs.values(), {}, 7, ZERO, alone_waits=False).seconds == 10


def test_a_running_phase_is_forecast_at_its_own_pace_from_where_it_was_resumed() -> None:
    found = board(
        [began(), queued(CELLS[0]), started(CELLS[0], 0), progress(CELLS[0], 10, 50), progress(CELLS[0], 20, 60)]
    )
    assert left_of_phase(found.jobs[CELLS[0]], at(20)) == pytest.approx(40)  # 10 steps in 10 s, 40 are left
    assert forecast(found.jobs.values(), {}, 1, at(20), alone_waits=True).seconds == pytest.approx(40)


def test_what_a_phase_does_before_it_counts_has_no_part_in_its_pace() -> None:
    """Compiling the renderer takes as long as hundreds of images."""
    compiles = Progress(time=at(0), run="1", job=CELLS[0], phase="train", note="compiles")
    news = [started(CELLS[0], 0), compiles, progress(CELLS[0], 100, 2), progress(CELLS[0], 110, 12)]
    found = board([began(), queued(CELLS[0]), *news])
    assert left_of_phase(found.jobs[CELLS[0]], at(110)) == pytest.approx(88)  # 10 steps in 10 s, 88 are left


def test_nothing_is_guessed() -> None:
    found = board([began(), queued(CELLS[0]), queued("oracle small", kind="oracle"), started(CELLS[0], 0)])
    left = forecast(found.jobs.values(), {"render roads": 99.0}, 1, at(5), alone_waits=True)
    assert (left.seconds, left.unknown) == (0.0, 2)
    assert told(left) == "ETA unknown: 2 jobs of unknown length"
    assert left_of_phase(found.jobs[CELLS[0]], at(5)) is None


def test_cells_that_differ_in_the_seed_alone_are_one_row() -> None:
    assert len({row_of(cell) for cell in CELLS}) == 1
    assert row_of("time roads-net-baseline-s0-0123456789") == "time roads-net-baseline"


@pytest.mark.parametrize(
    ("seconds", "text"), [(3.4, "3 s"), (75, "1 min 15 s"), (3600 * 5 + 61, "5 h 01 min"), (90_000, "1 d 1 h")]
)
def test_times_are_told_in_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text
