"""The rows of one table: an arm's scores over its seeds, and a method's paired gains over its baseline with their verdicts."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain

from harness.report.arms import Arm, why_not_paired, why_not_ranked
from harness.report.estimates import Estimates
from harness.report.families import Family, family_of
from harness.report.scored import Scored
from harness.report.statistics import (
    SIGNIFICANCE,
    Comparison,
    HalfWidths,
    compare,
    detectable_difference,
    half_widths,
    holm,
    p_value,
    pooled_half_width,
    seed_pool,
    verdict,
    why_no_verdict,
)

ScoredArms = Mapping[Arm, Mapping[int, Scored]]

ArmEstimates = Mapping[Arm, Sequence[Estimates | None]]
"""Each arm's scores over its seeds, in their order, one a column."""


@dataclass(frozen=True)
class Score:
    """A score over seeds in its stored unit: mean, and standard deviation (divisor N - 1; None for one seed)."""

    mean: float
    sd: float | None


@dataclass(frozen=True, eq=False)
class Row:
    """An arm's scores, one a column (None: undefined there). rank: 1 is best; None with the reasons in `unranked`."""

    arm: Arm
    seeds: tuple[int, ...]
    scores: tuple[Score | None, ...]
    unranked: tuple[str, ...]
    rank: int | None

    @property
    def headline(self) -> Score | None:
        """The score that rows are ranked by."""
        return self.scores[0]

    @property
    def seed_sd(self) -> float | None:
        """Standard deviation of the headline score over seeds."""
        return self.headline.sd if self.headline else None


@dataclass(frozen=True, eq=False)
class Difference:
    """Method minus baseline in one column, with its marginal 95 % intervals (None where the clips are too few or too uneven)."""

    comparison: Comparison
    half_widths: HalfWidths | None


@dataclass(frozen=True, eq=False)
class Gain:
    """A method's paired differences to its baseline, one a column, over the seeds that make pairs.

    not_used: why other seeds don't. The rest is about the headline score. p, adjusted_p: before and after Holm, where there is a
    verdict. verdict: better, worse, not separated, or why there is none. detectable: the gain that these seeds and clips could have
    seen with 80 % power.
    """

    arm: Arm
    baseline: Arm
    seeds: tuple[int, ...]
    not_used: tuple[str, ...]
    differences: tuple[Difference | None, ...]
    p: float | None = None
    adjusted_p: float | None = None
    verdict: str = ""
    detectable: float | None = None
    pooled_half_width: float | None = None

    @property
    def headline(self) -> Difference | None:
        """The difference that the verdict is about."""
        return self.differences[0]

    @property
    def lost_to_holm(self) -> bool:
        """Whether p alone would have separated this gain from 0, so that its own interval excludes 0, and p after Holm doesn't."""
        return self.p is not None and self.adjusted_p is not None and self.p < SIGNIFICANCE <= self.adjusted_p

    @property
    def seed_sd(self) -> float | None:
        """Standard deviation of the headline difference over pairs of seeds."""
        return sd_of_headline(self.differences)


@dataclass(frozen=True, eq=False)
class RowDifference:
    """A row's scores minus those of another row of the same detector, one difference a column, over the seeds that make pairs."""

    row: Row
    other: Row
    seeds: tuple[int, ...]
    differences: tuple[Difference | None, ...]

    @property
    def seed_sd(self) -> float | None:
        """Standard deviation of the headline difference over pairs of seeds."""
        return sd_of_headline(self.differences)


@dataclass(frozen=True, eq=False)
class Grouped:
    """What a table shows: rows and gains, those of the arms that may be compared in a group, the baseline first."""

    groups: tuple[tuple[Row | Gain, ...], ...]

    @cached_property
    def items(self) -> tuple[Row | Gain, ...]:
        """Rows and gains of all groups in order."""
        return tuple(chain.from_iterable(self.groups))

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """The rows of all groups in order."""
        return tuple(item for item in self.items if isinstance(item, Row))

    @cached_property
    def gains(self) -> tuple[Gain, ...]:
        """The gains of all groups in order."""
        return tuple(item for item in self.items if isinstance(item, Gain))


def rows_of(scored: ScoredArms, estimates: ArmEstimates) -> dict[Arm, Row]:
    """All rows of a table with their ranks; equal scores share a rank."""
    rows = {arm: row_of(arm, seeds, estimates[arm]) for arm, seeds in scored.items()}
    means = sorted(-row.headline.mean for row in rows.values() if row.headline and not row.unranked)
    return {
        arm: replace(row, rank=1 + bisect_left(means, -row.headline.mean)) if row.headline and not row.unranked else row
        for arm, row in rows.items()
    }


def row_of(arm: Arm, seeds: Mapping[int, Scored], estimates: Sequence[Estimates | None]) -> Row:
    """An arm's scores over its seeds, without a rank."""
    reasons = dict.fromkeys(
        reason for seed in seeds.values() for reason in why_not_ranked(seed.record, seed.evaluation)
    )
    return Row(arm, tuple(seeds), tuple(map(score_over_seeds, estimates)), tuple(reasons), None)


def score_over_seeds(estimates: Estimates | None) -> Score | None:
    """Mean and standard deviation of a score over its seeds; None where it isn't defined."""
    if estimates is None:
        return None
    values = estimates.values
    return Score(float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else None)


