"""Running one cell: its phases in order, each unless it is done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from harness.cell.artefacts import open_part
from harness.cell.keys import cell_folder, cell_phases, content_key, set_orphans_aside
from harness.cell.phases import phase_state, run_phase
from harness.files.locks import in_turn
from harness.processes.progress import WAITS, Event, Report
from harness.suite import Cell, ScoredCell
from harness.weights.cache import required, weights_state
from harness.weights.oracles import oracle_state


@contextmanager
def worked_on(results: Path, cell: ScoredCell, report: Report) -> Iterator[None]:
    """Around work on a cell: one process at a time. One that was told to end may still write a checkpoint when the next begins."""
    lock = cell_folder(results, cell) / ".lock"
    with in_turn(lock, lambda: report(Event(cell.id, WAITS, note="for a process that is about to leave it"))):
        yield


def run_cell(results: Path, cell: Cell, report: Report) -> None:
    """Train, predict and score a cell, whatever of that isn't done."""
    with worked_on(results, cell, report):
        run_phases(results, cell, report)


def run_phases(results: Path, cell: Cell, report: Report) -> None:
    """The phases of `run_cell`, by the one process that works on the cell."""
    from harness.cell.predict import choose_threshold, predict_split
    from harness.cell.score import pack_submission, score_split
    from harness.cell.train import train

    phases = cell_phases(results, cell)
    set_orphans_aside(phases.all())
    if phase_state(phases.train).state != "done":
        # Without them the phase's key is another one: what was trained with them would be moved aside for nothing.
        required(weights_state(cell.meta, cell.form))
        if cell.oracle_with_weights is not None:
            required(oracle_state(cell.oracle_with_weights), "oracle weights")
    dataset = open_part(results, cell.identity.dataset, cell.dataset)
    trained = run_phase(
        phases.train,
        partial(train, results, cell, content_key(results, cell.identity.dataset, cell.dataset), dataset, report),
    )
    chosen = None
    if phases.threshold is not None:
        chosen = run_phase(phases.threshold, partial(choose_threshold, cell, trained, dataset, report))
    for name, evaluation in cell.evaluations.items():
        scored = dataset
        if evaluation.dataset is not None:
            scored = open_part(results, evaluation.dataset, cell.datasets[evaluation.dataset])
        predicted = run_phase(
            phases.predict[name], partial(predict_split, cell, trained, chosen, dataset, scored, evaluation, report)
        )
        score = score_split if scored.has_labels(evaluation.split) else pack_submission
        run_phase(phases.score[name], partial(score, cell, scored, evaluation.split, predicted, report))


def timed_split(cell: Cell) -> str:
    """The split of a cell's own dataset whose frames it is timed on: that of its first evaluation there, without one `train`."""
    own = (part.split for part in cell.evaluations.values() if part.dataset is None)
    return next(own, "train")


def time_cell(results: Path, cell: Cell, report: Report) -> None:
    """Time a cell, unless that is done. Nothing else should run on the machine meanwhile."""
    from harness.cell.step_cost import write_step_cost
    from harness.cell.timing import time_detector

    phases = cell_phases(results, cell)
    dataset = open_part(results, cell.identity.dataset, cell.dataset)
    split = timed_split(cell)
    content = content_key(results, cell.identity.dataset, cell.dataset)

    def work(folder: Path) -> None:
        chosen = None if phases.threshold is None else phases.threshold.folder
        time_detector(cell, phases.train.folder, chosen, dataset, split, report, folder)
        write_step_cost(results, cell, content, dataset, report, folder)

    run_phase(phases.time, work)
