"""The CULane metric as its official C++ evaluator counts it: `culane/official`.

The evaluator is XingangPan/SCNN, tools/lane_evaluation, built on OpenCV 4.6. Every lane becomes a natural cubic spline, painted
30 pixels wide on a 1640 x 590 image; lanes are matched one to one by the IoU of what is painted; a pair counts where its IoU is
strictly greater than the threshold. The figures here are those of that program at every threshold, also for hostile input.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from harness.errors import InputError
from harness.metrics.counts import Counts, columns
from harness.metrics.image_lists import LANES_SUFFIX, lanes_file
from harness.metrics.image_matches import ImageMatch, Painters, Progress, count_images
from harness.metrics.lane_text import ODDITIES, LaneText, read_lanes
from harness.metrics.matching import match_lanes
from harness.metrics.natural_spline import curves
from harness.metrics.oddities import Oddity
from harness.metrics.overlaps import Painter

METRIC = "culane/official"

IMAGE_SIZE = (590, 1640)
"""Height and width of CULane's images in pixels."""

LANE_WIDTH = 30
"""Width in pixels that lanes are painted with (XingangPan/SCNN, tools/lane_evaluation/run.sh)."""

CRASH = "a lane that the official program crashes on"

Ious = npt.NDArray[np.float64]


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
) -> tuple[Counts, tuple[Oddity, ...]]:
    """Count the matched lanes of each image, with all cores (or `workers` threads), and note what was odd.

    thresholds: IoU thresholds beyond .50:.05:.95. image_size: (height, width) in pixels. A missing file means no lanes, and is
    odd. Raises InputError for a root that is no folder, for a folder of labels without a label, for a lane that the official
    program crashes on (a segment that ends 2**31 rows above row 0) and, when strict, for anything odd.
    """
    check_roots(labels, predictions, images, lanes_file)
    painters = Painters(image_size, lane_width)

    def match(image: str) -> ImageMatch:
        label_file, prediction_file = lanes_file(labels, image), lanes_file(predictions, image)
        label_text, label_oddities = read_file(label_file)
        prediction_text, prediction_oddities = read_file(prediction_file)
        try:
            ious = lane_ious(label_text, prediction_text, painters.painter)
        except ZeroDivisionError as error:
            raise InputError(f"{prediction_file}, or {label_file}: {CRASH}: {error}: correct the lane") from error
        matched = match_lanes(ious)
        oddities = [*label_oddities, *prediction_oddities]
        if np.isnan(ious).any():
            what = f"a lane and one of {prediction_file} lie wholly outside the image: their IoU is undefined and they can't match"
            oddities.append(Oddity(Path(label_file), None, what))
        pairs = ious[matched >= 0, matched[matched >= 0]]
        return ImageMatch(len(label_text.ends), len(prediction_text.ends), pairs, tuple(oddities))

    return count_images(
        images, match, thresholds=columns(thresholds), strict=strict, progress=progress, workers=workers
    )


def lane_ious(labels: LaneText, predictions: LaneText, painter: Painter) -> Ious:
    """The IoU of every label lane (rows) with every predicted lane (columns)."""
    return painter.ious(curves(labels.points, labels.ends), curves(predictions.points, predictions.ends))


def read_file(file: str) -> tuple[LaneText, list[Oddity]]:
    """The lanes of a file and what is odd about them; a file that isn't there, or can't be opened, has none."""
    try:
        with open(file, "rb", buffering=0) as stream:
            text = stream.read()
    except IsADirectoryError:
        return read_lanes(b""), [Oddity(Path(file), None, "a folder, not a file: it counts as no lanes")]
    except (FileNotFoundError, NotADirectoryError):
        return read_lanes(b""), [Oddity(Path(file), None, "there is no such file: it counts as no lanes")]
    except OSError as error:
        return read_lanes(b""), [Oddity(Path(file), None, f"{error.strerror}: it counts as no lanes")]
    lanes = read_lanes(text)
    odd_lines = np.flatnonzero(lanes.odd)
    return lanes, [Oddity(Path(file), int(line) + 1, ODDITIES[int(lanes.odd[line])]) for line in odd_lines]


def check_roots(labels: Path, predictions: Path, images: Sequence[str], lanes_file: Callable[[Path, str], str]) -> None:
    """Raise InputError unless both roots are folders and the labels' holds a label (of one of the images, or any at all)."""
    for root, role in ((labels, "labels"), (predictions, "predictions")):
        if not root.is_dir():
            raise InputError(f"{root}: no such folder: give the root of the {role}")
    if any(os.path.isfile(lanes_file(labels, image)) for image in images):
        return
    for _, _, names in os.walk(labels):
        if any(name.endswith(LANES_SUFFIX) for name in names):
            return
    raise InputError(f"{labels}: not a single {LANES_SUFFIX} file in this folder: give the root of the labels")
