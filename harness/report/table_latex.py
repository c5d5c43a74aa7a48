r"""The leaderboard as LaTeX: tables that a two-column paper takes by \input, with booktabs and graphicx.

In the field's shape: the baseline, the method, their difference and its interval; the best of the ranked rows in bold; published
figures below a line of their own. Stable text in ASCII: the same records give the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from harness.report.beyond_cells import HOW_TO_READ_TRANSFER, robustness_notes, robustness_table, transfer_tables
from harness.report.cells import (
    contrast_table,
    detectable_text,
    difference_text,
    gain_table,
    method_table,
    method_text,
    score_text,
    summary_table,
    variant_table,
)
from harness.report.columns import LOWER_IS_BETTER, OVERLAP, Column
from harness.report.cost_cells import (
    inference_tables,
    marked_timing_cells,
    own_timing_tables,
    timing_tables,
    training_tables,
)
from harness.report.how_to_read import (
    HOW_TO_READ_CONTRASTS,
    HOW_TO_READ_INFERENCE,
    HOW_TO_READ_METHODS,
    HOW_TO_READ_OWN_TIMES,
    HOW_TO_READ_TIMES,
    HOW_TO_READ_TRAINING,
    HOW_TO_READ_VARIANTS,
    Faults,
    faults_of,
    how_to_read_gains,
    how_to_read_in_print,
    how_to_read_summary,
)
from harness.report.leaderboard import Leaderboard, Section, Timings
from harness.report.published_cells import published_note, published_notes, published_text
from harness.report.rows import Difference, Gain, Row
from harness.report.section_text import section_notes, section_text, section_title
from harness.report.table import Table, chunks
from harness.report.text import latex, points

HEAD = r"""% Made by samiro-bench from records and counts: `samiro-bench leaderboard` writes it anew.
% Needs \usepackage{booktabs} and \usepackage{graphicx}.
"""

FIT = r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%"
"""Scales a table that is wider than the page for its long names, and no other."""

TAIL = ("FPS", "GFLOPs", "Params (M)", "Seeds", "SD", "Verdict")
"""What stands behind the totals of an arm."""

CHARACTERS = 118
"""How many characters of \footnotesize, columns 6 pt apart, a page of two columns holds beside each other (about 500 pt)."""


FAULTS_LIMIT = 12
"""Lines of failed, unused or missing records below a table: a float that is higher than its page loses its end."""


def to_latex(board: Leaderboard) -> str:
    """All tables of the leaderboard, each in a float of its own; what is too wide for a page stands there as several tabulars."""
    floats: list[tuple[str, list[str], list[str]]] = []
    for section in board.shown:
        caption = f"{section_title(section)}. {section_text(section)}"
        floats.append((caption, score_tabulars(section, board.timings), section_remarks(section, board)))
        if section.gains:
            title = f"{section_title(section)}: paired gains in {section.headline.title}, in points."
            floats.append((title, tabulars(gain_table(section)), paragraphs([explained(how_to_read_gains([section]))])))
        if section.contrasts:
            title = f"{section_title(section)}: gains held against each other, in points."
            floats.append((title, tabulars(contrast_table(section)), paragraphs([explained(HOW_TO_READ_CONTRASTS)])))
        if section.method_differences:
            title = f"{section_title(section)}: methods held against each other, in points."
            floats.append((title, tabulars(method_table(section)), paragraphs([explained(HOW_TO_READ_METHODS)])))
        if (variants := variant_table(section)).rows:
            title = f"{section_title(section)}: variants of a method held against each other, in points."
            floats.append((title, tabulars(variants), paragraphs([explained(HOW_TO_READ_VARIANTS)])))
    floats += [(f"Transfer. {HOW_TO_READ_TRANSFER}", tabulars(table), []) for table in transfer_tables(board)]
    for found in board.robustness:
        table = robustness_table(found)
        notes = paragraphs(latex(note) for note in robustness_notes(found))
        floats.append((f"Robustness. {table.title}.", tabulars(table), notes))
    if board.summaries:
        title = "Methods over all rows: random effects, in points."
        floats.append((title, tabulars(summary_table(board)), paragraphs([explained(how_to_read_summary(board))])))
    for title, text, tables in (
        ("Latency at batch 1", HOW_TO_READ_TIMES, timing_tables(board)),
        ("Cost of methods at inference", HOW_TO_READ_INFERENCE, inference_tables(board)),
        ("Programs by their own clocks", HOW_TO_READ_OWN_TIMES, own_timing_tables(board)),
        ("Training cost", HOW_TO_READ_TRAINING, training_tables(board)),
    ):
        floats += [(f"{title}: {table.title}.", tabulars(table), paragraphs([explained(text)])) for table in tables]
    name = "-".join(re.sub(r"[^a-z0-9]+", "-", suite.lower()).strip("-") for suite in board.suites) or "leaderboard"
    made = [float_text(*item, f"tab:{name}-{index}") for index, item in enumerate(floats, 1)]
    return "\n".join([HEAD, *made])


def float_text(caption: str, bodies: Sequence[str], notes: Sequence[str], label: str) -> str:
    """One float over both columns: caption, label, tables below each other and no wider than the page, notes."""
    lines = [
        r"\begin{table*}",
        r"\centering",
        rf"\caption{{{latex(caption)}}}",
        rf"\label{{{label}}}",
        r"\footnotesize\setlength{\tabcolsep}{3pt}",
        "\n\\par\\medskip\n".join(f"{FIT}\n{body}}}" for body in bodies),
    ]
    if notes:
        lines += [
            r"\par\smallskip",
            r"\begin{minipage}{\textwidth}\footnotesize\raggedright",
            *notes,
            r"\end{minipage}",
        ]
    return "\n".join([*lines, r"\end{table*}", ""])


def score_tabulars(section: Section, timings: Timings) -> list[str]:
    """The main table of a section: totals, speed and verdicts; then, where it has such, scenarios and TuSimple's other means."""
    totals = [place for place, one in enumerate(section.columns) if place == 0 or one in OVERLAP.rest]
    detail = [place for place in range(len(section.columns)) if place not in totals]
    first = score_tabular(section, totals, timings)
    return [first, score_tabular(section, detail, None)] if detail else [first]


