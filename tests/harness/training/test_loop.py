from __future__ import annotations

import itertools
import math
import time
from dataclasses import replace
from statistics import median
from types import SimpleNamespace

import pytest
import torch

from detectors.base import Tap
from detectors.meta import Normalisation
from harness.errors import InputError
from harness.methods.attach import attach
from harness.methods.config import method_configuration
from harness.methods.oracle import Oracle
from harness.methods.samiro import GradientRatios
from harness.processes.faults import OutOfMemory
from harness.training import loop
from harness.training.checkpoint import load_training_state
from harness.training.course import Course, summary_of
from harness.training.data import micro_batches
from harness.training.determinism import seed_everything
from harness.training.loop import train
from harness.training.plan import TrainingPlan, Validation
from harness.training.ranks import ALONE, Ranks
from tests.harness.training.trainings import CPU, Interrupted, interrupt_at, log_lines, same_weights

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_training_learns(toy, roads, tmp_path):
    trained = toy.run(tmp_path / "images", tmp_path / "run", steps=60)
    lines = log_lines(tmp_path / "run")
    detector_loss = [line["losses"]["place"] + line["losses"]["presence"] for line in lines]
    assert sum(detector_loss[-5:]) < 0.5 * sum(detector_loss[:5])
    assert trained.extra.item() > 0.1


def test_two_runs_of_one_seed_give_the_same_bytes(toy, roads, tmp_path):
    first = toy.run(tmp_path / "images", tmp_path / "first", steps=10)
    second = toy.run(tmp_path / "images", tmp_path / "second", steps=10)
    assert same_weights(first, second)
    states = [load_training_state(tmp_path / name / "training.safetensors") for name in ("first", "second")]
    momenta = [state["optimizers"]["recipe"]["state"][0]["momentum_buffer"] for state in states]
    assert torch.equal(*momenta)


def test_another_seed_gives_other_weights(toy, roads, tmp_path):
    assert not same_weights(toy.model(seed=0), toy.model(seed=1))


def test_the_summary_says_what_a_training_took(toy, roads, tmp_path):
    model = toy.model()
    plan = TrainingPlan(toy.recipe(clip_gradient_norm=1e-9), 6, micro_batch_size=2)
    seen = []
    stream = roads.stream(model.detector)
    summary = train(
        model, stream.batches, plan, device=CPU, folder=tmp_path, progress=lambda *state: seen.append(state)
    )
    assert (summary.steps, summary.images, summary.batch_size, summary.micro_batch_size) == (6, 24, 4, 2)
    assert 0 < summary.seconds_per_step <= summary.seconds
    assert summary.clip_rate == 1.0
    assert list(summary.final_losses) == ["place", "presence", "extra"]
    assert summary.final_diagnostics == {"extra": model.extra.item()}
    assert summary.peak_memory_bytes is None
    assert [state[:2] for state in seen] == [(step, 6) for step in range(1, 7)]
    assert seen[-1][2] == pytest.approx(sum(summary.final_losses.values()))


def test_the_summary_has_the_sum_of_the_seconds_their_median_and_the_share_of_clipped_steps(toy):
    course = Course(step=3, seconds=[1.0, 2.0, 9.0], clipped=[1.0, 0.0, 0.0], skipped=2, resumed=1)
    clipped = summary_of(TrainingPlan(toy.recipe(), 3), course, Ranks(0, 2))
    assert (clipped.seconds, clipped.seconds_per_step) == (12.0, 2.0)
    assert clipped.clip_rate == pytest.approx(1 / 3)
    # Two processes share a batch of 4.
    assert (clipped.images, clipped.micro_batch_size, clipped.skipped_steps, clipped.resumed) == (12, 2, 2, 1)
    assert summary_of(TrainingPlan(toy.recipe(clip_gradient_norm=None), 3), course, ALONE).clip_rate is None


def test_every_line_of_the_log_has_terms_rates_and_times(toy, roads, tmp_path):
    toy.run(tmp_path / "images", tmp_path / "run", steps=9)
    lines = log_lines(tmp_path / "run")
    assert [line["step"] for line in lines] == list(range(1, 10))
    for line in lines:
        assert line["loss"] == pytest.approx(sum(line["losses"].values()))
        assert set(line["learning_rate"]) == {"detector", "extra"}
        assert line["step_seconds"] > 0
        assert line["clip_rate"] in (0.0, 1.0)
        assert line["clip_rate"] == float(line["gradient_norm"] > 0.5)
    assert [line["step"] for line in lines if "diagnostics" in line] == [1, 4, 5, 8, 9]  # ratios: 1, 5, 9
    assert lines[3]["learning_rate"]["detector"] == pytest.approx(0.05 * (1 + math.cos(math.pi * 3 / 9)) / 2)
    assert lines[3]["learning_rate"]["extra"] == pytest.approx(0.01 * (1 + math.cos(math.pi * 3 / 9)) / 2)


