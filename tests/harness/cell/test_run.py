"""One process at a time works on a cell, or on what cells share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from harness.cell import artefacts, assembly, run
from harness.cell.artefacts import build_oracle, build_rendering, locked, oracle_phase, rendering_phase
from harness.cell.assembly import time_and_record
from harness.cell.run import run_cell, worked_on
from harness.processes.progress import Event, Report
from harness.suite import Cell, cells_of, load_suite


def work_on(kind: str, cell: Cell, folder: Path) -> tuple[object, Callable[[Report], None]]:
    """Something that holds the lock of a piece of work, and the work."""
    if kind in {"cell", "time"}:
        task = run_cell if kind == "cell" else time_and_record
        return worked_on(folder, cell, print), partial(task, folder, cell)
    if kind == "render":
        assert cell.dataset.rendered is not None
        spec = cell.dataset.rendered
        return locked(rendering_phase(folder, spec), "job", print), partial(build_rendering, folder, spec, "job")
    assert cell.oracle is not None
    oracle, data = cell.oracle, cell.dataset
    return locked(oracle_phase(folder, "o", oracle, data), "job", print), partial(
        build_oracle, folder, "o", oracle, data, cell.training, "job"
    )


def test_a_renderer_says_before_its_first_image_what_that_takes_so_long_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Event] = []
    monkeypatch.setattr("harness.rendered.dataset.render_dataset", lambda *_, progress, **__: progress(1, 2))
    monkeypatch.setattr(artefacts, "run_phase", lambda phase, work: work(tmp_path))
    cell = cells_of(load_suite("mini"))[0]
    assert cell.dataset.rendered is not None
    build_rendering(tmp_path, cell.dataset.rendered, "job", seen.append)
    assert [(event.phase, event.step, event.note.split()[0]) for event in seen] == [
        ("render", 0, "compiles"),
        ("render", 1, "images"),
    ]


@pytest.mark.parametrize("kind", ["cell", "time", "render", "oracle"])
def test_whoever_comes_second_waits_and_says_so(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    works: list[str] = []
    for place, name in (
        (run, "run_phases"), (assembly, "time_cell"), (assembly, "assemble_record"), (artefacts, "run_phase"),
    ):  # fmt: skip
        monkeypatch.setattr(place, name, lambda *_: works.append("works"))
    cell = next(cell for cell in cells_of(load_suite("mini")) if cell.oracle is not None)
    held, task = work_on(kind, cell, tmp_path)
    task(print)  # what it imports takes a while at first
    works.clear()
    second = threading.Thread(target=task, args=(lambda event: works.append(event.phase),))
    with held:  # type: ignore[attr-defined]
        second.start()
        deadline = time.monotonic() + 10
        while not works and time.monotonic() < deadline:
            time.sleep(0.02)
        assert works == ["waits"]
    second.join()
    assert works[-1] == "works"
