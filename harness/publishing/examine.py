"""A stranger's submission, examined: everything in it is data, and nothing of it is ever imported, unpickled or followed.

`python -m harness.publishing.examine` does it in a process of its own, with bounded memory; `harness.publishing.review` starts it and
bounds its time. Neither torch nor a detector is loaded.
"""

from __future__ import annotations

import resource
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from pydantic import Field, ValidationError

from harness.errors import InputError
from harness.files.validation import plain_complaint
from harness.publishing.code import code_marks
from harness.publishing.copies import Known, copies
from harness.publishing.expected import ExpectedSuite, clipped, differing, record_faults, unlike
from harness.publishing.incomplete import missing_faults, missing_marks, what_is_left_out
from harness.publishing.labels import labels_name, unpack_labels
from harness.publishing.logs import TRAINING
from harness.publishing.quarantine import Bounds, archive_faults, read_strange_yaml, shown, tree_faults
from harness.publishing.statement import STATEMENT_FILE, SUITE_FILE, Statement
from harness.publishing.verify import Checked, inside, verify
from harness.records.counts import Stored
from harness.records.record import Evaluation, Record, Submission, read_record
from harness.report.arms import arms_of, why_no_baseline
from harness.report.text import one_line

REASONS = 30
"""So many reasons are told, and how many there are besides."""

LONGEST = 300
"""Characters of a reason."""


class Task(Stored):
    """What the examining process is asked. known: predictions of others; places: when archives of its own came to the branch
    (`harness.publishing.copies`).
    """

    folder: str
    name: str
    expected: ExpectedSuite
    bounds: Bounds
    known: dict[str, Known] = Field(default={})
    places: dict[str, int] = Field(default={})


class Verdict(Stored):
    """What an examination came to. reasons: why it is refused, none if it is accepted. marks: what readers have to know
    of accepted rows.

    rows, verified: evaluations, and how many of them were scored again. who, contact: as stated, None if that couldn't be read.
    """

    reasons: tuple[str, ...]
    marks: tuple[str, ...] = ()
    rows: int = 0
    verified: int = 0
    who: str | None = None
    contact: str | None = None


def examine(
    folder: Path,
    name: str,
    suite: ExpectedSuite,
    bounds: Bounds,
    known: Mapping[str, Known] = MappingProxyType({}),
    places: Mapping[str, int] = MappingProxyType({}),
) -> Verdict:
    """Examine the submission `name` to a suite. Each step presumes that those before it found nothing wrong.

    known: predictions of others, of which copies are marked. places: when its own archives came, of those that came already.
    """
    reasons = tree_faults(folder, bounds) or archive_faults(folder, bounds)
    if reasons:
        return refused(reasons)
    try:
        statement = read_statement(folder)
        suite_faults(folder)
    except InputError as error:
        return refused([inside(folder, str(error))])
    who, contact = statement.who, statement.contact
    records, reasons = read_all(folder)
    reasons = reasons or statement_faults(statement, name, suite, records)
    marks: list[str] = []
    for record in records if not reasons else ():
        faults, found = record_faults(record, suite)
        reasons += [f"records/{record.id}.json: {fault}" for fault in faults]
        marks += found
    reasons = reasons or arms_of(records)[1] or stray_files(folder, records, suite)
    reasons = reasons or [*label_faults(folder, suite), *missing_faults(folder, records, suite)]
    if reasons:
        return refused(reasons, who, contact)
    found_rows = verify(folder)
    reasons = [told for checked in (*found_rows.rows, *found_rows.files) for told in differences(checked)]
    by_tables = [told for checked in found_rows.tables for told in differences(checked)]
    if by_tables and not reasons:
        again = f"samiro-bench publish results/submissions/{suite.name}/{name} --tables"
        by_tables.insert(0, f"its rows are sound, but not its tables; if another version packed it: `{again}`")
    reasons += by_tables
    if reasons:
        return refused(reasons, who, contact)
    unverified = [row.told[0] for row in found_rows.rows if row.outcome == "unverified"]
    unscored = [f"{count} unverified here: {told}" for told, count in Counter(unverified).items()]
    # Those of which there can be as many as a submission has rows come last: so many are told, and no flood hides a copy.
    first = [*copies(records, known, places), *code_marks(records, suite), *what_is_left_out(records, suite)]
    first += missing_marks(folder, records, suite)
    marks = [*first, *unscored, *found_rows.marks, *marks, *unlike_recipes(records)]
    return Verdict(
        reasons=(),
        marks=tuple(told_of([*dict.fromkeys(marks)])),
        rows=len(found_rows.rows),
        verified=len(found_rows.rows) - len(unverified),
        who=who,
        contact=contact,
    )


def refused(reasons: Sequence[str], who: str | None = None, contact: str | None = None) -> Verdict:
    """The verdict on a submission with faults."""
    return Verdict(reasons=tuple(told_of(reasons)), who=who, contact=contact)


def told_of(lines: Sequence[str]) -> list[str]:
    """Strangers' lines as they may be shown: each one line of bounded length, and not too many of them."""
    more = [f"and {len(lines) - REASONS} more"] if len(lines) > REASONS else []
    plain = (one_line(line) for line in lines[:REASONS])
    return [line if len(line) <= LONGEST else f"{line[: LONGEST - 3]}..." for line in plain] + more


