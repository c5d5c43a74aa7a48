"""Locks of results: which process works on what. They are the kernel's (flock), so whoever is killed holds none any more.

A lock's file stays when it is free. No number of a process is ever asked whether it lives: numbers are used again, and mean nothing
on another host.
"""

from __future__ import annotations

import getpass
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import BaseModel

from harness.errors import InputError
from harness.files.stored import write_text

PATIENCE_SECONDS = 2.0
"""How long a folder may be held before somebody else is said to work on it: `status` looks at a lock by taking it for an instant."""

BEAT_SECONDS = 5.0
"""How often a holder touches its file, for hosts that don't see its lock."""

BEATS = 3
"""For so many beats a holder on another host has to be silent before its folder is taken."""


class Holder(BaseModel):
    """Who holds a folder, for people to read."""

    host: str
    process: int
    user: str
    since: str
    command: str

    def __str__(self) -> str:
        """A clause of a message."""
        return f"process {self.process} of {self.user} on {self.host} since {self.since}: {self.command}"


def lock_of(folder: Path) -> Path:
    """The lock of a suite's folder of results."""
    return folder / ".bench.lock"


def holder_of(folder: Path) -> Path:
    """Where the holder of a folder says who it is."""
    return folder / ".bench.holder.json"


@dataclass(frozen=True)
class Held:
    """A suite's folder that this process holds. lock: which file its lock was, by device and number, when it was taken."""

    folder: Path
    lock: tuple[int, int]

    def refuse_vanished(self) -> None:
        """InputError where the folder is gone or another one by now, as where a mount was lost: what is missing there is no news."""
        try:
            there = os.stat(lock_of(self.folder))
        except (FileNotFoundError, NotADirectoryError):
            there = None
        if there is None or (there.st_dev, there.st_ino) != self.lock:
            raise InputError(
                f"{self.folder}: vanished while this worked in it (a mount that was lost?); see that it is there again, then the "
                "same command goes on"
            )


@contextmanager
def sole(folder: Path, beat_seconds: float = BEAT_SECONDS) -> Iterator[Held]:
    """Hold a suite's folder, and say in it who does; InputError, which names the holder, if somebody else has it."""
    try:
        os.fsencode(os.path.realpath(folder)).decode("utf-8")  # it stands in all sorts of files, which are
    except UnicodeDecodeError:
        raise InputError(
            f"{folder}: the path {os.path.realpath(folder)} isn't UTF-8; rename the folder that isn't, or give another --results folder"
        ) from None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(lock_of(folder))
        lock.acquire(timeout=PATIENCE_SECONDS)
    except Timeout:
        raise refused(folder, read_holder(folder)) from None
    except (OSError, NotImplementedError) as error:
        raise unlockable(folder, error) from error
    try:
        refuse_other_host(folder, beat_seconds)
        write_text(holder_of(folder), myself().model_dump_json() + "\n")
        ended = threading.Event()
        beats = threading.Thread(target=beat, args=(holder_of(folder), ended, beat_seconds), daemon=True)
        beats.start()
        there = os.stat(lock_of(folder))
        try:
            yield Held(folder, (there.st_dev, there.st_ino))
        finally:
            ended.set()
            beats.join()
            with suppress(OSError):
                holder_of(folder).unlink(missing_ok=True)
    finally:
        lock.release()


def myself() -> Holder:
    """This process."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        user = f"user {os.getuid()}"
    # A word that isn't UTF-8, such as the path of a suite, is named as well as it can be.
    command = os.fsencode(" ".join(["samiro-bench", *sys.argv[1:]])).decode(errors="replace")
    now = datetime.now().astimezone().isoformat(" ", "seconds")
    return Holder(host=socket.gethostname(), process=os.getpid(), user=user, since=now, command=command)


def read_holder(folder: Path) -> Holder | None:
    """Who said last that it holds a folder and didn't take it back; None where nobody did, or it can't be read."""
    try:
        return Holder.model_validate_json(holder_of(folder).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # also pydantic's
        return None


def refused(folder: Path, holder: Holder | None) -> InputError:
    """What is said to whoever comes second."""
    who = "" if holder is None else f" ({holder})"
    return InputError(
        f"{folder}: another `bench` works on this suite now{who}; wait for it, or give another --results folder"
    )


def unlockable(path: Path, error: OSError | NotImplementedError) -> InputError:
    """What is said where a folder can't be written or a file not be locked: whoever made it may be another."""
    reason = getattr(error, "strerror", None) or error
    shared = ", or share this one (docs/reliability.md, Two at once)" if isinstance(error, PermissionError) else ""
    return InputError(f"{path}: cannot be written or locked ({reason}); give another --results folder{shared}")


def refuse_other_host(folder: Path, beat_seconds: float) -> None:
    """InputError where a holder on another host is alive, whose lock this host doesn't see: some network file systems keep locks apart.

    A killed one leaves its file as well. Which it is shows in a few beats; only changes are looked at, for clocks of hosts differ.
    """
    holder = read_holder(folder)
    if holder is None or holder.host == socket.gethostname():
        return
    seen = touched(holder_of(folder))
    deadline = time.monotonic() + BEATS * beat_seconds
    while time.monotonic() < deadline:
        time.sleep(beat_seconds / 5)
        if touched(holder_of(folder)) != seen:
            raise refused(folder, holder)


def touched(path: Path) -> int | None:
    """When a file was touched last, by its server's clock; None where it isn't there."""
    try:
        with open(path, "rb") as stream:  # which has a network's file system ask its server
            return os.fstat(stream.fileno()).st_mtime_ns
    except OSError:
        return None


def beat(path: Path, ended: threading.Event, seconds: float) -> None:
    """Touch a file until the end. It takes no room; a mount that fails now may be back at the next beat."""
    while not ended.wait(seconds):
        with suppress(OSError):
            os.utime(path)


def is_held(folder: Path) -> bool:
    """Whether a `bench` holds a suite's folder now, as far as this host sees its lock."""
    if not lock_of(folder).is_file():
        return False
    try:
        with FileLock(lock_of(folder), timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # a folder that is only to be read: nobody here writes to it
        return False


@contextmanager
def in_turn(path: Path, waits: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the lock of a piece of work; whoever comes second waits, and then finds it done or goes on with it.

    waits: called once by whoever has to wait. A process that was told to end, or whose `bench` was killed, holds it until it has ended.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if waits is not None:
                waits()
            lock.acquire()
    except (PermissionError, NotImplementedError) as error:
        raise unlockable(path, error) from error
    try:
        yield
    finally:
        lock.release()
