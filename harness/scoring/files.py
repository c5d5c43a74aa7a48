"""Counts as records hold them, of predictions that lie in files and belong to no dataset of a suite: clips and scenarios by names."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from harness.datasets.base import Frame
from harness.datasets.culane import EMPTY_SCENARIO, scenario_of_list
from harness.datasets.llamas import clips_of as llamas_clips
from harness.datasets.tusimple import clips_of as tusimple_clips
from harness.errors import InputError
from harness.metrics.counts import Counts, joined
from harness.metrics.image_lists import same_path
from harness.metrics.tusimple import TusimpleCounts
from harness.records.counts import AccuracyCounts, OverlapCounts
from harness.scoring.images import overlap_counts
from harness.scoring.tusimple import accuracy_counts


def culane_file_counts(splits: Mapping[str, Counts]) -> OverlapCounts:
    """Of CULane's lists, by their names. A list is a scenario, unless it is the only one; a clip is the folder of its images."""
    scenarios = scenarios_of_lists(list(splits))
    frames = [named(same_path(image), scenarios[name]) for name, counts in splits.items() for image in counts.images]
    return overlap_counts(frames, joined(list(splits.values())))


def scenarios_of_lists(names: Sequence[str]) -> dict[str, str | None]:
    """List -> its scenario; None for the only one, unless that is crossroads, which have no other score than their own."""
    found = {name: scenario_of_list(f"{name}.txt") or name for name in names}
    if len(found) == 1:
        return {name: scenario if scenario == EMPTY_SCENARIO else None for name, scenario in found.items()}
    # normal.txt and test0_normal.txt are two lists, and stay two scenarios.
    lists = Counter(found.values())
    return {name: scenario if lists[scenario] == 1 else name for name, scenario in found.items()}


def named(image: str, scenario: str | None) -> Frame:
    """A frame of CULane's that is known by its name alone."""
    return Frame(image, Path(image), scenario, image.rpartition("/")[0])


def llamas_file_counts(labels: Sequence[str], counts: Counts) -> OverlapCounts:
    """Of LLAMAS's label files, sorted, with the clips of its dataset."""
    images = ["/".join(label.split(os.sep)[-2:]) for label in labels]
    frames = [Frame(image, Path(image), None, clip) for image, clip in zip(images, llamas_clips(images), strict=True)]
    return overlap_counts(frames, counts)


def tusimple_file_counts(counts: TusimpleCounts, predictions: Path) -> AccuracyCounts:
    """Of a file of predictions, in the order of names, with the clips of TuSimple's dataset.

    InputError where an image is there twice, or its rates aren't defined.
    """
    order = sorted(range(len(counts.images)), key=counts.images.__getitem__)
    images = [counts.images[place] for place in order]
    for image, following in pairwise(images):
        if image == following:
            raise InputError(
                f"{predictions}: {image} is there twice, so that another one is missing; give each image once"
            )
    clips = tusimple_clips(images)
    found = accuracy_counts(
        [Frame(image, Path(image), None, clips[image]) for image in images], reordered(counts, order)
    )
    undefined = np.flatnonzero(np.isnan(found.accuracy))
    if len(undefined):
        raise InputError(
            f"{predictions}: {images[undefined[0]]} has no h_samples in its label, so its accuracy is undefined; mend the label"
        )
    return found


def reordered(counts: TusimpleCounts, order: Sequence[int]) -> TusimpleCounts:
    """The counts of the images in another order."""
    arrays = ("accuracy", "fp", "fn", "matched", "n_gt", "n_pred")
    return replace(
        counts,
        images=tuple(counts.images[place] for place in order),
        **{name: getattr(counts, name)[list(order)] for name in arrays},
    )
