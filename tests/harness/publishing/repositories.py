"""Repositories of git for tests, without whatever the machine has configured."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def git(repository: Path, *words: str, given: bytes | None = None) -> str:
    """What a git command prints."""
    settings = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "PATH": os.environ["PATH"]}
    people = {f"GIT_{who}_{what}": "a@b.example" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    done = subprocess.run(["git", *words], cwd=repository, env=settings | people, input=given, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


def committed(repository: Path, files: dict[str, str | None]) -> str:
    """Commit all that lies there, some files with other text before; None deletes one."""
    for name, text in files.items():
        path = repository / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink() if text is None else path.write_text(text)
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message", "change")
    return git(repository, "rev-parse", "HEAD")
