"""What is looked at of a stranger's folder before anything in it is read: names, kinds, numbers and sizes.

Nothing is unpacked, followed or parsed here but the directories of archives, and YAML within bounds. Whoever finds nothing wrong knows
that reading the rest costs no more than `Bounds` says.
"""

from __future__ import annotations

import os
import re
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from harness.errors import InputError
from harness.files.arrays import RATIO, swollen
from harness.files.stored import read_bounded
from harness.files.yaml import parse_yaml
from harness.publishing.checksums import SUMS_FILE
from harness.publishing.missing import MISSING_FILE
from harness.publishing.statement import STATEMENT_FILE, SUITE_FILE
from harness.publishing.tables import TABLES
from harness.records.counts import AccuracyCounts, OverlapCounts

TOP = frozenset({STATEMENT_FILE, SUITE_FILE, SUMS_FILE, MISSING_FILE, *TABLES})
FOLDERS = {"records": (".json", ".counts.npz"), "predictions": (".npz",), "labels": (".npz",), "training": (".jsonl",)}
"""The folders of a submission and how the names of their files end."""

ARRAYS = {
    "records": frozenset(field.name for kind in (OverlapCounts, AccuracyCounts) for field in fields(kind)),
    "predictions": frozenset({"ids", "lanes", "points", "coordinates", "scores"}),
    "labels": frozenset({"facts", "names", "sizes", "content"}),
}
"""The arrays that archives in a folder may hold."""

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,199}")

YAML_LIMIT = 256 << 10
"""Bytes of a YAML file."""

YAML_NODES = 50_000
"""Nodes of a YAML file with its aliases written out: the largest suite has some hundreds."""

ARCHIVE_OVERHEAD = 512
"""Bytes beside the content that an archive may have for each array and for itself: names and headers take some 200."""


@dataclass(frozen=True)
class Bounds:
    """How much a submission may be. archive_bytes, unpacked_bytes: unpacked, of one archive and of all.

    seconds: of wall-clock time for its examination, None for any. memory_bytes: address space of the process that examines it.
    """

    files: int = 2_000
    file_bytes: int = 20 << 20
    total_bytes: int = 100 << 20
    archive_bytes: int = 128 << 20
    unpacked_bytes: int = 2 << 30
    seconds: int | None = 600
    memory_bytes: int = 6 << 30


def shown(name: str) -> str:
    """A stranger's name or text as a message shows it: quoted, escaped, and not long."""
    text = ascii(name)
    return text if len(text) <= 100 else f"{text[:97]}..."


def misplaced(name: str) -> str | None:
    """What is wrong with the path of a file in a submission, None if files may be called so."""
    parts = name.split("/")
    if len(parts) == 1:
        return None if name in TOP else "no part of a submission; take it away"
    ends = FOLDERS.get(parts[0])
    if ends is None or len(parts) > 2:
        return f"no part of a submission, which has the folders {', '.join(FOLDERS)} and none in them; take it away"
    if not NAME.fullmatch(parts[1]) or not parts[1].endswith(ends):
        return f"files in {parts[0]}/ have plain names that end in {' or '.join(ends)}; take it away"
    return None


def tree_faults(folder: Path, bounds: Bounds) -> list[str]:
    """What is wrong with the names, kinds, number and sizes of what lies in a folder; no file is opened and no link is followed."""
    if folder.is_symlink() or not folder.is_dir():
        return ["the submission is no folder"]
    faults: list[str] = []
    total = 0
    for number, (name, there) in enumerate(_entries(folder, ""), start=1):
        if number > bounds.files:
            return [*faults, f"more than {bounds.files} files and folders; submit fewer rows at a time"]
        fault = _fault(name, there, bounds)
        if fault:
            faults.append(f"{shown(name)}: {fault}")
        total += there.st_size
    if total > bounds.total_bytes:
        faults.append(
            f"{total} bytes in all, and the limit is {bounds.total_bytes}; submit fewer rows at a time (`--only`)"
        )
    return faults


def _fault(name: str, there: os.stat_result, bounds: Bounds) -> str | None:
    if stat.S_ISLNK(there.st_mode):
        return "a symbolic link, and a submission has none; take it away"
    if stat.S_ISDIR(there.st_mode):
        return None if name in FOLDERS else "no folder of a submission; take it away"
    if not stat.S_ISREG(there.st_mode):
        return "a pipe, a socket or a device; take it away"
    if there.st_nlink > 1:
        return "has a second name elsewhere (a hard link); put a copy in its place"
    if there.st_size > bounds.file_bytes:
        return f"{there.st_size} bytes, and the limit is {bounds.file_bytes} a file"
    return misplaced(name)


def _entries(folder: Path, before: str) -> Iterator[tuple[str, os.stat_result]]:
    """Everything in a folder and in its folders of known names, as paths, links not followed."""
    with os.scandir(folder) as found:
        for entry in found:
            name = f"{before}{entry.name}"
            there = entry.stat(follow_symlinks=False)
            yield name, there
            if stat.S_ISDIR(there.st_mode) and name in FOLDERS:
                yield from _entries(folder / entry.name, f"{name}/")


def archive_faults(folder: Path, bounds: Bounds) -> list[str]:
    """What is wrong with the directories of the archives in a submission whose tree is sound; nothing is unpacked."""
    faults, total = [], 0
    for kind, names in ARRAYS.items():
        for path in sorted((folder / kind).glob("*.npz")):
            try:
                total += _unpacked(path, names, bounds)
            except InputError as error:
                faults.append(f"{kind}/{path.name}: {error}")
    if total > bounds.unpacked_bytes:
        faults.append(f"its archives would unpack to {total} bytes, and the limit is {bounds.unpacked_bytes}")
    return faults


def _unpacked(path: Path, names: frozenset[str], bounds: Bounds) -> int:
    """How many bytes an archive says that it unpacks to. What it says is held against what it holds when it is read."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        raise InputError(f"not an archive of arrays ({' '.join(str(error).split())[:80]})") from None
    stored = path.stat().st_size
    found = [member.filename.removesuffix(".npy") for member in members]
    strange = next((name for name in found if name not in names), None)
    if strange is not None or len(set(found)) != len(found):
        told = "holds an array twice" if strange is None else f"holds {shown(strange)}, which no such archive does"
        raise InputError(f"{told}; pack it again with `samiro-bench submit`")
    hidden = stored - sum(member.compress_size for member in members)
    if hidden > ARCHIVE_OVERHEAD * (1 + len(members)):
        raise InputError(f"holds {hidden} bytes beside its arrays; pack it again with `samiro-bench submit`")
    size = sum(member.file_size for member in members)
    if size > bounds.archive_bytes or swollen(size, stored):
        raise InputError(
            f"would unpack from {stored} to {size} bytes; the limits are {bounds.archive_bytes} bytes and {RATIO} times its size"
        )
    return size


def read_strange_yaml(path: Path) -> Any:
    """Safe-load a stranger's YAML. InputError if it is large, also with its aliases written out, or no YAML."""
    return parse_yaml(read_bounded(path, YAML_LIMIT).decode("utf-8", "replace"), path, YAML_NODES)
