"""The light that lens and windscreen scatter or mirror: halos of lamps at night, the sun's veil, the dashboard."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from harness.rendered.kernels import Floats, View
from harness.rendered.objects import Actor
from harness.rendered.road import RoadView, project
from harness.rendered.scene import Scene
from harness.rendered.shading import sun_direction

Array = npt.NDArray[np.float64]


def glare_image(
    scene: Scene, road: RoadView, view: View, distortion: float, actors: list[Actor], inverse_depth: Floats, shrink: int
) -> Floats:
    """The light that lens and windscreen scatter, 1/`shrink` of the image's size: halos of lamps at night, of the sun
    in dazzling light."""
    height, width = inverse_depth.shape
    rows, cols = height // shrink + 2, width // shrink + 2
    glare = np.zeros((rows, cols, 3), np.float32)
    weather = scene.weather
    scale = max(width, height) / 1640
    lamps: list[tuple[float, float, float, tuple[float, float, float], float]] = []
    if weather.night:
        for pole in scene.poles:
            if pole.sign == 0 and 3.0 < pole.s - road.start < 300:
                x, y, z, _ = road.place(pole.s, pole.d + pole.arm * 1.15)
                key = np.array(weather.key) / max(weather.key)
                lamps.append((float(x), float(y) + pole.height + 0.42, float(z), tuple(3.0 * key + 0.5), 0.25))  # type: ignore[arg-type]
        for actor in actors:
            if actor.z < 2:
                continue
            forward = np.array([np.sin(actor.heading), np.cos(actor.heading)])
            side = np.array([forward[1], -forward[0]])
            rear = forward[1] > 0
            end = -actor.model.length / 2 - 0.05 if rear else actor.model.length / 2 + 0.05
            for half in (-0.36, 0.36):
                px, pz = np.array([actor.x, actor.z]) + forward * end + side * half * actor.model.width
                color = (0.06, 0.08, 1.4 if actor.vehicle.braking else 0.6) if rear else (3.2, 3.6, 3.8)
                lamps.append(
                    (
                        float(px),
                        actor.y + (actor.model.tail if rear else actor.model.head),
                        float(pz),
                        color,
                        0.13 if rear else 0.22,
                    )
                )
    for lamp_x, lamp_y, lamp_z, color, size in lamps:
        column, row, depth = (
            float(value) for value in project(view, distortion, np.array(lamp_x), np.array(lamp_y), np.array(lamp_z))
        )
        if depth < 1 or not (-80 < column < width + 80 and -80 < row < height + 80):
            continue
        c, r = min(max(int(column), 0), width - 1), min(max(int(row), 0), height - 1)
        if inverse_depth[r, c] > 1.1 / depth + 1e-3:
            continue
        core = max(view.focal * size * 0.5 / depth, 1.0 * scale)
        strength = min(view.focal * size * 0.5 / depth / (1.0 * scale), 1.0) * (0.3 + 0.7 * min(30.0 / depth, 1.0))
        _halo(glare, column / shrink, row / shrink, core / shrink, np.array(color) * strength, scale)
    if weather.glare > 0:
        sun = sun_direction(weather) * 1000
        column, row, _ = (
            float(value)
            for value in project(view, distortion, *(np.array(v) for v in (sun[0] + view.x, sun[1] + view.y, sun[2])))
        )
        dy, dx = np.mgrid[0:rows, 0:cols] * shrink
        dx, dy = (dx - column) / (1640 * scale), (dy - row) / (1640 * scale)
        distance = np.hypot(dx, dy)
        angle = np.arctan2(dy, dx)
        rays = 0.5 + 0.5 * np.cos(angle * 7 + scene.seed % 7) * np.cos(angle * 11 + 1.0)
        veil = 0.035 + 0.22 * np.exp(-distance / 0.18) + 1.5 * np.exp(-distance / 0.05) * (0.6 + 0.8 * rays**3)
        veil += 10.0 * np.exp(-np.square(distance / 0.022))
        glare += (weather.glare * veil)[..., None].astype(np.float32) * np.array(weather.key, np.float32) * 0.42
    elif not weather.night:
        glare += np.array(weather.horizon, np.float32) * 0.01
    if scene.look.reflection > 0 and not weather.night:
        light = np.array(weather.ambient) + 0.5 * np.array(weather.key)
        glare += (_mirrored(scene, rows, cols)[..., None] * light).astype(np.float32)
    return glare


def _mirrored(scene: Scene, rows: int, cols: int) -> Array:
    """What the windscreen mirrors of the dashboard, as a share of the light: smooth, and brighter towards the frame's bottom."""
    middle, width, top = scene.look.mirrored
    down = np.clip((np.linspace(0, 1, rows) - top) / (1 - top), 0, 1)[:, None]
    across = (np.linspace(0, 1, cols) - middle)[None, :] / width
    fold = 0.8 + 0.2 * np.cos(9.0 * across + 5.0 * down)
    return scene.look.reflection * down * down * (3 - 2 * down) * np.exp(-0.5 * across * across) * fold


def _halo(glare: Floats, column: float, row: float, core: float, color: Array, scale: float) -> None:
    rows, cols = glare.shape[:2]
    reach = int(12 * scale + 4 * core) + 3
    left, right = max(int(column) - reach, 0), min(int(column) + reach + 1, cols)
    top, bottom = max(int(row) - reach, 0), min(int(row) + reach + 1, rows)
    if left >= right or top >= bottom:
        return
    squared = np.square(np.arange(top, bottom) - row)[:, None] + np.square(np.arange(left, right) - column)[None, :]
    near, wide = max(core, 1.1) ** 2, (2.2 * scale + 1.5 * core) ** 2
    fall = 0.4 * np.exp(-squared / (2 * near)) + 0.02 * np.exp(-squared / (2 * wide)) + 0.008 / (1 + squared / wide)
    edge = np.clip(1 - squared / reach**2, 0, 1)
    glare[top:bottom, left:right] += (fall * edge)[..., None] * color
