"""A cell that runs out of memory trains in halved micro-batches, and so do the cells that it is compared with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.cell import artefacts
from harness.cli.main import main
from harness.engines import choice
from harness.engines.base import Engine, Job, Listener, Outcome
from harness.engines.order import ready
from harness.errors import InputError
from harness.matrix.micro_batches import (
    current_cells,
    halve,
    pair_key,
    read_reductions,
    reductions_file,
    reductions_of,
)
from harness.matrix.plan import make_plan
from harness.processes.faults import fault_of
from harness.records.record import Record, read_records
from harness.suite import Cell, Choice, Suite, cells_of, load_suite
from harness.throughput.protocol import PROTOCOLS
from harness.training import step_cost

SUITE = """
title: Hungry
datasets:
  roads:
    rendered:
      seed: 7
      difficulty: 0.2
      width: 820
      height: 295
      splits: {train: {frames: 4, frames_per_clip: 2}, test: {frames: 2}}
oracles:
  drawn: {configuration: {name: "random:resnet_micro", image_size: [64, 160], recalibration_batches: 1}}
  mixed: {configuration: {name: "shuffled:drawn"}}
detectors:
  hungry.py:Hungry: {recipe: {steps: 2, batch_size: 4}}
methods:
  baseline:
  samiro: {oracle: drawn}
