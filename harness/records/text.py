"""The text of a record: its version, and the hash that it carries of itself.

The hash stands on a line of its own, ` "content_sha256": "..."`, and is that of all the other lines, so that
`grep -v '^ "content_sha256"' RECORD | sha256sum` shows whether a record is as it was written. It finds accidents and careless
edits; whoever edits on purpose can hash again, and is found by scoring again (`harness.publishing.verify`).
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import InputError, mending, why_unread
from harness.files.stored import read_bounded

SCHEMA_VERSION = 2
"""2 is 1 with `content_sha256`; 1 isn't read, since nothing shows whether such a record was changed."""

RECORD_LIMIT = 8 << 20
"""Bytes. A record has some 25 kB: most of them the hashes of code."""

_HEAD = f'{{\n "schema_version": {SCHEMA_VERSION},\n'.encode()
_LINE = re.compile(rb'^ "content_sha256": "([0-9a-f]{64})",\n', re.MULTILINE)


@dataclass(frozen=True)
class RecordText:
    """body: the JSON of a record, without its hash. fault: what is wrong with the hash, None if it is right."""

    body: bytes
    fault: str | None


def with_hash(body: str) -> bytes:
    """The text of a record, indented by one space and with `schema_version` first, with its hash put in after that."""
    data = body.encode()
    assert data.startswith(_HEAD)
    line = f' "content_sha256": "{hashlib.sha256(data).hexdigest()}",\n'.encode()
    return _HEAD + line + data[len(_HEAD) :]


def read_text(path: Path) -> RecordText:
    """Read a record's file. Raises InputError, naming it, if it is too large, unreadable, no JSON object, of another version, or has a
    key twice.
    """
    try:
        data = read_bounded(path, RECORD_LIMIT)
        if data.startswith(_HEAD) and (line := _LINE.match(data, len(_HEAD))):
            body = data[: line.start()] + data[line.end() :]
            made = hashlib.sha256(body).hexdigest()
            recorded = line[1].decode()
            json.loads(body, object_pairs_hook=keys_once)
            return RecordText(body, None if made == recorded else changed(recorded, made))
        return _laid_out_otherwise(json.loads(data.decode(), object_pairs_hook=keys_once), path)
    except (OSError, ValueError, RecursionError) as error:
        what_to_do = mending(error, "restore it or delete it and run `bench` again")
        raise InputError(f"{path}: not a readable record ({why_unread(error)}); {what_to_do}") from error


def changed(recorded: str, made: str) -> str:
    """What is said of a record that isn't as it was written."""
    return f"key 'content_sha256' says {recorded[:12]}, the rest of the file gives {made[:12]}: it was changed after it was written"


def keys_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; ValueError if a key stands in it twice: readers don't agree on which of the values holds."""
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key {next(name for name in names if names.count(name) > 1)!r:.40} stands twice")
    return found


def _laid_out_otherwise(value: object, path: Path) -> RecordText:
    """What doesn't begin as a record is written: of another version, or without its hash."""
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    version = value.get("schema_version")
    if type(version) is int and version == 1:
        raise InputError(
            f"{path}: key 'schema_version' is 1: written before records carried a hash, so that nothing shows whether it was "
            "changed; run `bench` again, which makes the record again from the cell's phases"
        )
    if type(version) is not int or version != SCHEMA_VERSION:
        raise InputError(
            f"{path}: key 'schema_version' is {version!r:.40}, this program reads {SCHEMA_VERSION}; use the version that wrote "
            "it, or move the file away and run `bench` again"
        )
    carried = value.pop("content_sha256", None)
    told = (
        "no line for key 'content_sha256'"
        if carried is None
        else "not laid out as it was written, or key 'content_sha256' was changed"
    )
    return RecordText(json.dumps(value).encode(), f"{told}, so that nothing shows whether it was changed")
