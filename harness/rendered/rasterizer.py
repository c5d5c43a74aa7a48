"""The compiled loops that draw what stands on the road: triangles with their vertices' colours, and plants.

Images, depths and coordinates are as in `kernels`.
"""

from __future__ import annotations

import numpy as np

from harness.rendered.compiled import compiled
from harness.rendered.kernels import FACADE_TEXELS, unit


@compiled(fastmath=True, error_model="numpy")
def draw_triangles(  # type: ignore[no-untyped-def]
    image, inverse_depth, view, vertices, colors, coordinates, triangles, textures, facades, windows, near
):
    """Draw triangles with their vertices' colours, nearest first by depth; a texture >= 0 puts a facade of windows
    over them.

    vertices (N, 3) local; colors (N, 4) linear BGR and share of air; coordinates (N, 2) in bays and storeys; windows
    (8,): BGR of dark panes, BGR of lit ones, share lit, contrast among panes. Triangles are cut at depth `near`.
    """
    height, width = inverse_depth.shape
    f32 = np.float32
    rot, distort, per_radius = view.rotation, view.distort, f32(view.per_radius)
    view_x, view_y, center_x, center_y = f32(view.x), f32(view.y), f32(view.center_x), f32(view.center_y)
    focal, near = f32(view.focal), f32(near)
    camera = np.empty((vertices.shape[0], 3), np.float32)
    for n in range(vertices.shape[0]):
        x, y, z = vertices[n, 0] - view_x, vertices[n, 1] - view_y, vertices[n, 2]
        camera[n, 0] = rot[0, 0] * x + rot[1, 0] * y + rot[2, 0] * z
        camera[n, 1] = rot[0, 1] * x + rot[1, 1] * y + rot[2, 1] * z
        camera[n, 2] = rot[0, 2] * x + rot[1, 2] * y + rot[2, 2] * z
    # Columns: place, 1 / depth, and what varies linearly on the screen: colour, air and facade coordinates by depth.
    corner, start = np.empty((4, 9), np.float32), np.empty(7, np.float32)
    slope_x, slope_y, edge = np.empty(7, np.float32), np.empty(7, np.float32), np.empty((3, 3), np.float32)
    for t in range(triangles.shape[0]):
        count = 0
        for k in range(3):
            n, m = triangles[t, k], triangles[t, (k + 1) % 3]
            inside = camera[n, 2] >= near
            if inside:
                for c in range(3):
                    corner[count, c] = camera[n, c]
                for c in range(4):
                    corner[count, 3 + c] = colors[n, c]
                for c in range(2):
                    corner[count, 7 + c] = coordinates[n, c]
                count += 1
            if inside != (camera[m, 2] >= near):
                w = (near - camera[n, 2]) / (camera[m, 2] - camera[n, 2])
                for c in range(3):
                    corner[count, c] = camera[n, c] + (camera[m, c] - camera[n, c]) * w
                for c in range(4):
                    corner[count, 3 + c] = colors[n, c] + (colors[m, c] - colors[n, c]) * w
                for c in range(2):
                    corner[count, 7 + c] = coordinates[n, c] + (coordinates[m, c] - coordinates[n, c]) * w
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
            top = max(int(np.ceil(min(y0, y1, y2))), 0)
            bottom = min(int(np.floor(max(y0, y1, y2))), height - 1)
            first = max(int(np.ceil(max(min(x0, x1, x2), f32(-1.0)))), 0)
            last = min(int(np.floor(min(max(x0, x1, x2), f32(width)))), width - 1)
            if abs(area) < 1e-6 or top > bottom or first > last:
                continue
            inv = f32(1.0) / area
            for c in range(7):
                a0 = corner[0, 2 + c]
                a1, a2 = corner[fan + 1, 2 + c] - a0, corner[fan + 2, 2 + c] - a0
                start[c] = a0
                slope_x[c] = (a1 * (y2 - y0) - a2 * (y1 - y0)) * inv
                slope_y[c] = (a2 * (x1 - x0) - a1 * (x2 - x0)) * inv
            for e in range(3):
                if e == 0:
                    ax, ay, bx, by = x0, y0, x1, y1
                elif e == 1:
                    ax, ay, bx, by = x1, y1, x2, y2
                else:
                    ax, ay, bx, by = x2, y2, x0, y0
                rise = by - ay
                # A level edge bounds no row: beside 0 it stands for "left of everything".
                level = rise == 0
                edge[e, 0] = f32(0.0) if level or (rise < 0) == (area > 0) else f32(1.0)
                edge[e, 1] = f32(0.0) if level else (bx - ax) / rise
                edge[e, 2] = f32(-1.0) if level else ax - ay * edge[e, 1]
            if textures[t] < 0:
                _fill_plain(image, inverse_depth, edge, top, bottom, x0, y0, start, slope_x, slope_y)
            else:
                _fill_facade(
                    image, inverse_depth, edge, top, bottom, x0, y0, start, slope_x, slope_y,
                    textures[t], facades, windows,
                )  # fmt: skip


