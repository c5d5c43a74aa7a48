"""Optimizers and learning rates of a recipe, and gradient clipping."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from detectors.meta import Recipe
from harness.errors import InputError
from harness.methods.base import ParameterGroup

ONE_CYCLE_RISE = 0.3
ONE_CYCLE_START = 1 / 25
ONE_CYCLE_END = ONE_CYCLE_START * 1e-4
"""Share of the training in which the rate rises, and its first and last value over its peak: the defaults of
torch.optim.lr_scheduler.OneCycleLR (pct_start, 1 / div_factor, 1 / final_div_factor)."""


def learning_rate_factor(recipe: Recipe, step: int, total_steps: int) -> float:
    """Learning rate of a step (0 .. total_steps - 1) over the recipe's: schedule over the whole training times warm-up.

    constant: 1. cosine: (1 + cos(pi n t)) / 2 with n half cycles, and poly: (1 - t)^power, with t = step / total_steps. multistep:
    gamma for every milestone m with step >= round(m total_steps). one_cycle: cosine rise and fall with OneCycleLR's defaults. The
    warm-up rises linearly from `warmup_start` at step 0 to 1 at step `warmup_steps` and multiplies the schedule (as in mmcv's
    LrUpdaterHook).
    """
    return _scheduled(recipe, step, total_steps) * _warmup(recipe, step)


def _scheduled(recipe: Recipe, step: int, total_steps: int) -> float:
    share = step / total_steps
    match recipe.schedule:
        case "constant":
            return 1.0
        case "cosine":
            return (1.0 + math.cos(math.pi * recipe.half_cycles * share)) / 2.0
        case "poly":
            return float((1.0 - share) ** recipe.power)
        case "multistep":
            return float(recipe.gamma ** sum(step >= round(mark * total_steps) for mark in recipe.milestones))
        case "one_cycle":
            return _one_cycle(step, total_steps)


def _one_cycle(step: int, total_steps: int) -> float:
    peak, last = ONE_CYCLE_RISE * total_steps - 1.0, total_steps - 1.0
    if step <= peak:
        return _cosine_between(ONE_CYCLE_START, 1.0, step / peak if peak else 1.0)
    return _cosine_between(1.0, ONE_CYCLE_END, (step - peak) / (last - peak) if last > peak else 0.0)


def _cosine_between(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2.0 * (1.0 + math.cos(math.pi * share))


def _warmup(recipe: Recipe, step: int) -> float:
    if step >= recipe.warmup_steps:
        return 1.0
    return recipe.warmup_start + (1.0 - recipe.warmup_start) * step / recipe.warmup_steps


@dataclass(frozen=True, eq=False)
class Optimization:
    """The optimizers of one training: the recipe's, and an AdamW of their own for the groups that ask for it.

    Every torch parameter group carries its `name` and its `peak` learning rate.
    """

    recipe: Recipe
    optimizers: dict[str, Optimizer]

    @cached_property
    def together(self) -> Optimizer:
        """All of them as one, for a gradient scaler: it leaves out the step of each optimizer whose own gradients overflowed."""
        return _Together(tuple(self.optimizers.values()))

    def set_learning_rates(self, step: int, total_steps: int) -> dict[str, float]:
        """Set every group's rate for a step; returns them by group name."""
        factor = learning_rate_factor(self.recipe, step, total_steps)
        for group in self._groups():
            group["lr"] = group["peak"] * factor
        return {group["name"]: group["lr"] for group in self._groups()}

    def gradient_norm(self) -> Tensor:
        """L2 norm of the gradients of all the recipe's groups together; `adamw` groups don't count."""
        gradients = [parameter.grad for parameter in self._recipe_parameters() if parameter.grad is not None]
        return nn.utils.get_total_norm(gradients) if gradients else torch.zeros(())

    def clip(self, norm: Tensor) -> Tensor:
        """Clip the recipe's groups together, given their `gradient_norm`, as the recipe says; `adamw` groups never.

        Returns whether this made them smaller, as a scalar of 0 or 1; always 0 where the recipe doesn't clip.
        """
        limit = self.recipe.clip_gradient_norm
        if limit is None:
            return torch.zeros_like(norm)
        nn.utils.clip_grads_with_norm_(self._recipe_parameters(), limit, norm)
        return (norm > limit).to(norm.dtype)

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """The state of all optimizers, by kind."""
        return {kind: optimizer.state_dict() for kind, optimizer in self.optimizers.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave. ValueError or KeyError where the groups aren't the same."""
        for kind, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state[kind])

    def _recipe_parameters(self) -> list[nn.Parameter]:
        optimizer = self.optimizers.get("recipe")
        return [parameter for group in optimizer.param_groups for parameter in group["params"]] if optimizer else []

    def _groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in self.optimizers.values() for group in optimizer.param_groups]


