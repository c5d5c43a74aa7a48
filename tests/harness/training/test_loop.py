from __future__ import annotations

import json
import math
import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from detectors.base import Tap
from detectors.meta import Normalisation
from harness import stopping
from harness.errors import InputError
from harness.faults import OutOfMemory
from harness.methods.attach import attach
from harness.methods.config import method_configuration
from harness.methods.oracle import Oracle
from harness.publishing.site import losses_of
from harness.training.checkpoint import load_training_state
from harness.training.data import micro_batches
from harness.training.determinism import seed_everything
from harness.training.loop import train
from harness.training.plan import TrainingDiverged, TrainingPlan, Validation

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("one_thread")


def same_weights(one, other) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def log_lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]


def no_batches(first: int, last: int):
    raise AssertionError("a complete training asked for batches")
    yield


class OneMap(torch.nn.Conv2d):
    """A backbone of one stage."""

    def __init__(self) -> None:
        super().__init__(3, 6, 4, stride=4)

    def forward(self, images):
        return [super().forward(images)]


class Interrupted(Exception):
    pass


def interrupt_at(step: int):
    def progress(done: int, total: int, loss: float) -> None:
        if done == step:
            raise Interrupted

    return progress


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


@pytest.mark.parametrize("step", [2, 3, 7, 12])
def test_a_resumed_training_equals_an_undisturbed_one(toy, roads, tmp_path, step):
    undisturbed = toy.run(tmp_path / "images", tmp_path / "undisturbed", steps=12)
    with pytest.raises(Interrupted):
        toy.run(tmp_path / "images", tmp_path / "resumed", steps=12, progress=interrupt_at(step))
    torch.rand(3)  # whatever happens between the parts has no influence
    resumed = toy.run(tmp_path / "images", tmp_path / "resumed", steps=12)
    assert same_weights(undisturbed, resumed)
    ends = [load_training_state(tmp_path / name / "training.safetensors") for name in ("undisturbed", "resumed")]
    assert torch.equal(*(end["random"][0]["torch"] for end in ends))
    assert ends[1]["course"]["resumed"] == (1 if step > 3 else 0)
    for end in ends:
        assert len(end["course"]["seconds"]) == 12


def test_a_killed_training_leaves_a_whole_checkpoint_and_resumes_bit_for_bit(toy, roads, tmp_path):
    steps = 80
    undisturbed = toy.run(tmp_path / "images", tmp_path / "undisturbed", steps=steps)
    folder = tmp_path / "killed"
    command = [sys.executable, toy.__file__, str(tmp_path / "images"), str(folder), str(steps)]
    environment = os.environ | {"PYTHONPATH": str(Path(toy.__file__).parents[3])}
    process = subprocess.Popen(command, env=environment)
    try:
        deadline = time.monotonic() + 60
        log = folder / "training.jsonl"
        while len(log.read_text().splitlines() if log.exists() else []) < 10:
            assert process.poll() is None, "the training ended before it could be killed"
            assert time.monotonic() < deadline, "the training didn't start"
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    step = load_training_state(folder / "training.safetensors")["course"]["step"]
    assert 3 <= step < steps
    resumed = toy.run(tmp_path / "images", folder, steps=steps)
    assert same_weights(undisturbed, resumed)
    logged = [line for line in log_lines(folder) if "loss" in line]
    assert [line["step"] for line in logged] == list(range(1, steps + 1))
    clean = [line for line in log_lines(tmp_path / "undisturbed") if "loss" in line]
    assert [line["losses"] for line in logged] == [line["losses"] for line in clean]


def test_a_complete_training_is_not_trained_again(toy, roads, tmp_path):
    trained = toy.run(tmp_path / "images", tmp_path / "run", steps=5)
    plan = TrainingPlan(toy.recipe(), 5)
    again = toy.model(seed=9)
    summary = train(again, no_batches, plan, device=CPU, folder=tmp_path / "run")
    assert same_weights(trained, again)
    assert (summary.steps, summary.images, summary.resumed) == (5, 20, 0)


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


def test_a_gradient_that_overflows_at_any_scale_is_a_divergence(toy, roads, tmp_path):
    model = overflowing(toy, 0.0)
    plan = TrainingPlan(toy.recipe(), 40, precision="fp16")
    with pytest.raises(TrainingDiverged, match="step 32: the gradient wasn't finite in 32 steps in a row"):
        train(model, roads.stream(model.detector).batches, plan, device=CPU, folder=tmp_path)


