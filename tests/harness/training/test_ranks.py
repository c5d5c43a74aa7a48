"""Trainings of two processes (gloo, on the CPU) beside trainings of one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from harness.training.checkpoint import load_training_state
from harness.training.determinism import deterministic
from harness.training.ranks import ALONE, Ranks
from tests.harness.training.trainings import log_lines

STEPS = 6


def command(toy, images: Path, folder: Path, processes: int, *, dropout: float = 0.0, **options) -> list[str]:
    folder.mkdir(exist_ok=True)
    words = [images, folder, STEPS, processes, dropout, json.dumps(options)]
    return [sys.executable, toy.__file__, *map(str, words)]


def environment(toy) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(Path(toy.__file__).parents[3]), "OMP_NUM_THREADS": "1"}


def run(toy, *arguments, **options) -> subprocess.CompletedProcess[str]:
    words = command(toy, *arguments, **options)
    return subprocess.run(words, env=environment(toy), text=True, capture_output=True, timeout=240)


def end_of(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "end.pt", weights_only=True)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    return tmp_path / "images"


def test_two_processes_train_as_one_does_on_the_same_batches(toy, images, tmp_path):
    """Micro-batches of 2 in either; the toy's loss and layers look at each sample by itself."""
    steps = list(range(1, STEPS + 1))
    toy.Roads(images)
    (tmp_path / "1").mkdir()
    told: list[int] = []
    with deterministic(threads=1):  # here, for a process more takes longer to start than to train
        toy.share(images, tmp_path / "1", STEPS, 0.0, {}, ALONE, lambda event: told.append(event.step))
    assert told == steps
    done = run(toy, images, tmp_path / "2", 2)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == list(map(str, steps))
    one, two = end_of(tmp_path / "1"), end_of(tmp_path / "2")
    for name, value in one.items():
        assert torch.allclose(value, two[name], rtol=0, atol=1e-6), name
    logs = [[line for line in log_lines(tmp_path / name) if "loss" in line] for name in ("1", "2")]
    for first, second in zip(*logs, strict=True):
        assert first["losses"] == pytest.approx(second["losses"], abs=1e-6)
        assert first["gradient_norm"] == pytest.approx(second["gradient_norm"], abs=1e-6)
    states = [load_training_state(tmp_path / name / "training.safetensors") for name in ("1", "2")]
    for name, value in states[0]["average"].items():
        assert torch.allclose(value, states[1]["average"][name], rtol=0, atol=1e-6), name
    # What processes draw in training is their own.
    for whose in ("torch", "own"):
        first, second = (state[whose] for state in states[1]["random"])
        assert not torch.equal(first, second)


@pytest.mark.slow
def test_samiro_in_two_processes_trains_as_in_one(toy, images, tmp_path):
    for processes in (1, 2):
        done = run(toy, images, tmp_path / str(processes), processes, samiro="fixed", diagnostics_every=1)
        assert done.returncode == 0, done.stderr
    one, two = end_of(tmp_path / "1"), end_of(tmp_path / "2")
    assert one.keys() == two.keys()
    assert any(name.startswith("regularizer.") for name in one)
    assert any("spatial_attention" in name for name in one)
    for name, value in one.items():
        assert torch.allclose(value, two[name], rtol=0, atol=1e-6), name
    logs = [[line for line in log_lines(tmp_path / name) if "loss" in line] for name in ("1", "2")]
    for first, second in zip(*logs, strict=True):
        assert first["losses"] == pytest.approx(second["losses"], abs=1e-6)
    assert logs[0][-1]["losses"]["mutual_information"] != pytest.approx(logs[0][0]["losses"]["mutual_information"])


@pytest.mark.slow
def test_processes_weigh_the_regularizer_alike_though_they_see_other_images(toy, images, tmp_path):
    done = run(toy, images, tmp_path / "run", 2, samiro="ratio")
    assert done.returncode == 0, done.stderr
    first, second = (torch.load(tmp_path / "run" / name, weights_only=True) for name in ("end.pt", "end1.pt"))
    steered = {name: value for name, value in first.items() if name.startswith("weight.")}
    assert float(steered["weight.weight"]) != pytest.approx(0.1)
    for name, value in steered.items():
        assert torch.equal(value, second[name]), name


@pytest.mark.slow
def test_a_killed_training_of_two_processes_leaves_none_behind_and_resumes_bit_for_bit(toy, images, tmp_path):
    whole = run(toy, images, tmp_path / "whole", 2, dropout=0.1)
    assert whole.returncode == 0, whole.stderr
    words = command(toy, images, tmp_path / "parts", 2, dropout=0.1, fail=["sleep", 6])
    process = subprocess.Popen(words, env=environment(toy), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == "5":
            break
    children = children_of(process.pid)
    assert len(children) >= 2
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 30
    while any(alive(child) for child in children):
        assert time.monotonic() < deadline, "a process outlived the one that started it"
        time.sleep(0.1)
    # Written before the validation of step 4; step 5 is lost.
    assert load_training_state(tmp_path / "parts/training.safetensors")["course"]["step"] == 4
    resumed = run(toy, images, tmp_path / "parts", 2, dropout=0.1)
    assert resumed.returncode == 0, resumed.stderr
    first, second = end_of(tmp_path / "whole"), end_of(tmp_path / "parts")
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


@pytest.mark.slow
def test_two_processes_that_are_asked_to_stop_do_so_after_a_checkpoint_and_resume_bit_for_bit(toy, images, tmp_path):
    whole = run(toy, images, tmp_path / "whole", 2, dropout=0.1)
    assert whole.returncode == 0, whole.stderr
    words = command(toy, images, tmp_path / "parts", 2, dropout=0.1, checkpoint_steps=100, slow=0.3)
    process = subprocess.Popen(words, env=environment(toy), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == "2":
            break
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=240)
    assert process.returncode == 130
    assert 2 <= load_training_state(tmp_path / "parts/training.safetensors")["course"]["step"] < STEPS
    resumed = run(toy, images, tmp_path / "parts", 2, dropout=0.1)
    assert resumed.returncode == 0, resumed.stderr
    first, second = end_of(tmp_path / "whole"), end_of(tmp_path / "parts")
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("input", "InputError: images/7.jpg: broken; mend it"),
        ("nan", "TrainingDiverged: training diverged at step 2: the loss isn't finite; losses: place nan"),
        ("error", "RuntimeError: process 1 of the 2 of a training: ValueError: some fault"),
        ("kill", "InfrastructureError: process 1 of the 2 of a training was ended by signal SIGKILL"),
    ],
)
def test_one_that_fails_ends_all_with_its_message(toy, images, tmp_path, kind, message):
    done = run(toy, images, tmp_path / "run", 2, fail=[kind, 2])
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(message)
    if kind == "nan":
        batch = log_lines(tmp_path / "run")[-1]["batch"]
        assert len(batch) == 4  # of the whole batch, not of a share
        assert last.endswith(f"batch: {', '.join(batch)}")


def test_the_first_process_keeps_the_seed_and_the_others_have_their_own():
    assert Ranks(0, 3).seed(7) == 7
    assert len({Ranks(rank, 3).seed(7) for rank in range(3)}) == 3


def children_of(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children")
    if not found.exists():
        pytest.skip("needs Linux's /proc/<pid>/task/<tid>/children")
    return [int(child) for child in found.read_text().split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
