"""What becomes of results of other code, also where whoever moves them is killed in between."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.cell.keys import made_from, set_orphans_aside
from harness.cell.phases import Phase, accept, claim_partial, set_aside
from harness.cell.run import run_cell
from harness.cli.plan import artefact_rows
from harness.errors import InputError
from harness.files.stored import write_json
from harness.matrix import run, stale
from harness.matrix.plan import CellState, Plan, make_plan, prerequisites
from harness.matrix.stale import accept_stale, redo_stale, refuse_begun
from harness.publishing.submit import finished_cells
from harness.suite import Choice, load_suite
from harness.training.loop import STATE_FILE as TRAINING
from harness.training.pretraining import STATE_FILE as PRETRAINING
from harness.training.pretraining import checkpoint_folder
from tests.benchmarks.finished import finished

Become = Callable[[Plan], None]


def of_other_code(phase: Phase, *files: str) -> None:
    path = phase.folder / "phase.json"
    value = json.loads(path.read_text())
    value["fingerprint"] |= dict.fromkeys(files or ("harness/other.py",), "other")
    path.write_text(json.dumps(value))


@pytest.fixture
def outdated(tmp_path: Path) -> Plan:
    """A finished matrix, whose oracle and one of whose trainings other code made."""
    plan = finished(tmp_path, 1)
    for phase, _ in plan.artefacts:
        if phase.folder.parent.name == "oracle":
            of_other_code(phase)
    baseline = next(cell for cell in plan.cells if cell.cell.identity.method == "baseline")
    of_other_code(baseline.phases.all()[0])
    return again(tmp_path)


def large_files(plan: Plan) -> list[Path]:
    """Every checkpoint, and the oracle."""
    oracles = [phase.folder for phase, _ in plan.artefacts if phase.folder.parent.name == "oracle"]
    checkpoints = [cell.phases.all()[0].folder / "checkpoint.safetensors" for cell in plan.cells]
    return [*checkpoints, *(folder / "oracle.safetensors" for folder in oracles)]


def again(results: Path) -> Plan:
    return make_plan(load_suite("mini"), results, Choice(seeds=1))


def test_a_plan_names_every_file_that_changed_of_an_artefact_too(tmp_path: Path) -> None:
    phase = next(phase for phase, _ in finished(tmp_path, 1).artefacts if phase.folder.parent.name == "oracle")
    files = [f"harness/{letter}.py" for letter in "abcdef"]
    of_other_code(phase, *files)
    row = next(row for row in artefact_rows(again(tmp_path)) if row["state"] == "stale")
    assert (row["changed"], row["why"].endswith("harness/d.py and 2 more")) == (files, True)


def test_what_was_trained_with_an_oracle_of_other_code_is_not_submitted(tmp_path: Path) -> None:
    plan = finished(tmp_path, 1)
    assert len(finished_cells(plan)) == len(plan.cells)
    (oracle,) = (phase for phase, _ in plan.artefacts if phase.folder.parent.name == "oracle")
    of_other_code(oracle)
    rest = [cell.cell.id for cell in plan.cells if any(phase.folder == oracle.folder for phase in needed(plan, cell))]
    told = f"{len(rest)} stale cells: {rest[0]}: {oracle.name}: code changed since"
    with pytest.raises(InputError, match=re.escape(told)):
        finished_cells(again(tmp_path))
    for cell in plan.cells:
        if cell.cell.id in rest:
            shutil.rmtree(cell.phases.folder)
    others = [cell.cell.id for cell in finished_cells(again(tmp_path))]
    assert others == [cell.cell.id for cell in plan.cells if cell.cell.id not in rest], (
        "nobody's that isn't trained is in the way"
    )


@pytest.mark.parametrize("become", [accept_stale, redo_stale])
@pytest.mark.parametrize("which", [0, -1], ids=["checkpoint", "oracle"])
def test_no_record_is_moved_aside_that_could_not_be_made_again(tmp_path: Path, which: int, become: Become) -> None:
    """A row whose checkpoint was freed would be lost for good."""
    plan = finished(tmp_path, 1)
    for cell in plan.cells:
        of_other_code(next(phase for phase in cell.phases.all() if phase.name == "score-test"))
    gone = large_files(plan)[which]
    gone.unlink()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=f"{re.escape(str(gone))}.*--skip"):
        become(again(tmp_path))
    assert sorted(tmp_path.rglob("*")) == before
    assert len(again(tmp_path).stale) == len(plan.cells)


@pytest.mark.parametrize("become", [accept_stale, redo_stale])
def test_a_cell_whose_oracles_weights_alone_were_freed_is_trained_anew_by_what_the_refusal_says(
    tmp_path: Path, become: Become
) -> None:
    """Its training would end for want of the weights else, its record moved aside."""
    plan = finished(tmp_path, 1)
    for cell in plan.cells:
        of_other_code(next(phase for phase in cell.phases.all() if phase.name == "score-test"))
    oracle = large_files(plan)[-1]
    oracle.unlink()
    rest = [cell for cell in plan.cells if any(phase.folder == oracle.parent for phase in needed(plan, cell))]
    trained = [cell.states[0][0].folder for cell in rest]
    with pytest.raises(InputError, match=f"move {re.escape(str(trained[0]))} and {re.escape(str(oracle.parent))} away"):
        become(again(tmp_path))
    for folder in trained:
        set_aside(folder)
    with pytest.raises(InputError, match=f"move {re.escape(str(oracle.parent))} away"):
        become(again(tmp_path))
    assert again(tmp_path).stale
    set_aside(oracle.parent)
    become(again(tmp_path))
    assert not again(tmp_path).stale


@pytest.mark.parametrize("become", [accept_stale, redo_stale])
def test_a_cell_whose_training_states_its_oracle_needs_the_oracles_weights_no_more(
    tmp_path: Path, become: Become
) -> None:
    plan = finished(tmp_path, 1)
    for cell in plan.cells:
        of_other_code(next(phase for phase in cell.phases.all() if phase.name == "score-test"))
        write_json(cell.states[0][0].folder / "summary.json", {"oracle": {"kind": "oracle"}})
    large_files(plan)[-1].unlink()
    become(again(tmp_path))
    assert not again(tmp_path).stale


def test_a_training_of_other_code_needs_the_weights_of_an_oracle_that_stays(tmp_path: Path) -> None:
    plan = finished(tmp_path, 1)
    oracle = large_files(plan)[-1]
    cell = next(cell for cell in plan.cells if any(phase.folder == oracle.parent for phase in needed(plan, cell)))
    of_other_code(cell.states[0][0])
    write_json(cell.states[0][0].folder / "summary.json", {"oracle": {"kind": "oracle"}})
    oracle.unlink()
    with pytest.raises(InputError, match=f"{re.escape(str(oracle))}.*move {re.escape(str(oracle.parent))} away"):
        redo_stale(again(tmp_path))
    assert again(tmp_path).cells[plan.cells.index(cell)].recorded


def test_what_is_trained_anew_needs_no_checkpoint(outdated: Plan) -> None:
    baseline = next(cell for cell in outdated.cells if cell.stale)
    (baseline.phases.all()[0].folder / "checkpoint.safetensors").unlink()
    oracle = large_files(outdated)[-1]
    oracle.unlink()
    rested = [cell for cell in outdated.cells if any(phase.folder == oracle.parent for phase in needed(outdated, cell))]
    redo_stale(outdated)
    for cell in (baseline, *rested):
        assert not cell.phases.all()[0].folder.is_dir()


def needed(plan: Plan, cell: CellState) -> list[Phase]:
    return prerequisites(plan.results, cell.cell)


def killed_after(moves: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the process end when so many results were moved."""
    made: list[Path] = []

    def moved(folder: Path) -> Path:
        if len(made) == moves:
            raise KeyboardInterrupt
        made.append(folder)
        return set_aside(folder)

    monkeypatch.setattr(stale, "set_aside", moved)


