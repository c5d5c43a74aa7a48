"""Counts of matched lanes per image, and what follows from their sums."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.errors import InputError

Integers = npt.NDArray[np.int64]

LADDER = tuple(float(threshold) for threshold in np.linspace(0.5, 0.95, 10))
"""The ten IoU thresholds of mF1, .50:.05:.95, as numpy makes them (CLRNet, clrnet/utils/culane_metric.py)."""


@dataclass(frozen=True)
class Sums:
    """Lanes found (tp), predicted for nothing (fp) and missed (fn). A ratio whose denominator is 0 is None."""

    tp: int
    fp: int
    fn: int

    @property
    def precision(self) -> float | None:
        """tp / (tp + fp)."""
        return self.tp / (self.tp + self.fp) if self.tp + self.fp else None

    @property
    def recall(self) -> float | None:
        """tp / (tp + fn)."""
        return self.tp / (self.tp + self.fn) if self.tp + self.fn else None

    @property
    def f1(self) -> float | None:
        """The harmonic mean of precision and recall; None where one of them is, or where both are 0."""
        precision, recall = self.precision, self.recall
        if precision is None or recall is None or precision + recall == 0.0:
            return None
        return 2 * precision * recall / (precision + recall)


@dataclass(frozen=True, eq=False)
class Counts:
    """What was counted in each image.

    images: their names. n_gt, n_pred: int64 (images,), lanes in the labels and in the predictions. thresholds: IoU thresholds,
    the ten of `LADDER` first. tp: int64 (images, thresholds), matched pairs whose IoU is strictly greater.
    """

    images: tuple[str, ...]
    n_gt: Integers
    n_pred: Integers
    tp: Integers
    thresholds: tuple[float, ...]

    def sums(self, threshold: float) -> Sums:
        """The sums over the images at one of the thresholds."""
        tp = int(self.tp[:, self.thresholds.index(threshold)].sum())
        return Sums(tp, int(self.n_pred.sum()) - tp, int(self.n_gt.sum()) - tp)

    @property
    def mf1(self) -> float:
        """The mean over `LADDER` of the F1 of the sums, an undefined F1 counted as 0."""
        return float(np.mean([self.sums(threshold).f1 or 0.0 for threshold in LADDER]))


def columns(extra: Iterable[float]) -> tuple[float, ...]:
    """The thresholds to count at: `LADDER`, then those of `extra` that are not in it. Raises InputError beyond [0, 1]."""
    thresholds = list(LADDER)
    for threshold in extra:
        if not 0.0 <= threshold <= 1.0:
            raise InputError(f"IoU threshold {threshold}: it must lie between 0 and 1")
        if threshold not in thresholds:
            thresholds.append(threshold)
    return tuple(thresholds)


def joined(parts: Sequence[Counts]) -> Counts:
    """The counts of several sets of images as those of one. The parts must have equal thresholds."""
    return Counts(
        images=tuple(image for part in parts for image in part.images),
        n_gt=np.concatenate([part.n_gt for part in parts]),
        n_pred=np.concatenate([part.n_pred for part in parts]),
        tp=np.concatenate([part.tp for part in parts]),
        thresholds=parts[0].thresholds,
    )
