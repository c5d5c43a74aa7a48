"""The badge: what the verdicts come to, told as it is."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

from harness.report.badge import badge_text, to_badge
from harness.report.leaderboard import leaderboard


def test_verdicts_are_counted_by_method(made: Any, tmp_path: Path) -> None:
    base = made.split(images=360, clips=60)
    records = [
        *made.pairs(tmp_path, 4, detector="a", base=base, better=0.15),
        *made.pairs(tmp_path, 4, detector="b", base=base, better=-0.15),
        *made.pairs(tmp_path, 4, detector="c", base=base),
        *made.pairs(tmp_path, 1, detector="d", base=base),
    ]
    board = leaderboard(records, tmp_path)
    assert badge_text(board) == "samiro: 4 rows, 1 better, 1 worse, 1 not separated, 1 without verdict"


def test_too_few_seeds_are_said_to_be_no_verdict(made: Any, tmp_path: Path) -> None:
    assert badge_text(leaderboard(made.pairs(tmp_path, 1), tmp_path)) == "samiro: 1 row, no verdict: 1 seed"


def test_rows_without_a_verdict_for_several_reasons_have_none(made: Any, tmp_path: Path) -> None:
    records = [*made.pairs(tmp_path, 1), *made.pairs(tmp_path, 2, detector="b")]
    assert badge_text(leaderboard(records, tmp_path)) == "samiro: 2 rows, no verdict"


def test_baselines_alone_are_no_comparison(made: Any, tmp_path: Path) -> None:
    assert badge_text(leaderboard([made.record(tmp_path, made.split())], tmp_path)) == "no method compared"


def test_foreign_names_are_text_in_the_picture(made: Any, tmp_path: Path) -> None:
    records = made.pairs(tmp_path, 1, method='<script>"&\x1b')
    root = ElementTree.fromstring(to_badge(leaderboard(records, tmp_path)))
    told = '<script>"&: 1 row, no verdict: 1 seed'
    assert [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")] == ["SAMIRO-Bench mini", told]
    assert not list(root.iter("{http://www.w3.org/2000/svg}script"))
