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
