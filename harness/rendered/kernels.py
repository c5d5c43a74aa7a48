"""What all compiled loops share, the light on vertices, and the camera's response.

All work on a linear-light float32 image (H, W, 3) in BGR order and on the inverse depth (H, W) in 1/m, 0 where
nothing lies yet.
Local coordinates: origin on the road's centre line beside the camera, x right, y up, z forward along the road, metres.
Arrays are taken out of named tuples before the loops: inside, each use would count a reference.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from harness.rendered.compiled import compiled

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int32]

FACADE_TEXELS = 64
GLARE_SHRINK = 8


class View(NamedTuple):
    """A camera as the kernels see it. `rotation` (3, 3) takes camera axes (right, up, forward) to local ones;
    `undistort` and
    `distort` are the radial scales, sampled over the squared radius in focal lengths with `per_radius` samples a
    unit."""

    focal: float
    center_x: float
    center_y: float
    x: float
    y: float
    rotation: Floats
    undistort: Floats
    distort: Floats
    per_radius: float


@compiled(fastmath=True, inline="always")
def unit(value):  # type: ignore[no-untyped-def]
    """Clip to [0, 1]."""
    return min(max(value, np.float32(0.0)), np.float32(1.0))


@compiled(fastmath=True, error_model="numpy")
def shade(points, normals, albedo, gloss, open_sky, eye, lamp, night, out):  # type: ignore[no-untyped-def]
    """Light surface points: diffuse light, a reflected sky where glossy, then the air in front.

    points, normals, albedo (N, 3); gloss, open_sky (N,), the share of sky that a point sees; lamp (6, 3): BGR of key,
    ambient, horizon
    and zenith, direction to the sun, and (haze, 0, 0). out (N, 4): BGR and the air's share.
    """
    f32 = np.float32
    one, zero = f32(1.0), f32(0.0)
    sun0, sun1, sun2 = lamp[4, 0], lamp[4, 1], lamp[4, 2]
    for n in range(points.shape[0]):
        n0, n1, n2 = normals[n, 0], normals[n, 1], normals[n, 2]
        size = one / np.sqrt(n0 * n0 + n1 * n1 + n2 * n2 + f32(1e-12))
        n0, n1, n2 = n0 * size, n1 * size, n2 * size
        e0, e1, e2 = eye[0] - points[n, 0], eye[1] - points[n, 1], -points[n, 2]
        distance = np.sqrt(e0 * e0 + e1 * e1 + e2 * e2) + f32(1e-6)
        e0, e1, e2 = e0 / distance, e1 / distance, e2 / distance
        sky = (f32(0.62) + f32(0.38) * n1) * open_sky[n]
        beam = zero
        if night:
            direct = unit(f32(0.25) + f32(0.75) * n1) * f32(0.35)
            beam = f32(0.5) * np.exp(-f32(10.0) * e0 * e0 - distance * f32(0.045)) * max(f32(0.2) - f32(0.8) * n2, zero)
        else:
            direct = max(n0 * sun0 + n1 * sun1 + n2 * sun2, zero)
        facing = unit(n0 * e0 + n1 * e1 + n2 * e2)
        clear = np.exp(-lamp[5, 0] * distance)
        shine, mix, rise, glint = zero, zero, zero, zero
        if gloss[n] > zero:
            grazing = one - facing
            shine = gloss[n] * (f32(0.05) + f32(0.95) * grazing * grazing * grazing * grazing * grazing)
            m0, m1, m2 = f32(2.0) * facing * n0 - e0, f32(2.0) * facing * n1 - e1, f32(2.0) * facing * n2 - e2
            mix = unit(m1 * f32(5.0) + f32(0.5))
            rise = np.sqrt(max(m1, zero))
            if not night:
                glint = f32(3.0) * unit(m0 * sun0 + m1 * sun1 + m2 * sun2) ** 60
        for c in range(3):
            light = lamp[1, c] * sky + direct * lamp[0, c]
            if night:
                light += beam * (f32(0.72) + f32(0.14) * f32(c))
            seen = lamp[2, c] * (one - rise) + lamp[3, c] * rise
            ground = f32(0.1) * (lamp[1, c] + f32(0.5) * lamp[0, c])
            color = albedo[n, c] * light + shine * (seen * mix + ground * (one - mix) + glint * lamp[0, c])
            out[n, c] = color * clear + lamp[2, c] * (one - clear)
        out[n, 3] = one - clear


@compiled(fastmath=True, error_model="numpy")
def develop(image, glare, exposure, curve, vignette, out):  # type: ignore[no-untyped-def]
    """Linear light -> bytes: add the glare (1/`GLARE_SHRINK` of the size, two more), expose, darken the corners,
    apply the tone curve.

    curve (N,): bytes by the square root of exposed light over [0, 4], N at most 65536.
    """
    height, width, _ = image.shape
    f32 = np.float32
    light, bytes_out = image.reshape(height, 3 * width), out.reshape(height, 3 * width)
    middle_x, middle_y = f32(0.5 * width), f32(0.5 * height)
    inv = f32(exposure) * f32(vignette) / (middle_x * middle_x)
    upper, lower = np.empty(3 * width, np.float32), np.empty(3 * width, np.float32)
    across = np.empty(3 * width, np.float32)
    index = np.empty(3 * width, np.uint16)
    for px in range(width):
        dx = f32(px) - middle_x
        for c in range(3):
            across[3 * px + c] = f32(exposure) - dx * dx * inv
    _stretch(glare, 0, lower)
    for py in range(height):
        i = py // GLARE_SHRINK
        if py == i * GLARE_SHRINK:
            upper, lower = lower, upper
            _stretch(glare, i + 1, lower)
        t = f32(py - i * GLARE_SHRINK) * f32(1.0 / GLARE_SHRINK)
        dy = f32(py) - middle_y
        _develop_row(light[py], upper, lower, t, across, dy * dy * inv, index, curve, bytes_out[py])


@compiled(fastmath=True, error_model="numpy")
def _develop_row(light, upper, lower, t, across, down, index, curve, out):  # type: ignore[no-untyped-def]
    """One row of `develop`: a pass that the compiler turns into vector instructions, and one of lookups, which it
    can't."""
    last = np.float32(curve.shape[0] - 1)
    gain = last * np.float32(0.5)
    for n in range(out.shape[0]):
        value = (light[n] + upper[n] + (lower[n] - upper[n]) * t) * (across[n] - down)
        index[n] = np.uint16(min(np.sqrt(max(value, np.float32(0.0))) * gain, last))
    for n in range(out.shape[0]):
        out[n] = curve[index[n]]


@compiled(fastmath=True, error_model="numpy")
def _stretch(glare, row, out):  # type: ignore[no-untyped-def]
    """A row of the glare at the image's width, channels interleaved."""
    f32 = np.float32
    for px in range(out.shape[0] // 3):
        j = px // GLARE_SHRINK
        t = f32(px - j * GLARE_SHRINK) * f32(1.0 / GLARE_SHRINK)
        for c in range(3):
            out[3 * px + c] = glare[row, j, c] + (glare[row, j + 1, c] - glare[row, j, c]) * t
