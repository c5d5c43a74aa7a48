"""A checkout is found, and its commit is told from the one that is known."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from detectors.upstream import checkouts
from detectors.upstream.checkouts import Commit, checked_commit, commit_of, find_checkout
from detectors.upstream.repositories import REPOSITORIES, Repository
from harness.errors import InputError, InputWarning


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=n", "-c", "user.email=n@localhost", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, "-C", str(folder), *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "LSTR"
    folder.mkdir()
    (folder / "net.py").write_text("VALUE = 1\n")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "one")
    return folder


@pytest.fixture
def known(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    commit = git(checkout, "rev-parse", "HEAD")
    monkeypatch.setitem(REPOSITORIES, "LSTR", Repository("https://example.org/LSTR", commit, None))
    return commit


def test_a_checkout_is_found_by_its_path_and_in_a_folder_of_checkouts(checkout: Path) -> None:
    assert find_checkout(checkout, "LSTR") == checkout
    assert find_checkout(checkout.parent, "LSTR") == checkout


def test_a_missing_folder_is_refused_with_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent: no such folder; git clone https://github.com/liuruijin17/LSTR and"):
        find_checkout(tmp_path / "absent", "LSTR")


@pytest.mark.filterwarnings("error")
def test_the_known_commit_passes_in_silence(checkout: Path, known: str) -> None:
    (checkout / "results.txt").write_text("git doesn't track this")
    assert checked_commit(checkout, "LSTR") == Commit(known, modified=False)


def test_another_commit_is_warned_of_with_both(checkout: Path, known: str) -> None:
    git(checkout, "commit", "-q", "--allow-empty", "-m", "two")
    other = git(checkout, "rev-parse", "HEAD")
    with pytest.warns(InputWarning, match=f"is at {other}; LSTR is known at {known}"):
        checked_commit(checkout, "LSTR")


def test_local_changes_are_warned_of(checkout: Path, known: str) -> None:
    (checkout / "net.py").write_text("VALUE = 2\n")
    with pytest.warns(InputWarning, match=f"is at {known} with local changes; LSTR is known at {known}"):
        assert checked_commit(checkout, "LSTR") == Commit(known, modified=True)


def test_a_folder_without_git_of_its_own_has_no_commit(checkout: Path, known: str) -> None:
    inner = checkout / "unpacked"
    inner.mkdir()
    assert commit_of(inner) is None
    with pytest.warns(InputWarning, match=f"commit is unknown; LSTR is known at {known}"):
        checked_commit(inner, "LSTR")


def test_the_index_of_a_checkout_is_not_refreshed(checkout: Path) -> None:
    index = checkout / ".git" / "index"
    # As if it had been copied: the times of the files no longer fit.
    (checkout / "net.py").touch()
    before = index.stat().st_mtime_ns
    assert checkouts.commit_of(checkout) is not None
    assert index.stat().st_mtime_ns == before
