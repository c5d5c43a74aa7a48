"""Two methods on one detector, held against each other: what SAMIRO has beyond attention alone, MIRO or an oracle that knows nothing.

That one of two methods is separated from the baseline and the other isn't says nothing of this, as with gains (`contrasts`); the
baseline, and its noise, fall out of the difference.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

from harness.report.arms import Arm
from harness.report.families import Family, family_of
from harness.report.rows import ArmEstimates, Row, RowDifference, ScoredArms, differences_of, of_seeds
from harness.report.variants import paired_seeds

IN_QUESTION = Family("samiro")
"""The method that a table holds against the others where it has it."""


def method_differences_of(
    rows: Mapping[Arm, Row], scored: ScoredArms, estimates: ArmEstimates
) -> tuple[RowDifference, ...]:
    """SAMIRO's rows minus those of every other method on the same detector, or each two methods where there is no SAMIRO, as
    `harness.report.families` tells methods apart. A baseline is none: gains are about it. Nor are two variants of one method
    (`harness.report.variants`).
    """
    alike: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for arm, row in rows.items():
        if not arm.is_baseline:
            alike[arm.detector, arm.pairs_with].append(row)
    return tuple(
        method_difference(row, other, scored, estimates)
        for _, same in sorted(alike.items())
        for row, other in rivals(same)
    )


def rivals(rows: Sequence[Row]) -> Iterable[tuple[Row, Row]]:
    """Which rows of one detector are held against which, in their order, SAMIRO's first."""
    families = {row: family_of(row.arm) for row in rows}
    ours = [row for row in rows if families[row] == IN_QUESTION]
    pairs = combinations([*ours, *(row for row in rows if row not in ours)], 2)
    return [(row, other) for row, other in pairs if families[row] != families[other] and (row in ours or not ours)]


def method_difference(row: Row, other: Row, scored: ScoredArms, estimates: ArmEstimates) -> RowDifference:
    """The difference of two rows in every column."""
    seeds = paired_seeds([scored[row.arm], scored[other.arm]])
    ours, theirs = (of_seeds(estimates[one.arm], list(scored[one.arm]), seeds) for one in (row, other))
    return RowDifference(row, other, seeds, differences_of(ours, theirs))
