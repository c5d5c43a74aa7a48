"""One moment of a scene as an image and its exact lanes."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from harness.lanes import Lane
from harness.rendered import background, glare, kernels, objects, rasterizer, road, sensor, surface, textures
from harness.rendered.ground import Ground, Light
from harness.rendered.kernels import Bytes, Floats
from harness.rendered.scene import Scene
from harness.rendered.streams import Stream, open_stream

NIGHT_LEVEL = 0.17
"""The light that the meter would bring the frame to at night."""
SHADE_RANGE = 110.0
"""Beyond this many metres a vehicle's contact shadow is less than a pixel high."""


class Frame(NamedTuple):
    """A rendered frame: image uint8 (H, W, 3) in OpenCV's BGR order, lanes from left to right, and each lane's CULane
    slot 0-3 (two left of the car, two right)."""

    image: Bytes
    lanes: list[Lane]
    slots: list[int]


class Shot(NamedTuple):
    """One moment of a clip through its camera: the road ahead, view and lens, metres travelled and seconds passed since the
    clip began, where the sensor's noise is taken from, and the frame's size in pixels."""

    road: road.RoadView
    view: kernels.View
    distortion: float
    travelled: float
    seconds: float
    grain: tuple[int, int]
    width: int
    height: int


@dataclass(frozen=True, eq=False)
class Stage:
    """What all frames of a clip share and is worth keeping: the scene, its surface map, cross-section, and tone
    curve."""

    scene: Scene
    surface: Bytes
    scratch: Bytes
    """A copy of `surface` that each frame lays its moving shadows on: so a stage is used by one thread at a time."""
    section: Floats
    curve: Bytes
    lines: Floats
    marks: Floats


def prepare(scene: Scene) -> Stage:
    """Build what the frames of a scene share."""
    lines = [
        (k.d, k.width / 2, k.period, k.length, k.phase, *k.color, k.worn, k.follows, k.begin, k.end)
        for k in (*scene.pavement.lines, *scene.lines)
    ]
    marks = [(m.s, m.length, m.d, m.width, m.kind, m.period, m.bar, m.worn) for m in scene.marks]
    ground = surface.surface_map(scene)
    return Stage(
        scene,
        ground,
        np.empty_like(ground),
        surface.section_table(scene),
        _tone(scene),
        np.array(lines, np.float32).reshape(-1, 12),
        np.array(marks, np.float32).reshape(-1, 8),
    )


def _tone(scene: Scene) -> Bytes:
    """A night is developed softly; by day, what lies at the meter's level stays there whatever the contrast."""
    if scene.weather.night:
        return tone_curve(scene.camera.contrast, 0.18)
    return tone_curve(scene.camera.contrast * scene.look.contrast, scene.look.level)


def tone_curve(contrast: float, pivot: float) -> Bytes:
    """Bytes by the square root of exposed light over [0, 4]: contrast about the light `pivot`, a filmic shoulder and toe, then
    sRGB's power.

    The curve is the rational fit of Narkowicz, "ACES Filmic Tone Mapping Curve" (2015).
    """
    light = np.square(np.linspace(0.0, 2.0, 4096))
    x = pivot * np.power(light / pivot, contrast)
    film = x * (2.51 * x + 0.03) / (x * (2.43 * x + 0.59) + 0.14)
    return (255.0 * np.power(np.clip(film, 0.0, 1.0), 1 / 2.2) + 0.5).astype(np.uint8)


def aim(scene: Scene, number: int, *, width: int, height: int) -> Shot:
    """Frame `number` of a clip before it is drawn, which is all that labels need."""
    shake = open_stream(scene.seed, Stream.SHAKE, number)
    seconds = number * scene.frame_seconds
    travelled = scene.speed * scene.frame_seconds * number
    view, distortion = _camera(scene, shake, width, height)
    grain = (int(shake.integers(sensor.GRAIN_SHIFT)), int(shake.integers(sensor.GRAIN_SHIFT)))
    return Shot(road.view_road(scene.shape, travelled), view, distortion, travelled, seconds, grain, width, height)


