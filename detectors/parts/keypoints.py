"""Keypoints on a map: those that a lane is made of, the map that they teach, and the clusters that they are found in.

Places are in cells of the map, x and y. Facts come from Wolfwjs/GANet (MIT): mmdet/datasets/pipelines/lane_formating.py, whose peaks
are those of CornerNet (Law and Deng, ECCV 2018), and tools/ganet/post_process.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.interpolate import InterpolatedUnivariateSpline

from detectors.parts.lane_rows import EDGE, clipped

Floats = npt.NDArray[np.float64]
Cells = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Curve:
    """x as a function of the row, from the row `far` to the row `near`, which is below it."""

    far: float
    near: float
    x: InterpolatedUnivariateSpline


def curve_through(points: Floats, grid: tuple[int, int]) -> Curve | None:
    """The curve through points (N, 2) on a map of (height, width), of which those left and right of it are left out; None for none.

    Cubic, of three points or two straight. Of points on one row the first counts.
    """
    inside = points[(points[:, 0] > 0) & (points[:, 0] < grid[1])]
    x, y = inside[np.argsort(inside[:, 1], kind="stable")].T
    new = np.append(True, y[1:] > y[:-1])[: len(y)]
    x, y = x[new], y[new]
    if len(y) < 2 or max(y[0], 0.0) >= min(y[-1], grid[0]):
        return None
    spline = InterpolatedUnivariateSpline(y, x, k=3 if len(y) > 3 else 1)
    return Curve(max(y[0], 0.0), min(y[-1], float(grid[0])), spline)


def points_along(curve: Curve, count: int) -> Floats:
    """Points (count, 2) of a curve, evenly by rows from the far end."""
    rows = np.linspace(curve.far, curve.near, count)
    return np.stack([np.nan_to_num(curve.x(rows)), rows], axis=1)


def keypoints_of(curve: Curve, count: int, grid: tuple[int, int]) -> Floats:
    """Keypoints (N, 2) of a curve from the near end: of `count` points those on the map, and where it crosses the map's edges.

    None where less than a cell of the curve is on the map.
    """
    height, width = grid
    pieces = clipped(points_along(curve, count)[::-1], (height - 1 + EDGE, width - 1 + EDGE))
    if sum(np.hypot(*np.diff(piece, axis=0).T).sum() for piece in pieces) < 1:
        return np.zeros((0, 2))
    # Where a curve crosses an edge, arithmetic may miss its whole number by a hair.
    return np.concatenate(pieces).round(9)


def keypoint_map(cells: Cells, grid: tuple[int, int], radius: int) -> npt.NDArray[np.float32]:
    """Cells (N, 2), row and column, -> a map (height, width) that is 1 there and falls off like a Gaussian over `radius` cells.

    Its deviation is a sixth of 2 * radius + 1. Where peaks meet, the higher counts.
    """
    height, width = grid
    peaks = np.zeros((height + 2 * radius, width + 2 * radius), dtype=np.float32)
    y, x = cells.T + radius
    around = np.arange(-radius, radius + 1)
    falls = np.exp(-(around**2) / (2 * ((2 * radius + 1) / 6) ** 2))
    for down, fall in zip(around, falls, strict=True):
        for across, share in zip(around, falls, strict=True):
            place = y + down, x + across
            peaks[place] = np.maximum(peaks[place], fall * share)
    return peaks[radius : radius + height, radius : radius + width].copy()


def clustered(cells: Cells, aims: Floats, starts: npt.NDArray[np.bool_], reach: float) -> tuple[Cells, int]:
    """The cluster of each keypoint, -1 for none, and how many there are.

    cells: (N, 2), x and y of keypoints on a map. aims: (N, 2), the place that each points at. starts: (N,), those that say that they
    are one. Starts make the clusters: from left to right, and on a column from the top, each joins the first cluster of which a member
    is within `reach`, or begins one. A cluster lies at the mean of its members, without fractions. A keypoint belongs to the first
    that its aim is within `reach` of.
    """
    begun = cells[starts]
    begun = begun[np.lexsort((begun[:, 1], begun[:, 0]))]
    if not len(begun):
        return np.full(len(cells), -1), 0
    members = _joined(begun, reach)
    sums = np.stack([np.bincount(members, begun[:, axis]) for axis in (0, 1)], axis=1)
    centres = sums // np.bincount(members)[:, None]
    offsets = aims[:, None] - centres
    within = (offsets**2).sum(axis=-1) <= reach**2
    return np.where(within.any(axis=1), within.argmax(axis=1), -1), len(centres)


def _joined(cells: Cells, reach: float) -> Cells:
    """The cluster of each of cells (N, 2) in their order, numbered as they begin."""
    margin = int(reach)
    x, y = (cells - cells.min(axis=0)).T
    around = np.arange(-margin, margin + 1)
    near = around[:, None] ** 2 + around**2 <= reach**2
    # A map of whose cluster each cell is: what is within reach is then a look at it, whatever the number of cells.
    free = len(cells)
    owners = np.full((y.max() + 2 * margin + 1, x.max() + 2 * margin + 1), free)
    members, count = np.empty(len(cells), dtype=np.intp), 0
    for index, (column, row) in enumerate(zip(x.tolist(), y.tolist(), strict=True)):
        found = owners[row : row + 2 * margin + 1, column : column + 2 * margin + 1][near].min()
        if found == free:
            found, count = count, count + 1
        members[index] = owners[row + margin, column + margin] = found
    return members
