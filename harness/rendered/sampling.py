"""Draws a clip's scene from its seed: where every number of a `Scene` comes from.

Lane widths, dash lengths and colours follow Chinese practice (GB 5768.3: dashes of 6 m every 15 m on fast roads, 2 or
4 m every 6 or 10 m
in town, lines 10-20 cm wide), since CULane was recorded in Beijing.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from harness.rendered.look import DASHBOARD, sample_look
from harness.rendered.pavement import street_pavement
from harness.rendered.road import CULANE_REACH, RoadShape, Widening
from harness.rendered.roadside import barriers, buildings, plants, poles, to_color
from harness.rendered.scene import Color, Line, Mark, Scene
from harness.rendered.streams import Stream, open_stream
from harness.rendered.traffic import sample_traffic
from harness.rendered.wayside import NO_SKYLINE, Surroundings, backdrop, horizon, overcast, skyline, varied
from harness.rendered.weather import sample_camera, sample_weather

Generator = np.random.Generator

WHITE: Color = (0.60, 0.63, 0.64)
YELLOW: Color = (0.10, 0.42, 0.62)
ASPHALT = (0.085, 0.16)
FRAME_SECONDS = 0.5
"""Time between two frames of a clip."""


def sample_scene(scenario: str, difficulty: float, seed: int, frames: int) -> Scene:
    """The scene of a clip of `frames` frames. Equal arguments give equal scenes."""
    street, around = sample_street(scenario, difficulty, seed, frames)
    own = open_stream(seed, Stream.WAYSIDE)
    weather = overcast(own, street.weather)
    greenery = varied(own, around.style, street.plants)
    outline, outline_color = skyline(own, around, weather)
    return replace(
        street,
        weather=weather,
        plants=greenery,
        skyline=outline,
        skyline_color=outline_color,
        backdrop=backdrop(own, around),
    )


def sample_street(scenario: str, difficulty: float, seed: int, frames: int) -> tuple[Scene, Surroundings]:
    """A clip's scene before anything stands behind its roadside, which is all that labels depend on, and what is to stand around it."""
    generator = open_stream(seed, Stream.STREET)
    style = str(generator.choice(["city", "avenue", "highway", "elevated"], p=_style_shares(scenario)))
    fast = style in ("highway", "elevated")
    speed = float(generator.uniform(10, 17) if fast else generator.uniform(4, 9)) * (
        0.35 if scenario == "crowd" else 1.0
    )
    if scenario == "cross":
        speed *= 0.3
    travel = speed * FRAME_SECONDS * max(frames - 1, 0)
    lanes = int(generator.choice([2, 3, 4], p=[0.2, 0.45, 0.35] if fast else [0.35, 0.43, 0.22]))
    lane_width = float(generator.uniform(3.4, 3.8) if fast else generator.uniform(3.15, 3.6))
    ego_lane = int(generator.integers(0, lanes))
    shape = _shape(generator, scenario, difficulty, travel, lanes, lane_width)
    left = -0.5 * lanes * lane_width
    boundaries = tuple(
        (left + k * lane_width, int(k == lanes and shape.widening.amount != 0)) for k in range(lanes + 1)
    )
    junction = (
        (float(travel * 0.6 + generator.uniform(7, 16)), float(travel * 0.6 + generator.uniform(34, 60)))
        if scenario == "cross"
        else None
    )
    lines = _lines(generator, scenario, difficulty, boundaries, fast, shape.widening, junction)
    weather = sample_weather(generator, scenario, difficulty)
    shoulder = float(generator.uniform(0.4, 2.6) if fast else generator.uniform(0.25, 0.7))
    ground = section(generator, style, left - (0.6 if fast else 0.35), -left + shoulder)
    edge_left, edge_right = left - (0.9 if fast else 0.6), -left + shoulder + 0.4
    extra = max(shape.widening.amount, 0.0)
    rails = barriers(generator, style, edge_left, edge_right, junction)
    houses = buildings(generator, style, travel, edge_left, edge_right + extra, junction)
    greenery = plants(generator, scenario, style, travel, edge_left, edge_right + extra, junction)
    around = Surroundings(style, travel, edge_left, edge_right + extra, junction, horizon(generator, style))
    street = Scene(
        scenario=scenario,
        difficulty=difficulty,
        seed=seed,
        shape=shape,
        boundaries=boundaries,
        labelled=_labelled(scenario, ego_lane, lanes),
        lane_width=lane_width,
        ego_d=left + (ego_lane + 0.5) * lane_width + float(generator.normal(0, 0.12 + 0.18 * difficulty)),
        ego_lane=ego_lane,
        speed=speed,
        frame_seconds=FRAME_SECONDS,
        lines=lines,
        marks=_marks(generator, scenario, difficulty, boundaries, travel, junction),
        section=ground,
        pavement=street_pavement(seed, difficulty, lines, boundaries, ground),
        tracks=float(generator.uniform(0.03, 0.15)),
        cracks=float(generator.uniform(0, 0.3 + 0.5 * difficulty)),
        patches=patches(generator, difficulty, travel, lanes * lane_width),
        vehicles=sample_traffic(
            generator, scenario, difficulty, left, lanes, lane_width, ego_lane, speed, travel, style, junction
        ),
        plants=greenery,
        backdrop=(),
        buildings=houses,
        poles=poles(generator, style, travel, edge_left, edge_right + extra, junction),
        barriers=rails,
        camera=sample_camera(generator, scenario, difficulty),
        look=sample_look(DASHBOARD, seed),
        weather=weather,
        skyline=NO_SKYLINE,
        skyline_color=NO_SKYLINE,
        travel=travel,
        seams=float((1 - difficulty) * 0.5 if scenario == "noline" else generator.uniform(0, 0.15)),
    )
    return street, around


