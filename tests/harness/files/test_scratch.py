"""Scratch folders: gone at the end however it comes, at the latest when the next one is made."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from harness.files.scratch import LOCK, PREFIX, remove_abandoned, scratch_folder

HOLDER = """
import sys, time
from harness.files.scratch import scratch_folder
with scratch_folder() as folder:
    (folder / "deep").mkdir()
    (folder / "deep" / "lanes.txt").write_text("1 2")
    print(folder, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def holder(place: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process that holds a scratch folder in `place`, and that folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, text=True, env=os.environ | {"TMPDIR": str(place)}
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def ended(process: subprocess.Popen[str], by: signal.Signals) -> None:
    process.send_signal(by)
    process.communicate()


def test_it_is_empty_and_gone_afterwards_also_after_an_exception(place: Path) -> None:
    with scratch_folder() as folder:
        assert folder.parent.parent == place
        assert list(folder.iterdir()) == []
        (folder / "lanes.txt").write_text("1 2")
    assert list(place.iterdir()) == []
    with pytest.raises(FileNotFoundError), scratch_folder() as folder:
        (folder / "none").unlink()
    assert list(place.iterdir()) == []


def test_what_a_killed_process_left_is_removed_by_the_next_and_what_a_living_one_holds_stays(place: Path) -> None:
    killed, left = holder(place)
    living, held = holder(place)
    try:
        ended(killed, signal.SIGKILL)
        assert (left / "deep" / "lanes.txt").is_file()
        with scratch_folder() as folder:
            assert not left.parent.exists()
            assert (held / "deep" / "lanes.txt").is_file()
            assert {path.name for path in place.iterdir()} == {folder.parent.name, held.parent.name}
    finally:
        ended(living, signal.SIGKILL)


def test_ctrl_c_leaves_nothing(place: Path) -> None:
    process, folder = holder(place)
    ended(process, signal.SIGINT)
    assert not folder.parent.exists()
    assert list(place.iterdir()) == []


def test_what_isnt_such_a_folder_stays(place: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    for folder in (elsewhere, place / f"{PREFIX}other", place / "unlike"):
        folder.mkdir()
        (folder / "mine.txt").write_text("mine")
    for folder in (elsewhere, place / "unlike"):
        (folder / LOCK).touch()
    (place / f"{PREFIX}link").symlink_to(elsewhere)
    (place / f"{PREFIX}file").write_text("mine")
    inside = place / f"{PREFIX}linked-lock"
    inside.mkdir()
    (inside / LOCK).symlink_to(elsewhere / LOCK)
    before = sorted(place.rglob("*"))
    remove_abandoned(place)
    assert sorted(place.rglob("*")) == before
    assert (elsewhere / "mine.txt").is_file()


def test_another_users_folder_stays(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process, folder = holder(place)
    ended(process, signal.SIGKILL)
    monkeypatch.setattr(os, "getuid", lambda: folder.stat().st_uid + 1)
    remove_abandoned(place)
    assert folder.is_dir()
    monkeypatch.undo()
    remove_abandoned(place)
    assert not folder.parent.exists()
