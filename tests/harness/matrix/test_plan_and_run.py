"""What has to run, and what has to run before it."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from harness.cell.artefacts import built_oracle, statistics_phase
from harness.cell.assembly import assemble_evaluations
from harness.cell.keys import records_folder
from harness.cell.phases import phase_state, run_phase
from harness.cli.status import cell_rows, look
from harness.engines.base import Job, Listener, Outcome
from harness.errors import InputError, InputWarning
from harness.files import fingerprint
from harness.matrix import run as runs
from harness.matrix.jobs import jobs_of
from harness.matrix.plan import make_plan, prerequisites
from harness.matrix.recorded import failed_seeds, read_outcomes
from harness.matrix.run import Recording, run
from harness.records import counts
from harness.suite import Cell, Choice, cells_of, load_suite, with_resources
from tests.benchmarks.finished import finish, finished
from tests.harness.engines.notes import Notes


def oracle(steps: int) -> dict[str, object]:
    return {"dataset": "roads", "configuration": {"name": "mim:resnet_micro", "steps": steps}}


def test_two_oracles_of_one_backbone_are_two_jobs_and_each_cell_waits_for_its_own(tmp_path: Path) -> None:
    suite = {
        "title": "two",
        "datasets": {"roads": {"rendered": {"splits": {"train": {"frames": 4}, "test": {"frames": 4}}}}},
        "oracles": {"small": oracle(2), "big": oracle(3)},
        "detectors": {"ufldv2_micro": None},
        "methods": {
            "baseline": None,
            "samiro": {"oracle": "small"},
            "samiro_big": {"kind": "samiro", "oracle": "big"},
        },
    }
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(suite, sort_keys=False))
    jobs = {job.name: job for job in jobs_of(make_plan(load_suite(str(tmp_path / "two.yaml")), tmp_path / "results"))}
    oracles = {name for name in jobs if name.startswith("oracle ")}
    assert len(oracles) == 2
    needs = {name: set(job.needs) for name, job in jobs.items() if name.startswith("roads-")}
    waits = {method: needs[name] & oracles for name in needs for method in [name.split("-")[2]]}
    assert waits["baseline"] == set()
    assert len(waits["samiro"]) == len(waits["samiro_big"]) == 1
    assert waits["samiro"] != waits["samiro_big"]
    assert all("render roads" in found for found in needs.values())
    assert all("render roads" in jobs[name].needs for name in oracles)
    assert {*list(jobs)[:3]} == {"render roads", *oracles}, "what many wait for is begun first"


def test_nothing_runs_beside_what_is_timed_and_timing_waits_for_its_cell(tmp_path: Path) -> None:
    jobs = {job.name: job for job in jobs_of(make_plan(load_suite("mini"), tmp_path))}
    cells = [name.removeprefix("time ") for name in jobs if name.startswith("time ")]
    assert len(cells) == 4
    # A renderer takes all cores, and no GPU.
    assert (jobs["render roads"].exclusive, jobs["render roads"].resources.gpu) == (True, False)
    for cell in cells:
        assert jobs[f"time {cell}"].exclusive
        assert not jobs[cell].exclusive
        assert cell in jobs[f"time {cell}"].needs
        assert jobs[cell].resources.cache_gigabytes > 0
        assert "render roads" in jobs[cell].needs


def test_whole_nodes_are_given_up_by_all_jobs_or_by_those_of_some_cells_which_stay_alone_elsewhere(
    tmp_path: Path,
) -> None:
    def shared(expression: str) -> set[str]:
        jobs = jobs_of(make_plan(with_resources(load_suite("mini"), [expression]), tmp_path))
        return {job.name for job in jobs if job.exclusive and not job.resources.whole_node}

    every = shared("whole_node=false")
    assert "render roads" in every
    assert len(every) == 5
    assert shared("method=samiro,whole_node=false") == {name for name in every if "-samiro-" in name}


def test_no_oracle_is_made_for_cells_that_are_trained_and_no_memory_counted_for_their_images(tmp_path: Path) -> None:
    """As where runs were carried here without what they share."""
    plan = finished(tmp_path, 1)
    for phase, _ in plan.artefacts:
        shutil.rmtree(phase.folder)
    for state in plan.cells:
        shutil.rmtree(state.phases.all()[-1].folder)
    jobs = jobs_of(make_plan(load_suite("mini"), tmp_path, Choice(seeds=1)))
    assert {job.resources.cache_gigabytes for job in jobs} == {0.0}
    names = [job.name for job in jobs]
    assert names == ["render roads", *(f"time {state.cell.id}" for state in plan.cells)]


def test_a_plan_writes_nothing(tmp_path: Path) -> None:
    make_plan(load_suite("mini"), tmp_path / "results")
    assert not (tmp_path / "results").exists()


class Failing:
    """An engine on which the jobs whose names hold a text fail, and none of the others runs."""

    def __init__(self, text: str) -> None:
        self.text = text

    def run(self, jobs: Sequence[Job], listener: Listener) -> list[Outcome]:
        return [
            Outcome(job.name, "failed", kind="error", message=f"broke at step 7 of {self.text}")
            if self.text in job.name
            else Outcome(job.name, "done")
            for job in jobs
        ]


def test_failed_seeds_stay_told_until_they_run_again(tmp_path: Path) -> None:
    results = tmp_path / "results"
    plan = make_plan(load_suite("mini"), results, Choice(seeds=2))
    assert failed_seeds(plan.expected) == []
    run(plan, Failing("ufldv2_micro-samiro-s1"), None)  # type: ignore[arg-type]
    told = ["ufldv2_micro, samiro on roads, seed 1: broke at step 7 of ufldv2_micro-samiro-s1"]
    assert failed_seeds(plan.expected) == told
    run(make_plan(load_suite("mini"), results, Choice(seeds=2, only=["seed=0"])), Failing("nothing"), None)  # type: ignore[arg-type]
    assert failed_seeds(plan.expected) == told
    run(plan, Failing("nothing"), None)  # type: ignore[arg-type]
    assert failed_seeds(plan.expected) == []


def test_how_a_job_ended_is_kept_at_once_for_whoever_is_killed_has_no_later(tmp_path: Path) -> None:
    recording = Recording(Notes(), tmp_path, "mini")
    recording.ended(Outcome("a", "failed", message="ouch"))
    assert read_outcomes(tmp_path, "mini") == {"a": "ouch"}
    recording.ended(Outcome("a", "done"))
    assert read_outcomes(tmp_path, "mini") == {}


def test_a_full_disk_does_not_end_a_run_for_what_it_keeps_of_its_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(load_suite("mini"), tmp_path, Choice(seeds=1))
    with monkeypatch.context() as full:

        def no_room(path: Path, value: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))

        full.setattr(runs, "write_json", no_room)
        with pytest.warns(InputWarning, match=r"outcomes.json: how jobs ended can't be kept .*No space left"):
            outcomes = run(plan, Failing("samiro"), None)  # type: ignore[arg-type]
    assert {outcome.state for outcome in outcomes} == {"failed", "done"}


def test_a_record_that_cannot_be_assembled_fails_its_cell_and_the_others_get_theirs(tmp_path: Path) -> None:
    plan = finished(tmp_path, 1)
    lost = [records_folder(tmp_path, "mini") / f"{state.cell.id}.json" for state in plan.cells[:2]]
    for path in lost:
        path.unlink()
    outcomes = run(plan, Failing("nothing"), None)  # type: ignore[arg-type]
    assert [(outcome.job, outcome.kind) for outcome in outcomes] == [(path.stem, "input") for path in lost]
    for outcome in outcomes:
        assert f"{outcome.job}/train: not as it was finished (summary.json: " in outcome.message
        assert outcome.message.endswith("; move the folder away and run `bench` again")
    assert read_outcomes(tmp_path, "mini") == {outcome.job: outcome.message for outcome in outcomes}
    now = make_plan(load_suite("mini"), tmp_path, Choice(seeds=1))
    row = next(row for row in cell_rows(now, look(now))[0] if row["cell"] == lost[0].stem)
    assert row["last"] == outcomes[0].message


def test_counts_that_are_gone_are_not_taken_for_labels_that_are_private(tmp_path: Path) -> None:
    plan = finished(tmp_path, 1)
    state = plan.cells[0]
    assert isinstance(state.cell, Cell)
    with pytest.raises(
        InputError, match=r"score-test: not as it was finished \(there is neither counts.npz nor submission.zip"
    ):
        assemble_evaluations(tmp_path, state.cell, state.phases)


def test_counts_that_the_system_withholds_cost_no_scoring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = finished(tmp_path, 1).cells[0]
    assert isinstance(state.cell, Cell)

    def withheld(path: Path, limit: int) -> bytes:
        raise OSError(errno.EMFILE, "Too many open files", str(path))

    (state.phases.score["test"].folder / "counts.npz").touch()
    (state.phases.predict["test"].folder / "predict.json").write_text("{}")
    monkeypatch.setattr(counts, "read_bounded", withheld)
    with pytest.raises(InputError, match=r"score-test: .*Too many open files.*; it may be whole: ") as refused:
        assemble_evaluations(tmp_path, state.cell, state.phases)
    assert "move" not in str(refused.value)


def test_controls_need_no_oracle_of_their_own_and_share_what_they_can(tmp_path: Path) -> None:
    text = {
        "title": "controls",
        "datasets": {"roads": {"rendered": {"seed": 1, "splits": {"train": {"frames": 4}, "test": {"frames": 4}}}}},
        "oracles": {
            "small": oracle(2),
            "start": {"configuration": {"name": "init"}},
            "mixed": {"configuration": {"name": "shuffled:small"}},
            "mixed_start": {"configuration": {"name": "shuffled:start"}},
        },
        "detectors": {"ufldv2_micro": None},
        "methods": {
            "samiro": {"oracle": "small"},
            "samiro_start": {"kind": "samiro", "oracle": "start"},
            "samiro_mixed": {"kind": "samiro", "oracle": "mixed"},
            "samiro_mixed_start": {"kind": "samiro", "oracle": "mixed_start"},
        },
        "seeds": 2,
    }
    path = tmp_path / "controls.yaml"
    path.write_text(yaml.safe_dump(text, sort_keys=False))
    cells = cells_of(load_suite(str(path)))
    finish_oracle(tmp_path, cells[0])
    kept = {
        (cell.identity.method, cell.identity.seed): statistics_phase(tmp_path, cell, "content").key for cell in cells
    }
    assert kept["samiro", 0] == kept["samiro", 1] == kept["samiro_mixed", 0] == kept["samiro_mixed", 1]
    assert kept["samiro_start", 0] == kept["samiro_mixed_start", 0] != kept["samiro", 0]
    assert kept["samiro_start", 1] == kept["samiro_mixed_start", 1] != kept["samiro_start", 0]
    assert len({cell.id for cell in cells}) == 8
    built = {cell.identity.method: [p.folder.parent.name for p in prerequisites(tmp_path, cell)] for cell in cells}
    assert built["samiro"] == built["samiro_mixed"] == ["rendered", "oracle"]
    assert built["samiro_start"] == built["samiro_mixed_start"] == ["rendered"]
    shuffled = {cell.identity.method for cell in cells if cell.shuffled}
    assert shuffled == {"samiro_mixed", "samiro_mixed_start"}


def finish_oracle(results: Path, cell: Cell) -> None:
    """Have the oracle that a cell needs lie there."""
    weights = built_oracle(results, cell)
    weights.parent.mkdir(parents=True)
    weights.touch()


@pytest.mark.parametrize("edited", ["training/augmentation.py", "datasets/images.py", "detectors/ufldv2.py"])
def test_an_edit_of_what_images_and_taps_come_from_makes_target_statistics_stale(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, edited: str
) -> None:
    suite = {
        "title": "one",
        "datasets": {"roads": {"rendered": {"splits": {"train": {"frames": 4}, "test": {"frames": 4}}}}},
        "oracles": {"small": oracle(2)},
        "detectors": {"ufldv2_micro": None},
        "methods": {"samiro": {"oracle": "small"}},
    }
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(suite, sort_keys=False))
    (cell,) = cells_of(load_suite(str(tmp_path / "one.yaml")))
    finish_oracle(tmp_path, cell)
    run_phase(statistics_phase(tmp_path, cell, "content"), lambda folder: (folder / "statistics").touch())
    assert phase_state(statistics_phase(tmp_path, cell, "content")).state == "done"
    real = fingerprint.read_source

    def read_edited(path: Path, module: str) -> tuple[str, tuple[str, ...]]:
        digest, imports = real(path, module)
        return f"edited {digest}" if path.as_posix().endswith(edited) else digest, imports

    monkeypatch.setattr(fingerprint, "read_source", read_edited)
    fingerprint.code_of.cache_clear()
    try:
        state = phase_state(statistics_phase(tmp_path, cell, "content"))
    finally:
        fingerprint.code_of.cache_clear()
    assert state.state == "stale"
    assert [name for name in state.changed if name.endswith(edited)] == list(state.changed) != []


def test_the_images_of_an_oracle_that_is_made_are_not_rendered_again(tmp_path: Path) -> None:
    suite, choice = load_suite("rendered-reduced"), Choice(seeds=1)
    plan = make_plan(suite, tmp_path, choice)
    everything = {job.name.split(" ")[0]: job for job in jobs_of(plan)}
    assert "elsewhere" in {job.name.removeprefix("render ") for job in jobs_of(plan)}
    assert "render elsewhere" in everything["oracle"].needs
    for phase, _ in plan.artefacts:
        if phase.folder.parent.name == "oracle":
            finish(phase)
    rendered = [job.name for job in jobs_of(make_plan(suite, tmp_path, choice)) if job.name.startswith("render")]
    assert rendered == ["render hard"]
