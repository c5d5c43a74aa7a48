"""A request to stop, as a process that runs a job takes it: at once, or where it keeps checkpoints, after one more of them.

The request is a signal, so it is of the whole process, and is made by whoever started it. Who can't wait kills: every phase is
whole or not there, so a kill loses the work since the last checkpoint and nothing else.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType


@dataclass
class _Request:
    """asked: whether somebody did. struck: whether work was interrupted for it where it stood. waits: how many blocks are entered that
    take it up themselves. told: who else is to know.
    """

    asked: bool = False
    struck: bool = False
    waits: int = 0
    told: list[Callable[[], None]] = field(default_factory=list)


_REQUEST = _Request()


def stop_on_request() -> None:
    """From now on SIGTERM asks this process to stop, and Ctrl-C, which a terminal sends to all of a job's processes, does nothing."""
    signal.signal(signal.SIGTERM, _on_signal)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _on_signal(number: int, frame: FrameType | None) -> None:
    ask_to_stop()


def ask_to_stop() -> None:
    """Ask this process to stop. KeyboardInterrupt here, unless a block of `after_checkpoint` takes it up."""
    _REQUEST.asked = True
    for tell in _REQUEST.told:
        tell()
    if not _REQUEST.waits:
        _REQUEST.struck = True
        raise KeyboardInterrupt


def stop_asked() -> bool:
    """Whether this process was asked to stop."""
    return _REQUEST.asked


def struck() -> bool:
    """Whether the request was KeyboardInterrupt in the midst of work, which compiled code may turn into any other exception."""
    return _REQUEST.struck


@contextmanager
def after_checkpoint(tell: Callable[[], None] | None = None) -> Iterator[None]:
    """Inside, a request only shows in `stop_asked`: the block ends by itself, after a checkpoint. KeyboardInterrupt at its end.

    An error that ends the block is raised as it is: perhaps there is no checkpoint. tell: called when the request comes, for
    processes that the block waits for.
    """
    told = [] if tell is None else [tell]
    _REQUEST.waits += 1
    _REQUEST.told += told
    try:
        yield
    finally:
        _REQUEST.waits -= 1
        for entry in told:
            _REQUEST.told.remove(entry)
    if _REQUEST.asked and not _REQUEST.waits:
        raise KeyboardInterrupt


@contextmanager
def at_once() -> Iterator[None]:
    """Inside, also within a block of `after_checkpoint`, a request is KeyboardInterrupt: for what takes long and can't be kept."""
    waits, _REQUEST.waits = _REQUEST.waits, 0
    try:
        if _REQUEST.asked:
            raise KeyboardInterrupt
        yield
    finally:
        _REQUEST.waits = waits
