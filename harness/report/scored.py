"""Reading the counts of a section's cells, and refusing those that can't be trusted or compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.counts import ScopeScores
from harness.errors import InputError
from harness.records import Evaluation, Record, read_checked_counts
from harness.report.arms import Arm
from harness.report.statistics import ROUNDING
from harness.report.sums import Layout, Sums, counts_digest, layout_of, sums_of


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


def scored_seeds(key: SectionKey, arm: Arm, folder: Path, layouts: dict[str, Layout]) -> dict[int, Scored]:
    """Read and check the counts of an arm's seeds in one section, by seed. `layouts`, by digest, is added to."""
    scored: dict[int, Scored] = {}
    for record in arm.records:
        for evaluation in record.evaluations:
            if section_key(record, evaluation) != key:
                continue
            if record.identity.seed in scored:
                raise InputError(
                    f"{record.id}.json: key 'evaluations': {evaluation.name!r} stands twice; run `bench` again"
                )
            counts = read_checked_counts(folder, record, evaluation)
            if not len(counts.image):
                raise InputError(
                    f"{folder / evaluation.counts_file}: has no images; run `bench` again to score the cell"
                )
            digest = counts_digest(counts)
            if digest not in layouts:
                layouts[digest] = layout_of(counts, digest)
            scored[record.identity.seed] = Scored(record, evaluation, sums_of(counts, layouts[digest]))
            check_scores(scored[record.identity.seed])
    return scored


def check_scores(scored: Scored) -> None:
    """Refuse recorded scores that aren't what the counts give."""
    evaluation, sums = scored.evaluation, scored.sums
    where = f"{scored.record.id}.json: key 'evaluations.{evaluation.name}"
    recorded: dict[str, tuple[str | None, ScopeScores]] = {"total": (None, evaluation.total)}
    recorded |= {f"scenarios.{name}": (name, scores) for name, scores in evaluation.scenarios.items()}
    for path, (scenario, scores) in recorded.items():
        if scenario is not None and scenario not in sums.layout.scenarios:
            raise InputError(f"{where}.{path}': {evaluation.counts_file} has no such scenario; run `bench` again")
        made = scores_of(sums, scenario)
        for field in type(scores).model_fields:
            if not same(getattr(made, field), getattr(scores, field)):
                raise InputError(
                    f"{where}.{path}.{field}' says {getattr(scores, field)}, but {evaluation.counts_file} gives "
                    f"{getattr(made, field)}: one of them was changed; run `bench` again to score the cell"
                )


def same(made: object, recorded: object) -> bool:
    """Equal, or fractions that differ by the order in which they were summed."""
    if isinstance(made, float) and isinstance(recorded, float):
        return math.isclose(made, recorded, rel_tol=0.0, abs_tol=ROUNDING)
    return made == recorded


def scores_of(sums: Sums, scenario: str | None) -> ScopeScores:
    """The scores of a scope from its sums, as `harness.counts.scope_scores` makes them from the images."""
    return sums.kind.scores({name: values.sum(axis=0) for name, values in sums.scope(scenario).items()})


def check_same_split(scored: Sequence[Scored]) -> None:
    """Refuse to compare records whose scored images, clips, scenarios or labels differ."""
    first = scored[0]
    for other in scored[1:]:
        same_images = other.sums.layout.digest == first.sums.layout.digest
        if not same_images or not np.array_equal(other.sums.parts["labels"], first.sums.parts["labels"]):
            raise InputError(
                f"{other.record.id}.json: key 'evaluations.{other.evaluation.name}': its counts are of other "
                f"{'labels' if same_images else 'images, clips or scenarios'} than those of {first.record.id}.json, though "
                "'dataset_sha256' is the same; run `bench` again to score both cells"
            )
