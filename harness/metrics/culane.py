"""The CULane metric as its official C++ evaluator counts it: `culane/official`.

The evaluator is XingangPan/SCNN, tools/lane_evaluation, built on OpenCV 4.6. Every lane becomes a natural cubic spline, painted
30 pixels wide on a 1640 x 590 image; lanes are matched one to one by the IoU of what is painted; a pair counts where its IoU is
strictly greater than the threshold. The figures here are those of that program at every threshold, also for hostile input.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness.errors import InputError
from harness.metrics.canvas import IMAGE_SIZE, LANE_WIDTH
from harness.metrics.counts import Counts, columns
from harness.metrics.image_lists import lanes_file
from harness.metrics.image_matches import ImageMatch, Painters, Progress, count_images
from harness.metrics.label_pack import LabelPack, PaintedLabel, kept_labels
from harness.metrics.lane_text import ODDITIES, Integers, LaneText, read_lanes
from harness.metrics.matching import match_lanes
from harness.metrics.natural_spline import curves
from harness.metrics.oddities import Oddity
from harness.metrics.overlaps import Painter
from harness.metrics.painted_lanes import Ious
from harness.metrics.painted_lanes import ious as painted_ious
from harness.metrics.regular_files import read_regular
from harness.metrics.roots import check_roots

METRIC = "culane/official"

NO_FILE = "there is no such file"

CRASH = "a lane that the official program crashes on"


def score_images(
    labels: Path,
    predictions: Path,
    images: Sequence[str],
    *,
    thresholds: Sequence[float] = (),
    image_size: tuple[int, int] = IMAGE_SIZE,
    lane_width: int = LANE_WIDTH,
    strict: bool = False,
    progress: Progress | None = None,
    workers: int | None = None,
    cache: Path | None = None,
) -> tuple[Counts, tuple[Oddity, ...]]:
    """Count the matched lanes of each image, with all cores (or `workers` threads), and note what was odd.

    thresholds: IoU thresholds beyond .50:.05:.95. image_size: (height, width) in pixels. cache: a folder where painted labels are kept
    between runs (`label_pack`); the result is the same. A missing file means no lanes, and is odd. Raises InputError for roots that
    `check_roots` refuses, for a lane that the official program crashes on (a segment that ends 2**31 rows above row 0) and, when
    strict, for anything odd.
    """
    check_roots(labels, predictions, images, lanes_file)
    painters = Painters(image_size, lane_width)

    def match(image: str) -> ImageMatch:
        label_file, prediction_file = lanes_file(labels, image), lanes_file(predictions, image)
        text, label_oddities = read_bytes(label_file)
        predicted, prediction_oddities = read_file(prediction_file)
        try:
            label, ious = label_ious(text, predicted, painters.painter, pack)
        except ZeroDivisionError as error:
            raise InputError(f"{prediction_file}, or {label_file}: {CRASH}: {error}: correct the lane") from error
        matched = match_lanes(ious)
        oddities = [*label_oddities, *odd_lines(label_file, label), *prediction_oddities]
        if np.isnan(ious).any():
            what = f"a lane and one of {prediction_file} lie wholly outside the image: their IoU is undefined and they can't match"
            oddities.append(Oddity(Path(label_file), None, what))
        pairs = ious[matched >= 0, matched[matched >= 0]]
        return ImageMatch(len(label), len(predicted.ends), pairs, tuple(oddities))

    with kept_labels(cache, labels, images, image_size, lane_width) as pack:
        return count_images(
            images, match, thresholds=columns(thresholds), strict=strict, progress=progress, workers=workers
        )


def label_ious(text: bytes, predicted: LaneText, painter: Painter, pack: LabelPack | None) -> tuple[Integers, Ious]:
    """The oddities of the lines of a label file, and the IoU of every label lane (rows) with every predicted lane (columns).

    The painted label is from the pack or goes there. Where nothing was predicted it isn't painted, as what it would paint, or fail to,
    is of no account.
    """
    label = pack.find(text) if pack is not None else None
    if label is None:
        lanes = read_lanes(text)
        if len(predicted.ends) == 0:
            return lanes.odd, np.zeros((len(lanes.ends), 0))
        label = PaintedLabel(painter.painted(curves(lanes.points, lanes.ends)), lanes.odd)
        if pack is not None:
            pack.add(text, label)
    if len(label.odd) == 0:
        return label.odd, np.zeros((0, len(predicted.ends)))
    return label.odd, painted_ious(label.lanes, painter.painted(curves(predicted.points, predicted.ends)))


def read_file(file: str) -> tuple[LaneText, list[Oddity]]:
    """The lanes of a file and what is odd about them; a file that isn't there, or can't be opened, has none."""
    text, oddities = read_bytes(file)
    lanes = read_lanes(text)
    return lanes, [*oddities, *odd_lines(file, lanes.odd)]


def read_bytes(file: str) -> tuple[bytes, list[Oddity]]:
    """The bytes of a file; none, and why that is odd, where it isn't there or can't be opened."""
    try:
        return read_regular(file), []
    except IsADirectoryError:
        why = "a folder, not a file"
    except (FileNotFoundError, NotADirectoryError):
        why = NO_FILE
    except OSError as error:
        why = str(error.strerror)
    return b"", [Oddity(Path(file), None, f"{why}: it counts as no lanes")]


def odd_lines(file: str, odd: Integers) -> list[Oddity]:
    """What is odd about the lines of a file, from the numbers that `read_lanes` gave them."""
    return [Oddity(Path(file), int(line) + 1, ODDITIES[int(odd[line])]) for line in np.flatnonzero(odd)]
