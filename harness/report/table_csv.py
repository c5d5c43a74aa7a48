"""The leaderboard as CSV: one line a row, a gain or published figures of a section. docs/leaderboard-columns.md has every column."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence

from harness.report.arms import Arm
from harness.report.beside import PublishedRow
from harness.report.columns import ALWAYS, Column
from harness.report.contrasts import Contrast
from harness.report.costs import InferenceCostOfArm, Timing, TrainingCostOfArm, common_timing
from harness.report.leaderboard import Leaderboard, Section
from harness.report.rows import Difference, Gain, Row, RowDifference
from harness.report.text import csv_text, number, one_line, points

PLACE = (
    "suites", "trained_on", "dataset", "evaluation", "split", "corruption", "metric", "selection", "confidence",
    "dataset_sha256", "images", "clips", "effective_clips",
)  # fmt: skip
NAME = ("kind", "rank", "not_ranked", "detector", "method", "variant", "seeds")
PARTS = ("", "_sd", "_low", "_high")
GAIN = (
    "interval", "seed_low", "seed_high", "clip_low", "clip_high", "pooled_low", "pooled_high", "p", "p_holm", "verdict",
    "detectable", "correlation", "pairs_not_used", "against",
)  # fmt: skip
TIMING = (
    "protocol", "machine", "threads", "precision", "fps", "p50_ms", "p90_ms", "p95_ms", "p99_ms", "model_p50_ms",
    "post_p50_ms", "relative", "gflops", "gflops_is_lower_bound", "parameters", "inference_peak_bytes", "timing_flags",
    "p50_low_ms", "p50_high_ms", "h2d_p50_ms", "pre_p50_ms", "end_to_end_p50_ms", "images_per_second_at_16", "best_batch",
    "best_images_per_second", "inference_reserved_bytes", "inference_resident_bytes", "score_change", "inference_ratio",
    "inference_ratio_low", "inference_ratio_high", "inference_flags",
)  # fmt: skip
TRAINING = (
    "training_machine", "seconds_per_step", "training_seconds", "steps", "batch_size", "micro_batch_size", "training_peak_bytes",
    "step_ratio", "step_ratio_low", "step_ratio_high", "step_flags",
)  # fmt: skip
PUBLISHED = (
    "published_as", "implementation", "published_variant", "published_kind", "evaluator", "published_selection", "caveats",
    "published_f1", "source",
)  # fmt: skip
TAIL = ("records",)


def score_names(columns: Iterable[Column]) -> list[str]:
    """The CSV columns of some scores."""
    return [f"{column.key}{part}" for column in columns for part in PARTS]


def header(board: Leaderboard) -> list[str]:
    """All columns in order: always the same, but for the scenarios that CULane doesn't know, which stand after the other scores."""
    known = {column.key for column in ALWAYS}
    found = {column.key: column for section in board.sections for column in section.columns if column.key not in known}
    others = [found[key] for key in sorted(found)]
    return [*PLACE, *NAME, *score_names([*ALWAYS, *others]), *GAIN, *TIMING, *TRAINING, *PUBLISHED, *TAIL]


