"""What row-wise detectors share: anchors, targets and losses on them, and heads.

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
from detectors.parts.slots import LANES, slots_of
from harness.lanes import Geometry, Lane

ABSENT = -1.0
"""Target position on an anchor that a lane doesn't cross."""

FOCAL_GAMMA = 2.0
"""Focusing of the classification: utils/factory.py of cfzd/Ultra-Fast-Lane-Detection and of its second version."""

PROLONGED_FROM = 6
"""Anchors that a lane has to cross to be prolonged: `_get_index` of cfzd/Ultra-Fast-Lane-Detection, data/dataset.py."""

SQUEEZED = 8
"""Channels of the published head: model/model.py of cfzd/Ultra-Fast-Lane-Detection."""


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

    def prolonged(self, positions: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Positions (A,) of a lane, carried on over the anchors behind its last one as far as they stay on cells.

        They follow the straight line through the last half of the anchors that the lane crosses, of which there have to be six.
        """
        crossed = np.flatnonzero(positions >= 0)
        if len(crossed) < PROLONGED_FROM or crossed[-1] == len(self.lines) - 1:
            return positions
        half, rest = crossed[len(crossed) // 2 :], slice(int(crossed[-1]) + 1, None)
        line = np.polynomial.Polynomial.fit(self.lines[half], positions[half].astype(np.float64), 1)
        found = line(self.lines[rest])
        longer = positions.copy()
        longer[rest] = np.where((found >= 0) & (found <= self.cells - 1), found, ABSENT)
        return longer

    def points(self, positions: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
        """Positions (..., A) in cells -> points (..., A, 2) in network pixels."""
        along = self.origin + positions.astype(np.float64) * self.width
        across = np.broadcast_to(self.lines, along.shape)
        return np.stack([along, across] if self.axis == 1 else [across, along], axis=-1)


@dataclass(frozen=True, eq=False)
class PlacedLane:
    """A lane that has a slot: its polyline in network pixels, and its position on every anchor of each family."""

    polyline: npt.NDArray[np.float64]
    positions: dict[str, npt.NDArray[np.float32]]


def placed_lanes(lanes: Sequence[Lane], geometry: Geometry, families: Mapping[str, Anchors]) -> dict[int, PlacedLane]:
    """The lanes of an image (original pixels) that get a slot, by slot. One that no anchor crosses within the frame gets none."""
    polylines = [geometry.to_network(lane.points[np.isfinite(lane.points).all(axis=1)]) for lane in lanes]
    found = [
        PlacedLane(polyline, {name: anchors.positions(polyline) for name, anchors in families.items()})
        for polyline in polylines
    ]
    seen = [lane for lane in found if any((positions >= 0).any() for positions in lane.positions.values())]
    slots = slots_of([lane.polyline for lane in seen], geometry.network)
    return {slot: seen[index] for index, slot in slots.items()}


def anchor_targets(placed: Mapping[int, PlacedLane], name: str, anchors: Anchors) -> npt.NDArray[np.float32]:
    """Positions on the anchors of the family `name`: float32 (anchors, LANES), ABSENT where there is no lane."""
    targets = np.full((len(anchors.lines), LANES), ABSENT, dtype=np.float32)
    for slot, lane in placed.items():
        targets[:, slot] = lane.positions[name]
    return targets


def shared_cells(position: Tensor, cells: int) -> tuple[Tensor, Tensor, Tensor]:
    """Positions (B, anchors, LANES), 0 or more -> their places in cells from the first one's centre, the two nearest cells and their
    shares (B, 2, anchors, LANES). The exact place is the expectation of these shares.
    """
    place = (position - 0.5).clamp(0.0, cells - 1.0)
    lower = place.floor()
    indices = torch.stack([lower, lower + 1], dim=1)
    return place, indices, torch.stack([1 - (place - lower), place - lower], dim=1)


def focal_loss(log_probability: Tensor, indices: Tensor, shares: Tensor) -> Tensor:
    """Log-probabilities (B, cells, anchors, LANES) and labels, the choices (B, K, anchors, LANES) with their shares of an anchor's
    label -> the focal loss of each anchor (B, anchors, LANES). A choice beyond the last one counts as the last.
    """
    choices = log_probability.shape[1]
    gathered = log_probability.gather(1, indices.long().clamp(0, choices - 1))
    return -(shares * (1 - gathered.exp()) ** FOCAL_GAMMA * gathered).sum(dim=1)


def expected_cell(probability: Tensor) -> Tensor:
    """Probabilities (B, cells, anchors, LANES) -> the expectation of the cell's index (B, anchors, LANES)."""
    cells = torch.arange(probability.shape[1], device=probability.device, dtype=probability.dtype)
    return torch.einsum("bkal,k->bal", probability, cells)


class FullyConnectedHead(nn.Module):
    """The published head: a feature, squeezed to a few channels and flattened, through two linear layers.

    Sources: model/model.py of cfzd/Ultra-Fast-Lane-Detection, and model/model_culane.py of its second version, which normalises.
    """

    def __init__(
        self,
        feature: Tap,
        shapes: Mapping[str, tuple[int, int]],
        network: tuple[int, int],
        *,
        hidden: int,
        layer_norm: bool,
    ) -> None:
        """shapes: (choices, anchors) of each output, in their order in the last layer."""
        super().__init__()
        flattened = math.prod(math.ceil(side / feature.stride) for side in network) * SQUEEZED
        self.shapes = dict(shapes)
        self.squeeze = nn.Conv2d(feature.channels, SQUEEZED, 1)
        self.norm = nn.LayerNorm(flattened) if layer_norm else nn.Identity()
        self.hidden = nn.Linear(flattened, hidden)
        self.output = nn.Linear(hidden, sum(math.prod(shape) for shape in self.shapes.values()) * LANES)
        for layer in (self.hidden, self.output):
            nn.init.normal_(layer.weight, std=0.01)

    def forward(self, features: list[Tensor]) -> dict[str, Tensor]:
        """Features, of which the last one counts -> logits (B, choices, anchors, LANES) by name."""
        flat = self.norm(self.squeeze(features[-1]).flatten(1))
        logits = self.output(F.relu(self.hidden(flat)))
        parts = logits.split([math.prod(shape) * LANES for shape in self.shapes.values()], dim=1)
        return {
            name: part.view(-1, *shape, LANES) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }


class LocalHead(nn.Module):
    """Not of the papers: what heads share that look at a feature map of stride 8, so that they learn in few steps.

    Features of strides 8 to 32 are summed top-down to stride 8 and joined with the place's coordinates.
    """

    def __init__(self, taps: Sequence[Tap], network: tuple[int, int], *, channels: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList([nn.Conv2d(tap.channels, channels, 1) for tap in taps[1:]])
        self.fuse = nn.Sequential(
            nn.Conv2d(channels + 2, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
        )
        self.stride = taps[1].stride
        self.grid = [math.ceil(side / self.stride) for side in network]
        rows, columns = (torch.linspace(-1.0, 1.0, side) for side in self.grid)
        places = torch.stack([rows[:, None].expand(*self.grid), columns.expand(*self.grid)])
        self.register_buffer("places", places, persistent=False)

    def fused(self, features: list[Tensor]) -> Tensor:
        """Features of the backbone -> one of stride 8 (B, channels, H / 8, W / 8)."""
        fused: Tensor | None = None
        for lateral, feature in zip(reversed(self.laterals), reversed(features[1:]), strict=True):
            level = lateral(feature)
            fused = level if fused is None else level + F.interpolate(fused, size=level.shape[-2:], mode="nearest")
        assert fused is not None
        places = cast(Tensor, self.places).to(fused.dtype).expand(fused.shape[0], -1, -1, -1)
        found: Tensor = self.fuse(torch.cat([fused, places], dim=1))
        return found


class RowHead(LocalHead):
    """A fully connected head that sees a row of features at a time, as wide as the image: its layers are the same for all anchors."""

    def __init__(
        self,
        taps: Sequence[Tap],
        name: str,
        anchors: Anchors,
        choices: int,
        network: tuple[int, int],
        *,
        channels: int,
        hidden: int,
    ) -> None:
        """name: of the output. anchors: rows. choices: of each lane on each of them."""
        super().__init__(taps, network, channels=channels)
        self.name, self.choices = name, choices
        self.hidden = nn.Linear(channels * self.grid[1], hidden)
        self.output = nn.Linear(hidden, choices * LANES)
        self.register_buffer("across", linear_sampling(anchors.lines / self.stride, self.grid[0]), persistent=False)

    def forward(self, features: list[Tensor]) -> dict[str, Tensor]:
        """Features of the backbone -> logits (B, choices, anchors, LANES) by name."""
        rows = torch.einsum("bchw,ah->bacw", self.fused(features), self.get_buffer("across")).flatten(2)
        logits: Tensor = self.output(F.relu(self.hidden(rows)))
        return {self.name: logits.view(*rows.shape[:2], self.choices, LANES).transpose(1, 2)}


class ConvolutionalHead(LocalHead):
    """One logit a lane and place, computed at that place.

    A lane's logits are a map of stride 8, read off linearly at (anchor, centre of cell); its existence on an anchor is decided on the
    features found where the map says that the lane is.
    """

    def __init__(
        self, taps: Sequence[Tap], families: Mapping[str, Anchors], network: tuple[int, int], *, channels: int
    ) -> None:
        super().__init__(taps, network, channels=channels)
        self.axes = {name: anchors.axis for name, anchors in families.items()}
        self.location = nn.ModuleDict({name: nn.Conv2d(channels, LANES, 1) for name in families})
        self.existence = nn.ModuleDict(
            {name: nn.Conv1d(LANES * channels, LANES * 2, 3, padding=1, groups=LANES) for name in families}
        )
        for name, anchors in families.items():
            centres = anchors.origin + (np.arange(anchors.cells) + 0.5) * anchors.width
            across, along = self.grid[1 - anchors.axis], self.grid[anchors.axis]
            self.register_buffer(
                f"{name}_across", linear_sampling(anchors.lines / self.stride, across), persistent=False
            )
            self.register_buffer(f"{name}_along", linear_sampling(centres / self.stride, along), persistent=False)

    def forward(self, features: list[Tensor]) -> dict[str, Tensor]:
        """Features of the backbone -> logits (B, choices, anchors, LANES) by name."""
        fused = self.fused(features)
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
