"""How running work is shown: a live board on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.live import Live

from harness.cli.board_view import BoardView, summary, whole_forecast
from harness.cli.console import say
from harness.engines.base import Job, Listener, Outcome
from harness.files.locks import Held
from harness.processes.progress import WAITS, Event
from harness.watching.board import Board
from harness.watching.events import now
from harness.watching.forecast import duration, left_of_phase

DATA_MISSING = "data missing"
"""The state of a cell whose data isn't at hand."""

LINE_SECONDS = 15.0
"""In a log, a running phase says something this often."""

WHOLE_SECONDS = 30.0
"""In a log, the whole matrix says where it stands so often at most, when a job ends."""

DRAWN_A_SECOND = 4.0


class Display(Listener, Protocol):
    """Shows what an engine tells, between entering and leaving it as a context."""

    def __enter__(self) -> Self:
        """Begin to show."""

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave what stays."""


class TerminalDisplay:
    """The board, drawn anew while it changes; each job that ends leaves a line above it. Use as a context."""

    def __init__(self, console: Console, title: str, board: Board) -> None:
        self.console = console
        self.live = Live(
            BoardView(title, lambda: board), console=console, refresh_per_second=DRAWN_A_SECOND, transient=True
        )

    def __enter__(self) -> Self:
        self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.live.stop()

    def started(self, job: Job) -> None:
        """The board has it."""

    def event(self, event: Event) -> None:
        """The board has it."""

    def ended(self, outcome: Outcome) -> None:
        """Leave a line that stays."""
        say(self.console, ended_line(outcome))


class PlainDisplay:
    """A line when a job starts, when a phase does, every LINE_SECONDS of a phase, and at the end. Use as a context."""

    def __init__(self, console: Console, board: Board) -> None:
        self.console = console
        self.board = board
        self.begun = time.monotonic()
        self.told_whole = self.begun
        self.phases: dict[str, str] = {}
        self.spoken: dict[str, float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def say(self, text: str) -> None:
        """One line with the time since the start."""
        clock = f"[{time.monotonic() - self.begun:6.1f} s] "
        say(self.console, clock + text)

    def started(self, job: Job) -> None:
        """Say that a job starts."""
        self.say(f"{job.name}: starts")

    def event(self, event: Event) -> None:
        """Say where a phase stands, not too often; what a job waits for every time, for it is told when it changes alone."""
        moment = time.monotonic()
        same = self.phases.get(event.job) == event.phase and event.phase != WAITS
        if same and moment - self.spoken[event.job] < LINE_SECONDS:
            return
        self.phases[event.job] = event.phase
        self.spoken[event.job] = moment
        count = f" {event.step}/{event.total}" if event.total else ""
        self.say(f"{event.job}: {event.phase}{count} {event.note}{self.eta(event.job)}".rstrip())

    def eta(self, job: str) -> str:
        """The time left of a phase, once it is known."""
        left = left_of_phase(self.board.jobs[job], now()) if job in self.board.jobs else None
        return f", ETA {duration(left)}" if left else ""

    def ended(self, outcome: Outcome) -> None:
        """Say how a job ended, and now and then where the whole stands."""
        self.say(ended_line(outcome))
        if time.monotonic() - self.told_whole >= WHOLE_SECONDS:
            self.told_whole = time.monotonic()
            self.say(summary(self.board, whole_forecast(self.board, now())))


class Guard:
    """Ends a run whose folder was lost, when a job doesn't end well. InputError."""

    def __init__(self, held: Held) -> None:
        self.held = held

    def started(self, job: Job) -> None:
        """Nothing to look at."""

    def event(self, event: Event) -> None:
        """Nothing to look at."""

    def ended(self, outcome: Outcome) -> None:
        """Look whether the folder is still there."""
        if outcome.state == "failed":
            self.held.refuse_vanished()


class Listeners:
    """Tells several listeners the same, in order."""

    def __init__(self, *listeners: Listener) -> None:
        self.listeners = listeners

    def started(self, job: Job) -> None:
        """Pass it on."""
        for listener in self.listeners:
            listener.started(job)

    def event(self, event: Event) -> None:
        """Pass it on."""
        for listener in self.listeners:
            listener.event(event)

    def ended(self, outcome: Outcome) -> None:
        """Pass it on."""
        for listener in self.listeners:
            listener.ended(outcome)


def ended_line(outcome: Outcome) -> str:
    """How a job ended, in a line."""
    if outcome.state == "done":
        return f"{outcome.job}: done in {outcome.seconds:.1f} s"
    return f"{outcome.job}: {outcome.state}: {outcome.message}"


def display_for(console: Console, title: str, board: Board) -> Display:
    """The display that fits where the console writes to. board: what the engine's news are put on before they are shown."""
    return TerminalDisplay(console, title, board) if console.is_terminal else PlainDisplay(console, board)
