"""Reading the counts of records, and leaving out those that can't be trusted or compared."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import InputError
from harness.records.counts import ScopeScores
from harness.records.record import Evaluation, Record, read_checked_counts
from harness.report.statistics import ROUNDING
from harness.report.sums import Layouts, Sums, sums_of


@dataclass(frozen=True, order=True)
class SectionKey:
    """What all rows of one table share."""

    trained_on: str
    dataset: str
    split: str
    corruption: str
    evaluation: str
    metric: str
    selection: str
    confidence: str
    dataset_sha256: str


@dataclass(frozen=True, eq=False)
class Scored:
    """One seed of an arm in a section."""

    record: Record
    evaluation: Evaluation
    sums: Sums


def section_key(record: Record, evaluation: Evaluation) -> SectionKey:
    """Which table an evaluation belongs to."""
    return SectionKey(
        trained_on=record.identity.dataset,
        dataset=evaluation.dataset,
        split=evaluation.split,
        corruption=evaluation.corruption or "",
        evaluation=evaluation.name,
        metric=evaluation.metric,
        selection=record.identity.selection,
        confidence=record.identity.confidence,
        dataset_sha256=evaluation.dataset_sha256,
    )


ScoredRecord = Mapping[SectionKey, Scored]
"""What a record shows in each section that it stands in."""


def scored_records(records: Sequence[Record], folder: Path) -> tuple[dict[str, ScoredRecord], list[str]]:
    """Record id -> its counts, read and checked; and what is wrong with the records that are left out, a line each."""
    layouts = Layouts()
    scored: dict[str, ScoredRecord] = {}
    faults = []
    for record in records:
        try:
            scored[record.id] = scored_record(record, folder, layouts)
        except InputError as error:
            faults.append(str(error))
    odd = odd_splits([one for shown in scored.values() for one in shown.items()])
    return {name: shown for name, shown in scored.items() if name not in odd}, [*faults, *odd.values()]


def scored_record(record: Record, folder: Path, layouts: Layouts) -> ScoredRecord:
    """The counts of a record by section. InputError if any of them can't be trusted."""
    scored: dict[SectionKey, Scored] = {}
    for evaluation in record.evaluations:
        key = section_key(record, evaluation)
        if key in scored:
            raise InputError(
                f"{record.id}.json: key 'evaluations': {evaluation.name!r} stands twice; run `bench` again"
            )
        counts = read_checked_counts(folder, record, evaluation)
        if not len(counts.image):
            raise InputError(f"{folder / evaluation.counts_file}: has no images; run `bench` again to score the cell")
        scored[key] = Scored(record, evaluation, sums_of(counts, layouts.of(counts)))
        wrong = wrong_scores(scored[key])
        if wrong:
            raise InputError(f"{wrong[0]}: one of them was changed; run `bench` again to score the cell")
    return scored


def wrong_scores(scored: Scored) -> list[str]:
    """The recorded scores that aren't what the counts give: file, key and both values."""
    evaluation, sums = scored.evaluation, scored.sums
    where = f"{scored.record.id}.json: key 'evaluations.{evaluation.name}"
    recorded: dict[str, tuple[str | None, ScopeScores]] = {"total": (None, evaluation.total)}
    recorded |= {f"scenarios.{name}": (name, scores) for name, scores in evaluation.scenarios.items()}
    wrong = []
    for path, (scenario, scores) in recorded.items():
        if scenario is not None and scenario not in sums.layout.scenarios:
            wrong.append(f"{where}.{path}': {evaluation.counts_file} has no such scenario")
            continue
        made = scores_of(sums, scenario)
        if made == scores:
            continue
        wrong += [
            f"{where}.{path}.{field}' says {getattr(scores, field)}, but {evaluation.counts_file} gives "
            f"{getattr(made, field)}"
            for field in type(scores).model_fields
            if not same(getattr(made, field), getattr(scores, field))
        ]
    return wrong


def same(made: object, recorded: object) -> bool:
    """Equal, or fractions that differ by the order in which they were summed."""
    if isinstance(made, float) and isinstance(recorded, float):
        return math.isclose(made, recorded, rel_tol=0.0, abs_tol=ROUNDING)
    return made == recorded


def scores_of(sums: Sums, scenario: str | None) -> ScopeScores:
    """The scores of a scope from its sums, as `harness.records.counts.scope_scores` makes them from the images."""
    if scenario is None:
        return sums.kind.scores({name: values.sum(axis=0) for name, values in sums.by_scenario.items()})
    place = sums.layout.scenarios.index(scenario)
    return sums.kind.scores({name: values[place] for name, values in sums.by_scenario.items()})


def odd_splits(scored: Sequence[tuple[SectionKey, Scored]]) -> dict[str, str]:
    """Record id -> what is wrong, of records whose images, clips, scenarios or labels aren't those of most records of their section.

    Where no split has most records there is no telling which is right, and all are named.
    """
    sections: dict[SectionKey, dict[tuple[str, str], list[Scored]]] = defaultdict(lambda: defaultdict(list))
    for key, one in scored:
        labels = hashlib.sha256(one.sums.parts["labels"].tobytes()).hexdigest()
        sections[key][one.sums.layout.digest, labels].append(one)
    odd = {}
    for splits in sections.values():
        if len(splits) == 1:
            continue
        ordered = sorted(splits.items(), key=lambda item: len(item[1]), reverse=True)
        tied = len(ordered[0][1]) == len(ordered[1][1])
        for place, ((digest, _), members) in enumerate(ordered):
            if place == 0 and not tied:
                continue
            (other_digest, _), others = ordered[1 if place == 0 else 0]
            what = "labels" if digest == other_digest else "images, clips or scenarios"
            for one in members:
                odd[one.record.id] = (
                    f"{one.record.id}.json: key 'evaluations.{one.evaluation.name}': its counts are of other {what} than "
                    f"those of {others[0].record.id}.json, though 'dataset_sha256' is the same; run `bench` again to score "
                    "both cells"
                )
    return odd
