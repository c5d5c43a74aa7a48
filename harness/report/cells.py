"""The tables of a leaderboard as plain strings: what Markdown, terminal and page show alike, before any of them escapes it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len

from harness.report.arms import Arm
from harness.report.columns import Column
from harness.report.costs import Timing, TimingKey, TrainingCostOfArm, machine_of
from harness.report.leaderboard import Leaderboard, Section, Timings, Unscored
from harness.report.rows import Difference, Gain, Row, Score
from harness.report.statistics import NOT_SEPARATED
from harness.report.text import counted, mebibytes, number, p_text, points, significant

MARK = " †"
"""Stands behind the method of a row that isn't ranked."""

DOUBTFUL = " ‡"
"""Stands behind times that can't be relied on, where no column has their flags."""


@dataclass(frozen=True)
class Table:
    """A heading line, column titles, rows of cells, and how many of the leading columns are text."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text_columns: int


def chunks(table: Table, columns: Sequence[int], width: int | None) -> list[list[int]]:
    """Split columns so that each part, with the text columns before it, fits into `width` characters (None: no limit)."""
    taken = [2 + max(cell_len(row[index]) for row in (table.header, *table.rows)) for index in range(len(table.header))]
    names = sum(taken[: table.text_columns])
    parts: list[list[int]] = []
    for index in columns:
        if parts and (width is None or names + sum(taken[i] for i in [*parts[-1], index]) <= width):
            parts[-1].append(index)
        else:
            parts.append([index])
    return parts


def score_text(column: Column, score: Score | None) -> str:
    """A mean score: points with two decimals, counts whole or with one decimal."""
    if score is None:
        return ""
    if column.factor == 1.0:
        return number(score.mean, count_decimals(score.mean))
    return number(score.mean * column.factor, 2)


def difference_text(column: Column, difference: Difference | None) -> str:
    """A paired difference and, where there is one, the half-width of its interval."""
    if difference is None:
        return ""
    value, half = difference.comparison.mean * column.factor, difference.half_widths
    decimals = count_decimals(value) if column.factor == 1.0 else 2
    mean = number(value, decimals, sign=True)
    return f"{mean} ± {number(half.total * column.factor, max(decimals, 1))}" if half else mean


def count_decimals(value: float) -> int:
    """A count is shown whole, a mean of counts with one decimal; a count that sums have moved by their rounding is still one."""
    return 0 if round(value, 6).is_integer() else 1


def method_text(item: Row | Gain | Unscored) -> str:
    """What stands in the method column of a row, a gain or unscored predictions."""
    if isinstance(item, Gain):
        return f"Δ {item.arm.full_method} - {item.baseline.method}"
    return f"{item.arm.full_method}{MARK if isinstance(item, Row) and item.unranked else ''}"


def figure_texts(columns: Sequence[Column], item: Row | Gain) -> list[str]:
    """A row's scores, or a gain's differences, one a column."""
    if isinstance(item, Row):
        return [score_text(column, score) for column, score in zip(columns, item.scores, strict=True)]
    return difference_texts(columns, item.differences)


def difference_texts(columns: Sequence[Column], differences: Sequence[Difference | None]) -> list[str]:
    """Differences with their intervals, one a column."""
    return [difference_text(column, part) for column, part in zip(columns, differences, strict=True)]


def score_table(section: Section, timings: Timings) -> Table:
    """The main table of a section: scores, speed and size, seeds, and under each method its paired difference."""
    header = (
        "#",
        "Detector",
        "Method",
        *(column.title for column in section.columns),
        "FPS",
        "p50 ms",
        "p99 ms",
        "GFLOPs",
        "Params (M)",
        "Seeds",
        "Seed SD",
        "Verdict",
    )
    rows = []
    for item in section.items:
        rank, timing, verdict = "", None, ""
        if isinstance(item, Row):
            rank = str(item.rank or "")
            timing = timings[item.arm].get(section.timing) if section.timing else None
        else:
            verdict = verdict_text(item)
        scores = figure_texts(section.columns, item)
        tail = (*marked_timing_cells(timing), str(len(item.seeds)), points(item.seed_sd), verdict)
        rows.append((rank, item.arm.detector, method_text(item), *scores, *tail))
    return Table("", header, tuple(rows), 3)


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


def verdict_text(gain: Gain) -> str:
    """A gain's verdict with what stands beside it."""
    return f"{gain.verdict} {detectable_text(gain)}".strip()


