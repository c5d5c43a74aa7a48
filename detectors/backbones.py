"""Backbones: timm's networks as feature extractors, with the taps that methods attach to.

A backbone is a name in `BACKBONES`, which is data: a timm model and the options it is built with. Small ones are timm's own classes
with other numbers, so that they run the same code as the published ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from detectors.base import Tap
from harness.errors import InputError, did_you_mean
from harness.torchvision_guard import ensure_torchvision


@dataclass(frozen=True)
class BackboneSource:
    """A timm model, the options it is created with, and the indices of its features at strides 4, 8, 16 and 32 (undilated)."""

    model: str
    options: dict[str, Any] = field(default_factory=dict)
    indices: tuple[int, ...] = (1, 2, 3, 4)


BACKBONES: dict[str, BackboneSource] = {
    "resnet18": BackboneSource("resnet18"),
    "resnet34": BackboneSource("resnet34"),
    # timm's plain stem is 64 channels wide whatever the stages are, its deep one twice `stem_width`: 16 here, like the first stage.
    "resnet_micro": BackboneSource(
        "resnet18", {"layers": (1, 1, 1, 1), "channels": (16, 32, 64, 128), "stem_type": "deep_tiered", "stem_width": 8}
    ),
}
"""Backbone name -> how it is built."""


def build_backbone(name: str, *, weights: str = "none", stages: int = 4, output_stride: int = 32) -> nn.Module:
    """A network that maps normalised images (B, 3, H, W) to the list of its features at strides 4, 8, 16 and 32.

    `stages` is the number of stages that it has, the others are never built. Stages beyond `output_stride` (8, 16 or 32) keep that
    stride, and their 3x3 convolutions are dilated instead.

    `weights` is `none`: drawn from torch's global generator; nothing is ever downloaded. Each stage is a module that is called once a
    forward and whose output isn't changed in place afterwards. Raises InputError for a name or weights that there aren't.
    """
    if name not in BACKBONES:
        raise InputError(f"unknown backbone {name!r}: {did_you_mean(name, list(BACKBONES))}")
    if weights != "none":
        raise InputError(f"unknown backbone weights {weights!r}: give 'none', which is a random initialisation")
    ensure_torchvision()
    import timm

    source = BACKBONES[name]
    network: nn.Module = timm.create_model(
        source.model,
        pretrained=False,
        features_only=True,
        out_indices=source.indices[:stages],
        output_stride=output_stride,
        **source.options,
    )
    return network


def backbone_taps(backbone: nn.Module, path: str) -> tuple[Tap, ...]:
    """The stages of what `build_backbone` gave, in order, as taps of a detector that holds it as the submodule `path`."""
    information: Any = backbone.feature_info
    stages = zip(information.module_name(), information.channels(), information.reduction(), strict=True)
    return tuple(Tap(f"{path}.{name}", channels, stride) for name, channels, stride in stages)
