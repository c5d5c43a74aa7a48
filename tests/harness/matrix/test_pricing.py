from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from harness.datasets.predictions import unpack_predictions
from harness.errors import InputError
from harness.matrix.pricing import (
    BYTES_A_WEIGHT,
    Machine,
    Rates,
    machines_that_know,
    parameters,
    priced,
    recorded_machine,
    recorded_rates,
    step_key,
    this_machine,
)
from harness.methods.base import TrainingModel
from harness.methods.samiro import RegularizedModel
from harness.processes.faults import OutOfMemory
from harness.suite import Cell, cells_of, load_suite
from harness.training.determinism import deterministic
from harness.training.plan import TrainingPlan

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def cells() -> tuple[Cell, ...]:
    return cells_of(load_suite("smoke"))


def record_of(cell: Cell, seconds: float, **changes: Any) -> dict[str, Any]:
    """The part of a record that prices are read from."""
    machine = {"device": "CPU", "cpu": this_machine("cpu").name} | changes
    return {
        "identity": cell.identity.model_dump(mode="json"),
        # Every third of its steps waited for images: that doesn't show in the median step.
        "training": {"steps": 30, "seconds": 30 * seconds, "seconds_per_step": seconds / 2},
        "environment": machine,
    }


def with_recipe(cell: Cell, changes: dict[str, Any]) -> Cell:
    """A cell whose detector is trained by another recipe."""
    configuration = cell.configuration
    recipe = configuration.recipe.model_copy(update=changes)
    configurations = {cell.form: configuration.model_copy(update={"recipe": recipe})}
    return replace(cell, meta=cell.meta.model_copy(update={"configurations": configurations}))


def write(results: Path, name: str, record: dict[str, Any]) -> None:
    path = results / "some suite" / "records" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))


def test_a_cell_is_priced_by_the_median_of_the_records_that_are_like_it(
    tmp_path: Path, cells: tuple[Cell, ...]
) -> None:
    baseline, samiro = cells
    for number, seconds in enumerate((0.5, 0.2, 0.3)):
        write(tmp_path, f"like {number}", record_of(baseline, seconds))
    write(tmp_path, "of another machine", record_of(baseline, 9.0, device="NVIDIA H100"))
    other = record_of(baseline, 9.0)
    other["identity"]["recipe"]["batch_size"] += 1
    write(tmp_path, "of another batch", other)
    rates = recorded_rates(tmp_path)
    prices = priced(cells, {"roads": 72}, [rates], {baseline.id: 36})
    assert prices[baseline.id].seconds == pytest.approx(60 * 0.3)
    assert prices[baseline.id].basis == "records"
    assert prices[samiro.id].seconds is None
    assert prices[samiro.id].basis == "unknown"


def test_cells_are_priced_on_another_machine_whose_records_are_here(tmp_path: Path, cells: tuple[Cell, ...]) -> None:
    baseline, samiro = cells
    write(tmp_path, "here", record_of(baseline, 9.0))
    write(tmp_path, "there", record_of(baseline, 0.2, device="NVIDIA H200"))
    write(tmp_path, "further", record_of(samiro, 0.2, device="NVIDIA H100"))
    rates = recorded_rates(tmp_path)
    there = recorded_machine(rates, "NVIDIA H200")
    assert there == Machine("NVIDIA H200", gpu=True)
    assert recorded_machine(rates, this_machine("cpu").name) == this_machine("cpu")
    prices = priced(cells, {"roads": 72}, [rates], {}, there)
    assert prices[baseline.id].seconds == pytest.approx(60 * 0.2)
    assert prices[samiro.id].seconds is None
    assert machines_that_know([samiro], rates) == (Machine("NVIDIA H100", gpu=True),)
    # One that knows a single cell of several is worth being named.
    assert set(machines_that_know(cells, rates)) == set(rates.machines)
    with pytest.raises(InputError, match=r"no record of these results is of 'H200'; .*'NVIDIA H200'"):
        recorded_machine(rates, "H200")


def test_how_an_oracle_came_by_its_weights_and_how_hard_it_pulls_make_no_step_longer(cells: tuple[Cell, ...]) -> None:
    samiro = cells[1].identity.model_dump(mode="json")

    def key(**changes: Any) -> str:
        return step_key({**samiro, **changes}, "machine")

    other = {**samiro["method_configuration"], "oracle": "another", "lambda": 0.5}
    random = {
        "configuration": {**samiro["oracle"]["configuration"], "name": "random:resnet_micro"},
        "dataset": "elsewhere",
    }
    assert {key(method_configuration=other), key(oracle=random), key(oracle={"shuffled": random})} == {key()}
    assert key(method_configuration={**other, "kind": "miro"}) != key()
    assert key(oracle={"configuration": {"name": "mim:resnet18"}, "dataset": "elsewhere"}) != key()
    assert key(oracle={"configuration": {"name": "init"}}) != key()


