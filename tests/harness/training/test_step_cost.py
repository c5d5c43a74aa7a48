from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from harness.methods.weighting import RatioWeight
from harness.records.timings import StepCost
from harness.training import step_cost
from harness.training.loop import TrainingPlan
from harness.training.step_cost import BLOCKS, WARM_STEPS, measure_step_cost

CPU = torch.device("cpu")


class Machine:
    """A clock that steps move on; the machine gets slower by `drift` a step."""

    def __init__(self) -> None:
        self.time, self.steps, self.drift = 0, [], 250

    def now(self) -> int:
        return self.time

    def synchronise(self) -> None:
        pass

    def arm(self, name: str, cost: int, **options: Any) -> Any:
        return Arm(self, name, cost, **options)


class Arm(nn.Module):
    """A model whose forward is a step; one that is `steered` costs more where it measures."""

    def __init__(self, machine: Machine, name: str, cost: int, *, measurement: int = 0, total: int = 0) -> None:
        super().__init__()
        self.machine, self.name, self.cost, self.measurement = machine, name, cost, measurement
        self.weight = RatioWeight(0.1, total) if total else None

    def forward(self, batch: str) -> None:
        measures = self.weight is not None and self.weight.warm_up == 0
        self.machine.steps.append((f"{self.name}, measured" if measures else self.name, batch))
        self.machine.time += self.cost + measures * self.measurement + self.machine.drift * len(self.machine.steps)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    monkeypatch.setattr(step_cost, "ratio_timer_of", lambda device, threads: machine)
    monkeypatch.setattr(step_cost, "steps_of", lambda model, plan, device, folder: model)
    return machine


@pytest.fixture
def plan() -> TrainingPlan:
    recipe = SimpleNamespace(batch_size=4)
    return SimpleNamespace(recipe=recipe, precision="fp32", micro_batch_size=None)  # type: ignore[return-value]


def test_both_arms_take_turns_in_blocks_on_the_same_batches(machine: Machine, plan: TrainingPlan) -> None:
    measure_step_cost(
        lambda: machine.arm("base", 10_000),  # type: ignore[arg-type, return-value]
        lambda: machine.arm("method", 15_000),  # type: ignore[arg-type, return-value]
        ["one", "two"],  # type: ignore[list-item]
        plan,
        device=CPU,
        threads=1,
    )
    names = [name for name, _ in machine.steps]
    assert names == ["base"] * WARM_STEPS + ["method"] * WARM_STEPS + ["base", "method", "method", "base"] * BLOCKS
    timed = [batch for _, batch in machine.steps[2 * WARM_STEPS :]]
    assert timed == [batch for block in range(BLOCKS) for batch in [("one", "two")[block % 2]] * 4]


def test_a_machine_that_gets_slower_does_not_tell_in_the_difference_of_the_arms(
    machine: Machine, plan: TrainingPlan
) -> None:
    found = measure_step_cost(
        lambda: machine.arm("base", 10_000),  # type: ignore[arg-type, return-value]
        lambda: machine.arm("method", 10_000),  # type: ignore[arg-type, return-value]
        ["one"],  # type: ignore[list-item]
        plan,
        device=CPU,
        threads=1,
    )
    assert (found.ratio, found.ratio_low, found.ratio_high) == (1.0, 1.0, 1.0)
    assert found.peak_memory_bytes is None


