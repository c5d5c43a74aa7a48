"""Which files there are, found by listing folders rather than by asking for each file: a full dataset takes a second."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from harness.datasets.doctor.sources import ARCHIVE_SUFFIXES

_DEEPEST = 8  # links may lead round in a circle


def entries(folder: Path) -> dict[str, bool]:
    """Name -> whether it is a folder, sorted; empty for a folder that isn't there. A link to nothing is a name like any other."""
    try:
        with os.scandir(folder) as found:
            return {entry.name: _is_folder(entry) for entry in sorted(found, key=lambda entry: entry.name)}
    except (FileNotFoundError, NotADirectoryError):
        return {}


def files_below(root: Path, folders: Iterable[str]) -> Iterator[str]:
    """The paths, relative to the root, of all files below some of its folders; links are followed, and no files if to nothing."""
    waiting = [(folder, 1) for folder in folders]
    while waiting:
        folder, depth = waiting.pop()
        try:
            found = os.scandir(root / folder)
        except (FileNotFoundError, NotADirectoryError):
            continue
        with found:
            for entry in found:
                path = f"{folder}/{entry.name}"
                if _is_folder(entry):
                    if depth < _DEEPEST:
                        waiting.append((path, depth + 1))
                elif not entry.is_symlink() or os.path.exists(entry.path):
                    yield path


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, say
        return False


def archives(folder: Path) -> list[str]:
    """The unopened archives in a folder."""
    return [name for name in entries(folder) if name.lower().endswith(ARCHIVE_SUFFIXES)]


def mangled(found: Iterable[str], expected: Iterable[str]) -> dict[str, str]:
    """Expected name -> the name that is there instead, different only in case."""
    there = set(found)
    by_lower = {name.lower(): name for name in there}
    return {name: by_lower[name.lower()] for name in expected if name not in there and name.lower() in by_lower}
