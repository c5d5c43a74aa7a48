"""A suite whose detectors find a white post in a picture, and `samiro-bench transfer` of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from detectors.registry import find_adapter
from harness.cell.checkpoint import CHECKPOINT_FILE, SUMMARY_FILE
from harness.cell.keys import cell_phases
from harness.cell.phases import run_phase
from harness.cli.main import main
from harness.files.stored import write_json
from harness.suite import cells_of, load_suite
from harness.training.checkpoint import save_inference_checkpoint
from tests.harness.prediction.brightest import brightest

ADAPTER = brightest(frame=(590, 1640), crop=(0, 0, 590, 1640), network=(59, 410))

SUITE = """
title: Posts
datasets:
  near: {rendered: {seed: 7, splits: {train: {frames: 4}, val: {frames: 2}, test: {frames: 2}}}}
  far: {rendered: {seed: 8, splits: {train: {frames: 4}, val: {frames: 2}, test: {frames: 2}}}}
detectors:
  brightest.py:Brightest:
methods:
  baseline:
seeds: 2
training: {threads: 1, device: cpu, confidence: CONFIDENCE}
throughput: lane-latency/1-short
"""

ADAPTER_NAME = "brightest.py:Brightest"
SHIFTS = {("near", 0): -0.5, ("near", 1): 12.0, ("far", 0): 60.0, ("far", 1): 2.0}
"""Columns, of 410, that a cell's detector adds. With 2 it meets a post's middle; with -0.5 it is 9 px off, an IoU between .5 and .55;
with the others further than a lane is wide."""


def store(file: Path, add: float) -> None:
    found = find_adapter(ADAPTER_NAME)
    built = found.detector(found.meta, "culane")
    built.add.data += add  # type: ignore[operator, union-attr]
    facts = {
        "detector": "brightest", "form": "culane", "meta": found.meta.model_dump(mode="json"),
        "method": {"kind": "baseline"}, "origin": found.origin,
    }  # fmt: skip
    save_inference_checkpoint(file, built, facts)


def train(suite: str, *, chosen: float | None = None, without: tuple[str, int] | None = None) -> None:
    """Leave what training leaves of every cell, and a chosen threshold where the suite has one chosen."""
    for cell in cells_of(load_suite(suite)):
        key = (cell.identity.dataset, cell.identity.seed)
        phases = cell_phases(Path("results/local"), cell)
        if key == without:
            continue

        def trained(folder: Path, add: float = SHIFTS[key]) -> None:
            store(folder / CHECKPOINT_FILE, add)
            write_json(folder / SUMMARY_FILE, {})

        run_phase(phases.train, trained)
        if phases.threshold is not None and chosen is not None:
            text = json.dumps({"threshold": chosen})
            run_phase(phases.threshold, lambda folder, text=text: (folder / "threshold.json").write_text(text))  # type: ignore[misc]


def transfer(*words: str) -> int:
    return main(["transfer", "posts.yaml", "six", *words])


def complaint(capsys: pytest.CaptureFixture[str]) -> str:
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    capsys.readouterr()
    assert transfer("--json", *words) == 0
    return json.loads(capsys.readouterr().out)


def cell_folder(dataset: str, seed: int) -> Path:
    (found,) = Path("results/local/posts/cells").glob(f"{dataset}-*-s{seed}-*")
    return found
