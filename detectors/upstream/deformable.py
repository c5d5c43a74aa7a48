"""mmcv's modulated deformable convolution where it isn't compiled, for upstream code that imports it from `mmcv.ops`.

Parameters, their order and their names are mmcv's (open-mmlab/mmcv, Apache-2.0, mmcv/ops/modulated_deform_conv.py). It is written
another way than ours, tap by tap, so that a comparison compares two readings of the definition.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample

Pair = tuple[int, int]


class ModulatedDeformConv2d(nn.Module):
    """The layer without its forward, which `mmcv.ops` leaves to those that derive from it; one group of each kind."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        stride: int | Pair = 1,
        padding: int | Pair = 0,
        dilation: int | Pair = 1,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.groups, self.deform_groups = in_channels, out_channels, 1, 1
        self.kernel_size, self.stride, self.padding, self.dilation = map(
            _pair, (kernel_size, stride, padding, dilation)
        )
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, *self.kernel_size))
        self.bias = nn.Parameter(torch.empty(out_channels))

    def init_weights(self) -> None:
        """mmcv's start of the layer."""
        bound = 1 / math.sqrt(self.in_channels * math.prod(self.kernel_size))
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.zeros_(self.bias)


def modulated_deform_conv2d(
    features: Tensor,
    offset: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    deform_groups: int,
) -> Tensor:
    """Features (B, C, H, W) -> (B, O, h, w); offset (B, 2 K, h, w), y before x for each tap, mask (B, K, h, w)."""
    assert groups == deform_groups == 1
    height, width = features.shape[-2:]
    rows, columns = (torch.arange(side, device=offset.device) for side in offset.shape[-2:])
    output = bias[:, None, None].expand(len(features), -1, *offset.shape[-2:])
    for tap, (i, j) in enumerate(itertools.product(*map(range, weight.shape[2:]))):
        y = (rows * stride[0] - padding[0] + i * dilation[0])[:, None] + offset[:, 2 * tap]
        x = columns * stride[1] - padding[1] + j * dilation[1] + offset[:, 2 * tap + 1]
        places = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], dim=-1)
        read = grid_sample(features, places, align_corners=False) * mask[:, tap : tap + 1]
        output = output + torch.einsum("oc,bchw->bohw", weight[:, :, i, j], read)
    return output


def _pair(value: int | Pair) -> Pair:
    return (value, value) if isinstance(value, int) else value