def _labelled(scenario: str, ego_lane: int, lanes: int) -> tuple[tuple[int, float], ...]:
    """As CULane labels them: at most two boundaries on either side of the car, none at a junction."""
    if scenario == "cross":
        return ()
    return tuple((index, CULANE_REACH) for index in range(max(ego_lane - 1, 0), min(ego_lane + 3, lanes + 1)))


def _style_shares(scenario: str) -> list[float]:
    return {
        "shadow": [0.4, 0.6, 0.0, 0.0],
        "noline": [0.45, 0.45, 0.08, 0.02],
        "cross": [0.6, 0.4, 0.0, 0.0],
        "arrow": [0.45, 0.45, 0.05, 0.05],
        "curve": [0.2, 0.3, 0.35, 0.15],
    }.get(scenario, [0.3, 0.3, 0.2, 0.2])


def _shape(g: Generator, scenario: str, difficulty: float, travel: float, lanes: int, lane_width: float) -> RoadShape:
    knots = np.arange(-200.0, travel + 1200.0, 60.0)
    if scenario == "curve":
        radius = g.uniform(110, 240) * (1.25 - 0.75 * difficulty)
        curvatures = g.choice([-1, 1]) / radius * g.uniform(0.85, 1.1, len(knots))
        late = knots > travel + 150
        curvatures[late] *= 0.3
    elif scenario in ("cross", "arrow"):
        curvatures = g.normal(0, 1 / 6000, len(knots))
    else:
        curvatures = g.normal(0, (0.3 + difficulty) / 900, len(knots)) * (g.random() < 0.75)
        curvatures = np.convolve(curvatures, [0.25, 0.5, 0.25], mode="same")
    hills: tuple[tuple[float, float, float], ...] = ()
    if scenario != "cross" and g.random() < 0.25 + 0.5 * difficulty:
        hills = (
            (float(g.uniform(0.1, 0.5 + 1.3 * difficulty)), float(g.uniform(160, 340)), float(g.uniform(0, 6.28))),
            (float(g.uniform(0.0, 0.12 * difficulty)), float(g.uniform(50, 90)), float(g.uniform(0, 6.28))),
        )
    amount, start, length = 0.0, 0.0, 60.0
    if scenario in ("normal", "crowd", "arrow", "night", "shadow") and g.random() < 0.1 + 0.35 * difficulty:
        amount = float(g.choice([1.0, -0.98])) * lane_width
        if amount < 0 and lanes < 3:
            amount = -amount
        start, length = float(g.uniform(5, travel + 40)), float(g.uniform(35, 70))
    return RoadShape(knots, curvatures, hills, Widening((lanes / 2 - 0.5) * lane_width, amount, start, length))


