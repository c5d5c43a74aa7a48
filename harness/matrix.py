"""The matrix of a suite: where every cell stands, what has to run, and its dispatch to an engine."""

from __future__ import annotations

import glob
import os
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from harness.artefacts import build_oracle, build_rendering, oracle_name, oracle_phase, rendering_phase
from harness.assembly import assemble_record, time_and_record
from harness.cell import CellPhases, cell_phases, content_key, records_folder, run_cell
from harness.counts import read_counts, scope_scores
from harness.engines.base import Engine, Job, Listener, Outcome, Resources
from harness.errors import InputError, InputWarning
from harness.faults import worded
from harness.files import no_collection, sha256_of_file, write_json
from harness.micro_batches import Reduction, current_cells, read_reductions, reductions_of
from harness.phases import Phase, PhaseState, phase_state, phase_states, set_aside
from harness.programs.cell import (
    ProgramCell,
    ProgramPhases,
    program_cells,
    program_phases,
    record_program,
    run_program_cell,
)
from harness.progress import Event
from harness.recorded import SuiteCells, expected_of, file_names, outcomes_file, read_outcomes, record_paths
from harness.records import Record, read_record
from harness.suite import Cell, DatasetPart, Suite, cells_of, needs_of
from harness.watching.heartbeats import alive_folder, kept_alive

AnyCell = Cell | ProgramCell
"""A cell that is trained here, or one of a program."""


FOLLOWS = "made with other options: before: "
"""How the reason of a phase begins that only follows from the phase before it."""


@dataclass(frozen=True)
class CellState:
    """Where one cell stands: its phases in order with their states, and whether its record is there."""

    cell: AnyCell
    phases: CellPhases | ProgramPhases
    states: tuple[tuple[Phase, PhaseState], ...]
    recorded: bool
    reduction: Reduction | None = None
    """Why its micro-batch is smaller than the suite has it, where it is."""

    @property
    def done(self) -> bool:
        """Whether nothing is left to do but perhaps the record."""
        return all(state.state == "done" for _, state in self.states)

    @property
    def stale(self) -> list[tuple[Phase, PhaseState]]:
        """The phases that other code made."""
        return [(phase, state) for phase, state in self.states if state.state == "stale"]

    @property
    def trained_before(self) -> bool:
        """Whether there is a training of this cell in larger micro-batches, which doesn't count any more."""
        others = self.phases.folder.parent.glob(f"{glob.escape(self.cell.id.rpartition('-')[0])}-*/train/phase.json")
        return any(path.parents[1] != self.phases.folder for path in others)

    @property
    def state(self) -> Literal["done", "stale", "partial", "missing"]:
        """One word for all phases. `stale`: something there was made by other code, with other options or larger micro-batches."""
        if self.done:
            return "done"
        if any(state.state == "stale" or state.obsolete for _, state in self.states):
            return "stale"
        if any(state.state in {"done", "partial"} for _, state in self.states):
            return "partial"
        return "stale" if self.reduction is not None and self.trained_before else "missing"

    @property
    def first(self) -> str | None:
        """The phase that comes first of those that aren't done; None where all are."""
        return next((phase.name for phase, state in self.states if state.state != "done"), None)

    @property
    def summary(self) -> str:
        """A word or a few for a table: done, stale, partial from which phase, missing."""
        if self.state == "done":
            return "done" if self.recorded else "done, record missing"
        return f"partial, from {self.first}" if self.state == "partial" else self.state

    @property
    def why(self) -> str:
        """Why what is there doesn't hold, phase by phase; each reason once, for what follows from one change has one reason."""
        reasons: dict[str, str] = {}
        for phase, state in self.states:
            if state.reason:
                reasons.setdefault(state.reason, phase.name)
        own = {reason: name for reason, name in reasons.items() if not reason.startswith(FOLLOWS)} or reasons
        reduced = [] if self.reduction is None else [f"trains {self.reduction}"]
        return "; ".join([*(f"{name}: {reason}" for reason, name in own.items()), *reduced])


