"""Suites that are trained afresh: one learns something, another diverges and says so."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from harness.publishing.agreement import disagreements
from harness.records.record import read_records
from tests.harness.tiny import TINY, bench, command, suite_folder


@pytest.mark.slow
def test_the_smoke_suite_learns_something(tmp_path: Path) -> None:
    run = subprocess.run(command("bench", "smoke"), cwd=tmp_path, text=True, capture_output=True)
    assert run.returncode == 0, run.stderr
    records = read_records(tmp_path / "results/local/smoke/records")
    assert {record.identity.method for record in records} == {"baseline", "samiro"}
    for record in records:
        assert record.evaluations[0].total.f1_50 is not None
        assert record.evaluations[0].total.f1_50 > 0.15


@pytest.mark.slow
def test_a_divergence_is_told_with_its_images_and_the_rest_of_the_matrix_goes_on(tmp_path: Path) -> None:
    """Also among two processes that share the batches."""
    methods = "  resa_micro:\n    recipe: {steps: 6, batch_size: 4, learning_rate: 1.0e+30}\nmethods:\n  baseline:\n"
    text = TINY[: TINY.index("oracles:")] + TINY[TINY.index("detectors:") : TINY.index("methods:")] + methods
    text += "training: {threads: 1, device: cpu, processes: 2}\nthroughput: lane-latency/1-short\n"
    (tmp_path / "tiny.yaml").write_text(text)
    run = bench(tmp_path)
    assert run.returncode == 1
    (told,) = [line for line in run.stderr.splitlines() if "TrainingDiverged" in line]
    assert "training diverged at step 2: the loss isn't finite; losses: mask nan" in told
    assert told.count(".jpg") == 4
    (record,) = read_records(suite_folder(tmp_path) / "records")
    assert record.identity.detector == "ufldv2_micro"
    assert (record.identity.processes, record.training.micro_batch_size) == (2, 2)
    assert list(disagreements(record)) == []
    status = subprocess.run(command("status", "tiny.yaml", "--json"), cwd=tmp_path, text=True, capture_output=True)
    (failed,) = [cell for cell in json.loads(status.stdout)["cells"] if cell["last"]]
    assert "resa_micro" in failed["cell"]
    assert "training diverged at step 2" in failed["last"]
    (log,) = (suite_folder(tmp_path) / "cells").glob("*resa_micro*/train.part/training.jsonl")
    last = json.loads(log.read_text().splitlines()[-1])
    assert (last["step"], last["diverged"], len(last["batch"])) == (2, "the loss isn't finite", 4)
