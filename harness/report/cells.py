"""The tables of a leaderboard's scores as plain strings: what Markdown, terminal and page show alike, before any of them escapes it."""

from __future__ import annotations

from collections.abc import Sequence

from harness.report.columns import Column
from harness.report.cost_cells import marked_timing_cells
from harness.report.leaderboard import Leaderboard, Section, Timings, Unscored
from harness.report.rows import Difference, Gain, Row, RowDifference, Score
from harness.report.statistics import NOT_SEPARATED
from harness.report.table import Table
from harness.report.text import number, p_text, points

MARK = " †"
"""Stands behind the method of a row that isn't ranked."""


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


def method_table(section: Section) -> Table:
    """SAMIRO held against the other methods on each detector; empty where no detector has two methods."""
    return row_difference_table("Methods held against each other", "Method", section, section.method_differences)


def variant_table(section: Section) -> Table:
    """The highest variant of each method on each detector, held against the others; empty where no method has several."""
    leads = [lead for tries in section.tries for lead in tries.leads]
    return row_difference_table("Variants held against each other", "Highest", section, leads)


def row_difference_table(title: str, of: str, section: Section, found: Sequence[RowDifference]) -> Table:
    """Rows minus other rows of the same detector. of: the title of the column of the first."""
    header = ("Detector", of, "minus", *(column.title for column in section.columns), "Seeds", "Seed SD")
    rows = []
    for one in found:
        names = (one.row.arm.detector, method_text(one.row), method_text(one.other))
        figures = difference_texts(section.columns, one.differences)
        rows.append((*names, *figures, str(len(one.seeds)), points(one.seed_sd)))
    return Table(title, header, tuple(rows), 3)


def bounds(mean: float, half_width: float | None) -> str:
    """An interval in points; blank without a half-width."""
    if half_width is None:
        return ""
    return f"{points(mean - half_width, sign=True)} to {points(mean + half_width, sign=True)}"


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
