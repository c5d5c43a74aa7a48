from __future__ import annotations

import pytest
import torch

from detectors.backbones import BACKBONES, backbone_taps, build_backbone
from harness.errors import InputError

CHANNELS = {
    "resnet18": (64, 128, 256, 512),
    "resnet34": (64, 128, 256, 512),
    "resnet_micro": (16, 32, 64, 128),
    "resnet18s": (16, 32, 64, 128),
    "resnet18s_2x": (32, 64, 128, 256),
}


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_features_have_the_channels_and_strides_of_the_taps(name: str) -> None:
    backbone = build_backbone(name)
    taps = backbone_taps(backbone, "backbone")
    assert [(tap.path, tap.channels, tap.stride) for tap in taps] == [
        (f"backbone.layer{i + 1}", channels, 4 * 2**i) for i, channels in enumerate(CHANNELS[name])
    ]
    with torch.no_grad():
        features = backbone(torch.zeros(2, 3, 64, 96))
    assert [tuple(feature.shape) for feature in features] == [
        (2, tap.channels, 64 // tap.stride, 96 // tap.stride) for tap in taps
    ]


@pytest.mark.parametrize(("name", "parameters"), [("resnet18", 11_176_512), ("resnet34", 21_284_672)])
def test_published_backbones_have_the_published_size(name: str, parameters: int) -> None:
    # torchvision's resnet18 and resnet34 (11,689,512 and 21,797,672) without their classifier (513,000).
    assert sum(parameter.numel() for parameter in build_backbone(name).parameters()) == parameters


def test_reduced_backbones_have_a_plain_stem_as_wide_as_their_first_stage() -> None:
    for name, width in (("resnet18s", 16), ("resnet18s_2x", 32)):
        stem = build_backbone(name).get_submodule("conv1")
        assert isinstance(stem, torch.nn.Conv2d)
        assert (stem.weight.shape, stem.stride, stem.padding, stem.bias) == ((width, 3, 7, 7), (2, 2), (3, 3), None)


def test_a_frozen_stem_neither_learns_nor_follows_the_data() -> None:
    frozen, learning = build_backbone("resnet18s").train(), build_backbone("resnet18s_2x").train()
    for backbone, changes in ((frozen, False), (learning, True)):
        norm = backbone.get_submodule("bn1")
        before = norm.running_mean.clone()
        backbone(torch.randn(2, 3, 64, 64) + 1)
        assert bool(list(norm.parameters())) == changes
        assert torch.equal(norm.running_mean, before) != changes


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_stages_run_once_and_what_they_return_stays_as_it_was(name: str) -> None:
    backbone = build_backbone(name).train()
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    for tap in backbone_taps(backbone, "backbone"):
        stage = backbone.get_submodule(tap.path.removeprefix("backbone."))
        stage.register_forward_hook(lambda module, inputs, output: seen.append((output, output.detach().clone())))
    features = backbone(torch.randn(2, 3, 64, 64))
    assert len(seen) == len(features) == 4
    for (output, then), feature in zip(seen, features, strict=True):
        assert output is feature
        assert torch.equal(output, then)
        assert output.min() >= 0


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_dilated_stages_keep_the_output_stride_and_left_out_ones_are_not_built(name: str) -> None:
    backbone = build_backbone(name, stages=3, output_stride=8)
    assert [(tap.path, tap.channels, tap.stride) for tap in backbone_taps(backbone, "b")] == [
        ("b.layer1", CHANNELS[name][0], 4),
        ("b.layer2", CHANNELS[name][1], 8),
        ("b.layer3", CHANNELS[name][2], 8),
    ]
    with torch.no_grad():
        features = backbone(torch.zeros(2, 3, 64, 96))
    assert [tuple(feature.shape[2:]) for feature in features] == [(16, 24), (8, 12), (8, 12)]
    assert not any(key.startswith("layer4") for key in backbone.state_dict())


def test_a_stages_replaced_output_is_what_the_next_stage_gets() -> None:
    backbone = build_backbone("resnet_micro").eval()
    images = torch.randn(1, 3, 64, 64)
    plain = backbone(images)
    handle = backbone.get_submodule("layer2").register_forward_hook(lambda module, inputs, output: output * 0)
    changed = backbone(images)
    handle.remove()
    assert torch.equal(changed[0], plain[0])
    assert not changed[1].any()
    assert not torch.equal(changed[3], plain[3])


def test_weights_come_from_the_global_generator() -> None:
    def weights() -> torch.Tensor:
        torch.manual_seed(5)
        return torch.cat([parameter.flatten() for parameter in build_backbone("resnet_micro").parameters()])

    assert torch.equal(weights(), weights())


def test_unknown_names_are_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'resnet18'"):
        build_backbone("resnet19")