@dataclass(frozen=True)
class Plan:
    """All cells of a suite with their states, and the artefacts that they need.

    unavailable: cells whose data isn't at hand, so that nobody can say where they stand, each with the reason in a line. given_up: ids
    of cells that aren't to be run, for they have just failed.
    """

    suite: Suite
    results: Path
    cells: tuple[CellState, ...]
    artefacts: tuple[tuple[Phase, PhaseState], ...]
    unavailable: tuple[tuple[AnyCell, str], ...] = ()
    given_up: frozenset[str] = frozenset()

    @property
    def all_cells(self) -> tuple[AnyCell, ...]:
        """Every cell, whether its data is at hand or not."""
        return (*(state.cell for state in self.cells), *(cell for cell, _ in self.unavailable))

    @property
    def untrained(self) -> tuple[Cell, ...]:
        """The cells that are still to be trained, those whose data isn't at hand last."""
        waiting = [state.cell for state in self.cells if state.states[0][1].state != "done"]
        return tuple(cell for cell in (*waiting, *(cell for cell, _ in self.unavailable)) if isinstance(cell, Cell))

    @property
    def expected(self) -> SuiteCells:
        """Every cell, as what its records make a leaderboard of."""
        return expected_of(self.suite, self.results, self.all_cells)

    @property
    def pending(self) -> tuple[CellState, ...]:
        """Cells with something left to run."""
        return tuple(state for state in self.cells if not state.done and state.cell.id not in self.given_up)

    @property
    def counted(self) -> tuple[int, int]:
        """How many cells there are, and how many of them are done."""
        return len(self.cells), sum(state.done for state in self.cells)

    @property
    def stale(self) -> list[tuple[Phase, PhaseState]]:
        """Every stale phase of cells and artefacts."""
        found = [entry for state in self.cells for entry in state.stale]
        return [*(entry for entry in self.artefacts if entry[1].state == "stale"), *found]


@no_collection()
def make_plan(
    suite: Suite,
    results: Path,
    *,
    seeds: int | None = None,
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    tier: str | None = None,
) -> Plan:
    """Look at what is there; runs nothing and writes nothing. `seeds`, `only`, `skip` and `tier` as for `cells_of`."""
    reductions = read_reductions(results, suite.name)
    trained = current_cells(cells_of(suite, seeds=seeds, only=only, skip=skip, tier=tier), reductions)
    reduced = reductions_of(trained, reductions)
    programs = program_cells(suite, seeds=seeds, only=only, skip=skip, tier=tier)
    cells: list[AnyCell] = [*trained, *programs]
    contents, problems = look_up_contents(suite, results, cells)
    states: list[CellState] = []
    unavailable: list[tuple[AnyCell, str]] = []
    artefacts: dict[Path, tuple[Phase, PhaseState]] = {}
    recorded = file_names(records_folder(results, suite.name))
    for cell in cells:
        lacking = [problems[name] for name in cell.datasets if name in problems]
        if lacking:
            unavailable.append((cell, lacking[0]))
            continue
        phases = phases_of(results, cell, contents)
        stand = tuple(zip(phases.all(), phase_states(phases.all()), strict=True))
        states.append(CellState(cell, phases, stand, f"{cell.id}.json" in recorded, reduced.get(cell.id)))
        for phase in prerequisites(results, cell):
            if phase.folder not in artefacts:
                artefacts[phase.folder] = (phase, phase_state(phase))
    return Plan(suite, results, tuple(states), tuple(artefacts.values()), tuple(unavailable))


def phases_of(results: Path, cell: AnyCell, contents: Mapping[str, str]) -> CellPhases | ProgramPhases:
    """The phases of a cell of either kind."""
    if isinstance(cell, ProgramCell):
        return program_phases(results, cell, contents)
    return cell_phases(results, cell, contents)


