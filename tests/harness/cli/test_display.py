"""What `bench` prints where no terminal shows it."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from harness.cli.display import PlainDisplay
from harness.processes.progress import WAITS, Event
from harness.watching.board import Board


def test_what_a_job_waits_for_is_told_each_time_and_what_runs_now_and_then() -> None:
    """A scheduler's word comes once, when it changes: `PENDING (None)` at first, and its reason a moment later."""
    log = StringIO()
    display = PlainDisplay(Console(file=log, width=200), Board())
    for note in ("slurm 1 PENDING (None)", "slurm 1 PENDING (PartitionTimeLimit)"):
        display.event(Event("cell", WAITS, note=note))
    for step in (1, 2):
        display.event(Event("cell", "train", step=step, total=9))
    lines = [line.split("] ", 1)[1] for line in log.getvalue().splitlines()]
    assert lines == [
        "cell: waits slurm 1 PENDING (None)",
        "cell: waits slurm 1 PENDING (PartitionTimeLimit)",
        "cell: train 1/9",
    ]
