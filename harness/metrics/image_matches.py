"""From the matched lanes of single images to counts of many."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.metrics.counts import Counts
from harness.metrics.oddities import Oddity, refuse
from harness.metrics.overlaps import Painter
from harness.metrics.parallel import in_threads

Progress = Callable[[int], object]
"""Called with the number of images done since the last call."""


@dataclass(frozen=True, eq=False)
class ImageMatch:
    """One image: lanes in its labels and in the predictions, the IoU of each matched pair (float64), what was odd."""

    n_gt: int
    n_pred: int
    ious: npt.NDArray[np.float64]
    oddities: tuple[Oddity, ...] = ()


class Painters(threading.local):
    """A `Painter` for each thread that asks."""

    def __init__(self, size: tuple[int, int], thickness: int) -> None:
        self.painter = Painter(size, thickness)


def count_images(
    images: Sequence[str],
    match: Callable[[str], ImageMatch],
    *,
    thresholds: tuple[float, ...],
    strict: bool,
    progress: Progress | None = None,
    workers: int | None = None,
) -> tuple[Counts, tuple[Oddity, ...]]:
    """Match each image in threads and count the pairs whose IoU is strictly greater than each threshold.

    Gives the counts and what was odd, in the order of the images. When strict, the first oddity is raised as InputError.
    """
    limits = np.array(thresholds)
    n_gt, n_pred = np.zeros(len(images), np.int64), np.zeros(len(images), np.int64)
    tp = np.zeros((len(images), len(thresholds)), np.int64)
    oddities: list[Oddity] = []
    done = 0
    for matches in in_threads(lambda chunk: [match(image) for image in chunk], images, workers=workers):
        for row, found in enumerate(matches, start=done):
            if strict:
                refuse(found.oddities)
            oddities += found.oddities
            n_gt[row], n_pred[row] = found.n_gt, found.n_pred
            tp[row] = (found.ious[:, None] > limits).sum(axis=0)
        done += len(matches)
        if progress is not None:
            progress(len(matches))
    return Counts(tuple(images), n_gt, n_pred, tp, thresholds), tuple(oddities)
