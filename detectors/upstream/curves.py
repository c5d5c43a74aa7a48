"""What the two references of LSTR share: the rows on which ours reads labels, and curves as a trained model gives them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from detectors.lstr import frame_of
from detectors.meta import InputSize
from detectors.upstream.reference import Difference, Polyline
from harness.lanes import Lane, plain_geometry

MORE_LANES_THAN_QUERIES = Difference(
    "Upstream's matching leaves out the lanes that fit the queries least. Ours gives the network as many lanes as it has queries, "
    "those that cross the most rows."
)


def seen(lane: Lane, size: InputSize, rows: int) -> Polyline:
    """The points (N, 2) from which ours takes a label's ends, far to near: its own that lie in the frame, and those on our rows.

    Where a lane leaves the frame at a side, the last row that it crosses is nearer than its last point within.
    """
    points = lane.points.astype(np.float64)
    own = points[((points >= 0) & (points <= size.frame[::-1])).all(axis=1)]
    every = np.concatenate([own, on_rows(lane, size, rows)])
    return every[np.argsort(every[:, 1], kind="stable")]


def on_rows(lane: Lane, size: InputSize, rows: int) -> Polyline:
    """A label's places (N, 2) on those of our `rows` rows that it crosses, in pixels of the frame, far to near."""
    anchors = frame_of(size, rows)
    geometry = plain_geometry(size.frame, size.crop, size.network)
    places = anchors.positions(geometry.to_network(lane.points))
    return geometry.to_original(anchors.points(places))[places >= 0]


def keep_pole_away(shared: nn.Module) -> None:
    """Make random curves ones that training would leave: their pole, the second of the shared numbers, lies above the frame.

    At a pole within the frame losses are in the millions, and rounding decides.
    """
    last = shared.get_submodule("layers")[-1]  # type: ignore[index]
    with torch.no_grad():
        last.bias.copy_(torch.tensor([0.05, -0.5, 0.05, 0.4]))


def drawn_curves(queries: int, *, spread: float) -> tuple[Tensor, Tensor]:
    """Logits (2, Q, 2) and curves (2, Q, 8) of two frames: every other query is a lane, on a road that bends.

    spread: how much of the frame's width their near ends take, which lie around its middle.
    """
    offsets = torch.linspace(-0.5, 0.5, queries) * spread
    shared = torch.tensor([[0.004, 0.12, -0.01, 0.5], [-0.006, 0.15, 0.03, 0.45]])
    far, near = torch.linspace(0.45, 0.6, queries), torch.linspace(1.0, 0.8, queries)
    own = torch.stack([1.4 * offsets, 0.4 * offsets], dim=-1)
    curves = [torch.cat([torch.stack([far, near], -1), road.expand(queries, 4), own], dim=-1) for road in shared]
    lane = torch.tensor([4.0 if query % 2 else -4.0 for query in range(queries)]) + torch.linspace(0.0, 1.0, queries)
    return torch.stack([torch.stack([-lane, lane], dim=-1)] * 2), torch.stack(curves)
