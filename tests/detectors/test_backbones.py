from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest
import torch

from detectors.backbone_sources import BACKBONES
from detectors.backbones import backbone_taps, build_backbone, whole_network
from detectors.upstream.isolation import Isolation, bare_package, stand_in
from harness.errors import InputError
from tests.checkouts import checkout_of

CHANNELS = {
    "resnet18": (64, 128, 256, 512),
    "resnet34": (64, 128, 256, 512),
    "resnet50": (256, 512, 1024, 2048),
    "resnet101": (256, 512, 1024, 2048),
    "efficientnet_b0": (24, 40, 112, 320),
    "efficientnet_b1": (24, 40, 112, 320),
    "dla34": (64, 128, 256, 512),
    "convnext_tiny": (96, 192, 384, 768),
    "resnet_micro": (16, 32, 64, 128),
    "resnet_micro_2x": (32, 64, 128, 256),
    "resnet_micro_4x": (64, 128, 256, 512),
    "resnet18s": (16, 32, 64, 128),
    "resnet18s_1x": (16, 32, 64, 128),
    "resnet18s_2x": (32, 64, 128, 256),
}

STAGES = {
    "dla34": ("level2", "level3", "level4", "level5"),
    "efficientnet_b0": ("blocks.1", "blocks.2", "blocks.4", "blocks.6"),
    "efficientnet_b1": ("blocks.1", "blocks.2", "blocks.4", "blocks.6"),
    "convnext_tiny": ("stages.0", "stages.1", "stages.2", "stages.3"),
}
"""Names of the stages where they aren't those of a ResNet."""


def stages_of(name: str) -> tuple[str, ...]:
    return STAGES.get(name, ("layer1", "layer2", "layer3", "layer4"))


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_features_have_the_channels_and_strides_of_the_taps(name: str) -> None:
    with torch.device("meta"):  # shapes alone need neither weights nor sums
        backbone = build_backbone(name)
    taps = backbone_taps(backbone, "backbone")
    assert [(tap.path, tap.channels, tap.stride) for tap in taps] == [
        (f"backbone.{stage}", channels, 4 * 2**i)
        for i, (stage, channels) in enumerate(zip(stages_of(name), CHANNELS[name], strict=True))
    ]
    with torch.no_grad():
        features = backbone(torch.zeros(2, 3, 64, 96, device="meta"))
    assert [tuple(feature.shape) for feature in features] == [
        (2, tap.channels, 64 // tap.stride, 96 // tap.stride) for tap in taps
    ]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("resnet18", 11_689_512 - 513_000),
        ("resnet34", 21_797_672 - 513_000),
        ("resnet50", 25_557_032 - 2_049_000),
        ("resnet101", 44_549_160 - 2_049_000),
        ("efficientnet_b0", 5_288_548 - 1_281_000),
        ("efficientnet_b1", 7_794_184 - 1_281_000),
        ("dla34", 15_742_104 - 513_000),
        ("convnext_tiny", 28_589_128 - 769_000 - 1_536),
    ],
)
def test_published_backbones_have_the_published_size(name: str, parameters: int) -> None:
    # Less the classifier and the norm before it. torchvision states these counts, for dla34 Yu et al. and timm 15.7 M.
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in build_backbone(name).parameters()) == parameters


def test_reduced_backbones_have_a_plain_stem_as_wide_as_their_first_stage() -> None:
    for name, width in (("resnet18s", 16), ("resnet18s_2x", 32)):
        stem = build_backbone(name).get_submodule("conv1")
        assert isinstance(stem, torch.nn.Conv2d)
        assert (stem.weight.shape, stem.stride, stem.padding, stem.bias) == ((width, 3, 7, 7), (2, 2), (3, 3), None)


def test_reduced_backbones_start_as_their_authors_leave_them() -> None:
    """LSTR's code leaves torch's start, which is uniform within 1 / sqrt(fan in); pytorch-auto-drive has He's normal of the fan out."""
    for name, start in (("resnet18s", "torch"), ("resnet18s_1x", "he"), ("resnet18s_2x", "he")):
        convolutions = [one for one in build_backbone(name).modules() if isinstance(one, torch.nn.Conv2d)]
        assert len(convolutions) > 15
        for one in convolutions:
            area = one.kernel_size[0] * one.kernel_size[1]
            expected = (
                (3 * one.in_channels * area) ** -0.5 if start == "torch" else (2 / (one.out_channels * area)) ** 0.5
            )
            spread = one.weight.std().item()
            assert spread == pytest.approx(expected, rel=4 / one.weight.numel() ** 0.5), (name, one)


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
        assert name.startswith(("convnext", "efficientnet")) or output.min() >= 0


