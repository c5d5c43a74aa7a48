from __future__ import annotations

import math

import pytest
import torch

from harness.errors import InputError
from harness.training.average import MovingAverage, newest_weight
from harness.training.checkpoint import load_training_state
from harness.training.loop import train
from harness.training.plan import TrainingPlan, Validation

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("one_thread")


def plan(toy, steps: int, **changes) -> TrainingPlan:
    return TrainingPlan(toy.recipe(**{"ema_decay": 0.9, **changes}), steps, checkpoint_steps=2)


def trained(toy, roads, folder, the_plan, **options):
    model = toy.model()
    summary = train(model, roads.stream(model.detector).batches, the_plan, device=CPU, folder=folder, **options)
    return model, summary


def stop_at(step: int):
    def progress(done: int, total: int, loss: float) -> None:
        if done == step:
            raise KeyboardInterrupt

    return progress


def test_the_average_is_the_sum_that_its_definition_says(toy):
    model = toy.model()
    weight = model.detector.head.weight
    average = MovingAverage(model, 0.9)
    expected = weight.detach().clone()
    for step in range(1, 6):
        with torch.no_grad():
            weight.add_(step)
        share = 0.1 + 0.9 * math.exp(-step / 2000)
        expected = (1 - share) * expected + share * weight.detach()
        average.update(step)
    assert torch.allclose(average.state_dict()["head.weight"], expected, rtol=1e-6)


def test_the_newest_weights_have_the_share_of_the_decay_in_the_long_run():
    assert newest_weight(0.9999, 1) == pytest.approx(0.0001 + 0.9999 * math.exp(-1 / 2000))
    assert newest_weight(0.9999, 10**6) == pytest.approx(0.0001)


def test_statistics_are_averaged_and_counts_are_the_newest(toy):
    model = toy.model()
    model.detector.norm = torch.nn.BatchNorm2d(2)
    average = MovingAverage(model, 0.5)
    model.detector.norm.running_mean.fill_(1.0)
    model.detector.norm.num_batches_tracked.fill_(7)
    average.update(10**6)
    assert average.state_dict()["norm.running_mean"].tolist() == [0.5, 0.5]
    assert average.state_dict()["norm.num_batches_tracked"].item() == 7


def test_only_what_is_deployed_is_averaged(toy):
    assert set(MovingAverage(toy.model(), 0.9).state_dict()) == set(toy.model().detector.state_dict())


def test_an_average_of_another_model_is_not_taken_up(toy):
    average = MovingAverage(toy.model(), 0.9)
    state = dict(average.state_dict())
    del state["head.weight"]
    with pytest.raises(KeyError, match=r"head\.weight"):
        average.load_state_dict(state)


def test_a_training_gives_the_average_and_trains_as_without_it(toy, roads, tmp_path):
    model, _ = trained(toy, roads, tmp_path / "average", plan(toy, 8))
    raw, _ = trained(toy, roads, tmp_path / "raw", plan(toy, 8, ema_decay=None))
    state = load_training_state(tmp_path / "average" / "training.safetensors")
    for name, value in model.detector.state_dict().items():
        assert torch.equal(value, state["average"][name])
        assert torch.equal(state["model"][f"detector.{name}"], raw.detector.state_dict()[name])
    assert not torch.equal(model.detector.head.weight, raw.detector.head.weight)
    assert torch.equal(model.extra, raw.extra)


@pytest.mark.parametrize("step", [3, 4, 7])
def test_a_resumed_average_equals_an_undisturbed_one(toy, roads, tmp_path, step):
    whole, _ = trained(toy, roads, tmp_path / "whole", plan(toy, 8))
    with pytest.raises(KeyboardInterrupt):
        trained(toy, roads, tmp_path / "parts", plan(toy, 8), progress=stop_at(step))
    parts, _ = trained(toy, roads, tmp_path / "parts", plan(toy, 8))
    again, _ = trained(toy, roads, tmp_path / "parts", plan(toy, 8))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, parts.state_dict()[name])
        assert torch.equal(value, again.state_dict()[name])


def test_validation_scores_the_average_and_the_training_goes_on_from_its_own_weights(toy, roads, tmp_path):
    seen = []

    def score(model) -> float:
        seen.append(model.detector.head.weight.clone())
        return -float(len(seen))

    model, summary = trained(toy, roads, tmp_path / "scored", plan(toy, 6), validation=Validation(2, score))
    plain, _ = trained(toy, roads, tmp_path / "plain", plan(toy, 6))
    assert summary.best_step == 2
    assert torch.equal(model.detector.head.weight, seen[0])
    assert torch.equal(plain.detector.head.weight, seen[2])


def test_a_checkpoint_without_the_average_is_refused(toy, roads, tmp_path):
    trained(toy, roads, tmp_path, plan(toy, 4, ema_decay=None))
    with pytest.raises(InputError, match=r"training\.safetensors: .*'recipe'"):
        trained(toy, roads, tmp_path, plan(toy, 4))
