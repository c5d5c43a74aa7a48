"""Variants of a method on one detector, held against each other: which scores highest, and by how much beyond noise."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.report.arms import Arm, why_not_paired
from harness.report.estimates import Estimates
from harness.report.families import Family, family_of
from harness.report.rows import ArmEstimates, Difference, ScoredArms, differences_of
from harness.report.scored import Scored


@dataclass(frozen=True, eq=False)
class Lead:
    """The variant with the highest mean headline score minus another, one difference a column, over the seeds of all variants."""

    highest: Arm
    other: Arm
    seeds: tuple[int, ...]
    differences: tuple[Difference | None, ...]

    @property
    def seed_sd(self) -> float | None:
        """Standard deviation of the headline difference over the seeds."""
        headline = self.differences[0]
        return headline.comparison.seed_sd if headline else None


@dataclass(frozen=True, eq=False)
class Tries:
    """All variants of one method on one detector in one table, in the order of their names; one is none.

    seeds: those that all variants have, and that make pairs. leads: the highest variant against the others, the next highest first;
    empty where there is one variant, no such seed, or no score. Of equal variants the first in the order of names is the highest.
    """

    family: Family
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    leads: tuple[Lead, ...]

    @property
    def highest(self) -> Arm | None:
        """The variant that leads, None where none does."""
        return self.leads[0].highest if self.leads else None


def tries_of(scored: ScoredArms, estimates: ArmEstimates) -> tuple[Tries, ...]:
    """The tries of every method on every detector: a baseline is none. Those that may be compared stand together, by family."""
    alike: dict[tuple[str, Family], list[Arm]] = defaultdict(list)
    for arm in scored:
        if not arm.is_baseline:
            alike[arm.pairs_with, family_of(arm)].append(arm)
    found = [tries(family, arms, scored, estimates) for (_, family), arms in alike.items()]
    return tuple(sorted(found, key=lambda one: (one.arms[0].name.partition(",")[0], one.family)))


def tries(family: Family, arms: Sequence[Arm], scored: ScoredArms, estimates: ArmEstimates) -> Tries:
    """Hold the variants of one method on one detector against each other."""
    seeds = paired_seeds([scored[arm] for arm in arms])
    taken = {arm: of_seeds(estimates[arm], [list(scored[arm]).index(seed) for seed in seeds]) for arm in arms}
    if len(arms) < 2 or not seeds or any(parts[0] is None for parts in taken.values()):
        return Tries(family, tuple(arms), seeds, ())
    mean = {arm: float(np.mean(parts[0].values)) for arm, parts in taken.items() if parts[0] is not None}
    highest, *others = sorted(arms, key=lambda arm: -mean[arm])
    leads = (Lead(highest, arm, seeds, differences_of(taken[highest], taken[arm])) for arm in others)
    return Tries(family, tuple(arms), seeds, tuple(leads))


def of_seeds(parts: Sequence[Estimates | None], places: list[int]) -> list[Estimates | None]:
    """Some seeds of an arm's scores."""
    return [None if part is None else part.take(places) for part in parts]


def paired_seeds(variants: Sequence[Mapping[int, Scored]]) -> tuple[int, ...]:
    """The seeds that all of some rows have, trained under equal conditions."""
    first, *others = variants
    return tuple(
        seed
        for seed in sorted(first)
        if all(seed in other and why_not_paired(first[seed].record, other[seed].record) is None for other in others)
    )
