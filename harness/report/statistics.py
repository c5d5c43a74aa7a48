"""Paired comparison of two arms over training seeds and test clips: intervals, p-values, verdicts and power.

The estimand is the expected difference of a score over training seeds and over clips like those of the test. With S paired seeds, C
clips and influences u_sc (harness.report.estimates):

    V_seed = var(D_s) / S             V_clip = C/(C-1) sum_c (mean_s u_sc)^2
    V_int  = C/(C-1) sum_sc (u_sc - mean_s u_sc)^2 / (S (S-1)),  the part of V_clip that V_seed already contains
    D +- sqrt( t^2_{S-1} V_seed + z^2 max(V_clip - V_int, 0) )

C* = (sum n_c)^2 / sum n_c^2 is how many equal clips weigh as much as these, with n_c images in the scope. Below 50 z becomes t_{C*-1};
below 2, and below 10 clips of any size, there is no interval. Adding the squared half-widths (quadrature) instead of the variances
keeps the coverage with 3 seeds, where a common Satterthwaite degree of freedom or a bootstrap does not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal

import numpy as np
from scipy.optimize import brentq
from scipy.special import gammaincinv, ndtr, ndtri, stdtrit

from harness.report.estimates import Estimates, Floats, Sums, difference
from harness.report.text import counted
from harness.sums import added_in_order

LEVEL = 0.95
SIGNIFICANCE = 0.05
POWER = 0.80
SEEDS_FOR_A_VERDICT = 3
CLIPS_FOR_AN_INTERVAL = 10
EFFECTIVE_CLIPS_FOR_AN_INTERVAL = 2
"""Below, Student's t would have less than one degree of freedom."""

EFFECTIVE_CLIPS_FOR_NORMAL_QUANTILES = 50

ROUNDING = 1e-12
"""Two scores that differ at all differ by more than this; less is floating-point noise, and counts as no difference."""

Verdict = Literal["better", "worse", "not separated"]
NOT_SEPARATED: Final = "not separated"


@dataclass(frozen=True, eq=False)
class Comparison:
    """Method minus baseline in one score and scope, over paired seeds.

    differences: D_s (S,). seed_variance: V_seed, of the mean difference; None for one seed. clip_variance: V_clip; None for
    one clip. interaction_variance: V_int, 0 for one seed. correlation: of the two arms' scores over the seeds; None where undefined.
    clip_influence: mean_s u_sc (C,). effective_clips: C*, how many equal clips weigh as much. identical_seeds: whether each arm has one
    score at all of several seeds, as where seeds do nothing.
    """

    differences: Floats
    clip_influence: Floats
    effective_clips: float
    seed_variance: float | None
    clip_variance: float | None
    interaction_variance: float
    correlation: float | None
    identical_seeds: bool = False

    @property
    def seeds(self) -> int:
        """S, the number of paired seeds."""
        return len(self.differences)

    @property
    def clips(self) -> int:
        """C, the number of clips with an image in the scope."""
        return len(self.clip_influence)

    @property
    def mean(self) -> float:
        """D, the mean paired difference."""
        return float(self.differences.mean())

    @property
    def seed_sd(self) -> float | None:
        """Standard deviation of the paired differences (divisor S - 1); None for one seed."""
        return math.sqrt(self.seed_variance * self.seeds) if self.seed_variance is not None else None

    @property
    def pure_clip_variance(self) -> float:
        """max(V_clip - V_int, 0): what clips add beyond what V_seed already contains."""
        beyond = (self.clip_variance or 0.0) - self.interaction_variance
        return beyond if beyond > ROUNDING**2 else 0.0


@dataclass(frozen=True)
class HalfWidths:
    """Half-widths of the marginal 95 % intervals around a mean difference, in the score's unit.

    total: the interval to report; `quadrature` over seeds and clips, or `clip` where one seed leaves nothing else. seed: clips held
    fixed (paired t over seeds), None for one seed. clip: seeds held fixed.
    """

    kind: Literal["quadrature", "clip"]
    total: float
    seed: float | None
    clip: float


def compare(method: Estimates, baseline: Estimates) -> Comparison:
    """Compare two arms whose seeds are paired by position and whose clips are the same."""
    paired = difference(method, baseline)
    seeds, clips = paired.influence.shape
    clip_means = paired.influence.mean(axis=0)
    factor = clips / (clips - 1) if clips > 1 else None
    interaction = 0.0
    if seeds > 1 and factor is not None:
        interaction = factor * float(((paired.influence - clip_means) ** 2).sum()) / (seeds * (seeds - 1))
    return Comparison(
        differences=paired.values,
        clip_influence=clip_means,
        effective_clips=effective_clips(paired.images),
        seed_variance=variance(paired.values) / seeds if seeds > 1 else None,
        clip_variance=factor * float((clip_means**2).sum()) if factor is not None else None,
        interaction_variance=interaction,
        correlation=correlation(method.values, baseline.values),
        identical_seeds=seeds > 1 and variance(method.values) == 0 == variance(baseline.values),
    )


