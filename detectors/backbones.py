"""Backbones: timm's networks as feature extractors, with the taps that methods attach to.

A backbone is a name in `detectors.backbone_sources.BACKBONES`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from detectors.backbone_sources import BACKBONES, BackboneSource
from detectors.base import Tap
from detectors.parts.efficientnet import EfficientStages
from harness.errors import InputError, did_you_mean
from harness.pytorch.torchvision_guard import ensure_torchvision

STAGES = 4
"""Stages of every backbone, of strides 4, 8, 16 and 32 where they aren't dilated."""


class ListedStages(nn.Module):
    """The features of a timm network that has a `stem` and a list of `stages`, under the names that it has in that network."""

    def __init__(self, network: nn.Module, stages: Sequence[int]) -> None:
        super().__init__()
        from timm.models import FeatureInfo

        whole: Any = network
        self.feature_info = FeatureInfo(whole.feature_info, tuple(stages))
        self.stem = whole.stem
        self.stages = whole.stages[: len(stages)]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Normalised images (B, 3, H, W) -> the stages' outputs."""
        feature = self.stem(images)
        features = []
        for stage in self.stages:
            feature = stage(feature)
            features.append(feature)
        return features


def build_backbone(name: str, *, stages: int = 4, output_stride: int = 32) -> nn.Module:
    """A network that maps normalised images (B, 3, H, W) to the list of its features at strides 4, 8, 16 and 32.

    `stages` is the number of stages that it has, the others are left out. Stages beyond `output_stride` (8, 16 or 32) keep that
    stride, and their convolutions are dilated instead.

    Its weights are drawn from torch's global generator: `detectors.pretrained` gives them another start. Each stage is a module that is
    called once a forward and whose output isn't changed in place afterwards. Raises InputError for a name that there isn't, a number
    of stages or a stride that no backbone has, and a stride that this one can't keep.
    """
    if name not in BACKBONES:
        raise InputError(f"unknown backbone {name!r}: {did_you_mean(name, list(BACKBONES))}")
    source = BACKBONES[name]
    _refuse_impossible(name, source, stages, output_stride)
    ensure_torchvision()
    import timm

    indices = source.indices[:stages]
    options = {**source.options, "pretrained": False, "output_stride": output_stride}
    if source.listed_stages:
        return ListedStages(timm.create_model(source.model, **options), indices)
    if source.efficient:
        return EfficientStages(timm.create_model(source.model, **options), indices, all_stages=STAGES)
    network: nn.Module = timm.create_model(source.model, features_only=True, out_indices=indices, **options)
    if source.plain_stem is not None:
        network.conv1 = nn.Conv2d(3, source.plain_stem, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    if source.torch_start:
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.reset_parameters()
    if source.frozen_stem:
        layers: Any = timm.layers
        network.bn1 = layers.freeze_batch_norm_2d(network.bn1)
    return network


def _refuse_impossible(name: str, source: BackboneSource, stages: int, output_stride: int) -> None:
    if not 1 <= stages <= STAGES:
        raise InputError(f"backbone {name!r} with {stages} stages: give 1 to {STAGES}")
    if output_stride not in (8, 16, 32):
        raise InputError(f"backbone {name!r} with an output stride of {output_stride}: give 8, 16 or 32")
    if output_stride < 32 and not source.dilatable:
        able = ", ".join(other for other, known in BACKBONES.items() if known.dilatable)
        raise InputError(
            f"backbone {name!r} can't keep an output stride of {output_stride}, for its stages can't be dilated: take one of {able}"
        )


def whole_network(name: str) -> nn.Module:
    """The timm network that a backbone is a part of, classifier included, without memory for its weights: names and shapes."""
    ensure_torchvision()
    import timm

    with torch.device("meta"):
        network: nn.Module = timm.create_model(BACKBONES[name].model, pretrained=False, **BACKBONES[name].options)
    return network


def backbone_taps(backbone: nn.Module, path: str) -> tuple[Tap, ...]:
    """The stages of what `build_backbone` gave, in order, as taps of a detector that holds it as the submodule `path`."""
    information: Any = backbone.feature_info
    stages = zip(information.module_name(), information.channels(), information.reduction(), strict=True)
    return tuple(Tap(f"{path}.{name}", channels, stride) for name, channels, stride in stages)
