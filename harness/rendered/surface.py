"""What lies on a clip's ground: shadows or street light, patches, and the prefiltered cross-section."""

from __future__ import annotations

import cv2
import numpy as np

from harness.rendered.foliage import PLANT_TEXELS
from harness.rendered.ground import SECTION_BINS, SECTION_HALF, TONE_ONE
from harness.rendered.kernels import Bytes, Floats
from harness.rendered.scene import Scene
from harness.rendered.streams import Stream, open_stream
from harness.rendered.textures import noise_tile, plants

TEXELS_S = 7.0
"""Texels of the surface map a metre along the road."""
TEXELS_D = 10.0
HALF_WIDTH = 25.6


def section_table(scene: Scene) -> Floats:
    """The ground's cross-section, box-filtered: (level, bin, [B, G, R, grain, asphalt]); level k averages 2^k bins."""
    count = int(2 * SECTION_HALF * SECTION_BINS)
    fine = 4
    d = (np.arange(count * fine) + 0.5) / (SECTION_BINS * fine) - SECTION_HALF
    starts = np.array([step[0] for step in scene.section])
    which = np.clip(np.searchsorted(starts, d, side="right") - 1, 0, None)
    rows = np.array([(*color, grain, asphalt) for _, color, grain, asphalt in scene.section])[which]
    left, right = scene.boundaries[0][0], scene.boundaries[-1][0]
    inside = (d > left) & (d < right)
    middle = (d - left) / scene.lane_width % 1.0
    pavement = scene.pavement
    lane = np.clip((d - left - pavement.joint) / scene.lane_width, 0, len(pavement.tones) - 1e-6).astype(int)
    rows[:, :3] *= np.where(inside, np.array(pavement.tones)[lane], 1.0)[:, None]
    wheels = np.exp(-(((np.abs(middle - 0.5) - 0.23) / 0.075) ** 2))
    oil = np.exp(-(((middle - 0.5) / 0.11) ** 2)) * np.array(pavement.oil)[lane]
    rows[:, :3] *= (1 + inside * scene.tracks * (0.5 * oil * -1.0 - 0.6 * wheels * pavement.wheels + 0.35))[:, None]
    beside = (d - left - pavement.joint) / scene.lane_width % 1.0
    seam = np.abs(np.abs(beside - 0.5) - 0.5) * scene.lane_width < 0.035
    rows[:, :3] *= (1 - 0.5 * scene.seams * (seam & inside))[:, None]
    # Contact shade beside barriers.
    for barrier in scene.barriers:
        rows[:, :3] *= (1 - 0.45 * np.exp(-np.abs(d - barrier.d) / 0.35))[:, None]
    levels = []
    for level in range(9):
        # A box filter by differences of the running sum.
        half = 2 ** (level - 1) * fine if level else fine // 2
        padded = np.pad(rows, ((half, half), (0, 0)), mode="edge")
        total = np.concatenate([np.zeros((1, 5)), np.cumsum(padded, axis=0)])
        smooth = (total[2 * half :] - total[: -2 * half]) / (2 * half)
        levels.append(smooth[: count * fine].reshape(count, fine, 5).mean(axis=1))
    return np.ascontiguousarray(np.stack(levels), np.float32)


def surface_map(scene: Scene) -> Bytes:
    """The clip's ground from above: (s, d, [share of key light that arrives x 255, tone x 200])."""
    begin, end = scene.span
    rows, cols = int((end - begin) * TEXELS_S), int(2 * HALF_WIDTH * TEXELS_D)
    light = np.full((rows, cols), 255, np.uint8)
    tone = _tones(scene, rows, cols)
    if scene.weather.night:
        light = _lamp_light(scene, rows, cols)
    elif max(scene.weather.key) > 0.5:
        light = _shadows(scene, rows, cols)
    _draw_patches(scene, tone)
    return np.ascontiguousarray(np.stack([light, tone], axis=-1))