def test_a_divergence_names_a_few_images_and_survives_pickling():
    error = TrainingDiverged(3, "why", {"a": math.nan}, tuple(f"{number}.jpg" for number in range(40)))
    assert str(error).endswith("14.jpg, 15.jpg and 24 more (in the training's log)")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_loss_above_the_limit_stops(toy, roads, tmp_path):
    model = toy.model()
    plan = TrainingPlan(toy.recipe(), 3, loss_limit=100.0)
    with pytest.raises(TrainingDiverged, match=r"step 1: the loss 90\d\.\d+ is above 100"):
        train(model, roads.stream(model.detector).batches, plan, device=CPU, folder=tmp_path)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_accumulated_gradients_equal_those_of_the_whole_batch(toy, roads, tmp_path, size):
    weights = []
    for name, micro in (("whole", None), ("parts", size)):
        model = toy.model(dropout=0.0)
        plan = TrainingPlan(toy.recipe(), 5, micro_batch_size=micro)
        train(model, roads.stream(model.detector).batches, plan, device=CPU, folder=tmp_path / name)
        weights.append(model.state_dict())
    for name, value in weights[0].items():
        assert torch.allclose(value, weights[1][name], rtol=1e-4, atol=1e-6), name


def test_micro_batches_are_the_batch_in_order(toy, roads):
    batch = next(roads.stream(toy.model().detector).batches(0, 1))
    parts = list(micro_batches(batch, 3))
    assert [len(part.ids) for part in parts] == [3, 1]
    assert torch.equal(torch.cat([part.images for part in parts]), batch.images)
    assert torch.equal(torch.cat([part.targets["place"] for part in parts]), batch.targets["place"])
    assert parts[0].ids + parts[1].ids == batch.ids
    assert parts[0].geometries + parts[1].geometries == batch.geometries


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


def test_a_checkpoint_of_another_training_is_refused(toy, roads, tmp_path):
    toy.run(tmp_path / "images", tmp_path / "run", steps=4)
    for plan, key in (
        (TrainingPlan(toy.recipe(learning_rate=0.1), 4), "recipe"),
        (TrainingPlan(toy.recipe(), 5), "total_steps"),
        (TrainingPlan(toy.recipe(), 4, precision="bf16"), "precision"),
        (TrainingPlan(toy.recipe(), 4, micro_batch_size=2), "micro_batch_size"),
    ):
        with pytest.raises(InputError, match=rf"training\.safetensors: .*'{key}'"):
            train(toy.model(), no_batches, plan, device=CPU, folder=tmp_path / "run")


def test_a_checkpoint_of_another_model_is_refused(toy, roads, tmp_path):
    toy.run(tmp_path / "images", tmp_path / "run", steps=4)
    other = toy.ToyModel(toy.ToyDetector(toy.meta((16, 32))))
    with pytest.raises(InputError, match=r"training\.safetensors: a checkpoint of another model"):
        train(other, no_batches, TrainingPlan(toy.recipe(), 4), device=CPU, folder=tmp_path / "run")


def test_a_broken_checkpoint_is_named(toy, roads, tmp_path):
    toy.run(tmp_path / "images", tmp_path / "run", steps=4)
    path = tmp_path / "run" / "training.safetensors"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match=r"training\.safetensors: not a readable training checkpoint"):
        train(toy.model(), no_batches, TrainingPlan(toy.recipe(), 4), device=CPU, folder=tmp_path / "run")


def test_a_time_limit_alone_writes_checkpoints(toy, roads, tmp_path):
    model = toy.model()
    plan = replace(TrainingPlan(toy.recipe(), 9), checkpoint_seconds=0.0)
    with pytest.raises(Interrupted):
        train(
            model,
            roads.stream(model.detector).batches,
            plan,
            device=CPU,
            folder=tmp_path,
            progress=interrupt_at(5),
        )
    assert load_training_state(tmp_path / "training.safetensors")["course"]["step"] == 4


@pytest.mark.parametrize("mode", ["fixed", "ratio"])
def test_a_regularized_training_resumes_alike_without_its_oracle_in_the_checkpoint(toy, roads, tmp_path, mode):
    steps = 20
    configuration = method_configuration("samiro", {"oracle": "any", "normalize": "none", "lambda_mode": mode})
    plan = TrainingPlan(toy.recipe(), steps, checkpoint_steps=2, log_every=1)

    def fresh():
        detector = toy.model().detector
        torch.manual_seed(1)
        oracle = Oracle(torch.nn.Sequential(OneMap()), (Tap("0", 6, 4),), Normalisation())
        generator = torch.Generator().manual_seed(2)
        model = attach(detector, configuration, oracle=oracle, statistics=None, generator=generator, total_steps=steps)
        seed_everything(5)
        return model, roads.stream(detector)

    models = []
    for name, stop in (("undisturbed", None), ("resumed", 7), ("resumed", None)):
        model, stream = fresh()
        folder = tmp_path / name
        if stop:
            with pytest.raises(Interrupted):
                train(model, stream.batches, plan, device=CPU, folder=folder, progress=interrupt_at(stop))
        else:
            summary = train(model, stream.batches, plan, device=CPU, folder=folder)
            models.append(model)
    assert same_weights(*models)
    state = load_training_state(tmp_path / "resumed" / "training.safetensors")
    assert not [name for name in state["model"] if "oracle" in name]
    assert summary.final_diagnostics["gradient_ratio/stem"] > 0
    ratios = [line["step"] for line in log_lines(tmp_path / "resumed") if "gradient_ratio/stem" in str(line)]
    assert ratios == [1, 2, 10, 20]
    clean, resumed = (
        [(line["losses"], line.get("diagnostics")) for line in log_lines(tmp_path / name) if "loss" in line]
        for name in ("undisturbed", "resumed")
    )
    assert clean == resumed


