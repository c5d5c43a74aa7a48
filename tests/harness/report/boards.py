"""What the tests of the leaderboard ask of one, and the counts that they change."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.report.leaderboard import Leaderboard, Section, leaderboard
from harness.report.table_csv import to_csv


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
