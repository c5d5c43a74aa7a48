"""Draws a road's pavement from its clip's seed: joints, reflective markers, traces of older paint, the tones of its lanes.

All of it comes from a stream of its own, so that nothing else of a scene depends on it, and none of it is labelled.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from harness.rendered.roadside import to_color
from harness.rendered.scene import Color, Line, Pavement
from harness.rendered.streams import Stream, open_stream

Generator = np.random.Generator
Section = tuple[tuple[float, Color, float, float], ...]

JOINT: Color = (0.035, 0.035, 0.036)
MARKER_WHITE: Color = (0.62, 0.68, 0.70)
MARKER_YELLOW: Color = (0.12, 0.44, 0.62)
MARKER_SIDE: Color = (0.04, 0.04, 0.04)
MARKER_WIDTH = 0.1
MARKER_SEEN = 0.13
"""A marker is 0.1 m long and 2 cm high: a driver sees it covering more of the road."""
MARKER_PERIOD = 14.6
"""Of markers along solid lines, metres (48 ft)."""


def street_pavement(
    seed: int, difficulty: float, lines: tuple[Line, ...], boundaries: tuple[tuple[float, int], ...], section: Section
) -> Pavement:
    """The asphalt of a street or an expressway in a city, with the cross-section `section`."""
    g = open_stream(seed, Stream.PAVEMENT)
    lanes = len(boundaries) - 1
    return Pavement(
        concrete=False,
        tones=_factors(g, lanes, 0.025),
        oil=_factors(g, lanes, 0.3),
        wheels=1.0,
        joint=0.0,
        lines=_old_paint(g, difficulty, lines, section),
        slabs=(0.0, 0.0, 0.0, 0.0, 0.0),
        spots=float(g.uniform(0.05, 0.4)),
        wear=_raggedness(g, difficulty),
        begin=_begin(g),
    )


def highway_pavement(
    seed: int,
    difficulty: float,
    lines: tuple[Line, ...],
    boundaries: tuple[tuple[float, int], ...],
    section: Section,
    *,
    concrete: bool,
) -> Pavement:
    """The asphalt or concrete of a Californian highway with the cross-section `section`. The first of `lines` are those of
    `boundaries`."""
    g = open_stream(seed, Stream.PAVEMENT)
    lanes = len(boundaries) - 1
    joint = float(g.choice([-1, 1]) * g.uniform(0.13, 0.3))
    slabs = (0.0, 0.0, 0.0, 0.0, 0.0)
    joints: tuple[Line, ...] = ()
    if concrete:
        skew = float(g.choice([0.0, 1 / 6]))
        slabs = (float(g.uniform(4.2, 5.0)), skew, float(g.uniform(0, 4)), float(g.uniform(0.008, 0.016)), 0.045)
    if concrete or g.random() < 0.5:
        width, worn = (g.uniform(0.012, 0.028), 0.25) if concrete else (g.uniform(0.008, 0.018), 0.4)
        joints = tuple(Line(d + joint, float(width * g.uniform(0.7, 1.3)), JOINT, worn) for d, _ in boundaries[1:-1])
    return Pavement(
        concrete=concrete,
        tones=_factors(g, lanes, 0.05 if concrete else 0.03),
        oil=tuple((1.7 if concrete else 1.0) * factor for factor in _factors(g, lanes, 0.4)),
        wheels=0.3 if concrete else 1.0,
        joint=joint,
        lines=(*joints, *_old_paint(g, difficulty, lines, section), *_markers(g, lines[: len(boundaries)])),
        slabs=slabs,
        spots=float(g.uniform(0.05, 0.4)),
        wear=_raggedness(g, difficulty),
        begin=_begin(g),
    )


def _factors(g: Generator, count: int, spread: float) -> tuple[float, ...]:
    return tuple(float(value) for value in np.clip(g.normal(1.0, spread, count), 1 - 2 * spread, 1 + 2 * spread))


def _raggedness(g: Generator, difficulty: float) -> float:
    return float(g.uniform(0.015, 0.035) * (0.2 + 1.6 * difficulty))


def _begin(g: Generator) -> tuple[float, float]:
    # Whole tiles ahead of 0, so that no place on the road comes before a tile's start.
    return 8192.0 + float(g.integers(512)), 8192.0 + float(g.integers(512))


def _old_paint(g: Generator, difficulty: float, lines: tuple[Line, ...], section: Section) -> tuple[Line, ...]:
    """Faint scars where lines were ground off or covered with tar, beside some of today's."""
    road = np.array([color for d, color, _, _ in section if d <= 0][-1])
    found = []
    for line in lines:
        if g.random() < 0.06 + 0.2 * difficulty:
            d = line.d + float(g.choice([-1, 1]) * g.uniform(0.25, 1.6))
            color = to_color(road * (g.uniform(0.6, 0.8) if g.random() < 0.6 else g.uniform(1.15, 1.35)))
            begin = float(g.uniform(-20, 40))
            end = min(line.end, begin + float(g.uniform(10, 60)))
            worn = float(g.uniform(0.35, 0.6))
            found.append(replace(line, d=d, color=color, worn=worn, begin=max(line.begin, begin), end=end))
    return tuple(found)


def _markers(g: Generator, lines: tuple[Line, ...]) -> tuple[Line, ...]:
    """Reflective markers midway between dashes, and inside the left edge line; most highways have them."""
    between, beside = g.random() < 0.75, g.random() < 0.5
    dots = g.random() < 0.25
    found = []
    for k, line in enumerate(lines):
        if line.period and between:
            gap = (line.length + line.period) / 2
            found += _marker(line.d, line.period, line.phase - gap, MARKER_WHITE)
            if dots:
                # Round ceramic ones stand a metre before and behind it.
                for away in (-1.2, 1.2):
                    found += _marker(line.d, line.period, line.phase - gap + away, MARKER_WHITE)
        elif k == 0 and beside:
            phase = float(g.uniform(0, MARKER_PERIOD))
            found += _marker(line.d + line.width / 2 + 0.12, MARKER_PERIOD, phase, MARKER_YELLOW)
    return tuple(found)


def _marker(d: float, period: float, phase: float, color: Color) -> list[Line]:
    """Its bright top, and the dark side and shade before it."""
    return [
        Line(d, MARKER_WIDTH, color, worn=0.0, period=period, length=MARKER_SEEN, phase=phase),
        Line(d, 1.15 * MARKER_WIDTH, MARKER_SIDE, worn=0.0, period=period, length=0.05, phase=phase + 0.05),
    ]
