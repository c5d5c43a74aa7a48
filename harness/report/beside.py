"""Published beside reproduced: which published figures belong to the rows of a table, and how far the rows are from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.report.arms import Arm
from harness.report.columns import Column
from harness.report.published import ANY, Figure, Published
from harness.report.rows import Row
from harness.report.scored import SectionKey

WHOLE_SPLITS: Mapping[tuple[str, str], int] = {
    ("culane", "test"): 34_680,
    ("tusimple", "test"): 2_782,
    ("llamas", "val"): 20_844,
}
"""Images of the splits that published figures are about. Sources: CULane's list/test.txt; TuSimple's test_label.json; the valid folder
of LLAMAS."""

RUNS = {
    "best of runs": "best of runs, not their mean",
    "released checkpoint": "one released checkpoint",
    "repository": "run not stated",
    "paper": "run not stated",
    "abstract": "run not stated",
}
"""What the kind of a figure is a caveat about: which of several trainings it is of."""

UNDEFINED_F1 = "f1"
"""The published F1 of TuSimple whose definition nobody states: it stands alone, next to no measured column."""


@dataclass(frozen=True)
class PublishedRow:
    """What one source published of one run, in the unit of leaderboard.csv.

    values: one a column of the table, None where the source has no such figure. f1: an F1 of TuSimple whose definition isn't
    stated. differences: reproduced minus published, in the same unit. caveats: why the two aren't quite the same
    measurement.
    """

    detector: str
    backbone: str
    implementation: str
    variant: str
    kind: str
    evaluator: str
    selection: str
    sources: tuple[str, ...]
    values: tuple[float | None, ...]
    f1: float | None
    differences: tuple[float | None, ...]
    caveats: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Reproduction:
    """A row of a table with what was published of its detector and method."""

    row: Row
    published: tuple[PublishedRow, ...]


def reproductions(
    key: SectionKey, images: int, columns: Sequence[Column], rows: Iterable[Row], published: Published
) -> tuple[Reproduction, ...]:
    """The rows of a table that figures were published of, with these figures.

    Nothing for rendered or corrupted images, for training on another dataset, and for splits that aren't the whole published ones.
    """
    dataset = key.metric.partition("/")[0]
    if key.corruption or key.trained_on != key.dataset or WHOLE_SPLITS.get((dataset, key.split)) != images:
        return ()
    figures = [figure for figure in published.figures if (figure.dataset, figure.split) == (dataset, key.split)]
    found = []
    for row in rows:
        if "rendered" in row.arm.records[0].identity.dataset_key:
            continue
        of_row = figures_of(row.arm, figures, published)
        if of_row:
            found.append(Reproduction(row, tuple(published_rows(key, columns, row, of_row))))
    return tuple(found)


def figures_of(arm: Arm, figures: Sequence[Figure], published: Published) -> list[Figure]:
    """The figures of an arm's detector, backbone and method."""
    identity = arm.records[0].identity
    method = "baseline" if arm.is_baseline else identity.method_configuration.get("kind")
    names = {(published.name_of(arm.detector), identity.detector_meta.get("backbone")), (ANY, ANY)}
    return [figure for figure in figures if figure.method == method and (figure.detector, figure.backbone) in names]


def published_rows(
    key: SectionKey, columns: Sequence[Column], row: Row, figures: Sequence[Figure]
) -> Iterable[PublishedRow]:
    """One row for all figures of one run, in the order of the figures."""
    runs: dict[tuple[str, ...], list[Figure]] = {}
    for figure in figures:
        run = (
            *(figure.detector, figure.backbone, figure.implementation, figure.variant, figure.kind),
            *(figure.evaluator, figure.selection, figure.note),
        )
        runs.setdefault(run, []).append(figure)
    for members in runs.values():
        values = {figure.metric: figure.value for figure in members}
        shown = tuple(values.get(column.key) for column in columns)
        first = members[0]
        yield PublishedRow(
            detector=first.detector,
            backbone=first.backbone,
            implementation=first.implementation,
            variant=first.variant,
            kind=first.kind,
            evaluator=first.evaluator,
            selection=first.selection,
            sources=tuple(dict.fromkeys(figure.source for figure in members)),
            values=shown,
            f1=values.get(UNDEFINED_F1),
            differences=tuple(
                score.mean * column.factor - value if score is not None and value is not None else None
                for column, score, value in zip(columns, row.scores, shown, strict=True)
            ),
            caveats=tuple(caveats(key, members)),
        )


def caveats(key: SectionKey, figures: Sequence[Figure]) -> list[str]:
    """Why published figures and the rows of a table aren't quite the same measurement."""
    first = figures[0]
    told = []
    if first.kind != "not available":
        if first.kind in RUNS:
            told.append(RUNS[first.kind])
        if first.evaluator != key.metric:
            told.append(f"evaluator {first.evaluator}")
        if first.selection == "test-best":
            told.append("checkpoint chosen on the test split")
        elif first.selection != key.selection:
            told.append(f"selection of the checkpoint: {first.selection}")
    told += [
        f"definition of {figure.metric} {figure.definition}"
        for figure in figures
        if figure.definition.startswith("not stated") and figure.value is not None
    ]
    return [*told, *([first.note] if first.note else [])]
