"""What the tests of the leaderboard ask of one and of its texts, and the counts and records that they make."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.files.stored import sha256_of_file
from harness.records.counts import Counts, scope_scores, write_counts
from harness.records.record import Record, counts_path, write_record
from harness.report.leaderboard import Leaderboard, Section, leaderboard
from harness.report.table_csv import to_csv

CORRUPTIONS = ("fog-1", "fog-5", "rain-3")


def only_section(records: list[Any], folder: Path) -> Section:
    (section,) = leaderboard(records, folder).sections
    return section


def assert_left_out(board: Leaderboard, *patterns: str) -> None:
    """Whether as many records as there are patterns were left out, and why."""
    assert len(board.left_out) == len(patterns)
    for line, pattern in zip(board.left_out, patterns, strict=True):
        assert re.search(pattern, line), line


def csv_lines(board: Leaderboard) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(to_csv(board))))


def column(section: Section, key: str) -> int:
    return [column.key for column in section.columns].index(key)


def missing(counts: Any, images: slice, lanes: int = 1) -> Any:
    """The same counts with lanes of some images neither found nor predicted."""
    true_positives, predictions = counts.true_positives.copy(), counts.predictions.copy()
    true_positives[images] -= lanes
    predictions[images] -= lanes
    return replace(counts, true_positives=true_positives, predictions=predictions)


def scored(
    folder: Path, record: Record, counts: dict[str, Counts], *, datasets: dict[str, str] | None = None
) -> Record:
    """The same record with evaluations of these counts, by what befell the images (`clean` for nothing); written."""
    first = record.evaluations[0]
    evaluations = []
    for name, counted in counts.items():
        path = counts_path(folder, record.id, name)
        write_counts(path, counted)
        changes = {
            "name": name,
            "corruption": name if name in CORRUPTIONS else None,
            "dataset": (datasets or {}).get(name, first.dataset),
            "dataset_sha256": ((datasets or {}).get(name, "d") * 64)[:64],
            "total": scope_scores(counted),
            "scenarios": {key: scope_scores(counted, counted.scenario == key) for key in first.scenarios},
            "counts_file": path.name,
            "counts_sha256": sha256_of_file(path),
        }
        evaluations.append(first.model_copy(update=changes))
    made = record.model_copy(update={"evaluations": tuple(evaluations)})
    write_record(folder, made)
    return made


def tables_of(text: str) -> list[list[dict[str, str]]]:
    """The pipe tables of a Markdown text, each a list of rows by column title."""
    tables, current = [], []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            current.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
        elif current:
            tables.append([dict(zip(current[0], cells, strict=True)) for cells in current[2:]])
            current = []
    return tables


def by_hand(made: Any, folder: Path) -> Leaderboard:
    """Ten images of ten clips with 4 lanes each: the baseline misses 4 of 40, the method 2; one seed."""
    perfect = made.split(images=10, clips=10, scenarios=("normal", "night"))

    def missed(images: int) -> Any:
        true_positives = perfect.true_positives.copy()
        true_positives[:images] -= 1
        return replace(perfect, true_positives=true_positives)

    records = [
        made.record(folder, missed(4)),
        made.record(folder, missed(2), method="samiro", throughput=(made.throughput(8.0),)),
    ]
    return leaderboard(records, folder)