def detectable_text(gain: Gain) -> str:
    """The gain that could have been detected, in points, beside `not separated`, which doesn't mean equal; blank beside all else."""
    if gain.verdict != NOT_SEPARATED or gain.detectable is None:
        return ""
    return f"(detectable: {points(gain.detectable)})"


def gain_table(section: Section) -> Table:
    """The headline gains of a section with all their intervals, p-values and power; points."""
    header = (
        "Detector",
        "Method",
        "Pairs",
        f"Δ {section.headline.title}",
        "95 % interval",
        "Seed interval",
        "Clip interval",
        "Pooled seeds",
        "p",
        "p (Holm)",
        "Verdict",
        "Detectable",
        "Correlation",
    )
    rows = []
    for gain in section.gains:
        comparison = gain.headline.comparison if gain.headline else None
        half = gain.headline.half_widths if gain.headline else None
        alone = " (clip interval alone)" if half and half.kind == "clip" else ""
        rows.append(
            (
                gain.arm.detector,
                method_text(gain),
                str(len(gain.seeds)),
                points(comparison.mean, sign=True) if comparison else "",
                bounds(comparison.mean, half.total) + alone if comparison and half else "",
                bounds(comparison.mean, half.seed) if comparison and half else "",
                bounds(comparison.mean, half.clip) if comparison and half else "",
                bounds(comparison.mean, gain.pooled_half_width) if comparison else "",
                p_text(gain.p),
                p_text(gain.adjusted_p),
                gain.verdict,
                points(gain.detectable),
                number(comparison.correlation, 2) if comparison else "",
            )
        )
    return Table("Paired gains", header, tuple(rows), 2)


def contrast_table(section: Section) -> Table:
    """A section's gains of one method in several rows of a paper's detector, held against each other."""
    header = ("Method", "Gain of", "minus gain of", *(column.title for column in section.columns), "Seeds", "Seed SD")
    rows = []
    for contrast in section.contrasts:
        names = (contrast.gain.arm.full_method, contrast.gain.arm.detector, contrast.other.arm.detector)
        figures = difference_texts(section.columns, contrast.differences)
        rows.append((*names, *figures, str(len(contrast.seeds)), points(contrast.seed_sd)))
    return Table("Gains held against each other", header, tuple(rows), 3)


def variant_table(section: Section) -> Table:
    """The highest variant of each method on each detector, held against the others; empty where no method has several."""
    header = ("Detector", "Highest", "minus", *(column.title for column in section.columns), "Seeds", "Seed SD")
    rows = []
    for tries in section.tries:
        for lead in tries.leads:
            names = (lead.highest.arm.detector, method_text(lead.highest), method_text(lead.other))
            figures = difference_texts(section.columns, lead.differences)
            rows.append((*names, *figures, str(len(tries.seeds)), points(lead.seed_sd)))
    return Table("Variants held against each other", header, tuple(rows), 3)


def bounds(mean: float, half_width: float | None) -> str:
    """An interval in points; blank without a half-width."""
    if half_width is None:
        return ""
    return f"{points(mean - half_width, sign=True)} to {points(mean + half_width, sign=True)}"


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


def summary_table(board: Leaderboard) -> Table:
    """Methods over all detectors and datasets; points."""
    header = (
        "Method",
        "Detectors",
        "Datasets",
        "Rows",
        "Mean gain",
        "Standard error",
        "Between-row SD",
        "95 % prediction interval",
        "",
    )
    rows = [
        (
            f"{summary.method}{f' ({summary.variant})' if summary.variant else ''}",
            str(summary.detectors),
            str(summary.datasets),
            str(summary.effects.rows),
            points(summary.effects.mean, sign=True),
            points(summary.effects.standard_error),
            points(summary.effects.between_variance**0.5),
            f"{points(summary.effects.low, sign=True)} to {points(summary.effects.high, sign=True)}",
            summary.verdict,
        )
        for summary in board.summaries
    ]
    return Table("Methods over all rows", header, tuple(rows), 1)


def unscored_table(board: Leaderboard) -> Table:
    """What there are predictions but no scores of, and why."""
    rows = [
        (
            item.dataset,
            item.split,
            item.arm.detector,
            method_text(item),
            ", ".join(str(seed) for seed in item.seeds),
            item.why,
        )
        for item in board.unscored
    ]
    return Table("Not scored here", ("Dataset", "Split", "Detector", "Method", "Seeds", "Why"), tuple(rows), 6)
