"""What a method promises is held to while it trains, and what it may do by its promises works."""

from __future__ import annotations

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn

from harness.errors import InputError
from harness.methods.base import apart
from harness.training.checkpoint import load_training_state
from harness.training.loop import train
from harness.training.plan import TrainingPlan
from tests.harness.training.toy import ToyDetector, ToyModel, meta, recipe, seed_everything
from tests.harness.training.trainings import CPU, Interrupted, interrupt_at, log_lines, same_weights

pytestmark = pytest.mark.usefixtures("one_thread")


class Method(ToyModel):
    """The toy method with one more term, made by `add(model, features)`."""

    def __init__(self, add, **parts) -> None:
        seed_everything(0)
        super().__init__(ToyDetector(meta(), dropout=0.1))
        self.add = add
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, batch):
        terms = super().forward(batch)
        return {**terms, "mine": self.add(self, batch)}


def run(model, roads, folder, *, steps=4, generator=None, progress=None, **options):
    options = {"checkpoint_steps": 1, "log_every": 1, "diagnostics_every": 1, **options}
    plan = TrainingPlan(recipe(), steps, **options)
    stream = roads.stream(model.detector)
    seed_everything(1)
    train(
        model, stream.batches, plan, device=CPU, folder=folder, generator=generator, progress=progress
    )  # fmt: skip
    return model


def pull(model, batch):
    """A term that trains."""
    return 0.01 * model.extra**2


class Consistency(Method):
    """The example of docs/add-a-method.md, on the toy."""

    def __init__(self, generator) -> None:
        super().__init__(self.two_views, generator=generator)

    @staticmethod
    def two_views(model, batch):
        noise = torch.randn(batch.images.shape, generator=model.generator)
        view = (batch.images + 8 * noise).clamp(0, 255).to(torch.uint8)
        with apart(model.generator):
            outputs = model.detector(view)
        return 0.1 * outputs.square().mean()


def test_what_a_method_draws_goes_on_where_a_killed_training_stopped(roads, tmp_path):
    def part(folder, progress=None):
        generator = torch.Generator().manual_seed(5)
        torch.randn(3, generator=generator)  # as initial weights are drawn, at each start anew
        return run(Consistency(generator), roads, tmp_path / folder, steps=6, generator=generator, progress=progress)

    whole = part("whole")
    with pytest.raises(Interrupted):
        part("parts", interrupt_at(4))
    assert same_weights(whole, part("parts"))


def test_a_pass_apart_leaves_the_detectors_draws_as_the_baseline_has_them(roads, tmp_path):
    generator = torch.Generator().manual_seed(5)
    run(Consistency(generator), roads, tmp_path / "two views", steps=1, generator=generator)
    run(Method(pull), roads, tmp_path / "plain", steps=1)
    (with_pass, *_), (without, *_) = (log_lines(tmp_path / name) for name in ("two views", "plain"))
    assert {name: with_pass["losses"][name] for name in ("place", "presence")} == {
        name: without["losses"][name] for name in ("place", "presence")
    }


def test_a_checkpoint_without_the_methods_generator_is_told_apart(roads, tmp_path):
    run(Method(pull), roads, tmp_path, steps=2)
    with pytest.raises(InputError, match="a checkpoint of earlier code, without what the method's generator drew"):
        run(Method(pull), roads, tmp_path, steps=2, generator=torch.Generator())


class Guided(Method):
    """Follows an EMA teacher, which moves once a step."""

    def __init__(self) -> None:
        super().__init__(pull)
        self.teacher = copy.deepcopy(self.detector).requires_grad_(False)
        self.register_buffer("moves", torch.zeros((), dtype=torch.int64))

    def after_step(self):
        assert not torch.is_grad_enabled()
        self.moves += 1
        for old, new in zip(self.teacher.parameters(), self.detector.parameters(), strict=True):
            old.lerp_(new, 0.5)


