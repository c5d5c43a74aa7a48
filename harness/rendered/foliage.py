"""Pictures of plants seen from the side: crowns of lit clumps with leafy outlines, trunks, palms, and masses of trees.

Kinds 0-5 are broad trees, 6 and 7 slender ones, 8 a bare one, 9 a hedge bush, 10 a palm; 11 and 12 are groves, 13 is brush: masses as
wide as high that stand behind what lines the road. The foot stands at the bottom's middle.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from harness.rendered.kernels import Bytes

PLANT_TEXELS = 512
BARE, BUSH, PALM, GROVES, BRUSH = 8, 9, 10, (11, 12), 13
PLANT_KINDS = 14

Array = npt.NDArray[np.float32]
Generator = np.random.Generator


class Clump(NamedTuple):
    """A bough's leaves: centre, half axes and how far in front it is, [0, 1]; all but that in shares of the picture's side, y
    downwards."""

    x: float
    y: float
    half_width: float
    half_height: float
    front: float


def plant_picture(kind: int) -> Bytes:
    """A plant as (row, column, [cover, light from above, light from the left, bark]); equal from call to call."""
    g = np.random.default_rng(100 + kind)
    picture = np.zeros((PLANT_TEXELS, PLANT_TEXELS, 4), np.uint8)
    if kind == BARE:
        _branch(picture, g, (0.5, 1.0), np.pi / 2 + g.normal(0, 0.03), 0.26, 0.02, 6)
    elif kind == BUSH:
        _leaves(picture, g, _ellipse(g, 50, (0.5, 0.8), (0.33, 0.17), (0.06, 0.11)))
    elif kind == PALM:
        _palm(picture, g)
    elif kind in GROVES:
        # From the back to the front: each tree hides part of those behind it.
        for x in g.permutation(np.linspace(0.3, 0.7, 6)):
            _tree(picture, g, int(g.choice([0, 1, 2, 4, 5])), float(x), float(g.uniform(0.5, 0.98)))
        _leaves(picture, g, _ellipse(g, 60, (0.5, 0.9), (0.4, 0.1), (0.04, 0.08)))
    elif kind == BRUSH:
        _leaves(picture, g, _ellipse(g, 90, (0.5, 0.95), (0.42, 0.13), (0.03, 0.075)))
    else:
        _tree(picture, g, kind, 0.5, 1.0)
    # Nothing is drawn beyond the outermost texels.
    picture[:, [0, -1]] = 0
    return picture


def _tree(picture: Bytes, g: Generator, kind: int, x: float, scale: float) -> None:
    """A tree of kinds 0-7 with its foot at x, `scale` as high as the picture."""
    lean = float(g.normal(0, 0.02))
    if kind in (6, 7):
        _branch(picture, g, (x, 1.0), np.pi / 2, 0.6 * scale, 0.014 * scale, 0)
        wide = 0.09 if kind == 6 else 0.13
        clumps = [
            Clump(
                0.5 + g.normal(0, 0.25) * wide * (1.15 - h), 0.93 - 0.87 * h, 0.7 * wide * (1.3 - h), 0.05, g.random()
            )
            for h in g.uniform(0, 1, 110)
        ]
    elif kind == 4:
        # A pine: tiers that grow narrower upwards.
        _branch(picture, g, (x, 1.0), np.pi / 2 + lean, 0.8 * scale, 0.02 * scale, 0)
        clumps = []
        for h in np.sort(g.uniform(0.0, 1.0, 90)):
            reach = 0.27 * (1 - h) ** 0.8 + 0.02
            clumps.append(Clump(0.5 + g.uniform(-1, 1) * reach, 0.84 - 0.8 * h, 0.25 * reach + 0.03, 0.035, g.random()))
    elif kind in (2, 5):
        # A gum tree: bunches of leaves at the tips of long boughs, sky between them.
        tips = _branch(picture, g, (x, 1.0), np.pi / 2 + lean, 0.34 * scale, 0.024 * scale, 3)
        clumps = []
        for tip_x, tip_y in tips:
            at = 0.5 + (tip_x - x) / scale, 1 - (1 - tip_y) / scale
            clumps += _ellipse(g, 4, at, (0.08, 0.06), (0.04, 0.075))
        clumps += _ellipse(g, 34, (0.5 + 2 * lean, 0.45), (0.2, 0.32), (0.035, 0.08))
    else:
        _branch(picture, g, (x, 1.0), np.pi / 2 + lean, 0.42 * scale, 0.024 * scale, 1)
        low = float(g.uniform(0.37, 0.47))
        half = float(g.uniform(0.26, 0.35)), low - 0.12
        # A few great boughs, and the small ones on them.
        clumps = []
        for bough in _ellipse(g, 19, (0.5, low), half, (0.07, 0.13)):
            size = bough.half_width
            clumps += [
                k._replace(front=0.6 * bough.front + 0.4 * k.front)
                for k in _ellipse(g, 9, (bough.x, bough.y), (size, 0.8 * size), (0.35 * size, 0.7 * size))
            ]
    _leaves(
        picture,
        g,
        [
            Clump(x + (c.x - 0.5) * scale, 1 - (1 - c.y) * scale, c.half_width * scale, c.half_height * scale, c.front)
            for c in clumps
        ],
    )


def _ellipse(
    g: Generator, count: int, middle: tuple[float, float], half: tuple[float, float], extent: tuple[float, float]
) -> list[Clump]:
    """Clumps of half widths in the range `extent`, spread over an ellipse."""
    clumps = []
    for _ in range(count):
        radius, angle, size = np.sqrt(g.random()), g.uniform(0, 2 * np.pi), float(g.uniform(*extent))
        x, y = middle[0] + half[0] * radius * np.cos(angle), middle[1] + half[1] * radius * np.sin(angle)
        clumps.append(Clump(float(x), float(y), size, 0.75 * size, float(g.random())))
    return clumps


def _grain(g: Generator, sigma: float) -> Array:
    """Smooth noise over the picture: mean 0, standard deviation 1."""
    shrink = 1 if sigma < 2 else 2 if sigma < 4 else 4
    side = PLANT_TEXELS // shrink
    noise = cv2.GaussianBlur(g.standard_normal((side, side), dtype=np.float32), (0, 0), sigma / shrink)
    if shrink > 1:
        noise = cv2.resize(noise, (PLANT_TEXELS, PLANT_TEXELS), interpolation=cv2.INTER_LINEAR)
    return np.asarray(noise / noise.std(), np.float32)


def _leaves(picture: Bytes, g: Generator, clumps: list[Clump]) -> None:
    """Draw a crown over `picture`: of its clumps the foremost is seen, lit on top and on the left; what lies between and behind
    them is nearly black."""
    low, high = min(c.y - c.half_height for c in clumps), max(c.y + c.half_height for c in clumps)
    left, right = min(c.x - c.half_width for c in clumps), max(c.x + c.half_width for c in clumps)
    ragged = 0.16 * _grain(g, 9.0) + 0.1 * _grain(g, 4.0)
    size = PLANT_TEXELS
    x, y = np.meshgrid(*(2 * [(np.arange(size, dtype=np.float32) + 0.5) / size]))
    front = np.full((size, size), -1.0, np.float32)
    within = np.full((size, size), -4.0, np.float32)
    above, beside = np.zeros((2, size, size), np.float32)
    for c in clumps:
        reach = 1.6 * c.half_width, 1.6 * c.half_height
        rows = slice(max(int((c.y - reach[1]) * size), 0), max(int((c.y + reach[1]) * size) + 1, 0))
        cols = slice(max(int((c.x - reach[0]) * size), 0), max(int((c.x + reach[0]) * size) + 1, 0))
        part = rows, cols
        if not x[part].size:
            continue
        dx, dy = (x[part] - np.float32(c.x)) / c.half_width, (y[part] - np.float32(c.y)) / c.half_height
        inside = 1 - np.hypot(dx, dy) + np.roll(ragged[part], int(97 * c.front))
        height = np.where(inside > 0, 0.6 * c.front + 0.4 * np.sqrt(np.maximum(inside, 0)), -1)
        foremost = height > front[part]
        front[part] = np.where(foremost, height, front[part])
        above[part] = np.where(foremost, 0.5 - 0.5 * dy, above[part])
        beside[part] = np.where(foremost, 0.5 - 0.5 * dx, beside[part])
        within[part] = np.maximum(within[part], inside)
    # No crown is cut straight by the picture's side.
    within = np.minimum(within, 12.0 * np.minimum(np.minimum(x, 1 - x), y) - 0.35)
    leaf, bright = _grain(g, 0.9), np.exp(0.45 * _grain(g, 0.8) + 0.3 * _grain(g, 3.0))
    cover = np.clip((within * 2.6 + 0.35 * leaf - 0.05) * 2.5 + 0.5, 0, 1)
    upper = np.clip((high - y) / (high - low), 0, 1)
    lefter = np.clip((right - x) / (right - left), 0, 1)
    above, beside = np.clip(above, 0, 1), np.clip(beside, 0, 1)
    open_ = np.clip(1.25 * np.maximum(front, 0), 0, 1) ** 1.2
    light = (0.06 + 0.94 * open_) * (0.1 + 0.55 * above**1.5 + 0.35 * upper) * bright
    sunny = open_ * np.clip(0.75 * above + 0.55 * beside - 0.35, 0, 1) * (0.25 + 0.4 * upper + 0.45 * lefter) * bright
    # Boughs within the crown are in its shade.
    picture[..., 1:3] = picture[..., 1:3] * (1 - 0.7 * np.clip(within + 1, 0, 1))[..., None]
    tones = np.stack([np.minimum(190 * light, 255), np.minimum(275 * sunny, 255)], axis=-1)
    share = cover[..., None]
    picture[..., 1:3] = picture[..., 1:3] * (1 - share) + tones * share
    picture[..., 3] = picture[..., 3] * (1 - cover)
    picture[..., 0] = np.maximum(picture[..., 0], 255 * cover)


def _branch(
    picture: Bytes, g: Generator, at: tuple[float, float], angle: float, length: float, thickness: float, depth: int
) -> list[tuple[float, float]]:
    """Draw a bough and what grows from it; the tips. Lengths and thickness in shares of the picture's side."""
    end = at[0] + length * np.cos(angle), at[1] - length * np.sin(angle)
    tone = int(g.integers(45, 100))
    ends = [(round(x * PLANT_TEXELS * 8), round(y * PLANT_TEXELS * 8)) for x, y in (at, end)]
    width = max(round(thickness * PLANT_TEXELS), 1)
    cv2.line(picture, ends[0], ends[1], (255, tone, tone, 255), width, cv2.LINE_AA, 3)
    if depth == 0:
        return [end]
    tips = []
    for _ in range(3):
        turn, share = g.normal(0, 0.42), g.uniform(0.55, 0.85)
        tips += _branch(picture, g, end, angle + turn, length * share, thickness * 0.6, depth - 1)
    return tips


