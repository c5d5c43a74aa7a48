"""The board on a terminal: what runs, a line each, and where the whole matrix stands. The same for `bench` and `status --watch`."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from harness.processes.progress import WAITS
from harness.report.text import counted
from harness.watching.board import Board, JobView
from harness.watching.events import now, seconds_between
from harness.watching.forecast import Forecast, duration, forecast, left_of_phase, told

SHOWN = 24
"""Jobs that have a line of their own: those that run, then those that say what they wait for."""

FORECAST_SECONDS = 3.0
"""How often the forecast is made anew: with 10,000 cells it takes some 50 ms."""


def whole_forecast(board: Board, moment: datetime) -> Forecast | None:
    """When the jobs of the newest run and of those still at work will be done; None where there is nothing to do."""
    newest = board.newest
    left = [job for job in list(board.jobs.values()) if job.state in {"queued", "running", "lost"}]
    if newest is None or not left:
        return None
    width = max(board.widest.get(newest.run, 0), sum(job.state == "running" for job in left), 1)
    return forecast(left, board.durations, width, moment, alone_waits=newest.engine == "local")


def summary(board: Board, found: Forecast | None) -> str:
    """Where the whole stands, in a line."""
    jobs = sum(board.tally.values())
    states = [f"{board.tally[state]} {state}" for state in ("running", "queued", "done")]
    states += [f"{board.tally[state]} {state}" for state in ("failed", "skipped", "lost") if board.tally[state]]
    line = f"{', '.join(states)} of {counted(jobs, 'job')}"
    return line if found is None else f"{line}; {told(found)}"


class BoardView:
    """What rich draws of a board that changes. board: gives it as it is now."""

    def __init__(self, title: str, board: Callable[[], Board]) -> None:
        self.title = title
        self.board = board
        self.spinner = Spinner("dots")
        self._forecast: tuple[float, Forecast | None] = (-FORECAST_SECONDS, None)
        self._waiting: list[str] = []

    def __rich__(self) -> RenderableType:
        board, moment = self.board(), now()
        made, found = self._forecast
        if time.monotonic() - made >= FORECAST_SECONDS:
            found = whole_forecast(board, moment)
            self._forecast = (time.monotonic(), found)
            jobs = list(board.jobs.values())
            self._waiting = [job.name for job in jobs if job.state == "queued" and job.phase == WAITS]
        head = Text.assemble((f"{self.title}: ", "bold"), summary(board, found))
        running = board.running
        table = Table.grid(padding=(0, 1))
        for job in running[:SHOWN]:
            table.add_row(self.spinner, *row(job, moment))
        for job in map(board.jobs.__getitem__, self._waiting[: max(0, SHOWN - len(running))]):
            if job.state == "queued":
                table.add_row("", *row(job, moment))
        more = [Text(f"and {len(running) - SHOWN} more run")] if len(running) > SHOWN else []
        return Group(head, table, *more)


def row(job: JobView, moment: datetime) -> tuple[RenderableType, ...]:
    """A job's line: name, phase, how far, a word, for how long, and the time left of its phase."""
    bar = ProgressBar(total=job.total or None, completed=job.step, width=16, pulse=not job.total)
    elapsed = "" if job.started is None else duration(seconds_between(job.started, moment))
    left = left_of_phase(job, moment)
    return (
        escape(job.name),
        Text(job.phase or "starts", style="cyan"),
        bar,
        f"{job.step}/{job.total}" if job.total else "",
        escape(job.note),
        elapsed,
        "" if left is None else f"{duration(left)} left",
        escape(job.host),
    )
