"""Draws what stands beside the road: barriers, houses, plants and poles."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from harness.rendered.scene import Barrier, Building, Color, Plant, Pole

Generator = np.random.Generator


def to_color(values: npt.NDArray[np.float64]) -> Color:
    """An array of three as a colour."""
    return float(values[0]), float(values[1]), float(values[2])


def barriers(
    g: Generator, style: str, left: float, right: float, junction: tuple[float, float] | None
) -> tuple[Barrier, ...]:
    """What runs along both edges of the road, from the road's `left` edge to its `right` one, with a gap at a
    junction."""
    found = []
    spans = [(-20.0, 900.0)] if junction is None else [(-20.0, junction[0] - 4.0), (junction[1] + 6.0, 900.0)]
    left_kind = int(
        {
            "city": g.choice([2, 2, 3, -1]),
            "avenue": g.choice([2, 3, -1]),
            "highway": g.choice([0, 1, 3]),
            "elevated": 1,
        }[style]
    )
    right_kind = int(
        {
            "city": g.choice([-1, -1, 2]),
            "avenue": g.choice([-1, -1, 2]),
            "highway": g.choice([0, 0, -1]),
            "elevated": 1,
        }[style]
    )
    for begin, end in spans:
        if left_kind >= 0:
            found.append(Barrier(left, left_kind, float([0.78, 0.95, 1.05, 0.9][left_kind]), begin, end, 0))
        if right_kind >= 0:
            found.append(Barrier(right, right_kind, float([0.78, 0.95, 1.05, 0.9][right_kind]), begin, end, 1))
    return tuple(found)


def buildings(
    g: Generator, style: str, travel: float, left: float, right: float, junction: tuple[float, float] | None
) -> tuple[Building, ...]:
    """Houses on both sides, up to what can be seen from the clip's end."""
    if style == "highway" and g.random() < 0.7:
        return ()
    found = []
    near, far = {"city": (5.0, 14.0), "avenue": (16.0, 40.0), "highway": (40.0, 120.0), "elevated": (18.0, 90.0)}[style]
    gap = {"city": 0.35, "avenue": 0.5, "highway": 0.85, "elevated": 0.5}[style]
    for side in (-1.0, 1.0):
        s = -15.0
        setback = g.uniform(near, 0.5 * (near + far)) + (7.5 if side < 0 else 0.0)
        while s < travel + 330:
            length = float(g.uniform(14, 42))
            crossing = junction is not None and s < junction[1] + 6 and s + length > junction[0] - 6
            if crossing and junction is not None:
                s = junction[1] + 8.0
                continue
            if g.random() > gap:
                height = float(g.choice([g.uniform(6, 14), g.uniform(14, 30), g.uniform(40, 95)], p=[0.35, 0.4, 0.25]))
                base = np.array(
                    [
                        (0.30, 0.34, 0.38),
                        (0.20, 0.27, 0.36),
                        (0.14, 0.17, 0.30),
                        (0.42, 0.42, 0.42),
                        (0.22, 0.24, 0.25),
                        (0.26, 0.34, 0.44),
                    ]
                )
                tint = base[int(g.integers(len(base)))] * g.uniform(0.65, 1.2) + g.uniform(-0.015, 0.015, 3)
                edge = (left if side < 0 else right) + side * (
                    setback + g.uniform(0, 0.4 * (far - near)) * (height > 30)
                )
                found.append(
                    Building(
                        s=s,
                        length=length,
                        d=float(edge),
                        depth=float(side * g.uniform(10, 22)),
                        height=height,
                        storey=float(g.uniform(2.9, 3.8)),
                        bay=float(g.uniform(2.2, 4.6)),
                        facade=int(g.integers(1, 12)),
                        color=to_color(tint),
                    )
                )
            s += length + float(g.choice([0.0, g.uniform(2, 12)]))
    return tuple(found)


