"""What records a suite's cells have: those that are there, those that aren't, and what lies beside them. Looks at no phase."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter

from harness.cell.keys import records_folder
from harness.files.validation import read_stored_list
from harness.records.record import read_sound_records
from harness.report.arms import row_key, variants
from harness.suite import ScoredCell, Suite, tier_of


@dataclass(frozen=True)
class SuiteCells:
    """The cells of a suite (by its name) whose records make its leaderboard, and the folder that holds all results.

    tiers: the tier of each cell by its id, where the suite has tiers.
    """

    suite: str
    results: Path
    cells: tuple[ScoredCell, ...]
    tiers: Mapping[str, str] = field(default_factory=dict)

    @property
    def records(self) -> Path:
        """The folder of the suite's records and counts."""
        return records_folder(self.results, self.suite)


def expected_of(suite: Suite, results: Path, cells: tuple[ScoredCell, ...]) -> SuiteCells:
    """Some cells of a suite as what its leaderboard is made of."""
    tiers = ((cell.id, tier_of(suite, cell.identity)) for cell in cells)
    return SuiteCells(suite.name, results, cells, {cell: tier for cell, tier in tiers if tier is not None})


def record_paths(expected: SuiteCells) -> list[Path]:
    """Where the records of the cells lie that are there, sound or not."""
    there = file_names(expected.records)
    return [expected.records / name for name in (f"{cell.id}.json" for cell in expected.cells) if name in there]


def file_names(folder: Path) -> set[str]:
    """The names of all that lies in a folder, links to nothing included; none where there is no folder."""
    try:
        return set(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return set()


def strays(expected: SuiteCells) -> tuple[int, list[str]]:
    """How many sound records of other cells (other seeds or options) lie in the folder, and what is wrong with the other files.

    Among these are copies and renamed records, for a record's file is named by its id. The sound ones are left alone.
    """
    own = {f"{cell.id}.json" for cell in expected.cells}
    other_names = sorted(name for name in file_names(expected.records) - own if name.endswith(".json"))
    others, faults = read_sound_records(expected.records / name for name in other_names)
    return len(others), faults


OUTCOMES = TypeAdapter(dict[str, str])


def outcomes_file(results: Path, suite: str) -> Path:
    """Where a suite keeps how its jobs ended."""
    return results / suite / "outcomes.json"


def read_outcomes(results: Path, suite: str) -> dict[str, str]:
    """Job -> why it didn't end well when it last ran."""
    return (
        read_stored_list(outcomes_file(results, suite), OUTCOMES, "outcomes", "delete it, the next `bench` writes it")
        or {}
    )


def last_outcomes(results: Path, suite: str) -> dict[str, str]:
    """Job -> why it didn't end well when it last ran; a cell's time measurement counts as the cell."""
    return {job.removeprefix("time "): told for job, told in reversed(read_outcomes(results, suite).items())}


def failed_seeds(expected: SuiteCells) -> list[str]:
    """The cells without a record whose last run didn't end well, a line each with the reason."""
    outcomes, recorded = last_outcomes(expected.results, expected.suite), recorded_names(expected)
    return [
        f"{cell.identity.detector}, {cell.identity.method} on {cell.identity.dataset}, seed {cell.identity.seed}: "
        f"{outcomes[cell.id]}"
        for cell in expected.cells
        if cell.id in outcomes and cell.id not in recorded
    ]


def missing_seeds(expected: SuiteCells) -> list[str]:
    """The rows that lack records of some seeds or of all, a line each; `failed_seeds` tells those that ended badly.

    Variants of one name are rows of their own, and are told apart as the leaderboard tells them. Tiers that nobody has begun have
    a line each instead.
    """
    outcomes = last_outcomes(expected.results, expected.suite)
    return lacking_rows(expected, recorded_names(expected) | outcomes.keys())


def lacking_rows(expected: SuiteCells, there: Collection[str]) -> list[str]:
    """The rows that lack some seeds or all where the cells are there whose ids are in `there`; lines as of `missing_seeds`."""
    told_elsewhere = set(there)
    rows: dict[str, list[ScoredCell]] = defaultdict(list)
    tiers: dict[str, list[ScoredCell]] = defaultdict(list)
    for cell in expected.cells:
        rows[row_key(cell.identity)].append(cell)
        if cell.id in expected.tiers:
            tiers[expected.tiers[cell.id]].append(cell)
    untouched = {tier: cells for tier, cells in tiers.items() if not any(cell.id in told_elsewhere for cell in cells)}
    told_elsewhere |= {cell.id for cells in untouched.values() for cell in cells}
    names = variants([cells[0].identity for cells in rows.values()])
    lines = []
    for cells, variant in zip(rows.values(), names, strict=True):
        lacking = sorted(cell.identity.seed for cell in cells if cell.id not in told_elsewhere)
        if not lacking:
            continue
        identity = cells[0].identity
        row = f"{identity.detector}, {identity.method}{f' ({variant})' if variant else ''} on {identity.dataset}"
        lines.append(f"{row}: {no_record(lacking, len(cells))}")
    return [*lines, *(f"tier {tier}: no record of any of its {len(cells)} cells" for tier, cells in untouched.items())]


def recorded_names(expected: SuiteCells) -> set[str]:
    """The ids of the cells whose records are there, sound or not."""
    return {path.stem for path in record_paths(expected)}


def no_record(seeds: list[int], count: int) -> str:
    """What is said of a row that lacks the records of some seeds, ascending, of so many."""
    which = "any seed" if len(seeds) == count else f"seed{'s' if len(seeds) > 1 else ''} {listed(seeds)}"
    return f"no record of {which} of {count}"


def listed(seeds: list[int]) -> str:
    """Ascending numbers with runs of three and more as `first to last`."""
    runs: list[list[int]] = []
    for seed in seeds:
        if runs and seed == runs[-1][-1] + 1:
            runs[-1].append(seed)
        else:
            runs.append([seed])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)
