"""The background in one compiled pass over its pixels: ground with its texture, paint, wear and light, and the sky.

Road coordinates: s along the centre line, d to its right, metres; the rest is as in `kernels`.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from harness.rendered.kernels import Bytes, Floats, unit

SECTION_HALF = 48.0
SECTION_BINS = 16
SKYLINE_HALF = 1.6
SKYLINE_TOP = 0.16
TONE_ONE = 200
"""The byte of the surface map's tone channel that leaves the ground as it is."""
BLOCK = 8


class Ground(NamedTuple):
    """The ground. `table` (N, 7): depth z, centre line x, cos and tan of its heading, s, transmittance of the air,
    and visibility by
    the slope dy/dz of a ray. `section` (levels, bins, 5): prefiltered BGR albedo, grain and asphalt share by d.
    `lines` (n, 12),
    `marks` (n, 10): paint, see `scene`. `surface` (S, D, 2): key light and albedo factor by s and d."""

    table: Floats
    slope_start: float
    slope_scale: float
    section: Floats
    lines: Floats
    marks: Floats
    glyphs: Bytes
    surface: Bytes
    surface_start: float
    surface_scale_s: float
    surface_scale_d: float
    noise: Bytes
    cracks: Bytes
    crack_amount: float
    widening: Floats


class Light(NamedTuple):
    """Linear BGR light: `key` (sun or street lamps, as irradiance on flat ground), `ambient`, `air` (colour of haze),
    the direction
    to the `sun` (local), `glint` (sun's mirror image on the road), `beam` (own headlights)."""

    key: Floats
    ambient: Floats
    air: Floats
    sun: Floats
    glint: float
    beam: float


class Sky(NamedTuple):
    """`gradient` (256, 3) by elevation, `aureole` (256,) round the sun, `clouds` a tile, cloud colour and threshold;
    `skyline`
    (layers, bins) slopes by azimuth's tangent with `skyline_color` (layers, 3)."""

    gradient: Floats
    aureole: Floats
    clouds: Bytes
    cloud_color: Floats
    cloud_threshold: float
    skyline: Floats
    skyline_color: Floats


@numba.njit(cache=True, fastmath=True, inline="always")
def _tile(tile, a, b):  # type: ignore[no-untyped-def]
    """Bilinear lookup in a 512 x 512 periodic byte tile, in [0, 1]."""
    fa, fb = np.floor(a), np.floor(b)
    ta, tb = np.float32(a - fa), np.float32(b - fb)
    i, j = np.int64(fa) & 511, np.int64(fb) & 511
    k, m = (i + 1) & 511, (j + 1) & 511
    top = np.float32(tile[i, j]) * (np.float32(1.0) - tb) + np.float32(tile[i, m]) * tb
    low = np.float32(tile[k, j]) * (np.float32(1.0) - tb) + np.float32(tile[k, m]) * tb
    return (top + (low - top) * ta) * np.float32(1.0 / 255.0)


@numba.njit(cache=True, fastmath=True, error_model="numpy", forceinline=True)
def _ray(px, py, focal, center_x, center_y, undistort, per_radius, rot):  # type: ignore[no-untyped-def]
    """The tangents of a pixel's ray: x/z and y/z in local axes."""
    f32 = np.float32
    u, v = (f32(px) - center_x) / focal, (f32(py) - center_y) / focal
    scale = undistort[min(int((u * u + v * v) * per_radius), undistort.shape[0] - 1)]
    a, b = u * scale, -v * scale
    inv_z = f32(1.0) / max(rot[2, 0] * a + rot[2, 1] * b + rot[2, 2], f32(0.02))
    return (rot[0, 0] * a + rot[0, 1] * b + rot[0, 2]) * inv_z, (rot[1, 0] * a + rot[1, 1] * b + rot[1, 2]) * inv_z


@numba.njit(cache=True, fastmath=True, error_model="numpy", forceinline=True)
def _meet(lateral, slope, eye_x, table, slope_start, slope_scale):  # type: ignore[no-untyped-def]
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


@numba.njit(cache=True, fastmath=True, error_model="numpy", forceinline=True)
def _open_sky(lateral, slope, sun0, sun1, sun2, aureole, clouds, threshold):  # type: ignore[no-untyped-def]
    """The sky at a ray: its place in the gradient, the share of clouds on a plane overhead, and the sun's aureole."""
    f32 = np.float32
    one, zero = f32(1.0), f32(0.0)
    norm = one / np.sqrt(one + lateral * lateral + slope * slope)
    rise = min(max(slope * norm * f32(300.0), zero), f32(254.0))
    cover = zero
    if threshold < one and slope > f32(0.012):
        reach = f32(60.0) / (slope + f32(0.06))
        cover = _tile(clouds, reach, lateral * reach)
        cover = unit((cover - threshold) * f32(2.5)) * unit(slope * f32(9.0))
    near_sun = one - (lateral * sun0 + slope * sun1 + sun2) * norm
    halo = aureole[min(int(np.sqrt(max(near_sun, zero)) * f32(255.0)), 255)]
    return rise, cover, halo


