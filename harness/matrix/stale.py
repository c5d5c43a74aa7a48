"""What becomes of results that other code made: the user says it, and until then nothing is touched. Nothing is ever deleted."""

from __future__ import annotations

from harness.cell.keys import made_from, records_folder
from harness.cell.phases import accept, set_aside
from harness.errors import InputError
from harness.matrix.plan import Plan, prerequisites


def refuse_stale(plan: Plan) -> None:
    """InputError on results of other code: the user says what is to become of them, and nothing is lost meanwhile."""
    if plan.stale:
        phase, state = plan.stale[0]
        more = f" (and {len(plan.stale) - 1} more phases)" if len(plan.stale) > 1 else ""
        raise InputError(
            f"{phase.folder / 'phase.json'}: key 'fingerprint': {state.reason}{more}; `bench --redo-stale` moves such "
            "results aside and makes them again, `bench --accept-stale` keeps them and flags their rows"
        )


def accept_stale(plan: Plan) -> None:
    """Keep every stale phase as it is; the records say so."""
    # First: a record that stayed when this was killed would keep a row without its flag.
    forget_records(plan)
    for phase, _ in plan.stale:
        accept(phase)


def redo_stale(plan: Plan) -> None:
    """Move every stale phase aside, and with it the phases of its cell that were made from it.

    What was made from something goes before it: killed in between, this has to be asked for again, and nothing counts as done that
    rests on what is made anew.
    """
    forget_records(plan)
    stale_oracles = {phase.folder for phase, state in plan.artefacts if state.state == "stale"}
    for cell in plan.cells:
        rests_on_stale = any(phase.folder in stale_oracles for phase in prerequisites(plan.results, cell.cell))
        stale = {phase.name for phase, _ in cell.stale} | ({"train"} if rests_on_stale else set())
        for phase, _ in reversed(cell.states):
            if phase.folder.is_dir() and (phase.name in stale or stale & made_from(phase.name)):
                set_aside(phase.folder)
    for phase, state in plan.artefacts:
        if state.state == "stale":
            set_aside(phase.folder)


def forget_records(plan: Plan) -> None:
    """Move the records of cells with stale phases to `superseded/`: they are assembled anew."""
    touched = any(state.state == "stale" for _, state in plan.artefacts)
    for cell in plan.cells:
        if cell.stale or touched:
            record = records_folder(plan.results, plan.suite.name) / f"{cell.cell.id}.json"
            if record.is_file():
                set_aside(record)
