"""Draws how a recording's camera develops its frames: tone, colour, sharpening, and what the windscreen mirrors.

Its numbers come from a stream of their own, so that they can change without moving anything else of a scene.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.rendered.scene import Look
from harness.rendered.streams import Stream, open_stream


@dataclass(frozen=True)
class Kit:
    """The cameras of a dataset. Pairs are ranges: of `Look`'s numbers, and of `tint`, the most that the gains of blue and red are off
    white. `reflecting` is the share of clips whose windscreen mirrors the dashboard."""

    level: tuple[float, float]
    contrast: tuple[float, float]
    saturation: tuple[float, float]
    tint: float
    softness: tuple[float, float]
    sharpening: tuple[float, float]
    reflecting: float
    reflection: tuple[float, float]


DASHBOARD = Kit((0.08, 0.14), (0.85, 1.15), (0.9, 1.25), 0.04, (1.2, 2.4), (0.0, 0.6), 0.45, (0.015, 0.05))
"""Consumer cameras behind a windscreen, each with its own tone, as CULane's. Level and contrast are those that give the quantiles of
four of CurveLanes' day frames (docs/rendered.md)."""
MACHINE_VISION = Kit((0.068, 0.086), (1.4, 1.65), (0.5, 0.75), 0.02, (1.4, 1.9), (0.4, 0.8), 0.15, (0.005, 0.02))
"""An industrial camera with hardly any toe: deep shadows and pale colours, as TuSimple's."""


def sample_look(kit: Kit, seed: int) -> Look:
    """The look of a clip's frames. Equal arguments give equal looks."""
    g = open_stream(seed, Stream.LOOK)
    mirrors = g.random() < kit.reflecting
    return Look(
        level=float(g.uniform(*kit.level)),
        contrast=float(g.uniform(*kit.contrast)),
        saturation=float(g.uniform(*kit.saturation)),
        tint=(1.0 + float(g.uniform(-kit.tint, kit.tint)), 1.0, 1.0 + float(g.uniform(-kit.tint, kit.tint))),
        softness=float(g.uniform(*kit.softness)),
        sharpening=float(g.uniform(*kit.sharpening)),
        reflection=float(g.uniform(*kit.reflection)) if mirrors else 0.0,
        mirrored=(float(g.uniform(0.1, 0.9)), float(g.uniform(0.25, 0.6)), float(g.uniform(0.7, 0.85))),
    )
