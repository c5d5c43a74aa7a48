"""The ground's pixels: its texture, paint, wear and light.

Road coordinates: s along the centre line, d to its right, metres; the rest is as in `kernels`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from harness.rendered.compiled import compiled
from harness.rendered.kernels import Bytes, Floats, unit
from harness.rendered.paint import dash, kept, line, lines_near, mark, marks_near
from harness.rendered.tracing import BLOCK, meet, tile_at

SECTION_HALF = 48.0
SECTION_BINS = 16
ROAD_TEXELS = 143.0
VERGE_TEXELS = 48.0
"""Texels of the aggregate a metre, on the road and beside it."""
TONE_ONE = 200
"""The byte of the surface map's tone channel that leaves the ground as it is."""


class Ground(NamedTuple):
    """The ground. `table` (N, 7): depth z, centre line x, cos and tan of its heading, s, transmittance of the air,
    and visibility by
    the slope dy/dz of a ray. `section` (levels, bins, 5): prefiltered BGR albedo, grain and asphalt share by d.
    `lines` (n, 12),
    `marks` (n, 10): paint, see `scene`. `surface` (S, D, 2): key light and albedo factor by s and d. `aggregate`: see
    `textures.aggregate_tiles`. `pavement` (10,): length, skew, phase of slabs, width of their joints, the d's that they lie between,
    1 for concrete, how ragged paint is, metres, and where in their tiles the cracks and the wear begin, texels."""

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
    aggregate: Bytes
    pavement: Floats
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


class Scales(NamedTuple):
    """The scalars of `Ground` and `Light` that the ground's pixels need, all float32."""

    surface_start: np.float32
    surface_s: np.float32
    surface_d: np.float32
    cracks: np.float32
    glint: np.float32
    beam: np.float32


@compiled(fastmath=True, error_model="numpy")
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


@compiled(fastmath=True, error_model="numpy")
def _surface_at(s, d, start, scale_s, scale_d, surface):  # type: ignore[no-untyped-def]
    """The clip's own ground at (s, d): the share of key light that arrives, and the tone."""
    f32 = np.float32
    one, zero = f32(1.0), f32(0.0)
    ms, md = (s - start) * scale_s, d * scale_d + f32(0.5) * f32(surface.shape[1])
    # Read without a branch: in one, the compiler would count references to the map at every pixel.
    i = int(min(max(ms, zero), f32(surface.shape[0] - 2)))
    j = int(min(max(md, zero), f32(surface.shape[1] - 2)))
    ts, td = ms - f32(i), md - f32(j)
    top = f32(surface[i, j, 0]) * (one - td) + f32(surface[i, j + 1, 0]) * td
    low = f32(surface[i + 1, j, 0]) * (one - td) + f32(surface[i + 1, j + 1, 0]) * td
    lit = (top + (low - top) * ts) * f32(1.0 / 255.0)
    top = f32(surface[i, j, 1]) * (one - td) + f32(surface[i, j + 1, 1]) * td
    low = f32(surface[i + 1, j, 1]) * (one - td) + f32(surface[i + 1, j + 1, 1]) * td
    tone = (top + (low - top) * ts) * f32(1.0 / TONE_ONE)
    if ms < zero or md < zero or ts >= one or td >= one:
        lit, tone = f32(0.82), one
    return lit, tone


@compiled(fastmath=True, error_model="numpy")
def _grain_level(foot_s, scale, last):  # type: ignore[no-untyped-def]
    """The level of the aggregate for a pixel's footprint along the road, and the share of the next one."""
    f32 = np.float32
    level, span = 0, foot_s * scale
    while span >= f32(2.0) and level < last:
        span *= f32(0.5)
        level += 1
    return level, unit(span - f32(1.0)) if level < last else f32(0.0)


@compiled(fastmath=True, error_model="numpy")
def _grain_at(s, d, scale, level, share, tiles):  # type: ignore[no-untyped-def]
    """The aggregate (level, 512, 512) at (s, d), about 0."""
    f32 = np.float32
    i, j = int(s * scale) & 511, int(d * scale + f32(65536.0)) & 511
    fine = f32(tiles[level, i, j])
    fine += (f32(tiles[min(level + 1, tiles.shape[0] - 1), i, j]) - fine) * share
    return fine * f32(1.0 / 255.0) - f32(128.0 / 255.0)


@compiled(fastmath=True, error_model="numpy")
def _widened(s, widening):  # type: ignore[no-untyped-def]
    """How far a road that widens has moved what lies right of its edge, at s."""
    f32 = np.float32
    amount = widening[1]
    if amount == f32(0.0):
        return f32(0.0)
    w = unit((s - widening[2]) / widening[3])
    return amount * w * w * (f32(3.0) - f32(2.0) * w)


