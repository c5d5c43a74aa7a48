"""Coordinates as shares of the part of the frame that a network sees: what curves are written in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from detectors.meta import InputSize
from harness.lanes import plain_geometry


@dataclass(frozen=True, eq=False)
class Shares:
    """origin, size: (x, y) of the place with the shares (0, 0), and of that with (1, 1) as seen from it, in network pixels."""

    origin: npt.NDArray[np.float64]
    size: npt.NDArray[np.float64]

    def of(self, points: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Network pixels (..., 2) -> shares of width and height (..., 2)."""
        return np.asarray((np.asarray(points, dtype=np.float64) - self.origin) / self.size)

    def to_network(self, shares: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Shares of width and height (..., 2) -> network pixels (..., 2)."""
        return np.asarray(self.origin + np.asarray(shares, dtype=np.float64) * self.size)


def shares_of(size: InputSize) -> Shares:
    """Upstreams divide label coordinates by the frame's size: an edge is at 0 and at the count of pixels, not half a pixel before."""
    plain = plain_geometry(size.frame, size.crop, size.network)
    top, left, bottom, right = size.crop
    origin, end = plain.to_network([(float(left), float(top)), (float(right), float(bottom))])
    return Shares(origin, end - origin)
