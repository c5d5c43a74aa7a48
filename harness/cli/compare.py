"""`samiro-bench compare`: is one set of predictions better than another, by more than trainings and clips vary?"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from harness.cli.options import LaneWidth, positive
from harness.cli.score_warnings import (
    say_labels_themselves,
    say_missing,
    say_tusimple_labels_themselves,
    say_tusimple_without_points,
    say_tusimple_zeros,
    say_unlike_pixels,
    say_unlike_tusimple_pixels,
    say_warnings,
)
from harness.cli.scoring_files import (
    AsJson,
    CulaneLabels,
    CulaneMetric,
    CulaneMetricOption,
    ImageSize,
    Lists,
    LlamasLabels,
    NoCache,
    Strict,
    TusimpleLabels,
    as_objects,
    count_lists,
    culane_lists,
    print_json,
    progress_bar,
    wide_console,
)
from harness.errors import InputError
from harness.metrics import llamas, tusimple
from harness.metrics.canvas import LANE_WIDTH
from harness.metrics.image_matches import Progress as Report
from harness.metrics.oddities import Oddity
from harness.records.counts import Counts
from harness.report.claim import Claim, claim_of, copies_among
from harness.report.columns import Column
from harness.report.rows import Difference, Score
from harness.report.sample_size import MOST_SEEDS, SampleSize, sample_size, why_no_noise
from harness.report.statistics import NOT_SEPARATED, SEEDS_FOR_A_VERDICT, clips_text, why_no_interval
from harness.report.text import counted, number, p_text
from harness.scoring.files import culane_file_counts, llamas_file_counts, tusimple_file_counts

app = typer.Typer(
    add_completion=False,
    help="Is one set of predictions better than another, by more than trainings and clips vary?",
    no_args_is_help=True,
)

Baseline = Annotated[
    list[Path],
    typer.Option(
        "--baseline", metavar="PATH", help="Predictions of a training of the baseline; repeat it, one a seed."
    ),
]
Method = Annotated[
    list[Path],
    typer.Option(
        "--method", metavar="PATH", help="Predictions of a training of the method; as many, in the same order."
    ),
]

Gain = Annotated[
    list[float] | None,
    typer.Option(
        "--gain",
        metavar="POINTS",
        parser=positive,
        help="How many pairs would tell this true difference from 0? In points of the first score; repeatable.",
    ),
]

Counted = tuple[Counts, Sequence[Oddity]]


@app.callback()
def compare() -> None:
    """Is one set of predictions better than another, by more than trainings and clips vary?"""


@app.command("culane")
def compare_culane(
    lists: Lists,
    labels: CulaneLabels,
    baseline: Baseline,
    method: Method,
    metric: CulaneMetricOption = CulaneMetric.official,
    image_size: ImageSize = None,
    lane_width: LaneWidth = LANE_WIDTH,
    gain: Gain = None,
    strict: Strict = False,
    no_cache: NoCache = False,
    as_json: AsJson = False,
) -> None:
    """Compare predictions in CULane's format, a folder a training.

    Example: samiro-bench compare culane --labels CULane --baseline a0 --baseline a1 --baseline a2 --method b0 --method b1 --method b2
    CULane/list/test_split/*.txt
    """
    check_pairs(baseline, method)
    asked = culane_lists(lists, labels, metric=metric, image_size=image_size, lane_width=lane_width)

    def count(predictions: Path, report: Report | None) -> Counted:
        result = count_lists(asked, predictions, (), strict=strict, cached=not no_cache, progress=report)
        if metric is CulaneMetric.official:
            say_missing(predictions, asked.splits, result.warnings)
        say_unlike_pixels(labels, predictions, result.total)
        say_labels_themselves(predictions, result.total)
        return culane_file_counts(result.splits), result.warnings

    answer(asked.metric, baseline, method, count, asked.images, gains=gain or (), as_json=as_json)


@app.command("llamas")
def compare_llamas(
    labels: LlamasLabels,
    baseline: Baseline,
    method: Method,
    gain: Gain = None,
    strict: Strict = False,
    as_json: AsJson = False,
) -> None:
    """Compare predictions for LLAMAS, a folder a training.

    Example: samiro-bench compare llamas --labels llamas/labels/valid --baseline a0 --method b0
    """
    check_pairs(baseline, method)
    files = llamas.find_labels(labels)

    def count(predictions: Path, report: Report | None) -> Counted:
        counts, warnings = llamas.count_labels(files, predictions, strict=strict, progress=report)
        say_labels_themselves(predictions, counts)
        return llamas_file_counts(files, counts), warnings

    answer(llamas.METRIC, baseline, method, count, len(files), gains=gain or (), as_json=as_json)


@app.command("tusimple")
def compare_tusimple(
    labels: TusimpleLabels,
    baseline: Baseline,
    method: Method,
    gain: Gain = None,
    strict: Strict = False,
    as_json: AsJson = False,
) -> None:
    """Compare predictions for TuSimple, a file of JSON lines a training.

    Example: samiro-bench compare tusimple --labels test_label.json --baseline a0.json --method b0.json
    """
    check_pairs(baseline, method)

    def count(predictions: Path, report: Report | None) -> Counted:
        counts, warnings = tusimple.score_file(labels, predictions, strict=strict)
        say_tusimple_without_points(labels, predictions, counts)
        say_unlike_tusimple_pixels(labels, predictions, counts)
        say_tusimple_zeros(labels, predictions, counts)
        say_tusimple_labels_themselves(predictions, counts)
        return tusimple_file_counts(counts, predictions), warnings

    answer(tusimple.METRIC, baseline, method, count, 0, gains=gain or (), as_json=as_json)


def check_pairs(baseline: Sequence[Path], method: Sequence[Path]) -> None:
    """InputError unless there are as many of the one as of the other, no path twice, and something at each."""
    if len(baseline) != len(method):
        told = f"{counted(len(baseline), 'training')} of the baseline and {len(method)} of the method"
        raise InputError(f"--baseline, --method: {told}: give as many of each, those of one seed at the same place")
    seen: dict[str, Path] = {}
    for path in (*baseline, *method):
        first = seen.setdefault(os.path.realpath(path), path)
        if first is not path:
            raise InputError(f"{path}: given twice; each path has the predictions of one training")
    for path in seen.values():
        if not path.exists():  # said before the others are scored, which may take minutes
            raise InputError(f"{path}: no such file or folder: give the predictions of a training")


def answer(
    metric: str,
    baseline: Sequence[Path],
    method: Sequence[Path],
    count: Callable[[Path, Report | None], Counted],
    images: int,
    *,
    gains: Sequence[float],
    as_json: bool,
) -> None:
    """Score every path, and print what the scores come to. images: of one path, for the bar; 0: too quick for one. gains: in points,
    of which to tell how many pairs they take.
    """
    bar: AbstractContextManager[Report | None] = progress_bar(images * (len(baseline) + len(method)))
    with bar as report:
        found = {path: count(path, report) for path in (*baseline, *method)}
    warnings = [*copies(found), *warnings_of(found)]
    say_warnings(warnings)
    claim = claim_of([found[path][0] for path in baseline], [found[path][0] for path in method])
    if as_json:
        sizes = {"sample_sizes": [size_object(claim, gain) for gain in gains]} if gains else {}
        print_json(claim_object(metric, claim, baseline, method) | sizes | {"warnings": as_objects(warnings)})
        return
    print_claim(metric, claim, baseline, method)
    for gain in gains:
        wide_console().print(size_sentence(claim, gain), highlight=False, markup=False)


def size_of(claim: Claim, gain: float) -> SampleSize | str:
    """How many pairs a true difference takes, in points, by these pairs as a pilot; or why they are none."""
    difference = claim.differences[0]
    if difference is None:
        return "no labels"
    return why_no_noise(difference.comparison) or sample_size(difference.comparison, gain / claim.columns[0].factor)


def size_object(claim: Claim, gain: float) -> dict[str, Any]:
    """That for JSON: a fraction, numbers of pairs, null where a thousand don't do, and why nothing can be said."""
    size = size_of(claim, gain)
    if isinstance(size, SampleSize):
        return asdict(size) | {"why": None}
    unknown = dict.fromkeys(("pairs", "cautious", "hidden_by_clips"))
    return {"gain": gain / claim.columns[0].factor, **unknown, "why": size}


def size_sentence(claim: Claim, gain: float) -> str:
    """That for a reader."""
    size, asked = size_of(claim, gain), f"a true difference of {gain:g}"
    if isinstance(size, str):
        return f"{asked}: how many pairs it takes these can't tell ({size})"
    if size.hidden_by_clips:
        return f"{asked}: no number of pairs tells it from 0 on so few clips, which all of them share"
    pairs, cautious = (f"over {MOST_SEEDS}" if found is None else str(found) for found in (size.pairs, size.cautious))
    return f"{asked} takes {pairs} pairs on such clips by what these vary by, and {cautious} to be cautious (docs/statistics.md)"


def copies(found: Mapping[Path, Counted]) -> list[Oddity]:
    """A word on paths whose counts are those of another in every image."""
    paths = list(found)
    same = copies_among([counts for counts, _ in found.values()])
    what = "as many lanes are found as in {}, image by image: if both are of one training, give it once; p and ± take it for two"
    return [Oddity(paths[place], None, what.format(paths[first])) for place, first in same.items()]


def warnings_of(found: Mapping[Path, Counted]) -> list[Oddity]:
    """What is odd about the files of all paths: of each the first, then of each the second, for only the first few are spelt out. What
    is odd about labels and lists every path says again, and it is told once.
    """
    in_turn = zip_longest(*(odd_ones for _, odd_ones in found.values()))
    return list(dict.fromkeys(odd for odd_ones in in_turn for odd in odd_ones if odd is not None))


def claim_object(metric: str, claim: Claim, baseline: Sequence[Path], method: Sequence[Path]) -> dict[str, Any]:
    """A claim for JSON; fractions as fractions."""
    return {
        "metric": metric,
        "images": claim.images,
        "clips": claim.clips,
        "effective_clips": claim.effective_clips,
        "pairs": [{"baseline": str(one), "method": str(other)} for one, other in zip(baseline, method, strict=True)],
        "scores": {
            column.key: None if ours is None or theirs is None or gap is None else score_object(theirs, ours, gap)
            for column, theirs, ours, gap in zip(
                claim.columns, claim.baseline, claim.method, claim.differences, strict=True
            )
        },
        "headline": claim.columns[0].key,
        "verdict": claim.verdict,
        "p": claim.p,
        "detectable": claim.detectable,
    }


def score_object(baseline: Score, method: Score, gap: Difference) -> dict[str, Any]:
    """One score of a claim for JSON."""
    return {
        "baseline": baseline.mean,
        "method": method.mean,
        "difference": gap.comparison.mean,
        "half_width": None if gap.half_widths is None else gap.half_widths.total,
        "seed_sd": gap.comparison.seed_sd,
        "correlation": gap.comparison.correlation,
    }


def print_claim(metric: str, claim: Claim, baseline: Sequence[Path], method: Sequence[Path]) -> None:
    """The human answer: the pairs, a table with a row a score, and the verdict in a sentence."""
    console = wide_console()
    for one, other in zip(baseline, method, strict=True):
        console.print(f"pair: {other} (method), {one} (baseline)", highlight=False, markup=False)
    title = f"{metric}, {counted(claim.images, 'image')} in {clips_text(claim.clips, claim.effective_clips)}"
    table = Table(title=title)
    for heading in ("score", "baseline", "method", "method - baseline", "SD of the pairs"):
        table.add_column(heading, justify="left" if heading == "score" else "right")
    for column, theirs, ours, gap in zip(claim.columns, claim.baseline, claim.method, claim.differences, strict=True):
        if theirs is not None and ours is not None and gap is not None:
            table.add_row(escape(column.title), *row_texts(column, theirs, ours, gap))
    console.print(table)
    for line in sentences(claim):
        console.print(line, highlight=False, markup=False)


def row_texts(column: Column, baseline: Score, method: Score, gap: Difference) -> tuple[str, str, str, str]:
    """A score of both, their difference with its interval, and how that varies from pair to pair: points, or numbers of lanes."""

    def text(value: float | None, *, sign: bool = False) -> str:
        return number(None if value is None else value * column.factor, 2, sign=sign)

    half = "" if gap.half_widths is None else f" ± {text(gap.half_widths.total)}"
    mean = text(gap.comparison.mean, sign=True)
    return text(baseline.mean), text(method.mean), f"{mean}{half}", text(gap.comparison.seed_sd)


def sentences(claim: Claim) -> list[str]:
    """What the table says, and how far it carries."""
    column = claim.columns[0]
    told = f"{column.title}: {claim.verdict}"
    if claim.p is not None:
        told += f" (p {p_text(claim.p)})"
    if claim.verdict == NOT_SEPARATED and claim.detectable is not None:
        shown = number(claim.detectable * column.factor, 2)
        told += f"; a true difference of {shown} would have been seen with a probability of 80 %"
    lines = [told]
    without: dict[str, list[str]] = defaultdict(list)
    for other, difference in zip(claim.columns, claim.differences, strict=True):
        if difference is not None and (why := why_no_interval(difference.comparison)) is not None:
            without[why].append(other.title)
    if without:
        of_which = "; ".join(f"{why} ({', '.join(titles)})" for why, titles in without.items())
        lines.append(f"no interval: {of_which}; a clip is a stretch of driving, whose images are no independent draws")
    if all(difference is None or difference.half_widths is None for difference in claim.differences):
        return lines
    if claim.pairs == 1:
        lines.append(
            "±: of these two trainings, half of the 95 % interval over clips; another training of each may say otherwise, so a verdict "
            f"takes {SEEDS_FOR_A_VERDICT} pairs"
        )
    else:
        lines.append(
            "±: half of the 95 % interval over trainings and clips like these; the first score alone has a verdict"
        )
    return lines
