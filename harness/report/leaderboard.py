"""The leaderboard as data: a pure function of records and the counts beside them.

A section holds what may stand in one table: one training set, one scored split with one content, one metric, one rule each for
the checkpoint and the confidence threshold. Within it stand rows (an arm's scores) and gains (a method's paired differences).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.files.stored import no_collection
from harness.records.record import Record
from harness.report.arms import Arm, arms_of
from harness.report.beside import Reproduction, reproductions
from harness.report.columns import Column, arm_estimates, columns_of
from harness.report.contrasts import Contrast, contrasts_of
from harness.report.costs import (
    InferenceCostOfArm,
    Timing,
    TimingKey,
    TrainingCostOfArm,
    common_timing,
    inference_costs_of,
    timings_of,
    training_costs_of,
)
from harness.report.method_differences import method_differences_of
from harness.report.published import Published
from harness.report.robustness import UNJUDGED, Robustness, robustness_of
from harness.report.rows import Gain, Grouped, Row, RowDifference, gains_of, groups_of, rival_baselines, rows_of
from harness.report.scored import ScoredRecord, SectionKey, scored_records
from harness.report.statistics import effective_clips
from harness.report.summary import MethodSummary, method_summaries
from harness.report.variants import Tries, tries_of
from harness.scoring import is_reported

NOT_REPORTED = "no verdict: not the test split"
"""Why nothing is judged on a split that options are chosen on, or that was trained on."""

NOTHING = Published()
"""No published figures."""

Timings = Mapping[Arm, Mapping[TimingKey, Timing]]


@dataclass(frozen=True, eq=False)
class Section(Grouped):
    """One table, the group with the best row first.

    rendered: the images were made here, whatever the dataset is called and by whatever metric it is scored. effective_clips: how many
    clips of one size would weigh as much as these. timing: the one key under which all timed arms of the
    table were measured, None where there is none. reproductions: the rows that somebody published figures of, with these figures; they
    take no part in ranks and gains. contrasts: gains of one method in several rows of a paper's detector, held against each other.
    method_differences: SAMIRO held against the other methods on a detector. tries: what was tried of each method on each detector, its
    variants held against each other.
    """

    key: SectionKey
    rendered: bool
    images: int
    clips: int
    effective_clips: float
    columns: tuple[Column, ...]
    timing: TimingKey | None
    reproductions: tuple[Reproduction, ...]
    contrasts: tuple[Contrast, ...]
    method_differences: tuple[RowDifference, ...]
    tries: tuple[Tries, ...]

    @property
    def headline(self) -> Column:
        """The score that rows are ranked by and verdicts are about."""
        return self.columns[0]


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
    """Everything that tables and pages are made from. timings, inference and training are of all arms, whatever they were scored on.

    robustness: what is left under corruptions, a table a split. left_out: what is wrong with the records that no figure rests on, a
    line each. missing: seeds of rows that have no record. failed: cells that were run and ended without a record, a line each with the
    reason. outdated: which records are of cells that don't hold any more.
    """

    suites: tuple[str, ...]
    sections: tuple[Section, ...]
    unscored: tuple[Unscored, ...]
    timings: Timings
    inference: Mapping[Arm, tuple[InferenceCostOfArm, ...]]
    training: Mapping[Arm, tuple[TrainingCostOfArm, ...]]
    summaries: tuple[MethodSummary, ...]
    robustness: tuple[Robustness, ...] = ()
    left_out: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    outdated: tuple[str, ...] = ()

    @property
    def shown(self) -> tuple[Section, ...]:
        """The sections that pages show as tables of their own: those of clean images. The others are summed up in `robustness`."""
        return tuple(section for section in self.sections if not section.key.corruption)


@no_collection()
def leaderboard(
    records: Sequence[Record],
    folder: Path,
    published: Published = NOTHING,
    *,
    faults: Sequence[str] = (),
    missing: Sequence[str] = (),
    failed: Sequence[str] = (),
    outdated: Sequence[str] = (),
) -> Leaderboard:
    """Build the leaderboard of some records whose counts lie in `folder`; the order of the records doesn't matter.

    `published` figures stand beside the rows of the datasets that they are about. failed: what ended without a record
    (`harness.matrix.recorded.failed_seeds`), which the leaderboard reports. outdated: what it reports of records that don't hold any
    more (`harness.matrix.stale.stale_note`).

    Records that are there twice are left out, and so are those whose counts are missing, broken, changed after they were recorded,
    at odds with the recorded scores, or of other images or labels than those of most records under one content hash. What is wrong
    with them joins `faults` (records that couldn't be read) in `left_out`. missing: what the suite has besides. Two
    baselines that would pair with one method are shown without gains, which `left_out` tells too.
    """
    grouped, doubled = arms_of(records)
    scored, broken = scored_records([record for arm in grouped for record in arm.records], folder)
    arms = [sound for arm in grouped if (sound := arm_with(arm, scored)) is not None]
    members: dict[SectionKey, list[Arm]] = defaultdict(list)
    for arm in arms:
        for key in {key for record in arm.records for key in scored[record.id]}:
            members[key].append(arm)
    timings = {arm: timings_of(arm) for arm in arms}
    judged = headline_keys(members)
    rendered = rendered_datasets([record for arm in arms for record in arm.records])
    sections = tuple(
        section_of(key, members[key], scored, timings, published, judged, rendered) for key in sorted(members)
    )
    told = [line.replace(f"{folder}/", "") for line in (*faults, *doubled, *broken, *rival_baselines(arms))]
    return Leaderboard(
        suites=tuple(sorted({record.suite for record in records})),
        sections=sections,
        unscored=tuple(item for arm in arms for item in unscored_of(arm)),
        timings=timings,
        inference={arm: tuple(inference_costs_of(arm)) for arm in arms},
        training={arm: tuple(training_costs_of(arm)) for arm in arms},
        summaries=method_summaries([(section.key.dataset, section.gains) for section in headline_sections(sections)]),
        robustness=robustness_of(arms, scored),
        left_out=tuple(sorted(told)),
        missing=tuple(missing),
        failed=tuple(failed),
        outdated=tuple(outdated),
    )


def arm_with(arm: Arm, scored: Mapping[str, ScoredRecord]) -> Arm | None:
    """An arm with those of its records alone that are scored; None if none is."""
    kept = tuple(record for record in arm.records if record.id in scored)
    if len(kept) == len(arm.records):
        return arm
    return replace(arm, records=kept) if kept else None


def unscored_of(arm: Arm) -> list[Unscored]:
    """The splits that an arm has predictions for and no scores, with the seeds that have them."""
    seeds: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for record in arm.records:
        for submission in record.submissions:
            seeds[submission.dataset, submission.split, submission.why].append(record.identity.seed)
    return [Unscored(arm, dataset, split, tuple(found), why) for (dataset, split, why), found in sorted(seeds.items())]


def rendered_datasets(records: Sequence[Record]) -> set[str]:
    """The content of the datasets of some records that were made here, trained or only tested on.

    Of the one that was trained on the identity says so as well, which nobody changes unnoticed.
    """
    made = {made.key for record in records for made in record.artefacts if made.kind == "rendered"}
    return made | {str(key) for record in records if (key := record.identity.dataset_key.get("rendered")) is not None}


def section_of(
    key: SectionKey,
    arms: Sequence[Arm],
    records: Mapping[str, ScoredRecord],
    timings: Timings,
    published: Published,
    judged: Collection[SectionKey],
    rendered: Collection[str],
) -> Section:
    """Build one section from the arms that were scored in it. `judged` are the sections that stand for their data, `rendered` the
    content of the datasets that were made here.
    """
    scored = {
        arm: {record.identity.seed: records[record.id][key] for record in arm.records if key in records[record.id]}
        for arm in arms
    }
    first = next(iter(next(iter(scored.values())).values())).sums
    layout = first.layout
    columns = columns_of(first.kind, layout.scenarios)
    estimates = {arm: arm_estimates(columns, [seed.sums for seed in seeds.values()]) for arm, seeds in scored.items()}
    rows = rows_of(scored, estimates)
    gains = gains_of(scored, rows, estimates, unjudged=why_not_judged(key, judged))
    shown = Grouped(tuple(sorted(groups_of(rows, gains), key=standing)))
    return Section(
        groups=shown.groups,
        key=key,
        rendered=key.dataset_sha256 in rendered,
        images=layout.images,
        clips=len(layout.clip_starts),
        effective_clips=effective_clips(layout.clip_images),
        columns=columns,
        timing=common_timing([timings[arm] for arm in arms]),
        reproductions=reproductions(key, layout.images, columns, shown.rows, published),
        contrasts=contrasts_of(gains, scored, estimates),
        method_differences=method_differences_of(rows, scored, estimates),
        tries=tries_of(rows, scored, estimates),
    )


def headline_keys(keys: Collection[SectionKey]) -> set[SectionKey]:
    """The sections that stand for their data: of each training set and scored dataset one, so that nothing is judged twice.

    It is clean, of the split that is reported and by the official metric, where there is such a one.
    """
    by_dataset: dict[tuple[str, ...], list[SectionKey]] = defaultdict(list)
    for key in sorted(keys):
        if not key.corruption:
            by_dataset[key.trained_on, key.dataset, key.dataset_sha256, key.selection, key.confidence].append(key)
    return {
        min(
            group,
            key=lambda key: (not is_reported(key.metric, key.split), key.split != "val", "/official" not in key.metric),
        )
        for group in by_dataset.values()
    }


def headline_sections(sections: Sequence[Section]) -> list[Section]:
    """The judged sections of networks on the dataset that they were trained on: each cell counts in one of them."""
    judged = headline_keys([section.key for section in sections])
    return [section for section in sections if section.key in judged and section.key.trained_on == section.key.dataset]


def why_not_judged(key: SectionKey, judged: Collection[SectionKey]) -> str | None:
    """Why no gain of a section has a verdict, None if they may."""
    if key.corruption:
        return UNJUDGED
    if key not in judged:
        return "no verdict: a further evaluation"
    return None if is_reported(key.metric, key.split) else NOT_REPORTED


def standing(group: Sequence[Row | Gain]) -> tuple[float, str, str]:
    """Where a group stands: by the rank of its best row, unranked groups last, then by name."""
    ranks = [item.rank for item in group if isinstance(item, Row) and item.rank is not None]
    first = group[0].arm
    return (float(min(ranks, default=10**9)), first.name, first.pairs_with)