def to_csv(board: Leaderboard) -> str:
    """The whole leaderboard as CSV: comma separated, one header line, lines end in a line feed."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, [one_line(name) for name in header(board)], restval="", lineterminator="\n")
    writer.writeheader()
    for section in board.sections:
        place = place_cells(board, section)
        for item in section.items:
            cells = row_cells(board, section, item) if isinstance(item, Row) else gain_cells(section, item)
            writer.writerow(place | name_cells(item) | cells)
        for contrast in section.contrasts:
            writer.writerow(place | contrast_cells(section, contrast))
        for found in section.method_differences:
            writer.writerow(place | row_difference_cells(section, "method_difference", found))
        for tries in section.tries:
            for lead in tries.leads:
                writer.writerow(place | row_difference_cells(section, "variant_difference", lead))
        for reproduction in section.reproductions:
            for row in reproduction.published:
                for cells in published_cells(section, reproduction.row, row):
                    writer.writerow(place | cells)
    return stream.getvalue()


def place_cells(board: Leaderboard, section: Section) -> dict[str, str]:
    """What all lines of a section share."""
    key = section.key
    texts = {name: getattr(key, name) for name in PLACE if hasattr(key, name)} | {"suites": ";".join(board.suites)}
    return {name: csv_text(text) for name, text in texts.items()} | {
        "images": str(section.images),
        "clips": str(section.clips),
        "effective_clips": number(section.effective_clips, 1),
    }


def name_cells(item: Row | Gain) -> dict[str, str]:
    """What a line is about."""
    return arm_cells(
        "gain" if isinstance(item, Gain) else "baseline" if item.arm.is_baseline else "method", item.arm, item.seeds
    )


def arm_cells(kind: str, arm: Arm, seeds: Iterable[int]) -> dict[str, str]:
    """Of which kind a line is, of which arm and over which seeds."""
    return {
        "kind": kind,
        "detector": csv_text(arm.detector),
        "method": csv_text(arm.method),
        "variant": csv_text(arm.variant),
        "seeds": ";".join(str(seed) for seed in seeds),
    }


def row_cells(board: Leaderboard, section: Section, row: Row) -> dict[str, str]:
    """Scores, latency and training cost of an arm."""
    cells = {"rank": str(row.rank or ""), "not_ranked": csv_text("; ".join(row.unranked))}
    for column, score in zip(section.columns, row.scores, strict=True):
        if score is not None:
            cells |= mean_cells(column, score.mean, score.sd)
    timings = board.timings[row.arm]
    key = section.timing or common_timing([timings])
    timing = timings.get(key) if key else None
    costs = board.training[row.arm]
    cells |= timing_cells(timing) if timing else {}
    cells |= training_cells(costs[0]) if len(costs) == 1 else {}
    eager = [cost for cost in board.inference[row.arm] if cost.graph == "eager"]
    cells |= inference_cells(eager[0]) if len(eager) == 1 else {}
    return cells | {"records": csv_text(";".join(record.id for record in row.arm.records))}


def published_cells(section: Section, row: Row, published: PublishedRow) -> Iterator[dict[str, str]]:
    """A line of published figures and, where there are any, one of their differences to the row that reproduces them."""
    name = name_cells(row) | {"seeds": ""}
    about = {
        "published_as": csv_text(f"{published.detector} {published.backbone}"),
        "implementation": csv_text(published.implementation),
        "published_variant": csv_text(published.variant),
        "published_kind": csv_text(published.kind),
        "evaluator": csv_text(published.evaluator),
        "published_selection": csv_text(published.selection),
        "caveats": csv_text("; ".join(published.caveats)),
        "source": csv_text("; ".join(published.sources)),
    }
    yield (
        name
        | about
        | figures(section, published.values)
        | {"kind": "published", "published_f1": number(published.f1, 4)}
    )
    if any(difference is not None for difference in published.differences):
        yield name | about | figures(section, published.differences) | {"kind": "reproduced_minus_published"}


def figures(section: Section, values: Iterable[float | None]) -> dict[str, str]:
    """Figures in the columns of a section's scores."""
    return {one_line(column.key): number(value, 4) for column, value in zip(section.columns, values, strict=True)}


def timing_cells(timing: Timing) -> dict[str, str]:
    """Latency of an arm on the machine that is named beside it."""
    return {
        "protocol": csv_text(timing.key.protocol),
        "machine": csv_text(timing.key.machine),
        "threads": str(timing.key.threads),
        "precision": csv_text(timing.key.precision),
        "fps": number(timing.fps, 4),
        "p50_ms": number(timing.p50, 4),
        "p90_ms": number(timing.p90, 4),
        "p95_ms": number(timing.p95, 4),
        "p99_ms": number(timing.p99, 4),
        "model_p50_ms": number(timing.model_p50, 4),
        "post_p50_ms": number(timing.post_p50, 4),
        "relative": number(timing.relative, 4),
        "gflops": number(timing.gflops, 6),
        "gflops_is_lower_bound": str(timing.gflops_is_lower_bound).lower() if timing.gflops is not None else "",
        "parameters": str(timing.parameters),
        "inference_peak_bytes": number(timing.peak_memory_bytes, 0),
        "timing_flags": csv_text("; ".join(timing.flags)),
        "p50_low_ms": number(timing.p50_range[0], 4) if timing.p50_range else "",
        "p50_high_ms": number(timing.p50_range[1], 4) if timing.p50_range else "",
        "h2d_p50_ms": number(timing.h2d_p50, 4),
        "pre_p50_ms": number(timing.pre_p50, 4),
        "end_to_end_p50_ms": number(timing.end_to_end_p50, 4),
        "images_per_second_at_16": number(timing.common_batch, 4),
        "best_batch": str(timing.best_batch[0]) if timing.best_batch else "",
        "best_images_per_second": number(timing.best_batch[1], 4) if timing.best_batch else "",
        "inference_reserved_bytes": number(timing.peak_reserved_bytes, 0),
        "inference_resident_bytes": number(timing.peak_resident_bytes, 0),
        "score_change": points(timing.score_change, 4),
    }


def inference_cells(cost: InferenceCostOfArm) -> dict[str, str]:
    """What an arm's method costs at inference, its network run as it is."""
    names = ("inference_ratio", "inference_ratio_low", "inference_ratio_high")
    ratios = {name: number(value, 4) for name, value in zip(names, cost.ratio, strict=True)}
    return ratios | {"inference_flags": csv_text("; ".join(cost.flags))}


