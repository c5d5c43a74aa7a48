"""A checkout is found, and its commit is told from the one that is known."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from detectors.upstream import checkouts
from detectors.upstream.checkouts import (
    Commit,
    changed_files,
    checked_commit,
    commit_of,
    find_checkout,
    known_checkout,
    origin_of,
)
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


def blob(checkout: Path, file: str) -> str:
    return git(checkout, "hash-object", file)


def test_what_lies_in_a_checkout_is_compared_with_its_commit_whatever_is_staged(checkout: Path) -> None:
    (checkout / "link").symlink_to("net.py")
    (checkout / "odd name").write_bytes(b"\xff\n")
    git(checkout, "add", ".")
    git(checkout, "commit", "-q", "-m", "more")
    assert changed_files(checkout) == {}
    git(checkout, "rm", "-q", "--cached", "net.py")
    assert changed_files(checkout) == {}
    (checkout / "net.py").write_text("VALUE = 2\n")
    (checkout / "link").unlink()
    assert changed_files(checkout) == {"link": "absent", "net.py": blob(checkout, "net.py")}


def test_a_clone_that_lacks_some_content_still_says_which_code_ran(
    checkout: Path, known: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(checkouts.VARIABLE, str(checkout.parent))
    # As after a clone whose source hadn't a large file: neither content nor file.
    content = blob(checkout, "net.py")
    (checkout / ".git" / "objects" / content[:2] / content[2:]).unlink()
    (checkout / "net.py").unlink()
    with pytest.warns(InputWarning, match="with local changes"):
        first = origin_of("LSTR")
    (checkout / "net.py").write_text("VALUE = 3\n")
    with pytest.warns(InputWarning, match="with local changes"):
        second = origin_of("LSTR")
    assert first["commit"] == second["commit"] == known
    assert first["changes"] != second["changes"]


def test_a_cell_that_runs_another_commit_is_warned_of_with_both(
    checkout: Path, known: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(checkouts.VARIABLE, str(checkout.parent))
    git(checkout, "commit", "-q", "--allow-empty", "-m", "two")
    other = git(checkout, "rev-parse", "HEAD")
    with pytest.warns(InputWarning, match=f"is at {other}; LSTR is known at {known}"):
        assert origin_of("LSTR") == {"repository": "LSTR", "commit": other}


def test_a_folder_without_git_is_not_run(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(checkouts.VARIABLE, str(checkout.parent))
    (checkout / ".git").rename(checkout.parent / "elsewhere")
    with pytest.raises(InputError, match="no git checkout, so nobody could say which code ran; git clone"):
        origin_of("LSTR")


@pytest.mark.parametrize("named", ["absent", "net.py"])
def test_a_variable_that_names_no_folder_is_refused_and_nothing_taken_in_its_place(
    checkout: Path, known: str, named: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(checkouts.VARIABLE, raising=False)
    cached = tmp_path / "cache" / "samiro-bench" / "upstream"
    cached.mkdir(parents=True)
    checkout.rename(cached / "LSTR")
    assert known_checkout("LSTR") == cached / "LSTR"
    monkeypatch.setenv(checkouts.VARIABLE, str(cached / "LSTR" / named))
    with pytest.raises(InputError, match=rf"SAMIRO_BENCH_UPSTREAM: .*{named} is no folder; name one that holds"):
        known_checkout("LSTR")


def test_a_variable_that_names_a_checkout_itself_is_told_so(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv(checkouts.VARIABLE, str(checkout))
    with pytest.raises(InputError, match="that folder is a checkout itself: name the one that it lies in"):
        known_checkout("LSTR")
    monkeypatch.setenv("HOME", str(checkout.parent))
    monkeypatch.setenv(checkouts.VARIABLE, "~")
    assert known_checkout("LSTR") == checkout


def test_a_clone_that_git_refuses_is_told_with_gits_own_words(
    checkout: Path, known: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(checkouts.VARIABLE, str(checkout.parent))
    (checkout / ".git" / "HEAD").write_text("nothing that git knows")
    with pytest.raises(InputError, match=r"LSTR: git can't say at which commit it is \(fatal: .*\); mend that"):
        origin_of("LSTR")
