"""What a simulation finds: coverage, errors within a family, power, and what the prediction interval of a summary is worth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import brentq

from harness.report.estimates import Floats
from harness.report.random_effects import random_effects
from harness.report.simulation.drawn import Setting, draw
from harness.report.simulation.rivals import RIVALS
from harness.report.statistics import (
    SIGNIFICANCE,
    Comparison,
    detectable_difference,
    half_widths,
    holm,
    p_value,
    variance,
)
from harness.report.summary import covariance_of

ROWS = 8
"""Rows of a family."""


@dataclass(frozen=True)
class Share:
    """A share that was counted, with its Monte-Carlo standard error."""

    value: float
    error: float


@dataclass(frozen=True)
class Found:
    """Of intervals at 95 %: how many cover the truth, their mean half-width (fractions), and in how many families of rows without any
    true difference at least one is called one at an adjusted .05."""

    coverage: Share
    half_width: float
    family_error: Share


@dataclass(frozen=True)
class Measured:
    """One setting: the leaderboard's procedure, the rivals, and what shares of the variance of a mean difference seeds, clips and both
    together make up."""

    setting: Setting
    matrices: int
    ours: Found
    rivals: Mapping[str, Found]
    variance_shares: tuple[float, float, float]


def share(hits: Floats) -> Share:
    """A share from what every matrix shows of it, (matrices,)."""
    return Share(float(hits.mean()), float(hits.std(ddof=1) / math.sqrt(len(hits))))


def measure(
    setting: Setting, matrices: int, seed: int, *, rows: int = ROWS, gain: float = 0.0, rivals: int = 0
) -> Measured:
    """Draw `matrices` test sets with `rows` rows each. The rivals see the first `rivals` of them.

    The truth is 0 without a gain. With one it is the mean difference over all that was drawn; no verdict is wrong then, and
    `family_error` is how often some row is told from 0.
    """
    rng = np.random.default_rng([seed, setting.seeds, setting.clips])
    means, halves = np.empty((2, matrices, rows))
    rejected = np.empty(matrices)
    parts = np.zeros(3)
    seen: dict[str, list[tuple[Floats, Floats]]] = {name: [] for name in RIVALS}
    for index in range(matrices):
        drawn = draw(rng, setting, rows, gain)
        comparisons = [row.comparison for row in drawn]
        means[index] = [comparison.mean for comparison in comparisons]
        halves[index] = [total_half_width(comparison) for comparison in comparisons]
        rejected[index] = some_verdict(comparisons, halves[index])
        parts += sum(np.array(variance_parts(comparison)) for comparison in comparisons)
        if index < rivals:
            for name, procedure in RIVALS.items():
                seen[name].append((procedure(drawn, 0.95), procedure(drawn, 1 - SIGNIFICANCE / rows)))
    truth = float(means.mean()) if gain else 0.0
    ours = Found(share((np.abs(means - truth) <= halves).mean(axis=1)), float(halves.mean()), share(rejected))
    shares = tuple(float(part) for part in parts / parts.sum())
    return Measured(
        setting,
        matrices,
        ours,
        {name: rival_found(intervals) for name, intervals in seen.items() if intervals},
        (shares[0], shares[1], shares[2]),
    )


def total_half_width(comparison: Comparison) -> float:
    """Half-width of the interval that the leaderboard prints."""
    found = half_widths(comparison)
    assert found is not None
    return found.total


def some_verdict(comparisons: Sequence[Comparison], halves: Floats) -> bool:
    """Whether some row of a family is called better or worse. None can be unless its own interval leaves out 0."""
    if comparisons[0].seeds < 3 or all(abs(c.mean) <= half for c, half in zip(comparisons, halves, strict=True)):
        return False
    p_values = [p_value(comparison) for comparison in comparisons]
    return min(holm([p for p in p_values if p is not None])) < SIGNIFICANCE


def variance_parts(comparison: Comparison) -> tuple[float, float, float]:
    """The variance of a mean difference by seeds alone, clips alone, and both together."""
    both = comparison.interaction_variance
    return (comparison.seed_variance or 0.0) - both, (comparison.clip_variance or 0.0) - both, both


def rival_found(intervals: Sequence[tuple[Floats, Floats]]) -> Found:
    """What a rival's intervals around 0, at 95 % and at Holm's first step, come to."""
    plain, first_step = (np.stack(found) for found in zip(*intervals, strict=True))
    covered = (plain[..., 0] <= 0) & (plain[..., 1] >= 0)
    separated = (first_step[..., 0] > 0) | (first_step[..., 1] < 0)
    return Found(
        share(covered.mean(axis=1)),
        float((plain[..., 1] - plain[..., 0]).mean() / 2),
        share(separated.any(axis=1).astype(float)),
    )


@dataclass(frozen=True)
class Power:
    """detectable: the difference (a fraction) that the leaderboard would say this setting can see with 80 % probability.

    separated: how often a true difference of that size is told from 0 at an unadjusted .05.
    """

    setting: Setting
    detectable: float
    true: float
    separated: Share


def power(setting: Setting, matrices: int, seed: int) -> Power:
    """Check the figure of power: find the gain whose mean difference is what its own variances are said to detect, and count."""

    def beyond(gain: float) -> float:
        found = families(setting, matrices // 2, seed, gain)
        return mean_of(found) - detectable_of(found)

    found = families(setting, matrices, seed + 1, float(brentq(beyond, 0.0, 4.0, xtol=1e-3)))
    separated = [[abs(c.mean) > total_half_width(c) for c in family] for family in found]
    return Power(setting, detectable_of(found), mean_of(found), share(np.array(separated).mean(axis=1)))


def detectable_of(found: Sequence[Sequence[Comparison]]) -> float:
    """The detectable difference at the mean variances of some rows."""
    rows = [comparison for family in found for comparison in family]
    typical = replace(
        rows[0],
        effective_clips=float(np.mean([row.effective_clips for row in rows])),
        seed_variance=float(np.mean([row.seed_variance for row in rows])),
        clip_variance=float(np.mean([row.clip_variance for row in rows])),
        interaction_variance=float(np.mean([row.interaction_variance for row in rows])),
    )
    detectable = detectable_difference(typical)
    assert detectable is not None
    return detectable


def families(setting: Setting, matrices: int, seed: int, gain: float) -> list[list[Comparison]]:
    """The comparisons of all rows of `matrices` test sets."""
    rng = np.random.default_rng([seed, setting.seeds, setting.clips])
    return [[row.comparison for row in draw(rng, setting, ROWS, gain)] for _ in range(matrices)]


def mean_of(found: Sequence[Sequence[Comparison]]) -> float:
    """Mean difference over all rows of all families."""
    return float(np.mean([comparison.mean for family in found for comparison in family]))


@dataclass(frozen=True)
class Regime:
    """Summaries over k detectors, three seeds each, on one dataset of 100 clips.

    by_seeds, by_both: the shares of a row's variance from seeds and from seeds on single clips; half of the rest is from clips
    alike in all rows. between: the standard deviation of the detectors' true gains, in units of that by which a row's difference varies
    through seeds and clips.
    """

    by_seeds: float
    by_both: float
    detectors: int
    between: float


REGIMES = tuple(
    Regime(by_seeds, by_both, detectors, between)
    for by_seeds, by_both in ((0.5, 0.0), (0.95, 0.0), (0.4, 0.3))
    for detectors in (5, 8, 12)
    for between in (0.0, 0.5, 1.0, 2.0)
)


@dataclass(frozen=True)
class Predicted:
    """coverage: of a new detector's true gain by the prediction interval. improves: how often "consistently improves" is said of a
    method whose mean gain is 0."""

    regime: Regime
    coverage: Share
    improves: Share


def predicted(regime: Regime, matrices: int, seed: int) -> Predicted:
    """Draw gains, seeds and influences normally."""
    shares = round(100 * regime.by_seeds) + 1000 * round(100 * regime.by_both)
    rng = np.random.default_rng([seed, shares, regime.detectors, round(10 * regime.between)])
    covered, improves = np.empty((2, matrices))
    for index in range(matrices):
        *gains, new = regime.between * rng.normal(size=regime.detectors + 1)
        comparisons = normal_rows(
            rng, np.array(gains), by_seeds=regime.by_seeds, by_both=regime.by_both, seeds=3, clips=100
        )
        found = random_effects(np.array([row.mean for row in comparisons]), covariance_of(comparisons))
        covered[index], improves[index] = found.low <= new <= found.high, found.low > 0
    return Predicted(regime, share(covered), share(improves))


def normal_rows(
    rng: np.random.Generator, gains: Floats, *, by_seeds: float, by_both: float, seeds: int, clips: int
) -> list[Comparison]:
    """Rows of given true gains, whose mean differences vary by 1: `by_seeds` of it from seeds, `by_both` from seeds on single clips,
    half of the rest from shared clips."""
    shared = rng.normal(size=clips)
    rows = []
    for gain in gains:
        own = rng.normal(size=clips)
        of_clips = (shared + own) * math.sqrt((1 - by_seeds - by_both) / 2 / clips)
        of_seeds = rng.normal(0, math.sqrt(by_seeds * seeds), seeds)
        of_both = (
            rng.normal(0, math.sqrt(by_both * seeds / clips), (seeds, clips)) if by_both else np.zeros((seeds, clips))
        )
        influences = of_clips + of_both - (of_clips + of_both).mean(axis=1, keepdims=True)
        influence = influences.mean(axis=0)
        values = gain + of_clips.sum() + of_both.sum(axis=1) + of_seeds
        rows.append(
            Comparison(
                differences=values,
                clip_influence=influence,
                effective_clips=float(clips),
                seed_variance=variance(values) / seeds,
                clip_variance=clips / (clips - 1) * float((influence**2).sum()),
                interaction_variance=clips
                / (clips - 1)
                * float(((influences - influence) ** 2).sum())
                / (seeds * (seeds - 1)),
                correlation=None,
            )
        )
    return rows
