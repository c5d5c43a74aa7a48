"""What a pull request submits, taken out of git as data: nothing is checked out, no filter, hook or attribute of it has any effect."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from harness.errors import InputError
from harness.publishing.quarantine import Bounds, misplaced, shown
from harness.publishing.statement import SLUG

UNDER = "results/submissions"
_PATH = re.compile(rf"{UNDER}/([^/]+)/([^/]+)/.")
_SUITE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")

FILE_MODES = ("100644", "100755")
LINK_MODE = "120000"


@dataclass(frozen=True)
class Submitting:
    """The submission that a pull request is about."""

    suite: str
    name: str

    @property
    def path(self) -> str:
        """Its folder in the repository."""
        return f"{UNDER}/{self.suite}/{self.name}"


@dataclass(frozen=True)
class Entry:
    """A file of a commit. name: its path inside the submission."""

    mode: str
    object_id: str
    size: int
    name: str


class Refused(Exception):
    """Why a pull request isn't one that submits; its lines."""

    def __init__(self, *reasons: str) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons


def git(repository: Path, *words: str) -> bytes:
    """What a git command prints. InputError if it fails."""
    done = subprocess.run(["git", *words], cwd=repository, capture_output=True)
    if done.returncode != 0:
        raise InputError(f"git {words[0]}: {done.stderr.decode('utf-8', 'replace').strip()[:300]}")
    return done.stdout


def commit_of(repository: Path, name: str) -> str:
    """The commit that a name stands for. InputError if there is none."""
    try:
        return (
            git(repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
            .decode()
            .strip()
        )
    except InputError:
        raise InputError(f"{name}: no commit of this repository; fetch it first") from None


def submitting(repository: Path, base: str, head: str) -> Submitting | None:
    """The submission that the commits from `base` to `head` add or change, None if they leave all submissions alone.

    Raises Refused if they touch anything else besides, or more than one.
    """
    changed = git(repository, "diff", "--name-only", "--no-renames", "-z", "--end-of-options", f"{base}...{head}")
    names = [name.decode("utf-8", "surrogateescape") for name in changed.split(b"\0") if name]
    found = {match.groups() for name in names if (match := _PATH.match(name))}
    if not found:
        return None
    others = [name for name in names if not _PATH.match(name)]
    if others:
        raise Refused(
            f"changes {shown(others[0])} besides a submission ({len(others)} such files): submissions come alone, so send the rest "
            "in another pull request"
        )
    if len(found) > 1:
        told = ", ".join(shown("/".join(pair)) for pair in sorted(found)[:5])
        raise Refused(f"changes {len(found)} submissions ({told}): send a pull request for each")
    ((suite, name),) = found
    if not _SUITE.fullmatch(suite) or not re.fullmatch(SLUG, name):
        raise Refused(
            f"{shown(f'{suite}/{name}')}: a submission lies in {UNDER}/SUITE/NAME, NAME of a to z, digits and hyphens"
        )
    return Submitting(suite, name)


def entries_of(repository: Path, commit: str, path: str) -> list[Entry]:
    """The files below a path of a commit."""
    listed = git(repository, "ls-tree", "-r", "-l", "-z", "--full-tree", "--end-of-options", commit, f"{path}/")
    found = []
    for line in listed.split(b"\0"):
        if line:
            facts, _, name = line.partition(b"\t")
            mode, _, object_id, size = facts.decode().split()
            inner = name.decode("utf-8", "surrogateescape").removeprefix(f"{path}/")
            found.append(Entry(mode, object_id, 0 if size == "-" else int(size), inner))
    return found


def extract(repository: Path, commit: str, submission: Submitting, folder: Path, bounds: Bounds) -> None:
    """Write the files of a submission as `commit` has them into `folder`, which is made; only their bytes are taken.

    Raises Refused if it is gone, or if one of its entries is no plain file of a submission, or there is more than the bounds allow.
    """
    entries = entries_of(repository, commit, submission.path)
    if not entries:
        raise Refused(f"deletes {submission.path}: whoever keeps this repository does that")
    if len(entries) > bounds.files:
        raise Refused(f"{len(entries)} files, and the limit is {bounds.files}; submit fewer rows at a time")
    faults = [f"{shown(entry.name)}: {fault}" for entry in entries if (fault := entry_fault(entry, bounds))]
    total = sum(entry.size for entry in entries)
    if total > bounds.total_bytes:
        faults.append(f"{total} bytes in all, and the limit is {bounds.total_bytes}; submit fewer rows at a time")
    if faults:
        raise Refused(*faults)
    for entry in entries:
        path = folder / entry.name
        path.parent.mkdir(parents=True, exist_ok=True)
        # A tree that was made by hand may hold a name twice.
        with open(path, "xb") as stream:
            stream.write(git(repository, "cat-file", "blob", entry.object_id))


def entry_fault(entry: Entry, bounds: Bounds) -> str | None:
    """What is wrong with an entry of a tree."""
    if entry.mode == LINK_MODE:
        return "a symbolic link, and a submission has none; take it away"
    if entry.mode not in FILE_MODES:
        return "no plain file; take it away"
    if entry.size > bounds.file_bytes:
        return f"{entry.size} bytes, and the limit is {bounds.file_bytes} a file"
    return misplaced(entry.name)