def test_a_cost_says_what_it_is_of_and_which_arm_took_how_much_memory(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments, peaks, threads = iter(("before", "after")), iter((100, 300)), []

    @contextmanager
    def peak(device: torch.device) -> Iterator[list[int]]:
        found: list[int] = []
        yield found
        found.append(next(peaks))

    def timed(first: Any, second: Any, timer: Machine) -> tuple[list[int], list[int]]:
        threads.append(torch.get_num_threads())
        return [1, 1], [2, 2]

    monkeypatch.setattr(step_cost, "_peak_memory", peak)
    monkeypatch.setattr(step_cost, "turns", timed)
    monkeypatch.setattr(step_cost, "usage", lambda: next(moments))
    monkeypatch.setattr(step_cost, "noise_flags", lambda device, start, end: [f"from {start} to {end}"])
    found = measure_step_cost(
        lambda: machine.arm("base", 1),  # type: ignore[arg-type, return-value]
        lambda: machine.arm("method", 1),  # type: ignore[arg-type, return-value]
        ["one"],  # type: ignore[list-item]
        SimpleNamespace(recipe=SimpleNamespace(batch_size=8), precision="bf16", micro_batch_size=2),  # type: ignore[arg-type]
        device=CPU,
        threads=3,
    )
    assert (found.batch_size, found.micro_batch_size, found.precision, found.threads) == (8, 2, "bf16", 3)
    assert (found.baseline_peak_memory_bytes, found.peak_memory_bytes) == (100, 300)
    assert found.flags == ("from before to after",)
    # What the protocol's name stands for.
    assert (found.protocol, WARM_STEPS, threads) == ("step-cost/2", 2, [3] * 6)


def cost_of(machine: Machine, plan: TrainingPlan, *, total: int) -> StepCost:
    """The cost of an arm of half more, which takes three times as long where it measures."""
    machine.drift = 0
    return measure_step_cost(
        lambda: machine.arm("base", 10_000),  # type: ignore[arg-type, return-value]
        lambda: machine.arm("method", 15_000, measurement=30_000, total=total),  # type: ignore[arg-type, return-value]
        ["one"],  # type: ignore[list-item]
        plan,
        device=CPU,
        threads=1,
    )


def test_a_ratio_is_the_blocks_median_between_the_lowest_and_the_highest(
    machine: Machine, plan: TrainingPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A block's ratio is that of its sums; one block was disturbed.
    blocks = iter([([90, 110], [100 + more, 140 + more]) for more in (10, 0, 90, 20, 800, 30)])
    monkeypatch.setattr(step_cost, "turns", lambda first, second, timer: next(blocks))
    found = measure_step_cost(
        lambda: machine.arm("base", 1),  # type: ignore[arg-type, return-value]
        lambda: machine.arm("method", 1),  # type: ignore[arg-type, return-value]
        ["one"],  # type: ignore[list-item]
        plan,
        device=CPU,
        threads=1,
    )
    assert (found.ratio, found.ratio_low, found.ratio_high) == pytest.approx((1.45, 1.2, 9.2))
    # The middle of 100, 110, 120, 130, 140, 150, 160, 170, 190, 230, 900, 940.
    assert found.seconds_per_step == pytest.approx(155e-9)
    assert found.baseline_seconds_per_step == pytest.approx(100e-9)


def test_what_a_steered_lambda_measures_counts_by_its_share_of_the_forwards(
    machine: Machine, plan: TrainingPlan
) -> None:
    # Of 1,000 forwards the first 50 keep lambda; then every tenth measures.
    found = cost_of(machine, plan, total=1000)
    assert found.ratio == pytest.approx(1.5 * (1 + 0.095 * 2))
    assert found.seconds_per_step == pytest.approx(15e-6 * (1 + 0.095 * 2))
    assert found.baseline_seconds_per_step == pytest.approx(10e-6)
    names = [name for name, _ in machine.steps]
    block = ["base", "method", "method", "base", "method", *["method, measured"] * 2, "method"]
    assert names == ["base"] * WARM_STEPS + ["method"] * WARM_STEPS + ["method, measured"] + block * BLOCKS


def test_a_training_that_ends_before_the_first_measurement_pays_for_none(machine: Machine, plan: TrainingPlan) -> None:
    assert cost_of(machine, plan, total=50).ratio == 1.5
    assert not any("measured" in name for name, _ in machine.steps)


def test_real_steps_of_a_steered_lambda_measure_only_where_it_is_meant(
    toy: ModuleType, roads: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = []
    real = RatioWeight._measure
    monkeypatch.setattr(RatioWeight, "_measure", lambda self, *given: (measured.append(1), real(self, *given)))
    batches = list(roads.stream(toy.model().detector).batches(0, 1))
    # In micro-batches, so that the forwards of its unmeasured steps pass those that keep lambda.
    plan = TrainingPlan(toy.recipe(), 100, micro_batch_size=1)
    found = measure_step_cost(toy.model, lambda: toy.samiro("ratio", 400), batches, plan, device=CPU, threads=1)
    assert len(measured) == 4 * (1 + 2 * BLOCKS)
    assert found.protocol == "step-cost/2"


def test_real_steps_are_measured_and_leave_the_process_as_it_was(toy: ModuleType, roads: Any) -> None:
    batches = list(roads.stream(toy.model().detector).batches(0, 1))
    plan = TrainingPlan(toy.recipe(), 100)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    before = (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())
    found = measure_step_cost(toy.model, toy.model, batches, plan, device=CPU, threads=1)
    assert torch.equal(torch.rand(1), expected)
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before
    assert (found.blocks, found.batch_size, found.micro_batch_size) == (BLOCKS, 4, 4)
    assert 0 < found.ratio_low <= found.ratio <= found.ratio_high
    assert found.seconds_per_step > 0
    assert found.baseline_seconds_per_step > 0
    with pytest.raises(ValueError, match="no batch"):
        measure_step_cost(toy.model, toy.model, [], plan, device=CPU, threads=1)
