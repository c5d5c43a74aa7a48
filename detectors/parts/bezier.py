"""Cubic Bézier curves: four control points (4, 2), a parameter t from 0 at the first of them to 1 at the last."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]

ORDER = 3


def bernstein(t: npt.ArrayLike) -> Numbers:
    """Parameters (N,) -> the matrix (N, 4) that takes control points to the points of their curve."""
    along = np.asarray(t, dtype=np.float64)
    back = 1.0 - along
    return np.stack([back**3, 3 * along * back**2, 3 * along**2 * back, along**3], axis=-1)


def evenly(count: int) -> Numbers:
    """The matrix (count, 4) of that many parameters, from 0 to 1."""
    return bernstein(np.linspace(0.0, 1.0, count))


def fitted_curve(points: npt.NDArray[np.floating]) -> Numbers | None:
    """The control points (4, 2) of least squares, where a point's t is its share of the polyline's length; None for no length.

    As in pytorch-auto-drive's utils/curve_utils.py. With fewer than four different points a curve isn't given by them: points in
    between, evenly along the polyline, are then fitted too.
    """
    if len(points) < 2:
        return None
    points = np.asarray(points, dtype=np.float64)
    steps = np.hypot(*np.diff(points, axis=0).T)
    moves = np.concatenate([[True], steps > 0])
    points, along = points[moves], np.concatenate([[0.0], steps.cumsum()])[moves]
    if len(points) < 2:
        return None
    if len(points) <= ORDER:
        finer = np.linspace(0.0, along[-1], 1 + ORDER * (len(points) - 1))
        points = np.stack([np.interp(finer, along, coordinate) for coordinate in points.T], axis=1)
        along = finer
    return np.asarray(np.linalg.lstsq(bernstein(along / along[-1]), points)[0])


def part_of(curve: Numbers, start: float, end: float) -> Numbers:
    """The control points of a curve's part between two parameters, by de Casteljau's algorithm."""

    def blossom(*places: float) -> Numbers:
        points = curve
        for t in places:
            points = (1 - t) * points[:-1] + t * points[1:]
        return np.asarray(points[0])

    return np.stack([blossom(*[start] * (ORDER - k), *[end] * k) for k in range(ORDER + 1)])
