"""How long a leaderboard takes: run by `make benchmark`; the default test run only checks the bounds of the plain tests."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from harness.records.counts import read_counts
from harness.records.record import Record, read_records, read_sound_records
from harness.report.leaderboard import leaderboard
from harness.report.table_csv import to_csv
from harness.report.table_latex import to_latex
from harness.report.tables import to_markdown
from tests.harness.report.conftest import pairs, split

MINI = Path(__file__).resolve().parents[2] / "results" / "mini" / "records"


def many_rows(folder: Path, rows: int) -> list[Record]:
    return [
        record
        for index in range(rows // 2)
        for record in pairs(folder, 1, detector=f"detector{index:03d}", base=split())
    ]


def written(records: list[Record], folder: Path) -> None:
    board = leaderboard(records, folder)
    to_markdown(board)
    to_csv(board)


def test_five_hundred_rows_take_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.files.stored.os.fsync", lambda descriptor: None)  # 1,500 of them aren't what is timed
    records = many_rows(tmp_path, 500)
    start = time.process_time()
    written(records, tmp_path)
    assert time.process_time() - start < 15


@pytest.mark.benchmark(group="report")
def test_speed_of_five_hundred_rows(benchmark: Any, tmp_path: Path) -> None:
    records = many_rows(tmp_path, 500)
    benchmark.pedantic(written, (records, tmp_path), rounds=2)


def from_disk(folder: Path) -> None:
    """What `leaderboard` does once it knows where the records lie."""
    records, faults = read_sound_records(sorted(folder.glob("*.json")))
    board = leaderboard(records, folder, faults=faults)
    assert not board.left_out
    to_markdown(board)
    to_csv(board)
    to_latex(board)


@pytest.mark.benchmark(group="report")
def test_speed_of_ten_thousand_records(benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1,000 detectors, two methods, 5 seeds, 270 images each; records as long as real ones. Everything from disk."""
    monkeypatch.setattr("harness.files.stored.os.fsync", lambda descriptor: None)
    mini = read_records(MINI)[0]
    base = read_counts(MINI / mini.evaluations[0].counts_file)
    rows = int(os.environ.get("REPORT_RECORDS", 10_000)) // 10
    for index in range(rows):
        pairs(tmp_path, 5, detector=f"detector{index:04d}", base=base, fingerprints=mini.fingerprints)
    benchmark.pedantic(from_disk, (tmp_path,), rounds=1)


@pytest.mark.benchmark(group="report")
def test_speed_of_a_culane_size_test_set(benchmark: Any, tmp_path: Path) -> None:
    """34,680 images, 50 rows, 5 seeds: everything from records and counts on disk."""
    base = split(images=34_680, clips=250)
    records = [
        record for index in range(25) for record in pairs(tmp_path, 5, detector=f"detector{index:02d}", base=base)
    ]
    benchmark.pedantic(written, (records, tmp_path), rounds=1)
