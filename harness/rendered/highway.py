"""Draws the scene of a clip on a Californian highway, where TuSimple and LLAMAS were recorded.

Lanes are 12 ft (3.66 m) wide (Caltrans, Highway Design Manual, 301.1), dashes 10 ft every 40 ft, the left edge line yellow, the right
one white (MUTCD 2009, sections 3A.06 and 3B.06); pavement is asphalt or concrete.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from harness.rendered.look import MACHINE_VISION, sample_look
from harness.rendered.pavement import highway_pavement
from harness.rendered.road import RoadShape, Widening
from harness.rendered.roadside import barriers, buildings, plants, poles, to_color
from harness.rendered.sampling import ASPHALT, WHITE, YELLOW, patches, section
from harness.rendered.scene import Barrier, Camera, Line, Pole, Scene
from harness.rendered.streams import Stream, open_stream
from harness.rendered.traffic import as_in_america, sample_traffic
from harness.rendered.wayside import NO_SKYLINE, Surroundings, backdrop, horizon, overcast, skyline, varied
from harness.rendered.weather import sample_weather
from harness.sums import added_in_order

Generator = np.random.Generator

LANE_WIDTH = 3.66
DASH, DASH_PERIOD = 3.05, 12.2
CONCRETE = (0.19, 0.3)
GREEN_POST, GREEN_GANTRY = 3, 5
RAIL, WALL = 0, 1
"""Kinds of `Pole.sign` and of `Barrier`."""


@dataclass(frozen=True)
class Recording:
    """How a dataset was recorded and labelled. Pairs are mean and standard deviation unless said otherwise.

    horizon: row of the vanishing point of a level road as a share of the height, less the .36 of `frame`'s 16:9 frames. focal: range,
    in image widths. height, offset (right of the car's middle), place (of the car, right of its lane's middle): metres. yaw: radians.
    distortion: the most of the lens at difficulty 1. reach: median of the labels' metres ahead, and standard deviation of its
    logarithm; fallen_short: the share of lanes whose label ends nearer, at .25 to 1 of that. frame_seconds: between frames.
    bend: standard deviation of a straight road's curvature (1/m) at difficulty .5; curve_radius: range of a curve's radius (m) there;
    curved: the share of clips of any scenario that lie in a curve.
    """

    horizon: tuple[float, float]
    focal: tuple[float, float]
    height: tuple[float, float]
    offset: tuple[float, float]
    place: tuple[float, float]
    yaw: tuple[float, float]
    distortion: float
    reach: tuple[float, float]
    fallen_short: float
    frame_seconds: float
    bend: float
    curve_radius: tuple[float, float]
    curved: float


def sample_highway(
    recording: Recording, labelled: Mapping[int, float], scenario: str, difficulty: float, seed: int, frames: int
) -> Scene:
    """The scene of a clip of `frames` frames, a number of labelled lanes drawn from the shares `labelled`.

    Three: the car is in an outermost lane. Four: it is between two lanes. Five: one boundary more on one side. Equal arguments give
    equal scenes.
    """
    road, around = sample_road(recording, labelled, scenario, difficulty, seed, frames)
    own = open_stream(seed, Stream.WAYSIDE)
    weather = overcast(own, road.weather)
    outline, outline_color = skyline(own, around, weather)
    return replace(
        road,
        weather=weather,
        plants=varied(own, around.style, road.plants),
        skyline=outline,
        skyline_color=outline_color,
        backdrop=backdrop(own, around),
    )


def sample_road(
    recording: Recording, labelled: Mapping[int, float], scenario: str, difficulty: float, seed: int, frames: int
) -> tuple[Scene, Surroundings]:
    """A clip's scene before anything stands behind its roadside, which is all that labels depend on, and what is to stand around it."""
    g = open_stream(seed, Stream.HIGHWAY)
    style = str(g.choice(["highway", "elevated"], p=[0.85, 0.15]))
    speed = float(g.uniform(22, 31)) * (0.35 if scenario == "crowd" else 1.0)
    travel = speed * recording.frame_seconds * max(frames - 1, 0)
    lane_width = float(g.normal(LANE_WIDTH, 0.02 if g.random() < 0.65 else 0.24))
    lanes, ego_lane, window = _lanes(g, labelled)
    left = -0.5 * lanes * lane_width
    boundaries = tuple((left + k * lane_width, 0) for k in range(lanes + 1))
    reach = recording.reach[0] * float(np.exp(g.normal(0, recording.reach[1])))
    reaches = [reach * (float(g.uniform(0.25, 1.0)) if g.random() < recording.fallen_short else 1.0) for _ in window]
    weather = sample_weather(g, scenario, difficulty)
    concrete = g.random() < 0.5
    inner, shoulder = float(g.uniform(0.6, 2.6)), float(g.uniform(1.2, 3.2))
    ground = section(g, style, left - inner, -left + shoulder, CONCRETE if concrete else ASPHALT)
    # Smoother than a street.
    ground = tuple((d, color, 0.55 * grain if asphalt else grain, asphalt) for d, color, grain, asphalt in ground)
    edge_left, edge_right = left - inner - 0.3, -left + shoulder + 0.4
    around = Surroundings(style, travel, edge_left, edge_right, None, horizon(g, style))
    shape = _shape(g, recording, scenario, difficulty, travel)
    place = float(g.normal(*recording.place))
    lines = _lines(g, difficulty, boundaries)
    road = Scene(
        scenario=scenario,
        difficulty=difficulty,
        seed=seed,
        shape=shape,
        boundaries=boundaries,
        labelled=tuple(zip(window, reaches, strict=True)),
        lane_width=lane_width,
        ego_d=left + (ego_lane + 0.5) * lane_width + place,
        ego_lane=ego_lane,
        speed=speed,
        frame_seconds=recording.frame_seconds,
        lines=lines,
        marks=(),
        section=ground,
        pavement=highway_pavement(seed, difficulty, lines, boundaries, ground, concrete=concrete),
        tracks=float(g.uniform(0.15, 0.5) if concrete else g.uniform(0.03, 0.15)),
        cracks=float(g.uniform(0, 0.3 + 0.5 * difficulty)),
        patches=patches(g, difficulty, travel, lanes * lane_width),
        vehicles=as_in_america(
            sample_traffic(g, scenario, difficulty, left, lanes, lane_width, ego_lane, speed, travel, style, None), seed
        ),
        plants=plants(g, scenario, style, travel, edge_left, edge_right, None),
        backdrop=(),
        buildings=buildings(g, style, travel, edge_left, edge_right, None),
        poles=_poles(g, style, travel, edge_left, edge_right),
        barriers=_barriers(g, style, edge_left, edge_right),
        camera=_camera(g, recording, difficulty),
        look=sample_look(MACHINE_VISION, seed),
        weather=weather,
        skyline=NO_SKYLINE,
        skyline_color=NO_SKYLINE,
        travel=travel,
        seams=float(g.uniform(0.1, 0.5) if concrete else g.uniform(0, 0.15)),
    )  # fmt: skip
    return road, around


