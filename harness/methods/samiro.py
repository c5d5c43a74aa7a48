"""SAMIRO and its controls: a detector with spatial attention on its taps, regularized towards a frozen oracle's features."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from detectors.base import Batch, Detector, tap_module
from harness.methods.attention import SpatialAttention, attention_modules
from harness.methods.base import ParameterGroup, TrainingModel
from harness.methods.oracle import Oracle
from harness.methods.regularizer import PairRegularizer, PairTerms, Regularizer
from harness.methods.taps import Reader, TapSelection, as_map, read_by, reading, token_shape
from harness.methods.weighting import FixedWeight, RatioWeight, gradient_norms
from harness.pytorch.random_state import random_state, set_random_state

TERM = "mutual_information"
"""Name of the regularizer's loss term."""

ORACLE = "oracle."
"""Where the oracle's tensors lie in a training model; they are an artefact of their own and stay out of checkpoints."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """One forward taken apart: the detector's terms, unweighted L_MI, what each pair gave, and the taps' outputs with their graph."""

    losses: dict[str, Tensor]
    mutual_information: Tensor
    terms: tuple[PairTerms, ...]
    outputs: tuple[Tensor, ...]


class AttendedModel(TrainingModel):
    """Attention in the stream and no regularizer: `attention_only`, and any method with such attention at lambda 0."""

    def __init__(self, detector: Detector, taps: TapSelection) -> None:
        super().__init__()
        self.detector = detector
        self.taps = taps

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The detector's own loss terms."""
        return self.detector.losses(self.detector(batch.images), batch)

    def parameter_groups(self) -> tuple[ParameterGroup, ...]:
        """The detector's own parameters as the baseline has them, then those of the attention; both follow the recipe."""
        attention = trained(attention_modules(self.detector))
        known = {id(parameter) for parameter in attention}
        own = tuple(parameter for parameter in trained([self.detector]) if id(parameter) not in known)
        return filled(ParameterGroup("detector", own), ParameterGroup("attention", attention))

    def diagnostics(self) -> dict[str, float]:
        """How many frozen taps of the default list were left out."""
        return {"taps/skipped": float(len(self.taps.skipped))}

    def inference_model(self) -> Detector:
        """The detector itself, with the attention that lies in its stream."""
        return self.detector


class RegularizedModel(AttendedModel):
    """Adds lambda L_MI to the detector's terms; with `gates` (site `regularizer`) the attention lies in it alone."""

    def __init__(
        self,
        detector: Detector,
        taps: TapSelection,
        *,
        oracle: Oracle,
        oracle_scale: float,
        regularizer: Regularizer,
        gates: Iterable[SpatialAttention],
        weight: FixedWeight | RatioWeight,
        learning_rate: float,
    ) -> None:
        super().__init__(detector, taps)
        self.oracle = oracle
        self.oracle_scale = oracle_scale
        self.regularizer = regularizer
        self.gates = nn.ModuleList(gates)
        self.weight = weight
        self.learning_rate = learning_rate
        self.size = detector.configuration.input.network
        self.last: tuple[PairTerms, ...] = ()
        self.readers = nn.ModuleList(read_by(Reader(tap.path), tap_module(detector, tap)) for tap in taps.used)
        self.gate_readers = nn.ModuleList(
            read_by(Reader(f"attention on {tap.path}"), attention)
            for tap, attention in zip(taps.used, attention_modules(detector), strict=False)
        )
        self.register_state_dict_post_hook(_without_oracle)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_post_hook(_oracle_not_missed)  # type: ignore[no-untyped-call]

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The detector's own loss terms, then lambda L_MI."""
        evidence = self.evidence(batch)
        weight = self.weight(evidence.losses.values(), evidence.mutual_information, evidence.outputs)
        self.last = tuple(PairTerms(t.loss.detach(), t.squared_error, t.target_variance) for t in evidence.terms)
        return {**evidence.losses, TERM: weight * evidence.mutual_information}

    def evidence(self, batch: Batch) -> Evidence:
        """Both networks on one batch, with the taps' outputs still in the graph."""
        readers = cast("list[Reader]", list(self.readers))
        gate_readers = cast("list[Reader]", list(self.gate_readers))
        with reading([*readers, *gate_readers]):
            outputs = self.detector(batch.images)
            seen = tuple(reader.take() for reader in readers)
            gates: list[Tensor | None] = [reader.take() for reader in gate_readers]
        losses = self.detector.losses(outputs, batch)
        features = [
            as_map(out, tap, token_shape(tap, self.size)) for out, tap in zip(seen, self.taps.used, strict=True)
        ]
        if len(self.gates) > 0:
            gates = [gate(feature) for gate, feature in zip(self.gates, features, strict=True)]
        if not gates:
            gates = [None] * len(features)
        value, terms = self.regularizer(features, gates, self.oracle(batch.images, self.oracle_scale))
        return Evidence(losses, value, terms, seen)

    def parameter_groups(self) -> tuple[ParameterGroup, ...]:
        """As with attention alone; projections and variances have an AdamW of their own."""
        gates = ParameterGroup("attention", trained(self.gates))
        own = ParameterGroup("regularizer", trained([self.regularizer]), "adamw", self.learning_rate)
        return (*super().parameter_groups(), *filled(gates, own))

    def diagnostics(self) -> dict[str, float]:
        """Of the last forward: lambda, and for each tap R^2, MI in nats and the loss; besides, how many channels were dropped."""
        found = super().diagnostics() | {"lambda": self.weight.current()}
        for tap, terms in zip(self.taps.used, self.last, strict=False):
            found |= {
                f"r2/{tap.path}": terms.explained(),
                f"mi/{tap.path}": terms.mutual_information(),
                f"loss/{tap.path}": float(terms.loss),
            }
        for tap, pair in zip(self.taps.used, self.regularizer.pairs, strict=True):
            found[f"dropped/{tap.path}"] = float(cast("PairRegularizer", pair).dropped)
        return found


