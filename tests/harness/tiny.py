"""A suite that trains in seconds, run by the command line, and what it leaves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from harness.records.record import read_records

TINY = """
title: Tiny
datasets:
  roads:
    rendered:
      seed: 7
      difficulty: 0.2
      width: 820
      height: 295
      splits: {train: {frames: 18, frames_per_clip: 2}, test: {frames: 18, frames_per_clip: 2}}
oracles:
  small:
    dataset: roads
    configuration: {name: "mim:resnet_micro", steps: 4, batch_size: 4, image_size: [64, 160], recalibration_batches: 1}
detectors:
  ufldv2_micro:
    recipe: {steps: 6, batch_size: 4}
methods:
  baseline:
  samiro: {oracle: small}
training: {threads: 1, device: cpu}
throughput: lane-latency/1-short
"""


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "harness.cli.main", *words]


def bench(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """`samiro-bench bench` of the tiny suite in a folder."""
    return subprocess.run(
        command("bench", "tiny.yaml", *options), cwd=folder, text=True, capture_output=True, timeout=300
    )


def suite_folder(folder: Path) -> Path:
    return folder / "results/local/tiny"


def cell_folder(folder: Path, method: str) -> Path:
    (found,) = (suite_folder(folder) / "cells").glob(f"*-{method}-s0-*")
    return found


def outcome(folder: Path) -> dict[str, tuple[object, ...]]:
    """What must be the same however a run was disturbed: checkpoint, predictions and scores of each cell."""
    return {
        record.identity.method: (
            record.checkpoint_sha256,
            record.evaluations[0].predictions_sha256,
            record.evaluations[0].total,
            record.training.final_losses,
        )
        for record in read_records(suite_folder(folder) / "records")
    }
