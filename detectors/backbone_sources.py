"""The backbones that there are, as data: a timm model and the options it is built with. No torch: suites and plans look them up.

Small ones are timm's own classes with other numbers, so that they run the same code as the published ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class BackboneSource:
    """A timm model, the options it is created with, and the indices of its features at strides 4, 8, 16 and 32 (undilated).

    plain_stem: channels of the single 7x7 convolution of stride 2 that takes the place of timm's stem, None to keep that. frozen_stem:
    whether the normalisation after the stem is fixed, its statistics and its scale. listed_stages: whether timm keeps the stages in one
    list, whose parts its extractor would give other names than published weights have. efficient: whether it is an EfficientNet, of
    `detectors.parts.efficientnet`. dilatable: whether stages can keep a stride by dilation. torch_start: whether all convolutions start
    as torch draws them by itself, not as timm does. imagenet: what `weights: imagenet` stands for, as timm calls it, None where nobody
    published such weights. unused: entries of published weights that the network which they were trained in has, and no output of it
    depends on.
    """

    model: str
    options: dict[str, Any] = field(default_factory=dict)
    indices: tuple[int, ...] = (1, 2, 3, 4)
    plain_stem: int | None = None
    frozen_stem: bool = False
    listed_stages: bool = False
    efficient: bool = False
    dilatable: bool = True
    torch_start: bool = False
    imagenet: str | None = None
    unused: frozenset[str] = frozenset()


def reduced_resnet18(expansion: int, *, frozen_stem: bool = False) -> BackboneSource:
    """LSTR's ResNet: 16, 32, 64 and 128 channels times `expansion`, one block in the first stage, a plain stem as wide as that.

    Source: liuruijin17/LSTR, config/LSTR.json and models/py_utils/kp.py (whose first normalisation is frozen, and which leaves torch's
    start as it is); voldemortX/pytorch-auto-drive, utils/models/resnet.py (`resnet18_reduced`, neither). Stems narrower than 64
    channels timm knows as deep ones only, so the network is made with one of those, which is then replaced.
    """
    stem = 16 * expansion
    options = {
        "layers": (1, 2, 2, 2),
        "channels": tuple(stem * 2**stage for stage in range(4)),
        "stem_type": "deep",
        "stem_width": stem // 2,
        "zero_init_last": False,
    }
    return BackboneSource("resnet18", options, plain_stem=stem, frozen_stem=frozen_stem, torch_start=frozen_stem)


def micro_resnet(width: int) -> BackboneSource:
    """A ResNet of one block a stage, `width`, 2, 4 and 8 times as many channels, for CPUs; of no paper.

    timm's plain stem is 64 channels wide whatever the stages are, its deep one twice `stem_width`: here as wide as the first stage.
    """
    channels = tuple(width * 2**stage for stage in range(4))
    options = {"layers": (1, 1, 1, 1), "channels": channels, "stem_type": "deep_tiered", "stem_width": width // 2}
    return BackboneSource("resnet18", options)


def efficientnet(size: str) -> BackboneSource:
    """With the rates of the package efficientnet_pytorch, utils.py of version 0.6.3, whose .99 is what stays of running statistics.

    Its weights are those of the paper's first version, trained without AutoAugment.
    """
    options = {"drop_path_rate": 0.2, "bn_momentum": 0.01}
    name = f"tf_efficientnet_{size}"
    return BackboneSource(name, options, efficient=True, dilatable=False, imagenet=f"{name}.in1k")


DLA_UNUSED = frozenset(
    f"level{level}.project.{part}"
    for level in (3, 4)
    for part in ("0.weight", "1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked")
)
"""Projections that the authors' DLA-34 makes for its two deep trees and never calls; timm leaves them out.

Source: Yu et al., CVPR 2018; Turoad/CLRNet, clrnet/models/backbones/dla34.py, which has them as well.
"""

BACKBONES: dict[str, BackboneSource] = {
    # timm's copies of torchvision's IMAGENET1K_V1, which is what upstream recipes get by `pretrained=True`: UFLDv2's model/backbone.py,
    # pytorch-auto-drive's utils/models/resnet.py, CLRNet's clrnet/models/backbones/resnet.py.
    "resnet18": BackboneSource("resnet18", imagenet="resnet18.tv_in1k"),
    "resnet34": BackboneSource("resnet34", imagenet="resnet34.tv_in1k"),
    "resnet50": BackboneSource("resnet50", imagenet="resnet50.tv_in1k"),
    "resnet101": BackboneSource("resnet101", imagenet="resnet101.tv_in1k"),
    # Its first two features have strides 1 and 2. The weights are the authors' (dla34-ba72cf86), as in CLRNet and CLRerNet.
    "dla34": BackboneSource("dla34", indices=(2, 3, 4, 5), dilatable=False, imagenet="dla34.in1k", unused=DLA_UNUSED),
    # No lane detector was published with it: the authors' weights of ImageNet-1k alone, like the others'.
    "convnext_tiny": BackboneSource(
        "convnext_tiny", indices=(0, 1, 2, 3), listed_stages=True, imagenet="convnext_tiny.fb_in1k"
    ),
    "efficientnet_b0": efficientnet("b0"),
    "efficientnet_b1": efficientnet("b1"),
    "resnet_micro": micro_resnet(16),
    "resnet_micro_2x": micro_resnet(32),
    "resnet_micro_4x": micro_resnet(64),
    "resnet18s": reduced_resnet18(1, frozen_stem=True),
    "resnet18s_1x": reduced_resnet18(1),
    "resnet18s_2x": reduced_resnet18(2),
}
"""Backbone name -> how it is built."""
