"""The trained cells of a suite, whose detectors may look at any pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from detectors.base import Detector
from harness.cell.checkpoint import CHECKPOINT_FILE
from harness.cell.keys import CellPhases, cell_folder, cell_phases, records_folder
from harness.cell.phases import phase_state, read_phase_file
from harness.cell.predict import finished_detector
from harness.errors import InputError
from harness.matrix.plan import AnyCell, Plan, make_plan
from harness.records.record import read_sound_records
from harness.suite import EVERYTHING, Cell, Choice, load_suite


@dataclass(frozen=True)
class TrainedCell:
    """A cell whose detector is finished.

    stale: whether other code trained it than would now. recorded_sha256: of its checkpoint, None where there is no readable record yet.
    """

    cell: Cell
    phases: CellPhases
    stale: bool
    recorded_sha256: str | None

    @property
    def checkpoint(self) -> Path:
        """The file of its weights."""
        return self.phases.train.folder / CHECKPOINT_FILE

    def detector(self) -> Detector:
        """Its detector as it is scored: with the threshold that was chosen for it, where the suite has one chosen."""
        threshold = None if self.phases.threshold is None else self.phases.threshold.folder
        return finished_detector(self.cell, self.phases.train.folder, threshold)


def trained_cells(suite: str, results: Path, choice: Choice = EVERYTHING) -> tuple[list[TrainedCell], list[str]]:
    """The cells of a suite (its name or path) whose detectors are finished, and the names of the others, programs among them.

    What they were trained on needn't be at hand. Reads alone; both may be empty.
    """
    return split_by_training(make_plan(load_suite(suite), results, choice))


def refuse_untrained(suite: str, results: Path) -> None:
    """InputError that says that no cell is trained."""
    none = f"{suite}: no cell is trained yet; `samiro-bench bench {suite}` trains them"
    raise InputError(f"{none} (looked in {results}; --results names another folder of runs)")


def split_by_training(plan: Plan) -> tuple[list[TrainedCell], list[str]]:
    """What `trained_cells` gives of a plan."""
    records = records_folder(plan.results, plan.suite.name)
    found, others = [], []
    looked_at = [(state.cell, state.phases) for state in plan.cells]
    for cell, phases in [*looked_at, *((cell, phases_as_trained(plan, cell)) for cell, _ in plan.unavailable)]:
        if not isinstance(cell, Cell) or not isinstance(phases, CellPhases):
            others.append(cell.id)
            continue
        needed = {phase_state(phase).state for phase in (phases.train, phases.threshold) if phase is not None}
        if needed <= {"done", "stale"}:
            record = records / f"{cell.id}.json"
            found.append(
                TrainedCell(cell, phases, "stale" in needed, recorded_sha256(record) if record.is_file() else None)
            )
        else:
            others.append(cell.id)
    return found, others


def phases_as_trained(plan: Plan, cell: AnyCell) -> CellPhases | None:
    """The phases of a cell whose data isn't at hand, taken to be trained on the labels that its training says; None without one.

    Its detector needs no data: weights, options and code are held against the suite as ever, only the labels can't be.
    """
    folder = cell_folder(plan.results, cell) / "train"
    if not isinstance(cell, Cell) or not folder.is_dir():
        return None
    options = read_phase_file(folder).get("options")
    content = options.get("content") if isinstance(options, dict) else None
    if not isinstance(content, str):
        return None
    return cell_phases(plan.results, cell, dict.fromkeys(cell.datasets, content))


def recorded_sha256(record: Path) -> str | None:
    """What a record says of its cell's checkpoint; None of one that can't be read, which `leaderboard` tells of."""
    sound, _ = read_sound_records([record])
    return sound[0].checkpoint_sha256 if sound else None


def left_out_note(others: Sequence[str]) -> str:
    """What to say of the second list of `trained_cells`, if there is anything in it."""
    return f"not trained here, so left out: {first_of(others)}"


def first_of(names: Sequence[str]) -> str:
    """The first name, and how many there are more."""
    return f"{names[0]} and {len(names) - 1} more" if len(names) > 1 else names[0]
