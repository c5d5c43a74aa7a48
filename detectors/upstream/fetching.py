"""Brings a repository's checkout onto this machine: cloned, put at the pinned commit, verified. Nothing of it is run."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from detectors.upstream.checkouts import Commit, changed_files, commit_of
from detectors.upstream.repositories import REPOSITORIES
from harness.errors import InputError

PATIENCE_SECONDS = 600
"""For one command of git's."""


def fetch_checkout(repository: str, target: Path, *, source: str | None = None) -> Path:
    """Make `target` a checkout of a repository at its pinned commit, from its address or from `source`; returns it.

    One that is there already, unchanged and at that commit, is kept as it is. The folder appears whole or not at all, also when this is
    stopped at any moment. No hook, filter, submodule or file of the repository is run. Raises InputError, in a line, if something else
    lies there, git is missing, the source can't be reached, or it hasn't the commit.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(f"{target.parent}: a file is in the way; give --into a folder") from error
    with FileLock(target.with_name(f".{target.name}.lock")):
        if not os.path.lexists(target):
            _clone(repository, target, f"{REPOSITORIES[repository].url}.git" if source is None else source)
        elif (there := commit_of(target)) != (known := _pinned(repository)):
            what = "no git checkout" if there is None else f"at {there}"
            raise InputError(
                f"{target}: is there already, and isn't {repository} at {known.sha}, but {what}; move it away"
            )
    return target


def _clone(repository: str, target: Path, place: str) -> None:
    """Clone beside `target`, check out, verify, and only then put it there. The lock is held."""
    known = _pinned(repository)
    # Its own alone, also of one that was killed: names of repositories begin with those of others.
    aside = target.with_name(f".{target.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    clone = aside / "clone"
    try:
        aside.mkdir()
        # Not local: a copied object file is believed to be what its name says, a received one is named by its content.
        _git("clone", "--quiet", "--no-checkout", "--no-local", "--no-recurse-submodules", "--", place, str(clone))
        missing = f"{place}: has no commit {known.sha}; give a source of {repository} that has it"
        _git("-C", str(clone), "cat-file", "-e", f"{known.sha}^{{commit}}", problem=missing)
        _git("-C", str(clone), "checkout", "--quiet", "--detach", known.sha)
        if commit_of(clone) != known or changed_files(clone):
            raise InputError(f"{place}: what was checked out differs from commit {known.sha}; fetch it again")
        clone.rename(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _pinned(repository: str) -> Commit:
    return Commit(REPOSITORIES[repository].commit, modified=False)


def _git(*arguments: str, problem: str = "") -> None:
    """Run git with nothing of the user's or the repository's configuration that could run a program."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_LFS_SKIP_SMUDGE": "1",
    }
    command: Sequence[str] = ["git", "-c", f"core.hooksPath={os.devnull}", "-c", "protocol.ext.allow=never", *arguments]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS
        )
    except FileNotFoundError:
        raise InputError("git isn't installed; install it (Debian: apt install git)") from None
    except subprocess.TimeoutExpired:
        raise InputError(
            f"git {arguments[0]}: took over {PATIENCE_SECONDS} s; try again, or give --source a nearer clone"
        ) from None
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise InputError(
            problem or f"git {arguments[0]}: {said:.300}; check the network, or give --source a clone that is at hand"
        )