def test_rates_and_times_of_a_line_are_means_over_the_steps_since_the_last_multiple(toy, roads, tmp_path, monkeypatch):
    def lines_of(limit, log_every):
        # By this clock the n-th step takes n seconds, and whatever lies between two steps a thousand.
        ticks = itertools.accumulate(itertools.chain.from_iterable((1000.0, step) for step in itertools.count(1.0)))
        clock = SimpleNamespace(perf_counter=lambda: next(ticks), monotonic=time.monotonic)
        monkeypatch.setattr(loop, "time", clock)
        model, folder = toy.model(), tmp_path / str(log_every)
        # At such a rate the weights stay, so that the gradients are those of a training that doesn't clip.
        recipe = toy.recipe(learning_rate=1e-9, clip_gradient_norm=limit)
        plan = TrainingPlan(recipe, 10, log_every=log_every, diagnostics_every=100)
        train(model, roads.stream(model.detector).batches, plan, device=CPU, folder=folder)
        return {line["step"]: line for line in log_lines(folder)}

    norms = [line["gradient_norm"] for line in lines_of(None, 1).values()]
    limit = median(norms)
    lines = lines_of(limit, 4)
    assert list(lines) == [1, 4, 5, 8, 10]
    # Besides the multiples of 4 the steps at which the gradients' ratio is measured.
    for step, first in ((1, 1), (4, 1), (5, 5), (8, 5), (10, 9)):
        steps = range(first, step + 1)
        assert lines[step]["step_seconds"] == pytest.approx(sum(steps) / len(steps))
        clipped = [norms[one - 1] > limit for one in steps]
        assert lines[step]["clip_rate"] == pytest.approx(sum(clipped) / len(steps))


@pytest.mark.parametrize(
    ("precision", "channels_last", "computed"),
    [("fp32", False, torch.float32), ("bf16", False, torch.bfloat16), ("fp16", True, torch.float16)],
)
def test_a_step_computes_in_the_precision_and_the_layout_of_the_plan_and_in_train_mode(
    toy, roads, tmp_path, precision, channels_last, computed
):
    seen = []

    def note(module, taken, given):
        layouts = [tensor.is_contiguous(memory_format=torch.channels_last) for tensor in (taken[0], module.weight)]
        seen.append((given.dtype, *layouts, module.training))

    model = toy.model().eval()
    model.detector.stem[0].register_forward_hook(note)
    plan = TrainingPlan(toy.recipe(), 1, precision=precision, channels_last=channels_last)
    train(model, roads.stream(model.detector).batches, plan, device=CPU, folder=tmp_path)
    assert seen[0] == (computed, channels_last, channels_last, True)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_accumulated_gradients_equal_those_of_the_whole_batch(toy, roads, tmp_path, size):
    weights, losses = [], []
    for name, micro in (("whole", None), ("parts", size)):
        model = toy.model(dropout=0.0)
        plan = TrainingPlan(toy.recipe(), 5, micro_batch_size=micro)
        summary = train(model, roads.stream(model.detector).batches, plan, device=CPU, folder=tmp_path / name)
        weights.append(model.state_dict())
        losses.append(summary.final_losses)
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    for name, value in weights[0].items():
        assert torch.allclose(value, weights[1][name], rtol=1e-4, atol=1e-6), name


def test_micro_batches_are_the_batch_in_order(toy, roads):
    batch = next(roads.stream(toy.model().detector).batches(0, 1))
    # Counts that differ, so that no part could have another's.
    batch = replace(batch, lane_counts=torch.arange(4), point_counts=torch.arange(4)[:, None])
    parts = list(micro_batches(batch, 3))
    assert [len(part.ids) for part in parts] == [3, 1]
    assert torch.equal(torch.cat([part.images for part in parts]), batch.images)
    assert torch.equal(torch.cat([part.targets["place"] for part in parts]), batch.targets["place"])
    for name in ("lanes", "lane_counts", "point_counts"):
        whole = torch.cat([getattr(part, name) for part in parts])
        assert torch.allclose(whole, getattr(batch, name), equal_nan=True), name
    assert parts[0].ids + parts[1].ids == batch.ids
    assert parts[0].geometries + parts[1].geometries == batch.geometries


