"""Finds a repository's checkout on this machine and says which commit it is at."""

from __future__ import annotations

import hashlib
import os
import subprocess
import warnings
from dataclasses import dataclass
from pathlib import Path

from detectors.upstream.repositories import REPOSITORIES
from harness.errors import InputError, InputWarning
from harness.files.stored import cache_folder, expanded, sha256_of_json

VARIABLE = "SAMIRO_BENCH_UPSTREAM"
"""The environment variable that names a folder of checkouts, each called as its repository."""


@dataclass(frozen=True)
class Commit:
    """What a checkout is at. modified: files that git tracks differ from that commit."""

    sha: str
    modified: bool

    def __str__(self) -> str:
        return f"{self.sha[:12]}{' with local changes' if self.modified else ''}"


def find_checkout(folder: Path, repository: str) -> Path:
    """The checkout of a repository: `folder` itself, or the folder in it that has the repository's name. InputError without."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; {_advice(repository)}")
    below = folder / repository
    return (below if below.is_dir() else folder).resolve()


def cached_checkout(repository: str) -> Path:
    """Where `detectors fetch` puts a checkout. It may not be there."""
    return cache_folder() / "upstream" / repository


def known_checkout(repository: str) -> Path:
    """A repository's checkout below SAMIRO_BENCH_UPSTREAM, else in the cache. InputError, with the ways to one, where there is none,
    and where that variable names no folder.
    """
    folder = named_folder()
    named = [] if folder is None else [folder / repository]
    for checkout in (*named, cached_checkout(repository)):
        if checkout.is_dir():
            return checkout.resolve()
    where = f"{named[0]} isn't there ({VARIABLE}), and neither is" if named else "there is no"
    itself = "; that folder is a checkout itself: name the one that it lies in" if folder and is_clone(folder) else ""
    raise InputError(
        f"no checkout of {repository}: {where} {cached_checkout(repository)}; `samiro-bench detectors fetch {repository}` "
        f"makes that one, or set {VARIABLE} to a folder that has a checkout called {repository}{itself}"
    )


def named_folder() -> Path | None:
    """The folder that SAMIRO_BENCH_UPSTREAM names, None where it isn't set. InputError where it names none."""
    named = os.environ.get(VARIABLE, "")
    if not named:
        return None
    folder = expanded(named)
    if not folder.is_dir():
        raise InputError(f"{VARIABLE}: {folder} is no folder; name one that holds checkouts, or unset it")
    return folder


def is_clone(folder: Path) -> bool:
    """Whether a folder is a clone of a repository, by what lies in it; a submodule's or work tree's .git is a file."""
    return (folder / ".git").exists()


def origin_of(repository: str) -> dict[str, str]:
    """What a cell's identity says of a checkout whose code it runs: repository, commit, and a hash of local changes if any.

    InputError where there is no checkout, or one without a commit: what ran could never be said. An InputWarning where it isn't,
    unchanged, the commit that is known.
    """
    checkout = known_checkout(repository)
    commit = commit_of(checkout)
    if commit is None:
        if is_clone(checkout):
            raise InputError(f"{checkout}: git can't say at which commit it is ({_refusal(checkout)}); mend that")
        raise InputError(f"{checkout}: no git checkout, so nobody could say which code ran; {_advice(repository)}")
    _warn_of_another(checkout, commit, repository)
    found = {"repository": repository, "commit": commit.sha}
    changes = changed_files(checkout) if commit.modified else {}
    if changes:
        found["changes"] = sha256_of_json(changes)
    return found


def commit_of(checkout: Path) -> Commit | None:
    """The commit of a git checkout; None where the folder is no git checkout of its own, as an unpacked archive."""
    top = _git(checkout, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != checkout.resolve():
        return None
    sha, changes = _git(checkout, "rev-parse", "HEAD"), _git(checkout, "status", "--porcelain", "--untracked-files=no")
    return None if sha is None or changes is None else Commit(sha, modified=bool(changes))


def checked_commit(checkout: Path, repository: str) -> Commit | None:
    """`commit_of`, with an InputWarning where it isn't, unchanged, the commit that this project's facts were taken from."""
    commit = commit_of(checkout)
    _warn_of_another(checkout, commit, repository)
    return commit


def is_known(repository: str, checkout: Path) -> bool:
    """Whether a checkout is, unchanged, at the commit that this project's facts were taken from."""
    return commit_of(checkout) == Commit(REPOSITORIES[repository].commit, modified=False)


def changed_files(checkout: Path) -> dict[str, str]:
    """The files whose content isn't that of the checkout's commit: path -> the id that git gives to what lies there, `absent`.

    It asks what lies there and not what is staged, and reads no content that the clone may lack. InputError where git can't say.
    """
    listed = _git(checkout, "ls-tree", "-r", "-z", "--full-tree", "HEAD")
    if listed is None:
        raise InputError(f"{checkout}: git can't list the files of its commit; clone it again")
    found = {}
    for entry in filter(None, listed.split("\0")):
        facts, _, name = entry.partition("\t")
        _, kind, expected = facts.split()
        if kind == "blob" and (actual := _blob(checkout / name, expected)) != expected:
            found[os.fsencode(name).decode(errors="backslashreplace")] = actual
    return found


def _blob(path: Path, like: str) -> str:
    """The id that git gives to a file's content, by the same hash as `like`."""
    try:
        content = os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return "absent"
    hashing = hashlib.sha1 if len(like) == 40 else hashlib.sha256
    return hashing(b"blob %d\0" % len(content) + content).hexdigest()


def _warn_of_another(checkout: Path, commit: Commit | None, repository: str) -> None:
    expected = REPOSITORIES[repository].commit
    if commit is None:
        warnings.warn(
            InputWarning(f"{checkout}: no git checkout, so its commit is unknown; {repository} is known at {expected}"),
            stacklevel=3,
        )
    elif commit != Commit(expected, modified=False):
        warnings.warn(
            InputWarning(
                f"{checkout}: is at {commit.sha}{' with local changes' if commit.modified else ''}; "
                f"{repository} is known at {expected}"
            ),
            stacklevel=3,
        )


def _advice(repository: str) -> str:
    known = REPOSITORIES[repository]
    return f"git clone {known.url} and check out {known.commit}"


def _git(checkout: Path, *arguments: str) -> str | None:
    """What git says, None where it says no."""
    result = _asked(checkout, *arguments)
    return None if result is None or result.returncode else os.fsdecode(result.stdout).strip()


def _refusal(checkout: Path) -> str:
    """Why git says nothing of a clone."""
    for arguments in (("rev-parse", "--show-toplevel"), ("rev-parse", "HEAD"), ("status", "--porcelain")):
        result = _asked(checkout, *arguments)
        if result is None:
            return "git isn't installed"
        if result.returncode:
            return " ".join(os.fsdecode(result.stderr).split())[:300]
    return "it lies in the work tree of another"


def _asked(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[bytes] | None:
    """Git, asked for something; None without git. It is kept from refreshing the index, which would write into the checkout."""
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        environment.pop(name, None)
    try:
        return subprocess.run(
            ["git", "-C", str(checkout), *arguments], env=environment, capture_output=True, check=False
        )
    except FileNotFoundError:
        return None
