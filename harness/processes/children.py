"""Processes that end with the one that started them."""

from __future__ import annotations

import ctypes
import os
import signal
import sys


def die_with_parent(how: signal.Signals, parent: int) -> None:
    """On Linux, have the kernel send this process a signal when its parent dies, however it dies.

    parent: the parent's id, from the parent itself: this process is somebody else's if that was killed while this one began.
    """
    if sys.platform == "linux":
        PR_SET_PDEATHSIG = 1  # linux/prctl.h
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, how)
        if os.getppid() != parent:  # it is dead already
            os.kill(os.getpid(), how)
