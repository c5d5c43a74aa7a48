"""The road's shape, the camera over it, and where lanes fall in the image.

One description serves pixels and labels: the tables of `RoadView` are what the ground kernel looks up, and
`lane_curve` projects the
same curves forwards, so that a label lies on its paint by construction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from harness.lanes import Lane
from harness.rendered.kernels import View

Array = npt.NDArray[np.float64]

STEP = 0.5
AHEAD = 700.0
CULANE_REACH = 95.0
"""Lanes are labelled up to this many metres ahead: about where CULane's annotators stop."""
ROWS = 59
"""CULane labels a point every 10 rows of 590; other heights are cut into as many steps."""
SLOPES = 8192
SLOPE_RANGE = (-1.4, 0.16)
MOST_HEADING = 1.1


@dataclass(frozen=True)
class Widening:
    """A lane that opens (`amount` > 0 from `start` on) or closes: what lies right of `edge` moves right by amount x
    smoothstep."""

    edge: float
    amount: float
    start: float
    length: float

    def shift(self, s: npt.ArrayLike) -> Array:
        """Metres to the right at s."""
        w = np.clip((np.asarray(s, np.float64) - self.start) / self.length, 0.0, 1.0)
        return np.asarray(self.amount * w * w * (3.0 - 2.0 * w))


@dataclass(frozen=True)
class RoadShape:
    """Curvature (1/m, positive bends right) at knots along s, and hills as (amplitude, wavelength, phase) sines."""

    knots: Array
    curvatures: Array
    hills: tuple[tuple[float, float, float], ...]
    widening: Widening

    def elevation(self, s: Array) -> Array:
        """Height of the road over s, metres."""
        height = np.zeros_like(s)
        for amplitude, wavelength, phase in self.hills:
            height += amplitude * np.sin(2 * np.pi * s / wavelength + phase)
        return height


@dataclass(frozen=True)
class RoadView:
    """The road ahead of one frame, sampled by s: local x, z, y (height over the tangent plane at the car) and
    heading."""

    start: float
    s: Array
    x: Array
    y: Array
    z: Array
    heading: Array

    def place(self, s: npt.ArrayLike, d: npt.ArrayLike) -> tuple[Array, Array, Array, Array]:
        """Local x, y, z and heading of road coordinates; beyond the sampled range they are extrapolated along the
        ends."""
        s_, d_ = np.asarray(s, np.float64), np.asarray(d, np.float64)
        heading = np.interp(s_, self.s, self.heading)
        over = s_ - np.clip(s_, self.s[0], self.s[-1])
        x = np.interp(s_, self.s, self.x) + over * np.sin(heading) + d_ * np.cos(heading)
        z = np.interp(s_, self.s, self.z) + over * np.cos(heading) - d_ * np.sin(heading)
        return x, np.interp(s_, self.s, self.y), z, heading


def view_road(shape: RoadShape, start: float) -> RoadView:
    """Integrate the road's shape from a little behind the car at s = start to `AHEAD` metres."""
    s = start + np.arange(-20.0, AHEAD, STEP)
    curvature = np.interp(s, shape.knots, shape.curvatures)
    heading = np.concatenate([[0.0], np.cumsum(0.5 * (curvature[1:] + curvature[:-1]) * STEP)])
    here = round(20.0 / STEP)
    heading = np.clip(heading - heading[here], -MOST_HEADING, MOST_HEADING)
    middle = 0.5 * (heading[1:] + heading[:-1])
    x = np.concatenate([[0.0], np.cumsum(np.sin(middle) * STEP)])
    z = np.concatenate([[0.0], np.cumsum(np.cos(middle) * STEP)])
    height = shape.elevation(s)
    tilt = (height[here + 1] - height[here - 1]) / (2 * STEP)
    y = height - height[here] - tilt * (s - start)
    y *= 1.0 / (1.0 + np.maximum(s - start - 300.0, 0.0) / 50.0)
    return RoadView(start, s, x - x[here], y, z - z[here], heading)


def slope_table(road: RoadView, eye: float, haze: float) -> tuple[npt.NDArray[np.float32], float, float]:
    """What a ray of slope dy/dz first meets: rows (z, centre x, cos, tan of heading, s, transmittance, visible),
    start, scale.

    The road's height depends on z alone, so a ray's slope decides where it lands, also over crests.
    """
    z = 1.0 / np.linspace(1.0 / 0.7, 1.0 / 3000.0, 6000)
    slope = (np.interp(z, road.z, road.y) - eye) / z
    best = np.maximum.accumulate(slope)
    seen = slope >= best
    seen[1:] &= slope[1:] > best[:-1]
    slopes = np.linspace(*SLOPE_RANGE, SLOPES)
    depth = 1.0 / np.interp(slopes, slope[seen], 1.0 / z[seen])
    s = np.interp(depth, road.z, road.s) + np.maximum(depth - road.z[-1], 0.0)
    heading = np.interp(depth, road.z, road.heading)
    table = np.stack(
        [
            depth,
            np.interp(depth, road.z, road.x) + np.maximum(depth - road.z[-1], 0.0) * np.tan(road.heading[-1]),
            np.cos(heading),
            np.tan(heading),
            s,
            np.exp(-depth * haze),
            slopes <= slope[seen][-1],
        ],
        axis=1,
    )
    return np.ascontiguousarray(table, np.float32), SLOPE_RANGE[0], (SLOPES - 1) / (SLOPE_RANGE[1] - SLOPE_RANGE[0])