@compiled(fastmath=True, error_model="numpy")
def _span(edge, py, width):  # type: ignore[no-untyped-def]
    """The first column of a triangle in a row, and the one after its last."""
    left, right = np.float32(0.0), np.float32(width - 1)
    for e in range(3):
        cut = edge[e, 2] + np.float32(py) * edge[e, 1]
        if edge[e, 0] < np.float32(0.5):
            left = max(left, cut)
        else:
            right = min(right, cut)
    return int(np.ceil(min(left, np.float32(width)))), int(np.floor(max(right, np.float32(-1.0)))) + 1


@compiled(fastmath=True, error_model="numpy")
def _fill_plain(image, inverse_depth, edge, top, bottom, x0, y0, start, slope_x, slope_y):  # type: ignore[no-untyped-def]
    """Fill a triangle with its interpolated colour where it's nearer than what is there."""
    f32 = np.float32
    width = inverse_depth.shape[1]
    qx, bx, gx, rx = slope_x[0], slope_x[1], slope_x[2], slope_x[3]
    for py in range(top, bottom + 1):
        begin, end = _span(edge, py, width)
        dy = f32(py) - y0
        q0, b0 = start[0] + slope_y[0] * dy, start[1] + slope_y[1] * dy
        g0, r0 = start[2] + slope_y[2] * dy, start[3] + slope_y[3] * dy
        for px in range(begin, end):
            dx = f32(px) - x0
            q = q0 + qx * dx
            if q > inverse_depth[py, px]:
                inverse_depth[py, px] = q
                z = f32(1.0) / q
                image[py, px, 0], image[py, px, 1] = (b0 + bx * dx) * z, (g0 + gx * dx) * z
                image[py, px, 2] = (r0 + rx * dx) * z


