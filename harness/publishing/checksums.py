"""SHA256SUMS of a publication: the hash of every file in it, in the form that `sha256sum --check` reads.

It finds accidents and careless edits. Whoever edits on purpose can hash again.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from harness.errors import InputError
from harness.files.stored import read_bounded, sha256_of_file, write_text

SUMS_FILE = "SHA256SUMS"

RESTORE = "restore it from version control, or publish again"
"""What mends any fault of a publication."""

SUMS_LIMIT = 64 << 20
"""Bytes: some 500,000 files."""

_LINE = re.compile(r"([0-9a-f]{64}) [ *](\S.*)")


def files_of(folder: Path) -> Iterator[tuple[str, str | None]]:
    """Every file below a folder as its path in it, sorted, and what is wrong with what is no plain file; links are never followed."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        mode = entry.stat(follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode):
            for name, fault in files_of(folder / entry.name):
                yield f"{entry.name}/{name}", fault
        elif stat.S_ISREG(mode):
            yield entry.name, None
        else:
            yield entry.name, "a link, and a publication has none" if stat.S_ISLNK(mode) else "a pipe or a device"


def write_sums(folder: Path) -> None:
    """Write SHA256SUMS of everything else in a publication. InputError on anything that is no plain file."""
    lines = []
    for name, fault in files_of(folder):
        if fault:
            raise InputError(f"{folder / name}: {fault}; take it away")
        if name != SUMS_FILE:
            lines.append(f"{sha256_of_file(folder / name)}  {name}\n")
    write_text(folder / SUMS_FILE, "".join(lines))


def read_sums(folder: Path) -> dict[str, str]:
    """File -> sha256 as SHA256SUMS states it. InputError if it is missing or has a line of another form."""
    path = folder / SUMS_FILE
    try:
        lines = read_bounded(path, SUMS_LIMIT).decode().splitlines()
    except FileNotFoundError:
        raise InputError(f"{path}: missing, so that nothing shows whether files were changed; {RESTORE}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: can't be read ({error}); {RESTORE}") from None
    found = {}
    for number, line in enumerate(lines, start=1):
        match = _LINE.fullmatch(line)
        if not match or match[2] in found:
            raise InputError(f"{path}:{number}: not `<sha256>  <file>` of a file of its own; {RESTORE}")
        found[match[2]] = match[1]
    return found


def changed_files(folder: Path, stated: Mapping[str, str]) -> dict[str, str]:
    """File -> what is wrong with it beside SHA256SUMS: changed, missing, not listed, or no plain file. In the order of names."""
    wrong = {}
    seen = set()
    for name, fault in files_of(folder):
        seen.add(name)
        if fault:
            wrong[name] = fault
        elif name == SUMS_FILE:
            continue
        elif name not in stated:
            wrong[name] = f"not listed in {SUMS_FILE}"
        else:
            try:
                made = sha256_of_file(folder / name)
            except OSError as error:
                wrong[name] = f"can't be read ({error.strerror})"
                continue
            if made != stated[name]:
                wrong[name] = f"{SUMS_FILE} says {stated[name][:12]}, the file gives {made[:12]}: it was changed"
    wrong |= {name: f"missing, though {SUMS_FILE} lists it" for name in stated if name not in seen}
    return dict(sorted(wrong.items()))
