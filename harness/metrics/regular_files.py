"""Reading of files that must be files: a pipe in the place of one would keep everything waiting."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def read_regular(file: str | Path) -> bytes:
    """The bytes of a file. Raises OSError where it can't be opened, or is a folder, a pipe or a device."""
    # Opened without waiting, for a pipe that nobody writes to would never be open.
    with open(file, "rb", buffering=0, opener=without_waiting) as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        return stream.read()


def without_waiting(file: str, flags: int) -> int:
    """Open a file so that a pipe or a device doesn't keep one waiting; of a regular file it changes nothing."""
    return os.open(file, flags | os.O_NONBLOCK)