def variance(values: Floats) -> float:
    """The variance (divisor S - 1) of at least two values; exactly 0 where they differ by rounding only."""
    return float(values.var(ddof=1)) if np.ptp(values) > ROUNDING else 0.0


def correlation(one: Floats, other: Floats) -> float | None:
    """Pearson's correlation of two arms' scores over at least 3 paired seeds; None where it is undefined."""
    if len(one) < 3 or variance(one) == 0 or variance(other) == 0:
        return None
    across, along = one - one.mean(), other - other.mean()
    return float(across @ along / math.sqrt((across @ across) * (along @ along)))


def t_quantile(tail: float, degrees: float) -> float:
    """Upper quantile of Student's t: P(T > q) = tail."""
    return -float(stdtrit(degrees, tail))


def clip_quantile(tail: float, effective: float) -> float:
    """Upper quantile for the clip part: normal, or Student's t with C* - 1 degrees of freedom below 50 effective clips."""
    return t_quantile(tail, effective - 1) if effective < EFFECTIVE_CLIPS_FOR_NORMAL_QUANTILES else -float(ndtri(tail))


def effective_clips(images: Sums) -> float:
    """C*: how many equal clips weigh as much as clips of these numbers of images (C,), (sum n)^2 / sum n^2; C where they are equal.

    Kish, Survey Sampling (1965). Images and not lanes are counted: predicted lanes would give every row a quantile of its own.
    """
    return float(images.sum()) ** 2 / float((images.astype(np.float64) ** 2).sum())


def clips_text(clips: int, effective: float) -> str:
    """A number of clips, and where it matters of how many equal ones they have the weight."""
    told, as_good_as = counted(clips, "clip"), f"{effective:.1f}"
    if effective >= EFFECTIVE_CLIPS_FOR_NORMAL_QUANTILES or as_good_as == f"{clips:.1f}":
        return told
    return f"{told} (as good as {as_good_as} equal ones)"


def why_no_interval(comparison: Comparison) -> str | None:
    """What is wrong with the clips of a comparison that has no interval; None if it has one."""
    return lack_of_clips(comparison.clips, comparison.effective_clips)


def lack_of_clips(clips: float, effective: float) -> str | None:
    """What is wrong with so many clips that weigh as much as `effective` equal ones; None where they give an interval."""
    told = counted(math.floor(clips), "clip")
    if clips < CLIPS_FOR_AN_INTERVAL:
        return told
    if effective < EFFECTIVE_CLIPS_FOR_AN_INTERVAL:
        return f"{told}, as good as {effective:.1f} equal ones"
    return None


def half_widths(comparison: Comparison) -> HalfWidths | None:
    """The 95 % intervals of a comparison; None where `why_no_interval` gives a reason."""
    if why_no_interval(comparison) is not None or comparison.clip_variance is None:
        return None
    tail = (1.0 - LEVEL) / 2
    by_clips = clip_quantile(tail, comparison.effective_clips)
    clip = by_clips * math.sqrt(comparison.clip_variance)
    if comparison.seed_variance is None:
        return HalfWidths("clip", clip, None, clip)
    seed = t_quantile(tail, comparison.seeds - 1) * math.sqrt(comparison.seed_variance)
    return HalfWidths("quadrature", math.hypot(seed, by_clips * math.sqrt(comparison.pure_clip_variance)), seed, clip)


@dataclass(frozen=True)
class SeedPool:
    """The seed variance of a single score difference, pooled over a family of rows, and its degrees of freedom."""

    variance: float
    degrees: int


def seed_pool(family: Sequence[Comparison]) -> SeedPool | None:
    """The pool of a family; None if none of its rows has two seeds."""
    seeded = [member for member in family if member.seed_variance is not None]
    degrees = sum(member.seeds - 1 for member in seeded)
    if degrees == 0:
        return None
    total = added_in_order([(member.seeds - 1) * member.seeds * (member.seed_variance or 0.0) for member in seeded])
    return SeedPool(total / degrees, degrees)


