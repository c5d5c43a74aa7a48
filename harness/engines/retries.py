"""Jobs that start again: those that a fault of the infrastructure ended, a bounded number of times, each time after a longer pause."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

from harness.engines.base import Job, Listener, Outcome
from harness.processes.progress import Event

BACK_OFF_SECONDS = (1.0, 10.0, 60.0, 300.0)
"""The pause before each attempt after the first: what a killed process, a full disk or a mount that is back in minutes needs."""


@dataclass
class Retries:
    """What was tried again in one run of an engine, by the monotonic clock. pauses: before each attempt after the first."""

    pauses: tuple[float, ...] = BACK_OFF_SECONDS
    counts: dict[str, int] = field(default_factory=dict)
    until: dict[str, float] = field(default_factory=dict)

    def again(self, outcome: Outcome, listener: Listener) -> bool:
        """Whether a job that ended so is to start again; if so it pauses from now on, which `listener` is told."""
        count = self.counts.get(outcome.job, 0)
        if outcome.state != "failed" or outcome.kind != "infrastructure" or count >= len(self.pauses):
            return False
        pause = self.pauses[count]
        self.counts[outcome.job] = count + 1
        self.until[outcome.job] = time.monotonic() + pause
        note = f"{outcome.message}; starts again in {pause:g} s ({count + 1} of {len(self.pauses)} times)"
        listener.event(Event(outcome.job, "waits", note=note))
        return True

    def pausing(self) -> set[str]:
        """The jobs whose pause isn't over."""
        now = time.monotonic()
        self.until = {job: until for job, until in self.until.items() if until > now}
        return set(self.until)

    def started(self, job: Job, listener: Listener) -> None:
        """Tell that a job has a process, or a place in a queue: once, however often it starts."""
        if job.name not in self.counts:
            listener.started(job)

    def told(self, outcome: Outcome) -> Outcome:
        """An outcome that is final, with the number of attempts where there were more than one."""
        count = self.counts.get(outcome.job, 0)
        if outcome.state != "failed" or not count:
            return outcome
        return replace(outcome, message=f"{outcome.message} ({count + 1} attempts)")