def differences(checked: Checked) -> list[str]:
    """What differs in a row, a table or a file; none where nothing does."""
    if checked.outcome != "differs":
        return []
    name = f"{checked.name}, {checked.evaluation}" if checked.evaluation else checked.name
    return [f"{name}: {told}" for told in checked.told]


def read_statement(folder: Path) -> Statement:
    """The statement of a submission. InputError if it is missing, or says something else than a statement does."""
    path = folder / STATEMENT_FILE
    try:
        return Statement.model_validate(read_strange_yaml(path))
    except FileNotFoundError:
        raise InputError(f"{path} is missing; `samiro-bench submit` writes it") from None
    except ValidationError as error:
        raise InputError(f"{path}: {plain_complaint(error)}; `samiro-bench submit` writes it") from None


def suite_faults(folder: Path) -> None:
    """InputError unless the suite's file is there and a mapping; no figure rests on it, and none of it is used."""
    path = folder / SUITE_FILE
    try:
        value = read_strange_yaml(path)
    except FileNotFoundError:
        raise InputError(f"{path} is missing; `samiro-bench submit` writes it") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: a suite is a mapping")


def read_all(folder: Path) -> tuple[list[Record], list[str]]:
    """The records that can be read, and what is wrong with the others."""
    records, faults = [], []
    for path in sorted((folder / "records").glob("*.json")):
        try:
            records.append(read_record(path))
        except InputError as error:
            faults.append(inside(folder, str(error)))
    return records, faults if records or faults else ["there is no record in records/"]


def statement_faults(statement: Statement, name: str, suite: ExpectedSuite, records: Sequence[Record]) -> list[str]:
    """What the statement says that isn't so."""
    made = statement_of(records)
    so = {"suite": suite.name, "name": name, **made}
    return [
        f"{STATEMENT_FILE}: key '{key}' is {clipped(getattr(statement, key))}, and it is {clipped(value)}"
        for key, value in so.items()
        if getattr(statement, key) != value
    ]


def statement_of(records: Sequence[Record]) -> dict[str, object]:
    """What a statement says of records."""
    return {
        "record_version": max(record.schema_version for record in records),
        "metrics": tuple(sorted({evaluation.metric for record in records for evaluation in record.evaluations})),
        "commits": tuple(sorted({record.environment.commit for record in records}, key=str)),
        "cells": len(records),
    }


def stray_files(folder: Path, records: Sequence[Record], suite: ExpectedSuite) -> list[str]:
    """The files that no record accounts for, and those that records need and that aren't there; logs of trainings may be missing."""
    needed, allowed = set(), set()
    for record in records:
        needed.add(f"records/{record.id}.json")
        allowed.add(f"{TRAINING}/{record.id}.jsonl")
        everything: list[Evaluation | Submission] = [*record.evaluations, *record.submissions]
        needed |= {f"predictions/{record.id}.{one.name}.npz" for one in everything}
        for evaluation in record.evaluations:
            needed.add(f"records/{record.id}.{evaluation.name}.counts.npz")
            labels = labels_name(evaluation.dataset, evaluation.split, evaluation.dataset_sha256)
            needed |= {f"labels/{labels}"} if labels in suite.labels else set()
    there = {path.relative_to(folder).as_posix() for path in folder.glob("*/*")}
    return [
        *(f"{shown(name)}: no record needs it; take it away" for name in sorted(there - needed - allowed)),
        *(f"{shown(name)}: missing, though a record needs it" for name in sorted(needed - there)),
    ]


def label_faults(folder: Path, suite: ExpectedSuite) -> Iterator[str]:
    """Archived labels whose specification isn't the suite's own, from which they are made again when rows are scored."""
    for path in sorted((folder / "labels").glob("*.npz")):
        try:
            facts, expected = unpack_labels(path).facts, suite.labels[path.name]
        except InputError as error:
            yield inside(folder, str(error))
            continue
        for key, one, other in differing(facts.model_dump(mode="json"), expected.model_dump(mode="json")):
            yield f"labels/{path.name}: {unlike(key, one, other)}"


def unlike_recipes(records: Sequence[Record]) -> Iterator[str]:
    """A line for each row by a method that nothing can be compared to, as the baseline that is there was made otherwise."""
    arms, _ = arms_of(records)
    for arm in arms:
        unlike = None if arm.is_baseline else why_no_baseline(arm, arms)
        if unlike is not None:
            yield f"{arm.name}: no gain, because its baseline has other keys: {unlike}"


def limit(what: int, amount: int) -> None:
    """Lower a limit of this process, unless it is lower already."""
    hard = resource.getrlimit(what)[1]
    least = amount if hard == resource.RLIM_INFINITY else min(amount, hard)
    resource.setrlimit(what, (least, least))


def main(read: Callable[[], str] = sys.stdin.read) -> int:
    """Examine what the task on standard input names, and print the verdict as one line of JSON."""
    task = Task.model_validate_json(read())
    limit(resource.RLIMIT_AS, task.bounds.memory_bytes)
    limit(resource.RLIMIT_FSIZE, task.bounds.unpacked_bytes)
    limit(resource.RLIMIT_CORE, 0)
    verdict = examine(Path(task.folder), task.name, task.expected, task.bounds, task.known, task.places)
    print(verdict.model_dump_json())
    return 0


if __name__ == "__main__":
    sys.exit(main())
