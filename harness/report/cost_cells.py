"""The tables of what rows cost, in latency, at inference and in training, as plain strings (`harness.report.cells` has the scores')."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from harness.report.arms import Arm
from harness.report.costs import Timing, TimingKey, TrainingCostOfArm, machine_of
from harness.report.leaderboard import Leaderboard
from harness.report.table import Table
from harness.report.text import counted, mebibytes, number, points, significant

DOUBTFUL = " ‡"
"""Stands behind times that can't be relied on, where no column has their flags."""

MEASURED_IN_FULL: dict[str, Callable[[Timing], str]] = {
    "p50 range ms": lambda timing: range_text(timing.p50_range),
    "File p50 ms": lambda timing: number(timing.pre_p50, 2),
    "End-to-end p50 ms": lambda timing: number(timing.end_to_end_p50, 2),
    "Images/s at 16": lambda timing: number(timing.common_batch, 1),
    "Best images/s": lambda timing: best_batch_text(timing.best_batch),
    "Δ score": lambda timing: points(timing.score_change, sign=True),
    "Reserved MiB": lambda timing: mebibytes(timing.peak_reserved_bytes),
    "Resident MiB": lambda timing: mebibytes(timing.peak_resident_bytes),
}
"""Columns that stand in a table of which some row has them: the short protocol doesn't measure them."""


def timing_cells(timing: Timing | None) -> tuple[str, ...]:
    """FPS, p50, p99, GFLOPs and parameters of one arm; blanks where it wasn't timed under the table's key."""
    if timing is None:
        return ("",) * 5
    gflops = f"{'≥ ' if timing.gflops_is_lower_bound else ''}{significant(timing.gflops, 3)}" if timing.gflops else ""
    return (
        number(timing.fps, 1),
        number(timing.p50, 2),
        number(timing.p99, 2),
        gflops,
        number(timing.parameters / 1e6, 3),
    )


def marked_timing_cells(timing: Timing | None) -> tuple[str, ...]:
    """The same, with a mark behind each time that can't be relied on: for tables that have no column of flags."""
    *times, gflops, parameters = timing_cells(timing)
    mark = DOUBTFUL if timing is not None and timing.doubts else ""
    return (*(f"{time}{mark}" for time in times), gflops, parameters)


def timing_tables(board: Leaderboard) -> list[Table]:
    """Latency: one table for each protocol, machine, thread count and mode, never two in one."""
    rows: dict[TimingKey, list[tuple[Arm, Timing]]] = defaultdict(list)
    for arm, timings in board.timings.items():
        for key, timing in timings.items():
            rows[key].append((arm, timing))
    return [timing_table(key, rows[key]) for key in sorted(rows)]


def timing_table(key: TimingKey, rows: Sequence[tuple[Arm, Timing]]) -> Table:
    """The latencies under one key."""
    more = [title for title, cell in MEASURED_IN_FULL.items() if any(cell(timing) for _, timing in rows)]
    header = (
        "Trained on",
        "Detector",
        "Method",
        "FPS",
        "p50 ms",
        "p90 ms",
        "p95 ms",
        "p99 ms",
        "Model p50 ms",
        "Post p50 ms",
        "Relative",
        *more,
        "GFLOPs",
        "Params (M)",
        "Peak MiB",
        "Cells",
        "Iterations",
        "Flags",
    )
    found = []
    for arm, timing in rows:
        fps, p50, p99, gflops, parameters = timing_cells(timing)
        middle = (number(timing.p90, 2), number(timing.p95, 2), p99)
        regions = (number(timing.model_p50, 2), number(timing.post_p50, 2), number(timing.relative, 3))
        full = tuple(MEASURED_IN_FULL[title](timing) for title in more)
        size = (gflops, parameters, mebibytes(timing.peak_memory_bytes), str(timing.cells), str(timing.iterations))
        found.append((*names_of(arm), fps, p50, *middle, *regions, *full, *size, ", ".join(timing.flags)))
    title = f"{key.protocol}, {key.precision}, {counted(key.threads, 'thread')}, {key.machine}"
    return Table(title, header, tuple(found), 3)


