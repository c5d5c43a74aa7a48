"""What checkpoints came to on a labelled folder, as a table: a row a detector and method, its seeds together."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum
from typing import Any

from harness.prediction.labelled import LabelledFolder, Scored
from harness.records.counts import THRESHOLDS, OverlapScores
from harness.report.table import Table
from harness.report.tables import table_text
from harness.report.text import counted, csv_text, markdown, points

HEADER = ("Detector", "Method", "Weights from", "Seeds", "F1@50", "Each seed", "Found", "False", "Missed", "F1@75")
TEXT_COLUMNS = 3

HOW_TO_READ = """\
F1 in points (x 100), the mean over seeds; *Each seed* is F1@50 of one after the other. *Found*, *False* and *Missed* are lanes
at an IoU above .5, all seeds together. *Weights from*: the dataset that was trained on, or the file of a checkpoint from elsewhere."""

COLUMNS = (
    "detector", "method", "weights_from", "seed", "checkpoint", "sha256", "stale", "f1_50", "f1_75", "found", "false", "missed",
)  # fmt: skip
"""Of the CSV, a line a checkpoint."""


@dataclass(frozen=True)
class Row:
    """The checkpoints of a detector, a method and an origin, by their seeds."""

    seeds: tuple[Scored, ...]

    @property
    def f1_50(self) -> float:
        """The mean over seeds."""
        return mean([f1(one.scores)[0] for one in self.seeds])

    @property
    def f1_75(self) -> float:
        """The mean over seeds."""
        return mean([f1(one.scores)[1] for one in self.seeds])

    @property
    def lanes(self) -> tuple[int, int, int]:
        """Found, false and missed at an IoU above .5, all seeds together."""
        found, false, missed = (sum(column) for column in zip(*(lanes(one.scores) for one in self.seeds), strict=True))
        return found, false, missed

    @property
    def names(self) -> tuple[str, str, str]:
        """Detector, method ("" if it isn't known) and origin."""
        first = self.seeds[0].candidate
        return first.detector, first.method or "", first.origin


def f1(scores: OverlapScores) -> tuple[float, float]:
    """F1 above an IoU of .5 and .75; they are defined wherever there is a lane to be found."""
    assert scores.f1_50 is not None
    assert scores.f1_75 is not None
    return scores.f1_50, scores.f1_75


def lanes(scores: OverlapScores) -> tuple[int, int, int]:
    """Lanes found, false and missed at an IoU above .5."""
    found = scores.true_positives[THRESHOLDS.index(0.5)]
    return found, scores.predictions - found, scores.labels - found


def mean(values: Sequence[float]) -> float:
    """The mean of some numbers, whatever their order."""
    return fsum(values) / len(values)


def rows_of(scored: Sequence[Scored]) -> list[Row]:
    """Rows by their F1@50, best first, then F1@75 and names."""
    grouped: dict[tuple[str, str | None, str], list[Scored]] = {}
    for one in scored:
        candidate = one.candidate
        grouped.setdefault((candidate.detector, candidate.method, candidate.origin), []).append(one)
    rows = [Row(tuple(sorted(group, key=lambda one: one.candidate.seed or 0))) for group in grouped.values()]
    return sorted(rows, key=lambda row: (-row.f1_50, -row.f1_75, row.names))


def title_of(folder: LabelledFolder) -> str:
    """What was scored, and how."""
    amounts = f"{counted(folder.images, 'image')}, {counted(folder.lanes, 'lane')}"
    return f"{folder.dataset.root.name}, {folder.split}: {folder.metric}, {amounts}"


def table_of(rows: Sequence[Row], folder: LabelledFolder) -> Table:
    """The rows as cells of text."""
    cells = []
    for row in rows:
        each = ", ".join(points(f1(one.scores)[0], 1) for one in row.seeds)
        amounts = map(str, row.lanes)
        cells.append((*row.names, str(len(row.seeds)), points(row.f1_50, 1), each, *amounts, points(row.f1_75, 1)))
    return Table(title_of(folder), HEADER, tuple(cells), TEXT_COLUMNS)


def to_markdown(rows: Sequence[Row], folder: LabelledFolder, notes: Sequence[str]) -> str:
    """The table as a page of GitHub Markdown."""
    parts = [f"# {markdown(title_of(folder))}", HOW_TO_READ, table_text(table_of(rows, folder))]
    if notes:
        parts.append("\n".join(f"- {markdown(note)}" for note in notes))
    return "\n\n".join(parts) + "\n"


def to_csv(rows: Sequence[Row]) -> str:
    """A line a checkpoint, in the order of the rows."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        names = [csv_text(name) for name in row.names]
        writer.writerows([*names, *as_object(one).values()] for one in row.seeds)
    return text.getvalue()


def as_object(one: Scored) -> dict[str, Any]:
    """A checkpoint and its figures, for JSON."""
    candidate, (f1_50, f1_75), (found, false, missed) = one.candidate, f1(one.scores), lanes(one.scores)
    return {
        "seed": candidate.seed,
        "checkpoint": candidate.name,
        "sha256": candidate.sha256,
        "stale": candidate.stale,
        "f1_50": f1_50,
        "f1_75": f1_75,
        "found": found,
        "false": false,
        "missed": missed,
    }


def row_object(row: Row) -> dict[str, Any]:
    """A row and its checkpoints, for JSON."""
    detector, _, origin = row.names
    found, false, missed = row.lanes
    return {
        "detector": detector,
        "method": row.seeds[0].candidate.method,
        "weights_from": origin,
        "f1_50": row.f1_50,
        "f1_75": row.f1_75,
        "found": found,
        "false": false,
        "missed": missed,
        "checkpoints": [as_object(one) for one in row.seeds],
    }
