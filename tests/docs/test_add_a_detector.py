"""docs/add-a-detector.md: its example is what `detectors new` writes, and passes its test in a repository of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from detectors.base import Detector
from detectors.registry import ENTRY_POINTS
from harness.conformance.battery import CHECKS, cases
from harness.scaffold.write import write_scaffold
from harness.suite import cells_of, load_suite
from tests.docs.pages import blocks

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/add-a-detector.md").read_text()


def run_pytest(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Pytest in a folder outside this repository, with the plugin as an installed samiro-bench would have it, and no other."""
    alone = {"PYTEST_ADDOPTS": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "OMP_NUM_THREADS": "1"}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **alone}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "harness.conformance.plugin",
        "-rs",
        "-p",
        "no:cacheprovider",
        *options,
    ]
    return subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True, timeout=300)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder with the page's two files."""
    adapter, test = blocks(PAGE, "python")
    (tmp_path / "my_lanes.py").write_text(adapter)
    (tmp_path / "test_my_lanes.py").write_text(test)
    return tmp_path


def test_the_page_shows_what_the_scaffold_writes(tmp_path: Path) -> None:
    adapter, _, test = write_scaffold("my_lanes", tmp_path)
    assert blocks(PAGE, "python") == [adapter.read_text(), test.read_text()]


def test_the_page_names_every_method_check_and_the_entry_point_group() -> None:
    assert all(f"`{name}(" in PAGE for name in ("__init__", *Detector.__abstractmethods__))
    table = PAGE[PAGE.index("| check | of |") :]
    assert [check.name for check in CHECKS if check.name not in table] == []
    (entry,) = blocks(PAGE, "toml")
    assert tomllib.loads(entry)["project"]["entry-points"].keys() == {ENTRY_POINTS}


def test_the_suite_for_culane_is_the_detector_with_and_without_samiro(package: Path) -> None:
    (text,) = blocks(PAGE, "yaml")
    (package / "my_culane.yaml").write_text(text)
    suite, published = load_suite(str(package / "my_culane.yaml")), load_suite("culane")
    assert suite.oracles == published.oracles
    cells = cells_of(suite)
    assert {(cell.identity.detector, cell.identity.method) for cell in cells} == {
        ("my_lanes", "baseline"),
        ("my_lanes", "samiro"),
    }
    assert len(cells) == 6
    assert {cell.identity.recipe["epochs"] for cell in cells} == {12}


@pytest.mark.slow
def test_the_example_passes_its_test_where_only_samiro_bench_is_installed(package: Path) -> None:
    run = run_pytest(package, "-v")
    assert run.returncode == 0, run.stdout + run.stderr
    names = re.findall(r"::test_conformance\[my_lanes.py:MyLanes-culane-(\S+)\] (\w+)", run.stdout)
    assert [name for name, _ in names] == [f"{check.name.replace(' ', '_')}-{arm}" for check, arm in cases(quick=True)]
    assert {outcome for _, outcome in names} <= {"PASSED", "SKIPPED"}


def test_a_broken_adapter_fails_the_check_that_it_breaks(package: Path) -> None:
    adapter = package / "my_lanes.py"
    adapter.write_text(adapter.read_text().replace("exists.sum().clamp(min=1)", "exists.sum()"))
    run = run_pytest(package, "-k", "empty or metadata")
    assert run.returncode == 1
    assert "2 failed, 1 passed" in run.stdout
    assert "loss term 'place' is nan" in run.stdout


MISTAKES = {
    "name": ("my_lanes.py:MyLanes", "my_lanes.py:MyLane", "did you mean 'MyLanes'"),
    "form": ("quick=True", "form='moon'", "no configuration for form 'moon'"),
    "word": (
        "quick=True",
        "quik=True",
        "@pytest.mark.lane_detector: Demands.__init__() got an unexpected keyword argument 'quik'",
    ),
    "none": (
        '@pytest.mark.lane_detector("my_lanes.py:MyLanes", quick=True)\n',
        "",
        "needs @pytest.mark.lane_detector",
    ),
}
"""Mistakes in the marker: what stands in its place, and what pytest says."""


def test_a_mistake_in_the_marker_is_told_at_collection(package: Path) -> None:
    right = package / "test_my_lanes.py"
    text = right.read_text()
    right.unlink()
    for name, (old, new, _) in MISTAKES.items():
        assert old in text
        (package / f"test_{name}.py").write_text(text.replace(old, new))
    run = run_pytest(package)
    assert run.returncode == 2
    assert "Traceback" not in run.stdout
    told = re.split(
        r"^_+ ERROR collecting (test_\w+\.py) _+$", run.stdout.partition("short test summary")[0], flags=re.M
    )
    of_file = dict(zip(told[1::2], told[2::2], strict=True))
    assert of_file.keys() == {f"test_{name}.py" for name in MISTAKES}
    assert [name for name, (_, _, said) in MISTAKES.items() if said not in of_file[f"test_{name}.py"]] == []


def test_the_plugin_is_registered_and_imports_nothing_heavy() -> None:
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]
    assert points == {"harness.conformance.plugin": "harness.conformance.plugin"}
    code = "import sys, harness.conformance.plugin; sys.exit(bool({'torch', 'numpy', 'cv2'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60).returncode == 0
