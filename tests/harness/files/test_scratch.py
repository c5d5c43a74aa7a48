"""Scratch folders: gone at the end however it comes, at the latest when the next one is made."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from harness.files.scratch import CONTENT, LOCK, prefix, remove_abandoned, scratch_folder

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


def holder(place: Path, code: str = HOLDER) -> tuple[subprocess.Popen[str], Path]:
    """A process that holds a scratch folder in `place`, and that folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=os.environ | {"TMPDIR": str(place)}
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


SLOW = """
import os, sys, time
from harness.files import scratch
with scratch.scratch_folder() as folder:
    for number in range(50):
        (folder / f"{number}.txt").write_text("1 2")
    unlink = os.unlink
    def slowly(*given, **named):
        unlink(*given, **named)
        print(folder, flush=True)
        time.sleep(600)
    os.unlink = slowly
"""


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


def test_one_that_is_killed_while_it_removes_leaves_what_the_next_removes(place: Path) -> None:
    process, folder = holder(place, SLOW)
    ended(process, signal.SIGKILL)
    assert 0 < len(list(folder.iterdir())) < 50
    with scratch_folder() as other:
        assert [path.name for path in place.iterdir()] == [other.parent.name]


def test_what_isnt_such_a_folder_stays(place: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    others_host = place / "samiro-bench-another.host-abc"
    lockless, mine, unlike = (place / name for name in (f"{prefix()}lockless", f"{prefix()}mine", "unlike"))
    for folder in (elsewhere, others_host, lockless, mine, unlike):
        (folder / CONTENT).mkdir(parents=True)
        (folder / CONTENT / "lanes.txt").write_text("1 2")
    for folder in (elsewhere, others_host, mine, unlike):
        (folder / LOCK).touch()
    (mine / "mine.txt").write_text("mine")
    (place / f"{prefix()}link").symlink_to(elsewhere)
    (place / f"{prefix()}file").write_text("mine")
    inside = place / f"{prefix()}linked-lock"
    inside.mkdir()
    (inside / LOCK).symlink_to(elsewhere / LOCK)
    before = sorted(place.rglob("*"))
    remove_abandoned(place)
    assert sorted(place.rglob("*")) == before
    assert (elsewhere / CONTENT / "lanes.txt").is_file()


def test_another_users_folder_stays(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process, folder = holder(place)
    ended(process, signal.SIGKILL)
    monkeypatch.setattr(os, "getuid", lambda: folder.stat().st_uid + 1)
    remove_abandoned(place)
    assert folder.is_dir()
    monkeypatch.undo()
    remove_abandoned(place)
    assert not folder.parent.exists()
