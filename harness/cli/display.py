"""How running work is shown: live bars on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as EtaColumn

from harness.engines.base import Job, Outcome
from harness.progress import Event

DATA_MISSING = "data missing"
"""The state of a cell whose data isn't at hand."""

LINE_SECONDS = 15.0
"""In a log, a running phase says something this often."""


class TerminalDisplay:
    """One live line a running job: what runs, its phase, step, loss and the time left. Use as a context."""

    def __init__(self, console: Console, jobs: int) -> None:
        self.console = console
        self.tasks: dict[str, TaskID] = {}
        self.progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TextColumn("[cyan]{task.fields[phase]}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            EtaColumn(),
            console=console,
            transient=True,
        )
        self.whole = self.progress.add_task("all jobs", total=jobs, phase="", note="")

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def started(self, job: Job) -> None:
        """Show a line for the job."""
        self.tasks[job.name] = self.progress.add_task(escape(job.name), total=None, phase="starts", note="")

    def event(self, event: Event) -> None:
        """Update the job's line; a new phase starts its own clock."""
        task = self.tasks[event.job]
        if self.progress.tasks[self.progress.task_ids.index(task)].fields["phase"] != event.phase:
            self.progress.reset(task, total=event.total or None, phase=event.phase)
        self.progress.update(task, completed=event.step, total=event.total or None, note=escape(event.note))

    def ended(self, outcome: Outcome) -> None:
        """Take the job's line away and leave one that stays."""
        task = self.tasks.pop(outcome.job, None)
        if task is not None:
            self.progress.remove_task(task)
        self.progress.advance(self.whole)
        self.console.print(ended_line(outcome), highlight=False, markup=False, soft_wrap=True)


class PlainDisplay:
    """A line when a job starts, when a phase does, every LINE_SECONDS of a phase, and at the end. Use as a context."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.begun = time.monotonic()
        self.phases: dict[str, str] = {}
        self.spoken: dict[str, float] = {}
        self.phase_begun: dict[str, float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def say(self, text: str) -> None:
        """One line with the time since the start."""
        clock = f"[{time.monotonic() - self.begun:6.1f} s] "
        self.console.print(clock + text, highlight=False, markup=False, soft_wrap=True)

    def started(self, job: Job) -> None:
        """Say that a job starts."""
        self.say(f"{job.name}: starts")

    def event(self, event: Event) -> None:
        """Say where a phase stands, not too often."""
        now = time.monotonic()
        if self.phases.get(event.job) != event.phase:
            self.phases[event.job] = event.phase
            self.phase_begun[event.job] = now
        elif now - self.spoken[event.job] < LINE_SECONDS:
            return
        self.spoken[event.job] = now
        count = f" {event.step}/{event.total}" if event.total else ""
        self.say(f"{event.job}: {event.phase}{count} {event.note}{self.eta(event, now)}".rstrip())

    def eta(self, event: Event, now: float) -> str:
        """The time left of a phase, once it is known."""
        elapsed = now - self.phase_begun[event.job]
        if not event.step or elapsed < 1 or event.step >= event.total:
            return ""
        return f", ETA {elapsed / event.step * (event.total - event.step):.0f} s"

    def ended(self, outcome: Outcome) -> None:
        """Say how a job ended."""
        self.say(ended_line(outcome))


def ended_line(outcome: Outcome) -> str:
    """How a job ended, in a line."""
    if outcome.state == "done":
        return f"{outcome.job}: done in {outcome.seconds:.1f} s"
    return f"{outcome.job}: {outcome.state}: {outcome.message}"


def display_for(console: Console, jobs: int) -> TerminalDisplay | PlainDisplay:
    """The display that fits where the console writes to."""
    return TerminalDisplay(console, jobs) if console.is_terminal else PlainDisplay(console)
