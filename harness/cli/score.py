"""`samiro-bench score`: official metrics of predictions that lie in files, without the rest of the harness."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from harness.cli.options import LaneWidth
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
from harness.files.stored import replaceable, write_text
from harness.metrics import llamas, tusimple
from harness.metrics.canvas import LANE_WIDTH
from harness.metrics.counts import Counts, Sums
from harness.report.text import counted

app = typer.Typer(add_completion=False, help="Official metrics of predictions in files.", no_args_is_help=True)

SHOWN_THRESHOLDS = (0.5, 0.75)
"""IoU thresholds that are always shown."""


def fit_to_write(file: Path | None) -> Path | None:
    """The file given, refused at once rather than after the scoring if it can't be written (`harness.files.stored.replaceable`)."""
    if file is not None:
        replaceable(file)
    return file


Thresholds = Annotated[
    list[float] | None, typer.Option("--iou", metavar="X", help="A further IoU threshold (repeatable).")
]
PerImage = Annotated[
    Path | None,
    typer.Option(
        "--per-image", metavar="FILE", callback=fit_to_write, help="Write each image's counts, as JSON lines."
    ),
]


@app.callback()
def score() -> None:
    """Official metrics of predictions in files."""


@app.command("culane")
def score_culane(
    lists: Lists,
    labels: CulaneLabels,
    predictions: Annotated[Path, typer.Option(metavar="DIR", help="Root of the predictions.")],
    metric: CulaneMetricOption = CulaneMetric.official,
    image_size: ImageSize = None,
    lane_width: LaneWidth = LANE_WIDTH,
    iou: Thresholds = None,
    per_image: PerImage = None,
    strict: Strict = False,
    no_cache: NoCache = False,
    as_json: AsJson = False,
) -> None:
    """Score predictions in CULane's format.

    Example: samiro-bench score culane --labels CULane --predictions out CULane/list/test_split/*.txt
    """
    asked = culane_lists(lists, labels, metric=metric, image_size=image_size, lane_width=lane_width)
    shown = shown_thresholds(iou)
    with progress_bar(asked.images) as report:
        result = count_lists(asked, predictions, shown, strict=strict, cached=not no_cache, progress=report)
    if per_image is not None:
        write_rows(
            per_image, (row for split, counts in result.splits.items() for row in image_rows(counts, split=split))
        )
    if metric is CulaneMetric.official:  # the ports refuse
        say_missing(predictions, asked.splits, result.warnings)
    say_warnings(result.warnings)
    say_unlike_pixels(asked.labels, predictions, result.total)
    say_labels_themselves(predictions, result.total)
    if as_json:
        print_json(
            {
                "metric": asked.metric,
                "images": len(result.total.images),
                "iou": by_threshold(result.total, shown),
                "mf1": result.total.mf1,
                "splits": {
                    split: {"images": len(counts.images), "iou": by_threshold(counts, shown)}
                    for split, counts in result.splits.items()
                },
                "warnings": as_objects(result.warnings),
            }
        )
    else:
        print_counts(asked.metric, result.splits, result.total, shown)


@app.command("llamas")
def score_llamas(
    labels: LlamasLabels,
    predictions: Annotated[Path, typer.Option(metavar="DIR", help="Root of the predictions.")],
    iou: Thresholds = None,
    per_image: PerImage = None,
    strict: Strict = False,
    as_json: AsJson = False,
) -> None:
    """Score predictions for LLAMAS, in CULane's format: DIR/recording/image.lines.txt.

    Example: samiro-bench score llamas --labels llamas/labels/valid --predictions out
    """
    shown = shown_thresholds(iou)
    files = llamas.find_labels(labels)
    with progress_bar(len(files)) as report:
        counts, warnings = llamas.count_labels(files, predictions, thresholds=shown, strict=strict, progress=report)
    if per_image is not None:
        write_rows(per_image, image_rows(counts))
    say_warnings(warnings)
    say_labels_themselves(predictions, counts)
    if as_json:
        print_json(
            {
                "metric": llamas.METRIC,
                "images": len(counts.images),
                "iou": by_threshold(counts, shown),
                "mf1": counts.mf1,
                "warnings": as_objects(warnings),
            }
        )
    else:
        print_counts(llamas.METRIC, {}, counts, shown)


