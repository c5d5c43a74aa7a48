"""What planning, resuming and scheduling a large matrix take: run by `make benchmark`.

The plain tests count calls and files, which no other load on the machine changes.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import pytest

from harness.engines.base import Engine, Job, Listener, Outcome
from harness.engines.local import LocalEngine
from harness.engines.room import Machine
from harness.files import no_collection
from harness.matrix import make_plan, run
from harness.preflight import preflight
from harness.progress import Event, Report
from harness.suite import Suite, load_suite
from harness.watching.events import EventFile, EventReader, Progress, now
from harness.watching.journal import Journal, journal

CELLS_A_SEED = 4
"""Of the mini suite."""


@pytest.fixture(scope="session")
def matrices() -> ModuleType:
    """The module finished.py, which lies beside this file."""
    specification = importlib.util.spec_from_file_location("finished", Path(__file__).with_name("finished.py"))
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    """The mini suite; what is asked once a process has been asked."""
    loaded = load_suite("mini")
    preflight(make_plan(loaded, tmp_path / "nothing", seeds=1))
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
        preflight(make_plan(suite, results, seeds=cells // CELLS_A_SEED))


def found_finished(suite: Suite, results: Path, cells: int) -> None:
    """What `bench` does with a finished matrix before it writes the tables."""
    for _ in range(2):
        plan = make_plan(suite, results, seeds=cells // CELLS_A_SEED)
    assert not plan.pending
    engine: Engine = Idle()
    assert run(plan, engine, Journal("", EventFile(Path(os.devnull)))) == []


def test_a_plan_is_linear_in_its_cells(suite: Suite, tmp_path: Path) -> None:
    few, many = (calls_of(partial(looked_at, suite, tmp_path, cells)) for cells in (100, 400))
    assert many < 4.2 * few


def test_a_finished_matrix_is_found_finished_in_linear_time(suite: Suite, tmp_path: Path, matrices: ModuleType) -> None:
    counts = []
    for cells in (20, 80):
        matrices.finished(tmp_path / str(cells), cells // CELLS_A_SEED)
        counts.append(calls_of(partial(found_finished, suite, tmp_path / str(cells), cells)))
    assert counts[1] < 4.2 * counts[0]


def test_a_plan_opens_one_file_a_finished_phase(suite: Suite, tmp_path: Path, matrices: ModuleType) -> None:
    plan = matrices.finished(tmp_path, 2)
    opened: list[str] = []

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and watching and str(arguments[0]).startswith(str(tmp_path)):
            opened.append(str(arguments[0]))

    watching = True
    sys.addaudithook(note)
    make_plan(suite, tmp_path, seeds=2)
    watching = False
    assert len(opened) == sum(len(state.states) for state in plan.cells) + len(plan.artefacts)


@pytest.mark.benchmark(group="plan")
@pytest.mark.parametrize("cells", [1000, 10_000])
def test_speed_of_a_plan(benchmark: Any, suite: Suite, tmp_path: Path, cells: int) -> None:
    benchmark.pedantic(looked_at, (suite, tmp_path, cells), rounds=3)


@pytest.mark.benchmark(group="finished")
def test_speed_of_a_finished_matrix(benchmark: Any, suite: Suite, tmp_path: Path, matrices: ModuleType) -> None:
    matrices.finished(tmp_path, 1000 // CELLS_A_SEED)
    benchmark.pedantic(found_finished, (suite, tmp_path, 1000), rounds=3)


def told(events: int, report: Report) -> None:
    for step in range(events):
        report(Event("", "train", step, events))


def nothing(report: Report) -> None:
    pass


def scheduled(folder: Path, waiting: int) -> float:
    """CPU seconds of the parent for one job, while so many others wait for it that never run."""
    first = Job("first", nothing)
    broken = Job("broken", partial(told, -1), needs=("first",))
    others = [Job(f"other {number}", nothing, needs=("missing",)) for number in range(0)]
    jobs = [first, broken, *others, *(Job(f"cell {number}", nothing, needs=("first",)) for number in range(waiting))]
    engine = LocalEngine(Machine(1, 1.0), folder / "logs", 1)
    with journal(folder, "s", "local", jobs[:1], cells=1, done=0, expected={}) as kept:
        begun = time.process_time()
        engine.run(jobs[:1], kept)
    return time.process_time() - begun


@pytest.mark.benchmark(group="events")
def test_speed_of_reading_events(benchmark: Any, tmp_path: Path) -> None:
    """10,000 lines, as some hundred hours of training have."""
    moment = now()
    events = [
        Progress(time=moment, run="r", job=f"roads-net-samiro-s{n % 100}-0123456789", phase="train", step=n, total=10_000)
        for n in range(10_000)
    ]
    EventFile(tmp_path / "r.jsonl").write(events)
    assert len(benchmark.pedantic(lambda: list(EventReader(tmp_path).read()), rounds=3)) == 10_000
