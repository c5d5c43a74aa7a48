"""What a cell keeps of its times."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest

from harness.cell import step_cost, timing
from harness.cell.checkpoint import CHECKPOINT_FILE, SUMMARY_FILE
from harness.files.stored import write_json
from harness.processes.neighbours import SHARED_NODE
from harness.records.record import read_records
from harness.suite import cells_of, load_suite

RECORDS = Path(__file__).resolve().parents[3] / "results" / "mini" / "records"


def test_times_of_a_shared_node_are_flagged_until_they_are_taken_again_on_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = next(record for record in read_records(RECORDS) if record.step_cost and record.inference_cost)
    cell = next(cell for cell in cells_of(load_suite("mini")) if cell.identity.method == record.identity.method)
    (tmp_path / CHECKPOINT_FILE).write_bytes(b"weights")
    write_json(tmp_path / SUMMARY_FILE, {})
    monkeypatch.setattr(timing, "stratified", lambda *_: ())
    for protocol in ("short_protocol", "whole_protocol"):
        monkeypatch.setattr(timing, protocol, lambda *_: (list(record.throughput), record.inference_cost))
    monkeypatch.setattr(step_cost, "cell_step_cost", lambda *_: record.step_cost)
    measured = (*record.throughput, *record.inference_cost, record.step_cost)
    dataset = cast(Any, None)
    for told, more in (("1", ("shared node",)), ("0", ())):
        monkeypatch.setenv(SHARED_NODE, told)
        timing.time_detector(cell, tmp_path, None, dataset, "test", lambda event: None, tmp_path)
        step_cost.write_step_cost(tmp_path, cell, "content", dataset, lambda event: None, tmp_path)
        kept = json.loads((tmp_path / "throughput.json").read_text())
        steps = json.loads((tmp_path / "step_cost.json").read_text())["step_cost"]
        found = [tuple(one["flags"]) for one in (*kept["throughput"], *kept["inference_cost"], steps)]
        assert found == [(*one.flags, *more) for one in measured if one is not None]