def test_what_follows_the_weights_moves_once_a_step_however_many_micro_batches_it_has(roads, tmp_path):
    for size in (4, 1):
        guided = run(Guided(), roads, tmp_path / str(size), steps=3, micro_batch_size=size)
        assert int(guided.moves) == 3
    started = Guided()
    before = started.teacher.head.weight.clone()
    run(started, roads, tmp_path / "one", steps=1)
    # After the step: it takes up the weights that this one made.
    assert torch.equal(started.teacher.head.weight, before.lerp(started.detector.head.weight, 0.5))


@pytest.mark.parametrize(
    ("add", "message"),
    [
        (lambda model, batch: model.extra * torch.ones(4), r"Method.forward: loss term 'mine' has the shape \(4,\)"),
        (lambda model, batch: 0.1, "Method.forward: loss term 'mine' is a float: give a scalar tensor"),
        (lambda model, batch: None, "Method.forward: loss term 'mine' is None: give a scalar tensor"),
        (lambda model, batch: (10 * model.extra).long(), "loss term 'mine' is torch.int64: compute it in floating"),
        (lambda model, batch: model.extra.detach() + 1, r"loss term 'mine' has no gradient, .* or give it in diagnos"),
    ],
)
def test_a_loss_term_that_cannot_be_one_is_named_at_the_first_step(roads, tmp_path, add, message):
    with pytest.raises(InputError, match=message):
        run(Method(add), roads, tmp_path)
    assert not (tmp_path / "training.safetensors").exists()


def test_a_term_in_its_warm_up_may_be_a_plain_zero(roads, tmp_path):
    run(Method(lambda model, batch: torch.zeros(())), roads, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda terms: tuple(terms.values()), "Method.forward gives a tuple: give a dict of loss terms by name"),
        (lambda terms: {"mine": terms["mine"]}, "don't begin with the detector's own, .*'place', 'presence'"),
        (lambda terms: {f"x_{name}": term for name, term in terms.items()}, "don't begin with the detector's own"),
        (lambda terms: dict(reversed(terms.items())), "don't begin with the detector's own"),
        (lambda terms: {**terms, 3: terms["mine"]}, "loss term 3: its name is an int"),
    ],
)
def test_the_detectors_own_terms_come_first_under_their_own_names(roads, tmp_path, monkeypatch, change, message):
    forward = Method.forward
    monkeypatch.setattr(Method, "forward", lambda self, batch: change(forward(self, batch)))
    with pytest.raises(InputError, match=message):
        run(Method(pull), roads, tmp_path)


def test_every_step_gives_the_terms_of_the_first(roads, tmp_path, monkeypatch):
    forward, names = Method.forward, iter("abcd")
    monkeypatch.setattr(Method, "forward", lambda self, batch: {**forward(self, batch), next(names): self.extra * 0})
    with pytest.raises(
        InputError, match=r"Method\.forward: loss term 'a' was there in the first step, and isn't by now"
    ):
        run(Method(pull), roads, tmp_path)


def test_a_detectors_own_terms_may_hang_on_what_a_batch_shows(roads, tmp_path, monkeypatch):
    """As one that has nothing to say of a batch without lanes."""
    forwards, forward = iter(range(99)), Method.forward

    def some(self, batch):
        terms = forward(self, batch)
        return {name: term for name, term in terms.items() if name != "presence" or next(forwards) == 0}

    monkeypatch.setattr(Method, "forward", some)
    run(Method(pull), roads, tmp_path)


@pytest.mark.parametrize("step", [1, 2])
def test_a_detector_that_is_left_in_eval_mode_is_noticed(roads, tmp_path, step):
    forwards = iter(range(1, 9))

    def add(model, batch):
        if next(forwards) == step:
            model.detector.eval()
        return pull(model, batch)

    with pytest.raises(InputError, match=r"Method.forward: leaves the detector in another mode .* train mode after"):
        run(Method(add), roads, tmp_path)


