"""Published figures beside the rows that reproduce them, as plain strings: what Markdown and LaTeX show before they escape it."""

from __future__ import annotations

from harness.report.beside import PublishedRow
from harness.report.cells import count_decimals, method_text, score_text
from harness.report.columns import Column
from harness.report.leaderboard import Section
from harness.report.table import Table
from harness.report.text import counted, number


def published_table(section: Section) -> Table:
    """Published figures and the rows that reproduce them, with the differences; only columns that something was published in.

    *Note* is a number of `published_notes`.
    """
    everything = [row for item in section.reproductions for row in item.published]
    shown = [
        (index, column)
        for index, column in enumerate(section.columns)
        if index == 0 or any(row.values[index] is not None for row in everything)
    ]
    undefined = any(row.f1 is not None for row in everything)
    titles = (*(column.title for _, column in shown), *(("F1 (definition not stated)",) if undefined else ()))
    notes = published_notes(section)
    rows = []
    for item in section.reproductions:
        name = (item.row.arm.detector, method_text(item.row))
        scores = [score_text(column, item.row.scores[index]) for index, column in shown]
        blank = ("",) * undefined
        rows.append((*name, f"reproduced, mean of {counted(len(item.row.seeds), 'seed')}", *scores, *blank, ""))
        for row in item.published:
            values = [published_text(column, row.values[index]) for index, column in shown]
            f1 = (number(row.f1, 2),) if undefined else ()
            rows.append((*name, f"published: {published_name(row)}", *values, *f1, str(notes[published_note(row)])))
            if any(difference is not None for difference in row.differences):
                gaps = [gap_text(column, row.differences[index]) for index, column in shown]
                rows.append((*name, "reproduced - published", *gaps, *blank, ""))
    return Table("Published beside reproduced", ("Detector", "Method", "Figures", *titles, "Note"), tuple(rows), 3)


def published_notes(section: Section) -> dict[str, int]:
    """Where a section's published figures are from and what they aren't, each once, numbered from 1 in the order of the table."""
    notes = dict.fromkeys(published_note(row) for item in section.reproductions for row in item.published)
    return {note: number for number, note in enumerate(notes, 1)}


def published_note(row: PublishedRow) -> str:
    """Source, evaluator and caveats of a line of published figures."""
    told = f"{published_name(row)}: {'; '.join(row.sources)}."
    if row.kind != "not available":
        told += f" Scored by: {row.evaluator}."
    return told + (f" Caveats: {'; '.join(row.caveats)}." if row.caveats else "")


def published_name(row: PublishedRow) -> str:
    """What was published, of whose code and which run."""
    if row.kind == "not available":
        return "not available"
    what = (f"{row.detector} {row.backbone}", row.implementation, row.variant, row.kind)
    return ", ".join(part for part in what if part)


def published_text(column: Column, value: float | None) -> str:
    """A published figure: points with two decimals, counts whole."""
    return number(value, 0 if column.factor == 1.0 else 2)


def gap_text(column: Column, value: float | None) -> str:
    """Reproduced minus published, with its sign."""
    if value is None:
        return ""
    return number(value, count_decimals(value) if column.factor == 1.0 else 2, sign=True)
