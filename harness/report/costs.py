"""Latency and training cost of an arm over its seeds, kept apart by the machine they were measured on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median
from typing import TypeVar

from harness.records.record import Environment, Record
from harness.records.timings import COMMON_SIZE, InferenceCost, Latency, StepCost, Throughput
from harness.report.arms import Arm
from harness.report.text import counted

Number = TypeVar("Number", int, float)

HEADLINE = "fp32-strict"
"""The mode that tables compare detectors in."""

BESIDE_THE_POINT = frozenset({"cpu", "score changed"})
"""Flags that say something of a measurement but nothing against its times; any other does, one that nobody has heard of too."""


@dataclass(frozen=True, order=True)
class TimingKey:
    """Latencies compare only where all of this is equal. precision: the mode in which the network ran."""

    protocol: str
    machine: str
    threads: int
    precision: str


@dataclass(frozen=True)
class Timing:
    """Latency of an arm under one key: medians over its cells, milliseconds.

    relative: p50 over the reference model's median in the same process. fps = 1000 / p50. p50_range: lowest and highest p50 of any
    repeat. common_batch: images a second in batches of COMMON_SIZE; best_batch: the size that takes most a second, and how many, of
    the medians over cells. What the short protocol doesn't measure is None. flags: those of any cell. doubts: those for which the
    medians can't be relied on, so that the row is neither faster nor slower than another.
    """

    key: TimingKey
    cells: int
    iterations: int
    p50: float
    p90: float
    p95: float
    p99: float
    model_p50: float
    post_p50: float
    relative: float
    gflops: float | None
    gflops_is_lower_bound: bool
    parameters: int
    peak_memory_bytes: int | None
    flags: tuple[str, ...]
    doubts: tuple[str, ...]
    p50_range: tuple[float, float] | None
    h2d_p50: float | None
    pre_p50: float | None
    end_to_end_p50: float | None
    common_batch: float | None
    best_batch: tuple[int, float] | None
    peak_reserved_bytes: int | None
    peak_resident_bytes: int | None
    score_change: float | None

    @property
    def fps(self) -> float:
        """Frames per second at batch 1."""
        return 1000.0 / self.p50


@dataclass(frozen=True)
class InferenceCostOfArm:
    """What a method costs an arm's network at inference, in one graph, under one protocol on one machine; over its cells.

    ratio: the median, with the lowest and highest end of any cell's 95 % interval. Milliseconds are medians.
    """

    title: str
    graph: str
    cells: int
    ratio: tuple[float, float, float]
    model_ms: float
    baseline_model_ms: float
    flags: tuple[str, ...]


@dataclass(frozen=True)
class TrainingCostOfArm:
    """Training cost of an arm on one machine, means over its cells (peak memory: the maximum).

    seconds_per_step: of the cells' median steps. seconds: of all steps. step_ratio: step time over the baseline's, the median over the
    cells that measured it, with the lowest and highest block of any; a lower bound where a record's protocol left something out.
    step_flags: what spoke against a quiet measurement of step_ratio.
    """

    machine: str
    cells: int
    steps: int
    batch_size: int
    micro_batch_sizes: tuple[int, ...]
    seconds_per_step: float
    seconds: float
    peak_memory_bytes: int | None
    step_ratio: tuple[float, float, float] | None
    step_ratio_is_lower_bound: bool
    step_flags: tuple[str, ...]


def machine_of(environment: Environment, device: str) -> str:
    """The machine and the libraries that a time depends on, as one text. `device`: what it was measured on, `cpu` or a GPU's name."""
    on_cpu = device.lower() == "cpu"
    parts = [
        "CPU" if on_cpu else device,
        f"{environment.cpu}, {environment.cores} cores",
        environment.operating_system,
        f"torch {environment.torch}",
        *(
            f"{name} {version}"
            for name, version in (
                ("CUDA", environment.cuda),
                ("cuDNN", environment.cudnn),
                ("driver", environment.driver),
            )
            if version and not on_cpu
        ),
    ]
    return "; ".join(parts)


