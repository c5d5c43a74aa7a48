"""A matrix whose backbones start from a file: what is trained from it, and what its records say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from detectors.backbones import build_backbone
from detectors.pretrained import is_counter
from harness.files.stored import sha256_of_file
from harness.records.record import read_records
from harness.training.checkpoint import load_inference_checkpoint

# Two steps at a rate that changes next to nothing: the checkpoint shows what training started from.
SUITE = """
title: Started
datasets:
  roads:
    rendered:
      seed: 7
      difficulty: 0.2
      width: 410
      height: 148
      splits: {train: {frames: 4, frames_per_clip: 2}, test: {frames: 4, frames_per_clip: 2}}
oracles:
  small:
    dataset: roads
    configuration: {name: "random:resnet_micro", batch_size: 4, image_size: [64, 160], recalibration_batches: 1}
detectors:
  ufldv2_micro:
    weights: file:start.pth
    recipe: {steps: 2, batch_size: 4, learning_rate: 1.0e-9, weight_decay: 0.0}
methods:
  baseline:
  samiro: {oracle: small}
training: {threads: 1, device: cpu}
throughput: lane-latency/1-short
"""


def command(verb: str, folder: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "harness.cli.main", *verb.split(), "started.yaml"]
    return subprocess.run(words, cwd=folder, text=True, capture_output=True, timeout=600)


@pytest.mark.slow
def test_cells_train_from_the_file_say_so_and_never_where_it_lay(tmp_path: Path) -> None:
    (tmp_path / "started.yaml").write_text(SUITE)
    torch.manual_seed(9)
    start = build_backbone("resnet_micro").state_dict()
    torch.save(start, tmp_path / "start.pth")
    digest = sha256_of_file(tmp_path / "start.pth")
    run = command("bench", tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr

    records = read_records(tmp_path / "results/local/started/records")
    assert sorted(record.identity.method for record in records) == ["baseline", "samiro"]
    for record in records:
        assert record.identity.weights == f"file:{digest}"
        (weights,) = [artefact for artefact in record.artefacts if artefact.kind == "backbone weights"]
        assert (weights.sha256, weights.facts["source"], weights.facts["ignored"]) == (digest, "start.pth", 0)
        assert str(tmp_path) not in record.model_dump_json()
        cell = tmp_path / "results/local/started/cells" / record.id
        checkpoint = load_inference_checkpoint(cell / "train/checkpoint.safetensors")
        assert checkpoint.facts["meta"]["configurations"]["culane"]["weights"] == f"file:{digest}"
        for name, value in start.items():
            if not is_counter(name) and "running" not in name:
                assert torch.allclose(checkpoint.tensors[f"backbone.{name}"], value, atol=1e-6), name

    (tmp_path / "start.pth").rename(tmp_path / "moved.pth")
    run = command("plan --json", tmp_path)
    assert run.returncode == 0
    (need,) = [need for need in json.loads(run.stdout)["needs"] if need["kind"] == "weights"]
    assert need["missing"]
    assert "start.pth: there is no such file" in need["detail"]
