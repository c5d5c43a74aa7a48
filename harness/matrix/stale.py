"""What becomes of results that other code made: the user says it, and until then nothing is touched. Nothing is ever deleted."""

from __future__ import annotations

from pathlib import Path

from harness.cell.assembly import hashed_files, states_its_oracle
from harness.cell.keys import made_from, records_folder
from harness.cell.phases import Phase, accept, set_aside
from harness.errors import InputError
from harness.matrix.plan import CellState, Plan, prerequisites
from harness.report.text import counted
from harness.suite import Cell


def refuse_stale(plan: Plan) -> None:
    """InputError on results of other code: the user says what is to become of them, and nothing is lost meanwhile."""
    if plan.stale:
        phase, state = plan.stale[0]
        more = f" (and {len(plan.stale) - 1} more phases)" if len(plan.stale) > 1 else ""
        raise InputError(
            f"{phase.folder / 'phase.json'}: key 'fingerprint': {state.reason}{more}; `bench --redo-stale` moves such "
            "results aside and makes them again, `bench --accept-stale` keeps them and flags their rows"
        )


def refuse_begun(plan: Plan) -> None:
    """InputError on trainings that other code brought to a checkpoint: this code can't go on with them, and would begin them anew."""
    every = [*plan.artefacts, *(entry for cell in plan.cells for entry in cell.states)]
    begun = [
        (phase, state)
        for phase, state in every
        if state.state == "missing" and state.changed and any(phase.partial.rglob("*.safetensors"))
    ]
    if begun:
        phase, state = begun[0]
        more = f" (and {counted(len(begun) - 1, 'more training')})" if len(begun) > 1 else ""
        raise InputError(
            f"{phase.partial}: holds a training at a checkpoint that {state.reason}{more}; `bench --redo-stale` moves it aside and "
            "trains from the start; with the code that began it, `bench` goes on"
        )


def stale_note(plan: Plan) -> str | None:
    """What tables of a plan's records should say of rows that don't hold any more: how many cells, why the first, and what to do.

    None where all hold, as far as that can be said: of cells whose data isn't at hand it can't.
    """
    reasons = {cell.cell.id: reason for cell in plan.cells if cell.recorded and (reason := outdated_by(plan, cell))}
    if not reasons:
        return None
    name, why = next(iter(reasons.items()))
    count = f"{len(reasons)} of {counted(len(plan.all_cells), 'cell')} {'does' if len(reasons) == 1 else 'do'}n't hold any more"
    remedy = "`bench` makes them again" + (
        ", what other code made with --redo-stale or --accept-stale" if plan.stale else ""
    )
    return f"{count}, and the tables are of what they showed before: {name}: {why}; {remedy}"


def outdated_by(plan: Plan, cell: CellState) -> str:
    """Why a cell doesn't hold any more: what of its own doesn't, else the shared thing of other code that it was trained with; no text
    where it holds, or isn't begun.
    """
    if cell.state == "stale":
        return cell.why
    if cell.state == "missing":
        return ""
    return next((f"{name}: {why}" for name, why in stale_needs(plan, cell).items()), "")


def accept_stale(plan: Plan) -> None:
    """Keep every stale phase as it is; the records say so. InputError, and nothing touched, as `refuse_unrecordable` has it."""
    for cell in outdated(plan):
        refuse_unrecordable(plan, cell)
    # First: a record that stayed when this was killed would keep a row without its flag.
    forget_records(plan)
    for phase, _ in plan.stale:
        accept(phase)


def redo_stale(plan: Plan) -> None:
    """Move every stale phase aside, and with it the phases of its cell that were made from it; a half-way training, with its oracle.

    What was made from something goes before it: killed in between, this has to be asked for again, and nothing counts as done that
    rests on what is made anew. InputError, and nothing touched, as `refuse_unrecordable` has it.
    """
    moved = {cell.cell.id: phases_to_redo(plan, cell) for cell in plan.cells}
    for cell in outdated(plan):
        refuse_unrecordable(plan, cell, trained_anew=any(phase.name == "train" for phase in moved[cell.cell.id]))
    forget_records(plan)
    for phases in moved.values():
        for phase in reversed(phases):
            set_aside(phase.folder)
    for cell in plan.cells:
        # By its own key and code it would go on, from steps towards the oracle that goes.
        if stale_needs(plan, cell) and cell.states[0][0].partial.is_dir():
            set_aside(cell.states[0][0].partial)
    for phase, state in plan.artefacts:
        if state.state == "stale":
            set_aside(phase.folder)


def phases_to_redo(plan: Plan, cell: CellState) -> list[Phase]:
    """The phases of a cell that are there, and stale or made from what is stale; in order."""
    stale = {phase.name for phase, _ in cell.stale} | ({"train"} if stale_needs(plan, cell) else set())
    return [
        phase
        for phase, _ in cell.states
        if phase.folder.is_dir() and (phase.name in stale or stale & made_from(phase.name))
    ]


def stale_needs(plan: Plan, cell: CellState) -> dict[str, str]:
    """What a cell is trained with that cells share and other code made: its name, and why it is stale."""
    stale = stale_artefacts(plan)
    needed = prerequisites(plan.results, cell.cell) if stale else []
    return {phase.name: stale[phase.folder] for phase in needed if phase.folder in stale}


def stale_artefacts(plan: Plan) -> dict[Path, str]:
    """The folders of what cells share and other code made, and why."""
    return {phase.folder: state.reason for phase, state in plan.artefacts if state.state == "stale"}


def refuse_unrecordable(plan: Plan, cell: CellState, *, trained_anew: bool = False) -> None:
    """InputError where a file was freed that a cell's record, or the training that comes before it, can't be made without.

    A cell that stays trained as it is needs all that its record states the hash of, but for an oracle that its training states. One
    that isn't trained, or is `trained_anew`, needs its oracle's weights alone: of an oracle that counts as made, for one that doesn't
    is made first.
    """
    train, state = cell.states[0]
    if not isinstance(cell.cell, Cell):
        return
    checkpoint, *oracle = hashed_files(plan.results, cell.cell, train.folder)
    stays = state.state in {"done", "stale"} and not trained_anew
    oracle = [] if stays and states_its_oracle(train.folder) else oracle
    made = [path for path in oracle if path.parent.is_dir() and (stays or path.parent not in stale_artefacts(plan))]
    for path in (checkpoint, *oracle) if stays else made:
        if not path.is_file():
            away = [*([train.folder] if stays else []), *([path.parent] if path in made else [])]
            raise InputError(
                f"{path}: it is gone, and without it no record of {cell.cell.id} can be made in place of the one that would be moved "
                "aside; nothing was touched. Leave the cell out by --skip, or move "
                f"{' and '.join(map(str, away))} away and run the same again: it is trained anew then"
            )


def outdated(plan: Plan) -> list[CellState]:
    """The cells whose records don't hold any more, for some of what they were made from is stale."""
    touched = any(state.state == "stale" for _, state in plan.artefacts)
    return [cell for cell in plan.cells if cell.stale or touched]


def forget_records(plan: Plan) -> None:
    """Move the records of cells with stale phases to `superseded/`: they are assembled anew."""
    for cell in outdated(plan):
        record = records_folder(plan.results, plan.suite.name) / f"{cell.cell.id}.json"
        if record.is_file():
            set_aside(record)
