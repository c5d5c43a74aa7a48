"""When the whole matrix will be done: from what its jobs took, what a plan priced, and how far the running ones are.

Nothing is guessed: where no job of a kind has ended, none is far enough to tell and no price is known, there is no forecast for that
kind, and the whole is "at least".
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from statistics import median

from harness.report.text import counted
from harness.watching.board import JobView
from harness.watching.events import seconds_between

_SEED = re.compile(r"-s\d+-[0-9a-f]+$")

FAR_ENOUGH = 0.02
"""The share of its steps after which a running phase tells how long it takes."""


@dataclass(frozen=True)
class Forecast:
    """Seconds until everything is done, and how many jobs nobody can say anything of yet."""

    seconds: float
    unknown: int


def row_of(job: str) -> str:
    """What a job's duration depends on most, by its name: all but the seed."""
    return _SEED.sub("", job)


def forecast(
    jobs: Iterable[JobView], durations: Mapping[str, float], width: int, now: datetime, *, alone_waits: bool
) -> Forecast:
    """What is left of some jobs. durations: seconds of jobs that ended. width: how many go at once.

    alone_waits: whether a job that has its machine for itself holds up the others, as on a single machine.
    """
    known = Durations(durations)
    beside, alone, unknown = 0.0, 0.0, 0
    longest = 0.0
    for job in jobs:
        if job.state not in {"queued", "running", "lost"}:
            continue
        left = left_of(job, known, now)
        if left is None:
            unknown += 1
        elif job.alone and alone_waits:
            alone += left
        else:
            beside += left
            longest = max(longest, left)
    return Forecast(alone + max(longest, beside / max(1, width)), unknown)


class Durations:
    """What jobs took: the median of those that differ in the seed alone, else of all of a kind."""

    def __init__(self, durations: Mapping[str, float]) -> None:
        rows: dict[str, list[float]] = defaultdict(list)
        kinds: dict[str, list[float]] = defaultdict(list)
        for job, seconds in durations.items():
            rows[row_of(job)].append(seconds)
            kinds[kind_word(job)].append(seconds)
        self.rows = {row: median(values) for row, values in rows.items()}
        self.kinds = {kind: median(values) for kind, values in kinds.items()}

    def of(self, job: JobView) -> float | None:
        """Seconds that a job will take: its own row's, its price, or its kind's; None where there is nothing to go by."""
        row = self.rows.get(row_of(job.name))
        if row is not None:
            return row
        return job.expected_seconds if job.expected_seconds is not None else self.kinds.get(kind_word(job.name))


def kind_word(job: str) -> str:
    """The kind of a job by its name: `render`, `oracle`, `time`, or nothing for a cell."""
    first, space, _ = job.partition(" ")
    return first if space else ""


def left_of(job: JobView, durations: Durations, now: datetime) -> float | None:
    """Seconds that are left of a job; None where nobody can say."""
    whole = durations.of(job)
    if job.state != "running" or job.started is None:
        return whole
    pace = left_of_phase(job, now)
    if whole is None:
        return pace
    # What a phase shows of itself is nearer to the truth than what others took, where it is the longer.
    return max(whole - seconds_between(job.started, now), pace or 0.0)


def left_of_phase(job: JobView, now: datetime) -> float | None:
    """Seconds that are left of the phase that a job is in, at its own pace; None while it isn't far enough to tell."""
    if job.phase_started is None or not job.total:
        return None
    made = job.step - job.first_step
    elapsed = seconds_between(job.phase_started, now)
    if made < FAR_ENOUGH * job.total or made <= 0 or elapsed < 1:
        return None
    return elapsed / made * (job.total - job.step)


def duration(seconds: float) -> str:
    """A time as people say it, two units of it."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def told(found: Forecast) -> str:
    """A forecast in words."""
    if not found.unknown:
        return f"ETA {duration(found.seconds)}"
    jobs = f"{counted(found.unknown, 'job')} of unknown length"
    return f"ETA {duration(found.seconds)} and {jobs}" if found.seconds else f"ETA unknown: {jobs}"