def look_up_contents(suite: Suite, results: Path, cells: Sequence[AnyCell]) -> tuple[dict[str, str], dict[str, str]]:
    """The content keys of the datasets that some cells read, each opened once, and what is wrong with those that can't be."""
    contents, problems = {}, {}
    for name in dict.fromkeys(name for cell in cells for name in cell.datasets):
        try:
            contents[name] = content_key(results, name, suite.datasets[name])
        except InputError as error:
            problems[name] = str(error)
    return contents, problems


def refuse_unavailable(plan: Plan) -> None:
    """InputError if the data of some cells isn't at hand."""
    if plan.unavailable:
        raise InputError(plan.unavailable[0][1])


def prerequisites(results: Path, cell: AnyCell) -> list[Phase]:
    """The artefacts of a cell in the order in which they are built."""
    found = [rendering_phase(results, part.rendered) for part in cell.datasets.values() if part.rendered is not None]
    if isinstance(cell, Cell) and cell.oracle is not None and cell.oracle_dataset is not None:
        found.append(oracle_phase(results, oracle_name(cell), cell.oracle, cell.oracle_dataset))
    return found


def jobs_of(plan: Plan) -> tuple[Job, ...]:
    """What has to run, artefacts before cells, time measurements last and alone."""
    jobs: dict[str, Job] = {}
    for state in plan.pending:
        cell, needs, resources = state.cell, [], resources_of(plan.suite, state.cell)
        untrained = state.states[0][1].state != "done"
        for name, part in cell.datasets.items():
            job = rendering_job(plan, name, part)
            if job is not None:
                jobs.setdefault(job.name, job)
                needs.append(job.name)
        if isinstance(cell, ProgramCell):
            task = partial(run_program_cell, plan.results, cell)
            jobs[cell.id] = Job(cell.id, task, tuple(needs), exclusive=True, resources=resources)
            continue
        if untrained and cell.oracle is not None and cell.oracle_dataset is not None:
            phase = oracle_phase(plan.results, oracle_name(cell), cell.oracle, cell.oracle_dataset)
            if phase_state(phase).state != "done":
                name = f"oracle {phase.name}"
                task = partial(
                    build_oracle,
                    plan.results,
                    oracle_name(cell),
                    cell.oracle,
                    cell.oracle_dataset,
                    plan.suite.training,
                    name,
                )
                jobs.setdefault(name, Job(name, task, tuple(needs), resources=resources_of(plan.suite)))
                needs.append(name)
        if any(phase_state(phase).state != "done" for phase in state.phases.all()[:-1]):
            jobs[cell.id] = Job(cell.id, partial(run_cell, plan.results, cell), tuple(needs), resources=resources)
            needs.append(cell.id)
        timing, task = f"time {cell.id}", partial(time_and_record, plan.results, cell)
        jobs[timing] = Job(timing, task, tuple(needs), exclusive=True, resources=resources)
    return tuple(jobs.values())


def rendering_job(plan: Plan, name: str, part: DatasetPart) -> Job | None:
    """The job that renders a dataset, None if there is nothing to render."""
    if part.rendered is None or phase_state(rendering_phase(plan.results, part.rendered)).state == "done":
        return None
    title = f"render {name}"
    task = partial(build_rendering, plan.results, part.rendered, title)
    return Job(title, task, exclusive=True, resources=replace(resources_of(plan.suite), gpu=False))


def resources_of(suite: Suite, cell: AnyCell | None = None) -> Resources:
    """What the jobs of a cell need; without one, what a job needs that builds what cells share, in one process."""
    needs = needs_of(suite, None if cell is None else cell.identity)
    return Resources(
        processes=1 if cell is None else suite.training.processes,
        gpu=suite.training.device != "cpu",
        **needs.model_dump(),
    )


class Recording:
    """A listener that passes on what it hears, and keeps at once which jobs didn't end well and why."""

    def __init__(self, listener: Listener, results: Path, suite: str) -> None:
        self.listener, self.file, self.ended_badly = (
            listener,
            outcomes_file(results, suite),
            read_outcomes(results, suite),
        )

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
        if cell.id not in without and (state.done or all_done(state.phases.all())) and not holds(record):
            found.append(recorded(plan.results, cell))
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
