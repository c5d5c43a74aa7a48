"""docs/add-a-method.md: its example is put into a copy of the repository, fits, trains, and leaves nothing behind."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from detectors import base as parts
from harness.methods import base as bases
from harness.methods import taps as tapped
from harness.methods.baseline import BaselineModel
from harness.training.loop import train
from harness.training.plan import TrainingPlan
from tests.docs.pages import blocks
from tests.harness.training import toy
from tests.harness.training.trainings import CPU, Interrupted, interrupt_at, log_lines

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/add-a-method.md").read_text()


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the code with the page's module, its changes and its suite."""
    folder = tmp_path_factory.mktemp("changed")
    for name in ("harness", "detectors", "suites"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (module,) = re.findall(r"`(harness/methods/\w+\.py)`:", PAGE)
    (folder / module).write_text(blocks(PAGE, "python")[0])
    # Below a repository git would look for the files at its root.
    alone = {**os.environ, "GIT_CEILING_DIRECTORIES": str(folder.parent)}
    subprocess.run(["git", "apply", "-"], cwd=folder, env=alone, input=blocks(PAGE, "diff")[0], text=True, check=True)
    (folder / "decay.yaml").write_text(blocks(PAGE, "yaml")[-1])
    return folder


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The console command of the copy."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-P", "-m", "harness.cli.main", *words],
        cwd=folder, env=environment, text=True, capture_output=True, timeout=600,
    )  # fmt: skip


def test_the_example_is_known_and_fits_its_detector(changed: Path) -> None:
    planned = run(changed, "plan", "decay.yaml", "--json")
    assert planned.returncode == 0, planned.stderr
    names = {cell["name"].rsplit("-", 2)[0] for cell in json.loads(planned.stdout)["cells"]}
    methods = ("baseline", "activation_decay", "activation_decay_strong")
    assert names == {f"roads-ufldv2_micro-{method}" for method in methods}
    schema = json.loads(run(changed, "suite", "schema").stdout)
    assert "activation_decay" in schema["properties"]["methods"]["properties"]
    # The trial before a run really puts the method around the detector.
    module = changed / "harness/methods/activation_decay.py"
    whole = module.read_text()
    try:
        module.write_text(whole.replace("Reader(tap.path)", "Reader(tap.no_such_path)"))
        broken = run(changed, "plan", "decay.yaml")
    finally:
        module.write_text(whole)
    assert broken.returncode == 2
    assert "key 'methods.activation_decay" in broken.stderr or "can't be put around it" in broken.stderr


@pytest.mark.slow
def test_the_example_trains_and_is_compared_with_the_baseline(changed: Path) -> None:
    done = run(changed, "bench", "decay.yaml")
    assert done.returncode == 0, done.stderr
    place = changed / "results/local/decay"
    assert "Δ activation_decay_strong - baseline" in (place / "leaderboard.md").read_text()
    logs = {path.parents[1].name.split("-")[2]: path.read_text() for path in place.glob("cells/*/train/training.jsonl")}
    assert '"activation_decay"' not in logs["baseline"]
    assert '"activation_decay"' in logs["activation_decay"]
    # Equal starts: the detector's own first losses don't know of the method.
    first = {name: json.loads(text.splitlines()[0])["losses"] for name, text in logs.items()}
    own = set(first["baseline"])
    assert {key: first["activation_decay"][key] for key in own} == first["baseline"]


def test_what_the_page_names_is_there() -> None:
    base = (ROOT / "harness/methods/base.py").read_text()
    table = PAGE[PAGE.index("## What a method promises") :]
    named = re.findall(r"^\| `(\w+)\(", table, re.MULTILINE)
    model = base[base.index("class TrainingModel") :]
    assert sorted(named) == sorted(re.findall(r"^    def (\w+)\(", model, re.MULTILINE))


@pytest.mark.parametrize(("name", "term"), [("ConsistencyModel", "consistency"), ("GuidedModel", "guidance")])
def test_a_view_of_its_own_and_a_teacher_train_resume_and_leave_the_detectors_draws_alone(
    tmp_path: Path, name: str, term: str
) -> None:
    (tmp_path / "images").mkdir()
    roads = toy.Roads(tmp_path / "images")
    (source,) = (block for block in blocks(PAGE, "python") if f"class {name}" in block)
    known: dict[str, Any] = {**vars(parts), **vars(tapped), **vars(bases), "copy": copy, "BaselineModel": BaselineModel}
    exec(compile(source, "docs/add-a-method.md", "exec", dont_inherit=True), known)

    def run(folder: str, method: str = name, stop: int | None = None) -> list[dict[str, Any]]:
        toy.seed_everything(0)
        detector, generator = toy.ToyDetector(toy.meta()), torch.Generator().manual_seed(1)
        last = generator if method == "ConsistencyModel" else 0.9
        tap = detector.taps()[0]
        model = BaselineModel(detector) if method == "baseline" else known[method](detector, tap, 0.1, last)
        plan = TrainingPlan(toy.recipe(), 5, checkpoint_steps=1, log_every=1, micro_batch_size=2)
        batches = roads.stream(detector).batches
        toy.seed_everything(2)
        progress = None if stop is None else interrupt_at(stop)
        train(model, batches, plan, device=CPU, folder=tmp_path / folder, generator=generator, progress=progress)
        return [line["losses"] for line in log_lines(tmp_path / folder) if "losses" in line]

    whole, baseline = run("whole"), run("baseline", "baseline")
    assert {key: whole[0][key] for key in baseline[0]} == baseline[0]
    assert whole[-1][term] > 0
    with pytest.raises(Interrupted):
        run("parts", stop=3)
    assert run("parts") == whole