@pytest.mark.parametrize(
    ("draw", "whose"),
    [
        (lambda model, batch: torch.rand(1), "torch"),
        (lambda model, batch: np.random.rand(), "numpy"),
        (lambda model, batch: random.random(), "python"),
        (lambda model, batch: model.detector(batch.images), "torch"),
    ],
    ids=["torch", "numpy", "python", "a second pass"],
)
def test_a_method_that_draws_from_a_global_generator_is_refused(roads, tmp_path, draw, whose):
    def add(model, batch):
        draw(model, batch)
        return pull(model, batch)

    with pytest.raises(InputError, match=rf"Method.forward: draws from the global generator of {whose} .*apart"):
        run(Method(add), roads, tmp_path)


def test_what_diagnostics_draw_is_put_back(roads, tmp_path, monkeypatch):
    plain = run(Method(pull), roads, tmp_path / "plain")
    monkeypatch.setattr(Method, "diagnostics", lambda self: {"drawn": float(torch.rand(()))})
    assert same_weights(plain, run(Method(pull), roads, tmp_path / "drawn"))


@pytest.mark.parametrize("value", [torch.zeros(3), torch.zeros(()), "high", None, np.float32(1)])
def test_diagnostics_are_plain_numbers(roads, tmp_path, monkeypatch, value):
    monkeypatch.setattr(Method, "diagnostics", lambda self: {"shown": value})
    with pytest.raises(InputError, match=r"Method\.diagnostics: 'shown' is .*, not a plain number"):
        run(Method(pull), roads, tmp_path)


def made_late(model, batch):
    if not hasattr(model, "bank"):
        model.register_buffer("bank", torch.zeros(4))
    return pull(model, batch)


def made_later(model, batch):
    model.calls = getattr(model, "calls", 0) + 1
    return made_late(model, batch) if model.calls == 3 else pull(model, batch)


def counted(model, batch):
    model.count += 1
    return pull(model, batch)


def follow(model, batch):
    (teacher,) = model.teachers
    with torch.no_grad():
        teacher.head.bias.add_(1)
    return pull(model, batch)


def test_state_that_a_killed_training_would_lose_is_refused_after_the_first_step(roads, tmp_path):
    for place, add in enumerate((made_late, made_later)):
        with pytest.raises(InputError, match=r"Method: bank came or went in training, .* in __init__"):
            run(Method(add), roads, tmp_path / str(place))
    forgetful = Method(counted)
    forgetful.register_buffer("count", torch.zeros(()), persistent=False)
    with pytest.raises(InputError, match="Method: count changes in training, but no checkpoint holds it"):
        run(forgetful, roads, tmp_path / "forgetful")
    with pytest.raises(
        InputError, match=r"Method: head\.bias of teachers changes in training, but no checkpoint holds"
    ):
        run(Method(follow, teachers=[ToyDetector(meta())]), roads, tmp_path / "hidden")
    # What stays as it is may lie anywhere, and so may the detector itself.
    constant = Method(pull, others=(nn.Linear(2, 2),))
    constant.seen = [constant.detector]
    constant.register_buffer("grid", torch.ones(3), persistent=False)
    run(constant, roads, tmp_path / "constant")


def test_a_watched_training_is_the_training_that_it_would_be(roads, tmp_path, monkeypatch):
    """The look at the detector alone leaves neither draws nor buffers behind."""

    class Normed(ToyDetector):
        def __init__(self, meta, **options) -> None:
            super().__init__(meta, **options)
            self.stem.append(nn.BatchNorm2d(16))

    def trained(folder):
        seed_everything(0)
        return run(ToyModel(Normed(meta())), roads, folder)

    watched = trained(tmp_path / "watched")
    terms = "harness.methods.promises.Watch.terms"
    monkeypatch.setattr(terms, lambda self, network, batch: network(batch))
    assert same_weights(watched, trained(tmp_path / "alone"))
    ends = [load_training_state(tmp_path / name / "training.safetensors") for name in ("watched", "alone")]
    assert torch.equal(*(end["random"][0]["torch"] for end in ends))
    assert int(watched.detector.stem[2].num_batches_tracked) == 4
