"""What row-wise detectors share: anchors, and a head that learns locations locally.

A row-wise detector says on each of a row of parallel lines, its anchors, in which cell a lane lies.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detectors.base import Tap
from detectors.parts.sampling import linear_sampling
from detectors.parts.slots import LANES

ABSENT = -1.0
"""Target position on an anchor that a lane doesn't cross."""


@dataclass(frozen=True, eq=False)
class Anchors:
    """Parallel lines in network pixels, and the cells along them.

    axis: the coordinate that an anchor fixes, 1 (y) for row anchors and 0 (x) for columns. lines: that coordinate of each anchor.
    Cell k covers [origin + k * width, origin + (k + 1) * width) of the other coordinate; a *position* is a place in cells.
    """

    axis: Literal[0, 1]
    lines: npt.NDArray[np.float64]
    cells: int
    origin: float
    width: float

    def positions(self, polyline: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        """Position of the first crossing of each anchor by a polyline (N, 2) in network pixels; ABSENT where there is none."""
        if len(polyline) < 2:
            return np.full(len(self.lines), ABSENT, dtype=np.float32)
        along, across = polyline[:, 1 - self.axis], polyline[:, self.axis] - self.lines[:, None]
        crosses = across[:, :-1] * across[:, 1:] <= 0
        segment = crosses.argmax(axis=1)
        start, end = np.take_along_axis(across, np.stack([segment, segment + 1], axis=1), axis=1).T
        share = start / np.where(start == end, 1.0, start - end)
        place = along[segment] + share * (along[segment + 1] - along[segment])
        position = (place - self.origin) / self.width
        seen = crosses.any(axis=1) & (position >= 0) & (position <= self.cells - 1)
        return np.where(seen, position, ABSENT).astype(np.float32)

    def points(self, positions: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
        """Positions (..., A) in cells -> points (..., A, 2) in network pixels."""
        along = self.origin + positions.astype(np.float64) * self.width
        across = np.broadcast_to(self.lines, along.shape)
        return np.stack([along, across] if self.axis == 1 else [across, along], axis=-1)


class ConvolutionalHead(nn.Module):
    """Not of the paper: one logit a lane and place, computed at that place.

    Features of strides 8 to 32 are summed top-down to stride 8 and joined with the place's coordinates. A lane's logits are a map of
    that size, read off linearly at (anchor, centre of cell); its existence on an anchor is decided on the features found where the map
    says that the lane is.
    """

    def __init__(
        self, taps: Sequence[Tap], families: Mapping[str, Anchors], network: tuple[int, int], *, channels: int
    ) -> None:
        super().__init__()
        self.axes = {name: anchors.axis for name, anchors in families.items()}
        self.laterals = nn.ModuleList([nn.Conv2d(tap.channels, channels, 1) for tap in taps[1:]])
        self.fuse = nn.Sequential(
            nn.Conv2d(channels + 2, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
        )
        self.location = nn.ModuleDict({name: nn.Conv2d(channels, LANES, 1) for name in families})
        self.existence = nn.ModuleDict(
            {name: nn.Conv1d(LANES * channels, LANES * 2, 3, padding=1, groups=LANES) for name in families}
        )
        stride = taps[1].stride
        grid = [math.ceil(side / stride) for side in network]
        rows, columns = (torch.linspace(-1.0, 1.0, side) for side in grid)
        places = torch.stack([rows[:, None].expand(*grid), columns.expand(*grid)])
        self.register_buffer("places", places, persistent=False)
        for name, anchors in families.items():
            centres = anchors.origin + (np.arange(anchors.cells) + 0.5) * anchors.width
            across, along = grid[1 - anchors.axis], grid[anchors.axis]
            self.register_buffer(f"{name}_across", linear_sampling(anchors.lines / stride, across), persistent=False)
            self.register_buffer(f"{name}_along", linear_sampling(centres / stride, along), persistent=False)

    def forward(self, features: list[Tensor]) -> dict[str, Tensor]:
        """Features of the backbone -> logits (B, choices, anchors, LANES) by name."""
        fused: Tensor | None = None
        for lateral, feature in zip(reversed(self.laterals), reversed(features[1:]), strict=True):
            level = lateral(feature)
            fused = level if fused is None else level + F.interpolate(fused, size=level.shape[-2:], mode="nearest")
        assert fused is not None
        places = cast(Tensor, self.places).to(fused.dtype).expand(fused.shape[0], -1, -1, -1)
        fused = self.fuse(torch.cat([fused, places], dim=1))
        outputs: dict[str, Tensor] = {}
        for name, axis in self.axes.items():
            across, along = self.get_buffer(f"{name}_across"), self.get_buffer(f"{name}_along")
            logits, found = self.location[name](fused), fused
            if axis == 0:
                logits, found = logits.transpose(2, 3), found.transpose(2, 3)
            attention = logits.softmax(dim=-1)
            attended = torch.einsum("blhw,bchw->blch", attention, found).flatten(1, 2)
            existence = self.existence[name](attended).unflatten(1, (LANES, 2))
            outputs[f"{name}_location"] = torch.einsum("blhw,ah,kw->bkal", logits, across, along)
            outputs[f"{name}_existence"] = torch.einsum("blch,ah->bcal", existence, across)
        return outputs