@numba.njit(cache=True, fastmath=True, error_model="numpy", forceinline=True)
def _dash(s, foot_s, period, length, phase):  # type: ignore[no-untyped-def]
    """The share of a pixel's footprint along the road that a dashed line covers."""
    f32 = np.float32
    if foot_s >= period:
        return length / period
    turn = (s + phase) / period
    along = (turn - np.floor(turn)) * period
    reach = f32(0.5) * foot_s
    dash = max(min(along + reach, length) - max(along - reach, f32(0.0)), f32(0.0))
    dash += max(min(along + reach, period + length) - period, f32(0.0))
    return min(dash / foot_s, f32(1.0))


@numba.njit(cache=True, fastmath=True, error_model="numpy", forceinline=True)
def _mark(ds, dd, foot_s, foot_d, n, marks, glyphs):  # type: ignore[no-untyped-def]
    """The share of a pixel's footprint that a mark covers, ds and dd from its near left corner."""
    f32 = np.float32
    reach = f32(0.5) * foot_s
    cover = max(min(ds + reach, marks[n, 1]) - max(ds - reach, f32(0.0)), f32(0.0)) / foot_s
    kind = int(marks[n, 4])
    if kind < 0:
        period = marks[n, 5]
        if period > f32(0.0):
            if foot_d >= period:
                return cover * marks[n, 6] / period
            turn = dd / period
            along = abs(turn - np.floor(turn) - f32(0.5)) * period
            cover *= unit((marks[n, 6] * f32(0.5) - along) / foot_d + f32(0.5))
        return cover
    rows, cols = glyphs.shape[1], glyphs.shape[2]
    gi = min(max(int(ds / marks[n, 1] * f32(rows)), 0), rows - 1)
    gj = min(max(int(dd / marks[n, 3] * f32(cols)), 0), cols - 1)
    return cover * f32(glyphs[kind, gi, gj]) * f32(1.0 / 255.0)


@numba.njit(cache=True, fastmath=True, error_model="numpy", forceinline=True)
def _section_at(d, edge, shift, level, section):  # type: ignore[no-untyped-def]
    """The cross-section at d: albedo, grain, share of asphalt."""
    f32 = np.float32
    base = d
    if shift != f32(0.0) and d > edge:
        base = max(edge, d - shift)
    where = (base + f32(SECTION_HALF)) * f32(SECTION_BINS) - f32(0.5)
    where = min(max(where, f32(0.0)), f32(section.shape[1] - 2))
    i = int(where)
    t = where - f32(i)
    q = f32(1.0) - t
    return (
        section[level, i, 0] * q + section[level, i + 1, 0] * t,
        section[level, i, 1] * q + section[level, i + 1, 1] * t,
        section[level, i, 2] * q + section[level, i + 1, 2] * t,
        section[level, i, 3] * q + section[level, i + 1, 3] * t,
        section[level, i, 4],
    )