def score_tabular(section: Section, shown: Sequence[int], timings: Timings | None) -> str:
    """Some columns of a section's scores, group by group, then the published figures. timings: None for the scores alone."""
    tail = () if timings is None else TAIL
    titles = ("Detector", "Method", *(section.columns[index].title for index in shown), *tail)
    best = [best_text(section, index, section.columns[index]) for index in shown]
    blocks = []
    for group in section.groups:
        lines: list[str] = []
        for item in group:
            detector = latex(item.arm.detector) if not lines else ""
            if isinstance(item, Row):
                cells = row_cells(section, shown, item, best)
                lines.append(
                    cells_line((detector, latex(method_text(item)), *cells, *row_tail(section, item, timings)))
                )
            else:
                lines += gain_lines(detector, section, shown, item, with_tail=timings is not None)
        blocks.append("\n".join(lines))
    body = [cells_line(latex(title) for title in titles), r"\midrule", "\n\\addlinespace\n".join(blocks)]
    published = published_lines(section, shown, len(tail))
    if published:
        body += [
            r"\midrule",
            rf"\multicolumn{{{len(titles)}}}{{l}}{{\emph{{Published, not measured here}}}} \\",
            *published,
        ]
    return rules(f"ll{'r' * (len(titles) - 3)}{'l' if tail else 'r'}", body)


def best_text(section: Section, index: int, column: Column) -> str | None:
    """What the best ranked row shows in a column; None where no row is ranked."""
    scores = [row.scores[index] for row in section.rows if row.rank is not None]
    found = [score for score in scores if score is not None]
    if not found:
        return None
    choose = min if column.kind in LOWER_IS_BETTER else max
    return score_text(column, choose(found, key=lambda score: score.mean))


def row_cells(section: Section, shown: Sequence[int], row: Row, best: Sequence[str | None]) -> list[str]:
    """An arm's scores; the best of the ranked rows in bold."""
    cells = []
    for index, top in zip(shown, best, strict=True):
        text = score_text(section.columns[index], row.scores[index])
        cells.append(bold(text) if text and text == top and row.rank is not None else signed(text))
    return cells


def row_tail(section: Section, row: Row, timings: Timings | None) -> tuple[str, ...]:
    """Speed, size and seeds of an arm; nothing without timings."""
    if timings is None:
        return ()
    fps, _, _, gflops, parameters = marked_timing_cells(
        timings[row.arm].get(section.timing) if section.timing else None
    )
    return (latex(fps), latex(gflops), parameters, str(len(row.seeds)), points(row.seed_sd), "")