def render_frame(stage: Stage, number: int, *, width: int, height: int) -> Frame:
    """Render frame `number` of a clip at any size, labelled as CULane's. Deterministic: equal arguments give equal bytes on
    one machine."""
    shot = aim(stage.scene, number, width=width, height=height)
    return Frame(draw(stage, shot), *culane_lanes(stage.scene, shot))


def draw(stage: Stage, shot: Shot) -> Bytes:
    """The image of a moment: uint8 (H, W, 3) in OpenCV's BGR order."""
    scene, weather = stage.scene, stage.scene.weather
    view_of_road, view, distortion, travelled, seconds, grain, width, height = shot
    table, slope_start, slope_scale = road.slope_table(view_of_road, view.y, weather.haze)

    image, inverse_depth, solid = _canvas(height, width, threading.get_ident())
    inverse_depth.fill(0.0)
    light = _light(scene)
    actors = objects.place_vehicles(scene, view_of_road, travelled, seconds)
    ground_map = stage.scratch
    np.copyto(ground_map, stage.surface)
    for actor in actors:
        if actor.z > SHADE_RANGE:
            continue
        surface.shade_under(
            scene, ground_map, actor.s, actor.d, actor.model.length, actor.model.width, actor.model.height
        )
    for mesh in objects.solid_meshes(scene, view_of_road, actors, view):
        rasterizer.draw_triangles(
            image, inverse_depth, view, *mesh, textures.facades(), objects.window_colors(weather), np.float32(0.4)
        )
    np.copyto(solid, inverse_depth)
    boards = objects.billboards(scene, view_of_road, view, distortion)
    plants = boards, textures.plants(), textures.plant_spans(), textures.noise_tile()
    rasterizer.draw_dense_plants(image, inverse_depth, *plants)
    widening = scene.shape.widening
    ground = Ground(
        table=table,
        slope_start=slope_start,
        slope_scale=slope_scale,
        section=stage.section,
        lines=stage.lines,
        marks=stage.marks,
        glyphs=textures.glyphs(),
        surface=ground_map,
        surface_start=scene.span[0],
        surface_scale_s=surface.TEXELS_S,
        surface_scale_d=surface.TEXELS_D,
        noise=textures.noise_tile(),
        cracks=textures.crack_tile(),
        aggregate=textures.aggregate_tiles(),
        pavement=surface.pavement_row(scene),
        crack_amount=scene.cracks,
        widening=np.array([widening.edge, widening.amount, widening.start, widening.length], np.float32),
    )
    background.draw_background(image, inverse_depth, view, ground, light, _sky(scene, light))
    rasterizer.draw_loose_plants(image, inverse_depth, *plants)
    scattered = glare.glare_image(scene, view_of_road, view, distortion, actors, inverse_depth, kernels.GLARE_SHRINK)
    exposure = _exposure(image, scene)
    out = np.empty((height, width, 3), np.uint8)
    kernels.develop(image, scattered, np.float32(exposure), stage.curve, np.float32(scene.camera.vignette), out)
    return sensor.expose(out, solid, inverse_depth, scene.camera, scene.look, grain)


def labelled_curves(scene: Scene, shot: Shot) -> list[tuple[int, road.Curve]]:
    """The labelled boundaries that are seen, from left to right: index into `scene.boundaries` and curve."""
    found = []
    for index, reach in scene.labelled:
        d, follows = scene.boundaries[index]
        offset = d + scene.shape.widening.shift(shot.road.s) if follows else d
        curve = road.lane_curve(shot.view, shot.distortion, shot.road, offset, reach=reach)
        if curve is not None:
            found.append((index, curve))
    return found


def culane_lanes(scene: Scene, shot: Shot) -> tuple[list[Lane], list[int]]:
    """The lanes from left to right as CULane labels them, with their slots."""
    lanes, slots = [], []
    for index, curve in labelled_curves(scene, shot):
        lane = road.culane_points(curve, (shot.height, shot.width))
        if lane is not None:
            lanes.append(lane)
            slots.append(index - scene.ego_lane + 1)
    return lanes, slots