@numba.njit(cache=True, fastmath=True, error_model="numpy", forceinline=True)
def _surface_at(s, d, start, scale_s, scale_d, surface):  # type: ignore[no-untyped-def]
    """The clip's own ground at (s, d): the share of key light that arrives, and the tone."""
    f32 = np.float32
    one, zero = f32(1.0), f32(0.0)
    lit, tone = f32(0.82), one
    ms, md = (s - start) * scale_s, d * scale_d + f32(0.5) * f32(surface.shape[1])
    if ms >= zero and md >= zero:
        i, j = int(ms), int(md)
        if i < surface.shape[0] - 1 and j < surface.shape[1] - 1:
            ts, td = ms - f32(i), md - f32(j)
            top = f32(surface[i, j, 0]) * (one - td) + f32(surface[i, j + 1, 0]) * td
            low = f32(surface[i + 1, j, 0]) * (one - td) + f32(surface[i + 1, j + 1, 0]) * td
            lit = (top + (low - top) * ts) * f32(1.0 / 255.0)
            top = f32(surface[i, j, 1]) * (one - td) + f32(surface[i, j + 1, 1]) * td
            low = f32(surface[i + 1, j, 1]) * (one - td) + f32(surface[i + 1, j + 1, 1]) * td
            tone = (top + (low - top) * ts) * f32(1.0 / TONE_ONE)
    return lit, tone


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def draw_background(image, inverse_depth, view, ground, light, sky):  # type: ignore[no-untyped-def]
    """Fill every pixel that holds nothing yet with ground or sky.

    Rays are traced at every `BLOCK`th pixel of a row; between two that meet smooth ground (or sky) their landing
    places are
    interpolated, which is exact to some thousandths of a pixel.
    """
    height, width = inverse_depth.shape
    f32 = np.float32
    one, zero, half, byte = f32(1.0), f32(0.0), f32(0.5), f32(1.0 / 255.0)
    # Arrays are taken out of their tuples here: in the loops that would count references a pixel.
    focal, center_x, center_y = f32(view.focal), f32(view.center_x), f32(view.center_y)
    undistort, per_radius, rot = view.undistort, f32(view.per_radius), view.rotation
    table, slope_start, slope_scale = ground.table, f32(ground.slope_start), f32(ground.slope_scale)
    gradient, aureole, clouds = sky.gradient, sky.aureole, sky.clouds
    threshold, skyline, skyline_color = f32(sky.cloud_threshold), sky.skyline, sky.skyline_color
    glyphs = ground.glyphs
    inv_f = one / focal
    eye_x, eye_y = f32(view.x), f32(view.y)
    section, lines, marks = ground.section, ground.lines, ground.marks
    levels = section.shape[0]
    surface, noise, cracks = ground.surface, ground.noise, ground.cracks
    scale_s, scale_d = f32(ground.surface_scale_s), f32(ground.surface_scale_d)
    s_start = f32(ground.surface_start)
    crack_amount = f32(ground.crack_amount)
    widen = ground.widening
    edge = widen[0]
    key0, key1, key2 = light.key[0], light.key[1], light.key[2]
    amb0, amb1, amb2 = light.ambient[0], light.ambient[1], light.ambient[2]
    air0, air1, air2 = light.air[0], light.air[1], light.air[2]
    sun0, sun1, sun2 = light.sun[0], light.sun[1], light.sun[2]
    sun_lat = sun0 / max(sun2, f32(0.05))
    cloud0, cloud1, cloud2 = sky.cloud_color[0], sky.cloud_color[1], sky.cloud_color[2]
    az_last = f32(sky.skyline.shape[1] - 2)
    az_scale = (az_last + one) * f32(0.5 / SKYLINE_HALF)
    glint, beam = f32(light.glint), f32(light.beam)
    near_lines = np.empty(lines.shape[0], np.int64)
    near_marks = np.empty(marks.shape[0], np.int64)
    for py in range(height):
        lat_b, slope_b = _ray(0, py, focal, center_x, center_y, undistort, per_radius, rot)
        z_b, s_b, d_b, cos_b, tan_b, clear_b = _meet(lat_b, slope_b, eye_x, table, slope_start, slope_scale)
        for start in range(0, width, BLOCK):
            lat_a, slope_a, z_a, s_a, d_a, cos_a, tan_a, clear_a = lat_b, slope_b, z_b, s_b, d_b, cos_b, tan_b, clear_b
            lat_b, slope_b = _ray(start + BLOCK, py, focal, center_x, center_y, undistort, per_radius, rot)
            z_b, s_b, d_b, cos_b, tan_b, clear_b = _meet(lat_b, slope_b, eye_x, table, slope_start, slope_scale)
            both_sky = z_a == zero and z_b == zero
            smooth = z_a > zero and z_b > zero and abs(z_a - z_b) < f32(0.08) * z_a
            count_lines, count_marks, shift, level = 0, 0, zero, 0
            foot_d, foot_s, sharp, cracked = one, one, zero, zero
            prepared, sky_known, coarse = False, False, False
            a0, a1, a2, a3, a4, lit_a, tone_a = zero, zero, zero, zero, zero, zero, zero
            b0, b1, b2, b3, lit_b, tone_b = zero, zero, zero, zero, zero, zero
            for px in range(start, min(start + BLOCK, width)):
                if inverse_depth[py, px] > zero:
                    continue
                t = f32(px - start) * f32(1.0 / BLOCK)
                lateral, slope = lat_a + (lat_b - lat_a) * t, slope_a + (slope_b - slope_a) * t
                if smooth:
                    z, s, d = z_a + (z_b - z_a) * t, s_a + (s_b - s_a) * t, d_a + (d_b - d_a) * t
                    cosine, tangent, clear = cos_a, tan_a, clear_a
                elif both_sky:
                    z, s, d, cosine, tangent, clear = zero, zero, zero, one, zero, zero
                else:
                    z, s, d, cosine, tangent, clear = _meet(lateral, slope, eye_x, table, slope_start, slope_scale)
                if z == zero:
                    if not sky_known:
                        sky_known = True
                        rise, cover, halo = _open_sky(lat_a, slope_a, sun0, sun1, sun2, aureole, clouds, threshold)
                        g = int(rise)
                        a0 = gradient[g, 0] + (cloud0 - gradient[g, 0]) * cover + halo * f32(0.82)
                        a1 = gradient[g, 1] + (cloud1 - gradient[g, 1]) * cover + halo * f32(0.94)
                        a2 = gradient[g, 2] + (cloud2 - gradient[g, 2]) * cover + halo
                        rise, cover, halo = _open_sky(lat_b, slope_b, sun0, sun1, sun2, aureole, clouds, threshold)
                        g = int(rise)
                        b0 = gradient[g, 0] + (cloud0 - gradient[g, 0]) * cover + halo * f32(0.82)
                        b1 = gradient[g, 1] + (cloud1 - gradient[g, 1]) * cover + halo * f32(0.94)
                        b2 = gradient[g, 2] + (cloud2 - gradient[g, 2]) * cover + halo
                    c0, c1, c2 = a0 + (b0 - a0) * t, a1 + (b1 - a1) * t, a2 + (b2 - a2) * t
                    if slope < f32(SKYLINE_TOP):
                        az = min(max((lateral + f32(SKYLINE_HALF)) * az_scale, zero), az_last)
                        ai = int(az)
                        at = az - f32(ai)
                        for layer in range(skyline.shape[0]):
                            top = skyline[layer, ai] * (one - at) + skyline[layer, ai + 1] * at
                            cover = unit((top - slope) * focal * f32(0.7) + half)
                            c0 += (skyline_color[layer, 0] - c0) * cover
                            c1 += (skyline_color[layer, 1] - c1) * cover
                            c2 += (skyline_color[layer, 2] - c2) * cover
                    image[py, px, 0], image[py, px, 1], image[py, px, 2] = c0, c1, c2
                    continue
                if not (smooth and prepared):
                    # What changes little over a block: the pixel's footprint on the road, and which paint is near.
                    prepared = True
                    across = z * inv_f
                    away = across * z / eye_y
                    sine = abs(tangent) * cosine
                    foot_d = cosine * across + sine * away
                    foot_s = cosine * away + sine * across
                    sharp = one / (one + foot_s * foot_s * f32(700.0))
                    cracked = crack_amount / (one + foot_s * foot_s * f32(60.0)) if foot_s < f32(0.35) else zero
                    shift = zero
                    if widen[1] != zero:
                        w = unit((s - widen[2]) / widen[3])
                        shift = widen[1] * w * w * (f32(3.0) - f32(2.0) * w)
                    level, span = 0, foot_d * f32(SECTION_BINS)
                    while span > one and level < levels - 1:
                        span *= half
                        level += 1
                    # Near the car the maps' texels are wider than a block.
                    coarse = smooth and abs(d_b - d_a) < f32(0.11) and abs(s_b - s_a) < f32(0.15)
                    if coarse:
                        a0, a1, a2, a3, a4 = _section_at(d_a, edge, shift, level, section)
                        b0, b1, b2, b3, _ = _section_at(d_b, edge, shift, level, section)
                        lit_a, tone_a = _surface_at(s_a, d_a, s_start, scale_s, scale_d, surface)
                        lit_b, tone_b = _surface_at(s_b, d_b, s_start, scale_s, scale_d, surface)
                    d_low, d_high = (
                        (min(d_a, d_b) - foot_d, max(d_a, d_b) + foot_d) if smooth else (d - foot_d, d + foot_d)
                    )
                    s_low, s_high = (
                        (min(s_a, s_b) - foot_s, max(s_a, s_b) + foot_s) if smooth else (s - foot_s, s + foot_s)
                    )
                    count_lines, count_marks = 0, 0
                    for n in range(lines.shape[0]):
                        at = lines[n, 0] + lines[n, 9] * shift
                        room = lines[n, 1] + f32(0.03)
                        if d_low < at + room and d_high > at - room and s_high > lines[n, 10] and s_low < lines[n, 11]:
                            near_lines[count_lines] = n
                            count_lines += 1
                    for n in range(marks.shape[0]):
                        beside = s_high <= marks[n, 0] or s_low >= marks[n, 0] + marks[n, 1]
                        if not beside and d_high > marks[n, 2] and d_low < marks[n, 2] + marks[n, 3]:
                            near_marks[count_marks] = n
                            count_marks += 1
                inverse_depth[py, px] = one / z
                if coarse:
                    c0, c1, c2 = a0 + (b0 - a0) * t, a1 + (b1 - a1) * t, a2 + (b2 - a2) * t
                    grain, asphalt = a3 + (b3 - a3) * t, a4
                    lit, tone = lit_a + (lit_b - lit_a) * t, tone_a + (tone_b - tone_a) * t
                else:
                    c0, c1, c2, grain, asphalt = _section_at(d, edge, shift, level, section)
                    lit, tone = _surface_at(s, d, s_start, scale_s, scale_d, surface)
                # Texture: blotches over decimetres, then the stones of the surface while a pixel still resolves them.
                blotch = _tile(noise, s * f32(9.0), d * f32(23.0) + f32(8192.0))
                texture = (blotch - half) * f32(0.6)
                if sharp > f32(0.04):
                    fine = noise[int(s * f32(170.0)) & 511, int(d * f32(190.0) + f32(65536.0)) & 511]
                    texture += (f32(fine) * byte - half) * f32(1.2) * sharp
                    if cracked > zero and asphalt > half:
                        texture -= _tile(cracks, s * f32(41.0), d * f32(41.0) + f32(8192.0)) * cracked
                gain = max(one + grain * texture, f32(0.15))
                c0 *= gain
                c1 *= gain
                c2 *= gain
                # Paint: exact coverage of the pixel's footprint, worn by the blotches.
                paint, p0, p1, p2 = zero, zero, zero, zero
                for m in range(count_lines):
                    n = near_lines[m]
                    off = abs(d - lines[n, 0] - lines[n, 9] * shift)
                    if off > lines[n, 1] + half * foot_d or s < lines[n, 10] or s > lines[n, 11]:
                        continue
                    cover = min(
                        (min(off + half * foot_d, lines[n, 1]) - max(off - half * foot_d, -lines[n, 1])) / foot_d, one
                    )
                    if lines[n, 2] > zero:
                        cover *= _dash(s, foot_s, lines[n, 2], lines[n, 3], lines[n, 4])
                    keep = unit((blotch * f32(0.65) + texture * f32(0.3) + f32(0.32) - lines[n, 8]) * f32(3.5))
                    cover *= keep + (one - keep) * (one - min(lines[n, 8] * f32(1.3), one)) * half
                    if cover > paint:
                        paint, p0, p1, p2 = cover, lines[n, 5], lines[n, 6], lines[n, 7]
                for m in range(count_marks):
                    n = near_marks[m]
                    dd = d - marks[n, 2]
                    if dd < zero or dd > marks[n, 3]:
                        continue
                    cover = _mark(s - marks[n, 0], dd, foot_s, foot_d, n, marks, glyphs)
                    cover *= unit((blotch * f32(0.65) + texture * f32(0.3) + f32(0.32) - marks[n, 7]) * f32(3.5))
                    if cover > paint:
                        paint, p0, p1, p2 = cover, f32(0.60), f32(0.63), f32(0.64)
                if paint > zero:
                    soil = one + texture * f32(0.25)
                    c0 += (p0 * soil - c0) * paint
                    c1 += (p1 * soil - c1) * paint
                    c2 += (p2 * soil - c2) * paint
                dim = min(tone, one)
                l0, l1, l2 = amb0 * dim + key0 * lit, amb1 * dim + key1 * lit, amb2 * dim + key2 * lit
                if beam > zero:
                    throw = beam * z * z / (z * z + f32(70.0)) * np.exp(-z * f32(0.045) - lateral * lateral * f32(14.0))
                    throw *= f32(0.75) + half * unit(half - lateral * f32(1.5))
                    l0 += throw * f32(0.72)
                    l1 += throw * f32(0.9)
                    l2 += throw
                c0 *= l0 * tone
                c1 *= l1 * tone
                c2 *= l2 * tone
                if glint > zero:
                    off = (lateral - sun_lat) * f32(5.0) / (one + f32(2.0) * sharp)
                    shine = glint * np.exp(-off * off) * (f32(0.25) + lit) * (f32(0.6) + texture) * asphalt
                    shine = max(shine * unit(z * f32(0.035)) * (one + paint), zero)
                    c0 += shine * f32(0.8)
                    c1 += shine * f32(0.92)
                    c2 += shine
                image[py, px, 0] = c0 * clear + air0 * (one - clear)
                image[py, px, 1] = c1 * clear + air1 * (one - clear)
                image[py, px, 2] = c2 * clear + air2 * (one - clear)
