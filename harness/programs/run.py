"""Running a program: started, watched, stopped when it takes too long, and its end told in a line."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from detectors.programs import DescribedProgram
from harness.datasets.base import Dataset, Frame
from harness.datasets.tusimple import PREDICTIONS_FILE, TuSimple
from harness.errors import InputError
from harness.lanes import Lane
from harness.processes.children import die_with_parent
from harness.programs.exchange import prediction_name, read_facts, read_timings, write_images

LOOK_SECONDS = 0.2
"""How often a running program is looked at."""

PATIENCE_SECONDS = 5.0
"""Between asking a program to end and ending it."""

LAST_WORDS = 200
"""Characters of a program's output that a message repeats; the log has all of it."""

LAST_BYTES = 2**16
"""How much of the end of a log is read for that."""

LOG_BYTES = 2**28
"""A program that prints more is stopped, before its log fills the disk."""

MARK = "SAMIRO_BENCH_EXCHANGE"
"""The environment variable that tells whose a process is: a program and all that it starts have the folder of their files in it."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What a program showed: lanes of each image; milliseconds of each where it timed itself; what it says of its environment."""

    lanes: list[list[Lane]]
    milliseconds: list[float] | None
    facts: dict[str, str]


@dataclass(frozen=True)
class Exchange:
    """The files of one run, in a folder of their own."""

    folder: Path

    @property
    def images(self) -> Path:
        """The list of images."""
        return self.folder / "images.jsonl"

    @property
    def predictions(self) -> Path:
        """Where the program writes its lanes."""
        return self.folder / "predictions"

    @property
    def timings(self) -> Path:
        """Where the program writes its times."""
        return self.folder / "timings.jsonl"

    @property
    def facts(self) -> Path:
        """Where the program writes what it says of its environment."""
        return self.folder / "facts.json"

    @property
    def log(self) -> Path:
        """What the program printed."""
        return self.folder / "program.log"


def ask(
    described: DescribedProgram,
    dataset: Dataset,
    frames: Sequence[Frame],
    folder: Path,
    *,
    device: str,
    threads: int,
    progress: Callable[[int, int], None],
) -> Answer:
    """Show a program some images of a dataset and read what it answers; `folder` is emptied first.

    progress: called with (images timed so far, images), where the program times itself. Raises InputError, in a line, if the program
    can't be started, takes longer than its description allows, ends with an error, or leaves out or damages any answer.
    """
    exchange = Exchange(folder.resolve())
    # What a killed run left, running or half-written, must not pass for an answer.
    end_marked(exchange.folder)
    if folder.exists():
        shutil.rmtree(folder)
    exchange.predictions.mkdir(parents=True)
    write_images(exchange.images, dataset, frames)
    form = described.program.forms[dataset.form]  # type: ignore[index]
    values = {
        "images": str(exchange.images),
        "predictions": str(exchange.predictions),
        "timings": str(exchange.timings),
        "facts": str(exchange.facts),
        "checkpoint": "" if form.checkpoint is None else str(described.checkpoint(dataset.form)),  # type: ignore[arg-type]
        "device": device,
        "threads": str(threads),
        "form": dataset.form,
    }
    run(described, described.command(values), exchange, len(frames), progress)
    used = " ".join(described.program.command)
    try:
        return Answer(
            read_lanes(exchange.predictions, dataset, frames),
            read_timings(written(exchange.timings), frames) if "{timings}" in used else None,
            read_facts(written(exchange.facts)) if "{facts}" in used else {},
        )
    except InputError as error:
        raise InputError(
            f"{described.file}: {described.program.name} ended well, but {error}; {last_words(exchange)}"
        ) from error


def read_lanes(folder: Path, dataset: Dataset, frames: Sequence[Frame]) -> list[list[Lane]]:
    """The lanes that a program wrote, in the order of `frames`. InputError where they aren't sound, or are of other images as well; it
    says what files are there.
    """
    try:
        if isinstance(dataset, TuSimple):
            written(folder / PREDICTIONS_FILE)
            return dataset.read_predictions(folder, frames)
        lanes = dataset.read_predictions(folder, frames)
        asked = {folder / prediction_name(dataset, frame) for frame in frames}
        others = sorted(path for path in folder.rglob("*.lines.txt") if path not in asked)
        if others:
            raise InputError(f"{len(others)} predictions are of none of the images, the first is {others[0]}")
        return lanes
    except InputError as error:
        found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        such = f", the first is {found[0]}" if found else ""
        raise InputError(f"{error}; {len(found)} files are there{such}") from error


