"""The console command `samiro-bench`: one module a verb, loaded when the verb is used."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.metadata import version
from io import TextIOWrapper
from pathlib import Path

from harness.errors import InputError, did_you_mean, telling_warnings
from harness.processes.faults import (
    InfrastructureError,
    fault_of,
    is_full_shared_memory,
    is_out_of_memory,
    is_unmapped,
    is_without_temporary,
    worded,
)
from harness.processes.limits import hold_threads
from harness.report.text import escaped

VERBS: dict[str, tuple[str, str]] = {
    "bench": ("harness.cli.bench", "run the matrix of a suite, resume what is there, write its leaderboard"),
    "plan": ("harness.cli.plan", "the cells of a suite and where each stands"),
    "status": ("harness.cli.status", "what is done, what failed and why"),
    "leaderboard": ("harness.cli.leaderboard", "rebuild the tables of a suite from its records and counts"),
    "score": ("harness.cli.score", "score predictions in an official format"),
    "compare": (
        "harness.cli.compare",
        "is one set of predictions better than another, by more than trainings and clips vary",
    ),
    "seeds": ("harness.cli.seeds", "how many paired seeds a gain takes, by what a pilot's rows varied by"),
    "predict": ("harness.cli.predict", "lanes of any images and videos, and pictures of them"),
    "overlays": (
        "harness.cli.overlays",
        "what every trained detector of a suite finds in the same images, on one page",
    ),
    "attention": (
        "harness.cli.attention",
        "what the trained detectors of a suite weigh by their spatial attention, in figures and pictures",
    ),
    "transfer": ("harness.cli.transfer", "how every trained detector of a suite does on a labelled folder"),
    "throughput": ("harness.cli.throughput", "how fast a checkpoint's detector is, by protocol lane-latency/1"),
    "export": ("harness.cli.export", "a checkpoint's network as an ONNX file, which runs without this program"),
    "detectors": (
        "harness.cli.detectors",
        "what detectors there are, conformance, a scaffold for a new one, import of checkpoints",
    ),
    "oracle": (
        "harness.cli.oracle",
        "oracles: pre-train one on a folder of images, probe what they know of lanes, and what there are",
    ),
    "weights": ("harness.cli.weights", "pretrained backbone weights: what there are, and into the cache with them"),
    "data": ("harness.cli.data", "render, examine, index and convert datasets"),
    "publish": ("harness.cli.publish", "copy a suite's records and tables to results/<suite>/ and the README"),
    "verify": ("harness.cli.verify", "score every published row again and make its tables again"),
    "submit": ("harness.cli.submit", "pack finished rows of your runs for a pull request"),
    "review": ("harness.cli.review", "score submissions again, and accept or refuse each with reasons"),
    "suite": ("harness.cli.suite", "the JSON Schema of suites"),
    "env": ("harness.cli.env", "what machine and libraries these are"),
}
"""Verb -> the module whose `app` it is (a typer.Typer), and what it does."""


INTERRUPTED = 130
"""Exit code of a run that was stopped: 128 + SIGINT, as shells have it."""

READER_GONE = 141
"""Exit code where whoever read standard output has gone: 128 + SIGPIPE, as shells have it."""

ALL_OR_NOTHING = ("score", "compare", "seeds", "overlays", "transfer", "data", "publish", "verify", "submit", "review")
"""Verbs that leave nothing when they are stopped, by Ctrl-C or by a time limit's SIGTERM."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns (and as a console script exits with) 0, 1 or 2 as docs and `--help` say."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        code = answered(words)
        # Here, where it is no error that nobody reads on; at its exit Python would complain.
        sys.stdout.flush()
    except BrokenPipeError:
        unheard()
        return READER_GONE
    except OSError as error:
        code = 2
        with suppress(OSError):  # both are gone with a terminal
            code = complain(f"standard output can't be written: {error.strerror}")
        unheard()
    return code