def test_a_batch_that_is_moved_keeps_each_of_its_tensors(toy, roads):
    batch = next(roads.stream(toy.model().detector).batches(0, 1))
    moved = batch.to(torch.device("meta"))
    for name in ("images", "lanes", "lane_counts", "point_counts"):
        before, after = getattr(batch, name), getattr(moved, name)
        assert (after.device.type, after.shape, after.dtype) == ("meta", before.shape, before.dtype), name
    assert {name: value.shape for name, value in moved.targets.items()} == {
        name: value.shape for name, value in batch.targets.items()
    }
    assert (moved.ids, moved.geometries) == (batch.ids, batch.geometries)


@pytest.mark.parametrize(("precision", "channels_last"), [("bf16", False), ("fp16", False), ("fp32", True)])
def test_other_precisions_and_layouts_train_and_resume_alike(toy, roads, tmp_path, precision, channels_last):
    plan = TrainingPlan(toy.recipe(), 6, precision=precision, channels_last=channels_last, checkpoint_steps=2)
    models = []
    for name, stop in (("undisturbed", None), ("resumed", 5)):
        if stop:
            model = toy.model()
            batches = roads.stream(model.detector).batches
            with pytest.raises(Interrupted):
                train(model, batches, plan, device=CPU, folder=tmp_path / name, progress=interrupt_at(stop))
        model = toy.model()
        summary = train(model, roads.stream(model.detector).batches, plan, device=CPU, folder=tmp_path / name)
        assert all(math.isfinite(value) for value in summary.final_losses.values())
        assert model.detector.head.weight.dtype == torch.float32
        models.append(model)
    assert same_weights(*models)
    scalers = [
        load_training_state(tmp_path / name / "training.safetensors")["scaler"] for name in ("undisturbed", "resumed")
    ]
    assert scalers[0] == scalers[1]


def test_validation_keeps_the_best_step_and_leaves_no_trace(toy, roads, tmp_path):
    scores = {2: 0.3, 4: 0.7, 6: 0.7, 7: 0.1}
    seen = {}

    def score(model) -> float:
        assert not model.training
        torch.rand(5)
        step = 2 * (len(seen) + 1) if len(seen) < 3 else 7
        seen[step] = {name: value.clone() for name, value in model.state_dict().items()}
        return scores[step]

    selected, plain = toy.model(), toy.model()
    plan = TrainingPlan(toy.recipe(), 7)
    seedless = torch.get_rng_state()
    summary = train(
        selected,
        roads.stream(selected.detector).batches,
        plan,
        device=CPU,
        folder=tmp_path / "selected",
        validation=Validation(2, score),
    )
    torch.set_rng_state(seedless)
    train(plain, roads.stream(plain.detector).batches, plan, device=CPU, folder=tmp_path / "plain")
    assert (summary.best_step, summary.best_score) == (4, 0.7)
    assert all(torch.equal(value, seen[4][name]) for name, value in selected.state_dict().items())
    assert all(torch.equal(value, seen[7][name]) for name, value in plain.state_dict().items())
    validated = {line["step"]: line["validation"] for line in log_lines(tmp_path / "selected") if "validation" in line}
    assert validated == scores


def test_a_weight_that_measures_gradients_is_not_compiled(toy, roads, tmp_path):
    plan = TrainingPlan(toy.recipe(), 8, compiled=True)
    model = toy.samiro("ratio", 8)
    with pytest.raises(InputError, match=r"'training\.compile': lambda_mode 'ratio' measures gradients"):
        train(model, roads.stream(model.detector).batches, plan, device=CPU, folder=tmp_path)


def test_gradient_ratios_are_of_one_micro_batch_in_the_precision_of_the_training(toy, roads, tmp_path, monkeypatch):
    seen = []

    def noted(model, batch):
        seen.append((len(batch.ids), torch.is_autocast_enabled("cpu")))
        return GradientRatios({"stem": 0.25}, {"detector": 3.0})

    monkeypatch.setattr(loop, "gradient_ratios", noted)
    model = toy.model()
    plan = TrainingPlan(toy.recipe(), 2, precision="bf16", micro_batch_size=2)
    summary = train(model, roads.stream(model.detector).batches, plan, device=CPU, folder=tmp_path)
    assert seen == [(2, True)] * 2
    found = {name: value for name, value in summary.final_diagnostics.items() if "gradient_ratio" in name}
    assert found == {"gradient_ratio/stem": 0.25, "weight_gradient_ratio/detector": 3.0}