@dataclass(frozen=True)
class GradientRatios:
    """The norm of the gradient of lambda L_MI over that of the detector's losses.

    taps: with respect to the features of each tap, by its path. weights: with respect to the weights that L_MI reaches of the
    `detector` and of its `attention`, each taken together; a group that only one of the two reaches is left out. The two may be an
    order of magnitude apart: what all cells of a map share adds up in a weight, and the detector's gradients largely cancel there.
    """

    taps: dict[str, float]
    weights: dict[str, float]


def gradient_ratios(model: TrainingModel, batch: Batch) -> GradientRatios:
    """How much the regularizer pulls over how much the detector's losses do; empty for a method without a regularizer.

    Takes one forward and two backward passes of its own, and changes nothing: buffers and all random generators are put back, gradients
    aren't touched. A training loop calls it on the bare model (not its DDP wrapper) at 1, 10, 50 and 100 % of the steps.
    """
    if not isinstance(model, RegularizedModel):
        return GradientRatios({}, {})
    kept = {name: buffer.clone() for name, buffer in model.named_buffers()}
    groups = {group.name: group.parameters for group in model.parameter_groups() if group.optimizer == "recipe"}
    parameters = [parameter for group in groups.values() for parameter in group]
    # numpy's and python's too: what a detector draws from them in its losses has to stay what it is in the baseline.
    before = random_state()
    try:
        with torch.enable_grad():
            evidence = model.evidence(batch)
            tensors = [*evidence.outputs, *parameters]
            detector = gradient_norms(torch.stack([*evidence.losses.values()]).sum(), tensors)
            regularizer = gradient_norms(evidence.mutual_information, tensors)
    finally:
        set_random_state(before)
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(kept[name])
    weight = model.weight.current()
    pulls = [(weight * float(upper), float(lower)) for upper, lower in zip(regularizer, detector, strict=True)]
    taps = {tap.path: upper / max(lower, 1e-20) for tap, (upper, lower) in zip(model.taps.used, pulls, strict=False)}
    of_parameter = dict(zip(map(id, parameters), pulls[len(evidence.outputs) :], strict=True))
    weights = {}
    for name, group in groups.items():
        reached = [pull for parameter in group if (pull := of_parameter[id(parameter)])[0] > 0]
        upper, lower = (math.hypot(*norms) for norms in zip(*reached, strict=True)) if reached else (0.0, 0.0)
        if lower > 0:
            weights[name] = upper / lower
    return GradientRatios(taps, weights)


def trained(modules: Iterable[nn.Module]) -> tuple[nn.Parameter, ...]:
    """The parameters of these modules that train."""
    return tuple(parameter for module in modules for parameter in module.parameters() if parameter.requires_grad)


def filled(*groups: ParameterGroup) -> tuple[ParameterGroup, ...]:
    """Those groups that have parameters."""
    return tuple(group for group in groups if group.parameters)


def _without_oracle(module: nn.Module, state: dict[str, Tensor], prefix: str, metadata: Any) -> None:
    for key in [key for key in state if key.startswith(prefix + ORACLE)]:
        del state[key]


def _oracle_not_missed(module: nn.Module, keys: Any) -> None:
    keys.missing_keys[:] = [key for key in keys.missing_keys if not _of_oracle(key)]


def _of_oracle(key: str) -> bool:
    return key.startswith(ORACLE) or f".{ORACLE}" in key