def _lines(
    g: Generator,
    scenario: str,
    difficulty: float,
    boundaries: tuple[tuple[float, int], ...],
    fast: bool,
    widening: Widening,
    junction: tuple[float, float] | None,
) -> tuple[Line, ...]:
    if scenario == "noline":
        return ()
    width = float(g.uniform(0.14, 0.2) if fast else g.uniform(0.11, 0.16))
    period, length = ((15.0, 6.0), (10.0, 4.0), (6.0, 2.0))[
        int(g.choice(3, p=[0.7, 0.3, 0] if fast else [0.15, 0.35, 0.5]))
    ]
    worn = float(np.clip(g.normal(0.12 + 0.42 * difficulty, 0.05 + 0.1 * difficulty), 0.0, 0.85))
    fade = float(1.0 - 0.35 * difficulty * g.random())
    lines = []
    phase = float(g.uniform(0, period))
    end = 1e6 if junction is None else junction[0] - 2.0
    spans = [(-1e6, end)] if junction is None else [(-1e6, end), (junction[1] + 2.0, 1e6)]
    for begin, finish in spans:
        for k, (d, follows) in enumerate(boundaries):
            own = float(np.clip(worn + g.normal(0, 0.05 + 0.05 * difficulty), 0.0, 0.9))
            first, last = k == 0, k == len(boundaries) - 1
            color: Color = to_color(fade * np.array(WHITE))
            if first:
                yellow = g.random() < 0.55
                tint: Color = to_color(fade * np.array(YELLOW if yellow else WHITE))
                lines.append(Line(d, width, tint, own, begin=begin, end=finish))
                if yellow and g.random() < 0.4:
                    lines.append(Line(d - 2.2 * width, width, tint, own, begin=begin, end=finish))
            elif last:
                lines.append(Line(d, width, color, own, follows=follows, begin=begin, end=finish))
            else:
                solid = (junction is not None and begin < 0) or g.random() < 0.12
                gaps = 0.0 if solid else period
                lines.append(Line(d, width, color, own, gaps, length, phase, begin=begin, end=finish))
    if widening.amount > 0:
        d = boundaries[-1][0]
        begin = widening.start + 0.3 * widening.length
        lines.append(Line(d, width, WHITE, worn, period=4.0, length=2.0, begin=begin))
    return tuple(lines)


