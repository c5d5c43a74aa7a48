"""The leaderboard as Markdown: stable text, so that the same records give the same bytes. The CSV is harness.report.table_csv."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from harness.files.stored import write_text
from harness.report.beyond_cells import (
    HOW_TO_READ_ROBUSTNESS,
    HOW_TO_READ_TRANSFER,
    robustness_notes,
    robustness_table,
    transfer_tables,
)
from harness.report.cells import (
    contrast_table,
    gain_table,
    method_table,
    score_table,
    summary_table,
    unscored_table,
    variant_table,
)
from harness.report.cost_cells import inference_tables, own_timing_tables, timing_tables, training_tables
from harness.report.how_to_read import (
    HOW_TO_READ_CONTRASTS,
    HOW_TO_READ_INFERENCE,
    HOW_TO_READ_METHODS,
    HOW_TO_READ_OWN_TIMES,
    HOW_TO_READ_PUBLISHED,
    HOW_TO_READ_TIMES,
    HOW_TO_READ_TRAINING,
    HOW_TO_READ_UNSCORED,
    HOW_TO_READ_VARIANTS,
    faults_of,
    how_to_read,
    how_to_read_gains,
    how_to_read_summary,
)
from harness.report.leaderboard import Leaderboard, Section
from harness.report.published_cells import published_notes, published_table
from harness.report.section_text import section_notes, section_text, section_title
from harness.report.table import Table
from harness.report.table_csv import to_csv
from harness.report.table_latex import to_latex
from harness.report.text import markdown


def write_leaderboard(folder: Path, board: Leaderboard) -> tuple[Path, ...]:
    """Write leaderboard.md, leaderboard.csv and leaderboard.tex into `folder`, each atomically; returns their paths."""
    texts = {"md": to_markdown(board), "csv": to_csv(board), "tex": to_latex(board)}
    paths = {folder / f"leaderboard.{ending}": text for ending, text in texts.items()}
    for path, text in paths.items():
        write_text(path, text)
    return tuple(paths)


def to_markdown(board: Leaderboard) -> str:
    """The whole leaderboard as GitHub Markdown."""
    suites = ", ".join(markdown(suite) for suite in board.suites)
    parts = [f"# Leaderboard{f': {suites}' if suites else ''}"]
    if not board.sections and not board.unscored:
        parts.append("No records yet.")
    if board.sections:
        parts.append(how_to_read(board))
    for section in board.shown:
        parts += score_parts(section, board) + gain_parts(section)
    parts += beyond_parts(board)
    if board.summaries:
        parts += ["## Methods over all rows", how_to_read_summary(board), table_text(summary_table(board))]
    if board.unscored:
        parts += ["## Not scored here", HOW_TO_READ_UNSCORED, table_text(unscored_table(board))]
    parts += fault_parts(board)
    for title, text, tables in (
        ("Latency", HOW_TO_READ_TIMES, timing_tables(board)),
        ("What methods cost at inference", HOW_TO_READ_INFERENCE, inference_tables(board)),
        ("Programs by their own clocks", HOW_TO_READ_OWN_TIMES, own_timing_tables(board)),
        ("Training cost", HOW_TO_READ_TRAINING, training_tables(board)),
    ):
        if tables:
            parts += [f"## {title}", text]
        for table in tables:
            parts += [f"### {markdown(table.title)}", table_text(table)]
    return "\n\n".join(parts) + "\n"


def scores_to_markdown(board: Leaderboard) -> str:
    """The scores of the leaderboard alone, for a page that leads to the whole: with their notes, and with what failed or is missing."""
    parts = [how_to_read(board)] if board.sections else []
    for section in board.shown:
        parts += score_parts(section, board)
    return "\n\n".join([*parts, *fault_parts(board)])


def beyond_parts(board: Leaderboard) -> list[str]:
    """The tables of transfer and of robustness, where there are any."""
    parts = []
    for table in transfer_tables(board):
        parts += ["## Transfer", HOW_TO_READ_TRANSFER, table_text(table)]
    if board.robustness:
        parts += ["## Robustness", HOW_TO_READ_ROBUSTNESS]
    for found in board.robustness:
        table = robustness_table(found)
        parts += [f"### {markdown(table.title)}", table_text(table)]
        parts.append("\n".join(f"- {markdown(note)}" for note in robustness_notes(found)))
    return parts


def fault_parts(board: Leaderboard) -> list[str]:
    """Which cells gave no result, what is wrong with records that no figure rests on, and which seeds of a row there are none of."""
    parts = []
    for faults in faults_of(board):
        parts += [f"## {faults.title}", faults.text, "\n".join(f"- {markdown(line)}" for line in faults.lines)]
    return parts


def score_parts(section: Section, board: Leaderboard) -> list[str]:
    """The scores of a section: what it is, its table and the notes."""
    parts = [f"## {markdown(section_title(section))}", markdown(section_text(section))]
    parts.append(table_text(score_table(section, board.timings)))
    notes = section_notes(section, board)
    if notes:
        parts.append("\n".join(f"- {markdown(note)}" for note in notes))
    return parts


def gain_parts(section: Section) -> list[str]:
    """What a section's scores are held against: its gains, and the published figures."""
    parts = []
    if section.gains:
        parts += [
            f"### Paired gains in {section.headline.title}",
            how_to_read_gains([section]),
            table_text(gain_table(section)),
        ]
    if section.contrasts:
        parts += ["### Gains held against each other", HOW_TO_READ_CONTRASTS, table_text(contrast_table(section))]
    if section.method_differences:
        parts += ["### Methods held against each other", HOW_TO_READ_METHODS, table_text(method_table(section))]
    if (variants := variant_table(section)).rows:
        parts += ["### Variants held against each other", HOW_TO_READ_VARIANTS, table_text(variants)]
    if section.reproductions:
        parts += ["### Published beside reproduced", HOW_TO_READ_PUBLISHED, table_text(published_table(section))]
        parts.append("\n".join(f"{place}. {markdown(note)}" for note, place in published_notes(section).items()))
    return parts


def table_text(table: Table) -> str:
    """A table in pipe syntax: text left, numbers right."""
    escaped = [[markdown(cell) for cell in row] for row in table.rows]
    frame = pd.DataFrame(escaped, columns=list(escape_all(table.header)), dtype=str)
    align = ["left"] * table.text_columns + ["right"] * (len(table.header) - table.text_columns)
    text = frame.to_markdown(index=False, disable_numparse=True, colalign=align)
    assert isinstance(text, str)
    return text


def escape_all(texts: Iterable[str]) -> list[str]:
    """Every text escaped for Markdown."""
    return [markdown(text) for text in texts]
