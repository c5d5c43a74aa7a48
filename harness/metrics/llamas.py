"""The LLAMAS lane metric as its authors' script counts it: `llamas/official`.

Source: karstenBehrendt/unsupervised_llamas, culane_metric/evaluate.py with drawn lanes (its command line's default). Labels are
made from markers (`llamas_labels`), predictions lie in CULane's text format; both are painted 30 pixels wide on 1276 x 717 images.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness.errors import InputError
from harness.metrics.counts import Counts, columns
from harness.metrics.image_lists import LANES_SUFFIX
from harness.metrics.image_matches import ImageMatch, Painters, Progress, count_images
from harness.metrics.llamas_labels import HEIGHT, WIDTH, read_label
from harness.metrics.oddities import Oddity
from harness.metrics.overlaps import Polylines, polylines
from harness.metrics.python_lanes import Points, curve, matched_ious, read_points, truncated

METRIC = "llamas/official"

LANE_WIDTH = 30
SAMPLES = 50
"""Points of the curve through a predicted lane."""


def count_labels(
    labels: Sequence[str],
    predictions: Path,
    *,
    thresholds: Sequence[float] = (),
    strict: bool = False,
    progress: Progress | None = None,
    workers: int | None = None,
) -> tuple[Counts, tuple[Oddity, ...]]:
    """Count the matched lanes of label files, as `find_labels` gives them, and note what was odd. Images are named after their labels.

    The prediction of `.../folder/name.json` is `folder/name.lines.txt` below `predictions`. Raises InputError for a missing prediction,
    and whatever the official script raises on; when strict, also for anything odd.
    """
    if not predictions.is_dir():
        raise InputError(f"{predictions}: no such folder: give the root of the predictions")
    painters = Painters((HEIGHT, WIDTH), LANE_WIDTH)

    def match(label: str) -> ImageMatch:
        annotated = read_label(Path(label))
        file = predictions / "/".join(label.split(os.sep)[-2:]).replace(".json", LANES_SUFFIX)
        lanes, oddities = predicted_lanes(file)
        if not annotated or not lanes:
            return ImageMatch(len(annotated), len(lanes), np.zeros(0), tuple(oddities))
        try:
            ious = matched_ious(painters.painter.ious(curves(lanes), polylines(truncated(annotated))))
        except (ValueError, ArithmeticError) as error:
            raise InputError(
                f"{file}, or {label}: lanes that the official script fails on ({error}): correct them"
            ) from error
        return ImageMatch(len(annotated), len(lanes), ious, tuple(oddities))

    return count_images(
        labels, match, thresholds=columns(thresholds), strict=strict, progress=progress, workers=workers
    )


def find_labels(folder: Path) -> list[str]:
    """The absolute paths of all label files below a folder, sorted. Raises InputError if there are none."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder: give the folder of the labels")
    found = [os.path.join(root, name) for root, _, names in os.walk(folder.absolute()) for name in names]
    labels = sorted(name for name in found if name.endswith(".json"))
    if not labels:
        raise InputError(f"{folder}: not a single .json file in this folder: give the folder of the labels")
    return labels


def predicted_lanes(file: Path) -> tuple[list[Points], list[Oddity]]:
    """The lanes of two points and more, without repeated points, and a word on what was dropped."""
    lanes, oddities = [], []
    for number, lane in enumerate(read_points(file), start=1):
        if len(lane) < 2:
            oddities.append(Oddity(file, number, "fewer than two points: this metric drops the lane"))
            continue
        distinct = [point for i, point in enumerate(lane) if i == 0 or point != lane[i - 1]]
        if len(distinct) < len(lane):
            oddities.append(Oddity(file, number, "equal points in a row: this metric drops the repetition"))
        lanes.append(distinct)
    return lanes, oddities


def curves(lanes: Sequence[Points]) -> Polylines:
    """The pixels that are joined by lines, fractions cut off. Raises ValueError where a lane has no curve."""
    drawn = [curve(lane, samples=SAMPLES) for lane in lanes]
    with np.errstate(invalid="ignore"):
        return polylines([lane.astype(np.int32) for lane in drawn])