def _marks(
    g: Generator,
    scenario: str,
    difficulty: float,
    boundaries: tuple[tuple[float, int], ...],
    travel: float,
    junction: tuple[float, float] | None,
) -> tuple[Mark, ...]:
    worn = float(np.clip(g.normal(0.1 + 0.4 * difficulty, 0.1), 0.0, 0.75))
    left, right = boundaries[0][0], boundaries[-1][0]
    marks = []
    if junction is not None:
        for s in (junction[0] - 1.0, junction[1] - 4.0):
            if g.random() < 0.75:
                marks.append(
                    Mark(s, float(g.uniform(3.5, 5.0)), left, right - left, -1, float(g.uniform(0.9, 1.2)), 0.45, worn)
                )
        if g.random() < 0.6:
            marks.append(Mark(junction[0] - 3.2, 0.4, left, right - left, -1, 0.0, 0.0, worn))
    arrows = scenario == "arrow" or g.random() < 0.06
    if arrows and scenario not in ("noline", "cross"):
        lanes = len(boundaries) - 1
        first = float(g.uniform(7, 16))
        for row in range(int(1 + (travel + 60) // 26)):
            for k in range(lanes):
                if g.random() < 0.12:
                    continue
                kind = 0 if 0 < k < lanes - 1 else int(g.choice([0, 1, 3] if k == 0 else [0, 2, 4]))
                middle = 0.5 * (boundaries[k][0] + boundaries[k + 1][0])
                size = 1.25
                marks.append(Mark(first + 26.0 * row, 6.0, middle - size / 2, size, kind, 0.0, 0.0, worn))
    return tuple(marks)


def section(
    g: Generator, style: str, left: float, right: float, tones: tuple[float, float] = ASPHALT
) -> tuple[tuple[float, Color, float, float], ...]:
    """Steps of the ground's cross-section: (from d, albedo, grain, asphalt share). `tones`: least and greatest albedo of the
    road."""
    tone = float(g.uniform(*tones))
    asphalt: Color = (tone * float(g.uniform(0.95, 1.06)), tone, tone * float(g.uniform(0.97, 1.05)))
    grass: Color = (0.055, 0.82 * float(g.uniform(0.11, 0.16)), 0.9 * float(g.uniform(0.08, 0.14)))
    soil: Color = (0.09, 0.125, 0.155)
    paving: Color = to_color(np.array([0.20, 0.21, 0.22]) * g.uniform(0.7, 1.1) + g.uniform(-0.01, 0.02, 3))
    stone: Color = (0.34, 0.35, 0.36)
    dirt: Color = (0.7 * tone, 0.72 * tone, 0.75 * tone)
    verge = grass if g.random() < 0.65 else soil
    far = grass if g.random() < 0.5 else soil
    if style in ("city", "avenue"):
        walk = float(g.uniform(2.5, 5.0))
        strip = float(g.uniform(1.0, 2.5)) if style == "avenue" else 0.0
        ground: Color = (0.13, 0.14, 0.15) if style == "city" else far
        return (
            (-99.0, asphalt if style == "avenue" else ground, 0.8, 0.0),
            (left - walk - strip - 1.0, ground, 0.7, 0.0),
            (left - walk - strip, paving, 0.45, 0.0),
            (left - 0.3 - strip, verge, 1.0, 0.0),
            (left - 0.3, stone, 0.25, 0.0),
            (left - 0.14, (0.05, 0.05, 0.05), 0.2, 0.0),
            (left, dirt, 0.9, 1.0),
            (left + 0.35, asphalt, 0.75, 1.0),
            (right - 0.35, dirt, 0.9, 1.0),
            (right, (0.05, 0.05, 0.05), 0.2, 0.0),
            (right + 0.14, stone, 0.25, 0.0),
            (right + 0.3, verge, 1.0, 0.0),
            (right + 0.3 + strip, paving, 0.45, 0.0),
            (right + 0.3 + strip + walk, ground, 0.7, 0.0),
        )
    outer = far if style == "highway" else (0.10, 0.10, 0.10)
    return (
        (-99.0, outer, 1.1, 0.0),
        (left - 12.0, asphalt, 0.6, 1.0),
        (left - 1.2, verge, 1.0, 0.0),
        (left - 0.2, dirt, 0.9, 1.0),
        (left + 0.3, asphalt, 0.75, 1.0),
        (right - 0.3, dirt, 1.0, 1.0),
        (right, verge, 1.1, 0.0),
        (right + 6.0, outer, 1.2, 0.0),
    )


def patches(
    g: Generator, difficulty: float, travel: float, width: float
) -> tuple[tuple[float, float, float, float, float], ...]:
    """(s, d, length, width, tone): repaired places, oil stains, manholes (length equal to width and small)."""
    found = []
    for _ in range(int(g.poisson((0.5 + 2.0 * difficulty) * (1 + travel / 150)))):
        found.append(
            (
                g.uniform(3, travel + 90),
                g.uniform(-0.5, 0.5) * width,
                g.uniform(1.5, 14),
                g.uniform(0.8, 3.2),
                g.choice([g.uniform(0.62, 0.85), g.uniform(1.08, 1.2)]),
            )
        )
    for _ in range(int(g.poisson(1.5 + travel / 60))):
        found.append((g.uniform(4, travel + 60), g.uniform(-0.45, 0.45) * width, 0.75, 0.75, g.uniform(0.45, 0.75)))
    return tuple((float(a), float(b), float(c), float(d), float(e)) for a, b, c, d, e in found)
