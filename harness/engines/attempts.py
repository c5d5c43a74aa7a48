"""Jobs that start again: those that a fault of the infrastructure ended, a bounded number of times, each time after a longer pause."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

from harness.engines.base import Job, Listener, Outcome
from harness.processes.progress import WAITS, Event

BACK_OFF_SECONDS = (1.0, 10.0, 60.0, 300.0)
"""The pause before each attempt after the first: what a killed process, a full disk or a mount that is back in minutes needs."""


@dataclass
class Attempts:
    """What became of the jobs of one run of an engine, which `listener` is told: how they ended, and which start again.

    pauses: before each attempt after the first. outcomes: those that are final. counts, until: how often a job started again, and when
    its pause is over by the monotonic clock.
    """

    listener: Listener
    pauses: tuple[float, ...] = BACK_OFF_SECONDS
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    until: dict[str, float] = field(default_factory=dict)

    def started(self, job: Job) -> None:
        """A job has a process, or a place in a queue: told once, however often it starts."""
        if job.name not in self.counts:
            self.listener.started(job)

    def ended(self, outcome: Outcome) -> None:
        """An attempt ended so: the job starts again after a pause, or that is how it ends."""
        if self.again(outcome):
            return
        count = self.counts.get(outcome.job, 0)
        if outcome.state == "failed" and count:
            outcome = replace(outcome, message=f"{outcome.message} ({count + 1} attempts)")
        self.final(outcome)

    def again(self, outcome: Outcome) -> bool:
        """Whether a job whose attempt ended so is to start again; if so it pauses from now on."""
        count = self.counts.get(outcome.job, 0)
        if outcome.state != "failed" or outcome.kind != "infrastructure" or count >= len(self.pauses):
            return False
        pause = self.pauses[count]
        self.counts[outcome.job] = count + 1
        self.until[outcome.job] = time.monotonic() + pause
        note = f"{outcome.message}; starts again in {pause:g} s ({count + 1} of {len(self.pauses)} times)"
        self.listener.event(Event(outcome.job, WAITS, note=note))
        return True

    def final(self, outcome: Outcome) -> None:
        """Keep and tell how a job ended."""
        self.outcomes[outcome.job] = outcome
        self.listener.ended(outcome)

    def pausing(self) -> set[str]:
        """The jobs whose pause isn't over."""
        now = time.monotonic()
        self.until = {job: until for job, until in self.until.items() if until > now}
        return set(self.until)
