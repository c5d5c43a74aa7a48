"""A training that was stopped goes on as if it had not been, and only its own."""

from __future__ import annotations

import errno
import os
import shutil
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
from harness.errors import InputError
from harness.methods.attach import attach
from harness.methods.config import method_configuration
from harness.methods.oracle import Oracle
from harness.processes import stopping
from harness.publishing.logs import losses_of
from harness.training import checkpoint, loop
from harness.training.checkpoint import load_training_state, save_training_state
from harness.training.determinism import seed_everything
from harness.training.loop import train
from harness.training.plan import TrainingPlan, Validation
from tests.harness.training.trainings import CPU, Interrupted, interrupt_at, log_lines, same_weights

pytestmark = pytest.mark.usefixtures("one_thread")


def no_batches(first: int, last: int):
    raise AssertionError("a complete training asked for batches")
    yield


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
        deadline = time.monotonic() + 300
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


def test_the_log_is_durable_up_to_the_step_of_a_checkpoint(toy, roads, tmp_path, monkeypatch):
    """Else a loss of power leaves a checkpoint whose steps the log doesn't tell of."""
    synced, at_checkpoints = {}, []
    fsync, save = os.fsync, loop.save_training_state

    def noted_fsync(descriptor: int) -> None:
        fsync(descriptor)
        there = os.fstat(descriptor)
        synced[there.st_ino] = there.st_size

    def noted_save(path: Path, state: dict) -> None:
        log = (tmp_path / "training.jsonl").stat()
        at_checkpoints.append(synced.get(log.st_ino) == log.st_size)
        save(path, state)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(loop, "save_training_state", noted_save)
    model = toy.model()
    plan = TrainingPlan(toy.recipe(), 4, checkpoint_steps=2, log_every=1)
    train(model, roads.stream(model.detector).batches, plan, device=CPU, folder=tmp_path)
    assert at_checkpoints == [True, True]


def test_a_complete_training_is_not_trained_again(toy, roads, tmp_path):
    trained = toy.run(tmp_path / "images", tmp_path / "run", steps=5)
    plan = TrainingPlan(toy.recipe(), 5)
    again = toy.model(seed=9)
    summary = train(again, no_batches, plan, device=CPU, folder=tmp_path / "run")
    assert same_weights(trained, again)
    assert (summary.steps, summary.images, summary.resumed) == (5, 20, 0)


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


def test_a_checkpoint_is_continued_by_plans_that_give_the_same_weights_alone(toy):
    plan = TrainingPlan(toy.recipe(), 4)
    for change in (
        {"total_steps": 5},
        {"precision": "fp16"},
        {"micro_batch_size": 2},
        {"channels_last": True},
        {"compiled": True},
        {"recipe": toy.recipe(ema_decay=0.9)},
    ):
        assert replace(plan, **change).arithmetic() != plan.arithmetic(), change
    # What is written, and when, changes none; a micro-batch of four is the whole batch.
    for change in ({"micro_batch_size": 4}, {"checkpoint_steps": 1}, {"log_every": 1}, {"tensorboard": True}):
        assert replace(plan, **change).arithmetic() == plan.arithmetic(), change


def test_a_checkpoint_of_another_model_is_refused(toy, roads, tmp_path):
    toy.run(tmp_path / "images", tmp_path / "run", steps=4)
    other = toy.ToyModel(toy.ToyDetector(toy.meta((16, 32))))
    with pytest.raises(InputError, match=r"training\.safetensors: a checkpoint of another model"):
        train(other, no_batches, TrainingPlan(toy.recipe(), 4), device=CPU, folder=tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("arithmetic"), "a checkpoint of another training, its 'recipe' differs"),
        (
            lambda state: state["arithmetic"].update(processes=2),
            "a checkpoint of another training, its 'processes' differs",
        ),
        (lambda state: state["course"].update(laps=3), "a checkpoint of another model .*'laps'"),
        (lambda state: state.pop("average"), "a checkpoint of another model .*'average'"),
        (lambda state: state["optimizers"]["recipe"]["param_groups"].pop(), "a checkpoint of another model"),
    ],
)
def test_a_checkpoint_of_other_code_is_refused_in_a_line_that_says_what_helps(toy, roads, tmp_path, change, message):
    plan = TrainingPlan(toy.recipe(ema_decay=0.9), 1)
    model = toy.model()
    train(model, roads.stream(model.detector).batches, plan, device=CPU, folder=tmp_path)
    path = tmp_path / "training.safetensors"
    state = load_training_state(path)
    change(state)
    save_training_state(path, state)
    advice = "train in another folder, or delete it to train again"
    with pytest.raises(InputError, match=rf"training\.safetensors: {message}[^\n]*; {advice}$"):
        train(toy.model(), no_batches, plan, device=CPU, folder=tmp_path)


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
        oracle = Oracle(toy.OneMap(), (Tap("stem", 6, 4),), Normalisation())
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


