"""What the verbs `score` and `compare` share: options, what is asked for of CULane's lists, and how they answer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from harness.cli.score_warnings import say_warning
from harness.datasets.images import read_size
from harness.errors import InputError
from harness.files.stored import cache_folder
from harness.metrics import culane, culane_ports
from harness.metrics.canvas import IMAGE_SIZE, metric_on
from harness.metrics.counts import Counts
from harness.metrics.image_lists import ImageList, listed_images, read_lists
from harness.metrics.image_matches import Progress as Report
from harness.metrics.label_pack import PACKS
from harness.metrics.oddities import Oddity
from harness.metrics.splits import SplitCounts, count_splits

WIDE = 400
"""Characters of a line where standard output is no terminal."""


class CulaneMetric(StrEnum):
    """Which evaluator's figures `score culane` gives."""

    official = "official"
    clrnet = "clrnet"


AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Strict = Annotated[bool, typer.Option("--strict", help="Refuse whatever is odd about the files instead of warning.")]
CulaneMetricOption = Annotated[
    CulaneMetric, typer.Option("--metric", help="The C++ evaluator's counts or the Python ports'.")
]
ImageSize = Annotated[
    str | None,
    typer.Option("--image-size", metavar="WxH", help="Of the images, where they aren't of CULane's 1640x590."),
]
NoCache = Annotated[
    bool, typer.Option("--no-cache", help="Neither use nor keep painted labels; the figures are the same.")
]
Lists = Annotated[list[Path], typer.Argument(metavar="LIST...", help="Lists of images; each is a split.")]
CulaneLabels = Annotated[Path, typer.Option("--labels", metavar="ROOT", help="Root of the labels.")]
LlamasLabels = Annotated[
    Path, typer.Option("--labels", metavar="DIR", help="Folder of the labels (JSON), such as labels/valid.")
]
TusimpleLabels = Annotated[Path, typer.Option("--labels", metavar="FILE", help="Labels, JSON lines.")]


@dataclass(frozen=True)
class CulaneLists:
    """What is to be scored in CULane's format: the splits, their labels' root, and how lanes are compared (`metric` has all of it)."""

    splits: tuple[ImageList, ...]
    labels: Path
    kind: CulaneMetric
    image_size: tuple[int, int]
    lane_width: int

    @property
    def images(self) -> int:
        """How many there are in all splits."""
        return sum(len(split.images) for split in self.splits)

    @property
    def metric(self) -> str:
        """The metric's name, with what isn't CULane's own."""
        plain = culane.METRIC if self.kind is CulaneMetric.official else culane_ports.METRIC
        return metric_on(plain, self.image_size, self.lane_width)


def culane_lists(
    lists: Sequence[Path], labels: Path, *, metric: CulaneMetric, image_size: str | None, lane_width: int
) -> CulaneLists:
    """Read the lists; InputError where images lie beside the labels and are of another size."""
    official = metric is CulaneMetric.official
    splits = read_lists(lists, listed_images if official else culane_ports.listed_images)
    size = IMAGE_SIZE if image_size is None else size_of_images(image_size)
    check_size(labels, splits, size, given=image_size is not None)
    return CulaneLists(tuple(splits), labels, metric, size, lane_width)


def count_lists(
    asked: CulaneLists,
    predictions: Path,
    thresholds: Sequence[float],
    *,
    strict: bool,
    cached: bool,
    progress: Report | None,
) -> SplitCounts:
    """Score one folder of predictions. cached: use and keep painted labels, which changes no figure."""
    score_official = partial(culane.score_images, cache=cache_folder() / PACKS if cached else None)
    score_them = score_official if asked.kind is CulaneMetric.official else culane_ports.score_images

    def score_images(images: Sequence[str]) -> tuple[Counts, tuple[Oddity, ...]]:
        return score_them(
            asked.labels,
            predictions,
            images,
            thresholds=thresholds,
            image_size=asked.image_size,
            lane_width=asked.lane_width,
            strict=strict,
            progress=progress,
        )

    return count_splits(asked.splits, score_images, strict=strict)


def size_of_images(text: str) -> tuple[int, int]:
    """WIDTHxHEIGHT in pixels, such as 1280x720, as (height, width)."""
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if not match:
        wrong = f"{text!r} isn't WIDTHxHEIGHT in pixels, such as 1280x720"
        raise typer.BadParameter(wrong, param_hint="'--image-size'")
    return int(match[2]), int(match[1])


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


def wide_console() -> Console:
    """Standard output; in a file or a pipe, which has no width, as wide as any table."""
    console = Console()
    return console if console.is_terminal else Console(width=WIDE)


def as_objects(warnings: Sequence[Oddity]) -> list[dict[str, str | int | None]]:
    """Warnings for JSON."""
    return [{"file": str(odd.file), "line": odd.line, "what": odd.what} for odd in warnings]


def print_json(value: dict[str, Any]) -> None:
    """The one object that goes to stdout."""
    print(json.dumps(value, allow_nan=False))


@contextmanager
def progress_bar(images: int) -> Iterator[Report | None]:
    """A bar on stderr where that is a terminal and there is something to count; nothing elsewhere."""
    console = Console(stderr=True)
    if not (console.is_terminal and images):
        yield None
        return
    shape = (TextColumn("scoring"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*shape, console=console, transient=True) as bar:
        task = bar.add_task("scoring", total=images)
        yield lambda done: bar.advance(task, done)
