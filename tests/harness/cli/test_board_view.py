"""The board as it is drawn on a terminal."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from harness.cli.board_view import BoardView
from harness.watching.board import Board
from harness.watching.events import Progress, Queued, RunStarted, Started


def test_what_waits_in_a_schedulers_queue_has_a_line_that_says_why_and_does_not_run() -> None:
    board = Board()
    common: dict[str, Any] = {"time": datetime.now(UTC), "run": "1"}
    board.take([RunStarted(**common, suite="s", engine="slurm", host="h", pid=7, cells=2, done=0)])
    for job in ("a", "b", "c"):
        board.take([Queued(**common, job=job, kind="cell", alone=False)])
    for job, phase, note in (("a", "waits", "slurm 9_0 PENDING (Resources)"), ("b", "train", "loss 1")):
        board.take([Started(**common, job=job), Progress(**common, job=job, phase=phase, note=note)])
    console = Console(width=120)
    with console.capture() as drawn:
        console.print(BoardView("s", lambda: board))
    head, running, waiting = (" ".join(line.split()) for line in drawn.get().splitlines())
    assert head.startswith("s: 1 running, 2 queued, 0 done of 3 jobs")
    assert "b train" in running
    assert waiting.startswith("a waits")
    assert waiting.endswith("slurm 9_0 PENDING (Resources)")
