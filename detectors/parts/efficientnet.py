"""EfficientNet (Tan and Le, ICML 2019) as the detectors have it that were trained with the package efficientnet_pytorch.

That package fixes at construction how much a convolution pads, by ImageNet's even sides: of stride 2 it puts less before a map than
after it, whatever the map's side is (lukemelas/EfficientNet-PyTorch (Apache-2.0), version 0.6.3, utils.py: `Conv2dStaticSamePadding`).
An odd side so loses its half cell, where timm's network would keep it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LatePadded(nn.Conv2d):
    """A convolution of stride 2 that pads for a map of even sides: k - 2 cells, the odd one after the map."""

    def forward(self, input: Tensor) -> Tensor:
        """Features (B, C, h, w) -> (B, O, h // 2, w // 2)."""
        height, width = (side - 2 for side in self.kernel_size)
        padded = F.pad(input, (width // 2, width - width // 2, height // 2, height - height // 2))
        return F.conv2d(padded, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class EfficientStages(nn.Module):
    """The stages of timm's EfficientNet, and the convolution that lies between the last of them and the classifier.

    Everything has the name that it has in timm's network; with fewer than all stages there is nothing above them.
    """

    def __init__(self, network: nn.Module, stages: Sequence[int], *, all_stages: int) -> None:
        super().__init__()
        from timm.models import FeatureInfo

        whole: Any = _late_padded(network)
        # timm counts the stem, of stride 2, with the first stage's block.
        self.feature_info = FeatureInfo(whole.feature_info, tuple(stages))
        self.taken = [int(name.rpartition(".")[2]) for name in self.feature_info.module_name()]
        self.conv_stem, self.bn1 = whole.conv_stem, whole.bn1
        self.blocks = whole.blocks[: self.taken[-1] + 1]
        self.channels = whole.num_features
        if len(stages) == all_stages:
            self.conv_head, self.bn2 = whole.conv_head, whole.bn2

    def forward(self, images: Tensor) -> list[Tensor]:
        """Normalised images (B, 3, H, W) -> features of strides 4, 8, 16 and 32."""
        feature = self.bn1(self.conv_stem(images))
        features = []
        for number, block in enumerate(self.blocks):
            feature = block(feature)
            if number in self.taken:
                features.append(feature)
        return features

    def above(self, feature: Tensor) -> Tensor:
        """The last stage's feature -> (B, `channels`, h, w), what the classifier takes the mean of."""
        output: Tensor = self.bn2(self.conv_head(feature))
        return output


def _late_padded(network: nn.Module) -> nn.Module:
    """The same network, its convolutions of stride 2 replaced; their weights stay."""
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.Conv2d) and module.stride == (2, 2):
            with torch.device("meta"):
                replacement = LatePadded(
                    module.in_channels,
                    module.out_channels,
                    cast(Any, module.kernel_size),
                    stride=2,
                    groups=module.groups,
                    bias=module.bias is not None,
                )
            replacement.weight, replacement.bias = module.weight, module.bias
            parent, _, child = name.rpartition(".")
            setattr(network.get_submodule(parent), child, replacement)
    return network
