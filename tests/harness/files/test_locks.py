"""Who holds a folder is told; a lock ends with its process, whatever numbers of processes and names of hosts say."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from filelock import FileLock

from harness.errors import InputError
from harness.files import locks
from harness.files.locks import BEATS, Holder, holder_of, in_turn, is_held, sole

BEAT = 0.05


def holding(folder: Path) -> subprocess.Popen[str]:
    """A process that holds a folder."""
    program = (
        "import sys, time; from pathlib import Path; from harness.files.locks import sole\n"
        f"with sole(Path({str(folder)!r})): print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", program, "bench", "paper"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def elsewhere(folder: Path) -> None:
    """What a holder on another host leaves, whose lock isn't seen here; its number is one that lives here."""
    holder = Holder(
        host="node7", process=os.getpid(), user="mo", since="2026-01-02 03:04:05", command="samiro-bench bench"
    )
    holder_of(folder).write_text(holder.model_dump_json())


def test_a_folder_whose_path_is_not_utf_8_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"Stra\xdfe") / "suite"
    with pytest.raises(InputError, match="isn't UTF-8; rename the folder that isn't"), sole(folder):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_holder_whose_command_is_not_utf_8_is_told_as_well_as_it_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["samiro-bench", "bench", os.fsdecode(b"Stra\xdfe/mine.yaml")])
    with sole(tmp_path / "suite"):
        holder = locks.read_holder(tmp_path / "suite")
    assert holder is not None
    assert holder.command == "samiro-bench bench Stra\ufffde/mine.yaml"


def test_the_second_is_told_who_holds_the_folder_and_a_killed_holder_holds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "PATIENCE_SECONDS", 0.1)
    process = holding(tmp_path / "suite")
    try:
        assert is_held(tmp_path / "suite")
        with pytest.raises(InputError) as refused, sole(tmp_path / "suite"):
            pass
        told = str(refused.value)
        assert "another `bench` works on this suite now" in told
        assert f"process {process.pid} of " in told
        assert f" on {socket.gethostname()} since " in told
        assert told.count(": samiro-bench bench paper") == 1
        assert "\n" not in told
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert holder_of(tmp_path / "suite").exists()
    assert not is_held(tmp_path / "suite")
    # On the same host its lock tells all: nobody waits for a sign of life.
    monkeypatch.setattr(locks, "touched", lambda path: pytest.fail("looked at the holder's file"))
    with sole(tmp_path / "suite"):
        assert is_held(tmp_path / "suite")
    assert not is_held(tmp_path / "suite")
    assert not holder_of(tmp_path / "suite").exists()


def test_one_that_is_silent_on_another_host_is_not_waited_for_though_its_number_lives_here(tmp_path: Path) -> None:
    elsewhere(tmp_path)
    began = time.monotonic()
    with sole(tmp_path, BEAT):
        assert time.monotonic() - began >= BEATS * BEAT
        holder = locks.read_holder(tmp_path)
        assert holder is not None
        assert (holder.host, holder.process) == (socket.gethostname(), os.getpid())


def test_one_that_works_on_another_host_is_told_though_its_lock_is_not_seen(tmp_path: Path) -> None:
    elsewhere(tmp_path)
    ended = threading.Event()
    beats = threading.Thread(target=locks.beat, args=(holder_of(tmp_path), ended, BEAT))
    beats.start()
    try:
        with pytest.raises(InputError, match=r"of mo on node7 since 2026-01-02 03:04:05"), sole(tmp_path, 4 * BEAT):
            pass
    finally:
        ended.set()
        beats.join()


def test_one_that_holds_a_folder_is_seen_to_from_a_host_that_doesnt_see_its_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sole(tmp_path, BEAT):
        monkeypatch.setattr(socket, "gethostname", lambda: "node7")
        with pytest.raises(InputError, match="another `bench` works on this suite now"):
            locks.refuse_other_host(tmp_path, 20 * BEAT)
    locks.refuse_other_host(tmp_path, BEAT)


def test_a_holder_goes_on_beating_when_a_mount_is_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended, tried = threading.Event(), []

    def utime(path: Path) -> None:
        tried.append(path)
        if len(tried) == 1:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path))
        ended.set()

    monkeypatch.setattr(os, "utime", utime)
    locks.beat(tmp_path, ended, 0.01)
    assert len(tried) == 2


