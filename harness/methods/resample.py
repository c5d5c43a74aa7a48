"""Bringing feature maps of different networks onto one grid, by a matrix a side.

Separable and dense: at these sizes a matrix product costs next to nothing, its gradient is deterministic on every device (that of an
interpolation isn't), and the places of the cells are what they are instead of being assumed to fill the image alike.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from harness.methods.registration import Axis, Grid


def axis_matrix(source: Axis, target: Axis) -> npt.NDArray[np.float64]:
    """The matrix (target cells, source cells) that gives values at the target's centres from values at the source's.

    Each row is a local linear fit under a triangular window of half-width max(target stride, source stride), so that a map coarser than
    the source doesn't alias. Rows sum to 1, and linear functions come out exactly; beyond the outermost source centres the value there
    holds on.
    """
    centres = source.offset + source.stride * np.arange(source.count)
    wanted = np.clip(target.offset + target.stride * np.arange(target.count), centres[0], centres[-1])
    distance = (centres[None, :] - wanted[:, None]) / source.stride
    window = np.maximum(0.0, 1.0 - np.abs(distance) / max(1.0, target.stride / source.stride))
    zeroth, first, second = (np.sum(window * distance**power, 1, keepdims=True) for power in range(3))
    # Weighted least squares for a line, evaluated at distance 0. One cell alone in its window lies at distance 0: then second is 0.
    denominator = zeroth * second - first**2
    line = np.divide(second - first * distance, denominator, out=np.zeros_like(distance), where=denominator > 1e-9)
    constant = np.broadcast_to(1.0 / zeroth, distance.shape)
    return np.asarray(window * np.where(denominator > 1e-9, line, constant))


def common_grid(first: Grid, second: Grid) -> Grid:
    """The grid with fewer cells; the first where they have equally many."""
    return second if second.rows.count * second.columns.count < first.rows.count * first.columns.count else first


class Resampler(nn.Module):
    """Maps (B, C, H, W) on one grid to another: rows @ map @ columns^T. The identity where the grids are the same.

    The channels lie innermost meanwhile, which makes the products long, and is how most maps come.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, source: Grid, target: Grid) -> None:
        super().__init__()
        self.is_identity = source == target
        if not self.is_identity:
            rows, columns = axis_matrix(source.rows, target.rows), axis_matrix(source.columns, target.columns)
            # Follow from the grids, so they don't belong in a checkpoint.
            self.register_buffer("rows", torch.from_numpy(rows).float(), persistent=False)
            self.register_buffer("columns", torch.from_numpy(columns).float(), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Features at the target's cells."""
        if self.is_identity:
            return features
        batch, channels, height, width = features.shape
        lines = self.rows @ features.permute(0, 2, 3, 1).reshape(batch, height, width * channels)
        cells = self.columns @ lines.view(batch, -1, width, channels)
        return cells.permute(0, 3, 1, 2)
