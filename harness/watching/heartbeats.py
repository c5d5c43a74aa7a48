"""Heartbeats: a small file a running process that says it lives, on whatever machine it is, to everybody who sees the folder.

A process id means nothing on another machine, and no lock is asked for here. A process that is killed leaves its file, whose beat
stops. Clocks of machines differ: a beat counts as long as it isn't SILENT_SECONDS old, and one from further in the future than that
says that a clock is wrong, which is told and not guessed about.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.engines.base import Job, Task
from harness.processes.progress import Event, Report

BEAT_SECONDS = 10.0
"""How often a process says that it lives."""

SILENT_SECONDS = 60.0
"""After how long without a beat it counts as gone: a network's file system may show a file half a minute late."""

Liveness = Literal["alive", "silent", "clock"]
"""`clock`: the beat is from the future."""


class Heartbeat(BaseModel):
    """what: the job, or `bench` and the run's name. beat: the how manieth. started, time: seconds since 1970, by the host's clock."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    what: str
    host: str
    pid: int
    beat: int
    started: float
    time: float
    phase: str = ""
    step: int = 0
    total: int = 0
    note: str = ""

    def age(self, now: float) -> float:
        """Seconds since the beat by a reader's clock; negative if it is from the future."""
        return now - self.time

    def liveness(self, now: float) -> Liveness:
        """Whether the process counts as running."""
        age = self.age(now)
        return "clock" if age < -SILENT_SECONDS else "alive" if age <= SILENT_SECONDS else "silent"


def alive_folder(results: Path, suite: str) -> Path:
    """Where the heartbeats of a suite's processes lie."""
    return results / suite / "alive"


@contextmanager
def beating(path: Path, what: str, seconds: float = BEAT_SECONDS) -> Iterator[Callable[[Event], None]]:
    """Beat while the block runs; yields what takes the events of which each beat tells the last. The file goes with the block.

    A beat that can't be written (a full disk, a folder that vanished) is left out: work never ends for it.
    """
    started, last, over = time.time(), Event(what, ""), threading.Event()
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    beats = 0

    def beat() -> None:
        nonlocal beats
        beats += 1
        said = Heartbeat(
            what=what,
            host=socket.gethostname(),
            pid=os.getpid(),
            beat=beats,
            started=started,
            time=time.time(),
            phase=last.phase,
            step=last.step,
            total=last.total,
            note=last.note,
        )
        # Replaced whole, but not fsynced: it is worth nothing after a crash.
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            aside.write_text(said.model_dump_json())
            aside.replace(path)

    def keep_beating() -> None:
        while not over.wait(seconds):
            beat()

    def news(event: Event) -> None:
        nonlocal last
        last = event

    thread = threading.Thread(target=keep_beating, name="heartbeat", daemon=True)
    beat()
    thread.start()
    try:
        yield news
    finally:
        over.set()
        thread.join(timeout=seconds)
        with suppress(OSError):
            path.unlink(missing_ok=True)
            aside.unlink(missing_ok=True)  # of a beat that found no room


def kept_alive(job: Job, folder: Path) -> Job:
    """The same job, which beats in `folder` while it runs, wherever that is."""
    return replace(job, task=partial(_run_beating, job.file(folder, ".json"), job.name, job.task))


def _run_beating(path: Path, name: str, task: Task, report: Report) -> None:
    with beating(path, name) as news:

        def told(event: Event) -> None:
            news(event)
            report(event)

        task(told)


def read_heartbeats(folder: Path) -> dict[str, Heartbeat]:
    """What -> its last beat. One that vanishes meanwhile, or that can't be read, isn't there: its process says it again soon."""
    found = {}
    try:
        names = [name for name in os.listdir(folder) if name.endswith(".json")]
    except (FileNotFoundError, NotADirectoryError):
        return {}
    for name in names:
        with suppress(OSError, ValidationError):
            heartbeat = Heartbeat.model_validate_json((folder / name).read_bytes())
            found[heartbeat.what] = heartbeat
    return found