@pytest.mark.parametrize("moves", range(14))
def test_whoever_is_killed_while_results_are_moved_leaves_nothing_that_rests_on_what_is_gone(
    outdated: Plan, moves: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_after(moves, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        redo_stale(outdated)
    left = again(outdated.results)
    assert left.stale, "what is to become of them is asked again"
    for cell in left.cells:
        there = {phase.name for phase, state in cell.states if state.state != "missing"}
        assert all(made_from(name) - {"threshold"} <= there for name in there)
        if "train" in there:
            assert all(phase.folder.is_dir() for phase in prerequisites(left.results, cell.cell))
    monkeypatch.undo()
    redo_stale(left)
    assert again(outdated.results).stale == []


def test_moving_what_other_code_made_takes_more_steps_than_that(
    outdated: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_after(1000, monkeypatch)
    redo_stale(outdated)
    moved = list(outdated.results.rglob("superseded/*"))
    assert len(moved) > 14


def test_only_what_other_code_made_and_what_was_made_from_it_is_moved(tmp_path: Path) -> None:
    """A training of hours stays where its scores are made anew, and so does every other cell."""
    plan = finished(tmp_path, 1)
    cell = plan.cells[0]
    of_other_code(next(phase for phase in cell.phases.all() if phase.name == "score-test"))
    redo_stale(again(tmp_path))
    left = again(tmp_path)
    gone = [(one.cell.id, phase.name) for one in left.cells for phase, state in one.states if state.state == "missing"]
    assert gone == [(cell.cell.id, "score-test")]
    assert [one.cell.id for one in left.cells if not one.recorded] == [cell.cell.id]


def test_whoever_is_killed_while_results_are_accepted_leaves_no_record_without_its_flag(
    outdated: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(phase: Phase) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stale, "accept", killed)
    with pytest.raises(KeyboardInterrupt):
        accept_stale(outdated)
    assert not any(cell.recorded for cell in again(outdated.results).cells)


def test_a_row_is_flagged_whose_oracle_was_accepted_where_other_cells_were_asked_for(tmp_path: Path) -> None:
    """Also one whose checkpoint was freed, of which no record can be made any more."""
    (oracle,) = (phase for phase, _ in finished(tmp_path, 1).artefacts if phase.folder.parent.name == "oracle")
    of_other_code(oracle)
    accept(oracle)
    plan = again(tmp_path)
    assert not plan.stale
    before = {record.id: record for record in run.records_of(plan)}
    for _ in range(2):
        assert run.assemble_missing(plan, ()) == []
    told = f"{oracle.name}: kept although the code changed since"
    resting = {cell.cell.id for cell in plan.cells if oracle.folder in {one.folder for one in needed(plan, cell)}}
    assert 0 < len(resting) < len(plan.cells)
    for record in run.records_of(plan):
        old = before[record.id]
        flags = (told, *old.flags) if record.id in resting else old.flags
        assert record == old.model_copy(update={"flags": flags})


@pytest.mark.parametrize("begun", [False, True])
def test_what_was_made_from_a_training_that_is_gone_is_not_kept_for_the_next(tmp_path: Path, begun: bool) -> None:
    cell = finished(tmp_path, 1).cells[0]
    phases = cell.phases.all()
    set_orphans_aside(phases)
    assert all(phase.folder.is_dir() for phase in phases)
    set_aside(phases[0].folder)
    if begun:
        claim_partial(phases[0])
    with pytest.raises(InputError):  # there is nothing to train on
        run_cell(tmp_path, cell.cell, lambda event: None)
    assert not any(phase.folder.is_dir() for phase in phases)
    assert {path.name for path in (phases[0].folder.parent / "superseded").iterdir()} == {
        f"{phase.name}-1" for phase in phases
    }


def begun_by(phase: Phase, fingerprint: dict[str, str], *, checkpoint: bool = True) -> None:
    """Make a finished phase one that was begun and has come to a checkpoint, or not yet."""
    phase.folder.rename(phase.partial)
    for path in (*phase.partial.glob("*.safetensors"), phase.partial / "phase.json"):
        path.unlink(missing_ok=True)
    (phase.partial / "begun.json").write_text(json.dumps({"key": phase.key, "fingerprint": fingerprint}))
    if checkpoint:
        oracle = phase.folder.parent.name == "oracle"
        state = (
            checkpoint_folder(phase.partial / "oracle.safetensors") / PRETRAINING
            if oracle
            else phase.partial / TRAINING
        )
        state.parent.mkdir(exist_ok=True)
        state.touch()


def trainings(plan: Plan) -> list[Phase]:
    return [cell.phases.all()[0] for cell in plan.cells]


def test_trainings_and_oracles_that_other_code_brought_to_a_checkpoint_are_asked_about(tmp_path: Path) -> None:
    plan = finished(tmp_path, 1)
    (oracle,) = [phase for phase, _ in plan.artefacts if phase.folder.parent.name == "oracle"]
    for phase in (oracle, *trainings(plan)[:2]):
        begun_by(phase, dict(phase.fingerprint) | {"harness/other.py": "other"})
    with pytest.raises(
        InputError, match=r"begins anew, code changed since: harness/other\.py \(and 2 more trainings\)"
    ) as told:
        refuse_begun(again(tmp_path))
    assert str(told.value).startswith(f"{oracle.partial}: ")


@pytest.mark.parametrize("case", ["the same code", "no checkpoint", "other options"])
def test_whatever_else_was_begun_is_nothing_to_ask_about(tmp_path: Path, case: str) -> None:
    phase = trainings(finished(tmp_path, 1))[0]
    other = dict(phase.fingerprint) | {"harness/other.py": "other"}
    begun_by(phase, dict(phase.fingerprint) if case == "the same code" else other, checkpoint=case != "no checkpoint")
    if case == "other options":
        path = phase.partial / "begun.json"
        path.write_text(json.dumps({"key": "0" * 64, "fingerprint": other}))
    refuse_begun(again(tmp_path))


def test_a_half_way_training_goes_with_the_oracle_that_it_was_steered_by(tmp_path: Path) -> None:
    """By its own key and code it would go on, from steps towards other features."""
    plan = finished(tmp_path, 1)
    (oracle,) = [phase for phase, _ in plan.artefacts if phase.folder.parent.name == "oracle"]
    steered = [any(phase.folder == oracle.folder for phase in needed(plan, cell)) for cell in plan.cells]
    for phase in trainings(plan):
        begun_by(phase, dict(phase.fingerprint))
    of_other_code(oracle)
    redo_stale(again(tmp_path))
    assert {True, False} == set(steered)
    assert [phase.partial.is_dir() for phase in trainings(plan)] == [not with_oracle for with_oracle in steered]
