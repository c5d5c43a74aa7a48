"""Backbones: timm's networks as feature extractors, with the taps that methods attach to.

A backbone is a name in `BACKBONES`, which is data: a timm model and the options it is built with. Small ones are timm's own classes
with other numbers, so that they run the same code as the published ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from detectors.base import Tap
from harness.errors import InputError, did_you_mean
from harness.torchvision_guard import ensure_torchvision


@dataclass(frozen=True)
class BackboneSource:
    """A timm model, the options it is created with, and the indices of its features at strides 4, 8, 16 and 32 (undilated).

    plain_stem: channels of the single 7x7 convolution of stride 2 that takes the place of timm's stem, None to keep that.
    frozen_stem: whether the normalisation after the stem is fixed, its statistics and its scale. imagenet: what `weights: imagenet`
    stands for, as timm calls it, None where nobody published such weights.
    """

    model: str
    options: dict[str, Any] = field(default_factory=dict)
    indices: tuple[int, ...] = (1, 2, 3, 4)
    plain_stem: int | None = None
    frozen_stem: bool = False
    imagenet: str | None = None


def reduced_resnet18(expansion: int, *, frozen_stem: bool = False) -> BackboneSource:
    """LSTR's ResNet: 16, 32, 64 and 128 channels times `expansion`, one block in the first stage, a plain stem as wide as that.

    Source: liuruijin17/LSTR, config/LSTR.json and models/py_utils/kp.py (whose first normalisation is frozen);
    voldemortX/pytorch-auto-drive, utils/models/resnet.py (`resnet18_reduced`, whose isn't). Stems that are narrower than 64 channels
    timm knows as deep ones only, so the network is made with one of those, which is then replaced.
    """
    stem = 16 * expansion
    options = {
        "layers": (1, 2, 2, 2),
        "channels": tuple(stem * 2**stage for stage in range(4)),
        "stem_type": "deep",
        "stem_width": stem // 2,
        "zero_init_last": False,
    }
    return BackboneSource("resnet18", options, plain_stem=stem, frozen_stem=frozen_stem)


BACKBONES: dict[str, BackboneSource] = {
    # timm's copies of torchvision's IMAGENET1K_V1, which is what upstream recipes get by `pretrained=True`: UFLDv2's model/backbone.py,
    # pytorch-auto-drive's utils/models/resnet.py.
    "resnet18": BackboneSource("resnet18", imagenet="resnet18.tv_in1k"),
    "resnet34": BackboneSource("resnet34", imagenet="resnet34.tv_in1k"),
    # timm's plain stem is 64 channels wide whatever the stages are, its deep one twice `stem_width`: 16 here, like the first stage.
    "resnet_micro": BackboneSource(
        "resnet18", {"layers": (1, 1, 1, 1), "channels": (16, 32, 64, 128), "stem_type": "deep_tiered", "stem_width": 8}
    ),
    "resnet18s": reduced_resnet18(1, frozen_stem=True),
    "resnet18s_2x": reduced_resnet18(2),
}
"""Backbone name -> how it is built."""


def build_backbone(name: str, *, stages: int = 4, output_stride: int = 32) -> nn.Module:
    """A network that maps normalised images (B, 3, H, W) to the list of its features at strides 4, 8, 16 and 32.

    `stages` is the number of stages that it has, the others are never built. Stages beyond `output_stride` (8, 16 or 32) keep that
    stride, and their 3x3 convolutions are dilated instead.

    Its weights are drawn from torch's global generator: `detectors.pretrained` gives them another start. Each stage is a module that is
    called once a forward and whose output isn't changed in place afterwards. Raises InputError for a name that there isn't.
    """
    if name not in BACKBONES:
        raise InputError(f"unknown backbone {name!r}: {did_you_mean(name, list(BACKBONES))}")
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
    if source.plain_stem is not None:
        network.conv1 = nn.Conv2d(3, source.plain_stem, 7, stride=2, padding=3, bias=False)
    if source.frozen_stem:
        layers: Any = timm.layers
        network.bn1 = layers.freeze_batch_norm_2d(network.bn1)
    return network


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
