"""The process of one job: reads the job from standard input, says how it goes on standard output, one JSON object a line.

Whatever libraries print goes to standard error, which is the job's log.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import sys
import traceback
from contextlib import suppress
from dataclasses import asdict
from typing import IO, Any

from harness.engines.worker_process import INTERRUPTED, STOPPED, UNHEARD
from harness.errors import telling_warnings
from harness.processes.children import die_with_parent
from harness.processes.faults import fault_of
from harness.processes.progress import Event, throttled
from harness.processes.stopping import ask_to_stop, stop_asked, stop_on_request, struck


def main(report_seconds: float, parent: int) -> int:
    """Run the job on standard input; the exit code is 0 if it is done, 1 if it failed, INTERRUPTED if it was stopped.

    UNHEARD: it couldn't say which. report_seconds: at most one event of a phase in this time. parent: the id of whoever started it.
    """
    stop_on_request()
    die_with_parent(signal.SIGTERM, parent)
    # With it a scheduler announces a job's end to all its processes; the parent of this one acts on it, and it would end the others.
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    said = take_standard_output()
    name = ""  # of a job that can't be read

    def report(event: Event) -> None:
        pass_on({"event": asdict(event)})

    def warn(message: str) -> None:
        with suppress(OSError):  # a full disk
            print(f"warning: {message}", file=sys.stderr)
        pass_on({"warning": message})

    def pass_on(news: dict[str, Any]) -> None:
        try:
            say(said, news)
        except BrokenPipeError:
            ask_to_stop()  # whoever started this process is gone
        except OSError:
            pass  # no room for news, which are only for show: no reason to end the work

    try:
        with telling_warnings(warn):  # modules of adapters, which warn as well, are imported with the job
            job = pickle.loads(sys.stdin.buffer.read())  # our own parent's pickle, over a pipe of its own
            name = job.name
            job.task(throttled(report, report_seconds))
    except KeyboardInterrupt:
        return INTERRUPTED
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it is, the parent is told and the traceback is in the log
        log_traceback()
        fault = fault_of(error)
        if struck():
            return INTERRUPTED
        if stop_asked():
            report(Event(name, STOPPED, note=f"not as it should: {fault.message}"))
            return INTERRUPTED
        return ended(said, {"failed": fault.message, "kind": fault.kind}, 1)
    return ended(said, {"done": True}, 0)


def ended(stream: IO[str], what: dict[str, Any], code: int) -> int:
    """Tell the parent how the job ended; the exit code."""
    try:
        say(stream, what)
    except OSError:
        return UNHEARD
    return code


def log_traceback() -> None:
    """Put the traceback into the log; where the disk is full there is no log, and the parent knows what happened."""
    with suppress(OSError):
        traceback.print_exc()


def say(stream: IO[str], what: dict[str, Any]) -> None:
    """Tell the parent; the line goes out at once."""
    stream.write(json.dumps(what) + "\n")
    stream.flush()


def take_standard_output() -> IO[str]:
    """Keep the pipe to the parent for ourselves, and let everybody else's prints go to standard error."""
    private = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(private, "w", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), int(sys.argv[2])))
