"""How many paired seeds a gain takes: what an experiment has to be, by what a pilot varied by.

The power is that of the verdict itself (`harness.report.statistics.detectable`). With S0 pairs in the pilot, and S pairs on k times as
many clips of the same kind in the experiment, C* is k times the pilot's and

    V_seed = (max(var(D_s) - S0 V_int, 0) + S0 V_int / k) / S        V = max(V_clip - V_int, 0) / k

since a pair varies by its seed, and by what this seed makes of these clips; what all seeds make of them no number of seeds removes.
V_int is known by all clips and var(D_s) by S0 pairs alone: pairs that differ by less than V_int says happened to agree. Caution raises
var(D_s) and V_clip to their upper limits, by S0 - 1 and C* - 1 degrees of freedom.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from scipy.special import gammaincinv

from harness.report.statistics import (
    SEEDS_FOR_A_VERDICT,
    SIGNIFICANCE,
    Comparison,
    detectable,
    why_no_verdict,
)

MOST_SEEDS = 1000
"""Who would need more is told so, and not how many."""

CAUTION = 0.8
"""The share of pilots whose cautious number is enough. Browne (Statist. Med. 14, 1995) plans with this upper limit of the variance, for
more than half of all pilots show less than the true one.
"""


@dataclass(frozen=True)
class Noise:
    """What the difference of one pair of trainings varies by, on a test set of the experiment's size.

    of_pair: what of var(D_s) is left on any number of clips. of_pair_and_clip: the rest of it. of_clip: V.
    """

    of_pair: float
    of_pair_and_clip: float
    of_clip: float
    clips: float
    effective_clips: float


@dataclass(frozen=True)
class SampleSize:
    """How many pairs a gain takes: by the variances that the pilot showed, and by their upper limits; None where a thousand don't do.

    gain: a fraction. hidden_by_clips: whether no number does, for the clips alone hide the gain.
    """

    gain: float
    pairs: int | None
    cautious: int | None
    hidden_by_clips: bool


def why_no_noise(comparison: Comparison) -> str | None:
    """Why a comparison is no pilot; None if it is one. That its differences vary by nothing is no noise either."""
    why = why_no_verdict(comparison)
    if why is None and not comparison.seed_variance and comparison.pure_clip_variance == 0:
        why = "no variance"
    return None if why is None else why.removeprefix("no verdict: ")


def noise_of(comparison: Comparison, clips: float = 1.0) -> Noise:
    """What a pilot's pairs would vary by on `clips` times its clips; of a comparison that `why_no_noise` has nothing against."""
    seeds = comparison.seeds
    total, shared = (comparison.seed_variance or 0.0) * seeds, comparison.interaction_variance * seeds
    return Noise(
        of_pair=max(total - shared, 0.0),
        of_pair_and_clip=shared / clips,
        of_clip=comparison.pure_clip_variance / clips,
        clips=comparison.clips * clips,
        effective_clips=comparison.effective_clips * clips,
    )


def at_upper_limits(comparison: Comparison) -> Comparison:
    """A pilot whose pairs and clips vary by the upper limits of what they show."""
    return replace(
        comparison,
        seed_variance=upper_limit(comparison.seeds - 1) * (comparison.seed_variance or 0.0),
        clip_variance=upper_limit(comparison.effective_clips - 1) * (comparison.clip_variance or 0.0),
    )


def upper_limit(degrees: float) -> float:
    """How many times a variance of so many degrees of freedom the true one isn't above after `CAUTION` of all pilots."""
    return degrees / (2 * float(gammaincinv(degrees / 2, 1 - CAUTION)))


def detectable_with(noise: Noise, seeds: int, significance: float = SIGNIFICANCE) -> float:
    """The true gain that so many pairs would show with 80 % probability."""
    of_seeds = (noise.of_pair + noise.of_pair_and_clip) / seeds
    return detectable(of_seeds, noise.of_clip, seeds, noise.effective_clips, significance)


def least_detectable(noise: Noise, significance: float = SIGNIFICANCE) -> float:
    """The true gain that no number of seeds brings `detectable_with` below: what the clips leave."""
    if noise.of_clip == 0:
        return 0.0
    return detectable(0.0, noise.of_clip, MOST_SEEDS, noise.effective_clips, significance)


def seeds_for(noise: Noise, gain: float, significance: float = SIGNIFICANCE) -> int | None:
    """The least number of pairs, three at least, that shows a true gain with 80 % probability; None where a thousand don't."""
    found = partial(detectable_with, noise, significance=significance)
    low, high = SEEDS_FOR_A_VERDICT, MOST_SEEDS
    if found(high) > gain:
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if found(middle) <= gain else (middle + 1, high)
    return low


def sample_size(
    comparison: Comparison, gain: float, clips: float = 1.0, significance: float = SIGNIFICANCE
) -> SampleSize:
    """What a gain takes by a pilot's noise, as it is and with caution. clips: times the pilot's."""
    noise, careful = noise_of(comparison, clips), noise_of(at_upper_limits(comparison), clips)
    return SampleSize(
        gain=gain,
        pairs=seeds_for(noise, gain, significance),
        cautious=seeds_for(careful, gain, significance),
        hidden_by_clips=gain < least_detectable(noise, significance),
    )
