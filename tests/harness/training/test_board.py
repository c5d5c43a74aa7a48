from __future__ import annotations

import sys

import pytest
import torch

from harness.errors import InputError
from harness.training.board import scalars
from harness.training.loop import train
from harness.training.plan import TrainingPlan


def run(toy, roads, folder, *, steps: int, stop: int | None = None) -> None:
    model = toy.model()
    plan = TrainingPlan(toy.recipe(), steps, log_every=1, checkpoint_steps=2, tensorboard=True)

    def progress(done: int, total: int, loss: float) -> None:
        if done == stop:
            raise KeyboardInterrupt

    batches = roads.stream(model.detector).batches
    train(model, batches, plan, device=torch.device("cpu"), folder=folder, progress=progress)


def test_every_number_of_an_entry_has_its_path():
    entry = {"step": 3, "loss": 1.5, "losses": {"a": 1.0, "b": 0.5}, "diagnostics": {"r2/layer1": 0.2}, "batch": ["x"]}
    assert dict(scalars(entry)) == {"loss": 1.5, "losses/a": 1.0, "losses/b": 0.5, "diagnostics/r2/layer1": 0.2}


def test_without_the_package_the_key_and_the_command_are_told(toy, roads, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match=r"'training\.tensorboard': .*pip install 'samiro-bench\[tensorboard\]'"):
        run(toy, roads, tmp_path, steps=2)


def test_every_term_rate_and_norm_is_shown_once_a_step_also_after_a_resume(toy, roads, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with pytest.raises(KeyboardInterrupt):
        run(toy, roads, tmp_path, steps=5, stop=4)  # its last checkpoint is of step 2
    run(toy, roads, tmp_path, steps=5)
    found = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    tags = {"loss", "losses/place", "losses/presence", "losses/extra", "gradient_norm", "learning_rate/detector"}
    assert tags <= set(found.Tags()["scalars"])
    for tag in tags:
        assert [event.step for event in found.Scalars(tag)] == [1, 2, 3, 4, 5]