class _Together(Optimizer):
    """Several optimizers that step as one; each keeps its own state."""

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        super().__init__([group for optimizer in optimizers for group in optimizer.param_groups], {})
        self.optimizers = optimizers

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step of each."""
        for optimizer in self.optimizers:
            optimizer.step()


def build_optimization(recipe: Recipe, groups: Sequence[ParameterGroup], model: nn.Module) -> Optimization:
    """Optimizers of a model's parameter groups.

    What the recipe has `learning_rate_factors` for is taken out of its group into one of its own. ValueError where a trainable
    parameter of `model` is in no group or in two, a group has a frozen one, an `adamw` group has no learning rate, or a `recipe`
    group has one; InputError where a factor is of nothing that trains.
    """
    _check_groups(groups, model)
    factors = _factors(recipe, model)
    kinds: dict[str, list[dict[str, Any]]] = {}
    for group in groups:
        if (group.learning_rate is None) == (group.optimizer == "adamw"):
            raise ValueError(f"parameter group {group.name!r}: 'learning_rate' is for 'adamw' groups, and they need it")
        if group.learning_rate is not None:
            parts = {(group.name, group.learning_rate): list(group.parameters)}
        else:
            parts = {}
            for parameter in group.parameters:
                path, factor = factors.get(id(parameter), ("", 1.0))
                name = f"{group.name} {path}" if path else group.name
                parts.setdefault((name, recipe.learning_rate * factor), []).append(parameter)
        for (name, peak), parameters in parts.items():
            if parameters:
                entry = {"params": parameters, "name": name, "peak": peak, "lr": peak}
                kinds.setdefault(group.optimizer, []).append(entry)
    build = {"recipe": lambda entries: _recipe_optimizer(recipe, entries), "adamw": _own_adamw}
    return Optimization(recipe, {kind: build[kind](entries) for kind, entries in kinds.items()})


def _recipe_optimizer(recipe: Recipe, entries: list[dict[str, Any]]) -> Optimizer:
    decay = recipe.weight_decay
    match recipe.optimizer:
        case "sgd":
            return SGD(entries, lr=recipe.learning_rate, momentum=recipe.momentum, weight_decay=decay)
        case "adam":
            return Adam(entries, lr=recipe.learning_rate, betas=recipe.betas, weight_decay=decay)
        case "adamw":
            return AdamW(entries, lr=recipe.learning_rate, betas=recipe.betas, weight_decay=decay)


def _own_adamw(entries: list[dict[str, Any]]) -> Optimizer:
    return AdamW(entries, weight_decay=0.0)


def _factors(recipe: Recipe, model: nn.Module) -> dict[int, tuple[str, float]]:
    """Identity of a parameter that learns at another rate -> the path that the recipe names it by, and the factor."""
    found: dict[int, tuple[str, float]] = {}
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    for path, factor in recipe.learning_rate_factors.items():
        matching = [parameter for name, parameter in trained.items() if f".{path}." in f".{name}"]
        if not matching:
            raise InputError(
                f"recipe: learning_rate_factors has {path!r}, of which nothing trains; name a submodule by its path"
            )
        found |= {id(parameter): (path, factor) for parameter in matching}
    return found


def _check_groups(groups: Sequence[ParameterGroup], model: nn.Module) -> None:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    trainable = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    seen: set[int] = set()
    for group in groups:
        for parameter in group.parameters:
            name = names.get(id(parameter), "a tensor that isn't the model's")
            if id(parameter) not in trainable:
                raise ValueError(f"parameter group {group.name!r} holds {name}, which doesn't train")
            if id(parameter) in seen:
                raise ValueError(f"parameter group {group.name!r} holds {name}, which an earlier group has already")
            seen.add(id(parameter))
    if missing := [names[number] for number in trainable - seen]:
        raise ValueError(f"parameters in no group, so they would never train: {', '.join(sorted(missing))}")