@pytest.mark.parametrize(
    "changes",
    [
        {"detector_meta": {"name": "another"}},
        {"form": "tusimple"},
        {"precision": "bf16"},
        {"threads": 7},
        {"micro_batch_size": 3},
        {"channels_last": True},
        {"compiled": True},
        {"processes": 2},
        {"oracle": None},
    ],
    ids=str,
)
def test_what_a_steps_time_depends_on_makes_another_key(cells: tuple[Cell, ...], changes: dict[str, Any]) -> None:
    samiro = cells[1].identity.model_dump(mode="json")
    assert step_key({**samiro, **changes}, "machine") != step_key(samiro, "machine")
    assert step_key(samiro, "another machine") != step_key(samiro, "machine")


def test_records_count_before_a_probe(cells: tuple[Cell, ...]) -> None:
    baseline = cells[0]
    key = step_key(baseline.identity.model_dump(mode="json"), this_machine("cpu").name)
    rates = [Rates({}, "records"), Rates({key: 2.0}, "records"), Rates({key: 9.0}, "probe")]
    found = priced([baseline], {"roads": 72}, rates, {})[baseline.id]
    assert (found.basis, found.steps, found.seconds) == ("records", 60, 120.0)


def test_a_recipe_in_epochs_has_no_price_without_the_number_of_images(cells: tuple[Cell, ...]) -> None:
    baseline = cells[0]
    rates = Rates({step_key(baseline.identity.model_dump(mode="json"), this_machine("cpu").name): 2.0}, "probe")
    assert priced([baseline], {}, [rates], {})[baseline.id].basis == "unknown"
    assert priced([baseline], {"roads": 72}, [rates], {})[baseline.id].basis == "probe"


def test_a_record_that_cannot_be_read_is_named_and_the_others_count(tmp_path: Path, cells: tuple[Cell, ...]) -> None:
    write(tmp_path, "whole", record_of(cells[0], 0.25))
    (tmp_path / "some suite" / "records" / "broken.json").write_text("{")
    rates = recorded_rates(tmp_path)
    assert list(rates.seconds.values()) == [0.25]
    (problem,) = rates.problems
    assert "broken.json" in problem


@pytest.mark.parametrize(
    "changes",
    [
        {"training": {"steps": 0, "seconds": 9.0}},
        {"training": {"steps": 30}},
        {"training": [30, 9.0]},
        {"environment": {"device": None}},
        {"identity": {}},
    ],
    ids=str,
)
def test_a_record_without_what_a_price_needs_is_named_and_the_others_count(
    tmp_path: Path, cells: tuple[Cell, ...], changes: dict[str, Any]
) -> None:
    write(tmp_path, "whole", record_of(cells[0], 0.25))
    write(tmp_path, "strange", record_of(cells[0], 0.5) | changes)
    rates = recorded_rates(tmp_path)
    assert list(rates.seconds.values()) == [0.25]
    (problem,) = rates.problems
    assert "strange.json: no price can be read from it" in problem


def test_a_record_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "some suite" / "records" / "a folder.json").mkdir(parents=True)
    (problem,) = recorded_rates(tmp_path).problems
    assert "a folder.json" in problem


def test_a_programs_record_tells_no_price_and_is_no_problem(tmp_path: Path, cells: tuple[Cell, ...]) -> None:
    record = record_of(cells[0], 0.25)
    write(tmp_path, "a program's", record | {"identity": record["identity"] | {"recipe": {}}, "training": None})
    rates = recorded_rates(tmp_path)
    assert (rates.seconds, rates.problems) == ({}, ())


def test_room_on_the_disk_is_that_of_weights_and_predictions_and_meanwhile_of_moments(cells: tuple[Cell, ...]) -> None:
    few, many = (priced(cells[:1], {}, [], {cells[0].id: images})[cells[0].id] for images in (0, 1000))
    assert few.disk_bytes == parameters(cells[0]) * BYTES_A_WEIGHT
    # adamw: the weights and their two moments, and the state before, which is there until they are written.
    assert few.training_bytes == many.training_bytes == parameters(cells[0]) * BYTES_A_WEIGHT * 3 * 2
    # More than an image takes in any row that is published, and no block of a disk, for no image has a file of its own.
    archives = sorted((ROOT / "results").glob("mini*/predictions/*.npz"))
    assert archives
    for archive in archives:
        counts = ROOT / "results" / archive.parts[-3] / f"records/{archive.name.removesuffix('.npz')}.counts.npz"
        taken = archive.stat().st_size + counts.stat().st_size
        assert 1000 * taken / len(unpack_predictions(archive)[0]) < many.disk_bytes - few.disk_bytes < 4096 * 1000
    # sgd: the weights and one moment, and perhaps their moving average.
    for changes, copies in (
        ({"optimizer": "sgd"}, 2),
        ({"optimizer": "sgd", "ema_decay": 0.9}, 3),
        ({"optimizer": "adam"}, 3),
    ):
        cell = with_recipe(cells[0], changes)
        assert priced([cell], {}, [], {})[cell.id].training_bytes == parameters(cell) * BYTES_A_WEIGHT * copies * 2


