"""Atomic writes, hashes and canonical JSON."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
import subprocess
import sys
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from harness.errors import InputError
from harness.files.stored import (
    canonical_json,
    follow_umask,
    read_bounded,
    remove_torn,
    sha256_of_file,
    sha256_of_json,
    sha256_of_text,
    write_json,
    write_text,
    written_aside,
)


class Interruption(Exception):
    pass


def test_an_exception_inside_leaves_the_old_content_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text("old")

    def write_half() -> None:
        with written_aside(path) as aside:
            aside.write_text("half of the n")
            raise Interruption

    with pytest.raises(Interruption):
        write_half()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["record.json"]


def test_the_new_content_appears_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "made" / "record.json"
    with written_aside(path) as aside:
        aside.write_text("new")
        assert not path.exists()
        assert aside.parent == path.parent  # a rename is atomic only within one file system
    assert path.read_text() == "new"
    assert os.listdir(path.parent) == ["record.json"]


def test_content_is_on_the_disk_before_it_gets_its_name_and_then_the_name_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a power cut leaves a name without content: close(2) and rename(2) promise nothing of the disk, fsync(2) does."""
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def synced(handle: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", lambda self, target: (done.append("name"), replace(self, target))[1])
    write_text(tmp_path / "file", "text")
    assert done == ["file", "name", "folder"]


def writing(path: Path) -> subprocess.Popen[str]:
    """A process that has written half of a file."""
    program = (
        "import sys, time; from pathlib import Path; from harness.files.stored import written_aside\n"
        f"with written_aside(Path({str(path)!r})) as aside: aside.write_text('half'); print('half', flush=True); input()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    return process


def test_what_a_killed_writer_left_is_removed_and_what_a_living_one_writes_stays(tmp_path: Path) -> None:
    killed, living = writing(tmp_path / "a.json"), writing(tmp_path / "b.json")
    try:
        killed.kill()
        killed.wait()
        (tmp_path / ".folder.part").mkdir()
        (tmp_path / "record.json").write_text("a record")
        assert len(os.listdir(tmp_path)) == 4
        remove_torn(tmp_path)
        [left] = [name for name in os.listdir(tmp_path) if name.startswith(".b.json.")]
        assert sorted(os.listdir(tmp_path)) == sorted([".folder.part", "record.json", left])
    finally:
        living.communicate("\n")
    assert living.returncode == 0
    assert (tmp_path / "b.json").read_text() == "half"


def test_a_writer_whose_file_is_removed_before_it_holds_it_begins_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tempfile.mkstemp
    removed: list[str] = []

    def raced(**given: Any) -> tuple[int, str]:
        handle, name = made(**given)
        if len(removed) < 2:
            removed.append(name)
            remove_torn(tmp_path)
            assert not os.path.exists(name)
        return handle, name

    monkeypatch.setattr(tempfile, "mkstemp", raced)
    write_text(tmp_path / "record.json", "whole")
    assert len(removed) == 2
    assert os.listdir(tmp_path) == ["record.json"]
    assert (tmp_path / "record.json").read_text() == "whole"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the whole file is locked")
def test_no_lock_lies_over_the_content_of_what_is_written(tmp_path: Path) -> None:
    # flock(2), CIFS details: over SMB whatever is locked can be written by nobody else, and an flock locks it all.
    with written_aside(tmp_path / "file") as aside, open(aside, "rb+") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.lockf(other, fcntl.LOCK_EX | fcntl.LOCK_NB, 1 << 50)
        other.write(b"content")
    assert (tmp_path / "file").read_bytes() == b"content"


def test_a_file_system_that_counts_no_links_takes_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, times = tempfile.mkstemp, iter(range(3))
    monkeypatch.setattr(tempfile, "mkstemp", lambda **given: (next(times), made(**given))[1])
    real = os.fstat
    with monkeypatch.context() as uncounted:
        uncounted.setattr(os, "fstat", lambda handle: os.stat_result([*real(handle)[:3], 0, *real(handle)[4:]]))
        write_text(tmp_path / "record.json", "whole")
    assert os.listdir(tmp_path) == ["record.json"]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="nothing here lists a process's open files")
@pytest.mark.parametrize("taken", [False, True])
def test_no_file_stays_open_however_writing_ends(tmp_path: Path, taken: bool) -> None:
    def fails() -> None:
        with written_aside(tmp_path / "record.json") as aside:
            if taken:
                aside.unlink()
                aside.mkdir()
            raise Interruption

    before = os.listdir("/proc/self/fd")
    with pytest.raises(IsADirectoryError if taken else Interruption):
        fails()
    assert os.listdir("/proc/self/fd") == before


def test_a_full_disk_is_told_with_the_file(tmp_path: Path) -> None:
    def full(path: Path) -> None:
        with written_aside(path):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left") as told:
        full(tmp_path / "record.json")
    assert told.value.filename == str(tmp_path / "record.json")


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_follow_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_text(tmp_path / "file", "text")
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == mode


def test_a_path_that_is_not_utf_8_has_the_hash_of_its_bytes() -> None:
    assert sha256_of_text(os.fsdecode(b"Stra\xdfe")) == hashlib.sha256(b"Stra\xdfe").hexdigest()


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o755), (0o077, 0o700), (0o002, 0o775)])
def test_folders_made_aside_follow_it_too(tmp_path: Path, umask: int, mode: int) -> None:
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    before = os.umask(umask)
    try:
        follow_umask(folder)
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == mode