@compiled(fastmath=True, error_model="numpy")
def _throw(z, lateral, beam):  # type: ignore[no-untyped-def]
    """The light of the own headlights at depth z in the direction `lateral`."""
    f32 = np.float32
    throw = beam * z * z / (z * z + f32(70.0)) * np.exp(-z * f32(0.045) - lateral * lateral * f32(14.0))
    return throw * (f32(0.75) + f32(0.5) * unit(f32(0.5) - lateral * f32(1.5)))


@compiled(fastmath=True, error_model="numpy")
def _shine(z, off_sun, glint, sharp, lit, texture, asphalt, paint):  # type: ignore[no-untyped-def]
    """The sun's mirror image on the ground, `off_sun` from its middle; asphalt: the share that shines."""
    f32 = np.float32
    one = f32(1.0)
    off = off_sun * f32(5.0) / (one + f32(2.0) * sharp)
    shine = glint * np.exp(-off * off) * (f32(0.25) + lit) * f32(0.6) * (one + texture) * asphalt
    return max(shine * unit(z * f32(0.035)) * (one + paint), f32(0.0))


@compiled(fastmath=True, error_model="numpy")
def draw_ground_row(  # type: ignore[no-untyped-def]
    image, inverse_depth, py, trace, optics, scales, table, section, lines, marks, glyphs, surface, noise, cracks,
    aggregate, pavement, widening, key, ambient, air, sun, near_lines, near_marks,
):  # fmt: skip
    """Fill the pixels of a row that hold nothing yet and whose rays (`tracing.trace_row`) meet the ground.

    Arrays as in `Ground` and `Light`; near_lines and near_marks: room for as many indices as there are lines and marks.
    """
    width = inverse_depth.shape[1]
    f32 = np.float32
    one, zero, half = f32(1.0), f32(0.0), f32(0.5)
    slope_start, slope_scale = optics.slope_start, optics.slope_scale
    inv_f, eye_x, eye_y = optics.inv_focal, optics.eye_x, optics.eye_y
    levels = section.shape[0]
    scale_s, scale_d, s_start = scales.surface_s, scales.surface_d, scales.surface_start
    crack_amount, glint, beam = scales.cracks, scales.glint, scales.beam
    edge = widening[0]
    key0, key1, key2 = key[0], key[1], key[2]
    amb0, amb1, amb2 = ambient[0], ambient[1], ambient[2]
    air0, air1, air2 = air[0], air[1], air[2]
    slab, skew, slab_phase, joint_width = pavement[0], pavement[1], pavement[2], pavement[3]
    slabs_left, slabs_right, ragged = pavement[4], pavement[5], pavement[7]
    moved_s, moved_d = pavement[8], pavement[9]
    road_tiles, verge_tiles = aggregate[int(pavement[6])], aggregate[2]
    last_level = aggregate.shape[1] - 1
    sun_lat = sun[0] / max(sun[2], f32(0.05))
    for n_block in range(trace.shape[0] - 1):
        start = n_block * BLOCK
        z_a, z_b = trace[n_block, 2], trace[n_block + 1, 2]
        if z_a == zero and z_b == zero:
            continue
        lat_a, lat_b = trace[n_block, 0], trace[n_block + 1, 0]
        slope_a, slope_b = trace[n_block, 1], trace[n_block + 1, 1]
        s_a, s_b, d_a, d_b = trace[n_block, 3], trace[n_block + 1, 3], trace[n_block, 4], trace[n_block + 1, 4]
        cos_a, tan_a, clear_a = trace[n_block, 5], trace[n_block, 6], trace[n_block, 7]
        smooth = z_a > zero and z_b > zero and abs(z_a - z_b) < f32(0.08) * z_a
        count_lines, count_marks, shift, level = 0, 0, zero, 0
        foot_d, foot_s, sharp, cracked, jointed = one, one, zero, zero, False
        road_level, road_share, verge_level, verge_share = 0, zero, 0, zero
        prepared, coarse = False, False
        a0, a1, a2, a3, a4, lit_a, tone_a = zero, zero, zero, zero, zero, zero, zero
        b0, b1, b2, b3, lit_b, tone_b = zero, zero, zero, zero, zero, zero
        for px in range(start, min(start + BLOCK, width)):
            if inverse_depth[py, px] > zero:
                continue
            t = f32(px - start) * f32(1.0 / BLOCK)
            lateral = lat_a + (lat_b - lat_a) * t
            if smooth:
                z, s, d = z_a + (z_b - z_a) * t, s_a + (s_b - s_a) * t, d_a + (d_b - d_a) * t
                cosine, tangent, clear = cos_a, tan_a, clear_a
            else:
                slope = slope_a + (slope_b - slope_a) * t
                z, s, d, cosine, tangent, clear = meet(lateral, slope, eye_x, table, slope_start, slope_scale)
                if z == zero:
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
                road_level, road_share = _grain_level(foot_s, f32(ROAD_TEXELS), last_level)
                verge_level, verge_share = _grain_level(foot_s, f32(VERGE_TEXELS), last_level)
                jointed = slab > zero and foot_s < f32(1.5)
                shift = _widened(s, widening)
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
                d_low, d_high = (min(d_a, d_b) - foot_d, max(d_a, d_b) + foot_d) if smooth else (d - foot_d, d + foot_d)
                s_low, s_high = (min(s_a, s_b) - foot_s, max(s_a, s_b) + foot_s) if smooth else (s - foot_s, s + foot_s)
                count_lines = lines_near(s_low, s_high, d_low, d_high, shift, lines, near_lines)
                count_marks = marks_near(s_low, s_high, d_low, d_high, marks, near_marks)
            inverse_depth[py, px] = one / z
            if coarse:
                c0, c1, c2 = a0 + (b0 - a0) * t, a1 + (b1 - a1) * t, a2 + (b2 - a2) * t
                grain, asphalt = a3 + (b3 - a3) * t, a4
                lit, tone = lit_a + (lit_b - lit_a) * t, tone_a + (tone_b - tone_a) * t
            else:
                c0, c1, c2, grain, asphalt = _section_at(d, edge, shift, level, section)
                lit, tone = _surface_at(s, d, s_start, scale_s, scale_d, surface)
            # Texture: wear drawn out along the road or clumps beside it, then the stones of the surface. In a function of their own
            # these reads cost 4 % of a frame: references to the tiles would be counted at every pixel.
            if asphalt > half:
                texture = (tile_at(noise, s * f32(0.9) + moved_s, d * f32(17.0) + moved_d) - half) * f32(0.3)
                texture += _grain_at(s, d, f32(ROAD_TEXELS), road_level, road_share, road_tiles) * f32(1.7)
                if cracked > zero:
                    texture -= tile_at(cracks, s * f32(41.0) + moved_s, d * f32(41.0) + moved_d) * cracked
                if jointed and d > slabs_left and d < slabs_right:
                    texture -= dash(s + skew * d, foot_s, slab, joint_width, slab_phase)
            else:
                texture = (tile_at(noise, s * f32(4.0), d * f32(7.0) + f32(8192.0)) - half) * f32(0.6)
                texture += _grain_at(s, d, f32(VERGE_TEXELS), verge_level, verge_share, verge_tiles) * f32(1.8)
            gain = max(one + grain * texture, f32(0.15))
            c0 *= gain
            c1 *= gain
            c2 *= gain
            # Paint: exact coverage of the pixel's footprint, worn by the blotches.
            paint, p0, p1, p2, blotch, edging = zero, zero, zero, zero, half, zero
            if count_lines + count_marks > 0:
                blotch = tile_at(noise, s * f32(9.0), d * f32(23.0) + f32(8192.0))
                edging = (half * (blotch - half) + texture) * ragged
            for m in range(count_lines):
                n = near_lines[m]
                cover = line(s, d, foot_s, foot_d, shift, edging, n, lines)
                if cover == zero:
                    continue
                keep = kept(blotch, texture, lines[n, 8])
                cover *= keep + (one - keep) * (one - min(lines[n, 8] * f32(1.3), one)) * half
                if cover > paint:
                    paint, p0, p1, p2 = cover, lines[n, 5], lines[n, 6], lines[n, 7]
            for m in range(count_marks):
                n = near_marks[m]
                dd = d - marks[n, 2]
                if dd < zero or dd > marks[n, 3]:
                    continue
                cover = mark(s - marks[n, 0], dd, foot_s, foot_d, n, marks, glyphs)
                cover *= kept(blotch, texture, marks[n, 7])
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
                throw = _throw(z, lateral, beam)
                l0 += throw * f32(0.72)
                l1 += throw * f32(0.9)
                l2 += throw
            c0 *= l0 * tone
            c1 *= l1 * tone
            c2 *= l2 * tone
            if glint > zero:
                shine = _shine(z, lateral - sun_lat, glint, sharp, lit, texture, asphalt, paint)
                c0 += shine * f32(0.8)
                c1 += shine * f32(0.92)
                c2 += shine
            image[py, px, 0] = c0 * clear + air0 * (one - clear)
            image[py, px, 1] = c1 * clear + air1 * (one - clear)
            image[py, px, 2] = c2 * clear + air2 * (one - clear)