@compiled(fastmath=True, error_model="numpy")
def _fill_facade(  # type: ignore[no-untyped-def]
    image, inverse_depth, edge, top, bottom, x0, y0, start, slope_x, slope_y, texture, facades, windows
):
    """Fill a wall: bays and storeys of a facade, each with panes of its own, and signs over the shops at its foot."""
    f32 = np.float32
    one, half = f32(1.0), f32(0.5)
    width = inverse_depth.shape[1]
    qx, bx, gx, rx = slope_x[0], slope_x[1], slope_x[2], slope_x[3]
    ax, ux, vx, qy, vy = slope_x[4], slope_x[5], slope_x[6], slope_y[0], slope_y[6]
    dark0, dark1, dark2 = windows[0], windows[1], windows[2]
    lit0, lit1, lit2, lit_share, contrast = windows[3], windows[4], windows[5], windows[6], windows[7]
    for py in range(top, bottom + 1):
        begin, end = _span(edge, py, width)
        dy = f32(py) - y0
        q0, b0 = start[0] + slope_y[0] * dy, start[1] + slope_y[1] * dy
        g0, r0 = start[2] + slope_y[2] * dy, start[3] + slope_y[3] * dy
        a0, u0, v0 = start[4] + slope_y[4] * dy, start[5] + slope_y[5] * dy, start[6] + slope_y[6] * dy
        known_bay, known_floor, known_coarse = f32(-1e9), f32(-1e9), False
        chance, other, pb, pg, pr = half, half, dark0, dark1, dark2
        letters = 0
        for px in range(begin, end):
            dx = f32(px) - x0
            q = q0 + qx * dx
            if q <= inverse_depth[py, px]:
                continue
            inverse_depth[py, px] = q
            z = one / q
            b, g, r = (b0 + bx * dx) * z, (g0 + gx * dx) * z, (r0 + rx * dx) * z
            clear = one - (a0 + ax * dx) * z
            uu, vv = (u0 + ux * dx) * z, (v0 + vx * dx) * z
            du, dv = abs(ux - uu * qx) * z, abs(vy - vv * qy) * z
            # The larger of the geometric mean and half the longer side, squared.
            most = max(du, dv) * half
            spread = max(du * dv, most * most) * f32(FACADE_TEXELS * FACADE_TEXELS)
            level, size = 0, f32(FACADE_TEXELS)
            while spread > one and level < 6:
                spread *= f32(0.25)
                level += 1
                size *= half
            bay, floor = np.floor(uu), np.floor(vv)
            shop, coarse = floor < one, level > 4
            if bay != known_bay or floor != known_floor or coarse != known_coarse:
                known_bay, known_floor, known_coarse = bay, floor, coarse
                chance, other = half, half
                if not coarse:
                    mixed = (int(bay) * 73856093) ^ (int(floor) * 19349663) ^ (texture * 83492791)
                    mixed = (mixed ^ (mixed >> 13)) * 1274126177
                    chance = f32((mixed >> 8) & 1023) * f32(1.0 / 1023.0)
                    other = f32((mixed >> 18) & 1023) * f32(1.0 / 1023.0)
                    letters = mixed >> 3
                vary = one + (other - half) * contrast
                pb, pg, pr = dark0 * vary, dark1 * vary, dark2 * vary
                if chance < lit_share * (f32(2.0) if shop else one):
                    glow = f32(0.3) + f32(0.7) * other
                    pb, pg, pr = lit0 * glow, lit1 * glow, lit2 * glow
            kind = 0 if shop else texture
            tu, tv = int((uu - bay) * size), int((vv - floor) * size)
            wall = f32(facades[kind, level, tv, tu, 0]) * f32(1.0 / 200.0)
            pane = f32(facades[kind, level, tv, tu, 1]) * f32(1.0 / 255.0)
            b, g, r = b * wall, g * wall, r * wall
            if shop and vv - floor > f32(0.76) and chance < f32(0.6):
                # The shop's sign: a colour of its own, white or muted, and lettering on it.
                paint = f32(0.3) * (b + g + r)
                b *= one + other * half - chance * f32(1.1)
                g *= f32(0.55) + other * f32(0.6)
                r *= f32(1.5) - other
                b, g, r = max(b, r * f32(0.15)), f32(0.65) * g + f32(0.35) * r, f32(0.65) * r + f32(0.35) * g
                if abs(vv - floor - f32(0.88)) < f32(0.055) and (letters >> int((uu - bay) * f32(21.0))) & 1:
                    b, g, r = half * (b + paint), half * (g + paint), half * (r + paint)
            image[py, px, 0] = b + (pb * clear - b) * pane
            image[py, px, 1] = g + (pg * clear - g) * pane
            image[py, px, 2] = r + (pr * clear - r) * pane


DENSE = 0.97
"""Foliage with at least this cover hides what is behind it."""


@compiled(fastmath=True, error_model="numpy")
def draw_dense_plants(image, inverse_depth, boards, atlas, spans, noise):  # type: ignore[no-untyped-def]
    """Draw of plants what hides everything behind it, near ones first; to be drawn before the background, which then need not be
    drawn there. `draw_loose_plants` draws the rest over the background.

    boards (n, 15), far ones first: x, y of the foot, height in pixels, 1/depth, kind, mirrored, leaf colour in ambient light (3) and
    in sunlight (3) with air already in it, air added (3). atlas (kinds, levels, S, S, 4): cover, light from above,
    light from the sun's side, bark; spans: `textures.plant_spans`; noise: a 512 x 512 tile, the leaves of near plants.
    """
    for n in range(boards.shape[0] - 1, -1, -1):
        _draw_plant(image, inverse_depth, boards[n], atlas, spans, noise, np.float32(DENSE), np.float32(2.0))