def _palm(picture: Bytes, g: Generator) -> None:
    """A bare trunk with a tuft of drooping fronds."""
    head = 0.5 + float(g.normal(0, 0.02)), 0.14
    size = PLANT_TEXELS * 8
    trunk = [(round(0.5 * size), size - 1), (round(head[0] * size), round(head[1] * size))]
    cv2.line(picture, trunk[0], trunk[1], (255, 60, 60, 255), 6, cv2.LINE_AA, 3)
    for angle in np.sort(g.uniform(-0.9, np.pi + 0.9, 46)):
        length, t = g.uniform(0.1, 0.16), np.linspace(0, 1, 14)
        x, y = head[0] + length * t * np.cos(angle), head[1] - length * (t * np.sin(angle) - 0.55 * t * t)
        tone = int(g.integers(40, 120))
        spine = np.round(np.stack([x, y], axis=1) * size).astype(np.int32)
        cv2.polylines(picture, [spine], False, (255, tone, tone // 2, 0), 2, cv2.LINE_AA, 3)
        for k in range(2, 14):
            leaflet = 0.03 * (1.1 - t[k])
            for side in (-1, 1):
                tip = x[k] + side * leaflet * (0.4 + abs(np.sin(angle))), y[k] + leaflet
                ends = [(round(p * size), round(q * size)) for p, q in ((x[k], y[k]), tip)]
                cv2.line(picture, ends[0], ends[1], (255, tone, round(0.7 * tone), 0), 2, cv2.LINE_AA, 3)
