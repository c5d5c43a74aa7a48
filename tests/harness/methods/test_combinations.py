"""Every allowed combination of options: what L_MI's gradient reaches once the projection isn't zero. And MIRO's own loss."""

from __future__ import annotations

import itertools
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.errors import InputError
from harness.methods.attach import attach
from harness.methods.attention import attention_modules
from harness.methods.config import RegularizedConfiguration, method_configuration
from harness.methods.pairing import tap_pairs
from harness.methods.samiro import RegularizedModel
from harness.methods.statistics import target_statistics

ATTENTIONS: list[dict[str, str]] = [
    {"attention": "none", "mi_attention": "off"},
    *(
        {"attention": "spatial", "site": site, "mi_attention": use, "gate": gate}
        for site, use, gate in itertools.product(
            ("stream", "regularizer"), ("gate", "weight", "off"), ("2sigmoid", "cbam")
        )
    ),
]

REST: list[dict[str, str]] = [
    {"variance": variance, "oracle_attention": oracle}
    for variance, oracle in itertools.product(("unit", "miro", "fixed"), ("none", "fixed"))
]


def allowed(options: dict[str, Any]) -> RegularizedConfiguration | None:
    """The configuration, None where the combination is refused."""
    try:
        configuration = method_configuration("samiro", {"oracle": "o", "taps": ["stages.0", "stages.1"], **options})
    except InputError:
        return None
    assert isinstance(configuration, RegularizedConfiguration)
    return configuration


def model_of(toy: ModuleType, configuration: RegularizedConfiguration) -> RegularizedModel:
    """A toy detector in a method, with an oracle of as many channels; projection and variance are drawn."""
    detector, oracle = toy.detector(), toy.oracle(channels=(8, 12))
    pairs = tap_pairs(detector, oracle, configuration)
    statistics = target_statistics(oracle, pairs, configuration, [toy.batch(1).images])
    generator = torch.Generator().manual_seed(7)
    model = attach(detector, configuration, oracle=oracle, statistics=statistics, generator=generator)
    assert isinstance(model, RegularizedModel)
    with torch.no_grad():
        for name, parameter in model.regularizer.named_parameters():
            scale = 0.5 if "projection" in name else 0.1
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return model


def norm(gradient: Tensor | None) -> float:
    return 0.0 if gradient is None else float(gradient.norm())


def check(toy: ModuleType, configuration: RegularizedConfiguration) -> None:
    """What each tap's term reaches: its own projection, variance, stage and, for `gate` alone, its own attention."""
    model = model_of(toy, configuration)
    evidence = model.evidence(toy.batch())
    gates = [*attention_modules(model.detector)] or list(model.gates)
    assert bool(gates) == (configuration.attention == "spatial")
    for place, (terms, pair) in enumerate(zip(evidence.terms, model.regularizer.pairs, strict=True)):
        own = dict(pair.named_parameters())
        assert ("projection.weight" in own) == (configuration.projection == "conv1x1")
        assert ("raw_variance" in own) == (configuration.variance != "fixed")
        stage = model.detector.stages[place].convolution.weight
        sought = {**own, "stage": stage, "tap": evidence.outputs[place]}
        found = torch.autograd.grad(terms.loss, list(sought.values()), retain_graph=True, allow_unused=True)
        reached = {name: norm(gradient) for name, gradient in zip(sought, found, strict=True)}
        assert all(value > 1e-7 for value in reached.values()), (configuration, reached)
        if gates:
            weight = gates[place].convolution.weight
            (gradient,) = torch.autograd.grad(terms.loss, [weight], retain_graph=True, allow_unused=True)
            assert (norm(gradient) > 1e-7) == (configuration.mi_attention == "gate"), configuration


@pytest.mark.parametrize(("normalize", "projection"), [("channel_layernorm", "conv1x1"), ("none", "identity")])
def test_gradients_reach_everything_with_every_use_of_attention(
    toy: ModuleType, normalize: str, projection: str
) -> None:
    configurations = [allowed({"normalize": normalize, "projection": projection, **one}) for one in ATTENTIONS]
    kept = [one for one in configurations if one is not None]
    # In the stream used in three ways and in the regularizer in one, with two gates each; and none.
    assert len(kept) == 3 * 2 + 2 + 1
    for configuration in kept:
        check(toy, configuration)


@pytest.mark.slow
@pytest.mark.parametrize("projection", ["conv1x1", "identity"])
@pytest.mark.parametrize("normalize", ["channel_layernorm", "l2", "batch_standardize", "none"])
def test_gradients_reach_everything_in_every_combination(toy: ModuleType, normalize: str, projection: str) -> None:
    for one, rest in itertools.product(ATTENTIONS, REST):
        configuration = allowed({"normalize": normalize, "projection": projection, **one, **rest})
        if configuration is not None:
            check(toy, configuration)


@pytest.mark.parametrize("rest", REST, ids=str)
def test_gradients_reach_everything_with_every_variance_and_target(toy: ModuleType, rest: dict[str, str]) -> None:
    configuration = allowed(rest)
    assert configuration is not None
    check(toy, configuration)


def test_miros_published_loss_is_reproduced_over_layers(toy: ModuleType) -> None:
    # Cha et al., ECCV 2022, equation 4 with a diagonal covariance that doesn't depend on the input, as section 3.3 has it: a sum over
    # layers of 1/2 mean(log var + (f0 - mean)^2 / var), var = softplus(b) + eps. The mean is the student's own feature.
    configuration = method_configuration(
        "miro", {"oracle": "o", "projection": "identity", "taps": ["stages.0", "stages.1"], "lambda": 0.25}
    )
    assert isinstance(configuration, RegularizedConfiguration)
    model = model_of(toy, configuration)
    batch = toy.batch(3)
    evidence = model.evidence(batch)
    targets = model.oracle(batch.images)
    expected = torch.zeros((), dtype=torch.float64)
    for student, target, pair in zip(evidence.outputs, targets, model.regularizer.pairs, strict=True):
        # The toy's cells lie 1.5 and 3.5 px before the oracle's; both meet on the student's.
        aligned = pair.oracle_resampler(target).double()
        b = pair.raw_variance.detach().double().view(1, -1, 1, 1)
        variance = torch.log1p(torch.exp(b)) + 1e-5
        gaps = (student.detach().double() - aligned) ** 2
        expected += (gaps / variance + torch.log(variance)).mean() / 2
    assert evidence.mutual_information.item() == pytest.approx(expected.item(), rel=1e-5)
    losses = model(batch)
    assert losses["mutual_information"].item() == pytest.approx(0.25 * expected.item(), rel=1e-4)
