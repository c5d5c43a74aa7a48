"""Running a plan: dispatch to an engine, how each job ended, and the records that are missing."""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from harness.cell.assembly import assemble_record, kept_flags
from harness.cell.keys import records_folder
from harness.cell.phases import Phase, phase_states, set_aside
from harness.engines.base import Engine, Job, Listener, Outcome
from harness.errors import InputError, InputWarning
from harness.files.stored import no_collection, sha256_of_file, write_json
from harness.matrix.jobs import jobs_of
from harness.matrix.plan import AnyCell, Plan
from harness.matrix.recorded import outcomes_file, read_outcomes, record_paths
from harness.processes.faults import worded
from harness.processes.progress import Event
from harness.programs.cell import ProgramCell, record_program
from harness.records.counts import read_counts, scope_scores
from harness.records.record import Record, read_record, write_record
from harness.suite import Cell
from harness.watching.heartbeats import alive_folder, kept_alive


class Recording:
    """A listener that passes on what it hears, and keeps at once which jobs didn't end well and why."""

    def __init__(self, listener: Listener, results: Path, suite: str) -> None:
        self.listener, self.file = listener, outcomes_file(results, suite)
        self.ended_badly = read_outcomes(results, suite)

    def started(self, job: Job) -> None:
        """See `harness.engines.base.Listener`."""
        self.listener.started(job)

    def event(self, event: Event) -> None:
        """See `harness.engines.base.Listener`."""
        self.listener.event(event)

    def ended(self, outcome: Outcome) -> None:
        """See `harness.engines.base.Listener`."""
        self.listener.ended(outcome)
        self.keep([outcome])

    def keep(self, outcomes: Iterable[Outcome]) -> None:
        """Write down which of some jobs didn't end well, if that is news."""
        now = dict(self.ended_badly)
        for outcome in outcomes:
            now.pop(outcome.job, None)
            if outcome.state != "done":
                now[outcome.job] = outcome.message
        if now != self.ended_badly:
            self.ended_badly = now
            try:
                write_json(self.file, now)
            except (OSError, InputError) as error:  # no room, or no folder any more: no reason to end what runs
                told = f"{self.file}: how jobs ended can't be kept ({worded(error)}); the run goes on without"
                warnings.warn(told, InputWarning, stacklevel=2)


def run(plan: Plan, engine: Engine, listener: Listener) -> list[Outcome]:
    """Run what is pending, then assemble the records that are missing although their phases are done.

    How each job ended is kept for `status` and the leaderboard, in outcomes.json of the suite's folder, until it runs again.
    """
    recording = Recording(listener, plan.results, plan.suite.name)
    alive = alive_folder(plan.results, plan.suite.name)
    outcomes = engine.run([kept_alive(job, alive) for job in jobs_of(plan)], recording)
    bad = {outcome.job.removeprefix("time ") for outcome in outcomes if outcome.state != "done"}
    assembled = assemble_missing(plan, bad)
    recording.keep([*outcomes, *assembled])
    return [*outcomes, *(outcome for outcome in assembled if outcome.state != "done")]


@no_collection()
def assemble_missing(plan: Plan, without: Collection[str]) -> list[Outcome]:
    """Make the records that are missing although all phases of their cells are done, but for cells in `without`; how that went."""
    found = []
    for state in plan.cells:
        cell = state.cell
        record = records_folder(plan.results, plan.suite.name) / f"{cell.id}.json"
        if cell.id in without or not (state.done or all_done(state.phases.all())):
            continue
        if not holds(record):
            found.append(recorded(plan.results, cell))
        elif isinstance(cell, Cell) and state.done:
            # An oracle may have been accepted where other cells, or another suite, were asked for.
            flag(record, kept_flags(plan.results, cell, state.phases.all()))
    return found


def recorded(results: Path, cell: AnyCell) -> Outcome:
    """Make the record of a cell whose phases are done, and tell how that went: one that can't be made is no reason to make no other."""
    try:
        make_record(results, cell)
    except InputError as error:
        return Outcome(cell.id, "failed", kind="input", message=str(error))
    return Outcome(cell.id, "done")


def all_done(phases: Sequence[Phase]) -> bool:
    """Whether some phases are all done by now."""
    return all(stand.state == "done" for stand in phase_states(phases))


def make_record(results: Path, cell: AnyCell) -> Record:
    """Make the record of a cell of either kind whose phases are done."""
    return record_program(results, cell) if isinstance(cell, ProgramCell) else assemble_record(results, cell)


def flag(path: Path, flags: Sequence[str]) -> None:
    """Write a record anew with the flags that it lacks. All else of it stays: what it was made from may have been freed since."""
    record = read_record(path)
    lacking = [text for text in flags if text not in record.flags]
    if lacking:
        write_record(path.parent, record.model_copy(update={"flags": (*lacking, *record.flags)}))


def holds(path: Path) -> bool:
    """Whether a record is there, and its counts are the ones that it names and was made from.

    One that can't be read, or was changed, is moved to `superseded/`, and a warning says why: it is assembled again.
    """
    if not os.path.lexists(path):
        return False
    try:
        record = read_record(path)
    except InputError as error:
        aside = set_aside(path)
        warnings.warn(f"{error}; it lies in {aside} now and was made again from its phases", InputWarning, stacklevel=2)
        return False
    for evaluation in record.evaluations:
        counts = path.parent / evaluation.counts_file
        if not counts.is_file() or sha256_of_file(counts) != evaluation.counts_sha256:
            return False
        if scope_scores(read_counts(counts)) != evaluation.total:
            return False
    return True


def records_of(plan: Plan) -> list[Record]:
    """The records of the plan's cells that are there, in the order of the cells; those whose data isn't at hand come last."""
    return [read_record(path) for path in record_paths(plan.expected)]
