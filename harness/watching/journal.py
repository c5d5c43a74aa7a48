"""The journal of a run: what an engine tells becomes events, in the run's file and on its board; a heartbeat says that it lives."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from harness.engines.base import Job, Outcome
from harness.processes.progress import Event
from harness.watching.board import BENCH, Board
from harness.watching.events import (
    Ended,
    EventFile,
    JobKind,
    Progress,
    Queued,
    RunEnded,
    RunEvent,
    RunStarted,
    Started,
    events_folder,
    now,
    run_name,
)
from harness.watching.forecast import kind_word
from harness.watching.heartbeats import alive_folder, beating

PROGRESS_SECONDS = 60.0
"""A job's progress is written at most so often within a phase; its heartbeat tells it more often."""

KINDS: dict[str, JobKind] = {"render": "render", "oracle": "oracle", "time": "time"}


@dataclass
class Journal:
    """A listener of an engine. `board` knows all that is told; the file has progress of a phase every PROGRESS_SECONDS."""

    run: str
    file: EventFile
    board: Board = field(default_factory=Board)
    _written: dict[str, tuple[str, float]] = field(default_factory=dict)

    def write(self, events: Sequence[RunEvent]) -> None:
        """Put events on the board and into the file."""
        self.board.take(events)
        self.file.write(events)

    def started(self, job: Job) -> None:
        """See `harness.engines.base.Listener`."""
        self.write([Started(time=now(), run=self.run, job=job.name)])

    def event(self, event: Event) -> None:
        """See `harness.engines.base.Listener`."""
        found = Progress(
            time=now(),
            run=self.run,
            job=event.job,
            phase=event.phase,
            step=event.step,
            total=event.total,
            note=event.note,
        )
        self.board.take([found])
        phase, written = self._written.get(event.job, ("", 0.0))
        moment = time.monotonic()
        last = 0 < event.total <= event.step
        if event.phase != phase or last or moment - written >= PROGRESS_SECONDS:
            self._written[event.job] = (event.phase, moment)
            self.file.write([found])

    def ended(self, outcome: Outcome) -> None:
        """See `harness.engines.base.Listener`."""
        self._written.pop(outcome.job, None)
        told = Ended(
            time=now(),
            run=self.run,
            job=outcome.job,
            state=outcome.state,
            seconds=outcome.seconds,
            kind=outcome.kind,
            message=outcome.message,
            log=outcome.log,
        )
        self.write([told])


@contextmanager
def journal(
    results: Path,
    suite: str,
    engine: str,
    jobs: Sequence[Job],
    cells: tuple[int, int],
    expected: Mapping[str, float],
) -> Iterator[Journal]:
    """The journal of a run of some jobs, which says how the block ends.

    cells: how many the run was asked for, and how many of these were done before. expected: seconds of jobs by name, as far as known.
    """
    if not jobs:
        # Nothing happens, so there is nothing to tell: a finished matrix is found finished without a trace.
        yield Journal("", EventFile(Path(os.devnull)))
        return
    run = run_name()
    kept = Journal(run, EventFile(events_folder(results, suite) / f"{run}.jsonl"))
    begun = now()
    with beating(alive_folder(results, suite) / f"bench-{run}.json", f"{BENCH}{run}") as beat:
        head = RunStarted(
            time=begun,
            run=run,
            suite=suite,
            engine=engine,
            host=socket.gethostname(),
            pid=os.getpid(),
            cells=cells[0],
            done=cells[1],
        )
        queued = [
            Queued(
                time=begun,
                run=run,
                job=job.name,
                kind=KINDS.get(kind_word(job.name), "cell"),
                alone=job.exclusive,
                expected_seconds=expected.get(job.name),
            )
            for job in jobs
        ]
        kept.write([head, *queued])
        beat(Event(f"{BENCH}{run}", engine))
        try:
            yield kept
        except KeyboardInterrupt:
            kept.write([RunEnded(time=now(), run=run, why="stopped")])
            raise
        except BaseException:
            kept.write([RunEnded(time=now(), run=run, why="error")])
            raise
        kept.write([RunEnded(time=now(), run=run, why="finished")])
