"""Which commit a record states: the checkout's own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from harness.records import environment
from harness.records.environment import commit, cpu_name, machine_in_use


def git(repository: Path, *words: str) -> str:
    who = ("-c", "user.name=A", "-c", "user.email=a@b")
    return subprocess.run(
        ["git", *who, *words], cwd=repository, capture_output=True, text=True, check=True
    ).stdout.strip()


def repository(place: Path) -> str:
    """Make one with a file; its commit."""
    place.mkdir(exist_ok=True)
    git(place, "init", "--quiet")
    (place / "file").write_text(place.name)
    git(place, "add", "--all")
    git(place, "commit", "--quiet", "--message", place.name)
    return git(place, "rev-parse", "HEAD")


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that takes the place of the project's, in a repository of somebody else's."""
    monkeypatch.setattr(environment, "ROOT", tmp_path / "outer/inner")
    repository(tmp_path / "outer")
    (tmp_path / "outer/inner").mkdir()
    commit.cache_clear()
    return tmp_path / "outer/inner"


def test_changes_show_as_a_plus(checkout: Path) -> None:
    own = repository(checkout)
    assert commit() == own
    (checkout / "file").write_text("other")
    commit.cache_clear()
    assert commit() == own + "+"


def test_a_folder_without_a_repository_of_its_own_has_none_whatever_it_lies_in(checkout: Path) -> None:
    assert commit() is None


def test_a_hook_of_another_repository_changes_nothing(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = repository(checkout)
    monkeypatch.setenv("GIT_DIR", str(checkout.parent / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(checkout.parent / ".git/index"))
    assert commit() == own


def test_a_work_tree_has_its_own(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository(checkout)
    git(checkout, "worktree", "add", "--quiet", str(tmp_path / "tree"))
    monkeypatch.setattr(environment, "ROOT", tmp_path / "tree")
    own = repository(tmp_path / "tree")
    assert commit() == own


def test_without_git_there_is_none(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository(checkout)
    assert shutil.which("git")
    monkeypatch.setenv("PATH", "/nowhere")
    assert commit() is None


def test_the_machine_in_use_is_the_processor_until_a_gpu_is_computed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    assert machine_in_use() == cpu_name()
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H200")
    assert machine_in_use() == cpu_name()
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    assert machine_in_use() == "NVIDIA H200"
