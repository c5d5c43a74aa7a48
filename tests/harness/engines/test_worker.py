"""What the process of a job says, also on a full disk, and what its end means."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from harness.engines.base import Job, Outcome, Task
from harness.engines.worker_process import outcome_of, worker_command

FULL = Path("/dev/full")

on_a_full_disk = pytest.mark.skipif(not FULL.exists(), reason="no device here is always full")


def worked(task: Task, **streams: Any) -> tuple[list[dict[str, Any]], int]:
    """What the process of a job says, and its exit code."""
    # As it is by default, what is printed is kept and written at the end.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
    ran = subprocess.run(worker_command(), input=pickle.dumps(Job("job", task)), env=environment, **streams)
    return [json.loads(line) for line in (ran.stdout or b"").splitlines()], ran.returncode


def outcome(task: Task, **streams: Any) -> Outcome:
    """How a job ends for whoever started it."""
    said, code = worked(task, **streams)
    return outcome_of("job", said[-1] if said else None, code, 0.0, Path("log"))


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (-9, "infrastructure"),
        (-15, "infrastructure"),
        (130, "infrastructure"),
        (75, "infrastructure"),
        (0, "error"),
        (3, "error"),
    ],
)
def test_a_process_that_is_lost_stopped_by_somebody_or_unheard_is_tried_again(code: int, kind: str) -> None:
    found = outcome_of("job", None, code, 0.0, Path("log"))
    assert (found.state, found.kind) == ("failed", kind)


def test_of_thousands_of_steps_few_are_told_the_last_among_them(jobs: ModuleType) -> None:
    said, _ = worked(partial(jobs.hurries, 5000))
    steps = [one["event"]["step"] for one in said if "event" in one]
    assert (steps[0], steps[-1]) == (1, 5000)
    assert len(steps) < 50


@on_a_full_disk
def test_without_room_for_its_log_a_job_ends_as_it_did(jobs: ModuleType, tmp_path: Path) -> None:
    with open(FULL, "w") as full:
        printing = outcome(partial(jobs.touch, tmp_path / "touched"), stderr=full)
        warning = outcome(jobs.odd_input, stderr=full)
        broken = outcome(jobs.bug, stderr=full)
    assert (printing.state, warning.state) == ("done", "done")
    assert (broken.state, broken.message) == ("failed", "ZeroDivisionError: ouch")


@on_a_full_disk
def test_without_room_for_its_news_a_job_is_worked_to_its_end_and_looked_at_again(
    jobs: ModuleType, tmp_path: Path
) -> None:
    with open(FULL, "w") as full:
        unheard = outcome(partial(jobs.touch, tmp_path / "touched"), stdout=full)
    assert (tmp_path / "touched").exists()
    assert (unheard.state, unheard.kind) == ("failed", "infrastructure")
