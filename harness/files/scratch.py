"""Folders for what is on a disk for as long as it is worked on: the machine's own, for many small files are hard on a shared one."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

from harness.files.stored import begun_aside, lock

LOCK, CONTENT = ".samiro-bench-scratch.lock", "content"
"""What such a folder holds: the file whose lock says that its process lives, and what is yielded."""


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """An empty folder where `tempfile` puts things, gone with all that is in it when the context ends.

    What processes of this host left there that were killed is removed before: folders of this user whose lock nobody holds.
    """
    place = Path(tempfile.gettempdir())
    remove_abandoned(place)
    folder = Path(tempfile.mkdtemp(prefix=prefix(), dir=place))
    try:
        # Renamed to its name once it is locked, it is never seen without its lock.
        handle, aside = begun_aside(folder / LOCK)
    except BaseException:
        folder.rmdir()
        raise
    try:
        aside.rename(folder / LOCK)
        (folder / CONTENT).mkdir()
        yield folder / CONTENT
    finally:
        remove(folder)
        os.close(handle)


def prefix() -> str:
    """How the names of this host's folders begin: the locks of some network file systems are of one host."""
    return f"samiro-bench-{socket.gethostname()}-"


def remove_abandoned(place: Path) -> None:
    """Remove the scratch folders in `place` whose processes were killed; what can't be removed stays."""
    for folder in place.glob(f"{escape(prefix())}*"):
        # It is in use, another user's, or gone meanwhile.
        with suppress(OSError):
            if (
                folder.is_symlink()
                or folder.stat().st_uid != os.getuid()
                or not {*os.listdir(folder)} <= {LOCK, CONTENT}
            ):
                continue
            handle = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW)
            try:
                lock(handle, wait=False)
                remove(folder)
            finally:
                os.close(handle)


def remove(folder: Path) -> None:
    """Remove a scratch folder whose lock this process holds so that the lock goes last: what one who is killed leaves is found."""
    shutil.rmtree(folder / CONTENT, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
