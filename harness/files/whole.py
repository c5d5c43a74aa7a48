"""Folders that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import InputError
from harness.files.stored import follow_umask, sync_folder


@contextmanager
def whole_folder(out: Path, *, called: str = "") -> Iterator[Path]:
    """Yield a folder to fill, which becomes `out` once all is done, and is gone after an error.

    called: what leads to `out` in messages, an option with the space behind it. Raises InputError if `out` exists, or can't be made.
    Where another has taken its name meanwhile, what was filled stays beside it.
    """
    refuse_existing(out, called=called)
    target = Path(os.path.abspath(out))
    place = next(parent for parent in target.parents if os.path.lexists(parent))
    if not place.is_dir():
        raise InputError(f"{called}{out}: {place} is no folder; give another one")
    try:
        aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=place))
    except OSError as error:
        raise InputError(f"{called}{out}: can't be made in {place} ({error.strerror}); give another folder") from None
    try:
        yield aside
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    follow_umask(aside)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        os.rename(aside, target)
    except OSError as error:
        raise InputError(f"{called}{out}: can't be made now ({error.strerror}); all of it lies in {aside}") from None
    sync_folder(target.parent)


def refuse_existing(out: Path, *, called: str = "") -> None:
    """InputError if `out` is there: to be asked before what takes long."""
    if os.path.lexists(out):
        raise InputError(f"{called}{out}: exists already; give a folder that doesn't, or move that one away")
