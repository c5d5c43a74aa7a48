"""TuSimple and LLAMAS the whole way: one suite of both, from their files to one leaderboard."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from harness.counts import AccuracyCounts, OverlapCounts, scope_scores
from harness.datasets.base import open_dataset
from harness.datasets.predictions import predictions_sha256, unpack_predictions
from harness.records import Record, read_checked_counts, read_records

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
    named = {f"SAMIRO_BENCH_DATA_{form.upper()}": str(folder / "data" / form) for form in SPLIT}
    environment = {**os.environ, **named, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder / "cache")}
    words = (sys.executable, "-m", "harness.cli.main", *words)
    return subprocess.run(words, cwd=folder, env=environment, text=True, capture_output=True, timeout=300)


def prepared(trees: ModuleType, folder: Path) -> Path:
    trees.write_tusimple(folder / "data/tusimple", {"train": 4, "test": 6})
    trees.write_llamas(folder / "data/llamas", {"train": 4, "valid": 6, "test": 3})
    (folder / "small.py").write_text(ADAPTER)
    (folder / "both.yaml").write_text(SUITE)
    return folder


@pytest.fixture(scope="module")
def finished(trees: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the suite has run once."""
    folder = prepared(trees, tmp_path_factory.mktemp("forms"))
    run = command(folder, "bench", "both.yaml")
    assert run.returncode == 0, run.stdout + run.stderr
    return folder


def suite_folder(folder: Path) -> Path:
    return folder / "results/local/both"


def cell_folder(folder: Path, form: str) -> Path:
    (found,) = (suite_folder(folder) / "cells").glob(f"{form}-*")
    return found


def records_of(folder: Path) -> dict[str, Record]:
    return {record.identity.form: record for record in read_records(suite_folder(folder) / "records")}


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


@pytest.mark.parametrize("form", SPLIT)
def test_the_harness_counts_what_the_command_line_counts(finished: Path, form: str) -> None:
    predictions, labels = cell_folder(finished, form) / f"predict-{SPLIT[form]}/lanes", finished / "data" / form
    if form == "tusimple":
        predictions, labels = predictions / "predictions.json", labels / "test_label.json"
    else:
        labels = labels / "labels/valid"
    places = ("--labels", str(labels), "--predictions", str(predictions))
    run = command(finished, "score", form, *places, "--json", "--strict")
    assert run.returncode == 0, run.stderr
    said, total = json.loads(run.stdout), records_of(finished)[form].evaluations[0].total.model_dump()
    if form == "tusimple":
        for name in ("accuracy", "fp", "fn", "f1_clrnet", "f1_matched", "images_with_negative_fp"):
            assert said[name] == total[name], name
    else:
        assert said["iou"]["0.50"]["tp"] == total["true_positives"][0]
        assert said["iou"]["0.75"]["fn"] == total["labels"] - total["true_positives"][5]
        assert said["mf1"] == pytest.approx(total["mf1"], abs=1e-12)


def test_one_leaderboard_holds_a_table_of_each_dataset(finished: Path) -> None:
    text = (suite_folder(finished) / "leaderboard.md").read_text()
    assert "## llamas, val: llamas/official" in text
    assert "## tusimple, test: tusimple/official" in text
    with open(suite_folder(finished) / "leaderboard.csv", newline="") as stream:
        lines = {line["dataset"]: line for line in csv.DictReader(stream)}
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
        dataset = open_dataset(form, finished / "data" / form)
        dataset.write_predictions(finished / "again" / form, dataset.frames(SPLIT[form]), lanes)
        for file in (path for path in (phase / "lanes").rglob("*") if path.is_file()):
            assert (finished / "again" / form / file.relative_to(phase / "lanes")).read_bytes() == file.read_bytes()


def test_a_second_call_runs_nothing_and_a_lost_score_is_made_again(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    before = records_of(folder)
    shutil.rmtree(cell_folder(folder, "tusimple") / "score-test")
    run = command(folder, "bench", "both.yaml")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "2 cells, 1 done already" in run.stdout
    after = records_of(folder)
    assert {form: record.evaluations for form, record in after.items()} == {
        form: record.evaluations for form, record in before.items()
    }


def test_a_split_whose_labels_are_private_gets_a_submission_instead_of_a_score(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    (folder / "both.yaml").write_text(
        SUITE.replace("  tusimple: {form: tusimple}\n", "") + "evaluations: {server: {split: test}}\n"
    )
    run = command(folder, "bench", "both.yaml")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "llamas, test: small, baseline: unscored: labels private" in run.stdout
    record = records_of(folder)["llamas"]
    (submission,) = record.submissions
    assert (record.evaluations, submission.split, submission.why) == ((), "test", "labels private")
    with zipfile.ZipFile(cell_folder(folder, "llamas") / "score-server/submission.zip") as archive:
        names = archive.namelist()
    test = open_dataset("llamas", folder / "data/llamas").frames("test")
    assert sorted(names) == sorted(
        frame.id.removeprefix("color_images/test/").replace("_color_rect.png", ".lines.txt") for frame in test
    )
    text = (suite_folder(folder) / "leaderboard.md").read_text()
    assert "## Not scored here" in text
    assert "| labels private |" in text
    assert command(folder, "publish", "both.yaml", "--no-readme").returncode == 0
    assert [path.name.split(".")[1] for path in (folder / "results/both/predictions").iterdir()] == ["server"]


def test_publish_copies_records_counts_and_predictions_and_no_licensed_picture(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    run = command(folder, "publish", "both.yaml", "--no-readme")
    assert run.returncode == 0, run.stdout + run.stderr
    published = folder / "results/both"
    assert len(read_records(published / "records")) == 2
    assert len(list((published / "predictions").glob("*.npz"))) == 2
    assert not (published / "overlays.jpg").exists()
    assert (published / "leaderboard.md").read_text() == (suite_folder(folder) / "leaderboard.md").read_text()