def _lanes(g: Generator, labelled: Mapping[int, float]) -> tuple[int, int, range]:
    """The number of lanes, the car's lane, and the boundaries that are labelled."""
    counts = sorted(labelled)
    weights = np.array([labelled[n] for n in counts])
    count = int(g.choice(counts, p=weights / added_in_order([*labelled.values()])))
    more, to_the_left = int(g.choice(3, p=[0.45, 0.4, 0.15])), g.random() < 0.6
    if count == 3:
        lanes = 2 + more
        return (lanes, 0, range(3)) if to_the_left else (lanes, lanes - 1, range(lanes - 2, lanes + 1))
    lanes = 3 + more + (count == 5)
    if count == 4:
        ego_lane = int(g.integers(1, lanes - 1))
        return lanes, ego_lane, range(ego_lane - 1, ego_lane + 3)
    if to_the_left:
        ego_lane = int(g.integers(2, lanes - 1))
        return lanes, ego_lane, range(ego_lane - 2, ego_lane + 3)
    ego_lane = int(g.integers(1, lanes - 2))
    return lanes, ego_lane, range(ego_lane - 1, ego_lane + 4)


def _shape(g: Generator, recording: Recording, scenario: str, difficulty: float, travel: float) -> RoadShape:
    knots = np.arange(-200.0, travel + 1200.0, 60.0)
    harder = 0.4 + 1.2 * difficulty
    if scenario == "curve" or g.random() < recording.curved:
        radius = g.uniform(*recording.curve_radius) / harder
        curvatures = g.choice([-1, 1]) / radius * g.uniform(0.85, 1.1, len(knots))
        curvatures[knots > travel + 250] *= 0.3
    else:
        steady = g.normal(0, recording.bend * harder)
        curvatures = steady + g.normal(0, 0.3 * abs(steady), len(knots))
        curvatures = np.convolve(curvatures, [0.25, 0.5, 0.25], mode="same")
    hills: tuple[tuple[float, float, float], ...] = ()
    if g.random() < 0.35 + 0.5 * difficulty:
        hills = (
            (float(g.uniform(0.1, 0.6 + 4.0 * difficulty)), float(g.uniform(260, 520)), float(g.uniform(0, 6.28))),
        )
    return RoadShape(knots, curvatures, hills, Widening(0.0, 0.0, 0.0, 60.0))