def pavement_row(scene: Scene) -> Floats:
    """The pavement as the ground's kernel takes it, see `ground.Ground`."""
    road = scene.pavement
    length, skew, phase, width, _ = road.slabs
    between = (scene.boundaries[0][0], scene.boundaries[-1][0])
    return np.array([length, skew, phase, width, *between, road.concrete, road.wear, *road.begin], np.float32)


def _tones(scene: Scene, rows: int, cols: int) -> Bytes:
    """What makes the ground's tone uneven over decimetres to metres: (s, d), `TONE_ONE` where it leaves it as it is.

    On the road: streaks along it, slabs of their own tone, spots and tyre marks; beside it clumps.
    """
    g = open_stream(scene.seed, Stream.TONES)
    first, last = (int(_texel(scene, 0.0, d)[0]) for d in (scene.boundaries[0][0] - 1.0, scene.boundaries[-1][0] + 1.0))
    road = slice(max(first, 0), min(last, cols))
    noise = noise_tile()
    clumps = np.tile(cv2.resize(noise, None, fx=2.0, fy=3.0), (rows // (3 * noise.shape[0]) + 1, 1))[:rows, :cols]
    tone = np.asarray(cv2.addWeighted(clumps, 0.3, clumps, 0.0, TONE_ONE - 0.3 * 128), np.uint8)
    wide = road.stop - road.start
    streaks = cv2.resize(noise[: rows // 40 + 2, :wide], (wide, rows), interpolation=cv2.INTER_LINEAR)
    stains = clumps[:, road]
    tone[:, road] = cv2.addWeighted(streaks, 0.12, stains, 0.07, TONE_ONE - 0.19 * 128)
    length, skew, phase, _, spread = scene.pavement.slabs
    if length:
        left = scene.boundaries[0][0] + scene.pavement.joint
        factors = g.normal(1.0, spread, (int(rows / TEXELS_S / length) + 4, len(scene.pavement.tones)))
        s = np.arange(rows) / TEXELS_S + scene.span[0]
        for lane in range(factors.shape[1]):
            here = (left + lane * scene.lane_width, left + (lane + 1) * scene.lane_width)
            begin, end = (min(max(round(_texel(scene, 0.0, d)[0]), 0), cols) for d in here)
            slab = np.floor((s + skew * sum(here) / 2 + phase) / length).astype(int)
            factor = factors[slab - slab[0], lane].astype(np.float32)[:, None]
            tone[:, begin:end] = np.clip(tone[:, begin:end] * factor, 0, 255)
    count = int(scene.pavement.spots * wide * rows / (TEXELS_S * TEXELS_D))
    at = g.integers(0, rows, count), g.integers(road.start, road.stop, count)
    tone[at] = (tone[at] * g.uniform(0.7, 0.95, count)).astype(np.uint8)
    for _ in range(int(g.poisson(2.0))):
        _tyre_marks(scene, g, tone)
    return tone


def _tyre_marks(scene: Scene, g: np.random.Generator, tone: Bytes) -> None:
    """Two parallel dark traces that drift across a lane."""
    s, d = float(g.uniform(0, scene.span[1] - 60)), float(g.uniform(scene.boundaries[0][0], scene.boundaries[-1][0]))
    length, drift, shade = float(g.uniform(8, 40)), float(g.normal(0, 0.6)), float(g.uniform(0.8, 0.94)) * TONE_ONE
    t = np.linspace(0.0, 1.0, 12)
    for track in (0.0, 1.5):
        points = [_texel(scene, s + length * float(u), d + track + drift * float(u) ** 2) for u in t]
        path = np.round(np.array(points) * 16).astype(np.int32)
        cv2.polylines(tone, [path], False, shade, 1, cv2.LINE_AA, 4)


def _texel(scene: Scene, s: float, d: float) -> tuple[float, float]:
    """(column, row) of road coordinates."""
    return (d + HALF_WIDTH) * TEXELS_D, (s - scene.span[0]) * TEXELS_S


def _shadows(scene: Scene, rows: int, cols: int) -> Bytes:
    weather = scene.weather
    reach = min(1.0 / np.tan(weather.elevation), 6.0)
    away_s, away_d = -np.cos(weather.azimuth) * reach, -np.sin(weather.azimuth) * reach
    light = np.full((rows, cols), 255, np.uint8)
    for house in scene.buildings:
        corners = []
        for ds in (0.0, house.length):
            for dd in (0.0, house.depth):
                for height in (0.0, house.height):
                    corners.append(_texel(scene, house.s + ds + away_s * height, house.d + dd + away_d * height))
        hull = cv2.convexHull(np.round(np.array(corners) * 16).astype(np.int32))
        cv2.fillConvexPoly(light, hull, 0, cv2.LINE_AA, 4)
    for pole in scene.poles:
        foot, head = (
            _texel(scene, pole.s, pole.d),
            _texel(scene, pole.s + away_s * pole.height, pole.d + away_d * pole.height),
        )
        ends = [(round(x * 16), round(y * 16)) for x, y in (foot, head)]
        cv2.line(light, ends[0], ends[1], 60, 2, cv2.LINE_AA, 4)
    light = np.asarray(cv2.GaussianBlur(light, (5, 5), 0), np.uint8)
    atlas = plants()
    side = PLANT_TEXELS >> 2
    # A plant's picture, laid along its shadow: up in the picture runs away from the sun, its width across.
    across_s, across_d = np.sin(weather.azimuth), -np.cos(weather.azimuth)
    for plant in scene.plants:
        mask = atlas[plant.kind, 2, :side, :side, 0]
        step = plant.height / side
        base = np.array(_texel(scene, plant.s, plant.d))
        up = np.array([away_d * TEXELS_D, away_s * TEXELS_S]) * step
        wide = np.array([across_d * TEXELS_D, across_s * TEXELS_S]) * step
        if abs(up[0] * wide[1] - up[1] * wide[0]) < 1e-3:
            continue
        # Crowns are round: seen from a high sun they are wider than their shadow's stretch tells.
        matrix = np.array([[wide[0], -up[0], 0.0], [wide[1], -up[1], 0.0]])
        matrix[:, 2] = base - matrix[:, :2] @ np.array([side / 2, side - 1.0])
        box = np.array([[0, 0], [side, 0], [0, side], [side, side]]) @ matrix[:, :2].T + matrix[:, 2]
        low = np.maximum(np.floor(box.min(axis=0)).astype(int), 0)
        high = np.minimum(np.ceil(box.max(axis=0)).astype(int), [cols, rows])
        if np.any(high <= low):
            continue
        matrix[:, 2] -= low
        size = (int(high[0] - low[0]), int(high[1] - low[1]))
        cast = cv2.warpAffine(mask, matrix, size, flags=cv2.INTER_LINEAR)
        part = light[low[1] : high[1], low[0] : high[0]]
        holes = noise_tile()[: size[1] % 512 or 1, : size[0] % 512 or 1] if size[0] < 512 and size[1] < 512 else None
        if holes is not None:
            # Gaps between the leaves let spots of sun through.
            cast = np.where(holes > 178, cast // 5, cast)
        np.minimum(part, 255 - np.minimum(cast, 242), out=part)
    return np.asarray(cv2.GaussianBlur(light, (3, 3), 0))


def _lamp_light(scene: Scene, rows: int, cols: int) -> Bytes:
    coarse = 8
    s = (np.arange(0, rows, coarse) + coarse / 2) / TEXELS_S + scene.span[0]
    d = (np.arange(0, cols, coarse) + coarse / 2) / TEXELS_D - HALF_WIDTH
    total = np.full((len(s), len(d)), 0.04, np.float32)
    for pole in scene.poles:
        if pole.sign == 0:
            h = pole.height
            near = np.abs(s - pole.s) < 45
            squared = np.square(s[near, None] - pole.s) * 0.55 + np.square(d[None, :] - pole.d - pole.arm)
            total[near] += 0.95 * h**3 / np.power(h * h + squared, 1.5)
    smooth = cv2.resize(np.minimum(total, 1.0), (cols, rows), interpolation=cv2.INTER_LINEAR)
    return np.asarray((smooth * 255).astype(np.uint8))


def _draw_patches(scene: Scene, tone: Bytes) -> None:
    for s, d, length, width, factor in scene.patches:
        value = float(min(factor * TONE_ONE, 255))
        x, y = _texel(scene, s, d)
        if length == width:
            cv2.ellipse(
                tone,
                (round(x * 16), round(y * 16)),
                (round(8 * width * TEXELS_D), round(8 * length * TEXELS_S)),
                0,
                0,
                360,
                value,
                -1,
                cv2.LINE_AA,
                4,
            )
        else:
            far = _texel(scene, s + length, d + width)
            corners = np.array([(x, y), (far[0], y), far, (x, far[1])])
            cv2.fillConvexPoly(tone, np.round(corners * 16).astype(np.int32), value, cv2.LINE_AA, 4)
            cv2.polylines(tone, [np.round(corners * 16).astype(np.int32)], True, value * 0.6, 1, cv2.LINE_AA, 4)


def shade_under(scene: Scene, surface: Bytes, s: float, d: float, length: float, width: float, height: float) -> None:
    """Darken the ground under and around a vehicle, and cast its shadow; changes `surface` in place."""
    margin = 0.9
    x0, y0 = _texel(scene, s - length / 2 - margin, d - width / 2 - margin)
    x1, y1 = _texel(scene, s + length / 2 + margin, d + width / 2 + margin)
    rows, cols = surface.shape[:2]
    left, right = max(int(x0), 0), min(int(x1) + 1, cols)
    top, bottom = max(int(y0), 0), min(int(y1) + 1, rows)
    if left < right and top < bottom:
        along = (np.arange(top, bottom) + 0.5) / TEXELS_S + scene.span[0] - s
        across = (np.arange(left, right) + 0.5) / TEXELS_D - HALF_WIDTH - d
        out_s = np.maximum(np.abs(along) - length / 2 + 0.2, 0.0)[:, None]
        out_d = np.maximum(np.abs(across) - width / 2 + 0.2, 0.0)[None, :]
        dark = 1.0 - 0.93 * np.exp(-np.square(np.hypot(out_s, out_d) / 0.34))
        part = surface[top:bottom, left:right]
        part[..., 1] = part[..., 1] * dark
        part[..., 0] = part[..., 0] * np.minimum(dark * 1.3, 1.0)
    weather = scene.weather
    if weather.night or max(weather.key) < 0.5:
        return
    reach = min(1.0 / np.tan(weather.elevation), 5.0) * height
    shift_s, shift_d = -np.cos(weather.azimuth) * reach, -np.sin(weather.azimuth) * reach
    corners = []
    for ds in (-0.5, 0.5):
        for dd in (-0.5, 0.5):
            corners.append(_texel(scene, s + ds * length, d + dd * width))
            corners.append(_texel(scene, s + ds * length * 0.75 + shift_s, d + dd * width * 0.85 + shift_d))
    hull = cv2.convexHull(np.round(np.array(corners) * 16).astype(np.int32))
    first, last = max(int(hull[..., 1].min()) // 16 - 1, 0), min(int(hull[..., 1].max()) // 16 + 2, rows)
    if first < last:
        plane = np.ascontiguousarray(surface[first:last, :, 0])
        cv2.fillConvexPoly(plane, hull - np.array([0, first * 16], np.int32), 8, cv2.LINE_AA, 4)
        surface[first:last, :, 0] = plane
