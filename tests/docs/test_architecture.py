"""docs/architecture.md: what it names is there, a frame goes the way that it describes, and rooms never import in a circle."""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import FrameType

import pytest

from harness.matrix.preflight import preflight
from tests.harness.example_records import measured

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
WALK = PAGE[PAGE.index("## One frame") : PAGE.index("## Where to change")]

SUITE = """
title: One frame
datasets:
  roads:
    rendered:
      seed: 7
      splits: {train: {frames: 4, frames_per_clip: 2}, test: {frames: 2}}
      width: 820
      height: 295
detectors:
  ufldv2_micro: {recipe: {steps: 2, batch_size: 2}}
methods:
  baseline:
training: {threads: 1, device: cpu}
throughput: lane-latency/1-short
"""


def named_functions(text: str) -> list[tuple[str, str]]:
    """(file, qualified name) of every `path.py:name`, in order."""
    return re.findall(r"`((?:harness|detectors)/[\w/]+\.py):([\w.]+)`", text)


def definitions(file: Path) -> set[str]:
    """The qualified names of the functions, classes and methods of a file."""
    found = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
    return found


def test_every_file_and_function_that_the_page_names_is_there() -> None:
    for file, name in named_functions(PAGE):
        assert name in definitions(ROOT / file), f"{file} has no {name}"
    for path in re.findall(r"`((?:harness|detectors|suites)/[\w/.]*)`", PAGE):
        assert (ROOT / path).exists(), path


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The project's functions in the order of their first calls, while a suite runs, is published and verified in this process."""
    from harness.cell import artefacts, timing
    from harness.cli.leaderboard import show_leaderboard
    from harness.matrix.jobs import jobs_of
    from harness.matrix.plan import make_plan
    from harness.publishing.publish import publish
    from harness.publishing.verify import verify
    from harness.suite import load_suite

    monkeypatch.setattr(artefacts, "available_cores", lambda: 1)
    monkeypatch.setattr(timing, "measure", measured)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "one.yaml").write_text(SUITE)
    seen: dict[tuple[str, str], None] = {}
    prefix = f"{ROOT}/"

    def note(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(prefix):
            seen.setdefault((frame.f_code.co_filename.removeprefix(prefix), frame.f_code.co_qualname))

    from rich.console import Console

    sys.setprofile(note)
    try:
        plan = make_plan(load_suite(str(tmp_path / "one.yaml")), tmp_path / "results")
        preflight(plan)
        for job in jobs_of(plan):
            job.task(lambda event: None)
        with open("/dev/null", "w", encoding="utf-8") as nowhere:
            show_leaderboard(plan.expected, Console(file=nowhere))
        publish(plan, tmp_path / "published", None)
        verify(tmp_path / "published")
    finally:
        sys.setprofile(None)
    return list(seen)


def test_a_frame_goes_the_way_that_the_page_describes(calls: list[tuple[str, str]]) -> None:
    order = {call: place for place, call in enumerate(calls)}
    walk = named_functions(WALK)
    assert len(walk) > 30
    missed = [step for step in walk if step not in order]
    assert not missed
    places = [order[step] for step in walk]
    early = [step for before, after, step in zip(places, places[1:], walk[1:], strict=False) if before > after]
    assert not early


@cache
def rooms() -> dict[str, set[str]]:
    """Room (a package or module right below harness, or detectors as one) -> the rooms that it imports when it runs."""
    found: dict[str, set[str]] = defaultdict(set)
    for top in ("harness", "detectors"):
        for file in (ROOT / top).rglob("*.py"):
            room = room_of(".".join(file.relative_to(ROOT).with_suffix("").parts))
            found[room] |= {other for name in imports(file) if (other := room_of(name)) != room}
    return found


def room_of(module: str) -> str:
    parts = module.split(".")
    return "detectors" if parts[0] == "detectors" else ".".join(parts[:2])


def imports(file: Path) -> Iterator[str]:
    """The project's modules that a file imports anywhere but under TYPE_CHECKING."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.ImportFrom) and node.module in {"harness", "detectors"}:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in {"harness", "detectors"}:
            yield node.module or ""
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in {"harness", "detectors"})


def test_the_page_lists_every_room_once_and_a_room_imports_only_from_rooms_below_it() -> None:
    table = PAGE[PAGE.index("## The rooms") : PAGE.index("## One frame")]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    floors = [[name.removesuffix(".py") for name in re.findall(r"`([\w.]+)`", cell)] for cell in cells]
    listed = [name for floor in floors for name in floor]
    there = [path.stem for path in (ROOT / "harness").iterdir() if path.name not in {"__init__.py", "__pycache__"}]
    assert sorted(listed) == sorted([*there, "detectors"])
    floor_of = {name: number for number, floor in enumerate(floors) for name in floor}
    for room, others in rooms().items():
        for other in others - {"harness"}:
            above, below = room.removeprefix("harness."), other.removeprefix("harness.")
            assert floor_of[above] < floor_of[below], (
                f"{above} imports {below}, which the page has above it or beside it"
            )


def test_rooms_never_import_in_a_circle_and_nothing_imports_the_command_line() -> None:
    graph = rooms()
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' -> '.join(error.args[1])}")
    assert [room for room, others in graph.items() if "harness.cli" in others] == []
