"""What becomes of results that other code made: the user says it, and until then nothing is touched. Nothing is ever deleted."""

from __future__ import annotations

from harness.cell import records_folder
from harness.errors import InputError
from harness.matrix import Plan, prerequisites
from harness.phases import accept, set_aside


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
    for phase, _ in plan.stale:
        accept(phase)
    forget_records(plan)


def redo_stale(plan: Plan) -> None:
    """Move every stale phase aside, and with it the phases of its cell that were made from it."""
    for phase, state in plan.artefacts:
        if state.state == "stale":
            set_aside(phase.folder)
    stale_oracles = {phase.folder for phase, state in plan.artefacts if state.state == "stale"}
    for cell in plan.cells:
        rests_on_stale = any(phase.folder in stale_oracles for phase in prerequisites(plan.results, cell.cell))
        stale = {phase.name for phase, _ in cell.stale} | ({"train"} if rests_on_stale else set())
        for phase, _ in cell.states:
            if phase.folder.is_dir() and (phase.name in stale or stale & before(phase.name)):
                set_aside(phase.folder)
    forget_records(plan)


def before(phase: str) -> set[str]:
    """Names of the phases whose results a phase is made from."""
    kind, _, evaluation = phase.partition("-")
    chosen = {"train", "threshold"}
    scored = {*chosen, f"predict-{evaluation}"}
    return {"train": set(), "threshold": {"train"}, "predict": chosen, "score": scored, "time": chosen}[kind]


def forget_records(plan: Plan) -> None:
    """Move the records of cells with stale phases to `superseded/`: they are assembled anew."""
    touched = any(state.state == "stale" for _, state in plan.artefacts)
    for cell in plan.cells:
        if cell.stale or touched:
            record = records_folder(plan.results, plan.suite.name) / f"{cell.cell.id}.json"
            if record.is_file():
                set_aside(record)
