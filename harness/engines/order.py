"""The order in which jobs run: when one may start, and when it never will."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from harness.engines.base import Job, Outcome


def skipped(jobs: Sequence[Job], outcomes: Mapping[str, Outcome]) -> list[Outcome]:
    """The outcomes of jobs without one that need a job which did not end well, those behind them included."""
    ended = dict(outcomes)
    found: list[Outcome] = []
    while True:
        more = [
            Outcome(job.name, "skipped", message=f"needs {failed[0]}, which did not end well")
            for job in jobs
            if job.name not in ended
            and (failed := [name for name in job.needs if name in ended and ended[name].state != "done"])
        ]
        if not more:
            return found
        found += more
        ended |= {outcome.job: outcome for outcome in more}


def ready(jobs: Sequence[Job], outcomes: Mapping[str, Outcome], begun: Collection[str]) -> list[Job]:
    """The jobs, in order, that are neither ended nor begun and whose needs are all done."""
    return [
        job
        for job in jobs
        if job.name not in outcomes
        and job.name not in begun
        and all(name in outcomes and outcomes[name].state == "done" for name in job.needs)
    ]
