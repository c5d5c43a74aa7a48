"""A job on another machine: its worker there, and the files that both machines see, in which it says how it goes.

The worker's lines go to a file of news as they are. Two kinds are added: `attempt` when a process starts, for a scheduler may start a
job again, and `exit` with its exit code when it ended by itself. Who was stopped says nothing: the scheduler starts it again, or not.
"""

from __future__ import annotations

import json
import os
import pickle
import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.engines.base import Job
from harness.engines.worker_process import INTERRUPTED, thread_environment, worker_command
from harness.files.growing import new_lines

REPORT_SECONDS = 2.0
"""At most one event of a phase in this time: the file lies on a network's file system, and is read every few seconds."""

GRACE_SECONDS = 45.0
"""How long a stopped worker has to end by itself. submitit's signal comes 90 s before Slurm's end."""

LOOK_SECONDS = 0.2
"""How often a worker's process is looked at; a signal's handler runs in between."""


@dataclass
class SpooledJob:
    """A job as a scheduler runs it. Called where it is to run, it starts the worker and waits for it. Picklable before that.

    folder: the working directory, from which the job's relative paths start. news, log: files that both machines see.
    """

    job: Job
    folder: Path
    news: Path
    log: Path
    threads: int
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    stopped: bool = False

    def __call__(self) -> int:
        """Run the job to its end; gives the worker's exit code. A stopped one leaves by KeyboardInterrupt."""
        say(self.news, {"attempt": socket.gethostname()})
        with open(self.news, "ab") as news, open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                worker_command(REPORT_SECONDS),
                stdin=subprocess.PIPE,
                stdout=news,
                stderr=log,
                cwd=self.folder,
                env={**os.environ, **thread_environment(self.threads)},
            )
        assert self.process.stdin is not None
        try:
            with suppress(BrokenPipeError), self.process.stdin as pipe:
                pipe.write(pickle.dumps(self.job))
            while (code := self.process.poll()) is None:
                time.sleep(LOOK_SECONDS)
            if code < 0 or code == INTERRUPTED:
                # A signal to all processes of a job may reach the worker first.
                time.sleep(5 * LOOK_SECONDS)
        finally:
            if self.process.poll() is None:
                self.stop()
        if self.stopped:
            raise KeyboardInterrupt
        say(self.news, {"exit": code})
        return code

    def stop(self) -> None:
        """Ask the worker to end after a checkpoint, and end it if it doesn't; from then on the job has been stopped."""
        self.stopped = True
        process = self.process
        if process is None:
            return
        with suppress(ProcessLookupError):
            process.terminate()
        deadline = time.monotonic() + GRACE_SECONDS
        while process.poll() is None:
            if time.monotonic() > deadline:
                process.kill()
                return
            time.sleep(LOOK_SECONDS)


def say(news: Path, what: dict[str, Any]) -> None:
    """Add a line; after the half of one that a killed process left, on a line of its own."""
    with open(news, "a+b") as stream:
        stream.seek(0, os.SEEK_END)
        torn = False
        if stream.tell():
            stream.seek(-1, os.SEEK_END)
            torn = stream.read(1) != b"\n"
        stream.write((b"\n" if torn else b"") + json.dumps(what).encode() + b"\n")


@dataclass
class News:
    """Reads a file of news as it grows."""

    path: Path
    offset: int = 0

    def read(self) -> list[dict[str, Any]]:
        """The lines that are new and whole. None while the file isn't there; a torn line is passed over."""
        try:
            lines, self.offset = new_lines(self.path, self.offset)
        except FileNotFoundError:
            return []
        found = []
        for line in lines:
            with suppress(ValueError):
                found.append(json.loads(line))
        return [line for line in found if isinstance(line, dict)]
