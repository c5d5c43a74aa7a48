"""The events of a suite's runs, as JSON lines that any program can follow: schema `samiro-bench-events/1`, see docs/watching.md.

Each run of `bench` writes a file of its own, so no two processes append to one file, on whatever file system it lies. A line is
one write to the file's end. A reader meets whole lines, but for a last one that was torn when the writer was killed or the disk was
full: it is passed over, and the next line begins on a line of its own.
"""

from __future__ import annotations

import os
import socket
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from harness.errors import InputError, InputWarning
from harness.files.growing import new_lines

SCHEMA = "samiro-bench-events/1"

JobKind = Literal["render", "oracle", "cell", "time"]
"""What a job makes: a rendered dataset, a pre-trained oracle, a cell (or a program's), the time measurement of a cell."""


class _Event(BaseModel):
    """time: UTC, ISO 8601. run: the name of the run, which is its file's. Unknown keys are left alone: a later version may add some."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    time: datetime
    run: str


class RunStarted(_Event):
    """A `bench` begins: of which suite, where, how many cells it was asked for and how many of them were done already."""

    event: Literal["run_started"] = "run_started"
    events_schema: str = SCHEMA
    suite: str
    engine: str
    host: str
    pid: int
    cells: int
    done: int


class Queued(_Event):
    """A job that this run is to do. alone: nothing else runs on its machine meanwhile. expected_seconds: if a plan knows them."""

    event: Literal["queued"] = "queued"
    job: str
    kind: JobKind
    alone: bool
    expected_seconds: float | None = None


class Started(_Event):
    """A job has a process, or is handed to a scheduler, whose queue is the phase `waits`."""

    event: Literal["started"] = "started"
    job: str


class Progress(_Event):
    """Where a job is: its phase (`train`, `predict`, ...), the step of how many (0: not counted), and a word such as the loss."""

    event: Literal["progress"] = "progress"
    job: str
    phase: str
    step: int = 0
    total: int = 0
    note: str = ""


class Ended(_Event):
    """A job ended. message: why it failed or was skipped; log: the file that its output went to."""

    event: Literal["ended"] = "ended"
    job: str
    state: Literal["done", "failed", "skipped"]
    seconds: float = 0.0
    kind: str | None = None
    message: str = ""
    log: str = ""


class RunEnded(_Event):
    """The run ended: by itself (`finished`), by Ctrl-C (`stopped`), or by an error of its own. A killed one says nothing."""

    event: Literal["run_ended"] = "run_ended"
    why: Literal["finished", "stopped", "error"]


RunEvent = RunStarted | Queued | Started | Progress | Ended | RunEnded
_ADAPTER: TypeAdapter[RunEvent] = TypeAdapter(Annotated[RunEvent, Field(discriminator="event")])


def events_folder(results: Path, suite: str) -> Path:
    """Where a suite's events lie: a file a run, in the order of their names."""
    return results / suite / "events"


def run_name() -> str:
    """A name for a run that begins now: when, where, and which process. Sorted by name, runs are sorted by their start."""
    host = "".join(sign if sign.isalnum() else "_" for sign in socket.gethostname())
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{host}-{os.getpid()}"


def now() -> datetime:
    """The time of an event that happens now."""
    return datetime.now(UTC)


def as_line(event: RunEvent) -> bytes:
    """An event as its line."""
    return event.model_dump_json().encode() + b"\n"


@dataclass
class EventFile:
    """Appends events. What can't be written (a full disk) is left out, with one warning: nothing that runs ends for its news."""

    path: Path
    torn: bool = False
    warned: bool = False

    def write(self, events: Iterable[RunEvent]) -> None:
        """Append some events, whole lines in one write."""
        text = (b"\n" if self.torn else b"") + b"".join(map(as_line, events))
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                self.torn = True
                self.torn = os.write(descriptor, text) < len(text)
            finally:
                os.close(descriptor)
        except OSError as error:
            if not self.warned:
                self.warned = True
                warnings.warn(
                    f"{self.path}: events can't be written ({error.strerror}); the run goes on without them",
                    InputWarning,
                    stacklevel=2,
                )


@dataclass
class EventReader:
    """Reads the events of a suite's runs as they grow: each call of `read` gives what is new. `skipped`: lines that are no events."""

    folder: Path
    offsets: dict[str, int] = field(default_factory=dict)
    skipped: int = 0

    def read(self) -> Iterator[RunEvent]:
        """The events that are new, run after run; none while there is no folder. A last line without its end waits for it."""
        try:
            names = sorted(name for name in os.listdir(self.folder) if name.endswith(".jsonl"))
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise InputError(
                f"{self.folder}: {error.strerror}: the folder of a suite's events can't be read"
            ) from error
        for name in names:
            lines, self.offsets[name] = new_lines(self.folder / name, self.offsets.get(name, 0))
            for line in lines:
                event = parsed(line)
                if event is not None:
                    yield event
                elif line:
                    self.skipped += 1


def parsed(line: bytes) -> RunEvent | None:
    """An event's line; None for one that was torn, or is of a kind that this version doesn't know."""
    try:
        return _ADAPTER.validate_json(line)
    except ValidationError:
        return None


def seconds_between(first: datetime, last: datetime) -> float:
    """Seconds from one event to another, 0 where a clock went back in between."""
    return max(0.0, (last - first).total_seconds())
