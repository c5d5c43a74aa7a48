"""The CULane metric as the Python ports count it: `culane/clrnet`.

CLRNet, LaneATT, CLRerNet and their kin evaluate with a translation of the C++ evaluator whose figures differ from it: another
spline, truncation instead of rounding, an exact assignment, and lanes of fewer than two points are dropped. Published figures of
those repositories are in this metric. Source: Turoad/CLRNet, clrnet/utils/culane_metric.py.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

from harness.errors import InputError
from harness.metrics.canvas import IMAGE_SIZE, LANE_WIDTH
from harness.metrics.counts import Counts, columns
from harness.metrics.culane import CRASH
from harness.metrics.image_lists import LANES_SUFFIX
from harness.metrics.image_matches import ImageMatch, Painters, Progress, count_images
from harness.metrics.oddities import Oddity
from harness.metrics.overlaps import Polylines, polylines
from harness.metrics.python_lanes import Points, curve, matched_ious, read_points, truncated
from harness.metrics.roots import check_roots

METRIC = "culane/clrnet"

SAMPLES_AN_INTERVAL = 5
"""Points of the curve between two points of a lane (CLRNet, culane_metric: interp(..., n=5))."""


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
    """Count the matched lanes of each image, as `culane.score_images` does in the official way.

    Raises InputError for whatever the ports raise on: a missing file, text or an odd count of numbers in it, two equal points in a
    row, a label and a prediction that both lie wholly outside the image.
    """
    check_roots(labels, predictions, images, lanes_file)
    painters = Painters(image_size, lane_width)

    def match(image: str) -> ImageMatch:
        files = Path(lanes_file(labels, image)), Path(lanes_file(predictions, image))
        (label_lanes, label_odd), (predicted_lanes, predicted_odd) = map(kept_lanes, files)
        annotated, predicted = curves(label_lanes, files[0]), curves(predicted_lanes, files[1])
        try:
            ious = matched_ious(painters.painter.ious(annotated, predicted).T)
        except ZeroDivisionError as error:
            raise InputError(f"{files[1]}, or {files[0]}: {CRASH}: {error}: correct the lane") from error
        except ValueError as error:
            raise InputError(
                f"{files[1]}: a lane and one of {files[0]} lie wholly outside the image: remove it"
            ) from error
        return ImageMatch(len(label_lanes), len(predicted_lanes), ious, (*label_odd, *predicted_odd))

    return count_images(
        images, match, thresholds=columns(thresholds), strict=strict, progress=progress, workers=workers
    )


def lanes_file(root: Path, image: str) -> str:
    """The path of an image's lanes: every `.jpg` in the name becomes `.lines.txt`, and no other suffix does."""
    return os.path.join(root, image.replace(".jpg", LANES_SUFFIX))


def listed_images(text: bytes) -> list[str]:
    """The image of each line of a list as the ports take it: UTF-8, any kind of line end, no more than one slash cut off.

    Raises ValueError, worded to follow the list's name, for a blank line, a NUL and other text than UTF-8.
    """
    images = []
    try:
        lines = io.StringIO(text.decode(), newline=None).readlines()
    except UnicodeDecodeError as error:
        bad = 1 + error.object[: error.start].count(b"\n")
        raise ValueError(f", line {bad}: not UTF-8 text: give a list with one image path a line") from error
    for number, line in enumerate(lines, start=1):
        image = line.removeprefix("/").rstrip()
        if not image or "\0" in image:
            what = "a NUL" if image else "a blank line"
            raise ValueError(f", line {number}: {what}, which the ports fail on: remove it")
        images.append(image)
    return images


def kept_lanes(file: Path) -> tuple[list[Points], list[Oddity]]:
    """The lanes of two points and more, and a word on each that is dropped."""
    lanes = read_points(file)
    dropped = [number for number, lane in enumerate(lanes, start=1) if len(lane) < 2]
    what = "fewer than two points: this metric drops the lane"
    return [lane for lane in lanes if len(lane) >= 2], [Oddity(file, number, what) for number in dropped]


def curves(lanes: Sequence[Points], file: Path) -> Polylines:
    """The pixels that are joined by lines, all lanes one after the other."""
    try:
        return polylines(truncated([curve(lane, samples_an_interval=SAMPLES_AN_INTERVAL) for lane in lanes]))
    except (ValueError, OverflowError) as error:
        raise InputError(
            f"{file}: a lane that the ports fail on ({error}): remove repeated points and wild values"
        ) from error
