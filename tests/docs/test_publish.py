"""docs/publish.md: a newcomer gets from a bare clone to an accepted submission by its commands; its bounds and words are the code's."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.publishing.quarantine import RATIO, YAML_LIMIT, Bounds
from harness.publishing.rescoring import ABSENT
from tests.docs.pages import blocks

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/publish.md").read_text(encoding="utf-8")
BLOCKS = blocks(PAGE, "sh")
FORK = "git@github.com:YOU/samiro-bench.git"


def test_the_bounds_are_the_codes() -> None:
    bounds = Bounds()
    for amount in (
        bounds.files, bounds.file_bytes, bounds.total_bytes, bounds.archive_bytes, bounds.unpacked_bytes, YAML_LIMIT,
        bounds.memory_bytes, bounds.seconds,
    ):  # fmt: skip
        assert re.search(rf"\| {amount:,}[ ,]", PAGE), amount
    assert f"and {RATIO} times its size" in PAGE


def test_the_words_of_the_tables_are_the_codes() -> None:
    code = "\n".join(path.read_text() for path in sorted((ROOT / "harness/publishing").glob("*.py")))
    quoted = re.findall(r"^\| (`.*?`) \|", PAGE, re.MULTILINE)
    assert len(quoted) == 32
    for text in re.findall(r"`([^`]+)`", " ".join(quoted)):
        parts = [part.strip() for part in re.split(r"\.\.\.+|600", text) if len(part.strip()) > 3]
        for part in parts:
            known = part.removeprefix("key 'identity").removeprefix("key 'evaluations").removeprefix(".metric' is")
            assert known in code + f"unverified here: {ABSENT}" or known in ("'", ""), part


@pytest.mark.slow
def test_the_commands_lead_from_a_bare_clone_to_an_accepted_submission(tmp_path: Path) -> None:
    if (
        shutil.which("make") is None
        or subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True).returncode
    ):
        pytest.skip("needs make, and a checkout of git")
    bare = tmp_path / "fork" / "samiro-bench.git"
    subprocess.run(["git", "clone", "--quiet", "--bare", str(ROOT), str(bare)], check=True)
    subprocess.run(["git", "symbolic-ref", "HEAD", "refs/heads/trunk"], cwd=bare, check=True)
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()
    subprocess.run(["git", "update-ref", "refs/heads/trunk", head], cwd=bare, check=True)
    # The environment is reused: what `make setup` would install is there, and the command runs the clone's code.
    command = tmp_path / "fork" / "samiro-bench"
    command.write_text(f'#!/bin/sh\nPYTHONPATH="$PWD" exec {sys.executable} -m harness.cli.main "$@"\n')
    command.chmod(0o755)
    ready = f"mkdir -p .venv/bin && cp {command} .venv/bin/ && touch -d 2100-01-01 .venv/.ready\n"
    opened = (
        f"git --git-dir={bare} update-ref refs/pull/1/head refs/heads/submission-smoke-alice\ngit switch -q trunk\n"
    )
    way = BLOCKS[:6]
    assert [block.split()[0] for block in BLOCKS] == ["git", "make", "make", "git", "make", "git", "git"]
    script = "".join(
        [way[0].replace(FORK, str(bare)).replace("make setup", f"{ready}make setup"), *way[1:5], opened, *BLOCKS[5:]]
    )
    people = {f"GIT_{who}_{what}": "alice@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    done = subprocess.run(
        ["bash", "-euxc", script],
        cwd=tmp_path,
        env={**os.environ, **people, "GIT_CONFIG_GLOBAL": "/dev/null"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    said = "smoke/alice: ACCEPTED: 2 of 2 rows verified"
    assert done.stdout.count(said) == 4, "submit, review, the review of the commit, and the page"
    page = (tmp_path / "samiro-bench/results/submissions/README.md").read_text()
    assert (
        "| smoke | [alice](smoke/alice/leaderboard.md) | Alice Example | https://example.org/alice | 2 | verified |"
        in page
    )
    files = {
        path.suffix for path in (tmp_path / "samiro-bench/results/submissions/smoke/alice").rglob("*") if path.is_file()
    }
    assert files <= {".json", ".npz", ".jsonl", ".md", ".csv", ".tex", ".svg", ".yaml", ""}