@app.command("tusimple")
def score_tusimple(
    labels: TusimpleLabels,
    predictions: Annotated[Path, typer.Option(metavar="FILE", help="Predictions, JSON lines.")],
    per_image: PerImage = None,
    strict: Strict = False,
    as_json: AsJson = False,
) -> None:
    """Score predictions in TuSimple's format.

    Example: samiro-bench score tusimple --labels test_label.json --predictions out.json
    """
    counts, warnings = tusimple.score_file(labels, predictions, strict=strict)
    if per_image is not None:
        write_rows(per_image, tusimple_rows(counts))
    say_warnings(warnings)
    say_tusimple_without_points(labels, predictions, counts)
    say_unlike_tusimple_pixels(labels, predictions, counts)
    say_tusimple_zeros(labels, predictions, counts)
    say_tusimple_labels_themselves(predictions, counts)
    figures = {
        "accuracy": defined(counts.mean(counts.accuracy)),
        "fp": counts.mean(counts.fp),
        "fn": counts.mean(counts.fn),
        "f1_clrnet": counts.f1_clrnet,
        "f1_matched": counts.f1_matched,
    }
    negative = counts.images_with_negative_fp
    if as_json:
        print_json(
            {
                "metric": tusimple.METRIC,
                "images": counts.labelled,
                **figures,
                "images_with_negative_fp": negative,
                "warnings": as_objects(warnings),
            }
        )
        return
    table = Table(title=f"{tusimple.METRIC}, {counted(counts.labelled, 'image')}")
    for heading in ("accuracy", "FP", "FN", "F1 (CLRNet)", "F1 (matched)", "images with negative FP"):
        table.add_column(heading, justify="right")
    table.add_row(*(percent(figure) for figure in figures.values()), str(negative))
    wide_console().print(table)


def defined(rate: float) -> float | None:
    """A rate for JSON; null for NaN."""
    return None if math.isnan(rate) else float(rate)


def shown_thresholds(further: Sequence[float] | None) -> tuple[float, ...]:
    """The thresholds to show, in order and each once."""
    return tuple(sorted({*SHOWN_THRESHOLDS, *(further or ())}))


def threshold_name(threshold: float) -> str:
    """Two decimals, or as many as it takes."""
    short = f"{threshold:.2f}"
    return short if float(short) == threshold else repr(threshold)


def sums_object(sums: Sums) -> dict[str, float | None]:
    """Counts and ratios for JSON; an undefined ratio is null."""
    return {
        "tp": sums.tp,
        "fp": sums.fp,
        "fn": sums.fn,
        "precision": sums.precision,
        "recall": sums.recall,
        "f1": sums.f1,
    }


def by_threshold(counts: Counts, thresholds: Sequence[float]) -> dict[str, dict[str, float | None]]:
    """The sums at each threshold for JSON."""
    return {threshold_name(threshold): sums_object(counts.sums(threshold)) for threshold in thresholds}


def image_rows(counts: Counts, **constant: str) -> Iterator[dict[str, Any]]:
    """One object an image: its name, the lanes of labels and predictions, and tp at each threshold, mF1's included."""
    names = {threshold_name(round(value, 12)): column for column, value in enumerate(counts.thresholds)}
    for image, n_gt, n_pred, tp in zip(counts.images, counts.n_gt, counts.n_pred, counts.tp, strict=True):
        found = {name: int(tp[column]) for name, column in sorted(names.items())}
        yield {"image": image, **constant, "n_gt": int(n_gt), "n_pred": int(n_pred), "tp": found}


def tusimple_rows(counts: tusimple.TusimpleCounts) -> Iterator[dict[str, Any]]:
    """One object an image: its name, its official rates, and the lanes matched, labelled and predicted."""
    for row, image in enumerate(counts.images):
        rates = {"accuracy": defined(counts.accuracy[row]), "fp": float(counts.fp[row]), "fn": float(counts.fn[row])}
        lanes = {"matched": int(counts.matched[row]), "n_gt": int(counts.n_gt[row]), "n_pred": int(counts.n_pred[row])}
        yield {"image": image, **rates, **lanes}


def write_rows(file: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write objects as JSON lines."""
    write_text(file, "".join(json.dumps(row) + "\n" for row in rows))


def percent(ratio: float | None) -> str:
    """A fraction in points, or a dash where it is undefined."""
    return "-" if ratio is None else f"{100 * ratio:.2f}"


def print_counts(metric: str, splits: dict[str, Counts], total: Counts, thresholds: Sequence[float]) -> None:
    """The human answer: a table with one row a split and threshold."""
    table = Table(title=f"{metric}, {counted(len(total.images), 'image')}")
    for heading in ("split", "images", "IoU", "TP", "FP", "FN", "precision", "recall", "F1"):
        table.add_column(heading, justify="left" if heading == "split" else "right")
    for name, counts in [*splits.items(), ("total", total)]:
        for threshold in thresholds:
            sums = counts.sums(threshold)
            table.add_row(
                escape(name),
                str(len(counts.images)),
                f"> {threshold_name(threshold)}",
                *(str(count) for count in (sums.tp, sums.fp, sums.fn)),
                *(percent(ratio) for ratio in (sums.precision, sums.recall, sums.f1)),
            )
        table.add_section()
    console = wide_console()
    console.print(table)
    console.print(f"mF1 over .50:.05:.95: {percent(total.mf1)}")
