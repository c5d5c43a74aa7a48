"""How the regularizer's weight is measured and steered, and that measuring changes nothing."""

from __future__ import annotations

import random
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from harness.methods.attention import attention_modules
from harness.methods.samiro import GradientRatios, gradient_ratios
from harness.methods.weighting import WARM_UP_FORWARDS, RatioWeight, gradient_norms, mean_of_all, measuring
from tests.harness.methods.test_attach import Attached, build, total


def test_gradient_ratios_change_nothing_and_grow_with_lambda(toy: ModuleType, attached: Attached) -> None:
    small = build(attached, {"kind": "samiro", "oracle": "o"})
    large = build(attached, {"kind": "samiro", "oracle": "o", "lambda": 1.0})
    for model in (small, large):
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for pair in model.regularizer.pairs:
                pair.projection.weight.normal_(0, 0.1, generator=generator)
    before = {name: value.clone() for name, value in small.state_dict().items()}
    state = torch.get_rng_state()
    found, tenfold = gradient_ratios(small, toy.batch()), gradient_ratios(large, toy.batch())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in small.state_dict().items())
    assert all(parameter.grad is None for parameter in small.parameters())
    assert list(found.taps) == ["stages.0", "stages.1", "stages.2"]
    assert list(found.weights) == ["detector", "attention"]
    for ratios, larger in ((found.taps, tenfold.taps), (found.weights, tenfold.weights)):
        assert all(value > 0 for value in ratios.values())
        assert {name: 10 * value for name, value in ratios.items()} == pytest.approx(larger)
    with torch.no_grad():
        assert gradient_ratios(small, toy.batch()) == found
    assert gradient_ratios(attached("baseline"), toy.batch()) == GradientRatios({}, {})


def test_gradient_ratios_leave_what_a_detector_draws_from_numpy_and_python(toy: ModuleType, attached: Attached) -> None:
    model = build(attached, {"kind": "samiro", "oracle": "o"})
    losses = model.detector.losses

    def drawing(*arguments: Any) -> dict[str, torch.Tensor]:
        return {name: term * (1 + np.random.rand() + random.random()) for name, term in losses(*arguments).items()}

    model.detector.losses = drawing
    numpy_state, python_state = np.random.get_state(legacy=False)["state"], random.getstate()
    gradient_ratios(model, toy.batch())
    after = np.random.get_state(legacy=False)["state"]
    assert after["pos"] == numpy_state["pos"]
    assert np.array_equal(after["key"], numpy_state["key"])
    assert random.getstate() == python_state


def test_gradient_ratios_are_those_of_separate_backward_passes(toy: ModuleType, attached: Attached) -> None:
    model = build(attached, {"kind": "samiro", "oracle": "o", "lambda": 0.5})
    with torch.no_grad():
        for pair in model.regularizer.pairs:
            pair.projection.weight.normal_(0, 0.1, generator=torch.Generator().manual_seed(1))
    # dL/dbias of a stage's last layer before the ReLU is no tap gradient; the last stage's output is read off by hand instead.
    kept: list[torch.Tensor] = []
    handle = model.detector.stages[2].register_forward_hook(lambda m, i, o: kept.append(o), prepend=True)
    losses = model(toy.batch())
    handle.remove()
    information = losses.pop("mutual_information")
    (upper,) = torch.autograd.grad(information, kept[0], retain_graph=True)
    (lower,) = torch.autograd.grad(total(losses), kept[0])
    fresh = gradient_ratios(model, toy.batch()).taps["stages.2"]
    assert fresh == pytest.approx(float(upper.norm() / lower.norm()), rel=1e-4)


def test_gradient_ratios_of_weights_are_those_of_the_weights_that_the_regularizer_reaches(
    toy: ModuleType, attached: Attached
) -> None:
    model = build(attached, {"kind": "samiro", "oracle": "o", "lambda": 0.5})
    with torch.no_grad():
        for pair in model.regularizer.pairs:
            pair.projection.weight.normal_(0, 0.1, generator=torch.Generator().manual_seed(1))
    found = gradient_ratios(model, toy.batch())
    losses = model(toy.batch())
    information = losses.pop("mutual_information")
    own = dict(model.detector.named_parameters())
    groups = {
        "attention": [value for name, value in own.items() if name.startswith("spatial_attention")],
        # The head comes after the last tap.
        "detector": [value for name, value in own.items() if name.startswith("stages")],
    }
    assert any(not name.startswith(("spatial_attention", "stages")) for name in own)
    for name, parameters in groups.items():
        upper = torch.autograd.grad(information, parameters, retain_graph=True)
        lower = torch.autograd.grad(total(losses), parameters, retain_graph=True)
        norms = [torch.cat([gradient.flatten() for gradient in gradients]).norm() for gradients in (upper, lower)]
        assert found.weights[name] == pytest.approx(float(norms[0] / norms[1]), rel=1e-4), name


def with_drawn_projections(attached: Attached, **options: Any) -> Any:
    model = build(attached, {"kind": "samiro", "oracle": "o", **options})
    with torch.no_grad():
        for pair in model.regularizer.pairs:
            pair.projection.weight.normal_(0, 0.1, generator=torch.Generator().manual_seed(1))
    return model