def test_gradients_whose_ratio_does_not_fit_into_memory_are_told_as_a_step_is(toy, roads, tmp_path, monkeypatch):
    def full(model, batch):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(loop, "gradient_ratios", full)
    model = toy.model()
    plan = TrainingPlan(toy.recipe(), 2, micro_batch_size=2)
    with pytest.raises(OutOfMemory, match=r"at step 1 in micro-batches of 2: CUDA out of memory\."):
        train(model, roads.stream(model.detector).batches, plan, device=CPU, folder=tmp_path)


@pytest.mark.slow
def test_a_compiled_training_with_a_regularizer_follows_the_eager_one(toy, roads, tmp_path):
    """Hooks and names are as without: the checkpoint of one loads into the other's model."""
    configuration = method_configuration("samiro", {"oracle": "any", "normalize": "none"})
    found = {}
    for compiled in (False, True):
        detector = toy.model(dropout=0.0).detector
        oracle = Oracle(toy.OneMap(), (Tap("stem", 6, 4),), Normalisation())
        generator = torch.Generator().manual_seed(2)
        model = attach(detector, configuration, oracle=oracle, statistics=None, generator=generator)
        plan = TrainingPlan(toy.recipe(), 8, compiled=compiled, log_every=1, checkpoint_steps=4)
        batches = roads.stream(detector).batches
        train(model, batches, plan, device=CPU, folder=tmp_path / str(compiled))
        found[compiled] = model
    eager, compiled = (model.state_dict() for model in found.values())
    assert eager.keys() == compiled.keys()
    for name, value in eager.items():
        assert torch.allclose(value, compiled[name], rtol=1e-4, atol=1e-5), name
    losses = [[line["losses"] for line in log_lines(tmp_path / str(kind))] for kind in (False, True)]
    for one, other in zip(*losses, strict=True):
        assert one == pytest.approx(other, rel=1e-4)


@pytest.mark.usefixtures("traced_alone")
def test_a_compiled_training_has_its_own_hooks_after_one_without_any(toy, roads, tmp_path):
    """A detector whose forward torch can't trace in one piece is compiled by itself, and so is shared by all of its class."""
    found = {}
    for name, hooked, compiled in (("without", False, True), ("compiled", True, True), ("eager", True, False)):
        model = toy.model(dropout=0.0)
        model.detector.drop.register_forward_hook(lambda *_: torch._dynamo.graph_break())
        if hooked:
            model.detector.stem.register_forward_hook(lambda module, taken, given: 0.5 * given)
        plan = TrainingPlan(toy.recipe(), 2, compiled=compiled, log_every=1)
        train(model, roads.stream(model.detector).batches, plan, device=CPU, folder=tmp_path / name)
        found[name] = [line["losses"]["place"] for line in log_lines(tmp_path / name)]
    assert found["compiled"] == pytest.approx(found["eager"], rel=1e-4)
    assert found["without"] != pytest.approx(found["eager"], rel=1e-2)


def test_a_step_that_does_not_fit_into_memory_says_with_which_micro_batch(toy, roads, tmp_path):
    class Hungry(toy.ToyDetector):
        def forward(self, images):
            if len(images) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee the documentation.")
            return super().forward(images)

    def training(micro_batch_size, folder):
        seed_everything(0)
        model = toy.ToyModel(Hungry(toy.meta(), dropout=0.0))
        plan = TrainingPlan(toy.recipe(), 2, micro_batch_size=micro_batch_size)
        stream = roads.stream(model.detector)
        return train(model, stream.batches, plan, device=CPU, folder=tmp_path / folder)

    for micro_batch_size, size in ((None, 4), (3, 3), (8, 4)):
        with pytest.raises(OutOfMemory) as raised:
            training(micro_batch_size, f"whole{size}")
        assert raised.value.size == size
        assert str(raised.value) == (
            f"out of memory at step 1 in micro-batches of {size}: CUDA out of memory. Tried to allocate 2.00 GiB."
        )
    assert training(2, "halved").micro_batch_size == 2
