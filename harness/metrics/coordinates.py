"""Whether predictions are in the pixels of their labels: in others they score nothing, and nobody would know why."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from harness.metrics.lane_text import Floats

FEWEST_POINTS = 100
"""Of fewer points on either side nothing is said."""

EDGES = (0.02, 0.98)
"""The quantiles that a range is told by: a few points far outside are no sign."""

APART = 1.3
"""Upper edges whose ratio is beyond this are of other pixels: a close usual case is 590 rows cut and resized to 288 or 320."""

STRETCHED = 1.5
"""So are upper edges whose ratios across and down are so far apart: 1640 x 590 against 1280 x 720 is .78 and 1.22."""


def coordinates_of(lanes: Iterable[Any]) -> Floats:
    """Points (N, 2) float32 of an iterable of arrays of points (n, 2); those that aren't finite are left out."""
    found = [np.asarray(points, np.float32).reshape(-1, 2) for points in lanes]
    points = np.concatenate(found) if found else np.zeros((0, 2), np.float32)
    return points[np.isfinite(points).all(axis=1)]


def other_pixels(labels: Floats, predictions: Floats) -> str | None:
    """Why predicted points (N, 2) can't be in the pixels of labelled ones (M, 2), with both ranges; None where they can, or are few."""
    if min(len(labels), len(predictions)) < FEWEST_POINTS:
        return None
    (labelled, predicted), told = (np.quantile(points, EDGES, axis=0) for points in (labels, predictions)), []
    ratios = np.abs(predicted[1]) / np.maximum(np.abs(labelled[1]), 1.0)
    if (ratios <= APART).all() and (ratios >= 1 / APART).all() and ratios.max() <= STRETCHED * ratios.min():
        return None
    for points, whose in ((labelled, "labels"), (predicted, "predictions")):
        (left, top), (right, bottom) = points
        told.append(f"{whose} have x {left:.4g} to {right:.4g} and y {top:.4g} to {bottom:.4g}")
    exchanged = np.abs(np.log(np.maximum(np.abs(predicted[1, ::-1]), 1e-9) / np.maximum(np.abs(labelled[1]), 1.0)))
    likely = (
        "x and y exchanged" if (exchanged < np.log(APART)).all() else "other pixels, such as those of a network's input"
    )
    return f"{' but '.join(told)}: {likely}? They are scored in the pixels of the labels"
