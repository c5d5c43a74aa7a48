"""Variants of a method on one detector, held against each other: which scores highest, and by how much beyond noise."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.report.arms import Arm, why_not_paired
from harness.report.families import Family, family_of
from harness.report.rows import ArmEstimates, Row, RowDifference, ScoredArms, differences_of, of_seeds
from harness.report.scored import Scored

DIGITS = 12
"""Of mean scores (fractions) that are told apart: what lies beyond comes of the order in which seeds are added."""


@dataclass(frozen=True, eq=False)
class Tries:
    """All variants of one method on one detector in one table, in the order of their names; one is none.

    seeds: those that all variants have, and that make pairs. leads: the variant with the highest mean headline score over these seeds
    against the others, the next highest first; empty where there is one variant, no such seed, or no score. Rows that aren't ranked
    come behind those that are; of equal variants the first in the order of names is the higher.
    """

    family: Family
    rows: tuple[Row, ...]
    seeds: tuple[int, ...]
    leads: tuple[RowDifference, ...]


def tries_of(rows: Mapping[Arm, Row], scored: ScoredArms, estimates: ArmEstimates) -> tuple[Tries, ...]:
    """The tries of every method on every detector: a baseline is none. Those that may be compared stand together, by family."""
    alike: dict[tuple[str, str, Family], list[Row]] = defaultdict(list)
    for arm, row in rows.items():
        if not arm.is_baseline:
            alike[arm.detector, arm.pairs_with, family_of(arm)].append(row)
    return tuple(tries(family, variants, scored, estimates) for (*_, family), variants in sorted(alike.items()))


def tries(family: Family, rows: Sequence[Row], scored: ScoredArms, estimates: ArmEstimates) -> Tries:
    """Hold the variants of one method on one detector against each other."""
    seeds = paired_seeds([scored[row.arm] for row in rows])
    taken = {row: of_seeds(estimates[row.arm], list(scored[row.arm]), seeds) for row in rows}
    headlines = {row: parts[0] for row, parts in taken.items() if parts[0] is not None}
    if len(rows) < 2 or len(headlines) < len(rows):
        return Tries(family, tuple(rows), seeds, ())
    mean = {row: round(float(np.mean(headline.values)), DIGITS) for row, headline in headlines.items()}
    highest, *others = sorted(rows, key=lambda row: (bool(row.unranked), -mean[row]))
    leads = (RowDifference(highest, row, seeds, differences_of(taken[highest], taken[row])) for row in others)
    return Tries(family, tuple(rows), seeds, tuple(leads))


def paired_seeds(variants: Sequence[Mapping[int, Scored]]) -> tuple[int, ...]:
    """The seeds that all of some rows have, trained under equal conditions."""
    first, *others = variants
    return tuple(
        seed
        for seed in sorted(first)
        if all(seed in other and why_not_paired(first[seed].record, other[seed].record) is None for other in others)
    )