def make_view(
    *,
    focal: float,
    center: tuple[float, float],
    eye: tuple[float, float],
    yaw: float,
    pitch: float,
    roll: float,
    distortion: float,
) -> View:
    """A camera at local (x, height) with angles in radians (yaw right, pitch down, roll clockwise) and radial
    distortion
    r' = r (1 + distortion r^2), r in focal lengths."""
    cos_y, sin_y, cos_p, sin_p, cos_r, sin_r = (f(a) for a in (yaw, pitch, roll) for f in (np.cos, np.sin))
    turn = np.array([[cos_y, 0, sin_y], [0, 1, 0], [-sin_y, 0, cos_y]])
    nod = np.array([[1, 0, 0], [0, cos_p, -sin_p], [0, sin_p, cos_p]])
    lean = np.array([[cos_r, sin_r, 0], [-sin_r, cos_r, 0], [0, 0, 1]])
    per_radius = 512.0
    squared = np.arange(8 * int(per_radius)) / per_radius
    straight = squared.copy()
    for _ in range(30):
        straight = squared / np.square(1 + distortion * straight)
    return View(
        focal=float(focal),
        center_x=float(center[0]),
        center_y=float(center[1]),
        x=float(eye[0]),
        y=float(eye[1]),
        rotation=np.ascontiguousarray(turn @ nod @ lean, np.float32),
        undistort=(1.0 / (1.0 + distortion * straight)).astype(np.float32),
        distort=(1.0 + distortion * squared).astype(np.float32),
        per_radius=per_radius,
    )


def project(view: View, distortion: float, x: Array, y: Array, z: Array) -> tuple[Array, Array, Array]:
    """Local points -> pixel columns, rows and depths (points behind the camera get a depth <= 0 and no meaning
    otherwise)."""
    local = np.stack([x - view.x, y - view.y, z])
    right, up, depth = np.tensordot(view.rotation.astype(np.float64).T, local, axes=1)
    safe = np.where(depth > 1e-3, depth, 1e-3)
    u, v = right / safe, -up / safe
    scale = 1.0 + distortion * (u * u + v * v)
    return view.center_x + view.focal * u * scale, view.center_y + view.focal * v * scale, depth


class Curve(NamedTuple):
    """A lane boundary on the ground, densely from near to far: local x, y, z, the s at which its paint lies, and where it
    falls in the image. Only what the camera can see: ahead of it, before the first crest, before the lens folds over."""

    x: Array
    y: Array
    z: Array
    s: Array
    column: Array
    row: Array


def lane_curve(view: View, distortion: float, road: RoadView, offset: Array | float, *, reach: float) -> Curve | None:
    """The boundary at d = offset (a value, or one per sample of `road.s`) up to `reach` metres ahead; None if nothing of it
    is seen. Rows fall strictly."""
    z = 1.0 / np.linspace(1.0 / 1.2, 1.0 / reach, 1500)
    s = np.interp(z, road.z, road.s)
    heading = np.interp(z, road.z, road.heading)
    d = np.interp(s, road.s, offset) if isinstance(offset, np.ndarray) else np.full_like(z, offset)
    x = np.interp(z, road.z, road.x) + d / np.cos(heading)
    y = np.interp(z, road.z, road.y)
    slope = (y - view.y) / z
    hidden = slope < np.maximum.accumulate(slope) - 1e-9
    stop = np.flatnonzero(hidden)
    last = int(stop[0]) if len(stop) else len(z)
    column, row, depth = project(view, distortion, x, y, z)
    # Far off its axis a barrel lens folds the image over itself; what is near the car and far to the side is left out.
    local = np.stack([x - view.x, y - view.y, z])
    right, up, _ = np.tensordot(view.rotation.astype(np.float64).T, local, axes=1) / np.maximum(depth, 1e-3)
    fold = 0.9 / (-3.0 * distortion) if distortion < -0.02 else 9.0
    first = int(np.argmax((depth > 0.3) & (right * right + up * up < min(fold, 9.0))))
    rising = np.flatnonzero(np.diff(row[first:last]) >= 0)
    last = min(last, first + int(rising[0]) + 1) if len(rising) else last
    if last - first < 2:
        return None
    part = slice(first, last)
    return Curve(x[part], y[part], z[part], (s + d * np.tan(heading))[part], column[part], row[part])


def culane_points(curve: Curve, size: tuple[int, int]) -> Lane | None:
    """A boundary as CULane labels it, or None if it is hardly seen.

    Points lie on CULane-like rows (every 10 of 590) from the bottom up, kept behind vehicles, and one point outside the
    image's sides.
    """
    height, width = size
    rows = height * (ROWS - np.arange(ROWS)) / ROWS
    rows = rows[(rows <= curve.row[0]) & (rows >= curve.row[-1])]
    columns = np.interp(-rows, -curve.row, curve.column)
    inside = np.flatnonzero((columns >= -0.5) & (columns <= width - 0.5))
    if len(inside) < 4:
        return None
    gaps = np.flatnonzero(np.diff(inside) > 1)
    end = int(inside[gaps[0]] if len(gaps) else inside[-1])
    keep = slice(max(int(inside[0]) - 1, 0), min(end + 2, len(rows)))
    points = np.stack([columns[keep], rows[keep]], axis=1)
    return Lane(points.astype(np.float32)) if end - inside[0] >= 3 else None
