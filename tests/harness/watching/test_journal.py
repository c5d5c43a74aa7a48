"""The file of a run says what its jobs did and how it ended, without a line for every step."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from harness.engines.base import Job, Outcome
from harness.processes.progress import Event
from harness.watching.events import Ended, EventReader, Progress, RunEnded, RunEvent, events_folder
from harness.watching.heartbeats import alive_folder, read_heartbeats
from harness.watching.journal import journal

JOB = Job("job", print)


def told(folder: Path) -> list[RunEvent]:
    return list(EventReader(events_folder(folder, "suite")).read())


@pytest.mark.parametrize(("ends", "why"), [(None, "finished"), (KeyboardInterrupt, "stopped"), (OSError, "error")])
def test_a_run_says_how_it_ended_and_lives_until_then(
    tmp_path: Path, ends: type[BaseException] | None, why: str
) -> None:
    with suppress(KeyboardInterrupt, OSError), journal(tmp_path, "suite", "local", [JOB], (1, 0), {}):
        assert list(read_heartbeats(alive_folder(tmp_path, "suite"))) == [f"bench {told(tmp_path)[0].run}"]
        if ends is not None:
            raise ends
    last = told(tmp_path)[-1]
    assert isinstance(last, RunEnded)
    assert last.why == why
    assert read_heartbeats(alive_folder(tmp_path, "suite")) == {}


def test_a_run_without_jobs_leaves_no_trace(tmp_path: Path) -> None:
    with journal(tmp_path, "suite", "local", [], (1, 1), {}):
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_first_and_the_last_step_of_a_phase_are_written_and_all_are_on_the_board(tmp_path: Path) -> None:
    with journal(tmp_path, "suite", "local", [JOB], (1, 0), {}) as kept:
        kept.started(JOB)
        for phase, step in (("train", 1), ("train", 2), ("train", 3), ("predict", 1), ("predict", 2)):
            kept.event(Event("job", phase, step, 3))
            assert (kept.board.jobs["job"].phase, kept.board.jobs["job"].step) == (phase, step)
        kept.ended(Outcome("job", "failed", kind="error", message="ouch"))
        kept.event(Event("job", "predict", 2, 3))  # it runs again
    written = [event for event in told(tmp_path) if isinstance(event, Progress | Ended)]
    assert [(one.phase, one.step) if isinstance(one, Progress) else one.message for one in written] == [
        ("train", 1),
        ("train", 3),
        ("predict", 1),
        "ouch",
        ("predict", 2),
    ]
