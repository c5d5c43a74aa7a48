"""The compiled loops over vertices and pixels, but for the background's: light, triangles, billboards, and the
camera's response.

All work on a linear-light float32 image (H, W, 3) in BGR order and on the inverse depth (H, W) in 1/m, 0 where
nothing lies yet.
Local coordinates: origin on the road's centre line beside the camera, x right, y up, z forward along the road, metres.
Arrays are taken out of named tuples before the loops: inside, each use would count a reference.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

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


@numba.njit(cache=True, fastmath=True, inline="always")
def unit(value):  # type: ignore[no-untyped-def]
    """Clip to [0, 1]."""
    return min(max(value, np.float32(0.0)), np.float32(1.0))


@numba.njit(cache=True, fastmath=True, error_model="numpy")
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


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def draw_triangles(  # type: ignore[no-untyped-def]
    image, inverse_depth, view, vertices, colors, coordinates, triangles, textures, facades, windows, near
):
    """Draw triangles with their vertices' colours, nearest first by depth; a texture >= 0 puts a facade of windows
    over them.

    vertices (N, 3) local; colors (N, 4) linear BGR and share of air; coordinates (N, 2) in bays and storeys; windows
    (8,): BGR of dark
    panes, BGR of lit ones, share lit, contrast among panes.
    """
    height, width = inverse_depth.shape
    f32 = np.float32
    rot, distort, per_radius = view.rotation, view.distort, f32(view.per_radius)
    view_x, view_y, center_x, center_y = f32(view.x), f32(view.y), f32(view.center_x), f32(view.center_y)
    focal = f32(view.focal)
    corner = np.empty((4, 9), np.float32)
    camera = np.empty((3, 9), np.float32)
    slope_x, slope_y = np.empty(7, np.float32), np.empty(7, np.float32)
    near = f32(near)
    for t in range(triangles.shape[0]):
        texture = textures[t]
        behind = 0
        for k in range(3):
            n = triangles[t, k]
            x, y, z = vertices[n, 0] - view_x, vertices[n, 1] - view_y, vertices[n, 2]
            camera[k, 0] = rot[0, 0] * x + rot[1, 0] * y + rot[2, 0] * z
            camera[k, 1] = rot[0, 1] * x + rot[1, 1] * y + rot[2, 1] * z
            camera[k, 2] = rot[0, 2] * x + rot[1, 2] * y + rot[2, 2] * z
            for c in range(4):
                camera[k, 3 + c] = colors[n, c]
            camera[k, 7], camera[k, 8] = coordinates[n, 0], coordinates[n, 1]
            if camera[k, 2] < near:
                behind += 1
        if behind == 3:
            continue
        count = 0
        for k in range(3):
            m = (k + 1) % 3
            if camera[k, 2] >= near:
                for c in range(9):
                    corner[count, c] = camera[k, c]
                count += 1
            if (camera[k, 2] >= near) != (camera[m, 2] >= near):
                w = (near - camera[k, 2]) / (camera[m, 2] - camera[k, 2])
                for c in range(9):
                    corner[count, c] = camera[k, c] + (camera[m, c] - camera[k, c]) * w
                count += 1
        for k in range(count):
            q = f32(1.0) / corner[k, 2]
            u, v = corner[k, 0] * q, -corner[k, 1] * q
            scale = distort[min(int(min((u * u + v * v) * per_radius, f32(1e6))), distort.shape[0] - 1)]
            corner[k, 0] = u * scale * focal + center_x
            corner[k, 1] = v * scale * focal + center_y
            corner[k, 2] = q
            for c in range(3, 9):
                corner[k, c] *= q
        for fan in range(count - 2):
            x0, y0 = corner[0, 0], corner[0, 1]
            x1, y1 = corner[fan + 1, 0], corner[fan + 1, 1]
            x2, y2 = corner[fan + 2, 0], corner[fan + 2, 1]
            area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
            if abs(area) < 1e-6:
                continue
            top = max(int(np.ceil(min(y0, y1, y2))), 0)
            bottom = min(int(np.floor(max(y0, y1, y2))), height - 1)
            if top > bottom or max(x0, x1, x2) < 0 or min(x0, x1, x2) > width - 1:
                continue
            inv = f32(1.0) / area
            for c in range(7):
                a0 = corner[0, 2 + c]
                a1, a2 = corner[fan + 1, 2 + c] - a0, corner[fan + 2, 2 + c] - a0
                slope_x[c] = (a1 * (y2 - y0) - a2 * (y1 - y0)) * inv
                slope_y[c] = (a2 * (x1 - x0) - a1 * (x2 - x0)) * inv
            for py in range(top, bottom + 1):
                left, right = f32(0.0), f32(width - 1)
                for e in range(3):
                    if e == 0:
                        ax, ay, bx, by = x0, y0, x1, y1
                    elif e == 1:
                        ax, ay, bx, by = x1, y1, x2, y2
                    else:
                        ax, ay, bx, by = x2, y2, x0, y0
                    rise = by - ay
                    if rise == 0:
                        continue
                    cut = ax + (f32(py) - ay) * (bx - ax) / rise
                    if (rise < 0) == (area > 0):
                        left = max(left, cut)
                    else:
                        right = min(right, cut)
                for px in range(int(np.ceil(left)), int(np.floor(right)) + 1):
                    dx, dy = f32(px) - x0, f32(py) - y0
                    q = corner[0, 2] + slope_x[0] * dx + slope_y[0] * dy
                    if q <= inverse_depth[py, px]:
                        continue
                    inverse_depth[py, px] = q
                    z = f32(1.0) / q
                    b = (corner[0, 3] + slope_x[1] * dx + slope_y[1] * dy) * z
                    g = (corner[0, 4] + slope_x[2] * dx + slope_y[2] * dy) * z
                    r = (corner[0, 5] + slope_x[3] * dx + slope_y[3] * dy) * z
                    if texture >= 0:
                        clear = f32(1.0) - (corner[0, 6] + slope_x[4] * dx + slope_y[4] * dy) * z
                        uu = (corner[0, 7] + slope_x[5] * dx + slope_y[5] * dy) * z
                        vv = (corner[0, 8] + slope_x[6] * dx + slope_y[6] * dy) * z
                        du = abs(slope_x[5] - uu * slope_x[0]) * z
                        dv = abs(slope_y[6] - vv * slope_y[0]) * z
                        spread = max(np.sqrt(du * dv), max(du, dv) * f32(0.5)) * f32(FACADE_TEXELS)
                        level, size = 0, FACADE_TEXELS
                        while spread > 1.0 and level < 6:
                            spread *= f32(0.5)
                            level += 1
                            size >>= 1
                        bay, floor = np.floor(uu), np.floor(vv)
                        kind = texture
                        if floor < 1.0:
                            kind = 0
                        tu, tv = int((uu - bay) * size), int((vv - floor) * size)
                        wall = f32(facades[kind, level, tv, tu, 0]) * f32(1.0 / 200.0)
                        pane = f32(facades[kind, level, tv, tu, 1]) * f32(1.0 / 255.0)
                        mixed = (int(bay) * 73856093) ^ (int(floor) * 19349663) ^ (texture * 83492791)
                        mixed = (mixed ^ (mixed >> 13)) * 1274126177
                        chance = f32((mixed >> 8) & 1023) * f32(1.0 / 1023.0)
                        other = f32((mixed >> 18) & 1023) * f32(1.0 / 1023.0)
                        if level > 4:
                            chance, other = f32(0.5), f32(0.5)
                        vary = f32(1.0) + (other - f32(0.5)) * windows[7]
                        pb, pg, pr = windows[0] * vary, windows[1] * vary, windows[2] * vary
                        share = windows[6] * (f32(2.0) if floor < 1.0 else f32(1.0))
                        if chance < share:
                            glow = f32(0.3) + f32(0.7) * other
                            pb, pg, pr = windows[3] * glow, windows[4] * glow, windows[5] * glow
                        b, g, r = b * wall, g * wall, r * wall
                        if floor < 1.0 and vv - floor > 0.76 and chance < f32(0.6):
                            # The shop's sign: a colour of its own, white or muted.
                            b *= f32(1.0) + other * f32(0.5) - chance * f32(1.1)
                            g *= f32(0.55) + other * f32(0.6)
                            r *= f32(1.5) - other
                            b, g, r = max(b, r * f32(0.15)), g, r
                        b += (pb * clear - b) * pane
                        g += (pg * clear - g) * pane
                        r += (pr * clear - r) * pane
                    image[py, px, 0], image[py, px, 1], image[py, px, 2] = b, g, r


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def draw_billboards(image, inverse_depth, boards, atlas, spans):  # type: ignore[no-untyped-def]
    """Draw plants, far ones first. boards (n, 14): x, y of the foot, height in pixels, 1/depth, kind, mirrored, leaf
    colour in ambient
    light (3) and in sunlight (3) with air already in it, air added (x share), bark's share. atlas (kinds, levels, S,
    S, 4): cover, light
    from above, light from the sun's side, bark; spans: `textures.plant_spans`."""
    rows, cols = inverse_depth.shape
    f32 = np.float32
    full = atlas.shape[2]
    for n in range(boards.shape[0]):
        size = boards[n, 2]
        if size < 2.0:
            continue
        level, texels = 0, full
        while texels > size * 1.1 and level < atlas.shape[1] - 1:
            level += 1
            texels >>= 1
        step = f32(texels) / size
        left, top = boards[n, 0] - size * f32(0.5), boards[n, 1] - size
        kind = int(boards[n, 4])
        q = boards[n, 3]
        mirrored = boards[n, 5] > f32(0.5)
        for py in range(max(int(np.ceil(top)), 0), min(int(np.floor(top + size)), rows - 1) + 1):
            ty = min((f32(py) - top) * step, f32(texels) - f32(1.01))
            i = int(ty)
            fy = ty - f32(i)
            k = min(i + 1, texels - 1)
            begin, end = (
                f32(min(spans[kind, level, i, 0], spans[kind, level, k, 0])),
                f32(max(spans[kind, level, i, 1], spans[kind, level, k, 1])),
            )
            if begin > end:
                continue
            if mirrored:
                begin, end = f32(texels) - end - f32(2.0), f32(texels) - begin
            x_first = max(int(np.ceil(left + max(begin - f32(1.0), f32(0.0)) / step)), 0)
            x_last = min(int(np.floor(left + min(end + f32(1.0), f32(texels)) / step)), cols - 1)
            for px in range(x_first, x_last + 1):
                if q <= inverse_depth[py, px]:
                    continue
                tx = (f32(px) - left) * step
                if mirrored:
                    tx = f32(texels) - f32(1.01) - tx
                tx = min(max(tx, f32(0.0)), f32(texels) - f32(1.01))
                j = int(tx)
                if level > 0:
                    alpha = f32(atlas[kind, level, i, j, 0]) * f32(1.0 / 255.0)
                else:
                    fx = tx - f32(j)
                    m = min(j + 1, texels - 1)
                    upper = f32(atlas[kind, 0, i, j, 0]) * (f32(1.0) - fx) + f32(atlas[kind, 0, i, m, 0]) * fx
                    lower = f32(atlas[kind, 0, k, j, 0]) * (f32(1.0) - fx) + f32(atlas[kind, 0, k, m, 0]) * fx
                    alpha = (upper + (lower - upper) * fy) * f32(1.0 / 255.0)
                if alpha < 0.02:
                    continue
                up = f32(atlas[kind, level, i, j, 1]) * f32(1.0 / 255.0)
                side = f32(atlas[kind, level, i, j, 2]) * f32(1.0 / 255.0)
                bark = f32(atlas[kind, level, i, j, 3]) * f32(1.0 / 255.0)
                b = boards[n, 6] * up + boards[n, 9] * side
                g = boards[n, 7] * up + boards[n, 10] * side
                r = boards[n, 8] * up + boards[n, 11] * side
                grey = (b + g + r) * f32(0.3)
                b += (grey * f32(0.9) - b) * bark
                g += (grey - g) * bark
                r += (grey * f32(1.1) - r) * bark
                image[py, px, 0] += (b + boards[n, 12] - image[py, px, 0]) * alpha
                image[py, px, 1] += (g + boards[n, 13] - image[py, px, 1]) * alpha
                image[py, px, 2] += (r + boards[n, 14] - image[py, px, 2]) * alpha
                if alpha > 0.6:
                    inverse_depth[py, px] = q


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def develop(image, glare, exposure, curve, vignette, out):  # type: ignore[no-untyped-def]
    """Linear light -> bytes: add the glare (1/`GLARE_SHRINK` of the size, two more), expose, darken the corners,
    apply the tone curve.

    curve (N,): bytes by the square root of exposed light over [0, 4].
    """
    height, width, _ = image.shape
    f32 = np.float32
    shrink = GLARE_SHRINK
    cols = glare.shape[1]
    last = curve.shape[0] - 1
    gain = f32(last / 2.0)
    middle_x, middle_y = f32(0.5 * width), f32(0.5 * height)
    inv = f32(vignette) / (middle_x * middle_x)
    line = np.empty((cols, 3), np.float32)
    fall = np.empty(width, np.float32)
    value = np.empty(3 * width, np.float32)
    for py in range(height):
        i = py // shrink
        t = f32(py - i * shrink) * f32(1.0 / shrink)
        for j in range(cols):
            for c in range(3):
                line[j, c] = glare[i, j, c] + (glare[i + 1, j, c] - glare[i, j, c]) * t
        dy = f32(py) - middle_y
        for px in range(width):
            dx = f32(px) - middle_x
            fall[px] = f32(exposure) * (f32(1.0) - (dx * dx + dy * dy) * inv)
        for px in range(width):
            j = px >> 3
            t = f32(px & 7) * f32(1.0 / shrink)
            for c in range(3):
                value[3 * px + c] = (image[py, px, c] + line[j, c] + (line[j + 1, c] - line[j, c]) * t) * fall[px]
        for n in range(3 * width):
            value[n] = min(np.sqrt(max(value[n], f32(0.0))) * gain, f32(last))
        for px in range(width):
            for c in range(3):
                out[py, px, c] = curve[np.int32(value[3 * px + c])]
