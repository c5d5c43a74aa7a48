"""`verify`: whether a publication is what its predictions and labels give, down to the last digit.

Nothing is trained or fetched, and no pixel is rendered. Every row is scored again by the metric that its record names, the tables
are made again from the records, and every file is held against SHA256SUMS. What is wrong with one of them is told, and the rest is
looked at all the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from harness.errors import InputError, did_you_mean
from harness.files.scratch import scratch_folder
from harness.files.stored import sha256_of_json
from harness.publishing.agreement import disagreements
from harness.publishing.checksums import RESTORE, changed_files, read_sums
from harness.publishing.copies import copies
from harness.publishing.logs import absent_logs, late_logs, log_faults
from harness.publishing.missing import read_missing
from harness.publishing.oracles import several_weights
from harness.publishing.repeats import repeated_trainings
from harness.publishing.rescoring import (
    LabelSource,
    Outcome,
    check_counts,
    check_predictions,
    different_counts,
    different_scores,
    scored_again,
)
from harness.publishing.site import PAGE, page_of
from harness.publishing.starts import unlike_starts, unseen_starts
from harness.publishing.tables import write_tables
from harness.records.record import Evaluation, ReadRecord, Record, Submission, read_any_record
from harness.records.text import read_text
from harness.report.leaderboard import Leaderboard, leaderboard
from harness.report.published import read_published

SHOWN = 60
"""Characters of a line that differs which are shown, from shortly before the first that does."""

RUNS_FIX = re.compile(r"; [^;]*`bench`[^;]*$")
"""The end of a message that says how the files of a run are mended."""


@dataclass(frozen=True)
class Checked:
    """A row, a table or a file, and what was found. evaluation: of a row, else empty. told: what differs, or why it is unverified."""

    name: str
    evaluation: str
    outcome: Outcome
    told: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verification:
    """Everything that was looked at. rows: every evaluation of every record. tables: those made again. files: only those at fault.

    marks: what a reader should know though nothing differs, a line each: copies, trainings under several names, pairs whose trainings
    began unlike each other or where that can't be seen, trainings without a log or with one that was cut, and oracles of several
    weights.
    """

    rows: tuple[Checked, ...]
    tables: tuple[Checked, ...]
    files: tuple[Checked, ...]
    marks: tuple[str, ...]

    @property
    def sound(self) -> bool:
        """Whether nothing differs; a row whose labels aren't at hand doesn't."""
        return not any(checked.outcome == "differs" for checked in (*self.rows, *self.tables, *self.files))


def verify(folder: Path) -> Verification:
    """Verify the publication in a folder. InputError if there is none."""
    published = sorted(path.parent.name for path in folder.parent.glob("*/records"))
    if not folder.is_dir() and published:
        raise InputError(f"{folder}: no publication is called {folder.name!r}: {did_you_mean(folder.name, published)}")
    if not (folder / "records").is_dir():
        raise InputError(f"{folder}: no publication: it has no folder records/; `publish` makes one")
    files = checked_files(folder)
    linked = links(folder)
    rows: list[Checked] = []
    records: list[Record] = []
    unread: list[str] = []
    with LabelSource(folder) as labels:
        for path in sorted((folder / "records").glob("*.json")) if "records" not in linked else ():
            try:
                if f"records/{path.name}" in linked:
                    raise InputError(f"{path}: no plain file")
                read = read_any_record(path)
            except InputError as error:
                rows.append(Checked(path.stem, "", "differs", (inside(folder, str(error)),)))
                unread.append(path.name)
                continue
            records.append(read.record)
            rows += rows_of(folder, path, read, labels)
    began = (inside(folder, line) for line in unlike_starts(folder, records))
    marks = (
        *copies(records, {}),
        *repeated_trainings(folder, records),
        *began,
        *absent_logs(folder, records),
        *late_logs(folder, records),
        *unseen_starts(folder, records),
        *several_weights(records),
    )
    return Verification(tuple(rows), checked_tables(folder, records, unread), files, marks)


def links(folder: Path) -> set[str]:
    """The links below a folder, as paths in it."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink()}


def inside(folder: Path, text: str) -> str:
    """A message without the folder's own path, and with the fix of a publication where it has that of a run."""
    return RUNS_FIX.sub(f"; {RESTORE}", text.replace(f"{folder}/", ""))


def checked_files(folder: Path) -> tuple[Checked, ...]:
    """What is wrong with files beside SHA256SUMS; only those at fault."""
    try:
        stated = read_sums(folder)
    except InputError as error:
        return (Checked("SHA256SUMS", "", "differs", (inside(folder, str(error)),)),)
    return tuple(Checked(name, "", "differs", (fault,)) for name, fault in changed_files(folder, stated).items())


def rows_of(folder: Path, path: Path, read: ReadRecord, labels: LabelSource) -> Iterator[Checked]:
    """Every evaluation and submission of a record, checked."""
    record = read.record
    of_training = (*disagreements(record), *log_faults(folder, record))
    about = [*record_faults(path, read), *(inside(folder, line) for line in of_training)]
    if not record.evaluations and not record.submissions:
        about.append("neither evaluations nor submissions are in it: it shows nothing that could be verified")
        yield Checked(path.stem, "", "differs", tuple(about))
    if record.id != path.stem:
        yield Checked(path.stem, "", "differs", tuple(about))
        return
    for evaluation in record.evaluations:
        told, absent = row_faults(folder, record, evaluation, labels)
        told = [*about, *(inside(folder, line) for line in told)]
        outcome: Outcome = "differs" if told else "unverified" if absent else "verified"
        yield Checked(record.id, evaluation.name, outcome, tuple(told or ([absent] if absent else [])))
    for submission in record.submissions:
        yield submission_row(folder, record, submission, about)


