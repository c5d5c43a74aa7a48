"""A listener that remembers what an engine tells it."""

from __future__ import annotations

from collections.abc import Callable

from harness.engines.base import Job, Outcome
from harness.processes.progress import Event


class Notes:
    """order: `+job` where one started, `-job` where one ended. act: what it does on hearing an event."""

    def __init__(self, act: Callable[[Event], None] = lambda event: None) -> None:
        self.act = act
        self.order: list[str] = []
        self.events: list[Event] = []

    @property
    def waits(self) -> list[str]:
        return [event.note for event in self.events if event.phase == "waits"]

    def started(self, job: Job) -> None:
        self.order.append(f"+{job.name}")

    def event(self, event: Event) -> None:
        self.events.append(event)
        self.act(event)

    def ended(self, outcome: Outcome) -> None:
        self.order.append(f"-{outcome.job}")
