"""Detectors out of process: their rows stand in the leaderboard, and their descriptions are read strictly."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from detectors.programs import read_program
from detectors.upstream import programs as published
from harness.cli.main import main
from harness.datasets.base import open_dataset
from harness.matrix.plan import make_plan
from harness.programs.cell import program_cells, program_phases, record_program
from harness.programs.run import ask
from harness.publishing.agreement import disagreements
from harness.records.counts import OverlapScores
from harness.records.record import read_records
from harness.suite import load_suite
from tests.checkouts import checkout_of
from tests.harness.programs.seer import SEER, SUITE, describe, fail


def test_a_program_has_one_row_a_dataset_scored_from_the_files_that_it_wrote(folder, capsys, monkeypatch):
    results = folder / "results"
    assert main(["bench", str(folder / "suite.yaml"), "--results", str(results)]) == 0
    (record,) = read_records(results / "suite" / "records")
    (evaluation,) = record.evaluations
    assert (record.identity.detector, record.identity.method, record.identity.seed) == ("seer", "baseline", 0)
    assert record.training is None
    assert record.selected_on == "val"
    assert list(disagreements(record)) == []
    assert evaluation.confidence_threshold == 0.4
    # Half a pixel beside the label every lane is found, but those of the image that it left empty.
    total = evaluation.total
    assert isinstance(total, OverlapScores)
    assert total.true_positives[0] == total.predictions
    assert 0 < total.labels - total.predictions <= 4
    assert record.own_timing is not None
    assert (record.own_timing.images, record.own_timing.threads, record.own_timing.device) == (6, 1, "cpu")
    assert record.own_timing.latency_ms.p50 == pytest.approx(12.5)
    assert record.artefacts[-1].facts == {"made of": "tea leaves"}
    table = (results / "suite" / "leaderboard.md").read_text()
    assert "## Programs by their own clocks" in table
    assert "seer" in capsys.readouterr().out
    (results / "suite" / "leaderboard.md").unlink()
    assert main(["leaderboard", str(folder / "suite.yaml"), "--results", str(results)]) == 0
    assert "| seer" in (results / "suite" / "leaderboard.md").read_text(), (
        "`leaderboard` knows programs as `bench` does"
    )
    (kept,) = (results / "suite" / "cells").glob("*/predict-test/exchange")
    assert "program.log" in os.listdir(kept)
    assert "predictions" not in os.listdir(kept), "the archive holds them"
    monkeypatch.setattr("harness.cell.phases.was_accepted", lambda phase: phase.name == "predict-test")
    (cell,) = program_cells(load_suite(str(folder / "suite.yaml")))
    assert record_program(results, cell).flags == ("predict-test: kept although the code changed since",)


def test_what_was_asked_once_is_not_asked_again_unless_program_or_weights_change(folder, capsys):
    run = ["bench", str(folder / "suite.yaml"), "--results", str(folder / "results")]
    suite = load_suite(str(folder / "suite.yaml"))
    assert main(run) == 0
    assert all(state.done for state in make_plan(suite, folder / "results").cells)
    (cell,) = program_cells(suite)
    (folder / "seer.py").write_text(SEER + "\n# another one\n")
    assert program_cells(suite)[0].id != cell.id
    (folder / "seer.py").write_text(SEER)
    assert program_cells(suite)[0].id == cell.id
    weights = folder / "weights.bin"
    weights.write_bytes(b"one")
    describe(folder, forms={"culane": {"confidence_threshold": 0.4, "checkpoint": "weights.bin"}})
    with_weights = program_cells(suite)[0].id
    weights.write_bytes(b"two")
    assert len({cell.id, with_weights, program_cells(suite)[0].id}) == 3
    asked = [program_phases(folder / "results", cell, {"roads": content}).predict["test"].key for content in "aab"]
    assert (asked[0] == asked[1], asked[0] == asked[2]) == (True, False), "of other images under the same name"


def test_no_path_is_part_of_an_identity(folder):
    suite = load_suite(str(folder / "suite.yaml"))
    (cell,) = program_cells(suite)
    assert str(folder) not in cell.identity.model_dump_json()
    assert str(Path(sys.executable).parent) not in cell.identity.model_dump_json()
    moved = folder / "elsewhere"
    moved.mkdir()
    for name in ("suite.yaml", "seer.yaml", "seer.py"):
        shutil.copy(folder / name, moved / name)
    describe(moved, environment={"TEA": str(moved)}, start_seconds=7, seconds_per_image=1)
    assert program_cells(load_suite(str(moved / "suite.yaml")))[0].id == cell.id


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"command": ["python", "seer.py"]}, "key 'command': lacks '{images}'"),
        ({"command": ["python", "{image}", "{predictions}"]}, "there is no '{image}'; there are {images}"),
        ({"command": ["/no/such/python", "{images}", "{predictions}"]}, "program missing: seer"),
        ({"folder": "nowhere"}, "can't be started in"),
        ({"forms": {"llamas": {"confidence_threshold": 0.4}}}, "isn't described for form 'culane'"),
        ({"forms": {"culane": {"confidence_threshold": 0.4, "checkpoint": "w.pth"}}}, "w.pth is missing"),
        ({"command": ["python", "{images}", "{predictions}", "{checkpoint}"]}, "but a form names no 'checkpoint'"),
        ({"speed": 3}, "unknown key 'speed'"),
    ],
    ids=[
        "no images",
        "misspelt",
        "no interpreter",
        "no folder",
        "other form",
        "no weights",
        "no checkpoint",
        "unknown",
    ],
)
def test_a_description_that_does_not_fit_is_told_in_one_line(folder, capsys, changes, told):
    describe(folder, **changes)
    assert told in fail(folder, capsys)


def test_a_suite_can_not_change_a_program_nor_attach_methods_to_it_alone(folder, capsys):
    (folder / "suite.yaml").write_text(SUITE.replace("seer.yaml:", "seer.yaml: {recipe: {steps: 3}}"))
    assert "a program is run as its description says" in fail(folder, capsys)
    (folder / "suite.yaml").write_text(SUITE.replace("  baseline:\n", ""))
    assert "to which no method can be attached" in fail(folder, capsys)


def test_rows_whose_training_is_unknown_or_other_are_not_ranked(folder):
    describe(folder, forms={"culane": {"confidence_threshold": 0.4, "trained_on": "CULane's train split"}})
    assert main(["bench", str(folder / "suite.yaml"), "--results", str(folder / "results")]) == 0
    (record,) = read_records(folder / "results" / "suite" / "records")
    assert record.flags == ("trained on CULane's train split", "on which split its checkpoint was chosen is not known")


def test_scripts_of_one_name_in_two_folders_are_both_part_of_an_identity(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.py").write_text(name)
    command = [sys.executable, "a/run.py", "b/run.py", "{images}", "{predictions}"]
    first = read_program(describe(tmp_path, command=command)).scripts()
    (tmp_path / "a" / "run.py").write_text("another")
    assert len(first) == 2
    assert read_program(tmp_path / "seer.yaml").scripts() != first


def test_the_plan_of_a_program_that_lies_in_its_folder_is_json(folder, capsys):
    (folder / "detect").write_text("#!/bin/sh\n")
    (folder / "detect").chmod(0o755)
    describe(folder, command=["./detect", "{images}", "{predictions}"])
    assert main(["plan", str(folder / "suite.yaml"), "--results", str(folder / "results"), "--json"]) == 0
    needs = json.loads(capsys.readouterr().out)["needs"]
    assert [need["detail"] for need in needs if need["kind"] == "program"] == [str(folder / "./detect")]


@pytest.mark.parametrize("mark", ["pyvenv.cfg", "conda-meta"])
def test_what_an_environment_in_the_folder_holds_is_no_part_of_an_identity(tmp_path, mark):
    folder = tmp_path / "described"
    (folder / "env" / "bin").mkdir(parents=True)
    (folder / "env" / "bin" / "detect").write_text(f"#!{folder}/env/bin/python\n")
    described = read_program(describe(folder, command=["env/bin/detect", "{images}", "{predictions}"]))
    assert list(described.scripts()) == ["detect"]
    # A description may itself lie in an environment, as an installed package's does: what is beside it is its own.
    (tmp_path / mark).mkdir()
    assert list(described.scripts()) == ["detect"]
    (folder / "env" / mark).mkdir()
    assert described.scripts() == {}


def test_a_program_that_lies_in_its_folder_is_part_of_an_identity_and_an_interpreter_is_not(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "detect").write_bytes(b"compiled once")
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    known = {
        word: read_program(describe(tmp_path, name=name, command=[word, "{images}", "{predictions}"])).scripts()
        for word, name in ((sys.executable, "a"), ("./bin/python", "b"), ("python", "c"), ("./bin/detect", "d"))
    }
    detector = known.pop("./bin/detect")
    assert not any(known.values())
    assert detector == {"detect": hashlib.sha256(b"compiled once").hexdigest()}


@pytest.mark.slow
def test_upstreams_own_lstr_finds_the_lanes_of_real_frames_where_ours_finds_them(shared, tmp_path, capsys):
    source = Path(published.__file__).parent
    described = yaml.safe_load((source / "lstr.yaml").read_text())
    described["command"][0] = sys.executable
    described["command"][described["command"].index("LSTR")] = str(checkout_of("LSTR"))
    described["forms"]["tusimple"]["checkpoint"] = str(
        shared / "real" / "weights" / "lstr_tusimple" / "LSTR_500000.pkl"
    )
    shutil.copy(source / "lstr.py", tmp_path / "lstr.py")
    (tmp_path / "lstr.yaml").write_text(yaml.safe_dump(described))
    six = tmp_path / "six"
    assert main(["data", "masks", str(shared / "real" / "images" / "tusimple_masks"), str(six)]) == 0
    assert main(["data", "convert", str(six), str(tmp_path / "tusimple"), "--to", "tusimple"]) == 0
    dataset = open_dataset("tusimple", tmp_path / "tusimple")
    frames = dataset.frames("test")
    answer = ask(
        read_program(tmp_path / "lstr.yaml"),
        dataset,
        frames,
        tmp_path / "exchange",
        device="cpu",
        threads=1,
        progress=lambda a, b: None,
    )
    assert sum(len(lanes) for lanes in answer.lanes) == 25
