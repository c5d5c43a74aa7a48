"""Atomic writes, hashes and canonical JSON: the ground that everything stored stands on."""

from __future__ import annotations

import fcntl
import gc
import hashlib
import json
import os
import stat
import struct
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from harness.errors import InputError

BEYOND = 1 << 62
"""Which byte of its file a writer locks: one beyond all content. Over SMB an flock is of the whole file, and what is locked can't be
read or written by another descriptor, be it the same process's (flock(2), CIFS details).
"""


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success fsync it and rename it onto `path`, else remove it.

    A reader of `path` sees the old content or the new one, never half of it, also after a kill or on a full disk. A symbolic link
    is followed, and what it points to is replaced. Raises InputError, naming `path`, as `replaceable` does and where the folder
    takes no file; errors of the system name `path` as well. Whoever is killed meanwhile leaves a file for `remove_torn`.
    """
    target = replaceable(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, aside = begun_aside(target)
    except OSError as error:
        raise InputError(
            f"{path}: {target.parent} takes no file ({error.strerror}): give a file in a folder that can be written"
        ) from error
    try:
        with located(path):
            yield aside
            with open(aside, "rb+") as stream:
                os.fsync(stream.fileno())
            follow_umask(aside)
            aside.replace(replaceable(target))
            sync_folder(target.parent)
    finally:
        try:
            aside.unlink(missing_ok=True)
        finally:
            os.close(handle)


@contextmanager
def located(path: Path) -> Iterator[None]:
    """Give errors of the system that name no file, as those of writing to an open one, the file or folder in which they happened."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def follow_umask(path: Path) -> None:
    """Give a file or folder that was made for its owner alone, as what is made aside, the permissions of a new one."""
    umask = os.umask(0)
    os.umask(umask)
    path.chmod((0o777 if path.is_dir() else 0o666) & ~umask)


def begun_aside(target: Path) -> tuple[int, Path]:
    """A new file beside `target` and its descriptor, which holds the file's lock, so that `remove_torn` sees that its writer lives."""
    while True:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
        with suppress(OSError):  # of a file system without locks, where nothing is ever removed
            lock(handle, wait=True)
        if os.path.exists(name):  # not every file system counts the links of a file
            return handle, Path(name)
        os.close(handle)  # it was removed in the instant in which it had no lock


def remove_torn(folder: Path) -> None:
    """Remove the files that writers left in a folder who were killed before they renamed them; those of living writers stay."""
    for path in folder.glob(".*.part"):
        # It is being written, was renamed meanwhile or is somebody else's; nobody reads it, so it may stay.
        with suppress(OSError):
            if path.is_file():
                remove_free(path)


def remove_free(path: Path) -> None:
    """Remove a file whose lock nobody holds; OSError, BlockingIOError for one, where that can't be."""
    handle = os.open(path, os.O_RDWR)
    try:
        lock(handle, wait=False)
        path.unlink()
    finally:
        os.close(handle)


def lock(handle: int, *, wait: bool) -> None:
    """Lock an open file until it is closed, also by who inherited it; OSError where somebody else has it or that can't be."""
    if sys.platform == "linux":
        # A lock of the open file: what else this process opens and closes of the same path has no part in it.
        byte = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, BEYOND, 1, 0)
        fcntl.fcntl(handle, fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK, byte)
    else:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)


def replaceable(path: Path) -> Path:
    """The file, there already or not, that writing to `path` replaces: `path` itself, or what it links to.

    Raises InputError for what a rename would destroy or can't replace: a folder, a pipe, a device, a link that leads to itself, and
    the file that this process's standard output or error goes to (`/dev/stdout`, redirected).
    """
    target = Path(os.path.realpath(path))
    try:
        there = path.stat()  # not of `target`: what /proc/self/fd links to need not be a path
    except (FileNotFoundError, NotADirectoryError):
        return target
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}: give a file in a folder that can be written") from error
    if stat.S_ISDIR(there.st_mode):
        raise InputError(f"{path}: a folder, which can't be replaced by a file: give the path of a file")
    if not stat.S_ISREG(there.st_mode) or is_output(there):
        raise InputError(f"{path}: a pipe, a device or this program's own output: give the path of a file")
    return target


def is_output(there: os.stat_result) -> bool:
    """Whether a file is the one that this process's standard output or error goes to."""
    for descriptor in (1, 2):
        with suppress(OSError):  # closed
            if os.path.samestat(os.fstat(descriptor), there):
                return True
    return False


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write text atomically, as UTF-8 with the line ends it has."""
    with written_aside(path) as aside:
        aside.write_bytes(text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, indented, keys in their order; NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def canonical_json(value: Any) -> str:
    """One text for one value: sorted keys, no spaces, NaN refused. What identities are hashed from."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256_of_text(text: str) -> str:
    """Hex sha256 of the UTF-8 bytes of a text, of a path that isn't UTF-8 of the bytes that it has."""
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def sha256_of_json(value: Any) -> str:
    """Hex sha256 of the canonical JSON of a value."""
    return sha256_of_text(canonical_json(value))


def sha256_of_file(path: Path) -> str:
    """Hex sha256 of a file's bytes, read in pieces."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_bounded(path: Path, limit: int) -> bytes:
    """The bytes of a regular file of at most `limit` bytes.

    Raises InputError on a larger file, and on a folder, a pipe or a device, which would be read without end; OSError as `open` does.
    """
    there = path.stat()
    if stat.S_ISDIR(there.st_mode):
        raise InputError(f"{path}: a folder, not a file: move it away")
    if not stat.S_ISREG(there.st_mode):
        raise InputError(f"{path}: a pipe or a device, not a file: move it away")
    if there.st_size > limit:
        raise InputError(
            f"{path}: {there.st_size} bytes, and the limit is {limit}: this is something else; move it away"
        )
    with open(path, "rb") as stream:
        # Room is taken for as much as is asked for: of the limit, it would be a gigabyte for each small file.
        return stream.read(min(limit, os.fstat(stream.fileno()).st_size) + 1)


@contextmanager
def no_collection() -> Iterator[None]:
    """Keep Python's collector of reference cycles from walking thousands of objects again and again while more are made.

    With 10,000 records, most of the time of reading them was spent so.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def cache_folder() -> Path:
    """Where derived data is cached: XDG_CACHE_HOME, else ~/.cache, then samiro-bench. It may not exist yet."""
    # The XDG base directory specification has relative values ignored.
    named = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(named):
        return Path(named) / "samiro-bench"
    try:
        return Path.home() / ".cache/samiro-bench"
    except RuntimeError:
        raise InputError(
            "nobody knows a home folder of this user, so none for caches: set HOME or XDG_CACHE_HOME to a folder's path"
        ) from None


def remembers() -> bool:
    """Whether what was found out may be read from the cache folder, and kept there: not where SAMIRO_BENCH_REMEMBER is 0."""
    return os.environ.get("SAMIRO_BENCH_REMEMBER") != "0"


def sweep_cache() -> None:
    """Remove what writers left in the folders of the cache folder who were killed, weights of hundreds of megabytes among it."""
    with suppress(OSError, InputError):  # there is no such folder, or it can't be read
        for folder in cache_folder().iterdir():
            remove_torn(folder)


def expanded(path: str | Path) -> Path:
    """A path with the home folder that `~` stands for in it; as it is where nobody is called so."""
    return Path(os.path.expanduser(path))
