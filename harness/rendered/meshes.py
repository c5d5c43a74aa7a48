"""Solid things as triangles: quads become the meshes that are drawn."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from harness.rendered.kernels import Floats, Ints


class Mesh(NamedTuple):
    """Triangles ready for `draw_triangles`."""

    vertices: Floats
    colors: Floats
    coordinates: Floats
    triangles: Ints
    textures: Ints


def quads_to_mesh(
    vertices: npt.ArrayLike,
    colors: npt.ArrayLike,
    coordinates: npt.ArrayLike | None = None,
    textures: npt.ArrayLike | None = None,
) -> Mesh:
    """Quads (Q, 4, 3) with colours (Q, 4, 4), facade coordinates (Q, 4, 2) and textures (Q,) as triangles."""
    points = np.ascontiguousarray(vertices, np.float32).reshape(-1, 3)
    count = len(points) // 4
    base = 4 * np.arange(count)[:, None]
    triangles = (base + np.array([0, 1, 2, 0, 2, 3])).reshape(-1, 3)
    uv = np.zeros((len(points), 2)) if coordinates is None else np.reshape(coordinates, (-1, 2))
    kinds = np.full(count, -1) if textures is None else np.asarray(textures)
    return Mesh(
        points,
        np.ascontiguousarray(np.reshape(colors, (-1, 4)), np.float32),
        np.ascontiguousarray(uv, np.float32),
        np.ascontiguousarray(triangles, np.int32),
        np.ascontiguousarray(np.repeat(kinds, 2), np.int32),
    )
