"""Wrapping a detector in a method, and taking it out again for inference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from detectors.base import Detector
from harness.errors import InputError
from harness.methods.attention import SpatialAttention, add_stream_attention
from harness.methods.base import TrainingModel
from harness.methods.baseline import BaselineModel
from harness.methods.config import MethodConfiguration, RegularizedConfiguration
from harness.methods.oracle import Oracle
from harness.methods.pairing import tap_pairs
from harness.methods.regularizer import Regularizer
from harness.methods.samiro import AttendedModel, RegularizedModel
from harness.methods.statistics import TargetStatistics
from harness.methods.taps import select_taps
from harness.methods.weighting import FixedWeight, RatioWeight
from harness.pytorch.weightless import weightless


@dataclass(frozen=True, eq=False)
class Means:
    """What a method may need besides the detector and its options: what `attach` was given, the oracle on the detector's device."""

    oracle: Oracle | None
    statistics: TargetStatistics | None
    generator: torch.Generator
    total_steps: int | None


@dataclass(frozen=True)
class Method:
    """One kind. around: puts it around a detector. leaves: makes in a fresh detector what it leaves in one at inference.

    Both are given the kind's own configuration.
    """

    around: Callable[[Detector, Any, Means], TrainingModel]
    leaves: Callable[[Detector, Any], None]


def attach(
    detector: Detector,
    configuration: MethodConfiguration,
    *,
    oracle: Oracle | None,
    statistics: TargetStatistics | None,
    generator: torch.Generator,
    total_steps: int | None = None,
) -> TrainingModel:
    """Put a method around a fresh detector, on the device that it lies on.

    Nothing is drawn from torch's global generator and no weight of the detector changes, so that all methods share the
    detector's start: what a method draws comes from `generator` (of the CPU). `oracle` and `statistics` (`target_statistics`)
    are needed where L_MI is part of the loss, statistics not for `normalize: none`. total_steps: training forwards to come,
    needed by lambda_mode `ratio`. The detector is hooked and belongs to the model from here on. Raises InputError where the
    parts don't fit, and for a kind that isn't one of METHODS.
    """
    method = method_of(configuration)
    device = next((parameter.device for parameter in detector.parameters()), torch.device("cpu"))
    if oracle is not None:
        oracle.to(device)
    means = Means(oracle, statistics, generator, total_steps)
    return method.around(detector, configuration, means).to(device)


def inference_model(detector: Detector, configuration: MethodConfiguration) -> Detector:
    """A fresh detector with what the method leaves in it, ready for the state dict of a trained model's `inference_model()`.

    What is left has placeholders for weights until a state dict is loaded, strictly. A detector in which nothing is left is given back
    as it is.
    """
    method_of(configuration).leaves(detector, configuration)
    return detector


def method_of(configuration: MethodConfiguration) -> Method:
    """How the kind of a configuration is attached: by its own name, never by that of the class it is derived from."""
    if configuration.kind not in METHODS:
        raise InputError(
            f"key 'kind': nothing puts {configuration.kind!r} around a detector: give it an entry under METHODS in "
            "harness/methods/attach.py (docs/add-a-method.md)"
        )
    return METHODS[configuration.kind]


def unchanged(detector: Detector, configuration: Any) -> None:
    """What a method does that leaves nothing in the detector."""


def regularized(detector: Detector, configuration: RegularizedConfiguration, means: Means) -> TrainingModel:
    """SAMIRO and its controls."""
    taps = select_taps(detector, configuration.taps)
    if configuration.lambda_ == 0:
        add_attention(detector, configuration, means.generator)
        return AttendedModel(detector, taps)
    oracle, statistics = means.oracle, means.statistics
    if oracle is None:
        raise InputError(f"key 'oracle': {configuration.oracle!r} isn't at hand: pre-train it, or give the file of one")
    pairs = tap_pairs(detector, oracle, configuration)
    standardised = configuration.normalize != "none"
    if standardised and statistics is None:
        raise InputError("target statistics are missing: take them of the training images, or give normalize 'none'")
    regularizer = Regularizer(
        pairs, statistics.matching(pairs) if standardised and statistics is not None else None, configuration
    )
    add_attention(detector, configuration, means.generator)
    inside = configuration.attention == "spatial" and configuration.site == "regularizer"
    return RegularizedModel(
        detector,
        taps,
        oracle=oracle.quickened(detector.configuration.input.network, configuration.oracle_scale),
        oracle_scale=configuration.oracle_scale,
        regularizer=regularizer,
        gates=[SpatialAttention(configuration.gate, means.generator) for _ in taps.used if inside],
        weight=_weight(configuration, means.total_steps),
        learning_rate=_learning_rate(configuration, detector),
    )


