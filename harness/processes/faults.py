"""What kind of fault an exception is: which ones another attempt may not meet, and which ones it will.

`memory`: a training didn't fit into a GPU; a smaller micro-batch may. `infrastructure`: a disk, a mount, a network, a process or a
machine; the same again may go well. `input`: somebody's file or option. `scheduler`: a limit of a cluster's, or somebody who cancelled
it there. `error`: anything else, so the code.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass
from typing import Any, Literal

from harness.errors import InputError

FaultKind = Literal["memory", "infrastructure", "input", "scheduler", "error"]

PASSING = frozenset(
    {
        errno.EIO, errno.ENXIO, errno.ENODEV, errno.ESTALE, errno.EREMOTEIO, errno.ENOTCONN, errno.ENOLCK,
        errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.ENOMEM, errno.EAGAIN, errno.ENFILE, errno.EMFILE,
        errno.ETIMEDOUT, errno.ECONNRESET, errno.ECONNREFUSED, errno.ECONNABORTED, errno.ENETDOWN, errno.ENETUNREACH,
        errno.ENETRESET, errno.EHOSTDOWN, errno.EHOSTUNREACH,
    }
)  # fmt: skip
"""Errors of the system that may be over in a while: disks and mounts, room, and networks."""

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Errors of the system that say that a disk is full, or what one may have of it."""

NO_MEMORY = re.compile(
    r"out of memory|can't allocate memory|_ALLOC(ATION)?_FAILED|unable to mmap .*cannot allocate memory", re.IGNORECASE
)
"""How torch says it where it has no exception of its own for it: of CUDA's libraries (cuBLAS; cuDNN, from version 9 on in the longer
form), of a CPU's memory, and of a file that finds no room in it.
"""

NO_THREAD = "can't start new thread"
"""How Python says that no more threads are allowed. They count as processes do, whose errors are the system's."""

LOST_LOADER = "DataLoader worker (pid"
"""How torch, which has no exception of its own for it, begins to say that a process that loads data was killed. What went wrong in such
a process while it lived is told without an id: `Caught RuntimeError in DataLoader worker process 0`.
"""

IN_LOADER = re.compile(r"^Caught \w+ in DataLoader worker process \d+\.")
"""How torch begins to tell of an error in a process that loads data; the error itself is the last line of a traceback."""

FULL_SHARED_MEMORY = re.compile(
    r"unable to (write to file|allocate shared memory|open shared memory object)[^\n]*</?torch_"
)
"""How torch says that batches found no room in shared memory."""

UNMAPPED = "failed to map segment from shared object"
"""How the system says that a library found no room in memory, or lies where nothing may be run."""

NO_TEMPORARY = "No usable temporary directory"
"""How Python begins to say that no folder for temporary files can be written: none of those that it names, or all are full."""


class InfrastructureError(Exception):
    """A process, machine or service went away that work depends on. The message is one line."""


class OutOfMemory(Exception):
    """A training step didn't fit into the memory of its device. The message is one line.

    size: samples that went through the model at once.
    """

    def __init__(self, step: int, size: int, reason: str) -> None:
        super().__init__(f"out of memory at step {step} in micro-batches of {size}: {reason}")
        self.step, self.size, self.reason = step, size, reason

    def __reduce__(self) -> tuple[Any, ...]:
        """How it travels between processes."""
        return type(self), (self.step, self.size, self.reason)


@dataclass(frozen=True)
class Fault:
    """What kind of fault it is, and a line on it."""

    kind: FaultKind
    message: str


def fault_of(error: BaseException) -> Fault:
    """The fault that an exception, or what it was raised from, is."""
    # Shared memory, limits and mounts are as a machine, or a container, was set up with them: the same again ends the same.
    told = is_full_shared_memory(error) or is_unmapped(error) or is_without_temporary(error)
    kind: FaultKind = "input" if told or isinstance(error, InputError) else "error"
    for cause in causes(error):
        if isinstance(cause, OutOfMemory):
            return Fault("memory", str(cause))
        lost = isinstance(cause, InfrastructureError | BrokenExecutor) or is_lost_loader(cause)
        if lost or is_out_of_memory(cause) or is_denied_thread(cause):
            kind = "infrastructure"
        if isinstance(cause, OSError) and cause.errno in PASSING:
            kind = "infrastructure"
    return Fault(kind, worded(error))


def worded(error: BaseException) -> str:
    """An exception in a line: one that is made for users as it is, one of the system with its file, others with their class."""
    if isinstance(error, InputError | InfrastructureError):
        text = str(error)
    elif isinstance(error, OSError) and error.errno is not None and error.filename:
        text = f"{os.fsdecode(error.filename)}: {error.strerror}"
    elif isinstance(error, OSError) and is_without_temporary(error):
        text = f"{error.strerror}: set TMPDIR to a folder that can be written"
    elif isinstance(error, BrokenExecutor):
        text = (
            "a process that did part of the work was killed, perhaps because memory was short: see what else fills it"
        )
    else:
        told = str(error)
        text = f"{type(error).__name__}: {told}"
        if IN_LOADER.match(told):
            text = f"in a process that loads data: {told.strip().splitlines()[-1]}"
        if is_full_shared_memory(error):
            text += "; there is too little shared memory (/dev/shm) for the batches: give it more, or the suite fewer workers"
        if is_denied_thread(error):
            text += "; no more threads and processes are allowed here (`ulimit -u`, or a container's limit): allow more"
        if is_unmapped(error):
            text += (
                "; there is too little memory for it (`ulimit -v` shows a limit), or it lies on a mount that is noexec"
            )
    return " ".join(text.split())


def causes(error: BaseException) -> Iterator[BaseException]:
    """An exception and those before it, the cause of each, else what was being handled when it was raised."""
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        yield following
        following = following.__cause__ or following.__context__


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that there was no memory, of a GPU or of the machine."""
    # torch.OutOfMemoryError is a RuntimeError.
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and NO_MEMORY.search(str(error)) is not None
    )


def is_full_shared_memory(error: BaseException) -> bool:
    """Whether an exception says that shared memory, through which batches come from the processes that load them, was full."""
    return isinstance(error, RuntimeError | OSError) and FULL_SHARED_MEMORY.search(str(error)) is not None


def is_denied_thread(error: BaseException) -> bool:
    """Whether an exception says that this process, its user or its container may have no more threads."""
    return isinstance(error, RuntimeError) and NO_THREAD in str(error)


def is_full_disk(error: BaseException) -> bool:
    """Whether an exception, or what it was raised from, says that there was no room on a disk, or no more was allowed."""
    return any(isinstance(cause, OSError) and cause.errno in FULL for cause in causes(error))


def is_unmapped(error: BaseException) -> bool:
    """Whether an exception says that a library of the system's couldn't be loaded, though it is there."""
    return isinstance(error, ImportError | OSError) and UNMAPPED in str(error)


def is_without_temporary(error: BaseException) -> bool:
    """Whether an exception says that there is no folder for temporary files."""
    return isinstance(error, OSError) and NO_TEMPORARY in str(error)


def is_lost_loader(error: BaseException) -> bool:
    """Whether an exception says that a process that loads data was killed. torch raises it wherever the program is at that moment."""
    return isinstance(error, RuntimeError) and LOST_LOADER in str(error)
