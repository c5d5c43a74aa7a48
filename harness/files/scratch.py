"""Folders for what is on a disk for as long as it is worked on: the machine's own, for many small files are hard on a shared one."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.files.stored import begun_aside, lock

PREFIX = "samiro-bench-"

LOCK = "lock"
"""The file of such a folder whose lock says that its process lives."""


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """An empty folder where `tempfile` puts things, gone with all that is in it when the context ends.

    What processes left there that were killed is removed before: folders of this user whose lock nobody holds.
    """
    place = Path(tempfile.gettempdir())
    remove_abandoned(place)
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=place) as name:
        # Renamed to its name once it is locked, it is never seen without its lock.
        handle, aside = begun_aside(Path(name) / LOCK)
        try:
            aside.rename(Path(name) / LOCK)
            inside = Path(name) / "content"
            inside.mkdir()
            yield inside
        finally:
            os.close(handle)


def remove_abandoned(place: Path) -> None:
    """Remove the scratch folders in `place` whose processes were killed; what can't be removed stays."""
    for folder in place.glob(f"{PREFIX}*"):
        # It is in use, another user's, or gone meanwhile.
        with suppress(OSError):
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            handle = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW)
            try:
                lock(handle, wait=False)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(handle)
