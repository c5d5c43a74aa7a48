"""The feature pyramid: Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class FeaturePyramid(nn.Module):
    """Features of several strides as maps of one width, each of which knows the coarser ones.

    A coarser map is enlarged to a finer one's size by repeating places, and added. No normalisation, no activation.
    """

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(count, width, 1) for count in channels)
        self.output = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in channels)
        for convolution in (*self.lateral, *self.output):
            nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(convolution.bias)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Features (B, C_l, H_l, W_l), finest first -> maps (B, width, H_l, W_l) in the same order."""
        levels = [lateral(feature) for lateral, feature in zip(self.lateral, features, strict=True)]
        return [output(level) for output, level in zip(self.output, added_downwards(levels), strict=True)]


def added_downwards(levels: Sequence[Tensor]) -> list[Tensor]:
    """Maps of one width, finest first -> the same, to each of which the coarser ones were added, enlarged by repeating places."""
    found = list(levels)
    for finer in range(len(found) - 2, -1, -1):
        found[finer] = found[finer] + F.interpolate(found[finer + 1], size=found[finer].shape[-2:], mode="nearest")
    return found
