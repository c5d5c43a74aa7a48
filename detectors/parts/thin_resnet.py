"""The ResNets that He et al. (CVPR 2016, section 4.2) made for CIFAR-10: three thin stages, no pooling, shortcuts without weights.

Facts come from lucastabelini/LaneATT (MIT), lib/models/resnet.py; the blocks are timm's.
"""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from harness.pytorch.torchvision_guard import ensure_torchvision

CHANNELS = (16, 32, 64)
"""Of the stages, whose strides are 1, 2 and 4."""


class ThinResNet(nn.Module):
    """Normalised images (B, 3, H, W) -> features of strides 1, 2 and 4 from `blocks` blocks of two convolutions each."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        ensure_torchvision()
        from timm.models import FeatureInfo

        self.conv1 = nn.Conv2d(3, CHANNELS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(CHANNELS[0])
        self.layer1 = _stage(CHANNELS[0], CHANNELS[0], blocks)
        self.layer2 = _stage(CHANNELS[0], CHANNELS[1], blocks)
        self.layer3 = _stage(CHANNELS[1], CHANNELS[2], blocks)
        stages = [
            {"num_chs": channels, "reduction": 2**index, "module": f"layer{index + 1}"}
            for index, channels in enumerate(CHANNELS)
        ]
        self.feature_info = FeatureInfo(stages, (0, 1, 2))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, images: Tensor) -> list[Tensor]:
        """As said of the class."""
        fine: Tensor = self.layer1(F.relu(self.bn1(self.conv1(images))))
        middle: Tensor = self.layer2(fine)
        return [fine, middle, cast(Tensor, self.layer3(middle))]


class PaddedShortcut(nn.Module):
    """Every other pixel, with as many channels of zeros on both sides of the others as double their number."""

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, C, h, w) -> (B, 2 C, h / 2, w / 2)."""
        added = features.shape[1] // 2
        return F.pad(features[:, :, ::2, ::2], (0, 0, 0, 0, added, added))


def _stage(entering: int, channels: int, blocks: int) -> nn.Sequential:
    from timm.models.resnet import BasicBlock

    if entering == channels:
        return nn.Sequential(*(BasicBlock(channels, channels) for _ in range(blocks)))
    first = BasicBlock(entering, channels, stride=2, downsample=PaddedShortcut())
    return nn.Sequential(first, *(BasicBlock(channels, channels) for _ in range(blocks - 1)))