def test_two_rows_of_one_detector_take_the_room_of_the_weights_of_each(tmp_path: Path) -> None:
    text = (ROOT / "suites/smoke.yaml").read_text(encoding="utf-8")
    names = "resa_micro:\n  resa_wide: {adapter: resa_micro, input: {network: [256, 640]}}"
    file = tmp_path / "mine.yaml"
    file.write_text(text.replace("ufldv2_micro:\n    recipe: {steps: 60}", names), encoding="utf-8")
    small, wide = (cell for cell in cells_of(load_suite(str(file))) if cell.identity.method == "baseline")
    prices = priced([small, wide], {}, [], {})
    assert prices[wide.id].disk_bytes == parameters(wide) * BYTES_A_WEIGHT > prices[small.id].disk_bytes


def test_a_probe_takes_steps_of_the_very_cell_and_leaves_nothing_behind(
    tmp_path: Path, cells: tuple[Cell, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.matrix import probe

    summaries = []

    def noted(*arguments: Any, **options: Any) -> Any:
        summaries.append(train(*arguments, **options))
        return summaries[-1]

    train = probe.train
    monkeypatch.setattr(probe, "train", noted)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    asked: list[str] = []
    rates = probe.probed_rates([*cells, *cells], asked.append)
    assert asked == [cell.id for cell in cells]
    # What a record of these steps would say, of whole batches: what is looked at between two steps isn't in it.
    shares = [cell.configuration.recipe.batch_size / probe.IMAGES_ON_CPU for cell in cells]
    found = [summary.seconds_per_step * share for summary, share in zip(summaries, shares, strict=True)]
    assert list(rates.seconds.values()) == pytest.approx(found)
    prices = priced(cells, {"roads": 72}, [rates], {})
    assert all(price.basis == "probe" and price.seconds and price.seconds > 0 for price in prices.values())


@pytest.mark.parametrize("number", [0, 1], ids=["baseline", "samiro"])
def test_a_probe_trains_the_cells_method_by_its_plan_on_its_threads_and_tells_of_whole_batches(
    cells: tuple[Cell, ...], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    from harness.matrix import probe

    def noted(model: TrainingModel, batches: Any, plan: TrainingPlan, **options: Any) -> Any:
        assert isinstance(model, RegularizedModel) == (number == 1)
        assert torch.get_num_threads() == 3
        assert (plan.total_steps, plan.precision, plan.tensorboard) == (probe.STEPS, "bf16", False)
        recipe = cell.configuration.recipe.model_dump() | {"steps": probe.STEPS, "epochs": None}
        assert plan.recipe.model_dump() == recipe | {"batch_size": probe.IMAGES_ON_CPU, "warmup_steps": 0}
        assert len(next(batches(0, 1)).ids) == probe.IMAGES_ON_CPU
        return SimpleNamespace(seconds_per_step=0.5)

    monkeypatch.setattr(probe, "train", noted)
    cell = with_recipe(cells[number], {"warmup_steps": 9})
    cell = replace(
        cell,
        identity=cell.identity.model_copy(update={"precision": "bf16"}),
        training=cell.training.model_copy(update={"threads": 3, "tensorboard": True, "workers": 0}),
    )
    with deterministic(threads=1):  # what a probe sets stays, for its process is one of its own
        assert probe.probe(cell) == 0.5 * cell.configuration.recipe.batch_size / probe.IMAGES_ON_CPU


@pytest.mark.parametrize(
    ("size", "advice"),
    [(16, "give a 'training.micro_batch_size' below 16"), (1, "a single sample is too much for this device")],
)
def test_a_probe_that_does_not_fit_into_memory_names_the_cell_and_what_helps(
    cells: tuple[Cell, ...], monkeypatch: pytest.MonkeyPatch, size: int, advice: str
) -> None:
    from harness.matrix import probe

    def full(*arguments: object, **options: object) -> None:
        raise OutOfMemory(1, size, "CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(probe, "train", full)
    with pytest.raises(InputError, match=rf"^--probe: .* micro-batches of {size}: .*; {advice}") as raised:
        probe.probed_rates(cells[:1])
    assert cells[0].id in str(raised.value)