def gains_of(
    scored: ScoredArms, rows: Mapping[Arm, Row], estimates: ArmEstimates, *, unjudged: str | None
) -> dict[Arm, Gain]:
    """The gain of every method whose baseline is there, judged. unjudged: why none of them has a verdict but only intervals.

    The variants of a method are one family, under whatever names: who tries several pays for it.
    """
    baselines = {pairs_with: arms[0] for pairs_with, arms in baselines_of(list(scored)).items() if len(arms) == 1}
    families: dict[Family, list[Gain]] = defaultdict(list)
    for arm in scored:
        if not arm.is_baseline and arm.pairs_with in baselines:
            families[family_of(arm)].append(gain_of(arm, baselines[arm.pairs_with], scored, estimates))
    return {gain.arm: gain for family in families.values() for gain in judged(family, rows, unjudged)}


def groups_of(rows: Mapping[Arm, Row], gains: Mapping[Arm, Gain]) -> list[tuple[Row | Gain, ...]]:
    """The rows of the arms that may be compared, each method's gain behind its row, in the order of the rows."""
    groups: dict[str, list[Row | Gain]] = defaultdict(list)
    for arm, row in rows.items():
        groups[arm.pairs_with] += [row, *([gains[arm]] if arm in gains else [])]
    return [tuple(group) for group in groups.values()]


def baselines_of(arms: Sequence[Arm]) -> dict[str, list[Arm]]:
    """The baselines of the arms that may be compared, by `Arm.pairs_with`: with two, nothing says which a method is compared to."""
    found: dict[str, list[Arm]] = defaultdict(list)
    for arm in arms:
        if arm.is_baseline:
            found[arm.pairs_with].append(arm)
    return found


def rival_baselines(arms: Sequence[Arm]) -> list[str]:
    """The second and further baselines of what may be compared, a line each: there is no gain until one alone is left."""
    return [
        f"{arm.records[0].id}.json: key 'identity.method': {arm.name} is a second baseline beside "
        f"{same[0].records[0].id}.json, so no method is compared with either; move the records of one of the two away"
        for same in baselines_of(arms).values()
        for arm in same[1:]
    ]


def gain_of(arm: Arm, baseline: Arm, scored: ScoredArms, estimates: ArmEstimates) -> Gain:
    """Pair the seeds of two arms and compare them in every column; not judged yet."""
    ours, theirs = scored[arm], scored[baseline]
    used: list[int] = []
    not_used: list[str] = []
    for seed in sorted(set(ours) | set(theirs)):
        if seed in ours and seed in theirs:
            reason = why_not_paired(ours[seed].record, theirs[seed].record)
        else:
            reason = f"no record of {(baseline if seed in ours else arm).method}"
        if reason is None:
            used.append(seed)
        else:
            not_used.append(f"seed {seed}: {reason}")
    ours_used, theirs_used = (of_seeds(estimates[one], list(scored[one]), used) for one in (arm, baseline))
    return Gain(arm, baseline, tuple(used), tuple(not_used), differences_of(ours_used, theirs_used))


def of_seeds(parts: Sequence[Estimates | None], seeds: Sequence[int], used: Sequence[int]) -> list[Estimates | None]:
    """An arm's scores, whose estimates are of `seeds`, of some of them alone; None where undefined, and all where none is used."""
    places = [seeds.index(seed) for seed in used]
    return [part.take(places) if part is not None and places else None for part in parts]


def differences_of(
    ours: Sequence[Estimates | None], theirs: Sequence[Estimates | None]
) -> tuple[Difference | None, ...]:
    """Some scores of paired seeds minus others, one a column; None where one of the two isn't defined."""
    differences: list[Difference | None] = []
    for method, base in zip(ours, theirs, strict=True):
        if method is None or base is None:
            differences.append(None)
            continue
        comparison = compare(method, base)
        differences.append(Difference(comparison, half_widths(comparison)))
    return tuple(differences)


def sd_of_headline(differences: Sequence[Difference | None]) -> float | None:
    """Standard deviation of the first of some differences over pairs of seeds."""
    headline = differences[0]
    return headline.comparison.seed_sd if headline else None


def judged(family: Sequence[Gain], rows: Mapping[Arm, Row], unjudged: str | None) -> list[Gain]:
    """The gains of one family with p-values, verdicts (Holm over its ranked rows) and power.

    The seed variance is pooled over the rows of one name alone: variants on one detector share a baseline, and so its seeds' noise.
    """
    reasons = [why_unjudged(gain, rows, unjudged) for gain in family]
    comparisons = [gain.headline.comparison if gain.headline else None for gain in family]
    p_values = [
        p_value(comparison) if comparison and reason is None else None
        for comparison, reason in zip(comparisons, reasons, strict=True)
    ]
    adjusted = iter(holm([p for p in p_values if p is not None]))
    named: dict[str, list[Comparison]] = defaultdict(list)
    for gain in family:
        named[gain.arm.method] += [gain.headline.comparison] if gain.headline else []
    pools = {name: seed_pool(found) for name, found in named.items()}
    complete = []
    for gain, comparison, reason, p in zip(family, comparisons, reasons, p_values, strict=True):
        adjusted_p = next(adjusted) if p is not None else None
        told = verdict(comparison, adjusted_p) if comparison and adjusted_p is not None else reason or ""
        complete.append(
            replace(
                gain,
                p=p,
                adjusted_p=adjusted_p,
                verdict=told,
                detectable=detectable_difference(comparison) if comparison else None,
                pooled_half_width=pooled_half_width(comparison, pools[gain.arm.method]) if comparison else None,
            )
        )
    return complete


def why_unjudged(gain: Gain, rows: Mapping[Arm, Row], unjudged: str | None) -> str | None:
    """Why a gain has no verdict, None if it has one."""
    if not gain.seeds:
        return "no verdict: no pair"
    if gain.headline is None:
        return "no verdict: no labels"
    if rows[gain.arm].unranked or rows[gain.baseline].unranked:
        return "no verdict: not ranked"
    if unjudged is not None:
        return unjudged
    return why_no_verdict(gain.headline.comparison)
