"""Where the rays of a row's pixels meet the ground.

Road coordinates: s along the centre line, d to its right, metres; the rest is as in `kernels`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from harness.rendered.compiled import compiled

BLOCK = 8
"""Rays are traced at every so many pixels of a row; between two that meet smooth ground (or sky) their landing places
are interpolated, which is exact to some thousandths of a pixel."""
TRACE = 8
"""Columns of a trace: tangents x/z and y/z of the ray, then what `meet` returns."""


class Optics(NamedTuple):
    """The scalars of `kernels.View` and of the slope table, all float32. Tuples of kernels' innermost functions hold
    no arrays: those are arguments of their own, since counting their references costs more than the pixels."""

    inv_focal: np.float32
    center_x: np.float32
    center_y: np.float32
    per_radius: np.float32
    eye_x: np.float32
    eye_y: np.float32
    slope_start: np.float32
    slope_scale: np.float32


@compiled(fastmath=True)
def tile_at(tile, a, b):  # type: ignore[no-untyped-def]
    """Bilinear lookup in a 512 x 512 periodic byte tile, in [0, 1]."""
    fa, fb = np.floor(a), np.floor(b)
    ta, tb = np.float32(a - fa), np.float32(b - fb)
    i, j = np.int64(fa) & 511, np.int64(fb) & 511
    k, m = (i + 1) & 511, (j + 1) & 511
    top = np.float32(tile[i, j]) * (np.float32(1.0) - tb) + np.float32(tile[i, m]) * tb
    low = np.float32(tile[k, j]) * (np.float32(1.0) - tb) + np.float32(tile[k, m]) * tb
    return (top + (low - top) * ta) * np.float32(1.0 / 255.0)


@compiled(fastmath=True, error_model="numpy")
def meet(lateral, slope, eye_x, table, slope_start, slope_scale):  # type: ignore[no-untyped-def]
    """Where a ray meets the ground: depth (0 for the sky), s, d, cos and tan of the heading, transmittance of the
    air."""
    f32 = np.float32
    position = max((slope - slope_start) * slope_scale, f32(0.0))
    index = int(position)
    if index >= table.shape[0] - 2 or table[index, 6] < f32(0.5):
        return f32(0.0), f32(0.0), f32(0.0), f32(1.0), f32(0.0), f32(0.0)
    t = position - f32(index)
    q = f32(1.0) - t
    z = table[index, 0] * q + table[index + 1, 0] * t
    center = table[index, 1] * q + table[index + 1, 1] * t
    cosine = table[index, 2] * q + table[index + 1, 2] * t
    tangent = table[index, 3] * q + table[index + 1, 3] * t
    d = (eye_x + lateral * z - center) * cosine
    s = table[index, 4] * q + table[index + 1, 4] * t + d * tangent
    return z, s, d, cosine, tangent, table[index, 5]


@compiled(fastmath=True, error_model="numpy")
def trace_row(py, optics, undistort, rot, table, trace):  # type: ignore[no-untyped-def]
    """Fill `trace` (n, `TRACE`) with the rays at every `BLOCK`th pixel of row py: `optics` as below, the rest as in
    `kernels.View` and `ground.Ground`."""
    f32 = np.float32
    per_radius, inv_focal, center_x = optics.per_radius, optics.inv_focal, optics.center_x
    eye_x, slope_start, slope_scale = optics.eye_x, optics.slope_start, optics.slope_scale
    last = undistort.shape[0] - 1
    v = (f32(py) - optics.center_y) * inv_focal
    for n in range(trace.shape[0]):
        u = (f32(n * BLOCK) - center_x) * inv_focal
        scale = undistort[min(int((u * u + v * v) * per_radius), last)]
        a, b = u * scale, -v * scale
        inv_z = f32(1.0) / max(rot[2, 0] * a + rot[2, 1] * b + rot[2, 2], f32(0.02))
        lateral = (rot[0, 0] * a + rot[0, 1] * b + rot[0, 2]) * inv_z
        slope = (rot[1, 0] * a + rot[1, 1] * b + rot[1, 2]) * inv_z
        trace[n, 0], trace[n, 1] = lateral, slope
        z, s, d, cosine, tangent, clear = meet(lateral, slope, eye_x, table, slope_start, slope_scale)
        trace[n, 2], trace[n, 3], trace[n, 4] = z, s, d
        trace[n, 5], trace[n, 6], trace[n, 7] = cosine, tangent, clear