def training_cells(cost: TrainingCostOfArm) -> dict[str, str]:
    """Training cost of an arm that was trained on one machine."""
    return {
        "training_machine": csv_text(cost.machine),
        "seconds_per_step": number(cost.seconds_per_step, 6),
        "training_seconds": number(cost.seconds, 3),
        "steps": str(cost.steps),
        "batch_size": str(cost.batch_size),
        "micro_batch_size": ";".join(str(size) for size in cost.micro_batch_sizes),
        "training_peak_bytes": number(cost.peak_memory_bytes, 0),
        **{
            name: number(value, 4)
            for name, value in zip(
                ("step_ratio", "step_ratio_low", "step_ratio_high"), cost.step_ratio or (), strict=False
            )
        },
        "step_flags": csv_text("; ".join(cost.step_flags)),
    }


def gain_cells(section: Section, gain: Gain) -> dict[str, str]:
    """Paired differences with their intervals, and what the headline's verdict rests on."""
    cells = difference_parts(section, gain.differences) | of_records((gain.arm, gain.baseline))
    cells |= {
        "verdict": csv_text(gain.verdict),
        "p": probability(gain.p),
        "p_holm": probability(gain.adjusted_p),
        "detectable": number(gain.detectable * section.headline.factor if gain.detectable is not None else None, 4),
        "pairs_not_used": csv_text("; ".join(gain.not_used)),
    }
    if gain.headline is None:
        return cells
    comparison = gain.headline.comparison
    return (
        cells
        | {"correlation": number(comparison.correlation, 4)}
        | bounds("pooled", comparison.mean, gain.pooled_half_width)
    )


def contrast_cells(section: Section, contrast: Contrast) -> dict[str, str]:
    """A line of a gain minus the gain in another row of the same detector, `against`."""
    arms = (contrast.gain.arm, contrast.gain.baseline, contrast.other.arm, contrast.other.baseline)
    about = arm_cells("gain_difference", contrast.gain.arm, contrast.seeds) | of_records(arms)
    return about | difference_parts(section, contrast.differences) | {"against": csv_text(contrast.other.arm.detector)}


def row_difference_cells(section: Section, kind: str, found: RowDifference) -> dict[str, str]:
    """A line of one row minus another of the same detector, `against`: two methods, or two variants of one."""
    row, other = found.row, found.other
    reasons = dict.fromkeys((*row.unranked, *other.unranked))
    return (
        arm_cells(kind, row.arm, found.seeds)
        | of_records((row.arm, other.arm))
        | difference_parts(section, found.differences)
        | {"against": csv_text(other.arm.full_method), "not_ranked": csv_text("; ".join(reasons))}
    )


def of_records(arms: Iterable[Arm]) -> dict[str, str]:
    """The records that a line is made from."""
    return {"records": csv_text(";".join(record.id for arm in arms for record in arm.records))}


def difference_parts(section: Section, differences: Sequence[Difference | None]) -> dict[str, str]:
    """Differences with their intervals, one a column."""
    cells: dict[str, str] = {}
    for column, part in zip(section.columns, differences, strict=True):
        if part is not None:
            cells |= difference_cells(column, part)
    headline = differences[0]
    if headline is not None and headline.half_widths is not None:
        mean, half = headline.comparison.mean, headline.half_widths
        cells |= {"interval": half.kind, **bounds("seed", mean, half.seed), **bounds("clip", mean, half.clip)}
    return cells


def difference_cells(column: Column, difference: Difference) -> dict[str, str]:
    """Mean, SD and interval of a paired difference in one score."""
    comparison, half = difference.comparison, difference.half_widths
    cells = mean_cells(column, comparison.mean, comparison.seed_sd)
    return cells | bounds(one_line(column.key), comparison.mean, half.total if half else None, factor=column.factor)


def mean_cells(column: Column, mean: float, sd: float | None) -> dict[str, str]:
    """`<name>` and `<name>_sd`, in the unit that the column is shown in."""
    return {
        one_line(column.key): number(mean * column.factor, 4),
        one_line(f"{column.key}_sd"): number(None if sd is None else sd * column.factor, 4),
    }


def bounds(name: str, mean: float, half_width: float | None, *, factor: float = 100.0) -> dict[str, str]:
    """`<name>_low` and `<name>_high`; nothing without a half-width."""
    if half_width is None:
        return {}
    return {
        f"{name}_low": number((mean - half_width) * factor, 4),
        f"{name}_high": number((mean + half_width) * factor, 4),
    }


def probability(value: float | None) -> str:
    """A p-value with four significant digits."""
    return "" if value is None else f"{value:.4g}"
