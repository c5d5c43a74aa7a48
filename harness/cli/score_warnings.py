"""What `samiro-bench score` and `compare` say on stderr about the files that it was given."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness.metrics.coordinates import coordinates_of, other_pixels
from harness.metrics.counts import LADDER, Counts
from harness.metrics.culane import NO_FILE, read_file
from harness.metrics.image_lists import ImageList, lanes_file
from harness.metrics.lane_text import Floats
from harness.metrics.oddities import Oddity
from harness.metrics.tusimple import TusimpleCounts
from harness.metrics.tusimple_points import lanes_without_points, tusimple_points
from harness.report.text import escaped

SHOWN_WARNINGS = 10
"""Warnings that are spelt out on stderr, shared among their kinds; --json holds them all."""

LOOKED_AT = 200
"""Images whose lanes are looked at where not one was found."""

HARDLY = 0.05
"""TuSimple: a smaller share of the labels is matched by chance, as rows count on which both have no point."""

MANY_ZEROS = 0.1
"""TuSimple: above this share, points at x = 0 are taken for absent ones. Of the 319,219 of the public test labels, 8 are there."""

TOO_GOOD = 0.99
"""F1 at IoU .95, or TuSimple's accuracy and F1: of detectors at their best .5 and .97, of labels scored as predictions 1."""

FEW_LANES = 20
"""Of so few labelled lanes a detector may find all."""


def say_warnings(warnings: Sequence[Oddity]) -> None:
    """The first warnings of each kind on stderr, and how many there are more of it; kinds of few before those of many,
    and run_time last."""
    kinds: dict[str, list[Oddity]] = {}
    for odd in warnings:
        # What is said of one file or number and of another is of one kind.
        kinds.setdefault(re.sub(r"\S*[/\d]\S*", "", odd.what), []).append(odd)
    shown = max(2, SHOWN_WARNINGS // max(1, len(kinds)))
    # A detector's run_time is the same all over, and hides what is wrong with its lanes.
    for odd_ones in sorted(kinds.values(), key=lambda them: (them[0].what.startswith("run_time"), len(them))):
        for odd in odd_ones[:shown]:
            say_warning(str(odd))
        if len(odd_ones) > shown:
            say_warning(f"{len(odd_ones) - shown} more like these (--json lists them all)")


def say_warning(line: str) -> None:
    """A warning on stderr, in which no foreign name is a command to the terminal."""
    print(f"warning: {escaped(line)}", file=sys.stderr)


def say_missing(predictions: Path, splits: Sequence[ImageList], warnings: Sequence[Oddity]) -> None:
    """A warning that says of how many images the predictions are missing, before they are said one by one."""
    lost = {odd.file for odd in warnings if odd.what.startswith(NO_FILE)}
    if not lost:
        return
    files = [Path(lanes_file(predictions, image)) for split in splits for image in split.images]
    missing = sum(file in lost for file in files)
    if missing:
        say_warning(f"{predictions}: {missing} of {len(files)} images have no prediction file: they count as no lanes")


def say_other_pixels(
    predictions: Path, labelled: Floats, predicted: Floats, found: str = "not a lane is found"
) -> None:
    """A warning, where no lane was found or hardly one, if the coordinates can't be those of the labels."""
    why = other_pixels(labelled, predicted)
    if why is not None:
        say_warning(f"{predictions}: {found}, and {why}")


def say_unlike_pixels(labels: Path, predictions: Path, counts: Counts) -> None:
    """`say_other_pixels` of files in CULane's format, where not one lane was found."""
    if counts.tp[:, 0].any():
        return
    images = counts.images[:: -(-len(counts.images) // LOOKED_AT)]
    labelled, predicted = (
        coordinates_of(read_file(lanes_file(root, image))[0].points for image in images)
        for root in (labels, predictions)
    )
    say_other_pixels(predictions, labelled, predicted)


def say_unlike_tusimple_pixels(labels: Path, predictions: Path, counts: TusimpleCounts) -> None:
    """`say_other_pixels` of files of TuSimple's, where hardly a lane was found."""
    if counts.matched.sum() < HARDLY * counts.n_gt.sum():
        labelled, predicted = map(coordinates_of, tusimple_points(labels, predictions, LOOKED_AT))
        say_other_pixels(predictions, labelled, predicted, found="hardly a lane is found")


def say_tusimple_zeros(labels: Path, predictions: Path, counts: TusimpleCounts) -> None:
    """A warning where few lanes are found in a file of TuSimple's, and many points are at the left edge to the pixel."""
    if counts.matched.sum() < counts.n_gt.sum() / 2:
        predicted = coordinates_of(tusimple_points(labels, predictions, LOOKED_AT)[1])
        zeros = float(np.mean(predicted[:, 0] == 0)) if len(predicted) else 0.0
        if zeros > MANY_ZEROS:
            told = f"{zeros:.0%} of its points are at x = 0: where a lane is absent, TuSimple's format has -2"
            say_warning(f"{predictions}: few lanes are found, and {told}")


def say_tusimple_without_points(labels: Path, predictions: Path, counts: TusimpleCounts) -> None:
    """A warning of lanes in files of TuSimple's that have no point at any row, and of labels without a lane."""
    for file in (labels, predictions):
        pointless, lanes = lanes_without_points(file)
        if pointless:
            many = f"{pointless} of {lanes} lanes have no point at any row"
            say_warning(f"{file}: {many}: the official script counts each as a lane; leave lanes out that aren't there")
    if not counts.n_gt.any():
        unlabelled = "test_tasks_0627.json has none, the test labels are test_label.json"
        say_warning(f"{labels}: not an image has a lane, so that nothing can be found: are these labels? {unlabelled}")


def say_labels_themselves(predictions: Path, counts: Counts) -> None:
    """A warning where lanes agree with their labels as only labels do."""
    best = counts.sums(LADDER[-1]).f1
    if best is not None and best >= TOO_GOOD and counts.n_gt.sum() >= FEW_LANES:
        told = f"F1 at IoU {LADDER[-1]:.2f} is {100 * best:.2f}, as no detector's is"
        say_warning(f"{predictions}: {told}; are these the labels themselves, or made from them?")


def say_tusimple_labels_themselves(predictions: Path, counts: TusimpleCounts) -> None:
    """`say_labels_themselves` of files of TuSimple's."""
    accuracy, found = counts.mean(counts.accuracy), counts.f1_matched
    if found is not None and min(accuracy, found) >= TOO_GOOD and counts.n_gt.sum() >= FEW_LANES:
        told = f"accuracy is {100 * accuracy:.2f} and F1 {100 * found:.2f}, as no detector's are"
        say_warning(f"{predictions}: {told}; are these the labels themselves, or made from them?")
