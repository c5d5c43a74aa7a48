"""Which code made the rows of a submission, as its records state it: what a reader has to know of that, a line each.

Nothing of it refuses: the repository moves on, and honest rows come from older commits. What is stated can be made up as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.files.fingerprint import changed_files
from harness.publishing.expected import ExpectedSuite, cell_of, clipped
from harness.publishing.starts import pairs_of
from harness.records.record import Evaluation, Record, Submission
from harness.report.arms import arms_of
from harness.report.text import counted

NAMED = 3
"""So many files are named, and how many there are besides."""


OTHER = "made by other code than this repository has now, as rows of other commits are"


def code_marks(records: Sequence[Record], suite: ExpectedSuite) -> list[str]:
    """What is to be said of the code behind records, each of which is a cell of the suite."""
    return [*uncommitted(records), *unstated(records), *unlike_code(records), *older_code(records, suite)]


def uncommitted(records: Sequence[Record]) -> Iterator[str]:
    """Rows whose code is in no commit, or not known to be: made in an edited checkout, or outside of any."""
    edited = [record.id for record in records if (record.environment.commit or "").endswith("+")]
    if edited:
        yield f"made in an edited checkout (a commit with a +): {counted(len(edited), 'row')}, the first is {edited[0]}"
    nowhere = [record.id for record in records if not record.environment.commit]
    if nowhere:
        yield f"made outside a checkout of git: {counted(len(nowhere), 'row')}, the first is {nowhere[0]}"


def unstated(records: Sequence[Record]) -> Iterator[str]:
    """Rows that don't say of what code a phase was made whose results they have."""
    lacking = {record.id: found for record in records if (found := phases_without_code(record))}
    if lacking:
        name, phases = next(iter(lacking.items()))
        yield (
            f"no fingerprint of the code of {counted(len(lacking), 'row')}: the first is {name}, which lacks that of "
            f"{some(phases)}"
        )


def phases_without_code(record: Record) -> list[str]:
    """The phases whose results a record has and whose code it doesn't name."""
    everything: list[Evaluation | Submission] = [*record.evaluations, *record.submissions]
    scored = [part.name for part in everything]
    needed = {
        "train": record.training is not None,
        "threshold": record.training is not None and record.identity.confidence == "val-best",
        **{f"{kind}-{name}": True for name in scored for kind in ("predict", "score")},
        "time": bool(record.throughput),
    }
    return [phase for phase, made in needed.items() if made and not record.fingerprints.get(phase)]


def unlike_code(records: Sequence[Record]) -> Iterator[str]:
    """Rows that are compared, or averaged over, though unlike code made them: a step more in one arm's loop shows here.

    Looked at are the files that both records name: a method's own are those of one arm alone.
    """
    arms, _ = arms_of(records)
    pairs = list(pairs_of(records))
    seeds = [(other, arm.records[0]) for arm in arms for other in arm.records[1:]]
    for what, couples in (("the arms of a pair", pairs), ("seeds of a row", seeds)):
        told = [f"{one.id} and {other.id} in {found}" for one, other in couples if (found := first_unlike(one, other))]
        if told:
            yield f"unlike code made {what}, {counted(len(told), 'time')}: {told[0]}"
    commits = [couple for couple in pairs if couple[0].environment.commit != couple[1].environment.commit]
    if commits:
        one, other = commits[0]
        shown = " and ".join(clipped((record.environment.commit or "none")[:12]) for record in commits[0])
        yield (
            f"unlike commits made the arms of a pair, {counted(len(commits), 'time')}: {one.id} and {other.id}, {shown}"
        )


def first_unlike(one: Record, other: Record) -> str | None:
    """The files in which two records' code of the first unlike phase differs, and the phase; None where none does."""
    for phase, files in one.fingerprints.items():
        theirs = other.fingerprints.get(phase, {})
        unlike = sorted(name for name in files if name in theirs and files[name] != theirs[name])
        if unlike:
            return f"{some(unlike)} (phase {phase})"
    return None


def older_code(records: Sequence[Record], suite: ExpectedSuite) -> Iterator[str]:
    """How many files differ from this repository's of today, as those of an older commit do, and as edited ones would."""
    rows, files = 0, dict[str, None]()
    for record in records:
        cell, foreign = cell_of(record.identity, suite)
        names: list[str] = []
        for phase, digest in cell.code.items():
            stated, now = record.fingerprints.get(phase) or {}, suite.code[digest]
            # What a detector from elsewhere imports besides isn't known here.
            shared = {name: own for name, own in now.items() if name in stated} if foreign else now
            kept = {name: own for name, own in stated.items() if name in now} if foreign else stated
            names += changed_files(kept, shared) if stated else []
        rows += bool(names)
        files.update(dict.fromkeys(names))
    if files:
        yield (f"{OTHER}: {counted(rows, 'row')}, {counted(len(files), 'file')}: {some(sorted(files))}")


def some(names: Sequence[str]) -> str:
    """The first few names, escaped and not long, and how many there are besides; files of a training before all others."""
    ordered = sorted(names, key=lambda name: not name.startswith("harness/training/"))
    more = [f"{len(names) - NAMED} more"] if len(names) > NAMED else []
    return ", ".join([*(clipped(name)[1:-1] for name in ordered[:NAMED]), *more])