def test_a_look_at_a_folder_that_nobody_held_leaves_nothing_there(tmp_path: Path) -> None:
    assert not is_held(tmp_path)
    assert not is_held(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


def test_a_look_at_a_lock_refuses_nobody(tmp_path: Path) -> None:
    """`status` takes a lock for an instant to see whether it is free."""
    looked = FileLock(locks.lock_of(tmp_path), thread_local=False)
    looked.acquire()
    release = threading.Timer(0.3, looked.release)
    release.start()
    with sole(tmp_path):
        pass
    release.join()


def test_work_is_done_in_turn_and_whoever_waits_says_so(tmp_path: Path) -> None:
    order: list[str] = []
    begun = threading.Event()

    def first() -> None:
        with in_turn(tmp_path / "cell" / ".lock"):
            begun.set()
            time.sleep(0.3)
            order.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    begun.wait()
    with in_turn(tmp_path / "cell" / ".lock", lambda: order.append("waits")):
        order.append("second")
    thread.join()
    assert order == ["waits", "first", "second"]


@pytest.mark.parametrize("left", [b"", b'{"host": "node7"', b"\xff\xfe"])
def test_what_a_killed_holder_wrote_by_half_keeps_nobody_away(left: bytes, tmp_path: Path) -> None:
    holder_of(tmp_path).write_bytes(left)
    with sole(tmp_path):
        holder = locks.read_holder(tmp_path)
        assert holder is not None
        assert holder.process == os.getpid()


@pytest.mark.parametrize("error", [KeyError("uid not found"), OSError("no username")])
def test_a_user_without_a_name_is_told_by_number(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise error

    monkeypatch.setattr("getpass.getuser", nameless)
    assert f" of user {os.getuid()} on " in str(locks.myself())


@pytest.mark.parametrize("hold", [sole, lambda folder: in_turn(folder / ".lock")])
def test_a_disk_that_knows_no_locks_is_refused_with_the_way_out(
    hold: Callable[[Path], AbstractContextManager[object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise NotImplementedError("this file system has no flock")

    monkeypatch.setattr(FileLock, "acquire", unknown)
    told = r"cannot be written or locked \(this file system has no flock\); give another --results folder$"
    with pytest.raises(InputError, match=told), hold(tmp_path):
        pass


@pytest.mark.parametrize("hold", [sole, lambda folder: in_turn(folder / ".lock")])
def test_what_is_another_users_is_refused_with_the_way_out(
    hold: Callable[[Path], AbstractContextManager[object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "a lock")

    monkeypatch.setattr(FileLock, "acquire", denied)  # root, as in containers, is denied nothing
    told = r"cannot be written or locked \(Permission denied\); give another --results folder, or share this one"
    with pytest.raises(InputError, match=told), hold(tmp_path):
        pass


def test_a_folder_that_was_lost_meanwhile_is_told_also_if_another_lies_there(tmp_path: Path) -> None:
    folder = tmp_path / "suite"
    with sole(folder) as held:
        held.refuse_vanished()
        folder.rename(tmp_path / "mount")
        with pytest.raises(InputError, match="vanished while this worked in it"):
            held.refuse_vanished()
        folder.write_text("a file")
        with pytest.raises(InputError, match="vanished while this worked in it"):
            held.refuse_vanished()
        folder.unlink()
        folder.mkdir()
        (folder / ".bench.lock").touch()
        with pytest.raises(InputError, match="vanished while this worked in it"):
            held.refuse_vanished()


def test_a_folder_that_is_only_to_be_read_is_one_line(tmp_path: Path) -> None:
    place = tmp_path / "disk"
    place.mkdir()
    program = f"from pathlib import Path; from harness.files.locks import sole\nwith sole(Path({str(place / 'suite')!r})): pass"
    mount = 'mount -t tmpfs -o ro none "$0" || exit 77; exec "$1" -c "$2"'
    run = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, str(place), sys.executable, program],
        capture_output=True,
        text=True,
    )
    if run.returncode == 77 or "unshare" in run.stderr:
        pytest.skip(f"no mounts here: {run.stderr.strip()}")
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith("harness.errors.InputError: ")
    assert "cannot be written or locked (Read-only file system); give another --results folder" in last


def test_a_folder_behind_links_that_lead_to_each_other_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with (
        pytest.raises(InputError, match=r"cannot be written or locked \(.*give another --results folder"),
        sole(tmp_path / "a"),
    ):
        pass
