"""A training whose numbers leave their range stops, and says where."""

from __future__ import annotations

import itertools
import math
import pickle

import pytest
import torch

from harness.training.checkpoint import load_training_state
from harness.training.loop import train
from harness.training.plan import TrainingDiverged, TrainingPlan
from tests.harness.training.trainings import CPU, log_lines

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_loss_that_is_not_finite_stops_with_step_terms_and_batch(toy, roads, tmp_path):
    model = toy.model()
    stream = roads.stream(model.detector)

    def poisoned(first: int, last: int):
        for step, batch in enumerate(stream.batches(first, last), first + 1):
            if step == 4:
                batch.targets["place"][1] = float("nan")
                batch.targets["present"][1] = 1.0
            yield batch

    with pytest.raises(TrainingDiverged) as caught:
        train(model, poisoned, TrainingPlan(toy.recipe(), 10, checkpoint_steps=1), device=CPU, folder=tmp_path)
    ids = next(stream.batches(3, 4)).ids
    assert (caught.value.step, caught.value.ids) == (4, ids)
    assert math.isnan(caught.value.losses["place"])
    assert math.isfinite(caught.value.losses["presence"])
    message = str(caught.value)
    assert "\n" not in message
    assert "step 4" in message
    assert "place nan" in message
    assert all(name in message for name in ids)
    last = log_lines(tmp_path)[-1]
    assert last["step"] == 4
    assert last["losses"]["place"] is None
    assert last["batch"] == list(ids)
    assert load_training_state(tmp_path / "training.safetensors")["course"]["step"] == 3


def test_a_gradient_that_is_not_finite_stops_in_its_own_step(toy, roads, tmp_path):
    model = toy.model()

    def losses(outputs, batch):
        return {"root": torch.sqrt(outputs * 0.0).sum()}

    model.detector.losses = losses
    with pytest.raises(TrainingDiverged, match=r"step 1: the gradient isn't finite"):
        train(model, roads.stream(model.detector).batches, TrainingPlan(toy.recipe(), 3), device=CPU, folder=tmp_path)


class Overflowing(torch.autograd.Function):
    """A loss whose gradient overflows as long as the scaled loss is above a limit."""

    @staticmethod
    def forward(context, value, limit):
        context.limit = limit
        return value.clone()

    @staticmethod
    def backward(context, gradient):
        return (gradient * math.inf if float(gradient) > context.limit else gradient), None


def overflowing(toy, limit: float):
    model = toy.model()
    losses = model.detector.losses
    model.detector.losses = lambda outputs, batch: {
        name: Overflowing.apply(term, limit) for name, term in losses(outputs, batch).items()
    }
    return model


def test_steps_that_overflow_in_fp16_are_skipped_and_counted(toy, roads, tmp_path):
    model = overflowing(toy, 65536 / 8)
    plan = TrainingPlan(toy.recipe(), 6, precision="fp16", log_every=1)
    before = model.detector.head.weight.clone()
    seen = []

    def progress(step: int, total: int, loss: float) -> None:
        seen.append(torch.equal(model.detector.head.weight, before))

    batches = roads.stream(model.detector).batches
    summary = train(model, batches, plan, device=CPU, folder=tmp_path, progress=progress)
    assert seen == [True, True, True, False, False, False]
    assert summary.skipped_steps == 3
    assert [line["skipped_steps"] for line in log_lines(tmp_path)] == [1, 2, 3, 3, 3, 3]


@pytest.mark.parametrize("path", ["extra", "detector.head.weight"])
def test_a_skipped_step_moves_nothing_whichever_optimizers_gradient_overflows(toy, roads, tmp_path, path):
    model = toy.model()
    factors = iter([math.inf, math.inf, 1.0, 1.0])
    model.get_parameter(path).register_hook(lambda gradient: gradient * next(factors))
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    moved = []

    def progress(step: int, total: int, loss: float) -> None:
        moved.append({name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])})

    batches = roads.stream(model.detector).batches
    plan = TrainingPlan(toy.recipe(), 4, precision="fp16")
    summary = train(model, batches, plan, device=CPU, folder=tmp_path, progress=progress)
    assert moved[:2] == [set(), set()]
    assert {"extra", "detector.head.weight"} <= moved[2]
    assert summary.skipped_steps == 2


def test_a_gradient_that_overflows_at_any_scale_is_a_divergence(toy, roads, tmp_path):
    model = overflowing(toy, 0.0)
    plan = TrainingPlan(toy.recipe(), 40, precision="fp16")
    with pytest.raises(TrainingDiverged, match="step 32: the gradient wasn't finite in 32 steps in a row"):
        train(model, roads.stream(model.detector).batches, plan, device=CPU, folder=tmp_path)


def test_as_many_overflows_with_steps_between_them_are_none(toy, roads, tmp_path):
    model = toy.model()
    factors = itertools.cycle([math.inf, 1.0])
    model.extra.register_hook(lambda gradient: gradient * next(factors))
    plan = TrainingPlan(toy.recipe(), 70, precision="fp16")
    summary = train(model, roads.stream(model.detector).batches, plan, device=CPU, folder=tmp_path)
    assert summary.skipped_steps == 35


def test_a_divergence_names_a_few_images_and_survives_pickling():
    error = TrainingDiverged(3, "why", {"a": math.nan}, tuple(f"{number}.jpg" for number in range(40)))
    assert str(error).endswith("14.jpg, 15.jpg and 24 more (in the training's log)")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_loss_above_the_limit_stops(toy, roads, tmp_path):
    model = toy.model()
    plan = TrainingPlan(toy.recipe(), 3, loss_limit=100.0)
    with pytest.raises(TrainingDiverged, match=r"step 1: the loss 90\d\.\d+ is above 100"):
        train(model, roads.stream(model.detector).batches, plan, device=CPU, folder=tmp_path)


def test_a_diagnostic_that_is_not_finite_is_null_in_the_log_and_left_out_of_the_summary(toy, roads, tmp_path):
    model = toy.model()
    model.diagnostics = lambda: {"r_squared/stem": 0.5, "gradient_ratio/stem": math.inf}
    batches = roads.stream(model.detector).batches
    summary = train(model, batches, TrainingPlan(toy.recipe(), 2), device=CPU, folder=tmp_path)
    assert summary.final_diagnostics == {"r_squared/stem": 0.5}
    assert log_lines(tmp_path)[-1]["diagnostics"] == {"r_squared/stem": 0.5, "gradient_ratio/stem": None}
