"""The usual recipes for an interval around a mean paired difference, to be compared with the one that the leaderboard uses."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import numpy as np

from harness.report.estimates import Floats
from harness.report.simulation.drawn import Drawn
from harness.report.statistics import clip_quantile, t_quantile

RESAMPLES = 1000

Intervals = Floats
"""Lower and upper bounds of some rows, (rows, 2)."""


def bootstrap(rows: Sequence[Drawn], level: float) -> Intervals:
    """Percentile intervals of a bootstrap that resamples seeds and clips, crossed, through the influences."""
    seeds, clips = rows[0].paired.influence.shape
    seed_weights, clip_weights = resampling_weights(seeds, clips)
    drawn = [(seed_weights * (row.paired.values[:, None] + row.paired.influence @ clip_weights)).sum(0) for row in rows]
    tail = (1 - level) / 2
    return np.asarray(np.quantile(np.stack(drawn), (tail, 1 - tail), axis=1).T, dtype=np.float64)


@lru_cache(maxsize=1)
def resampling_weights(seeds: int, clips: int) -> tuple[Floats, Floats]:
    """How often each seed, as a share (S, B), and each clip, less once (C, B), is in each of the resamples: drawn once for all rows."""
    rng = np.random.default_rng(20)
    of_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES).T.astype(np.float64) / seeds
    return of_seeds, rng.multinomial(clips, np.full(clips, 1 / clips), RESAMPLES).T.astype(np.float64) - 1.0


def paired_t(rows: Sequence[Drawn], level: float) -> Intervals:
    """Student's t over the paired seeds, clips held fixed."""
    comparisons = [row.comparison for row in rows]
    return around(
        rows,
        [t_quantile((1 - level) / 2, found.seeds - 1) * math.sqrt(found.seed_variance or 0.0) for found in comparisons],
    )


def satterthwaite(rows: Sequence[Drawn], level: float) -> Intervals:
    """The sum of both variances, with the degrees of freedom that Satterthwaite gives it."""
    halves = []
    for comparison in (row.comparison for row in rows):
        seed, clip = comparison.seed_variance or 0.0, comparison.pure_clip_variance
        degrees = (seed + clip) ** 2 / (seed**2 / (comparison.seeds - 1) + clip**2 / (comparison.clips - 1))
        halves.append(t_quantile((1 - level) / 2, degrees) * math.sqrt(seed + clip))
    return around(rows, halves)


def pooled(rows: Sequence[Drawn], level: float) -> Intervals:
    """As the leaderboard's, with the seed variance pooled over the rows and all their degrees of freedom."""
    seeds = rows[0].comparison.seeds
    seed = float(np.mean([row.comparison.seed_variance or 0.0 for row in rows]))
    tail = (1 - level) / 2
    by_seeds = t_quantile(tail, len(rows) * (seeds - 1)) * math.sqrt(seed)
    by_clips = clip_quantile(tail, rows[0].comparison.effective_clips)
    return around(rows, [math.hypot(by_seeds, by_clips * math.sqrt(row.comparison.pure_clip_variance)) for row in rows])


def by_number_of_clips(rows: Sequence[Drawn], level: float) -> Intervals:
    """As the leaderboard's, but all clips count alike for the quantile, whatever their size."""
    tail, seeds, clips = (1 - level) / 2, rows[0].comparison.seeds, rows[0].comparison.clips
    by_seeds, by_clips = t_quantile(tail, seeds - 1), clip_quantile(tail, clips)
    return around(
        rows,
        [
            math.hypot(
                by_seeds * math.sqrt(row.comparison.seed_variance or 0.0),
                by_clips * math.sqrt(row.comparison.pure_clip_variance),
            )
            for row in rows
        ],
    )


def around(rows: Sequence[Drawn], half_widths: Sequence[float]) -> Intervals:
    """Symmetric intervals around the rows' mean differences."""
    means, halves = np.array([row.comparison.mean for row in rows]), np.array(half_widths)
    return np.stack([means - halves, means + halves], axis=1)


BY_NUMBER = "quadrature, quantile by the number of clips"

RIVALS: Mapping[str, Callable[[Sequence[Drawn], float], Intervals]] = {
    "percentile bootstrap, seeds and clips crossed": bootstrap,
    "paired t over seeds": paired_t,
    "sum of variances, Satterthwaite": satterthwaite,
    "quadrature, seed variance pooled over 8 rows": pooled,
    BY_NUMBER: by_number_of_clips,
}
