from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim import SGD, Adam, AdamW
from torch.optim import lr_scheduler as schedulers

from detectors.meta import Recipe
from harness.errors import InputError
from harness.methods.base import ParameterGroup
from harness.training.optimization import build_optimization, learning_rate_factor

TOTAL = 40


def recipe(**changes) -> Recipe:
    return Recipe(
        **{"optimizer": "sgd", "learning_rate": 0.5, "schedule": "constant", "epochs": 1, "batch_size": 1, **changes}
    )


def by_torch(make) -> list[float]:
    """The factors that a scheduler of torch gives at steps 0 .. TOTAL - 1."""
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer)
    factors = [optimizer.param_groups[0]["lr"]]
    for _ in range(TOTAL - 1):
        optimizer.step()
        scheduler.step()
        factors.append(optimizer.param_groups[0]["lr"])
    return factors


@pytest.mark.parametrize(
    ("options", "make"),
    [
        ({"schedule": "constant"}, lambda o: schedulers.ConstantLR(o, factor=1.0)),
        ({"schedule": "cosine"}, lambda o: schedulers.CosineAnnealingLR(o, T_max=TOTAL)),
        ({"schedule": "cosine", "half_cycles": 4}, lambda o: schedulers.CosineAnnealingLR(o, T_max=TOTAL // 4)),
        ({"schedule": "poly", "power": 0.9}, lambda o: schedulers.PolynomialLR(o, total_iters=TOTAL, power=0.9)),
        ({"schedule": "poly", "power": 2.0}, lambda o: schedulers.PolynomialLR(o, total_iters=TOTAL, power=2.0)),
        (
            {"schedule": "multistep", "milestones": (0.5, 0.8), "gamma": 0.2},
            lambda o: schedulers.MultiStepLR(o, milestones=[20, 32], gamma=0.2),
        ),
        (
            {"schedule": "one_cycle"},
            lambda o: schedulers.OneCycleLR(o, max_lr=1.0, total_steps=TOTAL, cycle_momentum=False),
        ),
        (
            {"schedule": "constant", "warmup_steps": 8, "warmup_start": 0.1},
            lambda o: schedulers.LinearLR(o, start_factor=0.1, total_iters=8),
        ),
    ],
)
def test_schedules_are_those_of_torch(options, make):
    found = [learning_rate_factor(recipe(**options), step, TOTAL) for step in range(TOTAL)]
    assert found == pytest.approx(by_torch(make), abs=1e-12)


def test_closed_forms_at_their_ends():
    cosine = recipe(schedule="cosine")
    assert learning_rate_factor(cosine, 0, 100) == 1.0
    assert learning_rate_factor(cosine, 50, 100) == pytest.approx(0.5)
    assert learning_rate_factor(cosine, 25, 100) == pytest.approx((1 + math.sqrt(0.5)) / 2)
    cycle = recipe(schedule="one_cycle")
    assert learning_rate_factor(cycle, 0, 100) == pytest.approx(0.04)
    assert learning_rate_factor(cycle, 29, 100) == pytest.approx(1.0)
    assert learning_rate_factor(cycle, 99, 100) == pytest.approx(4e-6)


def test_milestones_are_shares_of_the_whole_training():
    steps = recipe(schedule="multistep", milestones=(0.3, 0.7), gamma=0.1)
    factors = [learning_rate_factor(steps, step, 10) for step in range(10)]
    assert factors == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01])


def test_the_warm_up_multiplies_the_schedule():
    warm = recipe(schedule="cosine", warmup_steps=10, warmup_start=0.25)
    cold = recipe(schedule="cosine")
    for step, rise in ((0, 0.25), (4, 0.55), (9, 0.925), (10, 1.0), (30, 1.0)):
        assert learning_rate_factor(warm, step, 40) == pytest.approx(rise * learning_rate_factor(cold, step, 40))


@given(
    schedule=st.sampled_from(["constant", "cosine", "multistep", "one_cycle", "poly"]),
    total=st.integers(1, 500),
    warmup=st.integers(0, 20),
    share=st.floats(0, 1, exclude_max=True),
)
def test_factors_lie_between_zero_and_one_for_any_length(schedule, total, warmup, share):
    options = recipe(schedule=schedule, milestones=(0.5,), warmup_steps=warmup)
    assert 0.0 <= learning_rate_factor(options, int(share * total), total) <= 1.0


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.tensor([3.0, 4.0]))
        self.two = nn.Parameter(torch.tensor([12.0]))
        self.own = nn.Parameter(torch.tensor([100.0]))
        self.frozen = nn.Parameter(torch.zeros(1), requires_grad=False)

    def groups(self) -> tuple[ParameterGroup, ...]:
        return (
            ParameterGroup("detector", (self.one,)),
            ParameterGroup("attention", (self.two,)),
            ParameterGroup("projection", (self.own,), "adamw", 3e-3),
        )

    def gradients(self) -> None:
        """As large as the parameters: norm 13 in the recipe's groups."""
        for parameter in (self.one, self.two, self.own):
            parameter.grad = parameter.detach().clone()


def test_clipping_takes_the_recipes_groups_together_and_leaves_adamw_groups_alone():
    pair = Pair()
    optimization = build_optimization(recipe(clip_gradient_norm=6.5), pair.groups(), pair)
    pair.gradients()
    norm = optimization.gradient_norm()
    assert float(norm) == pytest.approx(13.0)
    assert float(optimization.clip(norm)) == 1.0
    assert pair.one.grad.tolist() == pytest.approx([1.5, 2.0], rel=1e-5)
    assert pair.two.grad.tolist() == pytest.approx([6.0], rel=1e-5)
    assert pair.own.grad.tolist() == [100.0]


