"""How far two sets of decoded lanes are apart, in pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from detectors.upstream.reference import Polyline


@dataclass(frozen=True)
class LaneDifference:
    """matched: pairs of lanes, with `points` points of upstream's. unmatched: lanes without a counterpart, of both sides.

    largest, mean: of the distances of all these points, in pixels.
    """

    matched: int
    unmatched: int
    points: int
    largest: float
    mean: float


def compared(theirs: Sequence[Sequence[Polyline]], ours: Sequence[Sequence[Polyline]]) -> LaneDifference:
    """Lanes (N, 2) of the same images, matched in each so that the distances are least in sum."""
    found: list[npt.NDArray[np.float64]] = []
    unmatched = 0
    for upstream, native in zip(theirs, ours, strict=True):
        distances = [[lane_distances(lane, other) for other in native] for lane in upstream]
        costs = np.array([[float(one.mean()) for one in row] for row in distances]).reshape(len(upstream), len(native))
        rows, columns = linear_sum_assignment(costs)
        found += [distances[row][column] for row, column in zip(rows, columns, strict=True)]
        unmatched += len(upstream) + len(native) - 2 * len(rows)
    every = np.concatenate([*found, np.zeros(0)])
    largest, mean = (float(every.max()), float(every.mean())) if len(every) else (0.0, 0.0)
    return LaneDifference(len(found), unmatched, len(every), largest, mean)


def lane_distances(theirs: Polyline, ours: Polyline) -> npt.NDArray[np.float64]:
    """How far each of upstream's points is from our polyline, and behind them how far ours reaches beyond its ends.

    The two may have their points on different rows, and a lane may end anywhere between a written row and the next: so reaching beyond
    counts only where it is more than upstream's distance between rows.
    """
    step = float(np.abs(np.diff(theirs[:, 1])).max()) if len(theirs) > 1 else 0.0
    low, high = theirs[:, 1].min() - step, theirs[:, 1].max() + step
    beyond = ours[(ours[:, 1] < low - 1e-6) | (ours[:, 1] > high + 1e-6)]
    return np.concatenate([point_distances(theirs, ours), point_distances(beyond, theirs)])


def point_distances(points: Polyline, polyline: Polyline) -> npt.NDArray[np.float64]:
    """The distance of each of points (N, 2) to the nearest place of a polyline of one point or more."""
    if len(polyline) == 1:
        polyline = np.repeat(polyline, 2, axis=0)
    start, along = polyline[:-1], np.diff(polyline, axis=0)
    offsets = points[:, None] - start
    squared = np.maximum((along**2).sum(axis=-1), 1e-12)
    share = np.clip((offsets * along).sum(axis=-1) / squared, 0.0, 1.0)
    nearest = offsets - share[..., None] * along
    return np.asarray(np.sqrt((nearest**2).sum(axis=-1)).min(axis=1, initial=np.inf))