def test_attention_in_the_regularizer_alone_has_no_ratio(toy: ModuleType, attached: Attached) -> None:
    model = with_drawn_projections(attached, site="regularizer")
    assert list(gradient_ratios(model, toy.batch()).weights) == ["detector"]


@pytest.mark.parametrize("mi_attention", ["weight", "off"])
def test_gates_out_of_the_terms_are_reached_by_those_of_deeper_stages_alone(
    toy: ModuleType, attached: Attached, mi_attention: str
) -> None:
    model = with_drawn_projections(attached, mi_attention=mi_attention)
    gates = [module.convolution.weight for module in attention_modules(model.detector)]
    information = model(toy.batch())["mutual_information"]
    first, second, last = torch.autograd.grad(information, gates, allow_unused=True)
    assert first is not None
    assert first.norm() > 0
    assert second is not None
    assert second.norm() > 0
    assert last is None


def test_ratio_mode_sets_the_gradient_ratio_to_a_tenth_after_its_warm_up_and_resumes(
    toy: ModuleType, attached: Attached
) -> None:
    options = {"kind": "samiro", "oracle": "o", "lambda_mode": "ratio"}
    model = build(attached, options, total_steps=200)
    with torch.no_grad():
        for pair in model.regularizer.pairs:
            pair.projection.weight.normal_(0, 0.1, generator=torch.Generator().manual_seed(1))
    batch = toy.batch()
    weights = []
    for _ in range(WARM_UP_FORWARDS + 1):
        model(batch)
        weights.append(model.weight.current())
    assert weights[:-1] == pytest.approx([0.1] * WARM_UP_FORWARDS)
    evidence = model.evidence(batch)
    upper = torch.autograd.grad(evidence.mutual_information, evidence.outputs, retain_graph=True)
    lower = torch.autograd.grad(total(evidence.losses), evidence.outputs)
    norms = [torch.cat([gradient.flatten() for gradient in gradients]).norm() for gradients in (upper, lower)]
    assert weights[-1] * float(norms[0] / norms[1]) == pytest.approx(0.1, rel=1e-4)
    twin = build(attached, options, total_steps=200)
    twin.load_state_dict(model.state_dict())
    for _ in range(12):
        model(toy.batch(1)), twin(toy.batch(1))
    assert twin.diagnostics()["lambda"] == model.diagnostics()["lambda"] != weights[-1]


@pytest.mark.slow
def test_ratio_mode_keeps_to_a_tenth_while_the_projection_grows_from_zero(toy: ModuleType, attached: Attached) -> None:
    """What the regularizer's gradient is at a projection of zero says nothing of what it comes to be."""
    model = build(attached, {"kind": "samiro", "oracle": "o", "lambda_mode": "ratio"}, total_steps=220)
    own, recipe = [], []
    for group in model.parameter_groups():
        (own if group.optimizer == "adamw" else recipe).extend(group.parameters)
    optimizers = [torch.optim.AdamW(own, 3e-3, weight_decay=0.0), torch.optim.SGD(recipe, 1e-3)]
    ratios = []
    for step in range(220):
        batch = toy.batch(step % 7)
        if step % 10 == 5:
            ratios.append(max(gradient_ratios(model, batch).taps.values()))
        losses = model(batch)
        for optimizer in optimizers:
            optimizer.zero_grad()
        total(losses).backward()
        for optimizer in optimizers:
            optimizer.step()
    assert model.weight.current() != pytest.approx(0.1)
    # Of single taps and batches; of all taps together it is a tenth.
    assert max(ratios) < 0.4
    assert 0.05 < sum(ratios[10:]) / len(ratios[10:]) < 0.2


