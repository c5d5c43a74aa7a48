"""Labels as x on rows: what detectors learn that describe a lane by a start, an angle, a length and a place on each of many rows.

Coordinates here are those of CLRNet's labels: x of 0 and y of 0 are a corner of the image of (height, width), not the centre of its
first pixel. Rows are spread evenly from the bottom, y = height, to the top, y = 0. Facts come from Turoad/CLRNet (Apache-2.0),
clrnet/datasets/process/generate_lane_line.py, and from imgaug 0.4.0 (MIT), which clips lanes there.

What differs: a row that a lane's curve leaves the image on, between rows that it is on, stays where it is; upstream moves all such rows
in front of the others, so that the lane is shifted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.interpolate import InterpolatedUnivariateSpline

from detectors.parts.dynamic_assignment import LENGTH, PRESENT, START_X, START_Y, THETA, XS

Floats = npt.NDArray[np.float64]

ABSENT = -1e5
"""x of a row that a label has no point on."""

EDGE = 1e-3
"""Pixels by which clipped lanes stay off the right and the lower edge."""

SAME = 1e-2
"""Pixels below which a place where a lane crosses an edge and the point beside it are one."""


@dataclass(frozen=True)
class LaneRows:
    """Rows over an image of (height, width) pixels."""

    network: tuple[int, int]
    count: int

    @property
    def step(self) -> float:
        """Pixels from a row to the next."""
        return self.network[0] / (self.count - 1)

    def encode(self, polylines: list[Floats], places: int) -> npt.NDArray[np.float32]:
        """Polylines (N, 2) -> float32 (places, 6 + rows), the columns of `detectors.parts.dynamic_assignment` targets.

        A polyline is cut off at the image's edges; one that leaves the image and comes back is two lanes. The rest: `encode_whole`.
        """
        return self.encode_whole([piece for polyline in polylines for piece in clipped(polyline, self.network)], places)

    def encode_whole(self, polylines: list[Floats], places: int) -> npt.NDArray[np.float32]:
        """The same for polylines that go on outside the image, each of them a lane whose curve all its points are on.

        Of more lanes than places those are kept that are on the most rows of the image; lanes on fewer than two are none. Places
        without a lane hold ABSENT on every row and a 0 in column `PRESENT`.
        """
        targets = np.zeros((places, 6 + self.count), dtype=np.float32)
        targets[:, XS] = ABSENT
        targets[:, 0] = 1
        found = [lane for polyline in polylines if (lane := self._lane(polyline)) is not None]
        if len(found) > places:
            longest = sorted(range(len(found)), key=lambda index: -found[index][LENGTH])[:places]
            found = [found[index] for index in sorted(longest)]
        if found:
            targets[: len(found)] = found
        return targets

    def _lane(self, polyline: Floats) -> Floats | None:
        xs = self.places(polyline)
        inside = np.flatnonzero((xs >= 0) & (xs < self.network[1]))
        if len(inside) < 2:
            return None
        lane = np.empty(6 + self.count)
        lane[0], lane[PRESENT] = 0, 1
        lane[START_Y] = inside[0] / (self.count - 1)
        lane[START_X] = xs[inside[0]]
        rise = np.arange(1, len(inside)) * self.step
        angles = np.arctan(rise / (xs[inside[1:]] - xs[inside[0]] + 1e-5)) / math.pi
        lane[THETA] = np.where(angles > 0, angles, 1 + angles).mean()
        lane[LENGTH] = len(inside)
        lane[XS] = xs
        return lane

    def places(self, polyline: Floats) -> Floats:
        """x on each row: of the cubic spline through the points, below them of the line through the lowest two; else ABSENT."""
        xs = np.full(self.count, ABSENT)
        # From the lowest up, of points on one row the first.
        x, y = polyline[np.argsort(-polyline[:, 1], kind="stable")].T
        new = np.append(True, y[1:] < y[:-1])
        x, y = x[new], y[new]
        if len(x) < 2:
            return xs
        # Upstream's numbers: its last row comes out a hair above the image, so that a lane which is cut off there isn't on it.
        rows = np.arange(self.network[0], -1.0, -self.step)[: self.count]
        within = (rows <= y[0]) & (rows >= y[-1])
        if not within.any():
            return xs
        spline = InterpolatedUnivariateSpline(y[::-1], x[::-1], k=min(3, len(x) - 1))
        xs[within] = spline(rows[within])
        below = rows > y[0]
        xs[below] = x[0] + (rows[below] - y[0]) * ((x[0] - x[1]) / (y[0] - y[1]))
        places: Floats = np.clip(np.nan_to_num(xs, nan=ABSENT), ABSENT, -ABSENT)
        return places


def clipped(polyline: Floats, network: tuple[float, float]) -> list[Floats]:
    """The pieces of a polyline (N, 2) that lie in the image, each with a point where it crosses an edge."""
    right, bottom = network[1] - EDGE, network[0] - EDGE
    x, y = polyline.T
    inside = (x >= 0) & (x <= right) & (y >= 0) & (y <= bottom)
    if inside.all():
        return [polyline] if len(polyline) else []
    start, along = polyline[:-1], np.diff(polyline, axis=0)
    # Each segment lies in the image between the shares `enters` and `leaves` of its length (Liang and Barsky, 1984).
    with np.errstate(divide="ignore", invalid="ignore"):
        first, second = -start / along, (np.array([right, bottom]) - start) / along
    parallel = along == 0
    beyond = parallel & ((start < 0) | (start > [right, bottom]))
    near = np.where(parallel, np.where(beyond, np.inf, 0.0), np.minimum(first, second))
    far = np.where(parallel, 1.0, np.maximum(first, second))
    enters, leaves = near.max(axis=1).clip(min=0.0), far.min(axis=1).clip(max=1.0)
    visible = np.flatnonzero(enters <= leaves)
    interrupted = (np.diff(visible) > 1) | (leaves[visible[:-1]] < 1) | (enters[visible[1:]] > 0)
    return [
        _joined(start[run], along[run], enters[run], leaves[run])
        for run in np.split(visible, np.flatnonzero(interrupted) + 1)
        if len(run)
    ]


def _joined(start: Floats, along: Floats, enters: Floats, leaves: Floats) -> Floats:
    """The polyline of a run of segments, of which the first may begin and the last may end at an edge of the image."""
    piece = np.concatenate([start[:1] + enters[:1, None] * along[:1], start + leaves[:, None] * along])
    if enters[0] > 0 and np.hypot(*(piece[1] - piece[0])) <= SAME:
        piece = piece[1:]
    if leaves[-1] < 1 and len(piece) > 1 and np.hypot(*(piece[-1] - piece[-2])) <= SAME:
        piece = piece[:-1]
    return piece
