"""Times whose flags speak against them: marked beside the figures, hollow in plots, in no Pareto front and beating nobody."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness.report.costs import doubts_of
from harness.report.figures import latency
from harness.report.leaderboard import Leaderboard, leaderboard
from harness.report.site.page import to_page
from harness.report.site.plots import front_of, latency_of, legend_of, timed_rows
from harness.report.site.rows import RowView, rows_of
from harness.report.table_latex import to_latex
from harness.report.tables import to_markdown
from harness.report.terminal import print_leaderboard
from tests.harness.report.boards import tables_of

LINE = "The line is the Pareto front of the ranked rows"


def flagged(made: Any, folder: Path, times: dict[str, tuple[float, tuple[str, ...]]], **changes: Any) -> Leaderboard:
    """Rows of one seed by method, each with its latency and the flags of it; from the first on they find fewer lanes."""
    records = [
        made.record(
            folder,
            made.noisy(made.split(), 1, found=0.95 - 0.1 * place),
            method=method,
            throughput=(made.throughput(p50, flags=flags),),
            **changes,
        )
        for place, (method, (p50, flags)) in enumerate(times.items())
    ]
    return leaderboard(records, folder)


def views(board: Leaderboard) -> tuple[RowView, ...]:
    (section,) = board.sections
    return rows_of(section, board)


def front(board: Leaderboard) -> list[str]:
    return [row.arm.method for row, *_ in front_of(timed_rows(views(board)))]


@pytest.mark.parametrize(
    "flag", ["drift", "noisy", "shared node", "load of the GPU unknown", "warm-up not stable", "2 of 3 repeats", "unheard of"]
)  # fmt: skip
def test_a_row_with_doubtful_times_is_in_no_front_and_beats_nobody(made: Any, tmp_path: Path, flag: str) -> None:
    board = flagged(made, tmp_path, {"samiro": (5.0, ("cpu", flag)), "baseline": (18.0, ("cpu",))})
    assert front(board) == ["baseline"]
    legend = " ".join(legend_of(timed_rows(views(board))))
    assert f"Hollow, with ‡ in the table: flagged times that can't be relied on ({flag})." in legend
    assert f"{LINE} with times that can be relied on: no other of them is both faster and better." in legend


@pytest.mark.parametrize("flag", ["cpu", "score changed"])
def test_flags_that_say_nothing_against_times_change_nothing(made: Any, tmp_path: Path, flag: str) -> None:
    board = flagged(made, tmp_path, {"samiro": (5.0, (flag,)), "baseline": (18.0, ())})
    assert front(board) == ["samiro"]
    assert legend_of(timed_rows(views(board)))[-1] == f"{LINE}: no other of them is both faster and better."
    text = to_page(board) + to_latex(board) + to_markdown(board)
    assert "‡" not in text
    assert "ddagger" not in text
    assert "doubtful" not in text.partition("<body>")[2]


def test_without_any_reliable_time_there_is_no_front_and_a_sentence_says_why(made: Any, tmp_path: Path) -> None:
    board = flagged(made, tmp_path, {"samiro": (7.95, ("drift", "noisy")), "baseline": (18.13, ("drift", "noisy"))})
    plot = latency_of(views(board))
    assert plot is not None
    assert plot.front == ""
    told = "No Pareto front: the times of all ranked rows are flagged, so that none is known to be faster."
    assert plot.legend[-1] == told
    page = to_page(board)
    assert told in page
    assert 'class="front"' not in page
    assert page.count('class="point doubtful"') == 2
    (section,) = board.sections
    drawn = latency(section, views(board))
    assert drawn is not None
    assert told in drawn.axes[0].get_xlabel().replace("\n", " ")
    marks = drawn.axes[0].get_lines()
    assert {mark.get_fillstyle() for mark in marks} == {"none"}
    assert len(marks) == 2


def test_without_a_ranked_row_a_sentence_says_so(made: Any, tmp_path: Path) -> None:
    board = flagged(made, tmp_path, {"samiro": (5.0, ()), "baseline": (18.0, ())})
    unranked = flagged(made, tmp_path, {"samiro": (5.0, ()), "baseline": (18.0, ())}, flags=("stale accepted",))
    assert legend_of(timed_rows(views(unranked)))[-1] == "No Pareto front: no row is ranked."
    assert legend_of(timed_rows(views(board)))[-1].startswith(LINE)


def test_a_mark_stands_behind_each_doubtful_time_and_before_its_note(made: Any, tmp_path: Path) -> None:
    board = flagged(made, tmp_path, {"samiro": (8.0, ("cpu", "drift")), "baseline": (20.0, ("cpu",))})
    text = to_markdown(board)
    rows = {row["Method"]: row for row in tables_of(text)[0]}
    titles = ("FPS", "p50 ms", "p99 ms")
    assert [rows["samiro"][title] for title in titles] == ["125.0 ‡", "8.00 ‡", "11.00 ‡"]
    assert not any("‡" in rows["baseline"][title] for title in titles)
    assert "- ‡ ufld, samiro: times flagged: cpu, drift, so that they can't be relied on." in text
    assert "- ufld, baseline: times flagged: cpu." in text
    latency_table = text.partition("## Latency")[2]
    assert "drift" in latency_table
    assert "‡" not in latency_table
    paper = to_latex(board)
    assert r"125.0 $\ddagger$" in paper
    assert r"$\ddagger$ ufld, samiro: times flagged: cpu, drift, so that they can't be relied on.\par" in paper
    assert ">8.00 ‡</td>" in to_page(board)
    stream = io.StringIO()
    print_leaderboard(board, Console(file=stream, width=200))
    assert "125.0 ‡" in stream.getvalue()
    assert "‡ ufld, samiro: times flagged: cpu, drift, so that they can't be relied on." in stream.getvalue()


@pytest.mark.parametrize(("doubtful", "expected"), [(1, ()), (2, ("noisy",)), (3, ("noisy",))])
def test_a_median_is_doubtful_where_half_of_what_it_is_of_is(
    made: Any, doubtful: int, expected: tuple[str, ...]
) -> None:
    """One seed of many that was disturbed doesn't move a median."""
    runs = [made.throughput(5.0, flags=("cpu", *(["noisy"] if place < doubtful else []))) for place in range(4)]
    assert doubts_of(runs) == expected
