from __future__ import annotations

import copy
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load, save

from harness.errors import InputError
from harness.methods.attach import attach, inference_model
from harness.methods.base import TrainingModel
from harness.methods.config import method_configuration
from harness.methods.pairing import tap_pairs
from harness.methods.statistics import target_statistics
from harness.methods.taps import tap_grids

Attached = Callable[..., Any]

CONTROLS: list[dict[str, Any]] = [
    {"kind": "baseline"},
    {"kind": "attention_only"},
    {"kind": "samiro", "oracle": "o"},
    {"kind": "samiro", "oracle": "o", "site": "regularizer"},
    {"kind": "samiro", "oracle": "o", "mi_attention": "weight"},
    {"kind": "samiro", "oracle": "o", "gate": "cbam"},
    {"kind": "miro", "oracle": "o"},
    {"kind": "feature_distillation", "oracle": "o"},
]


def build(attached: Attached, options: dict[str, Any], **others: Any) -> TrainingModel:
    options = dict(options)
    model: TrainingModel = attached(options.pop("kind"), **others, **options)
    return model


def total(losses: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.stack(list(losses.values())).sum()


def test_the_baseline_is_bit_equal_to_the_detector_without_hooks(toy: ModuleType, attached: Attached) -> None:
    alone, batch = toy.detector(), toy.batch()
    model = attached("baseline")
    expected = alone.losses(alone(batch.images), batch)
    found = model(batch)
    assert {name: value.item() for name, value in found.items()} == {n: v.item() for n, v in expected.items()}
    total(expected).backward()
    total(found).backward()
    for one, other in zip(alone.parameters(), model.detector.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("options", CONTROLS, ids=str)
def test_every_method_starts_from_the_same_detector_and_draws_nothing_global(
    toy: ModuleType, attached: Attached, options: dict[str, Any]
) -> None:
    detector, reference = toy.detector(), toy.detector()
    before = torch.get_rng_state()
    model = build(attached, options, detector=detector)
    assert torch.equal(torch.get_rng_state(), before)
    state = model.detector.state_dict()
    for name, value in reference.state_dict().items():
        assert torch.equal(state[name], value), name
    own = next(group for group in model.parameter_groups() if group.name == "detector")
    names = [name for name, _ in reference.named_parameters()]
    assert [id(p) for p in own.parameters] == [id(model.detector.get_parameter(name)) for name in names]


@pytest.mark.parametrize("layout", ["nchw", "nhwc", "tokens"])
def test_samiros_first_forward_is_bit_equal_to_the_baselines(toy: ModuleType, attached: Attached, layout: str) -> None:
    batch = toy.batch()
    baseline = attached("baseline", detector=toy.detector(layout=layout))(batch)
    samiro = build(attached, {"kind": "samiro", "oracle": "o"}, detector=toy.detector(layout=layout))
    found = samiro(batch)
    for name, value in baseline.items():
        assert found[name].item() == value.item()
    assert list(found) == [*baseline, "mutual_information"]


@pytest.mark.parametrize("options", CONTROLS, ids=str)
def test_every_trainable_parameter_is_in_exactly_one_group(attached: Attached, options: dict[str, Any]) -> None:
    model = build(attached, options)
    grouped = [id(parameter) for group in model.parameter_groups() for parameter in group.parameters]
    trainable = [id(parameter) for parameter in model.parameters() if parameter.requires_grad]
    assert sorted(grouped) == sorted(trainable)
    for group in model.parameter_groups():
        assert group.optimizer == ("adamw" if group.name == "regularizer" else "recipe")
        assert group.learning_rate == (3e-3 if group.name == "regularizer" else None)


def test_a_learning_rate_may_be_a_multiple_of_the_recipes(attached: Attached) -> None:
    model = build(attached, {"kind": "samiro", "oracle": "o", "learning_rate": None, "learning_rate_multiplier": 10})
    assert model.parameter_groups()[-1].learning_rate == pytest.approx(10 * 0.1)


@pytest.mark.parametrize("options", CONTROLS, ids=str)
def test_the_trained_state_loads_strictly_into_an_inference_model(
    toy: ModuleType, attached: Attached, options: dict[str, Any]
) -> None:
    model = build(attached, options)
    with torch.no_grad():
        for parameter in model.detector.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    deployed = model.inference_model().eval()
    kind = {name: value for name, value in options.items() if name != "kind"}
    fresh = inference_model(toy.detector(seed=5), method_configuration(options["kind"], kind)).eval()
    fresh.load_state_dict(load(save(deployed.state_dict())), strict=True)
    images = toy.batch().images
    assert torch.equal(fresh(images), deployed(images))
    plain = set(toy.detector().state_dict())
    left = {name for name in fresh.state_dict() if name not in plain}
    attends = options["kind"] in {"samiro", "attention_only"} and options.get("site") != "regularizer"
    assert left == ({f"spatial_attention.stages_{i}.convolution.weight" for i in range(3)} if attends else set())


@pytest.mark.parametrize("layout", ["nchw", "nhwc", "tokens"])
def test_attention_in_the_stream_multiplies_the_cells_of_any_layout_and_nothing_else(
    toy: ModuleType, layout: str
) -> None:
    detector = inference_model(toy.detector(layout=layout), method_configuration("attention_only", None)).eval()
    stage, weight = detector.stages[0], detector.spatial_attention["stages_0"].convolution.weight
    with torch.no_grad():
        weight.normal_(0, 0.1, generator=torch.Generator().manual_seed(1))
    seen: list[torch.Tensor] = []
    stage.register_forward_hook(lambda module, inputs, output: seen.append(output), prepend=True)
    stage.register_forward_hook(lambda module, inputs, output: seen.append(output))
    for deployed in (False, True):
        seen.clear()
        with torch.set_grad_enabled(not deployed):
            detector(toy.batch().images)
        before, after = seen
        plain = stage.plain(before, (8, 16))
        pooled = torch.stack([plain.mean(1), plain.amax(1)], 1)
        gates = 2 * torch.sigmoid(torch.nn.functional.conv2d(pooled, weight, padding=3))
        assert gates.std() > 0.05
        torch.testing.assert_close(stage.plain(after, (8, 16)), plain * gates)
        if layout == "tokens":
            assert torch.equal(after[:, 0], before[:, 0])


@pytest.mark.parametrize("site", ["stream", "regularizer"])
def test_a_cbam_gate_is_a_plain_sigmoid_of_drawn_weights_wherever_it_is(
    toy: ModuleType, attached: Attached, site: str
) -> None:
    model = build(attached, {"kind": "samiro", "oracle": "o", "gate": "cbam", "site": site})
    gates = model.gates if site == "regularizer" else list(model.detector.spatial_attention.values())
    assert [gate.amplitude for gate in gates] == [1.0] * 3
    weights = torch.stack([gate.convolution.weight.detach() for gate in gates])
    # torch's own start: uniform to 1 / sqrt of the 98 weights that a cell sees.
    assert float(weights.abs().max()) == pytest.approx(1 / 98**0.5, rel=0.03)
    assert float(weights.std()) == pytest.approx(1 / 98**0.5 / 3**0.5, rel=0.1)


def test_without_attention_in_the_stream_the_module_graph_is_the_detectors(toy: ModuleType) -> None:
    plain = toy.detector()
    for kind in ("baseline", "miro", "feature_distillation"):
        options = None if kind == "baseline" else {"oracle": "o"}
        left = inference_model(toy.detector(), method_configuration(kind, options))
        assert str(left) == str(plain)
        assert not any(module._forward_hooks for module in left.modules())


@pytest.mark.parametrize("options", CONTROLS, ids=str)
def test_a_deep_copy_is_independent_and_whole(toy: ModuleType, attached: Attached, options: dict[str, Any]) -> None:
    model, batch = build(attached, options), toy.batch()
    total(model(batch)).backward()
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # What reaches the loss at the start, before P has left zero.
            if "projection.bias" in name or "spatial_attention" in name or name.endswith("head.bias"):
                parameter.add_(1.0)
    assert total(twin(batch)).item() != total(model(batch)).item()
    untouched = build(attached, options)
    untouched.load_state_dict(twin.state_dict())
    assert total(twin(batch)).item() == total(untouched(batch)).item()


def test_a_copied_detectors_attention_is_its_own(toy: ModuleType) -> None:
    first = inference_model(toy.detector(), method_configuration("attention_only", None)).eval()
    copied = copy.deepcopy(first)
    images = toy.batch().images
    before = copied(images)
    with torch.no_grad():
        for parameter in first.spatial_attention.parameters():
            parameter.fill_(0.3)
    assert torch.equal(copied(images), before)
    assert not torch.equal(first(images), before)
    with torch.no_grad():
        for parameter in copied.spatial_attention.parameters():
            parameter.fill_(0.3)
    assert torch.equal(copied(images), first(images))


def test_the_oracle_stays_out_of_checkpoints_and_in_eval_mode(toy: ModuleType, attached: Attached) -> None:
    model = build(attached, {"kind": "samiro", "oracle": "o"})
    model.train()
    assert not model.oracle.training
    assert not any("oracle." in name for name in model.state_dict())
    other = build(attached, {"kind": "samiro", "oracle": "o"}, detector=toy.detector(seed=3))
    other.load_state_dict(model.state_dict(), strict=True)
    assert total(other(toy.batch())).item() == total(model(toy.batch())).item()
    missing = {name: value for name, value in model.state_dict().items() if "projection" not in name}
    with pytest.raises(RuntimeError, match="projection"):
        other.load_state_dict(missing, strict=True)


def test_captures_are_gone_after_a_forward_and_the_detector_works_alone(toy: ModuleType, attached: Attached) -> None:
    model = build(attached, {"kind": "samiro", "oracle": "o"})
    model(toy.batch())
    assert all(reader.value is None for reader in [*model.readers, *model.gate_readers])
    model.detector(toy.batch().images)
    assert all(reader.value is None for reader in [*model.readers, *model.gate_readers])


def test_frozen_stages_are_skipped_unless_they_are_named(toy: ModuleType, attached: Attached) -> None:
    model = build(attached, {"kind": "samiro", "oracle": "o"}, detector=toy.detector(frozen=1))
    assert [tap.path for tap in model.taps.used] == ["stages.1", "stages.2"]
    assert [tap.path for tap in model.taps.skipped] == ["stages.0"]
    assert model.diagnostics()["taps/skipped"] == 1
    with pytest.raises(InputError, match=r"'stages\.0' of 'toy' is frozen"):
        build(attached, {"kind": "samiro", "oracle": "o", "taps": ["stages.0"]}, detector=toy.detector(frozen=1))


def test_only_named_taps_are_used(toy: ModuleType, attached: Attached) -> None:
    model = build(attached, {"kind": "samiro", "oracle": "o", "taps": ["stages.2", "stages.1"]})
    assert [tap.path for tap in model.taps.used] == ["stages.1", "stages.2"]
    assert len(model.detector.spatial_attention) == 2


@pytest.mark.parametrize(
    ("detector", "options", "complaint"),
    [
        ({"calls": 2}, {}, "fired twice"),
        ({"path": "stages.7"}, {}, "stages.7"),
        ({"stated": 1}, {}, "states 9 channels"),
        ({"path": "unused"}, {}, "unused"),
        ({}, {"taps": ["stages.9"]}, "has no tap 'stages.9'"),
        ({}, {"pair": "depth"}, "3 taps of the detector and 2 of the oracle"),
        ({}, {"pair": "depth", "taps": ["stages.2"]}, "1 taps of the detector and 2 of the oracle"),
        ({}, {"projection": "identity"}, "'identity' needs equal channels"),
        ({}, {"oracle_scale": 0.3}, "whole number of pixels"),
        ({}, {"lambda_mode": "ratio"}, "total_steps"),
    ],
)
def test_parts_that_do_not_fit_are_refused_in_one_line(
    toy: ModuleType, attached: Attached, detector: dict[str, Any], options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(InputError) as caught:
        build(attached, {"kind": "samiro", "oracle": "o", **options}, detector=toy.detector(**detector))
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_tap_that_never_fires_is_an_error(toy: ModuleType, attached: Attached) -> None:
    detector = toy.detector(path="head2")
    detector.head2 = torch.nn.Conv2d(3, 8, 1)
    with pytest.raises(InputError, match="never fired"):
        build(attached, {"kind": "samiro", "oracle": "o"}, detector=detector)


class Twin(torch.nn.Module):
    """Gives what it is given twice."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x


def test_a_tap_is_a_tensor_and_something_before_it_trains_where_it_says_so(toy: ModuleType, attached: Attached) -> None:
    detector = toy.detector()
    detector.stages[0].requires_grad_(False)
    with pytest.raises(InputError, match=r"'stages\.0': states that it trains, but nothing upstream of it does"):
        build(attached, {"kind": "samiro", "oracle": "o"}, detector=detector)
    detector = toy.detector(path="twin")
    detector.twin = Twin()
    detector.stages[0].register_forward_hook(lambda module, inputs, output: detector.twin(output)[0])
    with pytest.raises(InputError, match=r"'twin': gives a tuple, not a tensor"):
        build(attached, {"kind": "samiro", "oracle": "o"}, detector=detector)


def test_a_detector_that_starts_to_call_a_stage_twice_is_caught_in_training(
    toy: ModuleType, attached: Attached
) -> None:
    model = build(attached, {"kind": "samiro", "oracle": "o"})
    model.detector.calls = 2
    with pytest.raises(InputError, match="fired twice"):
        model(toy.batch())
    model.detector.calls = 1
    assert torch.isfinite(total(model(toy.batch())))


def test_statistics_of_other_pairs_are_refused(toy: ModuleType) -> None:
    configuration = method_configuration("samiro", {"oracle": "o"})
    others = method_configuration("samiro", {"oracle": "o", "taps": ["stages.0", "stages.2"]})
    oracle = toy.oracle()
    statistics = target_statistics(oracle, tap_pairs(toy.detector(), oracle, others), others, [toy.batch().images])
    with pytest.raises(InputError, match="take them anew"):
        attach(
            toy.detector(),
            configuration,
            oracle=oracle,
            statistics=statistics,
            generator=torch.Generator().manual_seed(0),
        )


def test_diagnostics_tell_each_taps_loss_and_how_many_of_its_channels_were_dropped(
    toy: ModuleType, attached: Attached
) -> None:
    oracle = toy.oracle()
    with torch.no_grad():
        # Two channels of the first tap are zero throughout.
        oracle.backbone.first.weight[:2] = 0
        oracle.backbone.first.bias[:2] = 0
    model = attached("samiro", teacher=oracle, oracle="o", normalize="l2")
    model(toy.batch())
    found = model.diagnostics()
    assert [found[f"dropped/stages.{place}"] for place in range(3)] == [2, 0, 0]
    losses = [float(terms.loss) for terms in model.last]
    assert [found[f"loss/stages.{place}"] for place in range(3)] == losses
    assert all(loss > 0 for loss in losses)


def test_missing_oracle_or_statistics_are_refused(toy: ModuleType) -> None:
    configuration = method_configuration("samiro", {"oracle": "o"})
    generator = torch.Generator()
    with pytest.raises(InputError, match="isn't at hand"):
        attach(toy.detector(), configuration, oracle=None, statistics=None, generator=generator)
    with pytest.raises(InputError, match="target statistics are missing"):
        attach(toy.detector(), configuration, oracle=toy.oracle(), statistics=None, generator=generator)


def test_a_detector_takes_one_method_only(toy: ModuleType) -> None:
    configuration = method_configuration("attention_only", None)
    detector = inference_model(toy.detector(), configuration)
    with pytest.raises(InputError, match="fresh detector"):
        inference_model(detector, configuration)


def test_probing_taps_leaves_the_detector_as_it_was(toy: ModuleType, attached: Attached) -> None:
    detector = toy.detector()
    detector.stages[0].eval()
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    build(attached, {"kind": "miro", "oracle": "o"}, detector=detector)
    assert all(torch.equal(before[name], value) for name, value in detector.state_dict().items())
    assert detector.training
    assert not detector.stages[0].training
    assert detector.stages[0].normalization.num_batches_tracked == 0
    probed = toy.detector()
    tap_grids(probed, probed.taps())
    assert not any(module._forward_hooks for module in probed.modules())


def test_a_detector_without_a_training_stage_is_refused(toy: ModuleType) -> None:
    with pytest.raises(InputError, match="no tap trains"):
        inference_model(toy.detector(frozen=3), method_configuration("attention_only", None))