def gain_lines(detector: str, section: Section, shown: Sequence[int], gain: Gain, *, with_tail: bool) -> list[str]:
    """A method's paired differences, and under them their intervals' half-widths. Why there's no verdict says the table of gains."""
    parts = [(section.columns[index], gain.differences[index]) for index in shown]
    means = [difference_cell(column, part) for column, part in parts]
    halves = [half_width_cell(column, part) for column, part in parts]
    verdict = latex(gain.verdict.partition(":")[0])
    tail = ("", "", "", str(len(gain.seeds)), points(gain.seed_sd), verdict) if with_tail else ()
    # Over all columns of the tail: in that of the verdict alone it would widen the table.
    below = [rf"\multicolumn{{{len(tail)}}}{{r}}{{{latex(detectable_text(gain))}}}"] if with_tail else []
    return [
        cells_line((detector, latex(method_text(gain)), *means, *tail)),
        cells_line(("", r"\quad 95\,\% interval", *halves, *below)),
    ]


def difference_cell(column: Column, difference: Difference | None) -> str:
    """A paired difference without its interval."""
    return signed(difference_text(column, difference).partition(" ")[0])


def half_width_cell(column: Column, difference: Difference | None) -> str:
    """The half-width of the interval of a paired difference."""
    half = difference_text(column, difference).partition("± ")[2]
    return rf"$\pm${half}" if half else ""


def published_lines(section: Section, shown: Sequence[int], blanks: int) -> list[str]:
    """What others published, a line a run, then so many blank cells. The number behind the method is its note's, which has the rest."""
    notes = published_notes(section)
    lines = []
    for item in section.reproductions:
        for row in item.published:
            values = [signed(published_text(section.columns[index], row.values[index])) for index in shown]
            told = row.kind != "not available"
            detector = f"{row.detector} {row.backbone}" if told else item.row.arm.detector
            method = f"{method_text(item.row)}{'' if told else ', not available'}"
            name = f"{latex(method)}$^{{{notes[published_note(row)]}}}$"
            lines.append(cells_line((latex(detector), name, *values, *("",) * blanks)))
    return lines


def section_remarks(section: Section, board: Leaderboard) -> list[str]:
    """The notes under a section's table, each a paragraph: a paper that takes the table has no other text of ours."""
    notes = [explained(how_to_read_in_print(section)), *(latex(note) for note in section_notes(section, board))]
    notes += [fault_text(faults) for faults in faults_of(board)]
    notes += [f"$^{{{place}}}$ {latex(note)}" for note, place in published_notes(section).items()]
    return paragraphs(notes)


def paragraphs(notes: Iterable[str]) -> list[str]:
    """Notes that are LaTeX already, each with its end."""
    return [f"{note}\\par" for note in notes]


def fault_text(faults: Faults) -> str:
    """Failed, unused or missing records as one paragraph."""
    shown = [latex(line.rstrip(".")) for line in faults.lines[:FAULTS_LIMIT]]
    rest = len(faults.lines) - len(shown)
    more = [f"and {rest:,} more, which leaderboard.md names"] if rest else []
    return rf"\textbf{{{faults.title}.}} {latex(faults.text)} {'; '.join([*shown, *more])}."


def explained(text: str) -> str:
    """One of our own texts on how to read a table, with its emphasis and code."""
    emphasised = re.sub(r"\{\*\}(.+?)\{\*\}", r"\\emph{\1}", latex(" ".join(text.split())))
    return re.sub(r"\\`\{\}(.+?)\\`\{\}", r"\\texttt{\1}", emphasised)


def tabulars(table: Table) -> list[str]:
    """Any table of cells: text left, numbers right; in as many parts, each with the names before it, as its width takes."""
    parts = chunks(table, range(table.text_columns, len(table.header)), CHARACTERS)
    return [tabular(table, part) for part in parts or [[]]]


def tabular(table: Table, columns: Sequence[int]) -> str:
    """The text columns of a table and some others."""
    names = range(table.text_columns)
    rows = [
        cells_line([*(latex(row[index]) for index in names), *(with_signs(row[index]) for index in columns)])
        for row in table.rows
    ]
    header = cells_line(latex(table.header[index]) for index in [*names, *columns])
    return rules("l" * len(names) + "r" * len(columns), [header, r"\midrule", *rows])


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


def with_signs(cell: str) -> str:
    """A cell of a table as text, each number in it with a proper sign."""
    return re.sub(r"(?<![\w.-])[+-]\d+(\.\d+)?", lambda found: f"${found[0]}$", latex(cell))
