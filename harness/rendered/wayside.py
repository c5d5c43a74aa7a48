"""Draws what stands behind the roadside: brush and groves along the road, hills, houses and tree belts on the horizon.

All but the `horizon` comes from a generator of its own, so that it can grow without moving what else is in a scene, and needn't be
drawn where only labels are wanted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from harness.rendered.foliage import BRUSH, GROVES, PALM
from harness.rendered.roadside import to_color
from harness.rendered.scene import BACKDROP_END, SKYLINE_HALF, Plant, Weather
from harness.sums import added_in_order

Generator = np.random.Generator
Array = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]

SKYLINE_BINS = 2048
NO_SKYLINE: Floats = np.zeros((0, 0), np.float32)

Horizon = tuple[Array, Array, Array, Array]
"""Over the skyline's azimuths: slopes of hills and of houses, and noise, coarse and fine, that makes trees ragged."""


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What stands behind the roadside is drawn around this: a road's style and metres of travel, the lateral places of its edges, where
    its junction begins and ends, and the horizon.
    """

    style: str
    travel: float
    left: float
    right: float
    junction: tuple[float, float] | None
    horizon: Horizon


def overcast(own: Generator, weather: Weather) -> Weather:
    """A grey sky gets banks of clouds, from hardly seen to nearly black; other weather stays."""
    dark, cover = own.uniform(0.2, 0.7), float(own.uniform(0.3, 0.6))
    if weather.night or max(weather.key) > 0.5:
        return weather
    cloud, zenith = np.array(weather.zenith) * dark * [1.06, 1.0, 0.95], np.array(weather.zenith) * (0.4 + 0.6 * dark)
    return replace(weather, cloud=cover, cloud_color=to_color(cloud), zenith=to_color(zenith))


def varied(own: Generator, style: str, plants: tuple[Plant, ...]) -> tuple[Plant, ...]:
    """Along fast roads no one plants rows: trees of all sizes at uneven distances. In town they stay as they are but for their
    heights."""
    fast = style in ("highway", "elevated")
    spread, shift = (0.28, 2.6) if fast else (0.1, 0.0)
    return tuple(
        replace(p, height=p.height * float(np.exp(own.normal(0, spread))), s=p.s + shift * float(own.normal()))
        for p in plants
    )


def backdrop(own: Generator, around: Surroundings) -> tuple[Plant, ...]:
    """Brush beyond the verges and groves behind it on both sides, denser and sparser by turns, up to where the skyline takes
    over."""
    style, travel, junction = around.style, around.travel, around.junction
    near, far = {"city": (34.0, 60.0), "avenue": (22.0, 50.0), "highway": (17.0, 42.0), "elevated": (14.0, 40.0)}[style]
    found = []
    for side, edge in ((-1.0, -around.left), (1.0, around.right)):
        phase, period = own.uniform(0, 6.28), own.uniform(60, 180)
        gaps, dry, tall = own.uniform(-0.9, 0.1), own.random(), float(own.uniform(9, 17))
        palms = own.random() < 0.25
        setback = edge + (8.0 if side < 0 else 0.0)
        rows: list[tuple[tuple[int, ...], float, float, float]] = [
            (GROVES, near, 9.0, tall),
            (GROVES, far, 12.0, 1.3 * tall),
        ]
        if style != "city":
            rows.append(((BRUSH,), 8.0 if style == "elevated" else 5.5, 5.0, float(own.uniform(4.0, 8.5))))
        for kinds, d, spacing, height in rows:
            s = float(own.uniform(-5, 5))
            while s < travel + BACKDROP_END:
                crossing = junction is not None and junction[0] - 10 < s < junction[1] + 10
                # The farther off, the more a gap is hidden by what stands behind it: sparser there.
                s += spacing * float(own.uniform(0.6, 1.5)) * (1.0 + max(s - travel, 0.0) / 160.0)
                dense = np.sin(phase + 6.28 * s / period) + own.normal(0, 0.4) > gaps
                green = np.array([0.028, 0.060, 0.048]) * own.uniform(0.65, 1.3)
                if kinds == (BRUSH,):
                    green = green + np.array([0.02, 0.045, 0.07]) * dry * own.uniform(0.3, 1.0)
                place, size = setback + d + abs(float(own.normal(0, 0.12 * d))), height * float(own.uniform(0.6, 1.3))
                kind, mirrored = int(own.choice(kinds)), bool(own.random() < 0.5)
                if kind != BRUSH and palms and own.random() < 0.3:
                    kind, size = PALM, 1.15 * size
                if dense and not crossing:
                    found.append(Plant(s, side * place, size, kind, mirrored, to_color(green)))
    return tuple(found)


def _fractal(g: Generator, at: Array, first: float, octaves: int, fall: float) -> Array:
    """Noise over `at` of unit standard deviation, its slowest wave `first` radians a unit."""
    total = np.zeros_like(at)
    for octave in range(octaves):
        total += np.sin(first * 2.0**octave * g.uniform(0.8, 1.2) * at + g.uniform(0, 6.28)) / fall**octave
    power = 0.5 * added_in_order([fall ** (-2 * octave) for octave in range(octaves)])
    return np.asarray(total / np.sqrt(power), np.float64)


def _crowns(g: Generator, at: Array, count: int, half: tuple[float, float], height: Array) -> Array:
    """The outline of `count` trees of half widths in a range, each as high as `height` says there, more or less."""
    outline = np.zeros_like(at)
    middles, wides, shares = g.uniform(at[0], at[-1], count), g.uniform(*half, count), g.uniform(0.45, 1.1, count)
    ends = np.searchsorted(at, np.stack([middles - wides, middles + wides], axis=1))
    for middle, wide, share, (first, last) in zip(middles, wides, shares, ends, strict=True):
        u = (at[first:last] - middle) / wide
        crown = height[first:last] * share * np.sqrt(np.maximum(1 - np.abs(u) ** 2.5, 0))
        outline[first:last] = np.maximum(outline[first:last], crown)
    return outline


def horizon(g: Generator, style: str) -> Horizon:
    """What of the skyline is drawn from the road's own generator."""
    hills = np.zeros(SKYLINE_BINS)
    share = np.linspace(0, 1, SKYLINE_BINS)
    for octave in range(1, 7):
        hills += np.sin(2 * np.pi * (share * 1.7 * 2**octave + g.random())) / 1.9**octave
    hills = 0.012 + 0.022 * g.uniform(0.2, 1.2) * (0.6 + 0.5 * hills)
    blocks = np.zeros(SKYLINE_BINS)
    for _ in range({"city": 70, "avenue": 45, "highway": 12, "elevated": 90}[style]):
        middle, wide = int(g.integers(SKYLINE_BINS)), int(g.integers(5, 26))
        part = slice(max(middle - wide, 0), middle + wide)
        blocks[part] = np.maximum(blocks[part], g.uniform(0.015, 0.075) * g.uniform(0.4, 1.0))
    ragged, finer = g.random(SKYLINE_BINS) - 0.5, g.random(SKYLINE_BINS) - 0.5
    return hills, blocks, np.convolve(ragged, np.ones(5) / 5, mode="same"), finer