def plants(
    g: Generator,
    scenario: str,
    style: str,
    travel: float,
    left: float,
    right: float,
    junction: tuple[float, float] | None,
) -> tuple[Plant, ...]:
    """Rows of trees, bushes and what stands behind them; a family of two kinds a side of the road."""
    found = []
    season = g.random()
    family = g.choice([0, 1, 2, 3, 4, 5], size=2)
    slender, bare = g.random() < 0.2, g.random() < 0.12 and scenario != "shadow"
    for side in (-1.0, 1.0):
        present = {"city": 0.75, "avenue": 0.97, "highway": 0.7, "elevated": 0.15}[style]
        if g.random() > present and scenario != "shadow":
            continue
        spacing = float(
            g.uniform(5, 8)
            if scenario == "shadow"
            else g.uniform(6, 11)
            if style in ("city", "avenue")
            else g.uniform(8, 26)
        )
        edge = right if side > 0 else -left
        offset = edge + float(
            g.uniform(1.2, 2.6) if style in ("city", "avenue") else g.uniform(4.0, 9.0) if style == "highway" else 7.0
        )
        tall = float(g.uniform(6.5, 12.0)) * (1.2 if scenario == "shadow" else 1.0)
        s = float(g.uniform(-6, 4))
        while s < travel + 300:
            if not (junction is not None and junction[0] - 3 < s < junction[1] + 4):
                kind = int(8 if bare else g.choice([6, 7]) if slender else g.choice(family))
                green = np.array([0.033, 0.085, 0.06]) * g.uniform(0.75, 1.25) + np.array(
                    [0.0, 0.02, 0.06]
                ) * season * g.uniform(0.5, 1.2)
                size = tall * float(g.uniform(0.8, 1.2))
                found.append(
                    Plant(
                        s,
                        side * (offset + float(g.normal(0, 0.25))),
                        size,
                        kind,
                        bool(g.random() < 0.5),
                        to_color(green),
                    )
                )
            if style in ("highway", "avenue") and g.random() < 0.5:
                green = np.array([0.03, 0.075, 0.058]) * g.uniform(0.7, 1.2)
                found.append(
                    Plant(
                        s + 2.0,
                        side * (offset + float(g.uniform(1.5, 12))),
                        float(g.uniform(1.0, 2.6)),
                        9,
                        False,
                        to_color(green),
                    )
                )
            if style in ("highway", "avenue", "elevated") and g.random() < 0.55:
                green = np.array([0.03, 0.07, 0.055]) * g.uniform(0.7, 1.2)
                back = side * (offset + float(g.uniform(8, 30)))
                found.append(
                    Plant(
                        s + 3.0,
                        back,
                        float(g.uniform(7, 13)),
                        int(g.integers(0, 6)),
                        bool(g.random() < 0.5),
                        to_color(green),
                    )
                )
            s += spacing * float(g.uniform(0.8, 1.25))
    return tuple(found)


def poles(
    g: Generator, style: str, travel: float, left: float, right: float, junction: tuple[float, float] | None
) -> tuple[Pole, ...]:
    """Street lamps at a regular distance, signs here and there, a gantry on some fast roads."""
    found = []
    spacing, phase = float(g.uniform(26, 40)), float(g.uniform(0, 26))
    both = g.random() < 0.5
    for n in range(int((travel + 330) / spacing)):
        s = phase + n * spacing
        if junction is not None and junction[0] - 3 < s < junction[1] + 3:
            continue
        found.append(Pole(s, right + 0.8, float(g.uniform(8.5, 9.5)), -2.2, 0))
        if both:
            found.append(Pole(s, left - 0.4, 9.0, 2.2, 0))
    for _ in range(int(g.poisson(1.2 + travel / 120))):
        found.append(
            Pole(
                float(g.uniform(10, travel + 150)), right + 0.9, float(g.uniform(2.6, 6.0)), -0.1, int(g.integers(1, 4))
            )
        )
    if style in ("highway", "elevated") and g.random() < 0.3:
        found.append(Pole(float(g.uniform(40, travel + 160)), right + 1.2, 6.8, -8.0, 4))
    return tuple(found)
