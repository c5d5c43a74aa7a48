"""A program ends with all that it started, and leaves nothing that a later run takes for an answer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from harness.cell.artefacts import open_part
from harness.cli.main import main
from harness.errors import InputError
from harness.programs.cell import program_cells
from harness.programs.run import ask
from harness.suite import load_suite
from tests.harness.programs.seer import SEER, describe, fail


def test_after_a_crash_nothing_half_written_is_taken_for_an_answer(folder, capsys):
    (folder / "seer.py").write_text(SEER + "\nsys.exit(1)")
    assert "seer ended with exit code 1, 6 of 6 images timed; its last words: 'hello" in fail(folder, capsys)
    (folder / "seer.py").write_text("pass")
    assert "6 of 6 images have no predictions" in fail(folder, capsys)


STRAY = (
    "import subprocess, sys\n"
    "child = 'import pathlib, sys, time; pathlib.Path(sys.argv[1]).touch(); time.sleep(120)'\n"
    "here = subprocess.Popen([sys.executable, '-c', child, {mark!r}], start_new_session=True)\n"
    "import pathlib, time\n"
    "while not pathlib.Path({mark!r}).exists(): time.sleep(0.02)\n"
)
"""Starts a process that leaves the program's group, and waits until it runs."""


def running_with(word: str) -> list[int]:
    """The processes whose command line has a word."""
    found = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if word.encode() in line.read_bytes() and int(line.parent.name) != os.getpid():
                found.append(int(line.parent.name))
    return found


def test_a_program_that_takes_too_long_is_stopped_with_all_that_it_started(folder, capsys):
    mark = str(folder / "still here")
    child = "import pathlib, sys, time; pathlib.Path(sys.argv[1]).touch(); time.sleep(60)"
    slow = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}, {mark!r}])"
    slow += "; print('busy', flush=True); time.sleep(60)"
    (folder / "seer.py").write_text(slow)
    describe(folder, start_seconds=0.8, seconds_per_image=0.2)
    line = fail(folder, capsys)
    assert "hadn't ended after 2 s (start_seconds + seconds_per_image x 6 images) and was stopped" in line
    assert "'busy'" in line
    assert Path(mark).exists(), "what it started ran"
    assert running_with(mark) == []


def test_what_left_a_programs_group_ends_with_it_too(folder):
    mark = str(folder / "stray")
    (folder / "seer.py").write_text(STRAY.format(mark=mark) + SEER)
    assert main(["bench", str(folder / "suite.yaml"), "--results", str(folder / "results")]) == 0
    assert Path(mark).exists()
    assert running_with(mark) == []


def test_what_a_killed_run_left_running_ends_before_the_next_begins(folder):
    run = [sys.executable, "-m", "harness.cli.main", "bench", str(folder / "suite.yaml"), "--results", "results"]
    mark = str(folder / "stray")
    (folder / "seer.py").write_text(STRAY.format(mark=mark) + "time.sleep(60)")
    process = subprocess.Popen(run, cwd=folder, start_new_session=True, stdout=subprocess.DEVNULL)
    while not Path(mark).exists() and process.poll() is None:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert len(running_with(mark)) == 1
    (folder / "seer.py").write_text("import time\ntime.sleep(1)\n" + SEER)  # the killed take a moment to be gone
    (cell,) = program_cells(load_suite(str(folder / "suite.yaml")))
    dataset = open_part(folder / "results", "roads", cell.dataset)
    exchange = next((folder / "results" / "suite" / "cells").glob("*/predict-test*/exchange"))
    meanwhile = []

    def progress(done, images):
        meanwhile[:] = running_with(mark)

    ask(cell.described, dataset, dataset.frames("test"), exchange, device="cpu", threads=1, progress=progress)
    assert meanwhile == running_with(mark) == []


def test_ctrl_c_asks_a_program_to_end_and_ends_all_that_it_started(folder):
    mark = str(folder / "stray")
    asked = "import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(print('asked to end')))\n"
    (folder / "seer.py").write_text(asked + STRAY.format(mark=mark) + "time.sleep(60)")
    (cell,) = program_cells(load_suite(str(folder / "suite.yaml")))
    dataset = open_part(folder / "results", "roads", cell.dataset)
    exchange = folder / "exchange"

    def progress(done, images):
        if Path(mark).exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ask(cell.described, dataset, dataset.frames("test"), exchange, device="cpu", threads=1, progress=progress)
    waited = time.monotonic() + 5  # the killed take a moment to be gone
    while running_with(mark) and time.monotonic() < waited:
        time.sleep(0.02)
    assert running_with(mark) == []
    assert (exchange / "program.log").read_text() == "asked to end\n"


def test_a_program_that_floods_its_log_is_stopped(folder, monkeypatch):
    monkeypatch.setattr("harness.programs.run.LOG_BYTES", 2**20)
    (folder / "seer.py").write_text("import sys\nwhile True: sys.stderr.write('flood' * 1000 + '\\n')")
    (cell,) = program_cells(load_suite(str(folder / "suite.yaml")))
    dataset = open_part(folder / "results", "roads", cell.dataset)
    with pytest.raises(
        InputError, match=r"seer printed more than 1 MiB and was stopped; its last words: '[flod]+'; log"
    ):
        ask(
            cell.described,
            dataset,
            dataset.frames("test"),
            folder / "exchange",
            device="cpu",
            threads=1,
            progress=lambda a, b: None,
        )
