"""Whose a submission is: that of the sender whom its statement names. Nobody else takes its place."""

from __future__ import annotations

from pathlib import Path

from harness.errors import InputError
from harness.files.scratch import scratch_folder
from harness.publishing.examine import read_statement
from harness.publishing.pull_request import FILE_MODES, Submitting, entries_of, git
from harness.publishing.quarantine import YAML_LIMIT
from harness.publishing.statement import STATEMENT_FILE, Statement


def check_sender(target: Path, statement: Statement) -> None:
    """InputError if the submission that lies in `target` is somebody else's; one without a sound statement is nobody's."""
    try:
        before = read_statement(target)
    except InputError:
        return
    if (before.who, before.contact) != (statement.who, statement.contact):
        raise InputError(
            f"{target}: is there already, of {before.who!a}, {before.contact}; give another name with --as, or move it "
            "away if it is yours"
        )


def sender_fault(before: tuple[str, str] | None, who: str | None, contact: str | None) -> str | None:
    """What speaks against a change of a submission: it names another sender than the one that is there; None if it doesn't.

    before: `sender_of` the submission that is there. who, contact: as the changed one states them, None where that can't be read.
    """
    if before is None or None in (who, contact) or before == (who, contact):
        return None
    return (
        f"sender changed from {before[0]!a}, {before[1]} to {who!a}, {contact}: send it under a name of its own; if the sender "
        f"is the same, whoever keeps this repository asks {before[1]}, and merges it in spite of this"
    )


def sender_of(repository: Path, commit: str, submission: Submitting) -> tuple[str, str] | None:
    """Who and contact of a submission as a commit has it; None where its statement can't be read."""
    stated = [
        entry
        for entry in entries_of(repository, commit, submission.path)
        if entry.name == STATEMENT_FILE and entry.mode in FILE_MODES and entry.size <= YAML_LIMIT
    ]
    with scratch_folder() as place:
        for entry in stated[:1]:
            (place / STATEMENT_FILE).write_bytes(git(repository, "cat-file", "blob", entry.object_id))
        try:
            found = read_statement(place)
        except InputError:
            return None
    return found.who, found.contact