def answered(words: list[str]) -> int:
    """Do what a command line says; the exit code. BrokenPipeError where nobody reads standard output on (`| head`)."""
    if not words or words[0] in {"-h", "--help", "help"}:
        print(overview())
        return 0
    if words[0] == "--version":
        print(f"samiro-bench {version('samiro-bench')}")
        return 0
    verb, rest = words[0], words[1:]
    if verb not in VERBS:
        return complain(f"unknown command {verb!r}: {did_you_mean(verb, list(VERBS))}")
    try:
        os.getcwd()
    except FileNotFoundError:  # libraries end the program for it, with words that nobody understands
        return complain("the folder that this was started in is gone: change into one that is there")
    import typer

    # Newer releases of typer carry a click of their own, so its exceptions are found through typer's.
    usage_error: type[Exception] = next(
        kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
    )
    hold_threads()
    try:
        app = import_module(VERBS[verb][0]).app
    except InputError as error:  # of the code itself, as where a kind of method has no entry
        return complain(str(error))
    try:
        command = typer.main.get_command(app)
        with telling_warnings(warn), ended_as_by_ctrl_c(verb in ALL_OR_NOTHING):
            result = command.main(args=rest, prog_name=f"samiro-bench {verb}", standalone_mode=False)
    except InputError as error:
        return complain(str(error))
    except usage_error as error:
        context = getattr(error, "ctx", None)
        asked = f"samiro-bench {verb}" if context is None else context.command_path
        return complain(f"{error.format_message()} ({asked} --help shows the usage)")  # type: ignore[attr-defined]
    except (KeyboardInterrupt, typer.Abort):
        return interrupted(verb)
    except InfrastructureError as error:
        complain(str(error))
        return 1
    except SystemExit as end:
        # typer itself ends the program where the pipe is broken.
        if isinstance(end.__context__, BrokenPipeError):
            raise end.__context__ from None
        raise
    except BrokenPipeError:
        raise
    except (RuntimeError, MemoryError, ImportError) as error:
        if is_full_shared_memory(error) or is_unmapped(error):
            return complain(f"{verb}: {worded(error)}")
        fault = fault_of(error)
        if fault.kind != "infrastructure":
            raise
        advice = f"see what else fills it, or give a smaller batch or --device cpu where `samiro-bench {verb} --help` has them"
        complain(
            f"{verb}: " + (f"out of memory ({fault.message}): {advice}" if is_out_of_memory(error) else fault.message)
        )
        return 1
    except OSError as error:
        if is_unmapped(error) or is_without_temporary(error):
            return complain(f"{verb}: {worded(error)}")
        if error.filename is None:
            sys.stdout.flush()  # where it is what can't be written, this raises that once more, and `main` says so
        told = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        denied = isinstance(error, PermissionError)
        return complain(f"{told}; have whoever made it let you, or name another one" if denied else told)
    # typer itself turns Ctrl-C into this exit code, and says nothing.
    if result == INTERRUPTED:
        return interrupted(verb)
    return result if isinstance(result, int) else 0


@contextmanager
def ended_as_by_ctrl_c(wanted: bool) -> Iterator[None]:
    """SIGTERM ends what runs as Ctrl-C does, so that it clears up. A process that ignores it goes on ignoring it."""
    if not wanted or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    if before is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def warn(message: str) -> None:
    """A warning as a line on standard error, in which no foreign name is a command to the terminal."""
    print(f"warning: {escaped(message)}", file=sys.stderr)


def overview() -> str:
    """The menu of verbs."""
    width = max(map(len, VERBS))
    lines = [f"  {verb:{width}}  {what}" for verb, (_, what) in VERBS.items()]
    ends = ["samiro-bench VERB --help explains a verb.", "samiro-bench --version says which release this is."]
    return "\n".join(["usage: samiro-bench VERB ...", "", *lines, "", *ends])


def complain(message: str) -> int:
    """One line on standard error, in which no foreign name is a command to the terminal; exit code 2."""
    print(f"samiro-bench: {escaped(' '.join(message.split()))}", file=sys.stderr)
    return 2


def unheard() -> None:
    """What isn't written yet goes nowhere, or Python complains of it at its exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)


def interrupted(verb: str | None) -> int:
    """Ctrl-C: what is finished is kept, if the verb (None: it had not begun) keeps anything."""
    if verb is None or verb in ALL_OR_NOTHING:
        print("samiro-bench: stopped", file=sys.stderr)
        return INTERRUPTED
    then = "--overwrite makes it again" if verb == "predict" else "the same command goes on from there"
    print(f"samiro-bench: stopped; what is finished is kept, and {then}", file=sys.stderr)
    return INTERRUPTED


def open_standard_streams() -> None:
    """Have streams that are closed, as where a daemon starts this, lead nowhere: files that are opened next would get their numbers,
    and what is printed would end up in them.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)  # the lowest free number, so the stream's own
            os.set_inheritable(nowhere, True)
            setattr(sys, name, open(nowhere, mode))  # noqa: SIM115


def console() -> None:
    """Entry point of the console script."""
    open_standard_streams()
    if os.environ.get("COLUMNS") == "0":  # of a terminal that knows no size; tables would be as wide, so empty
        del os.environ["COLUMNS"]
    for stream in (sys.stdout, sys.stderr):
        # A terminal or pipe of another encoding shows `?` for a sign that it doesn't know; no run ends for that.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        code = main()
    except KeyboardInterrupt:  # while modules were loaded
        code = interrupted(None)
    sys.exit(code)


def hand_on_checkout() -> None:
    """Have the processes that this starts run the code that this runs.

    `python -m` finds it in the folder that it is started in. They look for nothing there (`harness.engines.worker_process`), and would
    run what is installed: nothing, or another checkout.
    """
    checkout = Path(__file__).resolve().parents[2]
    if Path(sys.path[0]).resolve() == checkout:
        others = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join([str(checkout), *([others] if others else [])])


if __name__ == "__main__":
    hand_on_checkout()
    console()
