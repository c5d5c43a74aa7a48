"""`submit`: finished rows of one's own runs, packed for a pull request. A submission is a publication without page and pictures."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.cell.keys import records_folder
from harness.errors import InputError
from harness.files.validation import validated
from harness.matrix.plan import CellState, Plan
from harness.matrix.recorded import failed_seeds
from harness.matrix.stale import outdated_by
from harness.publishing.checksums import write_sums
from harness.publishing.demands import demands_of
from harness.publishing.examine import statement_of
from harness.publishing.expected import ExpectedSuite, record_faults
from harness.publishing.incomplete import missing_rows, row_of
from harness.publishing.missing import write_missing
from harness.publishing.publish import board_of, check_target, fill_rows, replaced
from harness.publishing.quarantine import FOLDERS, TOP, Bounds
from harness.publishing.review import Review, review_as
from harness.publishing.senders import check_sender
from harness.publishing.statement import SLUG, SUITE_FILE, Statement, write_statement
from harness.records.record import Record, read_record, read_sound_records
from harness.report.text import counted

PARTS = frozenset({*TOP, *FOLDERS})


@dataclass(frozen=True)
class Submitted:
    """A submission that was packed. left_out: the ids of cells that aren't finished. not_taken: finished cells that aren't in it, a
    line for each reason. review: what CI will say of it.
    """

    folder: Path
    left_out: tuple[str, ...]
    not_taken: tuple[str, ...]
    review: Review

    @property
    def files(self) -> list[Path]:
        """Its files, in the order of their paths."""
        return sorted(path for path in self.folder.rglob("*") if path.is_file())


def submit(plan: Plan, name: str, who: str, contact: str, out: Path) -> Submitted:
    """Pack the finished cells of a plan into `out/<suite>/<name>`, which replaces an earlier submission there.

    InputError if the suite isn't one of this repository, or a cell isn't the repository's own; if a cell failed, is stale or has no
    sound record, or none is finished; if somebody else's submission lies there; if the name, or who and contact, aren't such; and if
    its review refuses what was packed.
    """
    if not re.fullmatch(SLUG, name):
        raise InputError(
            f"--as {name!r:.60}: give a name of 1 to 40 letters a to z, digits and hyphens, none at an end"
        )
    expected = demands_of(plan.suite.name)
    finished = finished_cells(plan)
    records = [
        read_record(records_folder(plan.results, plan.suite.name) / f"{state.cell.id}.json") for state in finished
    ]
    for record in records:
        faults, _ = record_faults(record, expected)
        if faults:
            raise InputError(
                f"{record.id}: {faults[0]}; rows are compared with those of suites/{plan.suite.name}.yaml, so run that"
            )
    made = {"suite": plan.suite.name, "name": name, "who": who, "contact": contact, **statement_of(records)}
    statement = validated(Statement, made, where="--who, --contact")
    target = out / plan.suite.name / name
    check_target(plan, target, PARTS)
    check_sender(target, statement)
    with replaced(target) as folder:
        pack(replace(plan, cells=finished), records, statement, missing_rows(records, expected), folder)
        found = review_as(plan.suite.name, name, folder, Bounds(seconds=None))
        if not found.accepted:
            raise InputError(f"not packed, for its review refuses it: {found.verdict.reasons[0]}")
    packed = {state.cell.id for state in finished}
    unfinished = tuple(cell.id for cell in plan.all_cells if cell.id not in packed)
    return Submitted(target, unfinished, tuple(not_taken(plan, records, expected)), found)


def finished_cells(plan: Plan) -> tuple[CellState, ...]:
    """The cells that are done and recorded. InputError if there is none, or if one failed or was made by other code."""
    failed = failed_seeds(plan.expected)
    stale = [(state.cell.id, why) for state in plan.cells if (why := outdated_by(plan, state))]
    without = "leave it out with --skip, and say so in the pull request"
    if failed:
        raise InputError(f"{counted(len(failed), 'cell')} failed: {failed[0]}; run `bench` again, or {without}")
    if stale:
        raise InputError(
            f"{counted(len(stale), 'stale cell')}: {stale[0][0]}: {stale[0][1]}; run `bench` again, or {without}"
        )
    finished = tuple(state for state in plan.cells if state.done and state.recorded)
    if not finished:
        raise InputError(f"{plan.suite.name}: no cell is finished below {plan.results}; run `bench` first")
    return finished


def not_taken(plan: Plan, packed: Sequence[Record], suite: ExpectedSuite) -> list[str]:
    """The finished cells of a suite that a submission doesn't take: a line for each reason, with how many and the first.

    Such are seeds beyond those that the suite has, cells of other options than its, and those that the choice leaves out.
    """
    done = {(*row_of(record), record.identity.seed) for record in packed}
    begun = {state.cell.id for state in plan.cells} | {cell.id for cell, _ in plan.unavailable}
    folder, own = records_folder(plan.results, plan.suite.name), {record.id for record in packed}
    others, _ = read_sound_records(path for path in sorted(folder.glob("*.json")) if path.stem not in own)
    first: dict[str, str] = {}
    times: Counter[str] = Counter()
    for record in others:
        if record.id in begun:
            continue  # a phase or its data is lacking: told as what isn't finished
        faults, _ = record_faults(record, suite)
        if not faults and (*row_of(record), record.identity.seed) in done:
            continue
        why = faults[0] if faults else "not among the cells that were chosen"
        first.setdefault(why, record.id)
        times[why] += 1
    return [f"{counted(times[why], 'cell')}: {why}; the first is {name}" for why, name in first.items()]


def pack(plan: Plan, records: Sequence[Record], statement: Statement, missing: Sequence[str], folder: Path) -> None:
    """Write a submission into a new folder. missing: the rows that it lacks, which its tables tell."""
    fill_rows(plan, records, board_of(plan, records, missing), folder)
    write_missing(folder, missing)
    shutil.copyfile(plan.suite.file, folder / SUITE_FILE)
    write_statement(folder, statement)
    write_sums(folder)