def stream_attention(detector: Detector, configuration: RegularizedConfiguration) -> None:
    """The attention that SAMIRO and its controls leave, with placeholders for weights; none where it isn't in the stream."""
    add_attention(detector, configuration, torch.Generator().manual_seed(0))


def add_attention(detector: Detector, configuration: RegularizedConfiguration, generator: torch.Generator) -> None:
    """Put attention into the detector's stream, if the configuration has it there."""
    if configuration.attends_in_stream:
        taps = select_taps(detector, configuration.taps)
        add_stream_attention(detector, taps.used, gate=configuration.gate, generator=generator)


def without_method(detector: Detector) -> Detector | None:
    """The same network, weights included, without what a method left in it; None where it left nothing.

    Left is whatever a new detector hasn't: a module, a parameter, a buffer or a forward hook. The detector is as it was loaded, since
    a forward may leave buffers too. The global random generators stay as they were. RuntimeError where a tensor of a new detector
    is missing: methods add, and take nothing away.
    """
    build = partial(type(detector), detector.meta, detector.form)
    if _parts_of(detector) == _parts_of_new(build):
        return None
    with torch.random.fork_rng(devices=[]):
        plain = build()
    names = plain.state_dict().keys()
    plain.load_state_dict({name: tensor for name, tensor in detector.state_dict().items() if name in names})
    return plain.train(detector.training)


def _parts_of(network: nn.Module) -> Counter[tuple[str, str]]:
    """(kind, path) of each module, parameter, buffer and forward hook, and how many there are of it; a module's kind is its class."""
    modules = dict(network.named_modules())
    return Counter(
        [
            *((type(module).__name__, path) for path, module in modules.items()),
            *(("parameter", path) for path, _ in network.named_parameters()),
            *(("buffer", path) for path, _ in network.named_buffers()),
            *(("hook", path) for path, module in modules.items() for _ in module._forward_hooks),
            *(("hook before", path) for path, module in modules.items() for _ in module._forward_pre_hooks),
        ]
    )


def _parts_of_new(build: Callable[[], Detector]) -> Counter[tuple[str, str]]:
    try:
        with weightless():
            return _parts_of(build())
    except Exception:  # noqa: BLE001 - an adapter's own code; what is really wrong shows when it is built in earnest
        with torch.random.fork_rng(devices=[]):
            return _parts_of(build())


def _weight(configuration: RegularizedConfiguration, total_steps: int | None) -> FixedWeight | RatioWeight:
    if configuration.lambda_mode == "fixed":
        return FixedWeight(configuration.lambda_)
    if total_steps is None:
        raise InputError("key 'lambda_mode': 'ratio' needs the number of training steps: give total_steps, or 'fixed'")
    return RatioWeight(configuration.lambda_, total_steps)


def _learning_rate(configuration: RegularizedConfiguration, detector: Detector) -> float:
    if configuration.learning_rate is not None:
        return configuration.learning_rate
    assert configuration.learning_rate_multiplier is not None
    return configuration.learning_rate_multiplier * detector.configuration.recipe.learning_rate


METHODS: dict[str, Method] = {
    "baseline": Method(lambda detector, options, means: BaselineModel(detector), leaves=unchanged),
    "samiro": Method(regularized, leaves=stream_attention),
    "attention_only": Method(regularized, leaves=stream_attention),
    "miro": Method(regularized, leaves=stream_attention),
    "feature_distillation": Method(regularized, leaves=stream_attention),
}
"""Kind of method -> how it is attached, and what it leaves. Each kind has an entry of its own, derived configurations too."""
