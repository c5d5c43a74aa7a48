"""The background in compiled passes over its rows: ground, and the sky with its clouds, skyline and sun."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from harness.rendered.compiled import compiled
from harness.rendered.ground import Scales, draw_ground_row
from harness.rendered.kernels import Bytes, Floats, unit
from harness.rendered.scene import SKYLINE_HALF
from harness.rendered.tracing import BLOCK, TRACE, Optics, meet, tile_at, trace_row

SKYLINE_TOP = 0.16


class Sky(NamedTuple):
    """`gradient` (256, 3) by elevation, `aureole` (256,) round the sun, `clouds` a tile, cloud colour and threshold;
    `skyline`
    (layers, bins) slopes by azimuth's tangent with `skyline_color` (layers, 4): BGR and how strongly it is mottled."""

    gradient: Floats
    aureole: Floats
    clouds: Bytes
    cloud_color: Floats
    cloud_threshold: float
    skyline: Floats
    skyline_color: Floats


@compiled(fastmath=True, error_model="numpy")
def draw_background(image, inverse_depth, view, ground, light, sky):  # type: ignore[no-untyped-def]
    """Fill every pixel that holds nothing yet with ground or sky; ground gets its inverse depth."""
    height, width = inverse_depth.shape
    f32 = np.float32
    optics = Optics(
        f32(1.0) / f32(view.focal),
        f32(view.center_x),
        f32(view.center_y),
        f32(view.per_radius),
        f32(view.x),
        f32(view.y),
        f32(ground.slope_start),
        f32(ground.slope_scale),
    )
    scales = Scales(
        f32(ground.surface_start),
        f32(ground.surface_scale_s),
        f32(ground.surface_scale_d),
        f32(ground.crack_amount),
        f32(light.glint),
        f32(light.beam),
    )
    trace = np.empty(((width + BLOCK - 1) // BLOCK + 1, TRACE), np.float32)
    color = np.empty((2, 3), np.float32)
    near_lines = np.empty(ground.lines.shape[0], np.int64)
    near_marks = np.empty(ground.marks.shape[0], np.int64)
    for py in range(height):
        trace_row(py, optics, view.undistort, view.rotation, ground.table, trace)
        _draw_sky_row(
            image, inverse_depth, py, trace, optics, f32(sky.cloud_threshold), ground.table, light.sun, sky.gradient,
            sky.aureole, sky.clouds, sky.cloud_color, sky.skyline, sky.skyline_color, ground.noise, color[0], color[1],
        )  # fmt: skip
        draw_ground_row(
            image, inverse_depth, py, trace, optics, scales, ground.table, ground.section, ground.lines, ground.marks,
            ground.glyphs, ground.surface, ground.noise, ground.cracks, ground.aggregate, ground.pavement, ground.widening,
            light.key, light.ambient, light.air, light.sun, near_lines, near_marks,
        )  # fmt: skip


@compiled(fastmath=True, error_model="numpy")
def _open_sky(lateral, slope, sun, aureole, clouds, threshold, gradient, cloud_color, color):  # type: ignore[no-untyped-def]
    """Put the sky at a ray into `color` (3,): the gradient, clouds on a plane overhead, and the sun's aureole."""
    f32 = np.float32
    one, zero = f32(1.0), f32(0.0)
    norm = one / np.sqrt(one + lateral * lateral + slope * slope)
    g = int(min(max(slope * norm * f32(300.0), zero), f32(254.0)))
    cover = zero
    if threshold < one and slope > f32(0.012):
        reach = f32(60.0) / (slope + f32(0.06))
        cover = tile_at(clouds, reach, lateral * reach)
        detail = tile_at(clouds, reach * f32(3.0) + f32(211.0), lateral * reach * f32(3.0))
        cover = unit((cover + (detail - f32(0.5)) * f32(0.5) - threshold) * f32(2.5)) * unit(slope * f32(14.0))
    near_sun = one - (lateral * sun[0] + slope * sun[1] + sun[2]) * norm
    halo = aureole[min(int(np.sqrt(max(near_sun, zero)) * f32(255.0)), 255)]
    color[0] = gradient[g, 0] + (cloud_color[0] - gradient[g, 0]) * cover + halo * f32(0.82)
    color[1] = gradient[g, 1] + (cloud_color[1] - gradient[g, 1]) * cover + halo * f32(0.94)
    color[2] = gradient[g, 2] + (cloud_color[2] - gradient[g, 2]) * cover + halo


@compiled(fastmath=True, error_model="numpy")
def _draw_sky_row(  # type: ignore[no-untyped-def]
    image, inverse_depth, py, trace, optics, threshold, table, sun, gradient, aureole, clouds, cloud_color, skyline,
    skyline_color, noise, color_a, color_b,
):  # fmt: skip
    """Fill the pixels of a row that hold nothing yet and whose rays meet no ground. color_a, color_b (3,): room."""
    width = inverse_depth.shape[1]
    f32 = np.float32
    one, zero, half = f32(1.0), f32(0.0), f32(0.5)
    slope_start, slope_scale = optics.slope_start, optics.slope_scale
    eye_x, sharpness = optics.eye_x, f32(0.7) / optics.inv_focal
    az_last = f32(skyline.shape[1] - 2)
    az_scale = (az_last + one) * f32(0.5 / SKYLINE_HALF)
    layers = skyline.shape[0]
    # The block that color_b was computed for: it is the next one's color_a.
    known = -1
    for n in range(trace.shape[0] - 1):
        z_a, z_b = trace[n, 2], trace[n + 1, 2]
        both_sky = z_a == zero and z_b == zero
        if z_a > zero and z_b > zero and abs(z_a - z_b) < f32(0.08) * z_a:
            continue
        start, end = n * BLOCK, min((n + 1) * BLOCK, width)
        lat_a, slope_a = trace[n, 0], trace[n, 1]
        lat_step = (trace[n + 1, 0] - lat_a) * f32(1.0 / BLOCK)
        slope_step = (trace[n + 1, 1] - slope_a) * f32(1.0 / BLOCK)
        prepared = False
        a0, a1, a2, b0, b1, b2 = zero, zero, zero, zero, zero, zero
        for px in range(start, end):
            if inverse_depth[py, px] > zero:
                continue
            t = f32(px - start)
            lateral, slope = lat_a + lat_step * t, slope_a + slope_step * t
            if not both_sky and meet(lateral, slope, eye_x, table, slope_start, slope_scale)[0] > zero:
                continue
            if not prepared:
                prepared = True
                if known == n:
                    a0, a1, a2 = color_b[0], color_b[1], color_b[2]
                else:
                    _open_sky(lat_a, slope_a, sun, aureole, clouds, threshold, gradient, cloud_color, color_a)
                    a0, a1, a2 = color_a[0], color_a[1], color_a[2]
                _open_sky(
                    trace[n + 1, 0], trace[n + 1, 1], sun, aureole, clouds, threshold, gradient, cloud_color, color_b
                )
                known = n + 1
                b0 = (color_b[0] - a0) * f32(1.0 / BLOCK)
                b1 = (color_b[1] - a1) * f32(1.0 / BLOCK)
                b2 = (color_b[2] - a2) * f32(1.0 / BLOCK)
            c0, c1, c2 = a0 + b0 * t, a1 + b1 * t, a2 + b2 * t
            if slope < f32(SKYLINE_TOP):
                az = min(max((lateral + f32(SKYLINE_HALF)) * az_scale, zero), az_last)
                ai = int(az)
                at = az - f32(ai)
                # The nearest layer that hides all behind it, then what stands before it.
                first = layers
                top = zero
                while first > 0:
                    first -= 1
                    top = skyline[first, ai] + (skyline[first, ai + 1] - skyline[first, ai]) * at
                    if (top - slope) * sharpness > half:
                        break
                for layer in range(first, layers):
                    top = skyline[layer, ai] + (skyline[layer, ai + 1] - skyline[layer, ai]) * at
                    cover = (top - slope) * sharpness + half
                    if cover > zero:
                        cover = min(cover, one)
                        shift = f32(layer * 137)
                        # Clumps over folds of the ground; the noise is finer the nearer the layer is.
                        folds = tile_at(clouds, slope * f32(900.0) + shift, lateral * f32(380.0) + slope * f32(300.0))
                        clumps = tile_at(noise, slope * f32(560.0) + shift, lateral * f32(400.0) + shift)
                        mottle = max(one + skyline_color[layer, 3] * (folds + f32(2.2) * clumps - f32(1.6)), f32(0.15))
                        c0 += (skyline_color[layer, 0] * mottle - c0) * cover
                        c1 += (skyline_color[layer, 1] * mottle - c1) * cover
                        c2 += (skyline_color[layer, 2] * mottle - c2) * cover
            image[py, px, 0], image[py, px, 1], image[py, px, 2] = c0, c1, c2
