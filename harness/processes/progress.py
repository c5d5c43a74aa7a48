"""What running work says of itself: small events that travel from a cell to whoever shows them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """One piece of news of a job. `phase` is what runs; `step` of `total`; `note` is short text such as a loss."""

    job: str
    phase: str
    step: int = 0
    total: int = 0
    note: str = ""


WAITS = "waits"
"""The phase of a job that has no process: it is in a scheduler's queue, or pauses before another attempt; or of one that waits
for another process to leave its cell, or to make what both need."""

CHECKPOINTED = frozenset({"train", "pretrain"})
"""Phases that write a checkpoint when they are asked to stop, from which the next run goes on; all others begin anew."""


def stopping(job: str, last: Event | None, again: str) -> Event:
    """That a job is asked to stop, and what that costs. last: its latest news, None without any. again: what a second Ctrl-C does."""
    kept = last is not None and last.phase in CHECKPOINTED and last.step < last.total
    how = "after a checkpoint" if kept else "without a checkpoint, so what it was at begins anew"
    return Event(job, "stops", note=f"{how}; Ctrl-C again {again}")


Report = Callable[[Event], None]
"""Takes an event; must be quick and never fail the work."""


def throttled(report: Report, seconds: float) -> Report:
    """Pass on at most one event of a phase in `seconds`, and always its first and its last."""
    from time import monotonic

    last: dict[tuple[str, str], float] = {}

    def passed_on(event: Event) -> None:
        key = (event.job, event.phase)
        now = monotonic()
        if key not in last or event.step >= event.total or now - last[key] >= seconds:
            last[key] = now
            report(event)

    return passed_on
