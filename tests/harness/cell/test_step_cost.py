"""What a cell keeps of the cost of its method's steps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from rich.console import Console

from detectors.base import Batch
from harness.cell import step_cost
from harness.cli.display import PlainDisplay
from harness.datasets.base import Frame
from harness.processes.progress import Event, throttled
from harness.suite import Cell, cells_of, load_suite
from harness.watching.board import Board

ARMS = """
title: Arms
datasets:
  roads: {rendered: {seed: 7, splits: {train: {frames: 2}, test: {frames: 2}}}}
detectors:
  ufldv2_micro:
methods:
  attention_only:
training: {threads: 1, device: cpu}
"""


def no_batches(first: int, last: int) -> Iterator[Batch]:
    yield from ()


def written(cell: Cell, folder: Path, heard: list[Event]) -> dict[str, Any]:
    step_cost.write_step_cost(folder, cell, "content", cast(Any, None), heard.append, folder)
    return cast(dict[str, Any], json.loads((folder / "step_cost.json").read_text()))


@pytest.fixture(scope="module")
def cell() -> Cell:
    return next(cell for cell in cells_of(load_suite("smoke")) if cell.method.kind != "baseline")


def failing(error: Exception) -> Any:
    def fails(*_: Any) -> None:
        raise error

    return fails


def test_a_cell_whose_arms_do_not_fit_into_memory_together_goes_without_the_figure_and_says_why(
    cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    monkeypatch.setattr(step_cost, "cell_step_cost", failing(full))
    heard: list[Event] = []
    found = written(cell, tmp_path, heard)
    assert found["step_cost"] is None
    assert "both arms" in found["why"]
    assert [event.note for event in heard] == [found["why"]]
    assert "Tried to allocate" in found["why"]


def test_a_log_says_that_a_cell_goes_without_the_figure_however_short_its_timing_was(
    cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_cost, "cell_step_cost", failing(torch.OutOfMemoryError("CUDA out of memory")))
    heard, log = [Event(cell.id, "time", 0, 1, "a training step with the method and without")], StringIO()
    written(cell, tmp_path, heard)
    display = PlainDisplay(Console(file=log, width=200), Board())
    passed_on = throttled(display.event, seconds=60)
    for event in heard:
        passed_on(event)
    assert "step cost not measured: out of memory with both arms in it" in log.getvalue().splitlines()[-1]


def test_the_arms_are_the_cells_method_and_the_baseline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "arms.yaml").write_text(ARMS)
    (cell,) = cells_of(load_suite(str(tmp_path / "arms.yaml")))
    made: list[str] = []

    def measured(baseline: Any, method: Any, *_: Any, **__: Any) -> None:
        made.extend(type(build()).__name__ for build in (baseline, method))

    frames = (Frame("a", tmp_path / "a.jpg", "a", None),) * 4
    dataset = cast(Any, SimpleNamespace(frames=lambda split: frames, lanes=None))
    monkeypatch.setattr(step_cost, "measure_step_cost", measured)
    monkeypatch.setattr(step_cost, "TrainingStream", lambda *_, **__: SimpleNamespace(batches=no_batches))
    step_cost.cell_step_cost(tmp_path, cell, "content", dataset, lambda event: None)
    assert made == ["BaselineModel", "AttendedModel"]


def test_any_other_error_ends_the_measurement(cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_cost, "cell_step_cost", failing(RuntimeError("CUDA error: an illegal memory access")))
    with pytest.raises(RuntimeError, match="illegal memory access"):
        written(cell, tmp_path, [])
    assert not (tmp_path / "step_cost.json").exists()