def pooled_half_width(comparison: Comparison, pool: SeedPool | None) -> float | None:
    """Half-width with the seed variance pooled over a family of rows: a sensitivity figure, never what a verdict is made from."""
    if pool is None or comparison.seed_variance is None or why_no_interval(comparison) is not None:
        return None
    tail = (1.0 - LEVEL) / 2
    seed = t_quantile(tail, pool.degrees) * math.sqrt(pool.variance / comparison.seeds)
    return math.hypot(seed, clip_quantile(tail, comparison.effective_clips) * math.sqrt(comparison.pure_clip_variance))


def why_no_verdict(comparison: Comparison) -> str | None:
    """Why a comparison has no p-value and so no verdict; None if it has one."""
    if comparison.seeds < SEEDS_FOR_A_VERDICT:
        return f"no verdict: {counted(comparison.seeds, 'seed')}"
    if (clips := why_no_interval(comparison)) is not None:
        return f"no verdict: {clips}"
    if comparison.identical_seeds:
        return "no verdict: identical seeds"
    if abs(comparison.mean) > ROUNDING and not comparison.seed_variance and comparison.pure_clip_variance == 0:
        return "no verdict: no variance"
    return None


def p_value(comparison: Comparison) -> float | None:
    """Two-sided p: the alpha at which the 1 - alpha interval just reaches 0; None where `why_no_verdict` gives a reason.

    Found on log alpha, down to 1e-100, which stands for anything smaller (further out the quantiles of scipy fail).
    """
    if why_no_verdict(comparison) is not None:
        return None
    if abs(comparison.mean) <= ROUNDING:
        return 1.0
    seed_variance = comparison.seed_variance or 0.0

    def excess(log_alpha: float) -> float:
        tail = math.exp(log_alpha) / 2
        seed = t_quantile(tail, comparison.seeds - 1) * math.sqrt(seed_variance)
        clip = clip_quantile(tail, comparison.effective_clips) * math.sqrt(comparison.pure_clip_variance)
        return math.hypot(seed, clip) - abs(comparison.mean)

    lowest = math.log(1e-100)
    return math.exp(float(brentq(excess, lowest, 0.0, xtol=1e-12))) if excess(lowest) > 0 else math.exp(lowest)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values of one family, in the order given. Holm, Scand. J. Statist. 6 (1979) 65-70."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def verdict(comparison: Comparison, adjusted_p: float) -> Verdict:
    """What a Holm-adjusted p-value says of a difference in a score where more is better."""
    if adjusted_p >= SIGNIFICANCE:
        return NOT_SEPARATED
    return "better" if comparison.mean > 0 else "worse"


@cache
def drawn_variances(degrees: int) -> tuple[Floats, Floats]:
    """Where an estimated variance of so many degrees of freedom lies, in units of the true one, at 64 nodes, and the nodes' weights."""
    nodes, weights = np.polynomial.legendre.leggauss(64)
    return gammaincinv(degrees / 2, (nodes + 1) / 2) / (degrees / 2), weights


def detectable_difference(comparison: Comparison) -> float | None:
    """The true difference that seeds and clips of these variances would have shown with 80 % probability at an unadjusted .05.

    The estimated variances are taken for the true ones. V_seed's estimate varies as chi^2_{S-1}, over which the power is averaged; with
    no clip variance this is the power of the paired t test. None where there is no verdict, or no variance.
    """
    seed_variance, clip_variance = comparison.seed_variance or 0.0, comparison.pure_clip_variance
    if why_no_verdict(comparison) is not None or seed_variance + clip_variance == 0:
        return None
    return detectable(seed_variance, clip_variance, comparison.seeds, comparison.effective_clips)


def detectable(
    seed_variance: float, clip_variance: float, seeds: int, effective: float, significance: float = SIGNIFICANCE
) -> float:
    """The true difference that is told from 0 with 80 % probability where the mean over `seeds` has these variances, not both 0.

    clip_variance: what clips add beyond what the seeds' variance has of them. effective: C*. significance: two-sided.
    """
    spread = math.sqrt(seed_variance + clip_variance)
    tail, degrees = significance / 2, seeds - 1
    drawn, weights = drawn_variances(degrees)
    seed, clip = t_quantile(tail, degrees), clip_quantile(tail, effective)
    critical = np.sqrt(seed**2 * seed_variance * drawn + clip**2 * clip_variance)

    def shortfall(true: float) -> float:
        found = ndtr((true - critical) / spread) + ndtr((-true - critical) / spread)
        return float((found * weights).sum() / 2) - POWER

    return float(brentq(shortfall, 0.0, float(critical.max()) + 10 * spread))