seeds: 2
training: {threads: 1, device: cpu}
throughput: lane-latency/1-short
"""

ADAPTER = '''
import torch
from detectors.ufldv2 import UFLDv2

class Hungry(UFLDv2):
    """With a method's hooks around it, it doesn't fit into memory with more than LIMIT images, but at seed 1."""
    metas = {"hungry": UFLDv2.metas["ufldv2_micro"].model_copy(update={"name": "hungry"})}

    def forward(self, images):
        hooked = any(module._forward_hooks for module in self.modules())
        if hooked and torch.is_grad_enabled() and len(images) > LIMIT and torch.initial_seed() == 0:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return super().forward(images)
'''


def suite_in(folder: Path, text: str = SUITE, limit: int = 2) -> Suite:
    (folder / "hungry.py").write_text(ADAPTER.replace("LIMIT", str(limit)))
    (folder / "hungry.yaml").write_text(text)
    return load_suite(str(folder / "hungry.yaml"))


def cell(cells: Sequence[Cell], method: str, seed: int = 0) -> Cell:
    return next(one for one in cells if (one.identity.method, one.identity.seed) == (method, seed))


def out_of_memory(name: str) -> Outcome:
    return Outcome(name, "failed", kind="memory", message="out of memory at step 1 in micro-batches of 4: CUDA")


def test_a_pair_is_halved_together_and_other_seeds_stay(tmp_path: Path) -> None:
    suite, results = suite_in(tmp_path), tmp_path / "results"
    whole = cells_of(suite)
    told = halve(suite, results, whole, [out_of_memory(cell(whole, "samiro").id), Outcome("other", "done")])
    (line,) = told.values()
    assert (
        "it trains again in micro-batches of 2, and so does its pair (baseline), also what of it was finished" in line
    )
    now = current_cells(whole, read_reductions(results, "hungry"))
    assert [one.micro_batch_size for one in now] == [2, 2, 4, 4]
    assert [one.identity.micro_batch_size for one in now] == [2, 2, None, None]
    assert [one.id == other.id for one, other in zip(now, whole, strict=True)] == [False, False, True, True]
    # Batch, data order and weights are the same: only how many go through at once differs.
    assert {pair_key(one.identity) for one in now} == {pair_key(one.identity) for one in whole}
    assert now[0].configuration.recipe == whole[0].configuration.recipe
    again = halve(suite, results, now, [out_of_memory(cell(now, "samiro").id)])
    assert "in micro-batches of 1," in next(iter(again.values()))
    smallest = current_cells(whole, read_reductions(results, "hungry"))
    assert [one.micro_batch_size for one in smallest] == [1, 1, 4, 4]
    assert halve(suite, results, smallest, [out_of_memory(cell(smallest, "samiro").id)]) == {}


def test_seeds_beyond_those_of_the_suite_have_their_pairs(tmp_path: Path) -> None:
    suite, results = suite_in(tmp_path), tmp_path / "results"
    cells = cells_of(suite, Choice(seeds=3))
    told = halve(suite, results, cells, [out_of_memory(cell(cells, "samiro", 2).id)], 3)
    assert "and so does its pair (baseline)" in next(iter(told.values()))


def test_other_failures_halve_nothing_and_neither_does_a_pair_of_which_one_needs_two_images(tmp_path: Path) -> None:
    suite = suite_in(
        tmp_path, SUITE.replace("{oracle: drawn}", "{oracle: mixed}").replace("batch_size: 4", "batch_size: 2")
    )
    cells, results = cells_of(suite), tmp_path / "results"
    assert halve(suite, results, cells, [Outcome(cells[0].id, "failed", kind="error", message="out of memory")]) == {}
    assert halve(suite, results, cells, [out_of_memory(cells[0].id)]) == {}
    assert not reductions_file(results, "hungry").exists()


def test_another_recipe_is_tried_whole_again(tmp_path: Path) -> None:
    suite, results = suite_in(tmp_path), tmp_path / "results"
    halve(suite, results, cells_of(suite), [out_of_memory(cells_of(suite)[1].id)])
    other = cells_of(suite_in(tmp_path, SUITE.replace("batch_size: 4", "batch_size: 3")))
    assert current_cells(other, read_reductions(results, "hungry")) == other


def test_a_suite_that_asks_for_smaller_ones_has_its_own(tmp_path: Path) -> None:
    suite, results = suite_in(tmp_path), tmp_path / "results"
    halve(suite, results, cells_of(suite), [out_of_memory(cells_of(suite)[1].id)])
    own = cells_of(suite_in(tmp_path, SUITE.replace("training: {", "training: {micro_batch_size: 1, ")))
    assert {one.micro_batch_size for one in own} == {1}
    assert current_cells(own, read_reductions(results, "hungry")) == own
    assert reductions_of(own, read_reductions(results, "hungry")) == {}


def test_a_torn_list_is_named_with_the_remedy(tmp_path: Path) -> None:
    path = reductions_file(tmp_path, "hungry")
    path.parent.mkdir()
    path.write_text('{"a": {"micro_batch')
    with pytest.raises(InputError, match=r"micro_batches.json: not a readable list of micro-batches .* delete it"):
        read_reductions(tmp_path, "hungry")


class Here:
    """An engine that runs jobs in this process."""

    def run(self, jobs: Sequence[Job], listener: Listener) -> list[Outcome]:
        outcomes: dict[str, Outcome] = {}
        while following := ready(jobs, outcomes, ()):
            job = following[0]
            listener.started(job)
            try:
                job.task(lambda event: None)
                outcomes[job.name] = Outcome(job.name, "done")
            except Exception as error:
                fault = fault_of(error)
                outcomes[job.name] = Outcome(job.name, "failed", kind=fault.kind, message=fault.message)
            listener.ended(outcomes[job.name])
        return [outcomes.get(job.name) or Outcome(job.name, "skipped") for job in jobs]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder to run suites in within this process, and quickly."""
    engine: Engine = Here()
    monkeypatch.setitem(choice.ENGINES, "local", lambda suite, folder: engine)
    monkeypatch.setattr(artefacts, "available_cores", lambda: 1)
    monkeypatch.setattr(step_cost, "BLOCKS", 1)
    monkeypatch.setattr("harness.throughput.measurement.reference_milliseconds", lambda *_, **__: 1.0)
    short = PROTOCOLS["lane-latency/1-short"]
    counts = {name: 1 for name in vars(short) if name.endswith("iterations")}
    monkeypatch.setitem(PROTOCOLS, "lane-latency/1-short", type(short)(**{**vars(short), **counts}))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def told_by_plan(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
    assert main(["plan", "hungry.yaml", "--json"]) == 0
    return {row["name"]: row for row in json.loads(capsys.readouterr().out)["cells"]}


def test_out_of_memory_ends_in_a_pair_that_was_trained_alike(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite_in(here)
    assert main(["bench", "hungry.yaml"]) == 0
    said = capsys.readouterr().out
    assert (
        "out of memory at step 1 in micro-batches of 4: CUDA out of memory. Tried to allocate 2.00 GiB.; it trains"
        in said
    )
    plan = make_plan(load_suite("hungry.yaml"), Path("results/local"))
    assert all(state.done and state.recorded for state in plan.cells)
    records: dict[str, Record] = {one.id: one for one in read_records(Path("results/local/hungry/records"))}
    sizes = {}
    for state in plan.cells:
        record = records.pop(state.cell.id)
        assert record.training is not None
        assert record.training.micro_batch_size == (record.identity.micro_batch_size or 4)
        assert (record.training.batch_size, record.training.steps) == (4, 2)
        sizes[record.identity.method, record.identity.seed] = record.training.micro_batch_size
    assert sizes == {("baseline", 0): 2, ("samiro", 0): 2, ("baseline", 1): 4, ("samiro", 1): 4}
    # The baseline had been trained whole: that stays where it was, and isn't used any more.
    (before,) = records.values()
    assert (before.identity.method, before.identity.seed, before.identity.micro_batch_size) == ("baseline", 0, None)
    table = Path("results/local/hungry/leaderboard.md").read_text()
    assert "micro-batches differ" not in table
    rows = told_by_plan(capsys)
    halved = [row for row in rows.values() if "trains in micro-batches of 2 since" in row["why"]]
    assert [row["state"] for row in halved] == ["done", "done"]


def test_a_finished_pair_is_stale_with_the_reason(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = suite_in(here, limit=4)
    assert main(["bench", "hungry.yaml", "--only", "method=baseline,seed=0"]) == 0
    capsys.readouterr()
    whole = cells_of(suite)
    halve(suite, Path("results/local"), whole, [out_of_memory(cell(whole, "samiro").id)])
    baseline, samiro, *others = told_by_plan(capsys).values()
    assert (baseline["state"], samiro["state"]) == ("stale", "missing")
    why = f"trains in micro-batches of 2 since {cell(whole, 'samiro').id} ran out of memory at step 1"
    assert why in baseline["why"]
    assert [row["why"] for row in others] == ["", ""]