def timings_of(arm: Arm) -> dict[TimingKey, Timing]:
    """All latencies of an arm by key, in the order of keys."""
    runs: dict[TimingKey, list[Throughput]] = defaultdict(list)
    for record in arm.records:
        for run in record.throughput:
            key = TimingKey(run.protocol, machine_of(record.environment, run.device), run.threads, run.precision)
            runs[key].append(run)
    return {key: timing_of(key, runs[key]) for key in sorted(runs)}


def timing_of(key: TimingKey, runs: Sequence[Throughput]) -> Timing:
    """Summarise the runs of one arm under one key: median of medians."""

    def over(figure: Callable[[Throughput], float]) -> float:
        return float(median(figure(run) for run in runs))

    return Timing(
        key=key,
        cells=len(runs),
        iterations=sum(run.iterations for run in runs),
        p50=over(lambda run: run.latency_ms.p50),
        p90=over(lambda run: run.latency_ms.p90),
        p95=over(lambda run: run.latency_ms.p95),
        p99=over(lambda run: run.latency_ms.p99),
        model_p50=over(lambda run: run.model_ms.p50),
        post_p50=over(lambda run: run.post_ms.p50),
        relative=over(lambda run: run.latency_ms.p50 / mean(run.reference_ms)),
        gflops=largest(run.gflops for run in runs),
        gflops_is_lower_bound=any(run.gflops_is_lower_bound for run in runs),
        parameters=max(run.parameters for run in runs),
        peak_memory_bytes=largest(run.peak_memory_bytes for run in runs),
        flags=flags_of(runs),
        doubts=doubts_of(runs),
        p50_range=range_of([run.p50_range_ms for run in runs if run.p50_range_ms is not None]),
        h2d_p50=middle(p50_of(run.h2d_ms) for run in runs),
        pre_p50=middle(p50_of(run.pre_ms) for run in runs),
        end_to_end_p50=middle(p50_of(run.end_to_end_ms) for run in runs),
        common_batch=batch_rates(runs).get(COMMON_SIZE),
        best_batch=max(batch_rates(runs).items(), key=lambda item: item[1], default=None),
        peak_reserved_bytes=largest(run.peak_reserved_bytes for run in runs),
        peak_resident_bytes=largest(run.peak_resident_bytes for run in runs),
        score_change=middle(run.score_change for run in runs),
    )


def batch_rates(runs: Sequence[Throughput]) -> dict[int, float]:
    """Batch size -> images a second, the median over the runs that measured it."""
    rates: dict[int, list[float]] = defaultdict(list)
    for run in runs:
        for point in run.batches:
            rates[point.size].append(point.images_per_second)
    return {size: median(rates[size]) for size in sorted(rates)}


def p50_of(latency: Latency | None) -> float | None:
    """The median of a region, None where it wasn't measured."""
    return None if latency is None else latency.p50


def range_of(ranges: Sequence[tuple[float, float]]) -> tuple[float, float] | None:
    """From the lowest of the lower ends to the highest of the upper ones."""
    return (min(low for low, _ in ranges), max(high for _, high in ranges)) if ranges else None


def middle(values: Iterable[float | None]) -> float | None:
    """The median of the values that there are."""
    found = [value for value in values if value is not None]
    return median(found) if found else None


def common_timing(timings: Sequence[Mapping[TimingKey, Timing]]) -> TimingKey | None:
    """The key that all timed arms share: what a table may show in one column. The full protocol comes first, then fp32-strict, then
    the key's order.
    """
    timed = [set(arm) for arm in timings if arm]
    shared = set.intersection(*timed) if timed else set()
    return min(shared, key=lambda key: (key.protocol, key.precision != HEADLINE, key), default=None)


