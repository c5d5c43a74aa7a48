"""What a method promises (docs/add-a-method.md), held to while it trains: a broken promise ends the training at once, with a word.

What costs anything is looked at in the first step alone. Everything is put back: a training that is watched is bit for bit the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from textwrap import shorten
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from detectors.base import Batch, Detector
from harness.errors import InputError
from harness.methods.base import TrainingModel
from harness.pytorch.held_state import same_tensor
from harness.pytorch.random_state import drawn_between, kept_random_state, random_state, set_random_state

DETECTOR = "detector."
"""Where the detector's tensors lie in a training model."""

TORCHS_OWN = frozenset(vars(nn.Module()))
"""Attributes in which torch keeps a module's parts."""

GPU_TOLERANCE = 1e-3
"""Of the largest output: TF32 has a mantissa of 10 bits, so that one rounding makes as much."""

APART = (
    "draw from the generator that `attach` is given, and put passes of the method's own into `with apart(generator):`"
)


DEPLOYED = (
    "let `inference_model` in harness/methods/attach.py put into a fresh detector all that the method leaves in it, as hooks, "
    "modules, buffers, and settings of modules"
)


class Watch:
    """Watches one model from before its first step on.

    compiled: the model is run by torch.compile, whose kernels draw in a way of their own: what they draw isn't looked at.
    """

    def __init__(self, model: TrainingModel, *, compiled: bool = False) -> None:
        self._model, self._compiled = model, compiled
        self._name = type(model).__name__
        self._keys = _own_keys(model.state_dict())
        self._own: tuple[str, ...] = ()
        self._names: tuple[str, ...] | None = None
        self._unkept: dict[str, Tensor | None] | None = _unkept_tensors(model)

    def terms(self, network: Callable[[Batch], dict[str, Tensor]], batch: Batch) -> dict[str, Tensor]:
        """The loss terms of a forward of `network`, which is the model or its wrapper. InputError where they aren't what is promised.

        The first time the detector takes the batch by itself before, which shows the names of its terms and what it draws.
        """
        if self._names is not None:
            terms = network(batch)
            self._check_terms(terms)
            # A detector's own terms may come and go with the labels of a batch.
            if gone := [name for name in self._names if name not in self._own and name not in terms]:
                raise InputError(
                    f"{self._name}.forward: loss term {gone[0]!r} was there in the first step, and isn't by now: give it in all steps, "
                    "a plain zero where it has nothing to say"
                )
            if not self._model.detector.training:
                raise InputError(self._left_in_eval("as a whole"))
            return terms
        self._own, drawn = self._alone(batch)
        modes = {path: module.training for path, module in self._model.detector.named_modules()}
        terms = network(batch)
        self._check_terms(terms)
        self._names = tuple(terms)
        if self._names[: len(self._own)] != self._own:
            raise InputError(
                f"{self._name}.forward: loss terms {self._names} don't begin with the detector's own, {self._own}: give what "
                "`self.detector.losses` gives first, under its own names"
            )
        changed = [path for path, module in self._model.detector.named_modules() if modes.get(path) != module.training]
        if changed:
            raise InputError(self._left_in_eval(changed[0] or "as a whole"))
        if not self._compiled:
            self._refuse_drawn("forward", drawn)
        return terms

    def after_step(self) -> None:
        """Let the model do what it does after a step. InputError where, after the first, it has state that no checkpoint keeps."""
        first = self._unkept is not None
        before = random_state() if first else {}
        with torch.no_grad():
            self._model.after_step()
        if not first:
            return
        self._refuse_drawn("after_step", before)
        self.state()
        now = _unkept_tensors(self._model)
        for name, tensor in (self._unkept or {}).items():
            if name in now and not _same(tensor, now[name]):
                raise InputError(
                    f"{self._name}: {name} changes in training, but no checkpoint holds it, so that a killed training would go "
                    "on without: assign it as a submodule, or register it as a persistent buffer, in __init__"
                )
        self._unkept = None

    def state(self) -> dict[str, Tensor]:
        """The model's state dict. InputError where it has other tensors of the method than before the first step."""
        state = self._model.state_dict()
        if late := sorted(_own_keys(state) ^ self._keys):
            raise InputError(
                f"{self._name}: {', '.join(late)} came or went in training, so that a fresh model couldn't take up its "
                "checkpoint: register parameters and buffers in __init__, in their final size"
            )
        return state

    def diagnostics(self) -> dict[str, float]:
        """The model's diagnostics; what they draw is put back. InputError where they aren't plain numbers."""
        before = random_state()
        found = self._model.diagnostics()
        set_random_state(before)
        for name, value in found.items():
            if not isinstance(name, str) or not isinstance(value, int | float):
                raise InputError(
                    f"{self._name}.diagnostics: {name!r} is {_kind(value)}, not a plain number: give float(value) of a single one"
                )
        return found

    def _alone(self, batch: Batch) -> tuple[tuple[str, ...], dict[str, Any]]:
        """The names of the detector's own terms, and where its pass leaves the global generators; all is put back.

        With gradients, as in training: which kernel runs, and so what is drawn, may hang on them.
        """
        detector = self._model.detector
        before, kept = random_state(), {name: buffer.clone() for name, buffer in self._model.named_buffers()}
        # Compiled, the names alone are wanted, and an eager pass with gradients may need more memory than the training has.
        with torch.set_grad_enabled(not self._compiled):
            names = tuple(detector.losses(detector(batch.images), batch))
        after = random_state()
        set_random_state(before)
        with torch.no_grad():
            for name, buffer in self._model.named_buffers():
                if name in kept and buffer.shape == kept[name].shape:
                    buffer.copy_(kept[name])
        # Weights that autocast has cast hang on the graph of the pass that is over.
        torch.clear_autocast_cache()
        return names, after

    def _check_terms(self, terms: Any) -> None:
        """A few attributes of each term, at every forward: nothing is read from the device."""
        if not isinstance(terms, dict):
            raise InputError(f"{self._name}.forward gives {_kind(terms)}: give a dict of loss terms by name")
        for name, term in terms.items():
            owner = type(self._model.detector).__name__ + ".losses" if name in self._own else f"{self._name}.forward"
            where = f"{owner}: loss term {name!r}"
            if not isinstance(name, str):
                raise InputError(f"{where}: its name is {_kind(name)}: give a text")
            if not isinstance(term, Tensor):
                raise InputError(f"{where} is {_kind(term)}: give a scalar tensor, or leave the term out of all steps")
            if term.dim():
                raise InputError(f"{where} has the shape {tuple(term.shape)}: give a scalar, its mean() or sum()")
            if not term.is_floating_point():
                raise InputError(f"{where} is {term.dtype}: compute it in floating point")
            # Read from the device only where there is no gradient: a loss in its warm-up may be a plain zero.
            if not term.requires_grad and name not in self._own and float(term) != 0:
                raise InputError(
                    f"{where} has no gradient, so it trains nothing: compute it without detach() and no_grad(), or give it in "
                    "diagnostics(), where numbers to look at belong"
                )

    def _refuse_drawn(self, where: str, before: dict[str, Any]) -> None:
        if drawn := drawn_between(before, random_state()):
            raise InputError(
                f"{self._name}.{where}: draws from the global generator of {drawn[0]} beside the detector's own pass, so that the "
                f"detector's dropout would be another than in the baseline: {APART}"
            )

    def _left_in_eval(self, what: str) -> str:
        return (
            f"{self._name}.forward: leaves the detector in another mode ({what}): put it back into train mode after use"
        )


