"""Where every cell of a suite stands, and the artefacts that the cells need."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from harness.cell.artefacts import own_oracle_phase, rendering_phase
from harness.cell.keys import CellPhases, cell_phases, content_key, records_folder
from harness.cell.phases import Phase, PhaseState, phase_state, phase_states
from harness.errors import InputError
from harness.files.stored import no_collection
from harness.matrix.micro_batches import Reduction, current_cells, read_reductions, reductions_of
from harness.matrix.recorded import SuiteCells, expected_of, file_names
from harness.programs.cell import ProgramCell, ProgramPhases, program_cells, program_phases
from harness.suite import EVERYTHING, Cell, Choice, Suite, cells_of

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

    unavailable: cells whose data isn't at hand, so that nobody can say where they stand, each with the reason in a line. problems: the
    same reasons by dataset. given_up: ids of cells that aren't to be run, for they have just failed.
    """

    suite: Suite
    results: Path
    cells: tuple[CellState, ...]
    artefacts: tuple[tuple[Phase, PhaseState], ...]
    unavailable: tuple[tuple[AnyCell, str], ...] = ()
    given_up: frozenset[str] = frozenset()
    problems: Mapping[str, str] = field(default_factory=dict)

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
def make_plan(suite: Suite, results: Path, choice: Choice = EVERYTHING) -> Plan:
    """Look at what is there; runs nothing and writes nothing."""
    reductions = read_reductions(results, suite.name)
    trained = current_cells(cells_of(suite, choice), reductions)
    reduced = reductions_of(trained, reductions)
    programs = program_cells(suite, choice)
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
    return Plan(suite, results, tuple(states), tuple(artefacts.values()), tuple(unavailable), problems=problems)


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
    oracle = own_oracle_phase(results, cell) if isinstance(cell, Cell) else None
    return found if oracle is None else [*found, oracle]
