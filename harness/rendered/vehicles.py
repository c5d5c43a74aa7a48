"""Vehicles as triangles, lofted from side views. Built once, placed and lit per frame."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from harness.rendered.kernels import Floats, Ints
from harness.rendered.meshes import quads_to_mesh

PAINT, GLASS, DARK, RIM, TAIL, HEAD, PLATE, TRIM, CARGO = range(9)


@dataclass(frozen=True)
class Model:
    """A vehicle: vertices (N, 3) with x right, y up, z forward from its middle on the ground, normals (N, 3),
    materials (N,), the share of
    sky that they see (N,), and triangles as `Mesh` has them."""

    vertices: Floats
    normals: Floats
    materials: npt.NDArray[np.int64]
    open_sky: Floats
    rise: Floats
    """How far up its quad each vertex lies, in [0, 1]."""
    coordinates: Floats
    triangles: Ints
    textures: Ints
    length: float
    width: float
    height: float
    tail: float
    """Height of the rear lights."""
    head: float
    """Height of the headlights."""


class _Body(NamedTuple):
    length: float
    width: float
    stations: Sequence[tuple[float, float, float, float, bool]]
    """Side view from the rear: share of the length, belt height, top height, share of the width, whether it has
    windows."""
    tuck: float
    """How much the roof is narrower than the belt, metres a side for each metre of height."""
    wheel: float
    clearance: float
    axles: tuple[float, ...]
    boxed: bool = False


_BODIES: dict[str, _Body] = {
    "sedan": _Body(
        4.7,
        1.83,
        [
            (0.0, 0.78, 0.88, 0.90, False),
            (0.02, 0.88, 1.02, 0.955, False),
            (0.13, 0.93, 1.07, 0.985, False),
            (0.29, 0.95, 1.40, 1.0, True),
            (0.38, 0.95, 1.45, 1.0, True),
            (0.55, 0.95, 1.455, 1.0, True),
            (0.62, 0.94, 1.40, 1.0, True),
            (0.76, 0.90, 0.99, 0.99, False),
            (0.93, 0.76, 0.85, 0.94, False),
            (1.0, 0.58, 0.64, 0.82, False),
        ],
        0.42,
        0.32,
        0.24,
        (0.19, 0.79),
    ),
    "hatch": _Body(
        4.2,
        1.78,
        [
            (0.0, 0.82, 0.90, 0.90, False),
            (0.015, 0.93, 1.02, 0.96, False),
            (0.10, 0.96, 1.44, 0.985, True),
            (0.18, 0.96, 1.50, 1.0, True),
            (0.5, 0.95, 1.52, 1.0, True),
            (0.6, 0.95, 1.45, 1.0, True),
            (0.77, 0.92, 1.01, 0.99, False),
            (0.94, 0.78, 0.86, 0.93, False),
            (1.0, 0.6, 0.66, 0.82, False),
        ],
        0.34,
        0.32,
        0.23,
        (0.17, 0.8),
    ),
    "suv": _Body(
        4.7,
        1.9,
        [
            (0.0, 0.95, 1.03, 0.92, False),
            (0.015, 1.08, 1.16, 0.97, False),
            (0.075, 1.1, 1.64, 0.985, True),
            (0.15, 1.1, 1.71, 1.0, True),
            (0.5, 1.08, 1.73, 1.0, True),
            (0.6, 1.08, 1.66, 1.0, True),
            (0.74, 1.05, 1.14, 0.99, False),
            (0.94, 0.92, 1.0, 0.95, False),
            (1.0, 0.68, 0.76, 0.86, False),
        ],
        0.3,
        0.37,
        0.3,
        (0.19, 0.79),
    ),
    "van": _Body(
        4.9,
        1.84,
        [
            (0.0, 1.0, 1.08, 0.95, False),
            (0.01, 1.1, 1.2, 0.98, False),
            (0.045, 1.12, 1.84, 0.99, True),
            (0.1, 1.12, 1.92, 1.0, True),
            (0.6, 1.12, 1.94, 1.0, True),
            (0.72, 1.1, 1.86, 1.0, True),
            (0.88, 1.02, 1.12, 0.98, False),
            (0.97, 0.86, 0.94, 0.95, False),
            (1.0, 0.66, 0.72, 0.9, False),
        ],
        0.16,
        0.33,
        0.26,
        (0.17, 0.82),
    ),
    "pickup": _Body(
        5.6,
        1.98,
        [
            (0.0, 1.0, 1.06, 0.95, False),
            (0.01, 1.06, 1.1, 0.98, False),
            (0.36, 1.08, 1.12, 0.99, False),
            (0.385, 1.1, 1.72, 0.99, True),
            (0.42, 1.1, 1.82, 1.0, True),
            (0.58, 1.1, 1.82, 1.0, True),
            (0.66, 1.1, 1.74, 1.0, True),
            (0.76, 1.08, 1.18, 0.99, False),
            (0.95, 0.98, 1.06, 0.96, False),
            (1.0, 0.7, 0.8, 0.9, False),
        ],
        0.22,
        0.39,
        0.38,
        (0.2, 0.79),
    ),
    "bus": _Body(
        11.2,
        2.5,
        [
            (0.0, 1.3, 2.95, 0.97, False),
            (0.01, 1.25, 3.1, 1.0, True),
            (0.33, 1.25, 3.12, 1.0, True),
            (0.66, 1.25, 3.12, 1.0, True),
            (0.99, 1.2, 3.08, 1.0, True),
            (1.0, 1.15, 2.9, 0.96, False),
        ],
        0.03,
        0.48,
        0.32,
        (0.22, 0.77),
        True,
    ),
    "truck": _Body(
        8.6,
        2.4,
        [
            (0.0, 1.0, 3.3, 1.0, False),
            (0.72, 1.0, 3.3, 1.0, False),
            (0.722, 1.4, 2.1, 0.9, False),
            (0.76, 1.4, 2.5, 0.93, True),
            (0.9, 1.4, 2.5, 0.93, True),
            (0.975, 1.35, 1.55, 0.93, False),
            (1.0, 0.7, 1.1, 0.9, False),
        ],
        0.01,
        0.48,
        0.55,
        (0.16, 0.25, 0.83),
        True,
    ),
}
VEHICLES = ("sedan", "hatch", "suv", "van", "bus", "truck")
"""What traffic is drawn from, in the order of its shares."""


class _Builder:
    """Collects quads that own their vertices."""

    def __init__(self) -> None:
        self.vertices: list[npt.ArrayLike] = []
        self.normals: list[npt.ArrayLike] = []
        self.materials: list[int] = []

    def quad(self, corners: npt.ArrayLike, material: int, normals: npt.ArrayLike) -> None:
        self.vertices.extend(np.asarray(corners, np.float64))
        self.normals.extend(np.asarray(normals, np.float64))
        self.materials.extend([material] * 4)

    def plate(
        self, x: float, y: float, z: float, half_width: float, half_height: float, material: int, facing: float
    ) -> None:
        """A rectangle looking backwards (facing -1) or forwards (+1)."""
        corners = [(x - half_width, y - half_height, z), (x + half_width, y - half_height, z)]
        corners += [(x + half_width, y + half_height, z), (x - half_width, y + half_height, z)]
        self.quad(corners, material, np.tile([0.0, 0.0, facing], (4, 1)))


@lru_cache(maxsize=16)
def vehicle(name: str) -> Model:
    """The model of a kind of vehicle."""
    body = _BODIES[name]
    build = _Builder()
    half = body.width / 2
    rings = []
    for share, belt, top, wide, _ in body.stations:
        z, w = (share - 0.5) * body.length, half * wide
        roof = w - body.tuck * max(top - belt, 0.0)
        low, rim = body.clearance, 0.04 if body.boxed else 0.07
        side = [(w * 0.94, low), (w * 0.995, low + 0.16), (w, 0.5 * (low + belt) + 0.1), (w * 0.975, belt)]
        side += [(roof, top - rim), (roof - 2.4 * rim, top)]
        ring = [(x, y, z) for x, y in side] + [(-x, y, z) for x, y in reversed(side)]
        rings.append(ring)
    grid = np.array(rings)
    # Smooth normals of the loft: averages over the faces that meet in a vertex.
    along = np.gradient(grid, axis=0)
    around = np.gradient(grid, axis=1)
    smooth = np.cross(around, along)
    smooth /= np.linalg.norm(smooth, axis=2, keepdims=True) + 1e-12
    outward = grid - np.array([0.0, 0.7, 0.0]) * np.ones_like(grid)
    flip = np.sign((smooth[..., :2] * outward[..., :2]).sum(-1, keepdims=True))
    smooth *= np.where(flip == 0, 1, flip)
    stations = body.stations
    for i in range(len(stations) - 1):
        here, ahead = stations[i][4], stations[i + 1][4]
        for j in range(11):
            corners = [grid[i, j], grid[i + 1, j], grid[i + 1, j + 1], grid[i, j + 1]]
            soft = [smooth[i, j], smooth[i + 1, j], smooth[i + 1, j + 1], smooth[i, j + 1]]
            material = CARGO if name == "truck" and i == 0 else PAINT
            side_window = j in (3, 7) and here and ahead
            if side_window or (j == 5 and here != ahead and not body.boxed):
                material = GLASS
            elif j in (0, 10):
                material = DARK
            if material == GLASS:
                middle = np.mean(corners, axis=0)
                share = 0.9
                pane = [middle + (corner - middle) * share for corner in np.array(corners)]
                build.quad(corners, DARK if j in (3, 7) else PAINT, soft)
                lift = np.mean(soft, axis=0) * 0.012
                build.quad(np.array(pane) + lift, GLASS, soft)
            else:
                build.quad(corners, material, soft)
    for end, facing in ((0, -1.0), (-1, 1.0)):
        ring = grid[end]
        for j in range(5):
            low_tilt, high_tilt = 0.3 * (j - 2) / 3, 0.3 * (j - 1) / 3
            tilt = [
                [0.25, low_tilt, facing],
                [-0.25, low_tilt, facing],
                [-0.25, high_tilt, facing],
                [0.25, high_tilt, facing],
            ]
            face = CARGO if name == "truck" and end == 0 else PAINT
            build.quad([ring[j], ring[11 - j], ring[10 - j], ring[j + 1]], DARK if j == 0 else face, tilt)
    tail, head = _ends(build, name, body)
    _wheels(build, body)
    vertices = np.array(build.vertices, np.float32)
    mesh = quads_to_mesh(vertices, np.zeros((len(vertices), 4)))
    return Model(
        vertices=vertices,
        normals=np.array(build.normals, np.float32),
        materials=np.array(build.materials),
        open_sky=np.float32(0.12) + np.float32(0.88) * np.clip(vertices[:, 1] / np.float32(1.0), 0, 1),
        rise=_rise(vertices),
        coordinates=mesh.coordinates,
        triangles=mesh.triangles,
        textures=mesh.textures,
        length=body.length,
        width=body.width,
        height=max(station[2] for station in body.stations),
        tail=tail,
        head=head,
    )


def _rise(vertices: Floats) -> Floats:
    """How far up its quad each vertex lies, in [0, 1]."""
    y = vertices[:, 1].reshape(-1, 4)
    low, high = y.min(axis=1, keepdims=True), y.max(axis=1, keepdims=True)
    return np.asarray(((y - low) / np.maximum(high - low, 1e-3)).reshape(-1), np.float32)


def _ends(build: _Builder, name: str, body: _Body) -> tuple[float, float]:
    """Lights, plates, bumpers and screens of both ends; returns the heights of tail and head lights."""
    half = body.width / 2
    rear, front = -body.length / 2 - 0.015, body.length / 2 + 0.015
    belt = body.stations[0][1]
    low = body.clearance
    if name == "bus":
        build.plate(0.0, 2.15, rear, half * 0.84, 0.5, GLASS, -1.0)
        build.plate(0.0, 2.05, front, half * 0.88, 0.75, GLASS, 1.0)
        build.plate(0.0, 0.55, rear, half * 0.94, 0.14, DARK, -1.0)
        build.plate(0.0, 1.18, rear, half * 0.6, 0.2, TRIM, -1.0)
        tail, head = 1.15, 0.75
    elif name == "truck":
        build.plate(0.0, 0.86, rear, half * 0.94, 0.08, DARK, -1.0)
        build.plate(0.0, 2.1, rear, 0.012, 1.05, DARK, -1.0)
        for x in (-0.55, -0.35, 0.35, 0.55):
            build.plate(x * half, 2.1, rear, 0.02, 1.0, TRIM, -1.0)
        tail, head = 0.72, 0.8
    else:
        tail, head = belt - 0.02, body.stations[-1][1] + 0.06
        build.plate(0.0, low + 0.06, rear, half * 0.84, 0.06, DARK, -1.0)
        windows = max(station[0] for station in body.stations if station[4])
        for side in (-1, 1):
            build.plate(side * (half + 0.1), belt + 0.13, (windows - 0.5) * body.length, 0.11, 0.075, DARK, -1.0)
        build.plate(0.0, low + 0.14, front, half * 0.7, 0.1, DARK, 1.0)
        build.plate(0.0, low + 0.36, front, half * 0.45, 0.07, TRIM, 1.0)
    slim = name in ("sedan", "hatch")
    wide = 0.08 if body.boxed else 0.165 if slim else 0.09
    tall = 0.14 if body.boxed else 0.062 if slim else 0.16
    plate = tail - (0.4 if body.boxed else 0.26 if slim else 0.3)
    for side in (-1, 1):
        build.plate(side * (half * 0.89 - wide), tail, rear - 0.002, wide + 0.015, tall + 0.015, DARK, -1.0)
        build.plate(side * (half * 0.89 - wide), tail, rear - 0.004, wide, tall, TAIL, -1.0)
        build.plate(
            side * (half * 0.89 - wide * 1.3), tail - tall * 0.55, rear - 0.006, wide * 0.55, tall * 0.3, TRIM, -1.0
        )
        build.plate(side * half * 0.72, low + 0.12, rear - 0.006, 0.07, 0.025, TAIL, -1.0)
        build.plate(side * (half * 0.84 - wide), head, front, wide, 0.08, HEAD, 1.0)
    if not body.boxed:
        build.plate(0.0, plate, rear - 0.001, 0.33, 0.12, DARK, -1.0)
        build.plate(0.0, plate + 0.14, rear - 0.002, 0.3, 0.012, RIM, -1.0)
        build.plate(0.0, low + 0.235, rear - 0.001, half * 0.86, 0.008, DARK, -1.0)
        for side in (-1, 1):
            build.plate(
                side * 0.47, 0.5 * (tail + low + 0.24), rear - 0.001, 0.006, 0.5 * (tail - low - 0.24), DARK, -1.0
            )
    build.plate(0.0, plate, rear - 0.004, 0.22, 0.07, PLATE, -1.0)
    build.plate(0.0, plate, rear - 0.006, 0.17, 0.032, RIM, -1.0)
    return tail, head


def _wheels(build: _Builder, body: _Body) -> None:
    angles = np.linspace(0, 2 * np.pi, 13)
    for share in body.axles:
        z = (share - 0.5) * body.length
        for side in (-1.0, 1.0):
            outer, inner = side * (body.width / 2 + 0.005), side * (body.width / 2 - 0.22)
            for a, b in itertools.pairwise(angles):
                for radius, material, x in (
                    (1.14, DARK, outer - side * 0.004),
                    (1.0, DARK, outer),
                    (0.62, RIM, outer + side * 0.006),
                ):
                    r = radius * body.wheel
                    center = (x, body.wheel, z)
                    first = (x, body.wheel + r * np.sin(a), z + r * np.cos(a))
                    second = (x, body.wheel + r * np.sin(b), z + r * np.cos(b))
                    build.quad([center, first, second, second], material, np.tile([side, 0.0, 0.0], (4, 1)))
                r = body.wheel
                rim = [(outer, r + r * np.sin(c), z + r * np.cos(c)) for c in (a, b)]
                rim += [(inner, r + r * np.sin(c), z + r * np.cos(c)) for c in (b, a)]
                tread = [(0.0, np.sin(c), np.cos(c)) for c in (a, b, b, a)]
                build.quad(rim, DARK, tread)
