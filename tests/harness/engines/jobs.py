"""Tasks for the engine's tests; a module of its own, because a job travels to its process as a pickle."""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
import warnings
from pathlib import Path

from harness.errors import InputError, InputWarning
from harness.processes.neighbours import node_is_shared
from harness.processes.progress import Event, Report
from harness.processes.stopping import after_checkpoint, stop_asked


def touch(path: Path, report: Report) -> None:
    """Say something, print something, leave a file."""
    print("noise on standard output")
    report(Event(path.name, "work", 1, 1, "note"))
    path.write_text(str(time.monotonic()))


def wait(path: Path, seconds: float, report: Report) -> None:
    """Leave a file with begin and end."""
    begin = time.monotonic()
    time.sleep(seconds)
    path.write_text(f"{begin} {time.monotonic()}")


def bad_input(report: Report) -> None:
    """Somebody's file is broken."""
    raise InputError("x.jpg: truncated; restore it")


def odd_input(report: Report) -> None:
    """Somebody's file is strange, and is found to be so twice."""
    for _ in range(2):
        warnings.warn("x.txt: two points in one place", InputWarning, stacklevel=1)
    warnings.warn("something about a library", UserWarning, stacklevel=1)


def bug(report: Report) -> None:
    """Our fault."""
    raise ZeroDivisionError("ouch")


def leave(report: Report) -> None:
    """Somebody's code takes itself for the whole program."""
    sys.exit(3)


def die(report: Report) -> None:
    """What the kernel does when memory is short."""
    os.kill(os.getpid(), 9)


def environment(path: Path, report: Report) -> None:
    """Write down what the engine set."""
    path.write_text(os.environ["OMP_NUM_THREADS"] + " " + os.environ.get("CUDA_VISIBLE_DEVICES", "-"))


def neighbours(path: Path, report: Report) -> None:
    """Write down whether others may work beside this."""
    path.write_text(str(node_is_shared()))


def end_parent(how: str, report: Report) -> None:
    """What is left of a job when its machine is switched off: nothing, not even the process that waits for this one."""
    os.kill(os.getppid(), signal.Signals[how])
    time.sleep(5)


def stopped_once(path: Path, report: Report) -> None:
    """Take long at the first time, as one that is stopped, and no time at the second."""
    if not path.exists():
        path.write_text("")
        time.sleep(20)


def count(path: Path, total: int, report: Report) -> None:
    """Count up to `total`, a step in a fifth of a second, on from where an earlier attempt came."""
    begin = int(path.read_text()) if path.exists() else 0
    with open(path.with_suffix(".begins"), "a") as begins:
        begins.write(f"{begin}\n")
    for step in range(begin + 1, total + 1):
        time.sleep(0.2)
        path.with_suffix(".part").write_text(str(step))
        path.with_suffix(".part").replace(path)  # whole, wherever it is stopped
        report(Event(path.name, "count", step, total))


def fails(path: Path, times: int, number: int | None, report: Report) -> None:
    """Meet an error of the system so many times; without a number be killed. A line of the file is an attempt."""
    with open(path, "a") as attempts:
        attempts.write("attempt\n")
    if len(path.read_text().splitlines()) <= times:
        if number is None:
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(number, os.strerror(number or 0), str(path))


def keeps_checkpoints(path: Path, seconds: float, report: Report) -> None:
    """Take steps of so many seconds until asked to stop, and write down the one at which it did."""
    with after_checkpoint():
        for step in range(1, 1000):
            report(Event(path.name, "train", step, 1000))
            time.sleep(seconds)
            if stop_asked():
                path.write_text(str(step))
                return


def hurries(steps: int, report: Report) -> None:
    """Take no time for a step."""
    for step in range(1, steps + 1):
        report(Event("hurries", "steps", step, steps))


def lasts(path: Path, seconds: float, report: Report) -> None:
    """Leave a file, and go on for a while."""
    path.write_text("begun")
    time.sleep(seconds)


def turns_an_interrupt_into_an_error(report: Report) -> None:
    """Be interrupted in compiled code that knows no such exception, as torch's that converts values."""
    report(Event("compiled", "steps", 1, 2))
    try:
        time.sleep(20)
    except KeyboardInterrupt:
        raise ValueError("could not determine the shape") from None


def keeps_no_checkpoint(seconds: float, report: Report) -> None:
    """Take steps of so many seconds until asked to stop, and find no room for the checkpoint."""
    with after_checkpoint():
        for step in range(1, 1000):
            report(Event("full", "steps", step, 1000))
            time.sleep(seconds)
            if stop_asked():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/here")
