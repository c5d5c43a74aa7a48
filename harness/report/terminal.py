"""The leaderboard on a terminal: the same cells as in Markdown, the verdicts in colour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rich import box
from rich.console import Console
from rich.segment import Segments
from rich.table import Table as RichTable
from rich.text import Text

from harness.report.beyond_cells import robustness_table, transfer_tables
from harness.report.cells import contrast_table, method_table, score_table, variant_table
from harness.report.cost_cells import DOUBTFUL
from harness.report.leaderboard import Leaderboard
from harness.report.section_text import (
    lost_to_holm_notes,
    method_difference_notes,
    oracle_notes,
    section_title,
    time_notes,
    tries_notes,
    unranked_notes,
)
from harness.report.table import Table, chunks
from harness.report.text import one_line

STYLES = {"better": "green", "worse": "red", "not separated": "yellow"}
"""Style of a line by the verdict that its last cell begins with."""


def print_leaderboard(board: Leaderboard, console: Console) -> None:
    """Print every section: totals, speed and verdicts first, then the scenarios, and why rows with a † aren't ranked.

    On a terminal, columns that don't fit beside each other go into a further table; in a file every table has its full width.
    """
    for section in board.shown:
        table = score_table(section, board.timings)
        scenarios = {column.title for column in section.columns if column.scenario is not None}
        figures = range(table.text_columns, len(table.header))
        totals = [index for index in figures if table.header[index] not in scenarios]
        by_scenario = [index for index in figures if table.header[index] in scenarios]
        console.print(Text(one_line(section_title(section)), style="bold"), soft_wrap=True)
        for columns in (totals, by_scenario):
            for fitting in chunks(table, columns, page(console)):
                show(table, fitting, console)
        notes = unranked_notes(section.rows) + oracle_notes(section.rows) + lost_to_holm_notes(section.gains)
        notes += method_difference_notes(section) + tries_notes(section)
        notes += [note for note in time_notes(section, board.timings) if note.startswith(DOUBTFUL.strip())]
        for note in notes:
            console.print(Text(one_line(note)), soft_wrap=True)
        if notes:
            console.print()
    robustness = [robustness_table(found) for found in board.robustness]
    held = [
        replace(table, title=f"{table.title}: {section_title(section)}")
        for section in board.shown
        for table in (contrast_table(section), method_table(section), variant_table(section))
        if table.rows
    ]
    for table in (*held, *transfer_tables(board), *robustness):
        title = f"Robustness: {table.title}" if table in robustness else table.title
        console.print(Text(one_line(title), style="bold"), soft_wrap=True)
        for columns in chunks(table, range(table.text_columns, len(table.header)), page(console)):
            show(table, columns, console)
    for line in board.failed:
        console.print(Text(one_line(f"failed: {line}")), soft_wrap=True)
    for item in board.unscored:
        told = f"{item.dataset}, {item.split}: {item.arm.name}: unscored: {item.why}; see submission.zip in its cells"
        console.print(Text(one_line(told)), soft_wrap=True)


def page(console: Console) -> int | None:
    """How many characters stand beside each other; None in a file, which has room for all."""
    return console.width if console.is_terminal else None


def show(table: Table, columns: Sequence[int], console: Console) -> None:
    """Print some columns of a table after its text columns; foreign text is shown as it is, never read as markup."""
    grid = RichTable(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    shown = [*range(table.text_columns), *columns]
    for index in shown:
        justify = "left" if index < table.text_columns else "right"
        grid.add_column(Text(table.header[index]), justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for row in table.rows:
        style = STYLES.get(row[-1].partition(" (")[0], "")
        grid.add_row(*(Text(one_line(row[index]), style=style) for index in shown))
    wide = console.options.update(max_width=10_000)
    width = console.measure(grid, options=wide).maximum
    lines = console.render(grid, wide.update(width=width))
    console.print(Segments(lines), crop=False, soft_wrap=True)
    console.print()
