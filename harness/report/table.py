"""A table of plain strings, of which every format makes its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len


@dataclass(frozen=True)
class Table:
    """A heading line, column titles, rows of cells, and how many of the leading columns are text."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text_columns: int


def chunks(table: Table, columns: Sequence[int], width: int | None) -> list[list[int]]:
    """Split columns so that each part, with the text columns before it, fits into `width` characters (None: no limit)."""
    taken = [2 + max(cell_len(row[index]) for row in (table.header, *table.rows)) for index in range(len(table.header))]
    names = sum(taken[: table.text_columns])
    parts: list[list[int]] = []
    for index in columns:
        if parts and (width is None or names + sum(taken[i] for i in [*parts[-1], index]) <= width):
            parts[-1].append(index)
        else:
            parts.append([index])
    return parts
