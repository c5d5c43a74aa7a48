"""A pull request that puts another sender's name on what somebody submitted is refused; one by the same sender is marked."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.main import main
from harness.publishing.examine import Verdict, read_statement
from harness.publishing.pull_request import Submitting
from harness.publishing.review import Review
from harness.publishing.senders import sender_of
from harness.publishing.statement import STATEMENT_FILE, Statement, write_statement
from tests.harness.publishing.repositories import committed, git

ALICE = "results/submissions/mini/alice"
STATED = {
    "suite": "mini", "name": "alice", "who": "Alice", "contact": "alice@example.org", "record_version": 2, "metrics": (),
    "commits": (), "cells": 1,
}  # fmt: skip


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository in which alice's submission is, called from within; reviews accept all and tell the sender that is stated."""

    def accepted(folder: Path, bounds: object) -> Review:
        stated = read_statement(folder)
        return Review("mini", "alice", Verdict(reasons=(), rows=1, verified=1, who=stated.who, contact=stated.contact))

    place = tmp_path / "repository"
    place.mkdir()
    git(place, "init", "--quiet", "--initial-branch=main")
    changed(place)
    git(place, "switch", "--quiet", "--create", "head")
    monkeypatch.chdir(place)
    monkeypatch.setattr("harness.publishing.review.review", accepted)
    return place


def changed(repository: Path, **stated: object) -> str:
    """Commit alice's submission with another statement."""
    (repository / ALICE).mkdir(parents=True, exist_ok=True)
    write_statement(repository / ALICE, Statement.model_validate(STATED | stated))
    return committed(repository, {})


@pytest.mark.parametrize("stated", [{"who": "Eve", "contact": "eve@e.org"}, {"who": "Eve"}, {"contact": "eve@e.org"}])
def test_a_change_of_the_sender_is_refused_before_all_else_that_is_said(
    repository: Path, capsys: pytest.CaptureFixture[str], stated: dict[str, str]
) -> None:
    changed(repository, **stated)
    assert main(["review", "--base", "main", "--head", "head"]) == 1
    now = {"who": "Alice", "contact": "alice@example.org"} | stated
    verdict, reason, mark = capsys.readouterr().out.splitlines()
    assert verdict == "mini/alice: REFUSED: 1 reason"
    assert reason.startswith(f"- sender changed from 'Alice', alice@example.org to {now['who']!r}, {now['contact']}: ")
    assert mark.startswith(f"- changes {ALICE}, which is there already")


def test_a_change_by_the_same_sender_is_accepted_with_its_mark(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed(repository, cells=2)
    assert main(["review", "--base", "main", "--head", "head"]) == 0
    verdict, mark = capsys.readouterr().out.splitlines()
    assert verdict == "mini/alice: ACCEPTED: 1 of 1 row verified"
    assert mark.startswith(f"- changes {ALICE}, which is there already")


def test_what_states_nothing_that_can_be_read_is_nobodys(repository: Path) -> None:
    alice = Submitting("mini", "alice", replaces=True)
    assert sender_of(repository, "head", alice) == ("Alice", "alice@example.org")
    assert sender_of(repository, committed(repository, {f"{ALICE}/{STATEMENT_FILE}": "torn"}), alice) is None
    assert sender_of(repository, committed(repository, {f"{ALICE}/{STATEMENT_FILE}": None}), alice) is None