@pytest.mark.parametrize(
    ("total_steps", "decay"), [(1, 0.0), (220, 1 - 10 / 11), (400, 0.5), (2000, 0.9), (100_000, 0.9)]
)
def test_the_average_of_ratio_mode_looks_back_over_a_small_part_of_the_training(total_steps: int, decay: float) -> None:
    assert RatioWeight(0.1, total_steps).decay == pytest.approx(decay)
    assert RatioWeight(0.1, total_steps).warm_up == max(50, total_steps // 100)


def test_gradients_of_large_maps_in_half_precision_are_not_rounded_to_zero() -> None:
    maps = torch.randn(2, 64, 80, 200, generator=torch.Generator().manual_seed(0)).half().requires_grad_()
    loss = 0.005 * (maps.float() - 1).square().mean()
    (plain,) = torch.autograd.grad(loss, maps, retain_graph=True)
    wanted = 0.01 / maps.numel() * float((maps.detach().float() - 1).norm())
    (found,) = gradient_norms(loss, [maps])
    assert float(found) == pytest.approx(wanted, rel=1e-2)
    assert float(plain.float().norm()) < 0.5 * wanted, "or this test shows nothing"


def test_a_half_precision_gradient_neither_vanishes_beside_a_full_one_nor_overflows_in_its_norm() -> None:
    half, full = torch.ones(16).half().requires_grad_(), torch.ones(4, requires_grad=True)
    # 16 gradients of 1e-8, which float16 has no number for, and 4 of 3.
    norms = gradient_norms(1e-8 * half.float().sum() + 3 * full.sum(), [half, full])
    assert [float(norm) for norm in norms] == pytest.approx([4e-8, 6.0], rel=1e-2)
    # Of 16 gradients of 10 that are scaled to 40,960 meanwhile: float16 ends at 65,504.
    (norm,) = gradient_norms(10 * half.float().sum(), [half])
    assert float(norm) == pytest.approx(40.0)


def test_a_tap_that_a_loss_does_not_depend_on_has_a_gradient_of_zero() -> None:
    used, unused = torch.ones(4, requires_grad=True), torch.ones(2, requires_grad=True)
    assert [float(norm) for norm in gradient_norms(3 * used.sum(), [used, unused])] == [6.0, 0.0]


def test_a_measurement_that_overflows_leaves_the_weight(toy: ModuleType) -> None:
    weight = RatioWeight(0.1, 100)
    weight.seen.fill_(WARM_UP_FORWARDS)
    features = torch.ones(1, 1, 2, 2, requires_grad=True)
    assert float(weight([features.sum() * float("inf")], features.square().sum(), [features])) == pytest.approx(0.1)
    weight.seen.fill_(WARM_UP_FORWARDS)
    assert float(weight([features.sum()], features.square().sum(), [features])) == pytest.approx(0.05)


def measured(weight: RatioWeight, seen: int, detector: float, regularizer: float) -> float:
    """The weight after a forward, the `seen`-th, whose gradients at the one tap have these norms."""
    weight.seen.fill_(seen)
    features = torch.ones(1, requires_grad=True)
    return float(
        weight(
            [0.25 * detector * features.sum(), 0.75 * detector * features.sum()],
            regularizer * features.sum(),
            [features],
        )
    )


def test_the_weight_is_a_tenth_of_the_ratio_of_moving_averages_that_begin_with_the_first_measurement() -> None:
    weight = RatioWeight(0.1, 2000)
    assert measured(weight, 50, 1.0, 1.0) == pytest.approx(0.1)
    assert measured(weight, 60, 11.0, 1.0) == pytest.approx(0.1 * (0.9 * 1 + 0.1 * 11))
    assert measured(weight, 70, 0.0, 21.0) == pytest.approx(0.1 * (0.9 * 2) / (0.9 * 1 + 0.1 * 21))


def test_a_steered_weight_begins_as_given_and_stays_within_its_bounds(attached: Attached) -> None:
    model = build(attached, {"kind": "samiro", "oracle": "o", "lambda": 0.3, "lambda_mode": "ratio"}, total_steps=200)
    assert model.weight.current() == pytest.approx(0.3)
    assert measured(RatioWeight(0.1, 200), 50, 1e4, 1.0) == pytest.approx(10.0)
    assert measured(RatioWeight(0.1, 200), 50, 1.0, 1e4) == pytest.approx(1e-3)
    # Of two gradients that are zero there is no ratio.
    assert measured(RatioWeight(0.1, 200), 50, 0.0, 0.0) == pytest.approx(1e-3)


def test_processes_that_share_a_batch_take_the_mean_of_what_they_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    assert mean_of_all(torch.tensor([1.0, 2.0])).tolist() == [1.0, 2.0]
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    # The other process measured 3 and 8.
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda values: values.add_(torch.tensor([3.0, 8.0])))
    assert mean_of_all(torch.tensor([1.0, 2.0])).tolist() == [2.0, 5.0]


def test_in_evaluation_a_weight_neither_counts_nor_measures() -> None:
    weight = RatioWeight(0.1, 200).eval()
    assert measured(weight, 50, 5.0, 1.0) == pytest.approx(0.1)
    assert weight.seen == 50


@pytest.mark.parametrize("total", [1, 50, 51, 220, 1000, 20_000])
def test_the_share_of_forwards_that_measure_is_the_one_that_is_told(
    monkeypatch: pytest.MonkeyPatch, total: int
) -> None:
    measured = []
    monkeypatch.setattr(RatioWeight, "_measure", lambda self, *given: measured.append(1))
    weight, loss = RatioWeight(0.1, total), torch.zeros(())
    for _ in range(total):
        weight([loss], loss, [])
    assert weight.measured_share == len(measured) / total


def test_measuring_in_every_forward_leaves_the_weight_as_it_was() -> None:
    weight = RatioWeight(0.1, 1000)
    features = torch.ones(2, 3, requires_grad=True)
    before = {name: value.clone() for name, value in weight.state_dict().items()}
    with measuring([weight]):
        assert weight([5 * features.sum()], features.sum(), [features]).item() == pytest.approx(0.5)
    assert {name: value.item() for name, value in weight.state_dict().items()} == {
        name: value.item() for name, value in before.items()
    }
    assert weight([5 * features.sum()], features.sum(), [features]).item() == pytest.approx(0.1)
    assert weight.seen == 1
