"""Predicted lanes as curves: what is written of a lane that a network gives on rows of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.interpolate import InterpolatedUnivariateSpline

Floats = npt.NDArray[np.float64]


def seen_rows(
    start: float, length: float, xs: npt.NDArray[np.floating[Any]], *, prolonged: int
) -> npt.NDArray[np.intp]:
    """The rows of `claimed_rows` that aren't left of the image.

    As predictions_to_pred of Turoad/CLRNet (Apache-2.0), clrnet/models/heads/clr_head.py.
    """
    rows = claimed_rows(start, length, xs, prolonged=prolonged)
    seen: npt.NDArray[np.intp] = rows[xs[rows] >= 0]
    return seen


def claimed_rows(
    start: float, length: float, xs: npt.NDArray[np.floating[Any]], *, prolonged: int
) -> npt.NDArray[np.intp]:
    """The rows, from the bottom up, on which a lane is: `length` of them from the share `start` of all on, both rounded half to even.

    xs: x on each row as a share of the width. A lane that doesn't start at the bottom is prolonged downwards until it leaves the
    image, by `prolonged` rows at most. Rules of CLRNet, as above, and of hirotomusiker/CLRerNet (Apache-2.0),
    libs/models/dense_heads/clrernet_head.py, predictions_to_lanes.
    """
    last = len(xs) - 1
    first = int(np.clip(np.rint(np.nan_to_num(float(start) * last)), 0, last))
    end = min(first + int(np.clip(np.nan_to_num(np.rint(length)), -1, len(xs))) - 1, last)
    places = xs[max(0, first - prolonged) : first]
    below = (places >= 0) & (places <= 1)
    rows = np.arange(first - int(below[::-1].cumprod().sum()), end + 1, dtype=np.intp)
    finite: npt.NDArray[np.intp] = rows[np.isfinite(xs[rows])]
    return finite


def curve_on_rows(points: Floats, rows: Floats, *, prolonged: float) -> Floats:
    """The cubic spline x(y) through points (N, 2) from the lowest up, N >= 2, on those of the rising `rows` that it reaches: (M, 2).

    It reaches `prolonged` beyond its ends. From the lowest row up.
    """
    y, x = points[::-1, 1], points[::-1, 0]
    reached = rows[np.searchsorted(rows, y[0] - prolonged) : np.searchsorted(rows, y[-1] + prolonged, side="right")]
    curve = InterpolatedUnivariateSpline(y, x, k=min(3, len(y) - 1))
    found = np.empty((len(reached), 2))
    found[::-1, 0], found[::-1, 1] = curve(reached), reached
    return found
