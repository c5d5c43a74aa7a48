"""What a matrix still costs is what records, probes and finished cells tell, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from harness.cell.phases import PhaseState
from harness.matrix.budget import Cost, cost_line, cost_of, costs_of, is_long, job_seconds, told_costs
from harness.matrix.builds import builds_of
from harness.matrix.plan import CellState, Plan, make_plan
from harness.matrix.pricing import Machine, Price, this_machine
from harness.records.environment import cpu_name
from harness.suite import Choice, load_suite

SECONDS = {"train": 100.0, "predict-test": 7.0, "score-test": 3.0, "time": 20.0}


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return make_plan(load_suite("smoke"), tmp_path_factory.mktemp("results"), Choice(seeds=2))


def with_done(state: CellState, *names: str, machine: str | None = None) -> CellState:
    """The cell with these phases done, each in its SECONDS, on a machine; None: on this one."""
    made = machine or this_machine("cpu").name
    done = [
        (phase, PhaseState("done", seconds=SECONDS[phase.name], machine=made) if phase.name in names else stand)
        for phase, stand in state.states
    ]
    return replace(state, states=tuple(done))


def price(seconds: float | None = 100.0, steps: int = 60) -> Price:
    return Price(seconds, "unknown" if seconds is None else "records", 10**6, 0, steps)


def test_a_cell_costs_its_training_and_what_others_like_it_took_for_the_rest(plan: Plan) -> None:
    first, second, *others = plan.cells
    made = replace(plan, cells=(with_done(first, *SECONDS), second, *others))
    costs = costs_of(made, {second.cell.id: price()})
    cost = costs[second.cell.id]
    assert (cost.training, cost.rest, cost.unknown) == (100.0, 30.0, False)
    assert cost.unit == "CPU-hours"
    assert cost.hours == pytest.approx(130 / 3600 * second.cell.training.threads)
    assert first.cell.id not in costs


def test_what_another_machine_took_is_no_price_here_but_there(plan: Plan) -> None:
    first, second, *others = plan.cells
    made = replace(plan, cells=(with_done(first, *SECONDS, machine="NVIDIA H200"), second, *others))
    here, there = (
        costs_of(made, {second.cell.id: price()}, machine)[second.cell.id]
        for machine in (None, Machine("NVIDIA H200", gpu=True))
    )
    assert (here.training, here.rest, here.unit) == (100.0, None, "CPU-hours")
    assert (there.training, there.rest, there.unit, there.devices) == (100.0, 30.0, "GPU-hours", 1)
    # A forecast of jobs takes what there is: nobody knows on which node of a cluster they will run.
    jobs = job_seconds(made, {second.cell.id: price()})
    assert (jobs[second.cell.id], jobs[f"time {second.cell.id}"]) == (100.0 + 7.0 + 3.0, 20.0)
    told = cost_line({second.cell.id: here}, [price()], "smoke")
    assert (
        "predicting, scoring and timing of 1 aren't in it: no cell like them is known to be done on such a machine"
        in told
    )


def test_scoring_and_programs_are_priced_by_the_processor_beside_a_gpu_too(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.matrix.pricing.this_machine", lambda device: Machine("NVIDIA H200", gpu=True))
    first, second, third, *others = plan.cells
    done = with_done(first, *SECONDS, machine=cpu_name())
    program = SimpleNamespace(id="program", identity=first.cell.identity, training=first.cell.training)
    scored, asked = with_done(second, "train", "predict-test", "time"), replace(first, cell=program)  # type: ignore[arg-type]
    made = replace(plan, cells=(done, scored, replace(asked, states=asked.states[1:]), third, *others))
    costs = costs_of(made, {third.cell.id: price()})
    assert costs[second.cell.id].rest == 3.0
    assert (costs["program"].training, costs["program"].rest) == (0.0, 30.0)
    assert costs[third.cell.id].rest is None  # nobody predicted on this GPU
    assert costs_of(made, {}, Machine("NVIDIA H200", gpu=True))[second.cell.id].rest is None


def test_of_a_trained_cell_only_what_is_left_counts(plan: Plan) -> None:
    first, second, *others = plan.cells
    made = replace(plan, cells=(with_done(first, *SECONDS), with_done(second, "train", "predict-test"), *others))
    cost = costs_of(made, {})[second.cell.id]
    assert (cost.training, cost.rest) == (0.0, 23.0)
    only_trained = replace(plan, cells=(with_done(first, *SECONDS), with_done(second, "train"), *others))
    cost = costs_of(only_trained, {})[second.cell.id]
    assert (cost.training, cost.rest) == (0.0, 30.0)
    assert job_seconds(made, {})[f"time {second.cell.id}"] == 20.0
    assert job_seconds(made, {})[second.cell.id] == 3.0
    to_be_timed = with_done(second, "train", "predict-test", "score-test")
    assert second.cell.id not in job_seconds(replace(plan, cells=(with_done(first, *SECONDS), to_be_timed)), {})


def test_a_cell_of_several_processes_costs_the_hours_of_all_their_devices() -> None:
    identity, training = SimpleNamespace(processes=2), SimpleNamespace(threads=3)
    cell = SimpleNamespace(identity=identity, training=training)
    on_gpus, on_cores = (
        cost_of(cell, Machine("any", gpu), price(3600.0), None, 3600.0)  # type: ignore[arg-type]
        for gpu in (True, False)
    )
    assert (on_gpus.hours, on_gpus.unit) == (4.0, "GPU-hours")
    assert (on_cores.hours, on_cores.unit) == (12.0, "CPU-hours")
    assert on_gpus.disk_bytes == 10**6


def test_a_cell_whose_data_is_not_at_hand_costs_its_training_and_what_nobody_knows(plan: Plan) -> None:
    cell = plan.cells[0].cell
    (cost,) = costs_of(replace(plan, cells=(), unavailable=((cell, "no images"),)), {cell.id: price()}).values()
    assert (cost.training, cost.rest, cost.unknown, cost.disk_bytes) == (100.0, None, True, 10**6)


def test_a_job_of_which_a_part_is_unknown_has_no_length(plan: Plan) -> None:
    first, second, *others = plan.cells
    made = replace(plan, cells=(with_done(first, "train", "predict-test", "time"), second, *others))
    assert job_seconds(made, {second.cell.id: price()}) == {
        f"time {state.cell.id}": 20.0 for state in (second, *others)
    }


def test_what_was_done_without_a_time_leaves_the_figures_of_the_others(plan: Plan) -> None:
    first, second, third, *others = plan.cells
    phases = [(phase, replace(stand, seconds=None)) for phase, stand in with_done(first, *SECONDS).states]
    cells = (replace(first, states=tuple(phases)), with_done(second, *SECONDS), third, *others)
    assert costs_of(replace(plan, cells=cells), {})[third.cell.id].rest == 30.0


def test_what_other_code_took_is_no_price(plan: Plan) -> None:
    first, second, *others = plan.cells
    phases = [(phase, replace(stand, state="stale")) for phase, stand in with_done(first, *SECONDS).states]
    made = replace(plan, cells=(replace(first, states=tuple(phases)), second, *others))
    assert costs_of(made, {})[second.cell.id].rest is None


def test_what_several_took_counts_by_their_median(plan: Plan) -> None:
    last = plan.cells[-1]
    identities = [state.cell.identity for state in plan.cells]
    assert len({(identity.dataset, identity.detector) for identity in identities}) == 1
    lengths = (1.0, 2.0, 60.0)
    done = [
        replace(state, states=tuple((phase, replace(stand, seconds=length)) for phase, stand in state.states))
        for state, length in zip([with_done(one, *SECONDS) for one in plan.cells[:3]], lengths, strict=True)
    ]
    assert costs_of(replace(plan, cells=(*done, last)), {})[last.cell.id].rest == 3 * 2.0


def test_of_costs_in_part_unknown_it_is_told_and_each_unit_has_its_own_hours() -> None:
    half = Cost(training=7200.0, rest=None, devices=1, unit="GPU-hours", disk_bytes=0)
    other = Cost(training=None, rest=3600.0, devices=2, unit="CPU-hours", disk_bytes=0)
    none = replace(other, rest=None)
    assert half.unknown
    assert other.unknown
    told = told_costs([half, replace(half, rest=0.0), other, none])
    assert told == "4 cells, 4.0 GPU-hours and 2.0 CPU-hours (3 without a whole price)"
    assert told_costs([none]) == "1 cell (1 without a whole price)"
    line = cost_line({"a": replace(half, rest=21_600.0), "b": none}, [price(7200.0)], "smoke")
    assert "8.0 GPU-hours" in line
    assert "(25 % training: 1 by records)" in line


def test_what_nobody_knows_is_told_and_not_guessed(plan: Plan) -> None:
    prices = {state.cell.id: price(None) for state in plan.cells}
    costs = costs_of(plan, prices)
    assert all(cost.unknown and cost.hours == 0 for cost in costs.values())
    assert job_seconds(plan, prices) == {}
    told = cost_line(costs, prices.values(), "smoke")
    assert f"without a price: {len(plan.cells)} trainings; `samiro-bench plan smoke --probe`" in told
    assert "hours" not in told


def test_hours_of_the_whole_are_in_one_line(plan: Plan) -> None:
    prices = {state.cell.id: price(36_000.0) for state in plan.cells}
    told = cost_line(costs_of(plan, prices), prices.values(), "smoke")
    assert told.startswith(f"to do: {len(plan.cells)} cells, {len(plan.cells)} of them to train; ")
    assert f"{10.0 * len(plan.cells):.1f} CPU-hours (100 % training: {len(plan.cells)} by records)" in told
    assert "without a price" not in told


def test_what_is_built_before_cells_is_told_with_its_hours_or_that_nobody_knows_them(plan: Plan) -> None:
    rendering, pretraining = builds_of(plan.results, plan.pending)
    assert (rendering.job, pretraining.job.partition("-")[0]) == ("render roads", "oracle mim")
    cost = Cost(training=0.0, rest=9000.0, devices=2, unit="CPU-hours", disk_bytes=0)
    told = cost_line({}, [], "smoke", [(rendering, cost), (pretraining, None)])
    assert (
        "; before that: 1 dataset to render (5.0 CPU-hours); without a price: 1 oracle to make; `samiro-bench" in told
    )
    assert job_seconds(plan, {}, [(rendering, cost), (pretraining, None)]) == {"render roads": 9000.0}
    assert is_long({}, [], [(rendering, cost)])
    assert not is_long({}, [], [(rendering, replace(cost, rest=90.0)), (pretraining, None)])


@pytest.mark.parametrize(
    ("one", "long"),
    [
        (price(10.0), False),
        (price(10.0, 6000), False),
        (price(4000.0), True),
        (price(None, 60), False),
        (price(None, 6000), True),
        (Price(None, "unknown", 0, 0, None), True),
    ],
)
def test_long_is_what_takes_an_hour_or_may(plan: Plan, one: Price, long: bool) -> None:
    chosen = replace(plan, cells=plan.cells[:1])
    prices = {plan.cells[0].cell.id: one}
    assert is_long(costs_of(chosen, prices), prices.values()) is long


@pytest.mark.parametrize("one", [price(1500.0), price(None, 2000)])
def test_several_that_are_short_are_long_together(plan: Plan, one: Price) -> None:
    for count, long in ((2, False), (3, True)):
        chosen = replace(plan, cells=plan.cells[:count])
        prices = {state.cell.id: one for state in chosen.cells}
        assert is_long(costs_of(chosen, prices), prices.values()) is long
