"""What stands beside a verdict that says little: the gain that could have been detected, and why an interval and a verdict differ."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness.report.how_to_read import HOW_TO_READ_LOST_TO_HOLM, how_to_read, how_to_read_gains
from harness.report.leaderboard import Leaderboard, leaderboard
from harness.report.site.page import to_page
from harness.report.table_latex import to_latex
from harness.report.tables import to_markdown
from harness.report.terminal import print_leaderboard
from harness.report.text import p_text, points
from tests.harness.report.boards import tables_of

BESIDE = "*Not separated* doesn't mean equal"


@pytest.fixture
def board(made: Any, tmp_path: Path) -> Leaderboard:
    """Two gains whose intervals exclude 0 and whose p, after Holm, don't separate them."""
    base = made.split(images=360, clips=60)
    records = [
        record for name in ("ufld", "clrnet") for record in made.pairs(tmp_path, detector=name, base=base, better=0.035)
    ]
    return leaderboard(records, tmp_path)


@pytest.fixture
def alone(made: Any, tmp_path: Path) -> Leaderboard:
    """One of the two by itself, which nothing is adjusted for: better."""
    base = made.split(images=360, clips=60)
    return leaderboard(made.pairs(tmp_path, base=base, better=0.035), tmp_path)


def terminal(board: Leaderboard) -> str:
    stream = io.StringIO()
    print_leaderboard(board, Console(file=stream, width=300))
    return stream.getvalue()


def test_the_detectable_gain_stands_beside_not_separated_in_every_form(board: Leaderboard) -> None:
    (section,) = board.sections
    for gain in section.gains:
        assert (gain.verdict, gain.detectable is None) == ("not separated", False)
        told = f"(detectable: {points(gain.detectable)})"
        row = next(
            row for row in tables_of(to_markdown(board))[0] if row["Detector"] == gain.arm.detector and row["Verdict"]
        )
        assert row["Verdict"] == f"not separated {told}"
        assert f"not separated {told}" in terminal(board)
        assert rf"\multicolumn{{6}}{{r}}{{{told}}} \\" in to_latex(board)
        assert (
            to_page(board).count(f'not separated <span class="weak">{told}</span>') == 3
        )  # gains, table, its phone's form


def test_what_detectable_means_is_told_where_it_stands_and_nowhere_else(board: Leaderboard, alone: Leaderboard) -> None:
    assert BESIDE in " ".join(how_to_read(board).split())
    assert BESIDE not in " ".join(how_to_read(alone).split())
    assert r"\emph{Not separated} doesn't mean equal" in " ".join(to_latex(board).split())
    assert "doesn't mean equal" not in to_latex(alone)
    assert "(detectable:" not in to_markdown(alone) + to_latex(alone) + to_page(alone)


def test_no_sign_of_equality_stands_before_not_separated(board: Leaderboard) -> None:
    page = to_page(board)
    assert '<span class="verdict even">not separated' in page
    assert '<span aria-hidden="true">=</span>' not in page


def test_an_interval_that_excludes_zero_beside_not_separated_is_explained(board: Leaderboard) -> None:
    (section,) = board.sections
    text, paper, shown, page = to_markdown(board), to_latex(board), terminal(board), to_page(board)
    for gain in section.gains:
        if not gain.lost_to_holm:
            continue
        assert gain.headline is not None
        assert gain.headline.half_widths is not None
        assert abs(gain.headline.comparison.mean) > gain.headline.half_widths.total
        told = f"{gain.arm.name}: its interval, of this row alone, excludes 0 (p {p_text(gain.p)})"
        assert f"- Δ {told}" in text
        assert rf"$\Delta$ {told}" in paper
        assert f"Δ {told}" in shown
        assert f"Δ {told}" in page
    assert any(gain.lost_to_holm for gain in section.gains)
    sentence = " ".join(HOW_TO_READ_LOST_TO_HOLM.replace("*", "").split())
    assert sentence in " ".join(page.replace("<em>", "").replace("</em>", "").replace("&#39;", "'").split())


def test_nothing_is_explained_that_is_not_in_the_table(alone: Leaderboard) -> None:
    assert [gain.verdict for gain in alone.sections[0].gains] == ["better"]
    assert HOW_TO_READ_LOST_TO_HOLM not in how_to_read_gains(alone.sections)
    assert "of this row alone" not in to_markdown(alone) + to_latex(alone) + terminal(alone) + to_page(alone)