def _lines(g: Generator, difficulty: float, boundaries: tuple[tuple[float, int], ...]) -> tuple[Line, ...]:
    """One line a boundary, from left to right, then what accompanies them."""
    width = float(g.uniform(0.1, 0.16))
    worn = float(np.clip(g.normal(0.1 + 0.4 * difficulty, 0.05 + 0.1 * difficulty), 0.0, 0.85))
    fade = float(1.0 - 0.3 * difficulty * g.random())
    phase = float(g.uniform(0, DASH_PERIOD))
    lines, companions = [], []
    for k, (d, _) in enumerate(boundaries):
        own = float(np.clip(worn + g.normal(0, 0.05 + 0.05 * difficulty), 0.0, 0.9))
        edge = k in (0, len(boundaries) - 1)
        color = to_color(fade * np.array(YELLOW if k == 0 else WHITE))
        solid = edge or g.random() < 0.08
        period, length = (0.0, 0.0) if solid else (DASH_PERIOD, DASH)
        lines.append(Line(d, width, color, own, period, length, phase))
        if k == 1 and solid and not edge:
            companions.append(Line(d - 2.2 * width, width, color, own))
    return (*lines, *companions)


def _poles(g: Generator, style: str, travel: float, left: float, right: float) -> tuple[Pole, ...]:
    """Green signs; street lamps on some roads only."""
    lit = g.random() < 0.35
    found = poles(g, style, travel, left, right, None)
    green = {0: 0, 4: GREEN_GANTRY}
    return tuple(replace(pole, sign=green.get(pole.sign, GREEN_POST)) for pole in found if lit or pole.sign)


def _barriers(g: Generator, style: str, left: float, right: float) -> tuple[Barrier, ...]:
    """Rails and walls of concrete."""
    found = barriers(g, style, left, right, None)
    return tuple(barrier if barrier.kind == RAIL else replace(barrier, kind=WALL) for barrier in found)


def _camera(g: Generator, recording: Recording, difficulty: float) -> Camera:
    return Camera(
        focal=float(g.uniform(*recording.focal)),
        horizon=float(g.normal(*recording.horizon)),
        height=float(g.normal(*recording.height)),
        offset=float(g.normal(*recording.offset)),
        yaw=float(g.normal(*recording.yaw)),
        roll=float(g.normal(0, 0.002 + 0.006 * difficulty)),
        distortion=float(-g.uniform(0.0, 1.0) * recording.distortion * difficulty),
        shake_pitch=0.001 + 0.004 * difficulty,
        shake_roll=0.001 + 0.003 * difficulty,
        noise=float(g.uniform(0.8, 2.2 + difficulty)),
        exposure=float(np.exp(g.normal(0, 0.1 + 0.15 * difficulty))),
        contrast=float(g.uniform(1.0, 1.3)),
        blur=float(g.uniform(0.45, 0.8)),
        vignette=float(g.uniform(0.05, 0.22)),
    )
