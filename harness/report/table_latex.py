r"""The leaderboard as LaTeX: tables that a two-column paper takes by \input, with booktabs and graphicx.

In the field's shape: the baseline, the method, their difference and its interval; the best of the ranked rows in bold; published
figures below a line of their own. Stable text in ASCII: the same records give the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from harness.report.cells import (
    Table,
    difference_text,
    gain_table,
    method_text,
    score_text,
    summary_table,
    timing_cells,
    timing_tables,
    training_tables,
)
from harness.report.columns import LOWER_IS_BETTER, Column
from harness.report.leaderboard import Leaderboard, Section, Timings
from harness.report.published_cells import published_name, published_note, published_notes, published_text
from harness.report.rows import Difference, Gain, Row
from harness.report.section_text import section_notes, section_text, section_title
from harness.report.text import latex, number

HEAD = r"""% Made by samiro-bench from records and counts: `samiro-bench leaderboard` writes it anew.
% Needs \usepackage{booktabs} and \usepackage{graphicx}.
"""

FIT = r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%"
"""Scales a table that is wider than the page, and no other."""


def to_latex(board: Leaderboard) -> str:
    """All tables of the leaderboard, each in a float of its own."""
    floats: list[tuple[str, str, list[str]]] = []
    for section in board.sections:
        caption = f"{section_title(section)}. {section_text(section)}"
        floats.append((caption, score_tabular(section, board.timings), section_remarks(section, board)))
        if section.gains:
            title = f"{section_title(section)}: paired gains in {section.headline.title}, in points."
            floats.append((title, tabular(gain_table(section)), []))
    if board.summaries:
        floats.append(("Methods over all rows: random effects, in points.", tabular(summary_table(board)), []))
    floats += [(f"Latency at batch 1: {table.title}.", tabular(table), []) for table in timing_tables(board)]
    floats += [(f"Training cost: {table.title}.", tabular(table), []) for table in training_tables(board)]
    name = "-".join(re.sub(r"[^a-z0-9]+", "-", suite.lower()).strip("-") for suite in board.suites) or "leaderboard"
    made = [float_text(*item, f"tab:{name}-{index}") for index, item in enumerate(floats, 1)]
    return "\n".join([HEAD, *made])


def float_text(caption: str, body: str, notes: Sequence[str], label: str) -> str:
    """One float over both columns: caption, label, the table no wider than the page, notes."""
    lines = [
        r"\begin{table*}",
        r"\centering",
        rf"\caption{{{latex(caption)}}}",
        rf"\label{{{label}}}",
        FIT,
        f"{body}}}",
    ]
    if notes:
        lines += [
            r"\par\smallskip",
            r"\begin{minipage}{\textwidth}\footnotesize\raggedright",
            *notes,
            r"\end{minipage}",
        ]
    return "\n".join([*lines, r"\end{table*}", ""])


def score_tabular(section: Section, timings: Timings) -> str:
    """The main table of a section, group by group, then the published figures."""
    titles = (
        "Detector",
        "Method",
        *(column.title for column in section.columns),
        "FPS",
        "GFLOPs",
        "Seeds",
        "SD",
        "Verdict",
    )
    best = [best_text(section, index, column) for index, column in enumerate(section.columns)]
    blocks = []
    for group in section.groups:
        lines: list[str] = []
        for item in group:
            detector = latex(item.arm.detector) if not lines else ""
            lines += (
                [row_line(detector, section, item, timings, best)]
                if isinstance(item, Row)
                else gain_lines(detector, section, item)
            )
        blocks.append("\n".join(lines))
    body = [cells_line(latex(title) for title in titles), r"\midrule", "\n\\addlinespace\n".join(blocks)]
    published = published_lines(section)
    if published:
        body += [
            r"\midrule",
            rf"\multicolumn{{{len(titles)}}}{{l}}{{\emph{{Published, not measured here}}}} \\",
            *published,
        ]
    return rules(f"ll{'r' * (len(titles) - 3)}l", body)


def best_text(section: Section, index: int, column: Column) -> str | None:
    """What the best ranked row shows in a column; None where no row is ranked."""
    scores = [row.scores[index] for row in section.rows if row.rank is not None]
    found = [score for score in scores if score is not None]
    if not found:
        return None
    choose = min if column.kind in LOWER_IS_BETTER else max
    return score_text(column, choose(found, key=lambda score: score.mean))


def row_line(detector: str, section: Section, row: Row, timings: Timings, best: Sequence[str | None]) -> str:
    """An arm's scores; the best of the ranked rows in bold, a dagger behind the method of a row that isn't ranked."""
    cells = []
    for column, score, top in zip(section.columns, row.scores, best, strict=True):
        text = score_text(column, score)
        cells.append(bold(text) if text and text == top and row.rank is not None else signed(text))
    fps, _, _, gflops, _ = timing_cells(timings[row.arm].get(section.timing) if section.timing else None)
    sd = number(row.headline.sd * 100 if row.headline and row.headline.sd is not None else None, 2)
    return cells_line((detector, latex(method_text(row)), *cells, fps, latex(gflops), str(len(row.seeds)), sd, ""))


def gain_lines(detector: str, section: Section, gain: Gain) -> list[str]:
    """A method's paired differences, and under them the half-widths of their intervals."""
    means = [difference_cell(column, part) for column, part in zip(section.columns, gain.differences, strict=True)]
    halves = [half_width_cell(column, part) for column, part in zip(section.columns, gain.differences, strict=True)]
    sd = gain.headline.comparison.seed_sd if gain.headline else None
    tail = ("", "", str(len(gain.seeds)), number(sd * 100 if sd is not None else None, 2), latex(gain.verdict))
    return [
        cells_line((detector, latex(method_text(gain)), *means, *tail)),
        cells_line(("", r"\quad 95\,\% interval", *halves, *("",) * len(tail))),
    ]


