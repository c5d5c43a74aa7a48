"""What a publication shows of its records: the tables and the badge, all made from records and counts alone."""

from __future__ import annotations

from pathlib import Path

from harness.files.stored import write_text
from harness.report.badge import to_badge
from harness.report.leaderboard import Leaderboard
from harness.report.tables import write_leaderboard

TABLES = ("leaderboard.md", "leaderboard.csv", "leaderboard.tex", "badge.svg")
"""The files that `write_tables` writes."""


def write_tables(folder: Path, board: Leaderboard) -> tuple[Path, ...]:
    """Write leaderboard.{md,csv,tex} and badge.svg into `folder`, each atomically; returns their paths."""
    badge = folder / "badge.svg"
    write_text(badge, to_badge(board))
    return (*write_leaderboard(folder, board), badge)