@pytest.mark.parametrize("limit", [None, 14.0])
def test_gradients_within_the_limit_are_not_changed(limit):
    pair = Pair()
    optimization = build_optimization(recipe(clip_gradient_norm=limit), pair.groups(), pair)
    pair.gradients()
    assert float(optimization.clip(optimization.gradient_norm())) == 0.0
    assert pair.one.grad.tolist() == [3.0, 4.0]


@pytest.mark.parametrize(
    ("options", "reference"),
    [
        (
            {"optimizer": "sgd", "momentum": 0.8, "weight_decay": 0.1},
            lambda p: SGD(p, lr=0.5, momentum=0.8, weight_decay=0.1),
        ),
        (
            {"optimizer": "adam", "betas": (0.8, 0.9), "weight_decay": 0.1},
            lambda p: Adam(p, lr=0.5, betas=(0.8, 0.9), weight_decay=0.1),
        ),
        (
            {"optimizer": "adamw", "betas": (0.8, 0.9), "weight_decay": 0.1},
            lambda p: AdamW(p, lr=0.5, betas=(0.8, 0.9), weight_decay=0.1),
        ),
    ],
)
def test_groups_train_as_the_recipe_says_and_adamw_groups_without_decay(options, reference):
    pair, other = Pair(), Pair()
    optimization = build_optimization(recipe(**options), pair.groups(), pair)
    optimizers = [reference([other.one, other.two]), AdamW([other.own], lr=3e-3, weight_decay=0.0)]
    for step in range(3):
        assert optimization.set_learning_rates(step, 3) == {"detector": 0.5, "attention": 0.5, "projection": 3e-3}
        pair.gradients()
        other.gradients()
        for optimizer in (*optimization.optimizers.values(), *optimizers):
            optimizer.step()
    for name in ("one", "two", "own"):
        assert torch.equal(getattr(pair, name), getattr(other, name))


def test_named_submodules_learn_at_their_own_rate_whichever_group_they_are_in():
    model = nn.Sequential()
    model.detector = nn.ModuleDict(
        {"head": nn.Linear(2, 2), "offsets": nn.Linear(2, 1), "offsets_too": nn.Linear(1, 1)}
    )
    groups = (ParameterGroup("detector", tuple(model.parameters())),)
    optimization = build_optimization(recipe(learning_rate_factors={"offsets": 0.1}), groups, model)
    assert optimization.set_learning_rates(0, 1) == {"detector": 0.5, "detector offsets": pytest.approx(0.05)}
    found = {
        group["name"]: {id(parameter) for parameter in group["params"]}
        for group in optimization.optimizers["recipe"].param_groups
    }
    slow = {id(parameter) for parameter in model.detector["offsets"].parameters()}
    assert found["detector offsets"] == slow
    assert found["detector"] == {id(parameter) for parameter in model.parameters()} - slow


def test_a_rate_of_nothing_that_trains_is_refused():
    pair = Pair()
    with pytest.raises(InputError, match="learning_rate_factors has 'ofsets'"):
        build_optimization(recipe(learning_rate_factors={"ofsets": 0.1}), pair.groups(), pair)


def test_all_groups_follow_the_shape_of_the_schedule():
    pair = Pair()
    optimization = build_optimization(recipe(schedule="cosine"), pair.groups(), pair)
    rates = optimization.set_learning_rates(30, 40)
    factor = (1 + math.cos(math.pi * 0.75)) / 2
    assert rates == pytest.approx({"detector": 0.5 * factor, "attention": 0.5 * factor, "projection": 3e-3 * factor})
    assert [group["lr"] for group in optimization.optimizers["adamw"].param_groups] == [rates["projection"]]


def test_zero_grad_reaches_all_optimizers():
    pair = Pair()
    optimization = build_optimization(recipe(), pair.groups(), pair)
    pair.gradients()
    optimization.zero_grad()
    assert pair.one.grad is None
    assert pair.own.grad is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda pair, groups: groups[:2], "in no group, so they would never train: own"),
        (lambda pair, groups: (*groups, ParameterGroup("again", (pair.two,))), "'again' holds two, which an earlier"),
        (
            lambda pair, groups: (*groups, ParameterGroup("ice", (pair.frozen,))),
            "'ice' holds frozen, which doesn't train",
        ),
        (lambda pair, groups: (*groups[:2], ParameterGroup("own", (pair.own,), "adamw")), "'own': 'learning_rate'"),
        (
            lambda pair, groups: (*groups[1:], ParameterGroup("own", (pair.one,), "recipe", 0.1)),
            "'own': 'learning_rate'",
        ),
    ],
)
def test_groups_that_forget_or_repeat_a_parameter_are_refused(change, message):
    pair = Pair()
    with pytest.raises(ValueError, match=message):
        build_optimization(recipe(), change(pair, pair.groups()), pair)


def test_a_group_without_parameters_is_left_out():
    pair = Pair()
    groups = (*pair.groups(), ParameterGroup("nothing", ()))
    assert "nothing" not in build_optimization(recipe(), groups, pair).set_learning_rates(0, 1)