def trained_parameters(detector: Detector) -> dict[str, bool]:
    """The names of a detector's parameters, and whether each trains: to be taken before a method is put around it."""
    return {name: parameter.requires_grad for name, parameter in detector.named_parameters()}


def check_detector_trains(model: TrainingModel, before: Mapping[str, bool]) -> None:
    """InputError where a parameter that the detector had `before` doesn't train as in the baseline: frozen, or not by the recipe.

    What a method adds to the detector may train in any group.
    """
    groups = model.parameter_groups()
    by_recipe = {id(one) for group in groups if group.optimizer == "recipe" for one in group.parameters}
    own = {id(one): group.name for group in groups if group.optimizer != "recipe" for one in group.parameters}
    where = type(model).__name__
    for name, parameter in model.detector.named_parameters():
        if name not in before:
            continue
        if parameter.requires_grad != before[name]:
            done = "freezes" if before[name] else "trains"
            raise InputError(
                f"{where}: {done} the detector's {name}, unlike the baseline: leave requires_grad of the detector's parameters as it is"
            )
        if parameter.requires_grad and id(parameter) in own and id(parameter) not in by_recipe:
            raise InputError(
                f"{where}.parameter_groups: group {own[id(parameter)]!r} has the detector's {name}: put those that it had "
                "of its own into a 'recipe' group, as the baseline has them"
            )


