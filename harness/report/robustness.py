"""How much of a score is left under corruptions: means over severities, over corruptions, and their share of the clean score.

The corrupted frames are those of the clean split, so clips and seeds are the same and every figure is a mean, or a ratio, of scores
whose influences are known: intervals are made as everywhere else (`harness.report.statistics`). Never judged.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from harness.records.record import Record, corruption_of
from harness.report.arms import Arm
from harness.report.columns import FAMILIES, Column, arm_estimates
from harness.report.estimates import Estimates, mean_over, share_of
from harness.report.rows import Grouped, gains_of, groups_of, rows_of
from harness.report.scored import Scored, ScoredRecord, SectionKey

UNJUDGED = "no verdict: corrupted images"


@dataclass(frozen=True)
class Conditions:
    """What one table of robustness is of. place: the split, its key without corruption and evaluation.

    clean: the section of its clean images, None where there is none. corrupted: corruption -> severity -> section, in the order of
    their names.
    """

    place: SectionKey
    clean: SectionKey | None
    corrupted: Mapping[str, Mapping[int, SectionKey]]

    @property
    def sections(self) -> tuple[SectionKey, ...]:
        """All sections, the clean one first."""
        clean = () if self.clean is None else (self.clean,)
        return (*clean, *(key for severities in self.corrupted.values() for key in severities.values()))


@dataclass(frozen=True, eq=False)
class Robustness(Grouped):
    """One table. columns: mean over all corruptions, its share of the clean score, the clean score (both only where there is one), then
    each corruption's mean over its severities. headline: the score that all of them are means of. left_out: arms that lack some of it.
    """

    conditions: Conditions
    headline: Column
    columns: tuple[Column, ...]
    left_out: tuple[Arm, ...]


def robustness_of(arms: Sequence[Arm], scored: Mapping[str, ScoredRecord]) -> tuple[Robustness, ...]:
    """The tables of all splits that were scored corrupted too. scored: of every record of the arms, by its id."""
    keys = {key for arm in arms for record in arm.records for key in scored[record.id]}
    return tuple(table_of(conditions, arms, scored) for conditions in all_conditions(keys))


def all_conditions(keys: Iterable[SectionKey]) -> list[Conditions]:
    """The sections of each split that was scored corrupted, in order. Of equal ones under several names the first counts."""
    places: dict[SectionKey, list[SectionKey]] = defaultdict(list)
    for key in sorted(keys):
        places[replace(key, corruption="", evaluation="")].append(key)
    found = []
    for place, sections in sorted(places.items()):
        corrupted: dict[str, dict[int, SectionKey]] = defaultdict(dict)
        for key in sections:
            if key.corruption:
                name, severity = corruption_of(key.corruption)
                corrupted[name].setdefault(severity, key)
        if corrupted:
            clean = next((key for key in sections if not key.corruption), None)
            found.append(Conditions(place, clean, corrupted))
    return found


def table_of(conditions: Conditions, arms: Sequence[Arm], scored: Mapping[str, ScoredRecord]) -> Robustness:
    """The table of one split, of the arms that have a seed with all of its conditions; the others are named below it."""
    first = conditions.sections[0]
    taken = {arm: complete(arm, conditions, scored) for arm in arms if has_any(arm, conditions, scored)}
    shown = {arm: records for arm, records in taken.items() if records}
    kind = next(each[first].sums.kind for each in scored.values() if first in each)
    headline = FAMILIES[kind].headline
    columns = columns_of(conditions, headline)
    seeds: dict[Arm, dict[int, Scored]] = {
        arm: {record.identity.seed: scored[record.id][first] for record in records} for arm, records in shown.items()
    }
    estimates = {
        arm: estimates_of(conditions, headline, [scored[record.id] for record in records])
        for arm, records in shown.items()
    }
    rows = rows_of(seeds, estimates)
    gains = gains_of(seeds, rows, estimates, unjudged=UNJUDGED)
    left_out = tuple(arm for arm, records in taken.items() if not records)
    return Robustness(tuple(groups_of(rows, gains)), conditions, headline, columns, left_out)


def has_any(arm: Arm, conditions: Conditions, scored: Mapping[str, ScoredRecord]) -> bool:
    """Whether an arm was scored under any of the conditions, so that a table of them has to show it, or say that it lacks some."""
    return any(key in scored[record.id] for record in arm.records for key in conditions.sections)


def complete(arm: Arm, conditions: Conditions, scored: Mapping[str, ScoredRecord]) -> list[Record]:
    """The records of an arm that have all conditions, on the same images."""
    found = []
    for record in arm.records:
        shown = scored[record.id]
        if all(key in shown for key in conditions.sections):
            layouts = {shown[key].sums.layout.digest for key in conditions.sections}
            found += [record] if len(layouts) == 1 else []
    return found


def columns_of(conditions: Conditions, headline: Column) -> tuple[Column, ...]:
    """The columns of a table, all in the headline's unit."""
    clean = [] if conditions.clean is None else [("share_of_clean", "% of clean"), ("clean", "clean")]
    named = [("corrupted", f"{headline.title}, corrupted"), *clean]
    named += [(name, name.replace("_", " ")) for name in conditions.corrupted]
    return tuple(Column(key, title, headline.kind) for key, title in named)


def estimates_of(
    conditions: Conditions, headline: Column, records: Sequence[ScoredRecord]
) -> tuple[Estimates | None, ...]:
    """The figures of one arm's seeds, one a column; all None where the score is undefined, as without labels."""

    def score(key: SectionKey) -> Estimates | None:
        return arm_estimates((headline,), [record[key].sums for record in records])[0]

    found = {name: [score(key) for key in severities.values()] for name, severities in conditions.corrupted.items()}
    each = [mean_over([part for part in parts if part is not None]) for parts in found.values() if None not in parts]
    clean = None if conditions.clean is None else score(conditions.clean)
    if len(each) < len(found):
        return (None,) * (1 + len(found) + (0 if conditions.clean is None else 2))
    mean = mean_over(each)
    beside = () if conditions.clean is None else (None if clean is None else share_of(mean, clean), clean)
    return (mean, *beside, *each)
