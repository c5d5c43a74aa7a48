"""What a pull request submits, taken out of git as data: nothing is checked out, no filter, hook or attribute of it has any effect."""

from __future__ import annotations

import re
import resource
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from harness.errors import InputError
from harness.publishing.quarantine import Bounds, misplaced, shown
from harness.publishing.statement import SLUG

UNDER = "results/submissions"
INDEX_PATH = f"{UNDER}/README.md"
_PATH = re.compile(rf"{UNDER}/([^/]+)/([^/]+)/.", re.DOTALL)
_SUITE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")

FILE_MODES = ("100644", "100755")
LINK_MODE = "120000"

GIT_BYTES = 64 << 20
GIT_MEMORY = 2 << 30
GIT_SECONDS = 120
"""What a git command may print, take and last: a tree of a few kilobytes can hold itself ten times over, ten levels deep."""


@dataclass(frozen=True)
class Submitting:
    """The submission that a pull request is about. replaces: whether the base branch has one of that name."""

    suite: str
    name: str
    replaces: bool = False

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


def replaces_mark(submission: Submitting) -> str:
    """What readers of a review have to know where an accepted submission is changed: git doesn't show whose it is."""
    return f"changes {submission.path}, which is there already: only whoever sent that may"


class Refused(Exception):
    """Why a pull request isn't one that submits; its lines."""

    def __init__(self, *reasons: str) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons


def git(repository: Path, *words: str) -> bytes:
    """What a git command prints. InputError if it fails, or needs more memory, time or output than a submission can."""
    with tempfile.TemporaryFile() as out:
        try:
            done = subprocess.run(
                ["git", *words],
                cwd=repository,
                stdout=out,
                stderr=subprocess.PIPE,
                timeout=GIT_SECONDS,
                preexec_fn=_bounded,
            )
        except subprocess.TimeoutExpired:
            raise InputError(f"git {words[0]}: not done within {GIT_SECONDS} seconds: {_TOO_MUCH}") from None
        if done.returncode == -signal.SIGXFSZ:
            raise InputError(f"git {words[0]}: prints more than {GIT_BYTES} bytes: {_TOO_MUCH}")
        if done.returncode != 0:
            raise InputError(f"git {words[0]}: {done.stderr.decode('utf-8', 'replace').strip()[:300]}")
        out.seek(0)
        return out.read()


_TOO_MUCH = "these commits hold more than a submission does"


def _bounded() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (GIT_BYTES, GIT_BYTES))
    resource.setrlimit(resource.RLIMIT_AS, (GIT_MEMORY, GIT_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


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

    Raises Refused if they touch anything else besides, or more than one, or if git could merge them in more than one way.
    """
    start = merge_base(repository, base, head)
    changed = git(repository, "diff", "--name-only", "--no-renames", "-z", "--end-of-options", start, head)
    names = [name.decode("utf-8", "surrogateescape") for name in changed.split(b"\0") if name]
    found = {match.groups() for name in names if (match := _PATH.match(name))}
    strays = [name for name in names if f"{name}/".startswith(f"{UNDER}/") and name != INDEX_PATH]
    if not found and not strays:
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
    made = Submitting(suite, name)
    return Submitting(suite, name, replaces=bool(entries_of(repository, base, made.path)))


def merge_base(repository: Path, base: str, head: str) -> str:
    """The commit at which `head` left `base`. Refused unless there is one: of several, each shows other changes than a merge makes."""
    try:
        found = git(repository, "merge-base", "--all", "--end-of-options", base, head).decode().split()
    except InputError:
        found = []
    if len(found) != 1:
        raise Refused(
            f"it and the base branch meet in {len(found)} commits instead of one, so what it changes isn't certain: rebase it"
        )
    return found[0]


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
        if path.exists():
            raise Refused(f"{shown(entry.name)}: is there twice")
        path.write_bytes(git(repository, "cat-file", "blob", entry.object_id))


def entry_fault(entry: Entry, bounds: Bounds) -> str | None:
    """What is wrong with an entry of a tree."""
    if entry.mode == LINK_MODE:
        return "a symbolic link, and a submission has none; take it away"
    if entry.mode not in FILE_MODES:
        return "no plain file; take it away"
    if entry.size > bounds.file_bytes:
        return f"{entry.size} bytes, and the limit is {bounds.file_bytes} a file"
    return misplaced(entry.name)
