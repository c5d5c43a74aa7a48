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
from harness.processes import die_with_parent
from harness.programs.exchange import read_facts, read_timings, write_images

LOOK_SECONDS = 0.2
"""How often a running program is looked at."""

PATIENCE_SECONDS = 5.0
"""Between asking a program to end and ending it."""

LAST_WORDS = 200
"""Characters of a program's output that a message repeats; the log has all of it."""


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
    if folder.exists():
        # What a stopped run left half-written must not pass for an answer.
        shutil.rmtree(folder)
    exchange = Exchange(folder.resolve())
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
    """The lanes that a program wrote, in the order of `frames`. InputError where they aren't sound, which says what files are there."""
    try:
        if isinstance(dataset, TuSimple):
            written(folder / PREDICTIONS_FILE)
        return dataset.read_predictions(folder, frames)
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
                env=os.environ | program.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A group of its own, so that what it starts ends with it.
                start_new_session=True,
                preexec_fn=partial(die_with_parent, signal.SIGKILL),
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise InputError(
                f"{where}: key 'command': {command[0]} can't be started in {described.folder} ({error}); give the interpreter of "
                "the program's own environment, and a folder that is there"
            ) from error
        started = time.monotonic()
        try:
            while process.poll() is None:
                if time.monotonic() - started > limit:
                    stop(process)
                    raise InputError(
                        f"{where}: {program.name} hadn't ended after {limit:.0f} s (start_seconds + seconds_per_image x {images} "
                        f"images) and was stopped{done(exchange, images)}; {last_words(exchange)}"
                    )
                progress(lines_in(exchange.timings), images)
                time.sleep(LOOK_SECONDS)
        finally:
            stop(process)
    if process.returncode:
        how = (
            f"was killed by {signal.Signals(-process.returncode).name}"
            if process.returncode < 0
            else f"ended with exit code {process.returncode}"
        )
        raise InputError(f"{where}: {program.name} {how}{done(exchange, images)}; {last_words(exchange)}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a program and all that it started, first by asking."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, how)
        try:
            process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            continue


def done(exchange: Exchange, images: int) -> str:
    """How far a program came, as far as its timings tell."""
    count = lines_in(exchange.timings)
    return f", {count} of {images} images timed" if count else ""


def last_words(exchange: Exchange) -> str:
    """The end of what a program printed, in one line, and where all of it is."""
    text = exchange.log.read_text(encoding="utf-8", errors="replace")
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
