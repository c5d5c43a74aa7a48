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

IMAGE_ENDING = "_color_rect"
"""What the dataset's images have at the end of their names, and its labels don't."""


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
    check_predictions(labels, predictions)
    painters = Painters((HEIGHT, WIDTH), LANE_WIDTH)

    def match(label: str) -> ImageMatch:
        annotated = read_label(Path(label))
        file = prediction_file(predictions, label)
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


def prediction_file(predictions: Path, label: str) -> Path:
    """Where the official script looks for the prediction of a label: by the last two parts of its path."""
    return predictions / "/".join(label.split(os.sep)[-2:]).replace(".json", LANES_SUFFIX)


def check_predictions(labels: Sequence[str], predictions: Path) -> None:
    """InputError where a prediction is missing and shows why: it lies below a split, is named after its image, or labels are mixed."""
    lost = next((label for label in labels if not prediction_file(predictions, label).is_file()), None)
    if lost is None:
        return
    wanted = prediction_file(predictions, lost)
    folder, recording = wanted.parent, Path(lost).parent
    by_image = f"{wanted.name.removesuffix(LANES_SUFFIX)}{IMAGE_ENDING}{LANES_SUFFIX}"
    below = predictions / recording.parent.name / folder.name
    for there, fix in (
        (folder / by_image, f"name the files without {IMAGE_ENDING}"),
        (below / wanted.name, f"give {below.parent} as the root"),
        (below / by_image, f"give {below.parent} as the root, and name the files without {IMAGE_ENDING}"),
    ):
        if there.is_file():
            raise InputError(f"{wanted}: is missing, but {there} is there: {fix}")
    splits = sorted({Path(label).parent.parent for label in labels})
    if len(splits) > 1:
        names = " and ".join(split.name for split in splits)
        raise InputError(f"{wanted}: is missing; the labels are those of {names}: give one split, such as {splits[-1]}")


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