def _camera(scene: Scene, shake: np.random.Generator, width: int, height: int) -> tuple[kernels.View, float]:
    mount = scene.camera
    focal = mount.focal * max(width, height)
    # CULane's wide crop has its horizon near the middle, taller frames (16:9) have it at a third.
    share = np.interp(width / height, [1.78, 2.78], [0.36, 0.455]) + mount.horizon
    wanted = share * height - 0.5 * (height - 1)
    view = road.make_view(
        focal=focal,
        center=(0.5 * (width - 1), 0.5 * (height - 1)),
        eye=(scene.ego_d + mount.offset, mount.height),
        yaw=mount.yaw + float(shake.normal(0, 0.002)),
        pitch=-float(np.arctan2(wanted, focal)) + float(shake.normal(0, mount.shake_pitch)),
        roll=mount.roll + float(shake.normal(0, mount.shake_roll)),
        distortion=mount.distortion,
    )
    return view, mount.distortion


def _light(scene: Scene) -> Light:
    weather = scene.weather
    flat = 1.0 if weather.night else float(np.sin(weather.elevation))
    sun = np.array(
        [
            np.sin(weather.azimuth) * np.cos(weather.elevation),
            np.sin(weather.elevation),
            np.cos(weather.azimuth) * np.cos(weather.elevation),
        ],
        np.float32,
    )
    return Light(
        np.array(weather.key, np.float32) * np.float32(flat),
        np.array(weather.ambient, np.float32),
        np.array(weather.horizon, np.float32),
        sun,
        weather.glint,
        0.55 if weather.night else 0.0,
    )


def _sky(scene: Scene, light: Light) -> background.Sky:
    weather = scene.weather
    rise = np.linspace(0, 256 / 300.0, 256)[:, None]
    share = np.power(np.clip(rise / 0.75, 0, 1), 0.55)
    gradient = np.array(weather.horizon) * (1 - share) + np.array(weather.zenith) * share
    distance = np.square(np.linspace(0, 1, 256))
    sunny = 0.0 if weather.night or max(weather.key) < 0.5 else 1.0
    aureole = sunny * (
        0.25 * np.exp(-distance / 0.05) + (1.0 + 8 * weather.glare) * np.exp(-distance / 0.002) + 60 * (distance < 4e-5)
    )
    return background.Sky(
        np.ascontiguousarray(gradient, np.float32),
        aureole.astype(np.float32),
        textures.cloud_tile(),
        np.array(weather.cloud_color, np.float32),
        weather.cloud,
        scene.skyline,
        scene.skyline_color,
    )


def _exposure(image: Floats, scene: Scene) -> float:
    """What the camera's meter chooses: it brings the mean log light of the frame to the camera's level, less so at night."""
    sample = image[::9, ::11].astype(np.float64)
    light = 0.07 * sample[..., 0] + 0.72 * sample[..., 1] + 0.21 * sample[..., 2]
    rows = light.shape[0]
    mean = np.exp(0.35 * np.log(light[: rows // 2] + 1e-3).mean() + 0.65 * np.log(light[rows // 2 :] + 1e-3).mean())
    # By day the tone curve's contrast raises the meter's error again.
    target = scene.look.level * scene.camera.exposure ** (1.0 / scene.look.contrast)
    if scene.weather.night:
        target = NIGHT_LEVEL * scene.camera.exposure
    gain = target / mean
    return float(min(gain, 2.2) if scene.weather.night else np.clip(gain, 0.04, 2.5))


@lru_cache(maxsize=4)
def _canvas(height: int, width: int, thread: int) -> tuple[Floats, Floats, Floats]:
    """A thread's linear image, inverse depth, and that of triangles alone, kept from frame to frame: fresh pages cost
    more than drawing on them."""
    return tuple(np.zeros((height, width, *last), np.float32) for last in ((3,), (), ()))  # type: ignore[return-value]
