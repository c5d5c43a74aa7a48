"""What source files say, remembered by their content: parsing a hundred of them anew takes every command and every job a second.

The file lies in the user's cache folder, under the code of the parser and Python's version, and may be deleted at any time.
"""

from __future__ import annotations

import json
import platform
from contextlib import suppress
from functools import cache
from pathlib import Path

from harness.errors import InputError
from harness.files.stored import cache_folder, read_bounded, remembers, sha256_of_text, write_json

MOST = 4000
"""Sources that are remembered at most, a dozen states of the project's: with more the file begins anew."""

LIMIT = 1 << 24
"""Bytes of the file at most: several times what so many sources take."""

DIGITS = 64
"""Of a hash in hex."""

Said = tuple[str, tuple[str, ...]]
"""The hash of a source's code, and the modules that it imports."""


class KnownSources:
    """What sources say, by hashes of what they are; read from a file once, and written there by `keep`."""

    def __init__(self, path: Path) -> None:
        self._path, self._known, self._new = path, entries_of(path), dict[str, str]()

    def recall(self, key: str) -> Said | None:
        """What a source says; None where that isn't known."""
        digest, *imports = self._known.get(key, "").split(" ")
        return (digest, tuple(imports)) if len(digest) == DIGITS else None

    def add(self, key: str, said: Said) -> Said:
        """Remember what a source says; returns that."""
        digest, imports = said
        self._known[key] = self._new[key] = " ".join([digest, *imports])
        return said

    def keep(self) -> None:
        """Write what was added, beside what other processes wrote. A folder that can't be written costs time, nothing else."""
        if not self._new:
            return
        written = entries_of(self._path)
        kept = self._new if len(written) + len(self._new) > MOST else written | self._new
        with suppress(OSError, InputError, UnicodeError):  # the last where somebody put half a character into the file
            write_json(self._path, kept)
        self._new = {}


def entries_of(path: Path) -> dict[str, str]:
    """What a file of sources holds; nothing where it is missing, damaged, no file at all, or isn't to be used."""
    if not remembers():
        return {}
    with suppress(OSError, InputError, ValueError, RecursionError):
        found = json.loads(read_bounded(path, LIMIT))
        if isinstance(found, dict) and all(isinstance(text, str) for text in found.values()):
            return found
    return {}


def known_sources(parser: str) -> KnownSources | None:
    """The sources known to the parser with this code; None where nobody knows a cache folder, or nothing is to be remembered."""
    if not remembers():
        return None
    with suppress(InputError):
        return _of_file(cache_folder() / "sources" / f"{_parser_key(parser)}.json")
    return None


@cache
def _of_file(path: Path) -> KnownSources:
    return KnownSources(path)


@cache
def _parser_key(parser: str) -> str:
    return sha256_of_text(f"{platform.python_version()} {parser}")[:32]
