"""TuSimple and LLAMAS the whole way: one suite of both, from their files to one leaderboard."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
from rich.console import Console

from harness.cell import timing
from harness.cell.assembly import assemble_record, time_and_record
from harness.cell.run import run_cell
from harness.datasets.base import open_dataset
from harness.datasets.predictions import predictions_sha256, unpack_predictions
from harness.matrix.data import data_needs
from harness.matrix.plan import make_plan
from harness.publishing.publish import publish
from harness.publishing.verify import verify
from harness.records.counts import AccuracyCounts, OverlapCounts, scope_scores
from harness.records.record import Record, read_checked_counts, read_records
from harness.report.leaderboard import Leaderboard, leaderboard
from harness.report.tables import to_markdown
from harness.report.terminal import print_leaderboard
from harness.suite import cells_of, load_suite
from tests.harness.example_records import measured
from tests.harness.report.boards import csv_lines

ROOT = Path(__file__).resolve().parents[2]

ADAPTER = '''
from detectors.meta import InputSize
from detectors.ufldv2 import UFLDv2

MICRO = UFLDv2.metas["ufldv2_micro"]
CULANE = MICRO.configurations["culane"]


def sized(frame, crop):
    return CULANE.model_copy(update={"input": InputSize(frame=frame, crop=crop, network=(64, 160))})


class Small(UFLDv2):
    """The micro variant for the two other forms."""

    metas = {
        "small": MICRO.model_copy(
            update={
                "name": "small",
                "configurations": {
                    "tusimple": sized((720, 1280), (160, 0, 720, 1280)),
                    "llamas": sized((717, 1276), (200, 0, 717, 1276)),
                },
            }
        )
    }
'''

SUITE = """
title: Both forms
datasets:
  tusimple: {form: tusimple}
  llamas: {form: llamas}
detectors:
  small.py:Small:
    recipe: {steps: 5, batch_size: 4, confidence_threshold: 0.0}
methods:
  baseline:
training: {threads: 1, device: cpu}
throughput: lane-latency/1-short
"""

SPLIT = {"tusimple": "test", "llamas": "val"}


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`samiro-bench` in a folder that holds both datasets in data/."""
    environment = {**os.environ, **roots(folder), "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder / "cache")}
    words = (sys.executable, "-m", "harness.cli.main", *words)
    return subprocess.run(words, cwd=folder, env=environment, text=True, capture_output=True, timeout=300)


def roots(folder: Path) -> dict[str, str]:
    """Where the datasets lie, as the environment names it."""
    return {f"SAMIRO_BENCH_DATA_{form.upper()}": str(folder / "data" / form) for form in SPLIT}


def prepared(trees: ModuleType, folder: Path) -> Path:
    trees.write_tusimple(folder / "data/tusimple", {"train": 4, "test": 6})
    trees.write_llamas(folder / "data/llamas", {"train": 4, "valid": 6, "test": 3})
    (folder / "small.py").write_text(ADAPTER)
    (folder / "both.yaml").write_text(SUITE)
    evaluations = "evaluations: {val: {split: val}, server: {split: test}}"
    (folder / "server.yaml").write_text(SUITE.replace("  tusimple: {form: tusimple}\n", "") + evaluations)
    return folder


@pytest.fixture(scope="module")
def finished(trees: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every cell of both suites has run once, in this process and without a measurement of times."""
    folder = prepared(trees, tmp_path_factory.mktemp("forms"))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**roots(folder), "XDG_CACHE_HOME": str(folder / "cache")}.items():
            patch.setenv(name, value)
        patch.setattr(timing, "measure", measured)
        for suite in ("both", "server"):
            plan = make_plan(load_suite(str(folder / f"{suite}.yaml")), folder / "results/local")
            for state in plan.cells:
                run_cell(plan.results, state.cell, lambda event: None)
                time_and_record(plan.results, state.cell, lambda event: None)
    return folder


@pytest.fixture
def place(finished: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The finished folder, its datasets known to this process."""
    for name, value in {**roots(finished), "XDG_CACHE_HOME": str(finished / "cache")}.items():
        monkeypatch.setenv(name, value)
    return finished


def board_of(folder: Path, suite: str) -> Leaderboard:
    return leaderboard(
        read_records(folder / f"results/local/{suite}/records"), folder / f"results/local/{suite}/records"
    )


def suite_folder(folder: Path, suite: str = "both") -> Path:
    return folder / "results/local" / suite


def cell_folder(folder: Path, form: str, suite: str = "both") -> Path:
    (found,) = (suite_folder(folder, suite) / "cells").glob(f"{form}-*")
    return found


def records_of(folder: Path, suite: str = "both") -> dict[str, Record]:
    return {record.identity.form: record for record in read_records(suite_folder(folder, suite) / "records")}


def test_each_form_has_a_record_with_counts_of_its_own_kind(finished: Path) -> None:
    records = records_of(finished)
    for form, kind in (("tusimple", AccuracyCounts), ("llamas", OverlapCounts)):
        (evaluation,) = records[form].evaluations
        counts = read_checked_counts(suite_folder(finished) / "records", records[form], evaluation)
        assert isinstance(counts, kind)
        assert scope_scores(counts) == evaluation.total
        assert (evaluation.metric, evaluation.split, evaluation.total.images) == (f"{form}/official", SPLIT[form], 6)
        assert (evaluation.scenarios, evaluation.warnings) == ({}, ())
        assert evaluation.total.predictions > 0


def test_one_leaderboard_holds_a_table_of_each_dataset(finished: Path) -> None:
    board = board_of(finished, "both")
    text = to_markdown(board)
    assert "## llamas, val: llamas/official" in text
    assert "## tusimple, test: tusimple/official" in text
    lines = {line["dataset"]: line for line in csv_lines(board)}
    records = records_of(finished)
    assert float(lines["tusimple"]["accuracy"]) == pytest.approx(
        100 * records["tusimple"].evaluations[0].total.accuracy, abs=1e-4
    )
    assert float(lines["llamas"]["mf1"]) == pytest.approx(100 * records["llamas"].evaluations[0].total.mf1, abs=1e-4)
    assert (lines["tusimple"]["f1_50"], lines["llamas"]["accuracy"]) == ("", "")
    assert (lines["tusimple"]["clips"], lines["llamas"]["clips"]) == ("3", "2")


def test_archived_predictions_are_the_scored_ones(finished: Path) -> None:
    for form, record in records_of(finished).items():
        phase = cell_folder(finished, form) / f"predict-{SPLIT[form]}"
        ids, lanes = unpack_predictions(phase / "predictions.npz")
        assert predictions_sha256(ids, lanes) == record.evaluations[0].predictions_sha256
        assert {path.name for path in phase.iterdir()} == {
            "begun.json",
            "phase.json",
            "predict.json",
            "predictions.npz",
        }


def test_finished_cells_are_done_and_a_lost_score_is_the_only_work_left(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "results", tmp_path / "results")
    suite = load_suite(str(place / "both.yaml"))
    assert [state.summary for state in make_plan(suite, tmp_path / "results/local").cells] == ["done", "done"]
    shutil.rmtree(cell_folder(tmp_path, "tusimple") / "score-test")
    first, second = make_plan(suite, tmp_path / "results/local").cells
    assert (first.summary, second.summary) == ("partial, from score-test", "done")
    before = records_of(tmp_path)["tusimple"]
    run_cell(tmp_path / "results/local", first.cell, lambda event: None)
    assert assemble_record(tmp_path / "results/local", first.cell) == before


def test_a_split_whose_labels_are_private_gets_a_submission_instead_of_a_score(place: Path) -> None:
    record = records_of(place, "server")["llamas"]
    (submission,) = record.submissions
    assert [evaluation.name for evaluation in record.evaluations] == ["val"]
    assert (submission.name, submission.split, submission.why) == ("server", "test", "labels private")
    with zipfile.ZipFile(cell_folder(place, "llamas", "server") / "score-server/submission.zip") as archive:
        names = archive.namelist()
    test = open_dataset("llamas", place / "data/llamas").frames("test")
    assert sorted(names) == sorted(
        frame.id.removeprefix("color_images/test/").replace("_color_rect.png", ".lines.txt") for frame in test
    )
    board = board_of(place, "server")
    assert "## Not scored here" in to_markdown(board)
    assert "| labels private |" in to_markdown(board)
    stream = io.StringIO()
    print_leaderboard(board, Console(file=stream, width=80))
    assert "llamas, test: small, baseline: unscored: labels private" in stream.getvalue()
    assert len(csv_lines(board)) == 1


def test_a_split_without_labels_is_nothing_that_a_suite_lacks(place: Path) -> None:
    suite = load_suite(str(place / "server.yaml"))
    (need,) = data_needs(suite, cells_of(suite), place / "results/local")
    assert (need.missing, need.images) == (False, {"test": 3, "train": 4, "val": 6})


def test_publish_copies_records_counts_and_predictions_and_no_licensed_picture(place: Path, tmp_path: Path) -> None:
    for suite, predictions in (("both", ["test", "val"]), ("server", ["server", "val"])):
        published = tmp_path / suite
        publish(make_plan(load_suite(str(place / f"{suite}.yaml")), place / "results/local"), published, None)
        assert read_records(published / "records") == read_records(suite_folder(place, suite) / "records")
        found = sorted(path.name.split(".")[1] for path in (published / "predictions").iterdir())
        assert found == predictions
        assert not (published / "overlays.jpg").exists()
        assert not (published / "labels").exists()
        # The datasets are at hand here: their rows are scored again on them.
        assert not [row.told for row in verify(published).rows if row.outcome == "differs"]
        assert (published / "leaderboard.md").read_text() == to_markdown(board_of(place, suite))


@pytest.mark.slow
def test_bench_runs_both_forms_resumes_and_counts_what_the_command_line_counts(
    trees: ModuleType, tmp_path: Path
) -> None:
    folder = prepared(trees, tmp_path)
    run = command(folder, "bench", "both.yaml")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "FP < 0" in run.stdout
    before = records_of(folder)
    shutil.rmtree(cell_folder(folder, "tusimple") / "score-test")
    run = command(folder, "bench", "both.yaml")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "2 cells, 1 done already" in run.stdout
    after = records_of(folder)
    assert {form: record.evaluations for form, record in after.items()} == {
        form: record.evaluations for form, record in before.items()
    }
    for form in SPLIT:
        command_line_counts_likewise(folder, form)


def command_line_counts_likewise(folder: Path, form: str) -> None:
    """The same predictions, through `score`."""
    labels, predictions = folder / "data" / form, folder / f"lanes-{form}"
    archive = cell_folder(folder, form) / f"predict-{SPLIT[form]}/predictions.npz"
    unpacked = command(folder, "data", "unpack", str(archive), str(labels), str(predictions))
    assert unpacked.returncode == 0, unpacked.stderr
    if form == "tusimple":
        predictions, labels = predictions / "predictions.json", labels / "test_label.json"
    else:
        labels = labels / "labels/valid"
    places = ("--labels", str(labels), "--predictions", str(predictions))
    run = command(folder, "score", form, *places, "--json", "--strict")
    assert run.returncode == 0, run.stderr
    said, total = json.loads(run.stdout), records_of(folder)[form].evaluations[0].total.model_dump()
    if form == "tusimple":
        for name in ("accuracy", "fp", "fn", "f1_clrnet", "f1_matched", "images_with_negative_fp"):
            assert said[name] == total[name], name
    else:
        assert said["iou"]["0.50"]["tp"] == total["true_positives"][0]
        assert said["iou"]["0.75"]["fn"] == total["labels"] - total["true_positives"][5]
        assert said["mf1"] == pytest.approx(total["mf1"], abs=1e-12)
