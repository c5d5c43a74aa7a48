"""What of its suite a publication doesn't have. Records alone don't tell: tables of chosen cells would look like those of the whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter

from harness.errors import InputError
from harness.files.stored import write_json
from harness.files.validation import read_stored_list
from harness.publishing.checksums import RESTORE

MISSING_FILE = "missing.json"
"""Of a publication of chosen cells; one of the whole suite has none."""

LIMIT = 4 << 20
"""Bytes: a line a row."""

LINES = TypeAdapter(tuple[str, ...])


def write_missing(folder: Path, lines: Sequence[str]) -> None:
    """Say in a new publication which rows of the suite it lacks; nothing where it lacks none."""
    if lines:
        write_json(folder / MISSING_FILE, list(lines))


def read_missing(folder: Path) -> tuple[str, ...]:
    """The rows of the suite that a publication says it lacks, a line each. InputError if it says so in no readable file."""
    path = folder / MISSING_FILE
    if path.is_symlink():
        raise InputError(f"{path}: a link, and a publication has none; {RESTORE}")
    return read_stored_list(path, LINES, "missing rows", RESTORE, LIMIT) or ()
