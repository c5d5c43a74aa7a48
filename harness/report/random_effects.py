"""What a method does over many detectors and datasets: random effects, so that "consistently improves" is a number.

The rows' true differences vary around a mean mu with variance tau^2; the measured ones vary around them with covariance Sigma.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from harness.report.estimates import Floats
from harness.report.statistics import LEVEL, ROUNDING, t_quantile


@dataclass(frozen=True)
class RandomEffects:
    """mu, its Hartung-Knapp standard error, tau^2, and the bounds of the 95 % prediction interval of a new row, from `rows` rows."""

    rows: int
    mean: float
    standard_error: float
    between_variance: float
    low: float
    high: float


def clip_covariance(influences: Sequence[Floats]) -> Floats:
    """C/(C-1) sum_c u_ic u_jc of rows i and j of one dataset: `influences` are their seed-averaged clip influences (C,)."""
    stacked = np.stack(influences)
    clips = stacked.shape[1]
    return np.asarray(stacked @ stacked.T * (clips / (clips - 1)), dtype=np.float64)


def averaged_within(differences: Floats, covariance: Floats, groups: Sequence[Hashable]) -> tuple[Floats, Floats]:
    """Average the rows of each group (a detector's backbones on one dataset), with the covariance that the averages then have."""
    names = list(dict.fromkeys(groups))
    average = np.array([[1.0 / groups.count(name) if group == name else 0.0 for group in groups] for name in names])
    return average @ differences, average @ covariance @ average.T


def random_effects(differences: Floats, covariance: Floats) -> RandomEffects:
    """Random-effects summary of k >= 2 rows, tau^2 by restricted maximum likelihood (REML), intervals by Hartung and Knapp.

    With W = (tau^2 I + Sigma)^-1: mu = 1'W d / 1'W 1, SE^2 = r'W r / (k - 1) / 1'W 1, prediction interval mu +- t_{k-1} sqrt(tau^2 +
    SE^2). Where nothing varies, neither between rows nor within one, mu is what all rows show, with an error of 0. differences: (k,);
    covariance: Sigma (k, k). Hartung and Knapp, Statist. Med. 20 (2001) 3875-3889.
    """
    rows = len(differences)
    scale = max(float(differences.var(ddof=1)), float(np.trace(covariance)) / rows)
    if scale <= ROUNDING**2:
        # As of a method that changes nothing: W would be infinite.
        mean = float(differences.mean())
        return RandomEffects(rows, mean, 0.0, 0.0, mean, mean)
    eigenvalues, vectors = np.linalg.eigh(covariance)
    ones, rotated = vectors.sum(axis=0), differences @ vectors

    # Rows without any variance of their own would make Sigma singular: this much keeps it invertible and changes no digit.
    own = np.maximum(eigenvalues, 0.0) + 1e-12 * scale

    def fit(between: float) -> tuple[float, float, float, float]:
        """-2 log restricted likelihood, mu, 1'W1 and r'Wr at one tau^2, all in the axes of Sigma, where W is diagonal."""
        variance = between + own
        information = float((ones**2 / variance).sum())
        mean = float((ones * rotated / variance).sum()) / information
        scatter = float(((rotated - mean * ones) ** 2 / variance).sum())
        return float(np.log(variance).sum()) + math.log(information) + scatter, mean, information, scatter

    found = minimize_scalar(
        lambda share: fit(share * scale)[0], bounds=(0.0, 10.0), method="bounded", options={"xatol": 1e-10}
    )
    between = float(found.x) * scale if found.fun < fit(0.0)[0] else 0.0
    _, mean, information, scatter = fit(between)
    squared_error = scatter / (rows - 1) / information
    half = t_quantile((1 - LEVEL) / 2, rows - 1) * math.sqrt(between + squared_error)
    return RandomEffects(rows, mean, math.sqrt(squared_error), between, mean - half, mean + half)