def names_of(arm: Arm) -> tuple[str, str, str]:
    """Training set, detector and method of an arm."""
    return arm.trained_on, arm.detector, arm.full_method


def range_text(bounds: tuple[float, float] | None) -> str:
    """`low to high`; blank for None."""
    return "" if bounds is None else f"{number(bounds[0], 2)} to {number(bounds[1], 2)}"


def best_batch_text(best: tuple[int, float] | None) -> str:
    """Images a second, and the batch size that takes as many; blank for None."""
    return "" if best is None else f"{number(best[1], 1)} ({best[0]} at once)"


def inference_tables(board: Leaderboard) -> list[Table]:
    """What methods cost at inference: one table for each protocol, machine and thread count."""
    header = ("Trained on", "Detector", "Method", "Graph", "× baseline", "Model ms", "Baseline ms", "Cells", "Flags")
    rows: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    for arm, costs in board.inference.items():
        for cost in costs:
            middle, low, high = (number(value, 3) for value in cost.ratio)
            figures = (f"{middle} ({low} to {high})", number(cost.model_ms, 2), number(cost.baseline_model_ms, 2))
            rows[cost.title].append((*names_of(arm), cost.graph, *figures, str(cost.cells), ", ".join(cost.flags)))
    return [Table(title, header, tuple(rows[title]), 4) for title in sorted(rows)]


def own_timing_tables(board: Leaderboard) -> list[Table]:
    """How long programs took by their own clocks: one table a machine."""
    header = ("Detector", "Dataset", "p50 ms", "p90 ms", "p95 ms", "p99 ms", "Mean ms", "Images", "Threads")
    rows: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    for arm in board.timings:
        for record in arm.records:
            own = record.own_timing
            if own is not None:
                times = (own.latency_ms.p50, own.latency_ms.p90, own.latency_ms.p95, own.latency_ms.p99)
                figures = (*(number(value, 2) for value in times), number(own.latency_ms.mean, 2))
                rows[f"{own.protocol}, {machine_of(record.environment, own.device)}"].append(
                    (arm.detector, record.identity.dataset, *figures, str(own.images), str(own.threads))
                )
    return [Table(title, header, tuple(rows[title]), 2) for title in sorted(rows)]


def training_tables(board: Leaderboard) -> list[Table]:
    """Training cost: one table a machine."""
    header = (
        "Trained on",
        "Detector",
        "Method",
        "s/step",
        "Step × baseline",
        "Minutes",
        "Steps",
        "Batch",
        "Micro-batch",
        "Peak MiB",
        "Cells",
    )
    rows: Mapping[str, list[tuple[str, ...]]] = defaultdict(list)
    for arm, costs in board.training.items():
        for cost in costs:
            rows[cost.machine].append(
                (
                    *names_of(arm),
                    number(cost.seconds_per_step, 4),
                    step_ratio_text(cost),
                    number(cost.seconds / 60, 1),
                    str(cost.steps),
                    str(cost.batch_size),
                    ", ".join(str(size) for size in cost.micro_batch_sizes),
                    mebibytes(cost.peak_memory_bytes),
                    str(cost.cells),
                )
            )
    return [Table(machine, header, tuple(rows[machine]), 3) for machine in sorted(rows)]


def step_ratio_text(cost: TrainingCostOfArm) -> str:
    """`median (low to high)`, behind `≥` where some of the cost was left out, then its flags; blank where nothing was measured."""
    if cost.step_ratio is None:
        return ""
    middle, low, high = (number(value, 2) for value in cost.step_ratio)
    ratio = f"{'≥ ' if cost.step_ratio_is_lower_bound else ''}{middle} ({low} to {high})"
    return ", ".join((ratio, *cost.step_flags))
