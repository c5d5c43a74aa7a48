"""The CSV of hand-made records: the same figures, and columns that are all described."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from harness.report.leaderboard import leaderboard
from harness.report.table_csv import header
from tests.harness.report.boards import by_hand, csv_lines

ROOT = Path(__file__).resolve().parents[3]


def test_csv_holds_the_same_figures_with_four_decimals(made: Any, tmp_path: Path) -> None:
    board = by_hand(made, tmp_path)
    baseline, method, gain = csv_lines(board)
    assert [line["kind"] for line in (baseline, method, gain)] == ["baseline", "method", "gain"]
    assert (baseline["f1_50"], method["f1_50"], gain["f1_50"]) == ("90.0000", "95.0000", "5.0000")
    assert float(gain["f1_50_high"]) - 5 == pytest.approx(2.262157 * (10 / 9 * 0.001) ** 0.5 * 100, abs=1e-4)
    assert (gain["interval"], gain["clip_low"], gain["seed_low"]) == ("clip", gain["f1_50_low"], "")
    assert (baseline["cross_fp"], baseline["crowded"], baseline["f1_50_sd"]) == ("", "", "")
    assert (baseline["fps"], baseline["machine"]) == ("100.0000", "CPU; Example CPU, 2 cores; Linux; torch 2.13.0")
    assert baseline["records"] == "mini-ufld-baseline-s0"


def test_csv_gives_fp32_strict_of_each_row_where_no_machine_is_common(made: Any, tmp_path: Path) -> None:
    modes = (made.throughput(8.0, precision="amp-bf16"), made.throughput(10.0))
    records = [
        made.record(tmp_path, made.split(), throughput=modes),
        made.record(tmp_path, made.split(), method="samiro", throughput=modes, environment=made.environment(cpu="B")),
    ]
    rows = csv_lines(leaderboard(records, tmp_path))
    assert [row["precision"] for row in rows if row["kind"] != "gain"] == ["fp32-strict"] * 2
    assert [row["fps"] for row in rows if row["kind"] != "gain"] == ["100.0000"] * 2


def test_every_csv_column_is_described_and_every_description_is_of_a_column(made: Any, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "leaderboard-columns.md").read_text(encoding="utf-8")
    cells = re.findall(r"(?m)^\| (`[^|]*) \|", text)
    described = [
        f"{name}{part}"
        for cell in cells
        for name in re.findall(r"`(\w+)`", cell)
        for part in (("", "_sd", "_low", "_high") if "and its parts" in cell else ("",))
    ]
    assert sorted(described) == sorted(header(by_hand(made, tmp_path)))