def record_faults(path: Path, read: ReadRecord) -> list[str]:
    """What is wrong with a record whatever it scored."""
    faults = [] if read.fault is None else [read.fault]
    identity = json.loads(read_text(path).body)["identity"]
    made = sha256_of_json(identity)[:10]
    if read.record.id.rpartition("-")[2] != made:
        faults.append(f"key 'identity' gives an id that ends in {made}, not in {read.record.id.rpartition('-')[2]}")
    rendered = read.record.identity.dataset_key.get("rendered")
    everything: list[Evaluation | Submission] = [*read.record.evaluations, *read.record.submissions]
    for shown in everything:
        if rendered is not None and shown.dataset == read.record.identity.dataset and shown.dataset_sha256 != rendered:
            faults.append(f"key '{shown.name}': 'dataset_sha256' isn't the 'dataset_key' of the identity")
    return faults


def row_faults(
    folder: Path, record: Record, evaluation: Evaluation, labels: LabelSource
) -> tuple[list[str], str | None]:
    """All that is wrong with a row, a line each; and why it is unverified all the same, None if it isn't."""
    counts, told = check_counts(folder, record, evaluation)
    if counts is not None:
        told += different_scores(evaluation, counts, "its counts give")
    try:
        ids, lanes = check_predictions(folder, record, evaluation)
    except InputError as error:
        return [*told, str(error)], None
    try:
        source = labels.of(record, evaluation)
        if source.dataset is None:
            if counts is not None and counts.image.tolist() != ids:
                told.append("the archived predictions are of other images than the counts, or in another order")
            return told, source.doubt
        made = scored_again(source.dataset, evaluation, ids, lanes, labels.predictions(source.dataset))
    except InputError as error:
        return [*told, str(error)], None
    if counts is not None:
        told += different_counts(counts, made)
    return [*told, *different_scores(evaluation, made, "re-scored")], source.doubt


def submission_row(folder: Path, record: Record, submission: Submission, about: list[str]) -> Checked:
    """Predictions whose labels only a server has: the archive can be held against the record, no more."""
    told = list(about)
    try:
        check_predictions(folder, record, submission)
    except InputError as error:
        told.append(inside(folder, str(error)))
    if told:
        return Checked(record.id, submission.name, "differs", tuple(told))
    return Checked(record.id, submission.name, "unverified", (f"{submission.why}: predictions checked",))


def checked_tables(folder: Path, records: list[Record], unread: list[str]) -> tuple[Checked, ...]:
    """The tables made again from the published records and counts, each held against the published one byte by byte.

    unread: the files of records that couldn't be read.
    """
    try:
        board = leaderboard(records, folder / "records", read_published(), missing=read_missing(folder))
    except InputError as error:
        return (Checked("leaderboard", "", "differs", (inside(folder, str(error)),)),)
    with scratch_folder() as place:
        tables = write_tables(place, board)
        lacking = (*(f"{name} can't be read" for name in unread), *(inside(folder, line) for line in board.left_out))
        return (
            *(checked_table(folder / made.name, made, lacking) for made in tables),
            *checked_page(folder, board, lacking),
        )


def checked_page(folder: Path, board: Leaderboard, left_out: tuple[str, ...]) -> tuple[Checked, ...]:
    """The page made again, of a publication that has one; its pictures and figures are only held against SHA256SUMS."""
    if not (folder / PAGE).exists():
        return ()
    with scratch_folder() as place:
        made = place / Path(PAGE).name
        try:
            made.write_text(page_of(folder, board), encoding="utf-8")
        except InputError as error:
            return (Checked(PAGE, "", "differs", (inside(folder, str(error)),)),)
        return (replace(checked_table(folder / PAGE, made, left_out), name=PAGE),)


def checked_table(published: Path, made: Path, left_out: tuple[str, ...]) -> Checked:
    """One table beside what the records give."""
    if published.is_symlink() or not published.is_file():
        return Checked(published.name, "", "differs", (f"missing, or no plain file; {RESTORE}",))
    one, other = published.read_bytes(), made.read_bytes()
    if one == other:
        return Checked(published.name, "", "verified")
    if left_out:
        # It differs by all that rests on those records; the faults themselves are told with the rows.
        return Checked(published.name, "", "differs", (f"made without what can't be used: {'; '.join(left_out)}",))
    return Checked(published.name, "", "differs", (first_difference(one, other),))


def first_difference(published: bytes, made: bytes) -> str:
    """Where two texts part: the line, and both from shortly before the first character that differs."""
    one, other = (text.decode("utf-8", "replace").split("\n") for text in (published, made))
    number = next((at for at, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), None)
    if number is None:
        return f"{len(one) - 1} lines, made again from the records {len(other) - 1}"
    left, right = one[number], other[number]
    at = next((place for place, pair in enumerate(zip(left, right, strict=False)) if pair[0] != pair[1]), 0)
    start = max(0, at - SHOWN // 3)
    shown = [repr(text[start : start + SHOWN]) for text in (left, right)]
    return f"line {number + 1}: published {shown[0]}, made again from the records {shown[1]}"