def written(path: Path) -> Path:
    """A file that a program owes. InputError where it didn't write it."""
    if not path.is_file():
        raise InputError(
            f"didn't write {path}; a program whose command has its place writes it, or ends with an exit code"
        )
    return path


def run(
    described: DescribedProgram,
    command: Sequence[str],
    exchange: Exchange,
    images: int,
    progress: Callable[[int, int], None],
) -> None:
    """Run a command to its end. InputError, which repeats its last words and names its log, on anything but a good one."""
    program, where = described.program, str(described.file)
    limit = program.start_seconds + program.seconds_per_image * images
    with open(exchange.log, "wb") as log:
        try:
            process = subprocess.Popen(
                command,
                cwd=described.folder,
                env=os.environ | program.environment | {MARK: str(exchange.folder)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A group of its own, so that what it starts ends with it.
                start_new_session=True,
                preexec_fn=partial(die_with_parent, signal.SIGKILL, os.getpid()),
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise InputError(
                f"{where}: key 'command': {command[0]} can't be started in {described.folder} ({error}); give the interpreter of "
                "the program's own environment, and a folder that is there"
            ) from error
        started = time.monotonic()
        try:
            while process.poll() is None:
                if exchange.log.exists() and exchange.log.stat().st_size > LOG_BYTES:
                    stop(process, exchange.folder)
                    raise InputError(
                        f"{where}: {program.name} printed more than {LOG_BYTES / 2**20:.0f} MiB and was stopped"
                        f"{done(exchange, images)}; {last_words(exchange)}"
                    )
                if time.monotonic() - started > limit:
                    stop(process, exchange.folder)
                    raise InputError(
                        f"{where}: {program.name} hadn't ended after {limit:.0f} s (start_seconds + seconds_per_image x {images} "
                        f"images) and was stopped{done(exchange, images)}; {last_words(exchange)}"
                    )
                progress(lines_in(exchange.timings), images)
                time.sleep(LOOK_SECONDS)
        finally:
            stop(process, exchange.folder)
    if process.returncode:
        raise InputError(
            f"{where}: {program.name} {end_of(process.returncode)}{done(exchange, images)}; {last_words(exchange)}"
        )


def end_of(code: int) -> str:
    """How a process ended whose return code isn't 0, as subprocess gives it."""
    if code > 0:
        return f"ended with exit code {code}"
    # Of the real-time signals only the first and the last have a name.
    names = {known.value: known.name for known in signal.Signals}
    return f"was killed by {names.get(-code, f'signal {-code}')}"


def stop(process: subprocess.Popen[bytes], folder: Path) -> None:
    """End a program and all that it started, first by asking; `folder` is that of its files."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, how)
        try:
            process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            continue
    end_marked(folder)


def end_marked(folder: Path) -> None:
    """On Linux, end whatever has `folder` as its mark: also what left the program's group, or outlived it when it was killed."""
    mark = f"{MARK}={folder}".encode()
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if mark in environment.read_bytes().split(b"\0"):
                os.kill(int(environment.parent.name), signal.SIGKILL)


def done(exchange: Exchange, images: int) -> str:
    """How far a program came, as far as its timings tell."""
    count = lines_in(exchange.timings)
    return f", {count} of {images} images timed" if count else ""


def last_words(exchange: Exchange) -> str:
    """The end of what a program printed, in one line, and where all of it is."""
    try:
        with open(exchange.log, "rb") as stream:
            stream.seek(max(0, exchange.log.stat().st_size - LAST_BYTES))
            text = stream.read().decode("utf-8", errors="replace")
    except OSError as error:
        return f"its log can't be read ({error})"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    printable = "".join(character if character.isprintable() else " " for character in lines[-1]) if lines else ""
    said = f"its last words: {printable[-LAST_WORDS:]!r}" if lines else "it printed nothing"
    return f"{said}; log: {exchange.log}"


def lines_in(path: Path) -> int:
    """Whole lines of a file that may still grow; 0 where there is none."""
    try:
        return path.read_bytes().count(b"\n")
    except OSError:
        return 0