def skyline(own: Generator, around: Surroundings, weather: Weather) -> tuple[Floats, Floats]:
    """Slopes (layers, azimuths) of ridges, hills, houses and belts of trees, the farthest first, and the layers' colours in the
    weather's air (layers, 4): BGR and how strongly they are mottled."""
    style, (hills, blocks, ragged, finer) = around.style, around.horizon
    at = np.linspace(-SKYLINE_HALF, SKYLINE_HALF, SKYLINE_BINS)
    mountainous = own.random() < {"city": 0.3, "avenue": 0.4, "highway": 0.75, "elevated": 0.5}[style]
    high = own.uniform(0.035, 0.085) if mountainous else own.uniform(0.004, 0.02)
    ridge = high * (0.75 + 0.3 * _fractal(own, at, 2.2, 8, 1.95))
    hills = hills + (own.uniform(0.0, 0.03) if mountainous else 0.0) * (0.8 + 0.5 * _fractal(own, at, 3.5, 7, 1.9))
    # The road runs through the belts: they stand lower ahead than beside.
    beside = np.clip((np.abs(at - own.normal(0, 0.03)) - 0.02) * own.uniform(3.0, 7.0), 0.25, 1.0)
    mass = np.clip(0.75 + 0.45 * _fractal(own, at, 6.0, 5, 1.5), 0.1, 1.4)
    belt = _crowns(own, at, 420, (0.003, 0.016), 0.022 * np.clip(0.8 + 0.4 * _fractal(own, at, 9.0, 4, 1.4), 0.2, 1.5))
    close = _crowns(own, at, 260, (0.006, 0.03), own.uniform(0.025, 0.06) * beside * mass)
    belt = np.maximum(belt, 0.006) + 0.004 * ragged + 0.002 * finer
    close = np.maximum(close, 0.003) * (1 + 0.5 * ragged + 0.25 * finer)

    air = np.array(weather.horizon)
    light = np.array(weather.ambient) + (0.0 if weather.night else 0.9) * np.array(weather.key)
    brush = np.array([0.045, 0.062, 0.068]) + own.uniform(0, 1) * np.array([0.01, 0.035, 0.06])
    leaves, walls = np.array([0.024, 0.042, 0.036]), np.array([0.17, 0.18, 0.19])
    layers = ((ridge, brush, 1400.0, 0.5), (hills, brush, 800.0, 0.7), (blocks, walls, 700.0, 0.12),
              (belt, leaves, 450.0, 0.7), (close, leaves, 320.0, 0.9))  # fmt: skip
    colors = []
    for _, albedo, distance, mottled in layers:
        # Even the clearest air turns hills blue.
        seen = np.exp(-max(weather.haze, 0.00025) * distance)
        color = albedo * light * seen + air * (1 - seen)
        contrast = mottled * float((albedo * light * seen).mean() / color.mean())
        colors.append([*color, contrast])
    return np.array([layer[0] for layer in layers], np.float32), np.array(colors, np.float32)
