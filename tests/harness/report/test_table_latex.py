"""LaTeX that a paper can take: escaped, of one shape, and accepted by a real LaTeX where there is one."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from harness.report.leaderboard import leaderboard
from harness.report.table_latex import to_latex, with_signs
from harness.report.text import latex

GOLDEN = Path(__file__).parent / "golden"

HOSTILE = "\\input{x} $a_b^c$ 50% & #1 ~ {y} \"q\" 'r' `s` <t> | [u] *v* a--b ?` ü Ж 漢 \x1b[31m\n\\\\ §"

PAGE = r"""\documentclass[twocolumn]{article}
\usepackage{booktabs}
\usepackage{graphicx}
\begin{document}
\input{leaderboard.tex}
\end{document}
"""


def hostile_board(made: Any, folder: Path) -> str:
    records = [
        made.record(folder, made.split(), detector=HOSTILE, name=name, method=method, flags=(HOSTILE,))
        for name, method in (("one", "baseline"), ("two", HOSTILE))
    ]
    return to_latex(leaderboard(records, folder))


def tabulars(text: str) -> list[tuple[str, list[str]]]:
    """The column letters and the lines of every tabular."""
    return [
        (columns, [line for line in body.splitlines() if line.endswith(r"\\")])
        for columns, body in re.findall(r"\\begin\{tabular\}\{([lr]+)\}\n(.*?)\\end\{tabular\}", text, re.DOTALL)
    ]


def width(line: str) -> int:
    """How many columns a line of a table fills."""
    spans = re.findall(r"\\multicolumn\{(\d+)\}", line)
    return 1 + len(re.findall(r"(?<!\\)&", line)) + sum(int(span) - 1 for span in spans)


@pytest.mark.parametrize("name", ["culane", "tusimple", "llamas"])
def test_every_line_fills_its_table(name: str) -> None:
    found = tabulars((GOLDEN / f"{name}.tex").read_text(encoding="utf-8"))
    assert len(found) == {"culane": 7, "tusimple": 7, "llamas": 6}[name]
    for columns, lines in found:
        assert {width(line) for line in lines} == {len(columns)}


def test_the_best_of_the_ranked_rows_is_bold_and_an_unranked_one_is_marked() -> None:
    text = (GOLDEN / "culane.tex").read_text(encoding="utf-8")
    lines = tabulars(text)[0][1]
    bold = [re.findall(r"\\textbf\{([^}]*)\}", line) for line in lines]
    # The method is best in all twelve scores; of cross FP fewer are better; other_net has more but isn't ranked.
    assert [len(found) for found in bold[:3]] == [0, 0, 3]
    bold = [re.findall(r"\\textbf\{([^}]*)\}", line) for line in tabulars(text)[1][1]]
    assert [len(found) for found in bold[:3]] == [0, 0, 9]
    assert bold[2][7] == "866.7"
    unranked = next(line for line in lines if line.startswith(r"other\_net"))
    assert r"baseline $\dagger$" in unranked
    assert r"\textbf" not in unranked
    assert "not ranked: stale accepted." in text


def test_foreign_text_is_escaped_and_nothing_but_ascii_is_left(made: Any, tmp_path: Path) -> None:
    text = hostile_board(made, tmp_path)
    assert text.isascii()
    assert "\x1b" not in text
    assert r"\input{x}" not in text
    for columns, lines in tabulars(text):
        assert {width(line) for line in lines} == {len(columns)}


def test_names_stay_readable_in_latex() -> None:
    assert latex("resa_resnet18, 95 % ≥ é") == r"resa\_resnet18, 95 \% $\geq$ e"
    assert latex("a--b---c") == "a-{}-b-{}-{}-c"


NO_LATEX = pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no LaTeX on this machine")


def typeset(folder: Path, page: str) -> str:
    """What LaTeX says of a page that it accepts."""
    (folder / "paper.tex").write_text(page, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=120)
    assert run.returncode == 0, run.stdout[-2000:]
    return run.stdout


def test_numbers_of_intervals_have_proper_signs() -> None:
    assert with_signs("-0.32 to +2.95 (clip interval alone)") == "$-0.32$ to $+2.95$ (clip interval alone)"
    assert with_signs("fp32-strict, 12-24") == "fp32-strict, 12-24"
    assert "$-0.32$ to $+2.95$" in (GOLDEN / "culane.tex").read_text(encoding="utf-8")


@NO_LATEX
@pytest.mark.parametrize("name", ["culane", "tusimple", "llamas"])
def test_every_table_fits_a_page_of_two_columns_unscaled(tmp_path: Path, name: str) -> None:
    text = (GOLDEN / f"{name}.tex").read_text(encoding="utf-8")
    setup = r"\footnotesize\setlength{\tabcolsep}{3pt}"
    assert text.count(setup) == text.count(r"\begin{table*}")
    boxes = [
        rf"\setbox0\hbox{{{setup}{body}}}\typeout{{natural \the\wd0}}"
        for body in re.findall(r"\\begin\{tabular\}.*?\\end\{tabular\}", text, re.DOTALL)
    ]
    said = typeset(tmp_path, PAGE.replace(r"\input{leaderboard.tex}", "\n".join([*boxes, "x"])))
    widths = [float(found) for found in re.findall(r"natural ([\d.]+)pt", said)]
    assert len(widths) == len(boxes)
    assert max(widths) < 490  # of 496 points in CVPR's style and 516 in IEEE's


@NO_LATEX
@pytest.mark.parametrize("name", ["culane", "tusimple", "llamas", "hostile"])
def test_a_paper_with_booktabs_and_graphicx_takes_it(made: Any, tmp_path: Path, name: str) -> None:
    text = (
        hostile_board(made, tmp_path / "records")
        if name == "hostile"
        else (GOLDEN / f"{name}.tex").read_text(encoding="utf-8")
    )
    (tmp_path / "leaderboard.tex").write_text(text, encoding="utf-8")
    typeset(tmp_path, PAGE)
    assert (tmp_path / "paper.pdf").stat().st_size > 10_000


def test_a_pasted_table_says_what_failed_is_missing_or_not_used(made: Any, tmp_path: Path) -> None:
    lines = tuple(f"ufld_micro, samiro: seed {seed}" for seed in range(20))
    board = leaderboard(
        made.pairs(tmp_path), tmp_path, faults=["a.json: not JSON"], missing=lines, failed=["b: out of memory"]
    )
    (first, *others) = to_latex(board).split(r"\end{table*}")
    assert r"\textbf{Failed seeds.} Cells that were run and gave no result, and why. b: out of memory.\par" in first
    assert r"\textbf{Not used.} " in first
    assert r"a.json: not JSON.\par" in first
    assert r"ufld\_micro, samiro: seed 0; " in first
    assert r"seed 11; and 8 more, which leaderboard.md names.\par" in first
    assert not any(r"\textbf{Missing.}" in other for other in others)
    assert r"\textbf{Missing.}" not in to_latex(leaderboard(made.pairs(tmp_path), tmp_path))


def test_a_pasted_table_says_how_to_read_it() -> None:
    text = (GOLDEN / "tusimple.tex").read_text(encoding="utf-8")
    for told in (
        "bold: the best of the ranked rows",
        r"\emph{SD}: the standard deviation over seeds in accuracy",
        "Only accuracy has a verdict, from 3 paired seeds on, at .05 after Holm's adjustment",
        r"\emph{p (Holm)} is p after Holm's adjustment",
        r"\texttt{lambda\_mode: ratio}",
    ):
        assert told in text
    # No Markdown is left of our own texts.
    assert "{*}" not in text
    assert r"\`{}" not in text
