"""Lanes by their start, the near end: what a start teaches the map around it, and which starts are one.

Rules and numbers are those of aliyun/conditional-lane-detection (Apache-2.0), mmdet/datasets/pipelines/lane_formating.py and
mmdet/models/detectors/condlanenet.py.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Cells = npt.NDArray[np.int64]

ABSENT = -1.0
"""Column of a row that a lane isn't on."""

FARTHEST = 10.0
"""Cells along a row beyond which none is near a lane."""

CROWDED = 1.5
"""Starts nearer to each other than so many radii get a smaller one."""


def row_crossings(polyline: Floats, rows: int, half_width: float) -> tuple[Floats, Floats]:
    """Where a polyline (N, 2), from its lowest point up, crosses each whole row, else ABSENT, and how far along that row it reaches
    that is `half_width` to both sides: (rows,) both.
    """
    x, y = polyline[::-1].T
    at = np.arange(rows)
    on = (at >= y[0]) & (at <= y[-1])
    end = np.searchsorted(y, at).clip(1, len(y) - 1)
    along, down = x[end] - x[end - 1], y[end] - y[end - 1]
    level = down <= 0
    slope = along / np.where(level, 1.0, down)
    columns = np.where(level, x[end], x[end - 1] + (at - y[end - 1]) * slope)
    reach = np.where(level, FARTHEST, np.minimum(half_width * np.hypot(1, slope), FARTHEST))
    return np.where(on, columns, ABSENT), np.where(on, reach, 0.0)


def radii_of(starts: Floats, radius: int) -> Cells:
    """The radius in cells of each start (N, 2), smaller where another is near."""
    apart = np.hypot(*(starts[:, None] - starts).transpose(2, 0, 1))
    np.fill_diagonal(apart, np.inf)
    nearest = apart.min(axis=1, initial=CROWDED * radius)
    smaller = (np.maximum(nearest / CROWDED, 1) + 0.49999).astype(np.int64)
    return np.where(nearest < CROWDED * radius, smaller, radius)


def drawn_around(cell: Cells, radius: int, grid: tuple[int, int], count: int, generator: np.random.Generator) -> Cells:
    """The index into a map of `grid` (height, width) of a cell (x, y), then of up to `count` - 1 others within half the radius."""
    height, width = grid
    reach = max(radius // 2, 1)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1)
    near = (np.hypot(x, y) <= reach) & ((x != 0) | (y != 0))
    x, y = x[near] + cell[0], y[near] + cell[1]
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    around = (y * width + x)[inside]
    drawn = generator.choice(around, min(len(around), count - 1), replace=False)
    return np.append(cell[1] * width + cell[0], drawn)


def last_of_each(places: npt.NDArray[np.float32], width: int, distance: float) -> list[int]:
    """Of starts at rising indices into a map, the last of each group; one joins the first group that has a member within `distance`."""
    cells = np.stack(np.divmod(places.astype(np.float64), width), axis=1)
    near = np.hypot(*(cells[:, None] - cells).transpose(2, 0, 1)) <= distance
    groups: list[list[int]] = []
    for index in range(len(cells)):
        group = next((group for group in groups if near[index, group].any()), None)
        if group is None:
            groups.append([index])
        else:
            group.append(index)
    return [group[-1] for group in groups]
