"""The leaderboard as data: a pure function of records and the counts beside them.

A section holds what may stand in one table: one training set, one scored split with one content, one metric, one rule each for
the checkpoint and the confidence threshold. Within it stand rows (an arm's scores) and gains (a method's paired differences).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.records import Record
from harness.report.arms import Arm, arms_of
from harness.report.beside import Reproduction, reproductions
from harness.report.columns import Column, columns_of
from harness.report.costs import Timing, TimingKey, TrainingCostOfArm, common_timing, timings_of, training_costs_of
from harness.report.published import Published
from harness.report.rows import Gain, Row, gains_of, rows_of
from harness.report.scored import SectionKey, check_same_split, scored_seeds, section_key
from harness.report.summary import MethodSummary, method_summaries
from harness.report.sums import Layout

NOTHING = Published()
"""No published figures."""

Timings = Mapping[Arm, Mapping[TimingKey, Timing]]


@dataclass(frozen=True, eq=False)
class Section:
    """One table. groups: rows and gains of the arms that may be compared, baseline first; the group with the best row first.

    timing: the one key under which all timed arms of the table were measured, None where there is none. reproductions: the rows that
    somebody published figures of, with these figures; they take no part in ranks and gains.
    """

    key: SectionKey
    images: int
    clips: int
    columns: tuple[Column, ...]
    groups: tuple[tuple[Row | Gain, ...], ...]
    timing: TimingKey | None
    reproductions: tuple[Reproduction, ...]

    @property
    def headline(self) -> Column:
        """The score that rows are ranked by and verdicts are about."""
        return self.columns[0]

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows of all groups in order."""
        return tuple(item for group in self.groups for item in group if isinstance(item, Row))

    @property
    def gains(self) -> tuple[Gain, ...]:
        """The gains of all groups in order."""
        return tuple(item for group in self.groups for item in group if isinstance(item, Gain))


@dataclass(frozen=True, eq=False)
class Unscored:
    """Predictions of an arm's seeds on a split that can't be scored here, and why."""

    arm: Arm
    dataset: str
    split: str
    seeds: tuple[int, ...]
    why: str


@dataclass(frozen=True, eq=False)
class Leaderboard:
    """Everything that tables and pages are made from. timings and training are of all arms, whatever they were scored on."""

    suites: tuple[str, ...]
    sections: tuple[Section, ...]
    unscored: tuple[Unscored, ...]
    timings: Timings
    training: Mapping[Arm, tuple[TrainingCostOfArm, ...]]
    summaries: tuple[MethodSummary, ...]


def leaderboard(records: Sequence[Record], folder: Path, published: Published = NOTHING) -> Leaderboard:
    """Build the leaderboard of some records whose counts lie in `folder`; the order of the records doesn't matter.

    `published` figures stand beside the rows of the datasets that they are about.

    InputError, naming file and key: duplicate records; counts that are missing, broken, changed after they were recorded, or at odds
    with the recorded scores; images or labels that differ under one content hash.
    """
    arms = arms_of(records)
    members: dict[SectionKey, list[Arm]] = defaultdict(list)
    for arm in arms:
        for key in {section_key(record, evaluation) for record in arm.records for evaluation in record.evaluations}:
            members[key].append(arm)
    timings = {arm: timings_of(arm) for arm in arms}
    sections = tuple(section_of(key, members[key], folder, timings, published) for key in sorted(members))
    return Leaderboard(
        suites=tuple(sorted({record.suite for record in records})),
        sections=sections,
        unscored=tuple(item for arm in arms for item in unscored_of(arm)),
        timings=timings,
        training={arm: tuple(training_costs_of(arm)) for arm in arms},
        summaries=method_summaries([(section.key.dataset, section.gains) for section in headline_sections(sections)]),
    )


def unscored_of(arm: Arm) -> list[Unscored]:
    """The splits that an arm has predictions for and no scores, with the seeds that have them."""
    seeds: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for record in arm.records:
        for submission in record.submissions:
            seeds[submission.dataset, submission.split, submission.why].append(record.identity.seed)
    return [Unscored(arm, dataset, split, tuple(found), why) for (dataset, split, why), found in sorted(seeds.items())]


def section_of(key: SectionKey, arms: Sequence[Arm], folder: Path, timings: Timings, published: Published) -> Section:
    """Build one section from the arms that were scored in it."""
    layouts: dict[str, Layout] = {}
    scored = {arm: scored_seeds(key, arm, folder, layouts) for arm in arms}
    check_same_split([seed for seeds in scored.values() for seed in seeds.values()])
    (layout,) = layouts.values()
    columns = columns_of(next(iter(next(iter(scored.values())).values())).sums.kind, layout.scenarios)
    rows = rows_of(scored, columns)
    gains = gains_of(scored, rows, columns, corrupted=bool(key.corruption))
    groups: dict[str, list[Row | Gain]] = defaultdict(list)
    for arm in arms:
        groups[arm.pairs_with] += [rows[arm], *([gains[arm]] if arm in gains else [])]
    ordered = tuple(tuple(group) for group in sorted(groups.values(), key=standing))
    shown = [item for group in ordered for item in group if isinstance(item, Row)]
    return Section(
        key=key,
        images=layout.images,
        clips=len(layout.clip_starts),
        columns=columns,
        groups=ordered,
        timing=common_timing([timings[arm] for arm in arms]),
        reproductions=reproductions(key, layout.images, columns, shown, published),
    )


def headline_sections(sections: Sequence[Section]) -> list[Section]:
    """One section a dataset and rule, so that no cell counts twice: its test split by the official metric where it has one."""
    by_dataset: dict[tuple[str, ...], list[Section]] = defaultdict(list)
    for section in sections:
        key = section.key
        if key.trained_on == key.dataset and not key.corruption:
            by_dataset[key.dataset, key.dataset_sha256, key.selection, key.confidence].append(section)
    return [
        min(group, key=lambda section: (section.key.split != "test", "/official" not in section.key.metric))
        for group in by_dataset.values()
    ]


def standing(group: Sequence[Row | Gain]) -> tuple[float, str, str]:
    """Where a group stands: by the rank of its best row, unranked groups last, then by name."""
    ranks = [item.rank for item in group if isinstance(item, Row) and item.rank is not None]
    first = group[0].arm
    return (float(min(ranks, default=10**9)), first.name, first.pairs_with)
