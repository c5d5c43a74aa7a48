"""What planning, resuming and scheduling a large matrix take: run by `make benchmark`.

The plain tests count calls and files, which no other load on the machine changes.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from harness.engines import local
from harness.engines.base import Engine, Job, Listener, Outcome
from harness.engines.local import LocalEngine
from harness.engines.room import Machine
from harness.errors import InputError
from harness.files.stored import no_collection
from harness.matrix.plan import make_plan
from harness.matrix.preflight import preflight
from harness.matrix.run import run
from harness.processes.progress import Event, Report
from harness.suite import Choice, Suite, load_suite
from harness.watching.events import EventFile, EventReader, Progress, now
from harness.watching.journal import Journal
from tests.benchmarks.finished import finished

ROOT = Path(__file__).resolve().parents[2]

CELLS_A_SEED = 4
"""Of the mini suite."""


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    """The mini suite; what is asked once a process has been asked."""
    loaded = load_suite("mini")
    preflight(make_plan(loaded, tmp_path / "nothing", Choice(seeds=1)))
    return loaded


class Idle:
    """An engine that has nothing to do."""

    def run(self, jobs: Sequence[Job], listener: Listener) -> list[Outcome]:
        assert not jobs
        return []


def calls_of(work: Callable[[], object]) -> int:
    """How many functions, of Python and of C, a piece of work calls."""
    count = 0

    def note(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def looked_at(suite: Suite, results: Path, cells: int) -> None:
    with no_collection():
        preflight(make_plan(suite, results, Choice(seeds=cells // CELLS_A_SEED)))


def found_finished(suite: Suite, results: Path, cells: int) -> None:
    """What `bench` does with a finished matrix before it writes the tables."""
    plan = make_plan(suite, results, Choice(seeds=cells // CELLS_A_SEED))
    assert not plan.pending
    engine: Engine = Idle()
    assert run(plan, engine, Journal("", EventFile(Path(os.devnull)))) == []


def test_a_plan_is_linear_in_its_cells(suite: Suite, tmp_path: Path) -> None:
    few, many = (calls_of(partial(looked_at, suite, tmp_path, cells)) for cells in (100, 400))
    assert many < 4.2 * few


def test_a_finished_matrix_is_found_finished_in_linear_time(suite: Suite, tmp_path: Path) -> None:
    counts = []
    for cells in (20, 80):
        finished(tmp_path / str(cells), cells // CELLS_A_SEED)
        counts.append(calls_of(partial(found_finished, suite, tmp_path / str(cells), cells)))
    assert counts[1] < 4.2 * counts[0]


def test_a_plan_opens_one_file_a_finished_phase(suite: Suite, tmp_path: Path) -> None:
    plan = finished(tmp_path, 2)
    opened: list[str] = []

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and watching and str(arguments[0]).startswith(str(tmp_path)):
            opened.append(str(arguments[0]))

    watching = True
    sys.addaudithook(note)
    make_plan(suite, tmp_path, Choice(seeds=2))
    watching = False
    phases = sum(len(state.states) for state in plan.cells) + len(plan.artefacts)
    assert sum(path.endswith("phase.json") for path in opened) == phases
    assert len(opened) - phases < 3, "what is of the whole suite is opened once"


@pytest.mark.benchmark(group="plan")
@pytest.mark.parametrize("cells", [1000, 10_000])
def test_speed_of_a_plan(benchmark: Any, suite: Suite, tmp_path: Path, cells: int) -> None:
    benchmark.pedantic(looked_at, (suite, tmp_path, cells), rounds=3)


@pytest.mark.benchmark(group="finished")
def test_speed_of_a_finished_matrix(benchmark: Any, suite: Suite, tmp_path: Path) -> None:
    finished(tmp_path, 1000 // CELLS_A_SEED)
    benchmark.pedantic(found_finished, (suite, tmp_path, 1000), rounds=3)


WHOLE = {
    "--help": ["--help"],
    "plan of 10,000 cells": ["plan", "mini", "--seeds", "2500", "--results", "nothing"],
    "bench of 1,000 finished cells": ["bench", "mini", "--seeds", "250", "--results", "finished"],
    "status of 1,000 finished cells": ["status", "mini", "--seeds", "250", "--results", "finished"],
}
"""Whole commands, start of the program included."""


@pytest.mark.benchmark(group="commands")
def test_what_whole_commands_take(benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CPU seconds of each, the least of three turns; what is asked of torch has been asked once."""
    monkeypatch.setenv("SAMIRO_BENCH_REMEMBER", "1")
    finished(tmp_path / "finished", 1000 // CELLS_A_SEED)
    spent: dict[str, list[float]] = {name: [] for name in WHOLE}

    def measured() -> None:
        for name, words in WHOLE.items():
            begun = resource.getrusage(resource.RUSAGE_CHILDREN)
            command = [sys.executable, "-m", "harness.cli.main", *words]
            subprocess.run(command, cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
            ended = resource.getrusage(resource.RUSAGE_CHILDREN)
            spent[name].append(ended.ru_utime + ended.ru_stime - begun.ru_utime - begun.ru_stime)

    benchmark.pedantic(measured, rounds=3, warmup_rounds=1)
    for name, seconds in spent.items():
        print(f"\n{name}: {min(seconds[1:]):.2f} s of CPU")


def talks(words: int, report: Report) -> None:
    """Say so many things, each of a phase of its own, which no display holds back; then fail, so that nothing else runs."""
    for number in range(words):
        report(Event("talks", f"phase {number}"))
    raise InputError("has said all")


def heard(folder: Path, words: int, waiting: int, listener: Listener) -> list[Outcome]:
    """What an engine makes of a job that says so much, while so many others wait for it."""
    jobs = [Job("talks", partial(talks, words))]
    jobs += [Job(f"cell {number}", partial(talks, 0), needs=("talks",)) for number in range(waiting)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))  # workers don't look for this module in the folder that they start in
        return LocalEngine(Machine(1, 1.0), folder / "logs", 1).run(jobs, listener)


def test_an_engine_works_out_what_may_start_when_something_ended_and_not_at_every_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    plainly = local.ready
    monkeypatch.setattr(local, "ready", lambda *given: (asked.append(1), plainly(*given))[1])
    board = Journal("run", EventFile(Path(os.devnull)))
    outcomes = heard(tmp_path, 200, 50, board)
    assert [outcome.state for outcome in outcomes] == ["failed", *["skipped"] * 50]
    assert board.board.jobs["talks"].phase == "phase 199"
    assert len(asked) < 10


@pytest.mark.benchmark(group="scheduling")
@pytest.mark.parametrize("waiting", [100, 2_000, 20_000])
def test_what_a_thousand_words_cost_the_engine(benchmark: Any, tmp_path: Path, waiting: int) -> None:
    """CPU seconds of the engine's own process; a job has 4 words a second at most, so these are 250 seconds of one."""
    spent = []

    def measured() -> None:
        begun = time.process_time()
        heard(tmp_path, 1_000, waiting, Journal("run", EventFile(tmp_path / "events.jsonl")))
        spent.append(time.process_time() - begun)

    benchmark.pedantic(measured, rounds=2)
    benchmark.extra_info["CPU seconds"] = min(spent)
    print(f"\n{waiting} jobs wait: {min(spent):.3f} s of CPU for 1,000 words")


@pytest.mark.benchmark(group="events")
def test_speed_of_reading_events(benchmark: Any, tmp_path: Path) -> None:
    """10,000 lines, as some hundred hours of training have."""
    moment = now()
    events = [
        Progress(
            time=moment, run="r", job=f"roads-net-samiro-s{n % 100}-0123456789", phase="train", step=n, total=10_000
        )
        for n in range(10_000)
    ]
    EventFile(tmp_path / "r.jsonl").write(events)
    assert len(benchmark.pedantic(lambda: list(EventReader(tmp_path).read()), rounds=3)) == 10_000