@pytest.mark.parametrize("name", sorted(name for name, source in BACKBONES.items() if source.dilatable))
def test_dilated_stages_keep_the_output_stride_and_the_others_are_left_out(name: str) -> None:
    with torch.device("meta"):
        backbone = build_backbone(name, stages=3, output_stride=8)
    paths = stages_of(name)
    assert [(tap.path, tap.channels, tap.stride) for tap in backbone_taps(backbone, "b")] == [
        (f"b.{paths[0]}", CHANNELS[name][0], 4),
        (f"b.{paths[1]}", CHANNELS[name][1], 8),
        (f"b.{paths[2]}", CHANNELS[name][2], 8),
    ]
    with torch.no_grad():
        features = backbone(torch.zeros(2, 3, 64, 96, device="meta"))
    assert [tuple(feature.shape[2:]) for feature in features] == [(16, 24), (8, 12), (8, 12)]
    assert not any(key.startswith(paths[3]) for key in backbone.state_dict())


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


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("dla34", {"output_stride": 8}, "'dla34' can't keep an output stride of 8.*take one of resnet18"),
        ("resnet18", {"output_stride": 4}, "'resnet18' with an output stride of 4: give 8, 16 or 32"),
        ("resnet18", {"stages": 5}, "'resnet18' with 5 stages: give 1 to 4"),
        ("convnext_tiny", {"stages": 0}, "'convnext_tiny' with 0 stages: give 1 to 4"),
    ],
)
def test_what_a_network_cannot_do_is_refused(name: str, options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        build_backbone(name, **options)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", sorted(name for name, source in BACKBONES.items() if source.imagenet is not None))
def test_a_backbone_has_the_names_and_shapes_of_published_weights(name: str) -> None:
    whole = {key: value.shape for key, value in whole_network(name).state_dict().items()}
    with torch.device("meta"):
        ours = {key: value.shape for key, value in build_backbone(name).state_dict().items()}
    assert ours.items() <= whole.items()
    assert not whole.keys() & BACKBONES[name].unused


@pytest.mark.slow
def test_dla34_is_the_network_of_the_checkout_bit_for_bit() -> None:
    ours = build_backbone("dla34").eval()
    images = torch.randn(1, 3, 64, 96)
    for repository, packages, file in (
        ("CLRNet", "clrnet.models.backbones", "dla34"),
        ("CLRerNet", "libs.models.backbones", "dla"),
    ):
        checkout = checkout_of(repository)
        with Isolation(checkout, stand_ins=upstream_packages(checkout, packages)):
            build = importlib.import_module(f"{packages}.{file}").dla34
            theirs = build(pretrained=False, levels=[1, 1, 1, 2, 2, 1], in_channels=[16, 32, 64, 128, 256, 512]).eval()
        weights = theirs.state_dict()
        dead = weights.keys() & BACKBONES["dla34"].unused
        assert dead == (BACKBONES["dla34"].unused if repository == "CLRNet" else set())
        ours.load_state_dict({name: value for name, value in weights.items() if name not in dead}, strict=True)
        with torch.no_grad():
            for feature, expected in zip(ours(images), theirs(images), strict=True):
                assert torch.equal(feature, expected)


def upstream_packages(checkout: Path, dotted: str) -> list[ModuleType]:
    """The checkout's packages down to `dotted` without what they import, and registries that register nothing."""
    register = type("Registry", (), {"register_module": lambda self, module=None: module or (lambda made: made)})()
    parts = dotted.split(".")
    names = [".".join(parts[: count + 1]) for count in range(len(parts))]
    packages = [bare_package(name, checkout / name.replace(".", "/")) for name in names]
    registry = [stand_in("clrnet.models.registry", BACKBONES=register)]
    registry = (
        registry if dotted.startswith("clrnet") else [stand_in("mmdet"), stand_in("mmdet.registry", MODELS=register)]
    )
    return packages + registry