def test_a_weight_that_measures_gradients_is_not_compiled(toy, roads, tmp_path):
    plan = TrainingPlan(toy.recipe(), 8, compiled=True)
    model = toy.samiro("ratio", 8)
    with pytest.raises(InputError, match=r"'training\.compile': lambda_mode 'ratio' measures gradients"):
        train(model, roads.stream(model.detector).batches, plan, device=CPU, folder=tmp_path)


@pytest.mark.slow
def test_a_compiled_training_with_a_regularizer_follows_the_eager_one(toy, roads, tmp_path):
    """Hooks and names are as without: the checkpoint of one loads into the other's model."""
    configuration = method_configuration("samiro", {"oracle": "any", "normalize": "none"})
    found = {}
    for compiled in (False, True):
        detector = toy.model(dropout=0.0).detector
        oracle = Oracle(torch.nn.Sequential(OneMap()), (Tap("0", 6, 4),), Normalisation())
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

    for micro_batch_size, size in ((None, 4), (3, 3)):
        with pytest.raises(OutOfMemory) as raised:
            training(micro_batch_size, f"whole{size}")
        assert raised.value.size == size
        assert str(raised.value) == (
            f"out of memory at step 1 in micro-batches of {size}: CUDA out of memory. Tried to allocate 2.00 GiB."
        )
    assert training(2, "halved").micro_batch_size == 2


def test_a_training_that_is_asked_to_stop_writes_a_checkpoint_first_and_goes_on_bit_for_bit(
    toy, roads, tmp_path, monkeypatch
):
    monkeypatch.setattr(stopping, "_REQUEST", stopping._Request())
    whole = toy.run(tmp_path / "images", tmp_path / "whole", steps=8)

    def stop(step, total, loss):
        if step == 5:  # the last checkpoint was at step 3
            stopping.ask_to_stop()

    with pytest.raises(KeyboardInterrupt):
        toy.run(tmp_path / "images", tmp_path / "parts", steps=8, progress=stop)
    assert load_training_state(tmp_path / "parts/training.safetensors")["course"]["step"] == 5
    monkeypatch.setattr(stopping, "_REQUEST", stopping._Request())
    assert same_weights(whole, toy.run(tmp_path / "images", tmp_path / "parts", steps=8))


@pytest.mark.parametrize("stopped_at", [4, 8])
def test_a_validation_that_a_stop_left_out_is_made_up_for(toy, roads, tmp_path, monkeypatch, stopped_at):
    def training(folder, stop=None):
        monkeypatch.setattr(stopping, "_REQUEST", stopping._Request())
        scored = []

        def score(model):
            scored.append(float(model.detector.head.weight.detach().sum()))
            return -scored[-1]

        model = toy.model()
        stream = roads.stream(model.detector)
        plan = TrainingPlan(toy.recipe(), 8)

        def progress(step, total, loss):
            if step == stop:
                stopping.ask_to_stop()

        try:
            train(
                model,
                stream.batches,
                plan,
                device=CPU,
                folder=folder,
                validation=Validation(2, score),
                progress=progress,
            )
        except KeyboardInterrupt:
            return model, scored
        return model, scored

    whole, wanted = training(tmp_path / "whole")
    _, before = training(tmp_path / "parts", stop=stopped_at)
    resumed, after = training(tmp_path / "parts")
    assert (len(wanted), len(before)) == (4, stopped_at // 2 - 1)
    assert before + after == wanted
    assert same_weights(whole, resumed)
    lines = [line for line in log_lines(tmp_path / "parts") if "validation" in line]
    assert [line["step"] for line in lines] == [2, 4, 6, 8]


def test_the_losses_of_a_resumed_and_validated_training_can_be_published(toy, roads, tmp_path):
    """Its log has lines that tell of no step."""

    def run(progress):
        model = toy.model()
        batches = roads.stream(model.detector).batches
        train(
            model,
            batches,
            TrainingPlan(toy.recipe(), 8, checkpoint_steps=1),
            device=CPU,
            folder=tmp_path / "run",
            validation=Validation(2, lambda model: 0.5),
            progress=progress,
        )

    with pytest.raises(Interrupted):
        run(interrupt_at(5))
    run(None)
    lines = log_lines(tmp_path / "run")
    assert {"resumed", "validation"} <= {key for line in lines for key in line}
    losses = losses_of(tmp_path / "run" / "training.jsonl")
    assert losses == tuple((line["step"], line["loss"]) for line in lines if "loss" in line)
    assert losses[-1][0] == 8
