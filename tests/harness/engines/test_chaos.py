"""A matrix of twenty cells that is killed fifty times, `bench`, workers or both, has the records of one that was left in peace."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from harness.records.record import read_record

CELLS, KILLS, SEED = 20, 50, 20261126
STEPS = [1, 3, 6]
"""Of a training of six: the first, and those at which gradients are compared, the last among them."""


def results(folder: Path) -> Path:
    return folder / "results/local"


def comparable(path: Path) -> dict[str, Any]:
    """A record without what a clock said, how often its training went on, and what was committed meanwhile."""
    record = json.loads(read_record(path).model_dump_json())
    for key in ("throughput", "step_cost", "inference_cost"):
        record.pop(key, None)
    for key in ("seconds", "seconds_per_step", "resumed"):
        del record["training"][key]
    del record["environment"]["commit"]
    for artefact in record["artefacts"]:
        artefact["facts"].pop("seconds", None)
    return dict(record)


def records(folder: Path) -> dict[str, dict[str, Any]]:
    return {path.stem: comparable(path) for path in (results(folder) / "chaos/records").glob("*.json")}


def files(folder: Path) -> dict[str, bytes]:
    """Checkpoints, predictions and counts, byte for byte."""
    place = results(folder) / "chaos"
    kinds = ("cells/*/train/checkpoint.safetensors", "cells/*/predict-*/predictions.npz", "records/*.counts.npz")
    return {str(path.relative_to(place)): path.read_bytes() for kind in kinds for path in place.glob(kind)}


def steps(log: Path) -> list[int]:
    """The steps that a training wrote down, without the notes on where it went on."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [line["step"] for line in lines if "resumed" not in line]


@pytest.mark.slow
def test_a_matrix_killed_fifty_times_has_the_records_of_an_undisturbed_one(tmp_path: Path) -> None:
    program = Path(__file__).with_name("chaos.py")
    run = subprocess.run(
        [sys.executable, str(program), str(tmp_path / "chaos"), str(SEED), str(KILLS), str(CELLS)],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"},
    )
    assert run.returncode == 0, run.stderr[-4000:]
    told = json.loads(run.stdout.splitlines()[-1])
    print(told)
    kinds = Counter(told["kills"])
    assert kinds.total() == KILLS
    assert set(kinds) == {"parent", "worker", "both"}
    calm = tmp_path / "chaos/undisturbed"
    wanted = records(calm)
    assert len(wanted) == CELLS
    resumed = 0
    for name in told["folders"]:
        folder = tmp_path / "chaos" / name
        assert records(folder) == wanted
        assert files(folder) == files(calm)
        cells = sorted((results(folder) / "chaos/cells").iterdir())
        assert [cell.name for cell in cells] == sorted(wanted)
        assert [steps(cell / "train/training.jsonl") for cell in cells] == [STEPS] * CELLS
        # Nothing half-made is left, and nothing was made twice.
        left = [path for path in results(folder).rglob("*") if re.search(r"\.part$|^superseded$", path.name)]
        assert left == []
        resumed += sum('"resumed"' in (cell / "train/training.jsonl").read_text() for cell in cells)
        tables = [(results(where) / "chaos/leaderboard.csv").read_text().count("\n") for where in (folder, calm)]
        assert tables[0] == tables[1]
    # Else no kill had met a training after a checkpoint, and nothing was shown of them.
    assert resumed > 0
