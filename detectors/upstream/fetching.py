"""Brings a repository's checkout onto this machine: cloned, put at the pinned commit, verified. Nothing of it is run."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from detectors.upstream.checkouts import Commit, commit_of
from detectors.upstream.repositories import REPOSITORIES
from harness.errors import InputError

PATIENCE_SECONDS = 600
"""For one command of git's."""


def fetch_checkout(repository: str, target: Path, *, source: str | None = None) -> Path:
    """Make `target` a checkout of a repository at its pinned commit, from its address or from `source`; returns it.

    One that is there already, unchanged and at that commit, is kept as it is. The folder appears whole or not at all. No hook, filter,
    submodule or file of the repository is run. Raises InputError, in a line, if something else lies there, git is missing, the source
    can't be reached, or it hasn't the commit.
    """
    known = REPOSITORIES[repository]
    if target.exists():
        if commit_of(target) == Commit(known.commit, modified=False):
            return target
        raise InputError(f"{target}: is there already, and isn't {repository} at {known.commit}; move it away")
    target.parent.mkdir(parents=True, exist_ok=True)
    place = source or f"{known.url}.git"
    aside = Path(tempfile.mkdtemp(prefix=f".{repository}-", dir=target.parent))
    try:
        _git("clone", "--quiet", "--no-checkout", "--no-recurse-submodules", "--", place, str(aside / "clone"))
        missing = f"{place}: has no commit {known.commit}; give a source of {repository} that has it"
        _git("-C", str(aside / "clone"), "checkout", "--quiet", "--detach", known.commit, problem=missing)
        if commit_of(aside / "clone") != Commit(known.commit, modified=False):
            raise InputError(f"{place}: what was checked out differs from commit {known.commit}; fetch it again")
        (aside / "clone").rename(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return target


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