def inference_costs_of(arm: Arm) -> list[InferenceCostOfArm]:
    """What an arm's method costs at inference, graph by graph; nothing for the baseline and for methods that leave nothing behind."""
    found: dict[tuple[str, str], list[InferenceCost]] = defaultdict(list)
    for record in arm.records:
        for cost in record.inference_cost:
            machine = machine_of(record.environment, cost.device)
            title = f"{cost.protocol}, {HEADLINE}, {counted(cost.threads, 'thread')}, {machine}"
            found[title, cost.graph].append(cost)
    return [inference_cost(title, graph, found[title, graph]) for title, graph in found]


def inference_cost(title: str, graph: str, costs: Sequence[InferenceCost]) -> InferenceCostOfArm:
    """Summarise the costs of one arm in one graph."""
    return InferenceCostOfArm(
        title=title,
        graph=graph,
        cells=len(costs),
        ratio=ratio_over(costs),
        model_ms=median(cost.model_ms for cost in costs),
        baseline_model_ms=median(cost.baseline_model_ms for cost in costs),
        flags=flags_of(costs),
    )


def training_costs_of(arm: Arm) -> list[TrainingCostOfArm]:
    """What the training of an arm took, machine by machine."""
    by_machine: dict[str, list[Record]] = defaultdict(list)
    for record in arm.records:
        if record.training is not None:
            by_machine[machine_of(record.environment, record.environment.device)].append(record)
    return [training_cost(machine, records) for machine, records in sorted(by_machine.items())]


def training_cost(machine: str, records: Sequence[Record]) -> TrainingCostOfArm:
    """Summarise the trainings of one arm on one machine."""
    runs = [record.training for record in records if record.training is not None]
    steps = [record.step_cost for record in records if record.step_cost is not None]
    return TrainingCostOfArm(
        machine=machine,
        cells=len(runs),
        steps=runs[0].steps,
        batch_size=runs[0].batch_size,
        micro_batch_sizes=tuple(sorted({run.micro_batch_size for run in runs})),
        seconds_per_step=mean(run.seconds_per_step for run in runs),
        seconds=mean(run.seconds for run in runs),
        peak_memory_bytes=largest(run.peak_memory_bytes for run in runs),
        step_ratio=ratio_over(steps) if steps else None,
        step_ratio_is_lower_bound=any(left_out_of_step_cost(record) for record in records),
        step_flags=flags_of(steps),
    )


def left_out_of_step_cost(record: Record) -> bool:
    """Whether a record's step cost is without what `lambda_mode: ratio` measures: step-cost/1 left it out."""
    measures = record.identity.method_configuration.get("lambda_mode") == "ratio"
    return measures and record.step_cost is not None and record.step_cost.protocol == "step-cost/1"


def ratio_over(costs: Sequence[InferenceCost] | Sequence[StepCost]) -> tuple[float, float, float]:
    """Median, lowest and highest ratio over the cells that measured it."""
    return (
        median(cost.ratio for cost in costs),
        min(cost.ratio_low for cost in costs),
        max(cost.ratio_high for cost in costs),
    )


def flags_of(measurements: Iterable[Throughput | InferenceCost | StepCost]) -> tuple[str, ...]:
    """Every flag that any of the measurements carries, sorted."""
    return tuple(sorted({flag for measured in measurements for flag in measured.flags}))


def doubts_of(runs: Sequence[Throughput]) -> tuple[str, ...]:
    """The flags for which the median of some measurements can't be relied on, sorted: at least half of these carry one such."""
    doubtful = [[flag for flag in run.flags if flag not in BESIDE_THE_POINT] for run in runs]
    few = 2 * sum(map(bool, doubtful)) < len(runs)
    return () if few else tuple(sorted({flag for flags in doubtful for flag in flags}))


def largest(values: Iterable[Number | None]) -> Number | None:
    """The maximum of the values that there are."""
    return max((value for value in values if value is not None), default=None)