def difference_cell(column: Column, difference: Difference | None) -> str:
    """A paired difference without its interval."""
    return signed(difference_text(column, difference).partition(" ")[0])


def half_width_cell(column: Column, difference: Difference | None) -> str:
    """The half-width of the interval of a paired difference."""
    half = difference_text(column, difference).partition("± ")[2]
    return rf"$\pm${half}" if half else ""


def published_lines(section: Section) -> list[str]:
    """What others published, a line a run; the number behind it is its note's."""
    notes = published_notes(section)
    lines = []
    for item in section.reproductions:
        for row in item.published:
            values = [
                signed(published_text(column, value)) for column, value in zip(section.columns, row.values, strict=True)
            ]
            arm = "" if item.row.arm.is_baseline else f"{item.row.arm.detector}, {method_text(item.row)}: "
            name = f"{latex(arm + published_name(row))}$^{{{notes[published_note(row)]}}}$"
            lines.append(cells_line((rf"\multicolumn{{2}}{{l}}{{{name}}}", *values, *("",) * 5)))
    return lines


def section_remarks(section: Section, board: Leaderboard) -> list[str]:
    """The notes under a section's table, each a paragraph."""
    notes = [latex(note) for note in section_notes(section, board)]
    notes += [f"$^{{{place}}}$ {latex(note)}" for note, place in published_notes(section).items()]
    return [f"{note}\\par" for note in notes]


def tabular(table: Table) -> str:
    """Any table of cells: text left, numbers right."""
    columns = "l" * table.text_columns + "r" * (len(table.header) - table.text_columns)
    rows = [cells_line(signed_or_text(cell) for cell in row) for row in table.rows]
    return rules(columns, [cells_line(latex(title) for title in table.header), r"\midrule", *rows])


def rules(columns: str, body: Sequence[str]) -> str:
    """A tabular between booktabs' rules."""
    return "\n".join([rf"\begin{{tabular}}{{{columns}}}", r"\toprule", *body, r"\bottomrule", r"\end{tabular}"])


def cells_line(cells: Iterable[str]) -> str:
    """One line of a table."""
    return rf"{' & '.join(cells)} \\"


def signed(text: str) -> str:
    """A number whose minus is one."""
    return f"${text}$" if text.startswith(("+", "-")) else text


def bold(text: str) -> str:
    """A number in bold."""
    return rf"\textbf{{{text.replace('-', '$-$')}}}"


def signed_or_text(cell: str) -> str:
    """A cell of a table: numbers with a proper sign, text escaped."""
    return signed(cell) if re.fullmatch(r"[+-][\d.]+", cell) else latex(cell)