def deployed_like(trained: Detector, fresh: Callable[[], Detector], *, method: str) -> Detector:
    """What is made of a model's tensors wherever it is deployed; arguments as for `check_deployed`. InputError where they don't fit."""
    with kept_random_state():
        deployed = fresh()
        try:
            deployed.load_state_dict(trained.state_dict())
        except RuntimeError as error:
            reason = shorten(str(error), 240, placeholder=" ...")
            raise InputError(
                f"method {method!r}: what it trains doesn't fit what is deployed ({reason}): {DEPLOYED}"
            ) from error
    return deployed


def check_deployed(trained: Detector, fresh: Callable[[], Detector], images: Tensor, *, method: str) -> None:
    """InputError where a trained model's `inference_model()` doesn't compute what is made of its tensors wherever it is deployed.

    trained: its modes and the global generators are left as they were. fresh: makes a new detector, on the same device, with what
    `harness.methods.attach.inference_model` leaves in it. images: a batch for both, in eval mode. method: the name that is told.
    """
    modes = [(module, module.training) for module in trained.modules()]
    with kept_random_state(), torch.no_grad():
        deployed = deployed_like(trained, fresh, method=method)
        ours, theirs = (
            [leaf for leaf in pytree.tree_leaves(one.eval()(images)) if isinstance(leaf, Tensor)]
            for one in (trained, deployed)
        )
        for module, training in modes:
            module.training = training
    if len(ours) == len(theirs) and all(_alike(*pair) for pair in zip(ours, theirs, strict=True)):
        return
    differences = [
        float((one.float() - two.float()).abs().max())
        for one, two in zip(ours, theirs, strict=False)
        if one.shape == two.shape
    ]
    by = f"its outputs differ by up to {max(differences):.3g}" if differences else "its outputs are others"
    raise InputError(
        f"method {method!r}: what it trained isn't what is deployed, {by} with the same tensors: {DEPLOYED}"
    )


def _alike(one: Tensor, other: Tensor) -> bool:
    """Bit for bit on a CPU; elsewhere a library may choose the kernels of two copies by the memory that is left, and sum otherwise."""
    if one.device.type == "cpu" or one.shape != other.shape or not one.is_floating_point():
        return same_tensor(one, other)
    largest = float(one.abs().nan_to_num().max()) if one.numel() else 0.0
    return torch.allclose(one, other, rtol=0, atol=GPU_TOLERANCE * largest, equal_nan=True)


def _own_keys(names: Iterable[str]) -> frozenset[str]:
    """Those of the method: a detector's forward may leave buffers, and what a method leaves in it is compared at the end."""
    return frozenset(name for name in names if not name.startswith(DETECTOR))


def _unkept_tensors(model: TrainingModel) -> dict[str, Tensor | None]:
    """Copies of a method's tensors that no state dict has: non-persistent buffers, and those of modules in lists, tuples and dicts."""
    found: dict[str, Tensor | None] = {}
    for path, module in model.named_modules():
        if not f"{path}.".startswith(DETECTOR):
            for name in module._non_persistent_buffers_set:
                buffer = getattr(module, name)
                found[f"{path}.{name}".lstrip(".")] = None if buffer is None else buffer.clone()
    known = {id(tensor) for tensor in (*model.parameters(), *model.buffers())}
    for attribute, value in vars(model).items():
        if attribute in TORCHS_OWN or not isinstance(value, list | tuple | dict):
            continue
        for member in value.values() if isinstance(value, dict) else value:
            state = member.state_dict(keep_vars=True) if isinstance(member, nn.Module) else {}
            for name, tensor in state.items():
                if id(tensor) not in known:
                    found[f"{name} of {attribute}"] = tensor.detach().clone()
    return found


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    return one is other if one is None or other is None else same_tensor(one, other)


def _kind(value: Any) -> str:
    if value is None:
        return "None"
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
