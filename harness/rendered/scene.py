"""A clip's world, sampled from its seed, scenario and difficulty: road, paint, light, plants, houses and traffic."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.rendered.road import RoadShape

Color = tuple[float, float, float]

MAP_AHEAD = 170.0
"""Shadows and stains are drawn this far ahead of a clip's last frame, metres."""
BACKDROP_END = 420.0
"""Plants are seen up to so many metres ahead; beyond, the skyline stands for them."""
SKYLINE_HALF = 1.6
"""The skyline reaches this tangent of the azimuth on both sides."""


@dataclass(frozen=True)
class Line:
    """A painted line at d: solid where `period` is 0, else in dashes of `length`; `worn` in [0, 1]; `follows` 1 if the widening
    moves it."""

    d: float
    width: float
    color: Color
    worn: float
    period: float = 0.0
    length: float = 0.0
    phase: float = 0.0
    follows: int = 0
    begin: float = -1e6
    end: float = 1e6


@dataclass(frozen=True)
class Mark:
    """Paint within a rectangle from (s, d), `length` by `width`: glyph `kind` >= 0, or bars every `period` across (0:
    full)."""

    s: float
    length: float
    d: float
    width: float
    kind: int
    period: float
    bar: float
    worn: float


@dataclass(frozen=True)
class Vehicle:
    """A vehicle at road coordinates when the clip starts, its speed along s, and looks. `turn` is 0, or pi if it
    comes towards us."""

    model: str
    s: float
    d: float
    speed: float
    color: Color
    turn: float
    braking: bool
    plate: Color = (0.42, 0.12, 0.03)


@dataclass(frozen=True)
class Plant:
    """A plant at road coordinates: its kind (see textures.plants), height and leaf albedo (BGR)."""

    s: float
    d: float
    height: float
    kind: int
    mirrored: bool
    leaf: Color


@dataclass(frozen=True)
class Building:
    """A house along the road from s to s + length, its front at d, depth away from the road."""

    s: float
    length: float
    d: float
    depth: float
    height: float
    storey: float
    bay: float
    facade: int
    color: Color


@dataclass(frozen=True)
class Pole:
    """A street lamp (sign 0), a sign post (1 blue, 2 red, 3 green) or a gantry (4 blue, 5 green); `arm` reaches over the road
    (signed metres)."""

    s: float
    d: float
    height: float
    arm: float
    sign: int


@dataclass(frozen=True)
class Barrier:
    """A rail or wall along the road at d: 0 guard rail, 1 concrete wall, 2 fence, 3 hedge-like planter."""

    d: float
    kind: int
    height: float
    begin: float
    end: float
    follows: int


@dataclass(frozen=True)
class Pavement:
    """What a road's surface is made of and what lies on it besides paint.

    `concrete` or asphalt; by lane, the albedo's factor `tones` and the strength of the `oil` streak; `wheels`, that of the wheels'
    tracks; `joint`, metres from a lane boundary to the joint between two lanes, to the right; `lines`, joints, reflective markers
    and traces of older lines, drawn like paint and never labelled; `slabs`, (length, skew ds/dd, phase, joint width, spread of
    tones) of the slabs, their length 0 if there are none; `spots`, a square metre; `wear`, how ragged the edges of paint are,
    metres; `begin`, where in their tiles the cracks and the wear begin, texels.
    """

    concrete: bool
    tones: tuple[float, ...]
    oil: tuple[float, ...]
    wheels: float
    joint: float
    lines: tuple[Line, ...]
    slabs: tuple[float, float, float, float, float]
    spots: float
    wear: float
    begin: tuple[float, float]


@dataclass(frozen=True)
class Camera:
    """The camera's mount and how it shakes: focal length in image widths, horizon row's share of the height, angles
    in radians."""

    focal: float
    horizon: float
    height: float
    offset: float
    yaw: float
    roll: float
    distortion: float
    shake_pitch: float
    shake_roll: float
    noise: float
    exposure: float
    contrast: float
    blur: float
    vignette: float


@dataclass(frozen=True)
class Look:
    """How a camera develops its frames.

    level: the light that its meter brings a frame to by day. contrast: the power of its tone curve. tint: gains (BGR).
    softness: of its lens, in `Camera.blur`. sharpening: the strength of its halos. reflection: how much of the light the
    windscreen mirrors; mirrored: where, as middle, width (shares of the image's) and top (a share of its height).
    """

    level: float
    contrast: float
    saturation: float
    tint: Color
    softness: float
    sharpening: float
    reflection: float
    mirrored: tuple[float, float, float]


@dataclass(frozen=True)
class Weather:
    """Light: sun azimuth (right of the road's start, radians) and elevation, linear BGR of key and ambient light, sky
    and haze. glare: of a sun in the picture; glint: its mirror image on the road; lit_windows: their share at night."""

    azimuth: float
    elevation: float
    key: Color
    ambient: Color
    zenith: Color
    horizon: Color
    haze: float
    cloud: float
    cloud_color: Color
    glare: float = 0.0
    glint: float = 0.0
    night: bool = False
    lit_windows: float = 0.0


@dataclass(frozen=True)
class Scene:
    """Everything that the frames of a clip share. `boundaries` are the (d, follows) of lane boundaries, left to right;
    `labelled` says which of them are labelled, as (index, metres ahead), left to right; `section` lists (d, BGR, grain,
    asphalt) steps from left to right. `backdrop` is what grows behind the plants, too far off to shade the road. `frame_seconds` is the
    time between two frames."""

    scenario: str
    difficulty: float
    seed: int
    shape: RoadShape
    boundaries: tuple[tuple[float, int], ...]
    labelled: tuple[tuple[int, float], ...]
    lane_width: float
    ego_d: float
    ego_lane: int
    speed: float
    frame_seconds: float
    lines: tuple[Line, ...]
    marks: tuple[Mark, ...]
    section: tuple[tuple[float, Color, float, float], ...]
    pavement: Pavement
    tracks: float
    cracks: float
    patches: tuple[tuple[float, float, float, float, float], ...]
    vehicles: tuple[Vehicle, ...]
    plants: tuple[Plant, ...]
    backdrop: tuple[Plant, ...]
    buildings: tuple[Building, ...]
    poles: tuple[Pole, ...]
    barriers: tuple[Barrier, ...]
    camera: Camera
    look: Look
    weather: Weather
    skyline: npt.NDArray[np.float32]
    skyline_color: npt.NDArray[np.float32]
    travel: float
    seams: float

    @property
    def span(self) -> tuple[float, float]:
        """The range of s that has a surface map."""
        return -12.0, self.travel + MAP_AHEAD
