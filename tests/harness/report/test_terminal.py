"""What a terminal shows of hand-made records: the same figures, within its width."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from rich.console import Console

from harness.report.leaderboard import leaderboard
from harness.report.tables import to_markdown
from harness.report.terminal import print_leaderboard
from tests.harness.report.boards import tables_of


def test_terminal_shows_the_same_figures_and_reads_no_markup(made: Any, tmp_path: Path) -> None:
    records = made.pairs(tmp_path, 3, detector="[red]net")
    stream = io.StringIO()
    print_leaderboard(leaderboard(records, tmp_path), Console(file=stream, width=80))
    shown = stream.getvalue()
    assert "[red]net" in shown
    row = tables_of(to_markdown(leaderboard(records, tmp_path)))[0][0]
    for title in ("F1@50", "mF1", "night", "FPS"):
        assert row[title] in shown
    assert "not separated" in shown


def test_terminal_says_why_a_row_with_a_dagger_is_not_ranked(made: Any, tmp_path: Path) -> None:
    stream = io.StringIO()
    records = made.pairs(tmp_path, 3, detector="net", flags=("oracle failed its gate",))
    print_leaderboard(leaderboard(records, tmp_path), Console(file=stream, width=80))
    assert "baseline †" in stream.getvalue()
    assert "† net, baseline: not ranked: oracle failed its gate." in stream.getvalue().splitlines()


def test_terminal_tables_fit_the_terminal(made: Any, tmp_path: Path) -> None:
    stream = io.StringIO()
    board = leaderboard(made.pairs(tmp_path, 3), tmp_path)
    print_leaderboard(
        board, Console(file=stream, width=90, force_terminal=True, color_system=None, legacy_windows=False)
    )
    lines = stream.getvalue().splitlines()
    assert max(len(line) for line in lines) <= 90
    for title in ("F1@50", "mF1", "night", "FPS", "Verdict"):
        assert title in stream.getvalue()
