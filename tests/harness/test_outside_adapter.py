"""A detector in a package of somebody else's, installed by pip, runs in `bench` like the project's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.records.record import read_records
from harness.scaffold.write import write_scaffold

ROOT = Path(__file__).resolve().parents[2]

PYPROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "outside-lanes"
version = "1.0"
[project.entry-points."samiro_bench.detectors"]
my_lanes = "outside_lanes.adapter:MyLanes"
[tool.setuptools]
packages = ["outside_lanes"]
"""

SUITE = """
title: Outside
datasets:
  roads:
    rendered:
      seed: 7
      difficulty: 0.2
      width: 820
      height: 295
      splits: {train: {frames: 12, frames_per_clip: 3}, test: {frames: 12, frames_per_clip: 3}}
detectors:
  my_lanes:
    recipe: {steps: 4, batch_size: 4}
  mine.py:OtherLanes:
    recipe: {steps: 4, batch_size: 4}
methods:
  baseline:
training: {threads: 1, device: cpu}
throughput: lane-latency/1-short
"""

ORACLE = """
oracles:
  small:
    dataset: roads
    configuration: {name: "random:resnet_micro", image_size: [64, 160], recalibration_batches: 1}
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which pip installed a package of one adapter; no other environment is touched."""
    source = tmp_path_factory.mktemp("source")
    package = source / "outside_lanes"
    adapter, *_ = write_scaffold("my_lanes", package)
    adapter.rename(package / "adapter.py")
    (package / "__init__.py").write_text("")
    (source / "pyproject.toml").write_text(PYPROJECT)
    target = tmp_path_factory.mktemp("target")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(source)]
    run = subprocess.run(command, text=True, capture_output=True, timeout=120)
    assert run.returncode == 0, run.stderr
    return target


def bench(folder: Path, site: Path, *words: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT), str(site)])
    command = [sys.executable, "-m", "harness.cli.main", *words]
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True, timeout=300)


def write_suite(folder: Path, suite: str) -> None:
    """A suite in a folder of its own, with an adapter file beside it."""
    (folder / "suites").mkdir()
    (folder / "suites/outside.yaml").write_text(suite)
    write_scaffold("other_lanes", folder / "suites")[0].rename(folder / "suites/mine.py")


@pytest.fixture(scope="module")
def planned(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """A plan, as JSON, of the installed detector and of a file that prints when it is imported and when it is built."""
    folder = tmp_path_factory.mktemp("planned")
    write_suite(folder, SUITE)
    mine = folder / "suites/mine.py"
    begin = "super().__init__(meta, form)\n"
    mine.write_text(mine.read_text().replace(begin, f"{begin}        print('built')\n") + "\nprint('imported')\n")
    run = bench(folder, installed, "plan", "suites/outside.yaml", "--json")
    assert run.returncode == 0, run.stderr
    return run


def test_an_installed_detector_and_a_file_are_planned_by_name(planned: subprocess.CompletedProcess[str]) -> None:
    cells = [cell["name"] for cell in json.loads(planned.stdout)["cells"]]
    assert [cell.rpartition("-")[0] for cell in cells] == [
        "roads-my_lanes-baseline-s0",
        "roads-other_lanes-baseline-s0",
    ]


def test_a_detector_whose_package_is_not_installed_is_unknown(tmp_path: Path) -> None:
    write_suite(tmp_path, SUITE)
    run = bench(tmp_path, tmp_path, "plan", "suites/outside.yaml")
    assert run.returncode == 2
    assert "detectors.my_lanes': unknown detector 'my_lanes'" in run.stderr


def test_what_an_adapter_prints_stands_beside_the_json(planned: subprocess.CompletedProcess[str]) -> None:
    assert len(json.loads(planned.stdout)["cells"]) == 2
    assert {"imported", "built"} <= set(planned.stderr.splitlines())


@pytest.mark.slow
def test_an_installed_detector_and_a_file_run_in_both_arms_without_a_change_here(
    installed: Path, tmp_path: Path
) -> None:
    write_suite(tmp_path, SUITE.replace("  baseline:\n", "  baseline:\n  samiro: {oracle: small}\n") + ORACLE)
    run = bench(tmp_path, installed, "bench", "suites/outside.yaml")
    assert run.returncode == 0, run.stdout + run.stderr
    folder = tmp_path / "results/local/outside"
    records = {(r.identity.detector, r.identity.method): r for r in read_records(folder / "records")}
    assert set(records) == {(d, m) for d in ("my_lanes", "other_lanes") for m in ("baseline", "samiro")}
    packaged, single = records["my_lanes", "samiro"], records["other_lanes", "samiro"]
    assert packaged.identity.detector_meta["origin"] == {"distribution": "outside-lanes"}
    assert "outside_lanes/adapter.py" in packaged.fingerprints["train"]
    assert single.identity.detector_meta["origin"]["file"] == "mine.py"
    assert "mine.py" in single.fingerprints["train"]
    assert "mine.py" not in packaged.fingerprints["train"]
    assert {"my_lanes", "other_lanes"} <= set((folder / "leaderboard.md").read_text().replace("|", " ").split())
    (copy,) = folder.glob("cells/*other_lanes-samiro*/train/mine.py")
    assert copy.read_bytes() == (tmp_path / "suites/mine.py").read_bytes()
    assert str(tmp_path) not in "".join(record.model_dump_json() for record in records.values())
    # What was done is done, and an adapter's change is seen, be it a package's or a file's.
    assert bench(tmp_path, installed, "bench", "suites/outside.yaml").returncode == 0
    adapter = installed / "outside_lanes/adapter.py"
    adapter.write_text(adapter.read_text().replace("ROWS = 24", "ROWS = 20"))
    run = bench(tmp_path, installed, "bench", "suites/outside.yaml")
    assert run.returncode == 2
    assert "code changed since: outside_lanes/adapter.py" in run.stderr
