"""What of its suite isn't in a submission: the suite of this repository says what should be, whatever the submission says of itself."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from harness.errors import InputError
from harness.matrix.recorded import no_record
from harness.publishing.expected import ExpectedSuite, clipped
from harness.publishing.missing import MISSING_FILE, read_missing
from harness.records.record import Record
from harness.report.text import counted, one_line

NAMED = 8
"""So many missing rows are named in a review, and how many there are besides. The tables name all."""


def missing_rows(records: Sequence[Record], suite: ExpectedSuite) -> tuple[str, ...]:
    """The rows of a suite of which records lack some seeds or all, a line each; a detector that isn't there at all has one line.

    A detector from elsewhere owes what each of the suite's own has: all methods and seeds.
    """
    there = {(*row, record.identity.seed) for record in records for row in [row_of(record)]}
    owed: dict[str, dict[tuple[str, str], set[int]]] = defaultdict(lambda: defaultdict(set))
    for cell in suite.cells:
        one = cell.identity
        owed[one.detector][one.dataset, one.method].add(one.seed)
    everything: dict[tuple[str, str], set[int]] = defaultdict(set)
    for rows in owed.values():
        for row, seeds in rows.items():
            everything[row] |= seeds
    foreign = sorted({record.identity.detector for record in records} - owed.keys())
    lines = []
    for detector, rows in [*owed.items(), *((name, everything) for name in foreign)]:
        done = {key for key in there if key[0] == detector}
        if not done:
            lines.append(f"{plain(detector)}: no record of any of its {sum(map(len, rows.values()))} cells")
            continue
        for (dataset, method), seeds in rows.items():
            lacking = sorted(seed for seed in seeds if (detector, dataset, method, seed) not in done)
            if lacking:
                lines.append(f"{plain(detector)}, {method} on {dataset}: {no_record(lacking, len(seeds))}")
    return tuple(lines)


def plain(name: str) -> str:
    """A detector's name, which may be a stranger's, as it may stand in a line."""
    return one_line(name)[:60]


def row_of(record: Record) -> tuple[str, str, str]:
    """(detector, dataset, method) of a record."""
    return record.identity.detector, record.identity.dataset, record.identity.method


def what_is_left_out(records: Sequence[Record], suite: ExpectedSuite) -> list[str]:
    """What of the suite isn't in a submission: how many of its cells, and the rows by name, NAMED at most."""
    there = {(*row_of(record), record.identity.seed) for record in records}
    cells = [cell.identity for cell in suite.cells]
    done = sum((cell.detector, cell.dataset, cell.method, cell.seed) in there for cell in cells)
    rows = missing_rows(records, suite)
    part = [] if done == len(cells) else [f"part of the suite: {done} of {len(cells)} cells"]
    more = [f"missing: {len(rows) - NAMED} more rows, which its tables name"] if len(rows) > NAMED else []
    return [*part, *(f"missing: {row}" for row in rows[:NAMED]), *more]


def missing_faults(folder: Path, records: Sequence[Record], suite: ExpectedSuite) -> list[str]:
    """What a submission says that it lacks though it has it, or the suite doesn't ask for it."""
    try:
        stated = read_missing(folder)
    except InputError as error:
        return [str(error).replace(f"{folder}/", "")]
    rows = {row_told(line) for line in missing_rows(records, suite)}
    wrong = [line for line in stated if row_told(line) not in rows]
    told = f"{MISSING_FILE}: says {clipped(wrong[0])}, which isn't so" if wrong else ""
    return [f"{told}; `samiro-bench submit` writes it, and the tables with it"] if wrong else []


def missing_marks(folder: Path, records: Sequence[Record], suite: ExpectedSuite) -> list[str]:
    """A line if a submission's tables don't say of all rows that are missing that they are: left out, or asked for since."""
    stated = {row_told(line) for line in read_missing(folder)}
    silent = [line for line in missing_rows(records, suite) if row_told(line) not in stated]
    return [f"its tables don't say of {counted(len(silent), 'row')} that records are missing"] if silent else []


def row_told(line: str) -> str:
    """The row that a line of `missing_rows` is about."""
    return line.partition(": no record of ")[0]
