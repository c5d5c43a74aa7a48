"""Wrapping a detector in a method, and taking it out again for inference."""

from __future__ import annotations

import torch

from detectors.base import Detector
from harness.errors import InputError
from harness.methods.attention import SpatialAttention, add_stream_attention, attention_modules
from harness.methods.base import TrainingModel
from harness.methods.baseline import BaselineModel
from harness.methods.config import BaselineConfiguration, MethodConfiguration, RegularizedConfiguration
from harness.methods.oracle import Oracle
from harness.methods.pairing import tap_pairs
from harness.methods.regularizer import Regularizer
from harness.methods.samiro import AttendedModel, RegularizedModel
from harness.methods.statistics import TargetStatistics
from harness.methods.taps import select_taps
from harness.methods.weighting import FixedWeight, RatioWeight


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
    parts don't fit.
    """
    if isinstance(configuration, BaselineConfiguration):
        return BaselineModel(detector)
    taps = select_taps(detector, configuration.taps)
    device = next(detector.parameters()).device
    if configuration.lambda_ == 0:
        add_attention(detector, configuration, generator)
        return AttendedModel(detector, taps).to(device)
    if oracle is None:
        raise InputError(f"key 'oracle': {configuration.oracle!r} isn't at hand: pre-train it, or give the file of one")
    oracle.to(device)
    pairs = tap_pairs(detector, oracle, configuration)
    standardised = configuration.normalize != "none"
    if standardised and statistics is None:
        raise InputError("target statistics are missing: take them of the training images, or give normalize 'none'")
    regularizer = Regularizer(
        pairs, statistics.matching(pairs) if standardised and statistics is not None else None, configuration
    )
    add_attention(detector, configuration, generator)
    inside = configuration.attention == "spatial" and configuration.site == "regularizer"
    return RegularizedModel(
        detector,
        taps,
        oracle=oracle.quickened(detector.configuration.input.network, configuration.oracle_scale),
        oracle_scale=configuration.oracle_scale,
        regularizer=regularizer,
        gates=[SpatialAttention(configuration.gate, generator) for _ in taps.used if inside],
        weight=_weight(configuration, total_steps),
        learning_rate=_learning_rate(configuration, detector),
    ).to(device)


def inference_model(detector: Detector, configuration: MethodConfiguration) -> Detector:
    """A fresh detector with what the method leaves in it, ready for the state dict of a trained model's `inference_model()`.

    The attention's weights are placeholders until a state dict is loaded, strictly. Without attention in the stream the detector is
    given back as it is.
    """
    if not isinstance(configuration, BaselineConfiguration):
        add_attention(detector, configuration, torch.Generator().manual_seed(0))
    return detector


def add_attention(detector: Detector, configuration: RegularizedConfiguration, generator: torch.Generator) -> None:
    """Put attention into the detector's stream, if the configuration has it there."""
    if configuration.attends_in_stream:
        taps = select_taps(detector, configuration.taps)
        add_stream_attention(detector, taps.used, gate=configuration.gate, generator=generator)


def without_method(detector: Detector) -> Detector | None:
    """The same network, weights included, without what a method left in it; None where it left nothing.

    The global random generators stay as they were.
    """
    if not attention_modules(detector):
        return None
    with torch.random.fork_rng(devices=[]):
        plain = type(detector)(detector.meta, detector.form)
    weights = detector.state_dict()
    plain.load_state_dict({name: weights[name] for name in plain.state_dict()})
    return plain.train(detector.training)


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
