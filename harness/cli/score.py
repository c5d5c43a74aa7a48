"""`samiro-bench score`: official metrics of predictions that lie in files, without the rest of the harness."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from harness.cli.options import LaneWidth
from harness.cli.score_warnings import say_missing, say_other_pixels, say_warning, say_warnings
from harness.datasets.images import read_size
from harness.errors import InputError
from harness.files.stored import cache_folder, replaceable, write_text
from harness.metrics import culane, culane_ports, llamas, tusimple
from harness.metrics.canvas import IMAGE_SIZE, LANE_WIDTH, metric_on
from harness.metrics.coordinates import coordinates_of
from harness.metrics.counts import Counts, Sums
from harness.metrics.image_lists import ImageList, lanes_file, listed_images, read_lists
from harness.metrics.image_matches import Progress as Report
from harness.metrics.label_pack import PACKS
from harness.metrics.oddities import Oddity
from harness.metrics.splits import count_splits
from harness.metrics.tusimple_points import tusimple_points
from harness.report.text import counted

app = typer.Typer(add_completion=False, help="Official metrics of predictions in files.", no_args_is_help=True)

SHOWN_THRESHOLDS = (0.5, 0.75)
"""IoU thresholds that are always shown."""

WIDE = 400
"""Characters of a line where standard output is no terminal."""

LOOKED_AT = 200
"""Images whose lanes are looked at where not one was found."""

HARDLY = 0.05
"""TuSimple: a smaller share of the labels is matched by chance, as rows count on which both have no point."""


class CulaneMetric(StrEnum):
    """Which evaluator's figures `score culane` gives."""

    official = "official"
    clrnet = "clrnet"


def fit_to_write(file: Path | None) -> Path | None:
    """The file given, refused at once rather than after the scoring if it can't be written (`harness.files.stored.replaceable`)."""
    if file is not None:
        replaceable(file)
    return file


def size_of_images(text: str) -> tuple[int, int]:
    """WIDTHxHEIGHT in pixels, such as 1280x720, as (height, width)."""
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if not match:
        wrong = f"{text!r} isn't WIDTHxHEIGHT in pixels, such as 1280x720"
        raise typer.BadParameter(wrong, param_hint="'--image-size'")
    return int(match[2]), int(match[1])


AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Strict = Annotated[bool, typer.Option("--strict", help="Refuse whatever is odd about the files instead of warning.")]
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
    lists: Annotated[list[Path], typer.Argument(metavar="LIST...", help="Lists of images; each is a split.")],
    labels: Annotated[Path, typer.Option(metavar="ROOT", help="Root of the labels.")],
    predictions: Annotated[Path, typer.Option(metavar="DIR", help="Root of the predictions.")],
    metric: Annotated[
        CulaneMetric, typer.Option(help="The C++ evaluator's counts or the Python ports'.")
    ] = CulaneMetric.official,
    image_size: Annotated[
        str | None, typer.Option(metavar="WxH", help="Of the images, where they aren't of CULane's 1640x590.")
    ] = None,
    lane_width: LaneWidth = LANE_WIDTH,
    iou: Thresholds = None,
    per_image: PerImage = None,
    strict: Strict = False,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Neither use nor keep painted labels; the figures are the same.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Score predictions in CULane's format.

    Example: samiro-bench score culane --labels CULane --predictions out CULane/list/test_split/*.txt
    """
    official = metric is CulaneMetric.official
    splits = read_lists(lists, listed_images if official else culane_ports.listed_images)
    shown = shown_thresholds(iou)
    score_official = partial(culane.score_images, cache=None if no_cache else cache_folder() / PACKS)
    plain, score_them = (
        (culane.METRIC, score_official) if official else (culane_ports.METRIC, culane_ports.score_images)
    )
    size = IMAGE_SIZE if image_size is None else size_of_images(image_size)
    check_size(labels, splits, size, given=image_size is not None)
    name = metric_on(plain, size, lane_width)
    with progress_bar(sum(len(split.images) for split in splits)) as report:

        def score_images(images: Sequence[str]) -> tuple[Counts, tuple[Oddity, ...]]:
            return score_them(
                labels,
                predictions,
                images,
                thresholds=shown,
                image_size=size,
                lane_width=lane_width,
                strict=strict,
                progress=report,
            )

        result = count_splits(splits, score_images, strict=strict)
    if per_image is not None:
        write_rows(
            per_image, (row for split, counts in result.splits.items() for row in image_rows(counts, split=split))
        )
    if official:  # the ports refuse
        say_missing(predictions, splits, result.warnings)
    say_warnings(result.warnings)
    if not result.total.sums(SHOWN_THRESHOLDS[0]).tp:
        images = result.total.images[:: -(-len(result.total.images) // LOOKED_AT)]
        labelled, predicted = (
            coordinates_of(culane.read_file(lanes_file(root, image))[0].points for image in images)
            for root in (labels, predictions)
        )
        say_other_pixels(predictions, labelled, predicted)
    if as_json:
        print_json(
            {
                "metric": name,
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
        print_counts(name, result.splits, result.total, shown)


def check_size(labels: Path, splits: Sequence[ImageList], size: tuple[int, int], *, given: bool) -> None:
    """InputError where images lie beside the labels and aren't of CULane's size; a warning where they aren't of the size given.

    A size that is higher than wide is taken for one the wrong way round, unless the images are so.
    """
    images = (labels / image for split in splits for image in split.images[:1])
    image = next((file for file in images if file.is_file()), None)
    found = None if image is None else read_size(image)
    if found == size:
        return
    if size[0] > size[1]:
        turned = f"{size[1]}x{size[0]} is higher than wide, and it is WIDTHxHEIGHT: did you mean {size[0]}x{size[1]}?"
        raise typer.BadParameter(turned, param_hint="'--image-size'")
    if found is None:
        return
    height, width = found
    if not given:
        usual = f"{IMAGE_SIZE[1]}x{IMAGE_SIZE[0]}"
        raise InputError(f"{image}: is {width}x{height}, not CULane's {usual}: give --image-size {width}x{height}")
    say_warning(f"{image}: is {width}x{height}, not {size[1]}x{size[0]} (WIDTHxHEIGHT) as --image-size says")


@app.command("llamas")
def score_llamas(
    labels: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the labels (JSON), such as labels/valid.")],
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
    labels: Annotated[Path, typer.Option(metavar="FILE", help="Labels, JSON lines.")],
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
    if counts.matched.sum() < HARDLY * counts.n_gt.sum():
        labelled, predicted = map(coordinates_of, tusimple_points(labels, predictions, LOOKED_AT))
        say_other_pixels(predictions, labelled, predicted, found="hardly a lane is found")
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


def wide_console() -> Console:
    """Standard output; in a file or a pipe, which has no width, as wide as any table."""
    console = Console()
    return console if console.is_terminal else Console(width=WIDE)


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


def as_objects(warnings: Sequence[Oddity]) -> list[dict[str, str | int | None]]:
    """Warnings for JSON."""
    return [{"file": str(odd.file), "line": odd.line, "what": odd.what} for odd in warnings]


def print_json(value: dict[str, Any]) -> None:
    """The one object that goes to stdout."""
    print(json.dumps(value, allow_nan=False))


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
                name,
                str(len(counts.images)),
                f"> {threshold_name(threshold)}",
                *(str(count) for count in (sums.tp, sums.fp, sums.fn)),
                *(percent(ratio) for ratio in (sums.precision, sums.recall, sums.f1)),
            )
        table.add_section()
    console = wide_console()
    console.print(table)
    console.print(f"mF1 over .50:.05:.95: {percent(total.mf1)}")


@contextmanager
def progress_bar(images: int) -> Iterator[Report | None]:
    """A bar on stderr where that is a terminal; nothing elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    shape = (TextColumn("scoring"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*shape, console=console, transient=True) as bar:
        task = bar.add_task("scoring", total=images)
        yield lambda done: bar.advance(task, done)