def test_a_validation_begins_with_a_checkpoint_of_its_step_and_is_none_again_once_it_is_done(toy, roads, tmp_path):
    begun = []

    def score(model):
        begun.append(load_training_state(tmp_path / "training.safetensors")["course"]["step"])
        return 1.0 / begun[-1]

    def training(batches, score):
        model = toy.model()
        batches = batches or roads.stream(model.detector).batches
        plan = TrainingPlan(toy.recipe(), 5)
        summary = train(model, batches, plan, device=CPU, folder=tmp_path, validation=Validation(2, score))
        return model, summary

    def never(model):
        raise AssertionError("a validation that was done was done again")

    trained, told = training(None, score)
    again, told_again = training(no_batches, never)
    assert begun == [2, 4, 5]
    assert same_weights(trained, again)
    assert told_again == told
    assert (told.best_step, told.resumed) == (2, 0)


@pytest.mark.parametrize("step", [2, 4])
def test_a_kill_between_a_validation_and_its_checkpoint_leaves_one_line_of_it(toy, roads, tmp_path, monkeypatch, step):
    def training(folder):
        model = toy.model()
        batches, validation = roads.stream(model.detector).batches, Validation(2, lambda model: 0.5)
        train(model, batches, TrainingPlan(toy.recipe(), 4), device=CPU, folder=folder, validation=validation)

    def killed(training):
        if training.course.validated == step:
            raise Interrupted
        kept(training)

    training(tmp_path / "whole")
    kept = loop._Training.save
    monkeypatch.setattr(loop._Training, "save", killed)
    with pytest.raises(Interrupted):
        training(tmp_path / "parts")
    assert log_lines(tmp_path / "parts")[-1] == {"step": step, "validation": 0.5}
    monkeypatch.setattr(loop._Training, "save", kept)
    training(tmp_path / "parts")
    wanted, found = (
        [line for line in log_lines(tmp_path / name) if "validation" in line] for name in ("whole", "parts")
    )
    assert found == wanted
    assert [line["step"] for line in found] == [2, 4]


@pytest.mark.parametrize(
    "damage", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:100]), lambda path: path.write_bytes(b"")]
)
def test_best_weights_that_were_lost_are_named_and_trained_again_by_what_the_refusal_says(toy, roads, tmp_path, damage):
    folder = tmp_path / "run"

    def training():
        model = toy.model()
        batches, validation = roads.stream(model.detector).batches, Validation(2, lambda model: 0.5)
        train(model, batches, TrainingPlan(toy.recipe(), 4), device=CPU, folder=folder, validation=validation)
        return model

    folder.mkdir()
    trained = training()
    damage(folder / "best.safetensors")
    with pytest.raises(InputError) as refused:
        training()
    told = str(refused.value)
    assert told.startswith(f"{folder / 'best.safetensors'}: not a readable training checkpoint (")
    assert told.endswith(f"; these weights are in no other file: delete the folder {folder} to train again")
    shutil.rmtree(folder)
    folder.mkdir()
    assert same_weights(training(), trained)


def test_best_weights_that_the_system_withholds_are_not_to_be_deleted(toy, roads, tmp_path, monkeypatch):
    def training():
        model = toy.model()
        batches, validation = roads.stream(model.detector).batches, Validation(2, lambda model: 0.5)
        train(model, batches, TrainingPlan(toy.recipe(), 4), device=CPU, folder=tmp_path, validation=validation)

    def withheld(path):
        if path.name == "best.safetensors":
            raise OSError(errno.EMFILE, "Too many open files", str(path))
        return opened(path)

    training()
    opened = checkpoint.opened_tensors
    monkeypatch.setattr(checkpoint, "opened_tensors", withheld)
    with pytest.raises(InputError, match=r"best\.safetensors: .*Too many open files.*; it may be whole") as refused:
        training()
    assert "delete" not in str(refused.value)


def test_a_request_to_stop_in_the_midst_of_a_validation_does_not_wait_for_its_end(toy, roads, tmp_path, monkeypatch):
    monkeypatch.setattr(stopping, "_REQUEST", stopping._Request())
    ended = []

    def score(model):
        stopping.ask_to_stop()
        ended.append(True)
        return 1.0

    model = toy.model()
    batches, plan = roads.stream(model.detector).batches, TrainingPlan(toy.recipe(), 4)
    with pytest.raises(KeyboardInterrupt):
        train(model, batches, plan, device=CPU, folder=tmp_path, validation=Validation(2, score))
    assert not ended
    assert load_training_state(tmp_path / "training.safetensors")["course"]["step"] == 2


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
