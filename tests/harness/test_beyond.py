"""A detector that learned some frames by heart, shown them corrupted, and shown those of another dataset: all by one training."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from harness.cli.main import main
from harness.records.record import Record, read_records

SUITE = {
    "title": "Beyond",
    "datasets": {
        "roads": {
            "rendered": {
                "seed": 7, "difficulty": 0.1, "width": 820, "height": 295,
                "splits": {"train": {"frames": 24, "frames_per_clip": 2, "scenarios": {"normal": 1}}},
            }
        },
        "highways": {"rendered": {"form": "tusimple", "seed": 8, "splits": {"test": {"frames": 12}}}},
    },
    "detectors": {"ufldv2_micro": {"recipe": {"steps": 150, "batch_size": 8}}},
    "methods": {"baseline": None},
    "exclude": [{"dataset": "highways"}],
    "training": {"threads": 1, "device": "cpu"},
    "evaluations": {
        "clean": {"split": "train"},
        "noise": {"split": "train", "corruption": {"name": "noise", "severities": [1, 5]}},
        "fog": {"split": "train", "corruption": {"name": "fog", "severities": [5]}},
        "elsewhere": {"dataset": "highways", "split": "test"},
    },
    "throughput": "lane-latency/1-short",
}  # fmt: skip


def bench(folder: Path) -> Record:
    """Run the suite in a folder and give its one record."""
    run = subprocess.run(
        [sys.executable, "-m", "harness.cli.main", "bench", "beyond.yaml"],
        cwd=folder, text=True, capture_output=True, timeout=1800,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    (record,) = read_records(folder / "results/local/beyond/records")
    return record


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Record]:
    folder = tmp_path_factory.mktemp("beyond")
    (folder / "beyond.yaml").write_text(yaml.safe_dump(SUITE, sort_keys=False))
    return folder, bench(folder)


@pytest.mark.slow
def test_corruptions_cost_score_and_another_dataset_is_scored_by_its_own_metric(
    finished: tuple[Path, Record],
) -> None:
    folder, record = finished
    found = {evaluation.name: evaluation for evaluation in record.evaluations}
    assert {name: one.corruption for name, one in found.items()} == {
        "clean": None, "noise-1": "noise-1", "noise-5": "noise-5", "fog-5": "fog-5", "elsewhere": None,
    }  # fmt: skip
    scores = {name: one.total.f1_50 for name, one in found.items() if name != "elsewhere"}
    assert scores["clean"] > 0.8
    assert scores["noise-1"] > scores["noise-5"]
    assert scores["fog-5"] < scores["clean"] - 0.1
    assert (found["elsewhere"].metric, found["elsewhere"].dataset) == ("tusimple/official", "highways")
    assert found["elsewhere"].total.images == 12
    assert {artefact.name for artefact in record.artefacts if artefact.kind == "rendered"} == {"roads", "highways"}
    page = (folder / "results/local/beyond/leaderboard.md").read_text()
    assert "## Robustness" in page
    assert "## Transfer" in page


@pytest.mark.slow
def test_its_publication_is_verified_row_by_row(
    finished: tuple[Path, Record], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, record = finished
    monkeypatch.chdir(folder)
    assert main(["publish", "beyond.yaml", "--out", str(tmp_path), "--no-readme"]) == 0
    capsys.readouterr()
    from harness.publishing.verify import verify

    rows = verify(tmp_path / "beyond").rows
    assert [(row.evaluation, row.outcome) for row in rows] == [(one.name, "verified") for one in record.evaluations]


@pytest.mark.slow
def test_an_evaluation_that_is_added_trains_nothing_and_changes_no_other(finished: tuple[Path, Record]) -> None:
    folder, before = finished
    evaluations = {
        **SUITE["evaluations"],
        "rain": {"split": "train", "corruption": {"name": "rain", "severities": [3]}},
    }  # type: ignore[dict-item]
    (folder / "beyond.yaml").write_text(yaml.safe_dump({**SUITE, "evaluations": evaluations}, sort_keys=False))
    (checkpoint,) = (folder / "results/local/beyond/cells").glob("*/train/checkpoint.safetensors")
    (predictions,) = (folder / "results/local/beyond/cells").glob("*/predict-noise-5/predictions.npz")
    written = checkpoint.stat().st_mtime_ns, predictions.stat().st_mtime_ns
    after = bench(folder)
    assert (checkpoint.stat().st_mtime_ns, predictions.stat().st_mtime_ns) == written
    assert after.id == before.id
    assert after.evaluations[:-1] == before.evaluations
    assert after.evaluations[-1].corruption == "rain-3"