@compiled(fastmath=True, error_model="numpy")
def draw_loose_plants(image, inverse_depth, boards, atlas, spans, noise):  # type: ignore[no-untyped-def]
    """Draw of plants what their background shines through, far ones first; arguments as in `draw_dense_plants`."""
    for n in range(boards.shape[0]):
        _draw_plant(image, inverse_depth, boards[n], atlas, spans, noise, np.float32(0.02), np.float32(DENSE))


@compiled(fastmath=True, error_model="numpy")
def _draw_plant(image, inverse_depth, board, atlas, all_spans, noise, least, most):  # type: ignore[no-untyped-def]
    """Of one row of `boards` the pixels whose cover is in [least, most); near plants get leaves finer than their texels."""
    if board[2] < np.float32(2.0):
        return
    level, texels = 0, atlas.shape[2]
    while texels > board[2] * np.float32(1.3) and level < atlas.shape[1] - 1:
        level += 1
        texels >>= 1
    picture, spans = atlas[int(board[4]), level], all_spans[int(board[4]), level]
    rows, cols = inverse_depth.shape
    f32 = np.float32
    byte, one, zero = f32(1.0 / 255.0), f32(1.0), f32(0.0)
    size, q, mirrored = board[2], board[3], board[5] > f32(0.5)
    up0, up1, up2, side0, side1, side2 = board[6], board[7], board[8], board[9], board[10], board[11]
    air0, air1, air2 = board[12], board[13], board[14]
    step = f32(texels) / size
    left, top = board[0] - size * f32(0.5), board[1] - size
    limit = f32(texels) - f32(1.01)
    near = size > f32(texels)
    for py in range(max(int(np.ceil(top)), 0), min(int(np.floor(top + size)), rows - 1) + 1):
        ty = min((f32(py) - top) * step, limit)
        i = int(ty)
        fy = ty - f32(i)
        k = min(i + 1, texels - 1)
        begin, end = f32(min(spans[i, 0], spans[k, 0])), f32(max(spans[i, 1], spans[k, 1]))
        if begin > end:
            continue
        if mirrored:
            begin, end = f32(texels) - end - f32(2.0), f32(texels) - begin
        first = max(int(np.ceil(left + max(begin - one, zero) / step)), 0)
        last = min(int(np.floor(left + min(end + one, f32(texels)) / step)), cols - 1)
        for px in range(first, last + 1):
            if q <= inverse_depth[py, px]:
                continue
            tx = (f32(px) - left) * step
            if mirrored:
                tx = limit - tx
            tx = min(max(tx, zero), limit)
            j = int(tx)
            cover = f32(picture[i, j, 0])
            bright = one
            if near:
                fx = tx - f32(j)
                m = min(j + 1, texels - 1)
                upper = cover * (one - fx) + f32(picture[i, m, 0]) * fx
                lower = f32(picture[k, j, 0]) * (one - fx) + f32(picture[k, m, 0]) * fx
                leaf = f32(noise[int(f32(2.0) * ty) & 511, int(f32(2.0) * tx) & 511]) * byte
                bright = f32(0.5) + leaf
                cover = unit((upper + (lower - upper) * fy) * byte * f32(3.0) + f32(2.0) * leaf - f32(2.0))
                cover *= f32(255.0)
            alpha = cover * byte
            if alpha < least or alpha >= most:
                continue
            up, side = f32(picture[i, j, 1]) * byte * bright, f32(picture[i, j, 2]) * byte * bright
            bark = f32(picture[i, j, 3]) * byte
            b, g, r = up0 * up + side0 * side, up1 * up + side1 * side, up2 * up + side2 * side
            grey = (b + g + r) * f32(0.3)
            b += (grey * f32(0.9) - b) * bark + air0
            g += (grey - g) * bark + air1
            r += (grey * f32(1.1) - r) * bark + air2
            if alpha >= f32(DENSE):
                # Nothing that the canvas holds of the frame before goes into it, not even by rounding.
                image[py, px, 0], image[py, px, 1], image[py, px, 2] = b, g, r
            else:
                image[py, px, 0] += (b - image[py, px, 0]) * alpha
                image[py, px, 1] += (g - image[py, px, 1]) * alpha
                image[py, px, 2] += (r - image[py, px, 2]) * alpha
            if alpha > f32(0.6):
                inverse_depth[py, px] = q
