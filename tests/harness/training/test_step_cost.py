from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from harness.training import step_cost
from harness.training.loop import TrainingPlan
from harness.training.step_cost import BLOCKS, WARM_STEPS, measure_step_cost

CPU = torch.device("cpu")


class Machine:
    """A clock that steps move on; the machine gets slower by a quarter a step, as a drifting one does."""

    def __init__(self) -> None:
        self.time, self.steps = 0, []

    def now(self) -> int:
        return self.time

    def synchronise(self) -> None:
        pass

    def arm(self, name: str, cost: int) -> Any:
        def step(batch: str) -> None:
            self.steps.append((name, batch))
            self.time += cost + 250 * len(self.steps)

        return step


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
