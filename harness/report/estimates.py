"""Scores of one arm (a row's seeds) with the influence of every clip on them.

Shapes: S seeds, C clips (the clusters of resampling), T IoU thresholds. All inputs are sums over the images of a clip. A score is a
smooth function of such sums, so one linear term a clip, its influence, is all that intervals need (the infinitesimal jackknife).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Sums = npt.NDArray[np.int64] | Floats


@dataclass(frozen=True, eq=False)
class Estimates:
    """A score of each seed, `values` (S,), and how much each clip moves it, `influence` (S, C), which sums to 0 over the clips.

    images: of each clip (C,), those in the score's scope.
    """

    values: Floats
    influence: Floats
    images: Sums

    def take(self, seeds: npt.NDArray[np.intp] | list[int]) -> Estimates:
        """The estimates of some seeds, by position."""
        return Estimates(self.values[seeds], self.influence[seeds], self.images)

    def scaled(self, factor: float) -> Estimates:
        """The same score in another unit."""
        return Estimates(self.values * factor, self.influence * factor, self.images)


def difference(method: Estimates, baseline: Estimates) -> Estimates:
    """The paired difference method - baseline, seed by seed and clip by clip."""
    return Estimates(method.values - baseline.values, method.influence - baseline.influence, baseline.images)


def mean_over(parts: Sequence[Estimates]) -> Estimates:
    """The mean of several scores of the same seeds on the same clips, as of one split in several conditions."""
    values = np.mean([part.values for part in parts], axis=0)
    return Estimates(values, np.mean([part.influence for part in parts], axis=0), parts[0].images)


def share_of(part: Estimates, whole: Estimates) -> Estimates | None:
    """One score as a share of another of the same seeds on the same clips; None where the other is 0.

    The influence is the delta method's.
    """
    if not whole.values.all():
        return None
    share, across = part.values / whole.values, whole.values[:, None]
    return Estimates(share, (part.influence - share[:, None] * whole.influence) / across, part.images)


def f1_estimates(true_positives: Sums, labels: Sums, predictions: Sums, images: Sums) -> Estimates | None:
    """Micro-F1 = 2 TP / (predictions + labels) of each seed; None where there are no labels (then only false positives mean something).

    true_positives, predictions: (S, C); labels, images: (C,). The influence of clip c is
    [2 TP_c - F1 (n_pred,c + n_gt,c)] / (N_pred + N_gt). TuSimple's pooled F1 is this with matched lanes as true positives.
    """
    if labels.sum() == 0:
        return None
    lanes = predictions + labels
    total = lanes.sum(axis=-1, keepdims=True)
    f1 = 2.0 * true_positives.sum(axis=-1, keepdims=True) / total
    return Estimates(f1[:, 0], (2.0 * true_positives - f1 * lanes) / total, images)


def mean_f1_estimates(true_positives: Sums, labels: Sums, predictions: Sums, images: Sums) -> Estimates | None:
    """mF1, the mean of the F1 at the T thresholds: true_positives (S, C, T); its influence is the mean of theirs."""
    return f1_estimates(true_positives.mean(axis=-1), labels, predictions, images)


def mean_estimates(values: Sums, images: Sums) -> Estimates:
    """The mean over images of a per-image figure: `values` (S, C) are its sums over the images of a clip, `images` (C,) their number.

    The influence of clip c is the sum over its images of (value - mean) / N.
    """
    number = images.sum()
    mean = values.sum(axis=-1, keepdims=True) / number
    return Estimates(mean[:, 0], (values - mean * images) / number, images)


def clrnet_f1_estimates(false_positives: Estimates, false_negatives: Estimates) -> Estimates:
    """TuSimple's F1 as CLRNet computes it, 2a / (a + FN + 1) with a = 1 - FP, from the mean FP and FN rates of the official score.

    The influence is the delta method's, through both means. Source of the formula: Turoad/CLRNet, clrnet/utils/tusimple_metric.py.
    """
    share, missed = 1.0 - false_positives.values, false_negatives.values
    total = share + missed + 1.0
    by_share, by_missed = (2.0 * (missed + 1.0) / total**2)[:, None], (-2.0 * share / total**2)[:, None]
    influence = -by_share * false_positives.influence + by_missed * false_negatives.influence
    return Estimates(2.0 * share / total, influence, false_positives.images)
