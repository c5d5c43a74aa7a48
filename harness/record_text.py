"""The text of a record: its version, and the hash that it carries of itself.

The hash stands on a line of its own, ` "content_sha256": "..."`, and is that of all the other lines, so that
`grep -v '^ "content_sha256"' RECORD | sha256sum` shows whether a record is as it was written. It finds accidents and careless
edits; whoever edits on purpose can hash again, and is found by scoring again (`harness.publishing.verify`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import InputError
from harness.files import read_bounded

SCHEMA_VERSION = 2
"""2 is 1 with `content_sha256`."""

RECORD_LIMIT = 8 << 20
"""Bytes. A record has some 25 kB: most of them the hashes of code."""

_HEAD = f'{{\n "schema_version": {SCHEMA_VERSION},\n'.encode()
_LINE = re.compile(rb'^ "content_sha256": "([0-9a-f]{64})",\n', re.MULTILINE)

MIGRATIONS: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = {
    1: lambda value: value | {"schema_version": 2},
}
"""Version -> what makes the next one of a record's value."""


@dataclass(frozen=True)
class RecordText:
    """body: the JSON of a record of this version, without its hash. fault: what is wrong with the hash, None if it is right.

    version: that of the file. One of version 1 has no hash, which is no fault.
    """

    body: bytes
    version: int
    fault: str | None


def with_hash(body: str) -> bytes:
    """The text of a record, indented by one space and with `schema_version` first, with its hash put in after that."""
    data = body.encode()
    assert data.startswith(_HEAD)
    line = f' "content_sha256": "{hashlib.sha256(data).hexdigest()}",\n'.encode()
    return _HEAD + line + data[len(_HEAD) :]


def read_text(path: Path) -> RecordText:
    """Read a record's file. Raises InputError, naming it, if it is too large, unreadable, no JSON object or of an unknown version."""
    try:
        data = read_bounded(path, RECORD_LIMIT)
        if data.startswith(_HEAD) and (line := _LINE.match(data, len(_HEAD))):
            body = data[: line.start()] + data[line.end() :]
            made = hashlib.sha256(body).hexdigest()
            recorded = line[1].decode()
            return RecordText(body, SCHEMA_VERSION, None if made == recorded else changed(recorded, made))
        return _migrated(json.loads(data.decode()), path)
    except (OSError, ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())
        raise InputError(
            f"{path}: not a readable record ({reason}); restore it or delete it and run `bench` again"
        ) from error


def changed(recorded: str, made: str) -> str:
    """What is said of a record that isn't as it was written."""
    return f"key 'content_sha256' says {recorded[:12]}, the rest of the file gives {made[:12]}: it was changed after it was written"


def _migrated(value: object, path: Path) -> RecordText:
    """A record of an older version, or one of this version that is laid out in another way than it is written."""
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    version = value.get("schema_version")
    if type(version) is not int or version not in (*MIGRATIONS, SCHEMA_VERSION):
        raise InputError(
            f"{path}: key 'schema_version' is {version!r}, this program reads {', '.join(map(str, MIGRATIONS))} and "
            f"{SCHEMA_VERSION}; use the version that wrote it, or move the file away and run `bench` again"
        )
    carried = value.pop("content_sha256", None)
    fault = None
    if version == SCHEMA_VERSION:
        told = (
            "no line for key 'content_sha256'"
            if carried is None
            else "not laid out as it was written, or key 'content_sha256' was changed"
        )
        fault = f"{told}, so that nothing shows whether it was changed"
    for number in range(version, SCHEMA_VERSION):
        value = MIGRATIONS[number](value)
    return RecordText(json.dumps(value).encode(), version, fault)
