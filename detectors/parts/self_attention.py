"""Self-attention of a map's places, as CondLaneNet and GANet have it before their pyramid, and a pyramid with it.

Facts come from aliyun/conditional-lane-detection (Apache-2.0), mmdet/models/necks/trans_fpn.py. Unlike the attention of a transformer
it has one head whose scores aren't divided by anything, its values know the positions, and a convolution follows.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from detectors.parts.pyramid import added_downwards
from detectors.parts.transformer import waves

REDUCED = 4
"""Channels of the attention over those of its queries and keys: `ratios` of upstream's configurations."""


class SelfAttention(nn.Module):
    """Every place of a map of `grid` (height, width) sees every other; what it gathers counts nothing at first.

    `width` is a multiple of 4.
    """

    def __init__(self, channels: int, width: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.before = normalised_convolution(channels, width)
        self.query = nn.Conv2d(width, width // REDUCED, 1)
        self.key = nn.Conv2d(width, width // REDUCED, 1)
        self.value = nn.Conv2d(width, width, 1)
        self.after = normalised_convolution(width, width)
        self.share = nn.Parameter(torch.zeros(1))
        rows, columns = (torch.arange(1.0, side + 1) for side in grid)
        positions = waves(rows, columns, width).T.reshape(1, width, *grid)
        self.register_buffer("positions", positions, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, C, h, w) -> features (B, width, h, w)."""
        placed = self.before(features)
        placed = placed + self.get_buffer("positions").to(placed.dtype)
        query, key, value = (layer(placed).flatten(2) for layer in (self.query, self.key, self.value))
        weights = (query.transpose(1, 2) @ key).softmax(dim=-1)
        gathered = (value @ weights.transpose(1, 2)).view_as(placed)
        output: Tensor = self.after(self.share * gathered + placed)
        return output


def normalised_convolution(channels: int, width: int) -> nn.Sequential:
    """A 3x3 convolution from `channels` to `width`, batch normalisation and a ReLU."""
    convolution = nn.Conv2d(channels, width, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU())


class AttentivePyramid(nn.Module):
    """A feature pyramid whose coarsest features see each other first. No normalisation, no activation."""

    def __init__(
        self, channels: Sequence[int], width: int, attention: int, grid: tuple[int, int], levels: Sequence[int]
    ) -> None:
        """channels: of the features, finest first. grid: (height, width) of the coarsest. levels: those that are asked for."""
        super().__init__()
        self.levels = tuple(levels)
        self.attention = nn.Sequential(
            SelfAttention(channels[-1], attention, grid), SelfAttention(attention, attention, grid)
        )
        self.lateral = nn.ModuleList(nn.Conv2d(count, width, 1) for count in (*channels[:-1], attention))
        self.output = nn.ModuleDict({str(level): nn.Conv2d(width, width, 3, padding=1) for level in sorted({*levels})})
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Features, finest first -> the maps (B, width, h, w) of `levels`, in their order."""
        given = [*features[:-1], self.attention(features[-1])]
        maps = added_downwards([lateral(feature) for lateral, feature in zip(self.lateral, given, strict=True)])
        found = {name: output(maps[int(name)]) for name, output in self.output.items()}
        return [found[str(level)] for level in self.levels]
