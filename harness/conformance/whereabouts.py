"""Where decoded lanes lie beside their labels: how far they are off as a whole, and in what frame they may be if they lie elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.lanes import Geometry, Lane

Array = npt.NDArray[np.float64]
Images = Sequence[Sequence[Lane]]

LIMIT = 0.35
"""Network pixels. Between an image's cells and their centres lies half a pixel; without that fault our own detectors stay below 0.15
wherever the offset can be told.
"""

COARSE = 0.75
"""Network pixels. Where lanes lie this far from their labels once the offset is taken out, the offset of all can't be told."""

ROUNDS = 30
"""Of reweighting, by which least squares become least absolute distances."""

LIKELY = 0.5
"""An F1@50 from which on a guess is told."""


@dataclass(frozen=True)
class Offset:
    """By how many network pixels decoded lanes lie right of and below their labels, and how far apart they still are without that."""

    x: float
    y: float
    rest: float

    def __str__(self) -> str:
        return f"off by {self.x:+.2f}, {self.y:+.2f} network pixels (x, y)"

    @property
    def systematic(self) -> bool:
        """Whether it is no chance of coarse cells or stiff curves."""
        return max(abs(self.x), abs(self.y)) > LIMIT and self.rest < COARSE


def offset_of(lanes: Images, labels: Images, geometries: Sequence[Geometry]) -> Offset | None:
    """The offset of all lanes as one; None where no decoded lane lies on the rows of a label.

    Lanes that are moved by (x, y) cross a row x - slope y further to the right: left and right lanes tell the two apart.
    """
    seen = [
        _beside(geometry.to_network(lane.points), [geometry.to_network(label.points) for label in its_labels])
        for found, its_labels, geometry in zip(lanes, labels, geometries, strict=True)
        for lane in found
    ]
    distance, slope = np.concatenate([np.zeros((2, 0)), *seen], axis=1)
    if not distance.size:
        return None
    terms, weight = np.stack([np.ones_like(slope), -slope], axis=1), np.ones_like(distance)
    for _ in range(ROUNDS):
        (x, y), *_ = np.linalg.lstsq(terms * weight[:, None], distance * weight, rcond=None)
        rest = np.abs(distance - terms @ (x, y))
        weight = np.maximum(rest, 1e-2) ** -0.5
    return Offset(float(x), float(y), float(np.median(rest)))


def _beside(points: Array, labels: Sequence[Array]) -> Array:
    """Of a lane's points how far right of the nearest label they lie, and the label's slope dx/dy there: (2, N)."""
    rows = points[:, 1]
    nearest, least = np.zeros((2, 0)), np.inf
    for label in labels:
        distance = points[:, 0] - _crossings(label, rows)
        slope = _crossings(label, rows + 0.5) - _crossings(label, rows - 0.5)
        known = np.isfinite(distance) & np.isfinite(slope)
        if known.any() and (far := float(np.median(np.abs(distance[known])))) < least:
            nearest, least = np.stack([distance[known], slope[known]]), far
    return nearest


def _crossings(line: Array, rows: Array) -> Array:
    """Where a line crosses rows; NaN beyond its ends."""
    line = line[np.argsort(line[:, 1], kind="stable")]
    return np.asarray(np.interp(rows, line[:, 1], line[:, 0], left=np.nan, right=np.nan))


GUESSES: tuple[tuple[str, Callable[[Array, Geometry], Array]], ...] = (
    (
        "they look like network pixels: map them with geometry.to_original",
        lambda points, geometry: geometry.to_original(points),
    ),
    ("x and y look exchanged", lambda points, geometry: points[:, ::-1]),
    (
        "they look like network pixels with x and y exchanged: map (x, y) with geometry.to_original",
        lambda points, geometry: geometry.to_original(points[:, ::-1]),
    ),
    (
        "they look mapped twice: map network pixels with geometry.to_original once",
        lambda points, geometry: geometry.to_network(points),
    ),
)
"""Mistakes, and what would undo each."""


def whereabouts(lanes: Images, labels: Images, geometries: Sequence[Geometry], score: Callable[[Images], float]) -> str:
    """Where lanes lie that lie elsewhere than their labels, and what would bring them there. score: the F1@50 of lanes."""
    if not any(len(lane) for found in lanes for lane in found):
        return "decode gives no lane"
    said = f"decoded {_ranges(lanes)}, labels {_ranges(labels)}"
    likely = max(LIKELY, 2 * score(lanes))
    for words, undone in GUESSES:
        moved = [
            [Lane(undone(lane.points.astype(np.float64), geometry).astype(np.float32)) for lane in found]
            for found, geometry in zip(lanes, geometries, strict=True)
        ]
        if score(moved) >= likely:
            return f"{said}; {words}"
    return said


def _ranges(lanes: Images) -> str:
    points = np.concatenate([lane.points for found in lanes for lane in found])
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    return f"x {left:.4g} to {right:.4g}, y {top:.4g} to {bottom:.4g}"