def test_a_writer_may_replace_the_temporary_file(tmp_path: Path) -> None:
    with written_aside(tmp_path / "file") as aside:
        other = tmp_path / "other"
        other.write_bytes(b"content")
        other.replace(aside)
    assert (tmp_path / "file").read_bytes() == b"content"


def test_a_link_is_followed_and_stays_one(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "file").write_text("old")
    for link, target in (("link", "far/file"), ("new", "far/other"), ("again", "link")):
        (tmp_path / link).symlink_to(target)
        write_text(tmp_path / link, link)
        assert (tmp_path / link).is_symlink()
        assert (tmp_path / target).read_text() == link
    assert sorted(os.listdir(tmp_path / "far")) == ["file", "other"]


def test_what_is_no_regular_file_is_refused_and_stays(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("pipe")
    (tmp_path / "loop").symlink_to("loop")
    before = sorted(os.listdir(tmp_path))
    for name in ("pipe", "folder", "link", "loop"):
        with pytest.raises(InputError, match=rf"^{tmp_path / name}: .*: give "):
            write_text(tmp_path / name, "text")
    assert sorted(os.listdir(tmp_path)) == before
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_folder_that_appears_meanwhile_is_refused_by_name(tmp_path: Path) -> None:
    def write_late() -> None:
        with written_aside(tmp_path / "file"):
            (tmp_path / "file").mkdir()

    with pytest.raises(InputError, match=rf"^{tmp_path / 'file'}: a folder"):
        write_late()
    assert os.listdir(tmp_path) == ["file"]


def test_the_file_that_the_own_output_goes_to_is_refused(tmp_path: Path) -> None:
    code = "from pathlib import Path; from harness.files.stored import write_text; write_text(Path('/proc/self/fd/1'), 'x')"
    with open(tmp_path / "out", "w") as out:
        done = subprocess.run([sys.executable, "-c", code], stdout=out, stderr=subprocess.PIPE, text=True, check=False)
    piped = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    for told in (done.stderr, piped.stderr):
        assert "InputError: /proc/self/fd/1: a pipe, a device or this program's own output: give " in told
    assert (tmp_path / "out").read_text() == piped.stdout == ""


def test_a_folder_that_takes_no_file_is_told_with_the_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("old")
    with pytest.raises(InputError, match=rf"^{tmp_path / 'file' / 'below'}: {tmp_path / 'file'} takes no file"):
        write_text(tmp_path / "file" / "below", "text")

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(tmp_path / ".x.part"))

    monkeypatch.setattr(tempfile, "mkstemp", refused)  # permissions don't bind root
    with pytest.raises(
        InputError, match=rf"^{tmp_path / 'file'}: {tmp_path} takes no file \(Permission denied\): give"
    ):
        write_text(tmp_path / "file", "text")


def test_text_keeps_its_line_ends_and_is_utf8(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "ä\r\nb\n")
    assert (tmp_path / "file").read_bytes() == b"\xc3\xa4\r\nb\n"


def test_json_refuses_nan_and_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_json(path, {"b": 1, "a": [1.5, "ä"]})
    assert path.read_text(encoding="utf-8") == '{\n "b": 1,\n "a": [\n  1.5,\n  "ä"\n ]\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, float("nan"))
    assert path.read_text(encoding="utf-8").startswith('{\n "b"')


def test_equal_values_have_one_canonical_text_and_hash() -> None:
    assert canonical_json({"b": 1, "a": {"d": 2, "c": 3}}) == '{"a":{"c":3,"d":2},"b":1}'
    assert sha256_of_json({"b": 1, "a": 2}) == sha256_of_json({"a": 2, "b": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json([float("inf")])


def test_hashes_are_plain_sha256(tmp_path: Path) -> None:
    # FIPS 180-2, appendix B.1
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    (tmp_path / "file").write_bytes(b"abc")
    assert sha256_of_text("abc") == sha256_of_file(tmp_path / "file") == expected
    assert sha256_of_text("ä") == hashlib.sha256(b"\xc3\xa4").hexdigest()


def test_a_small_file_takes_no_room_for_the_limit_of_large_ones(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"small")
    tracemalloc.start()
    try:
        assert read_bounded(tmp_path / "a", 1 << 30) == b"small"
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
