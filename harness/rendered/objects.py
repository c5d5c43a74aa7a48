"""Places and lights what stands on the road: vehicles, plants, and what is built beside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.rendered import vehicles
from harness.rendered.kernels import Floats, View
from harness.rendered.meshes import Mesh
from harness.rendered.road import RoadView, project
from harness.rendered.scene import BACKDROP_END, Scene, Vehicle, Weather
from harness.rendered.shading import air_share, shade_points, sun_direction
from harness.rendered.structures import barrier_meshes, building_mesh, pole_mesh
from harness.rendered.vehicles import Model

FAR = 220.0
PANE_MIRRORS = 0.1
"""The share of the sky that the upper edge of a vehicle's pane mirrors."""


@dataclass(frozen=True, eq=False)
class Actor:
    """A vehicle at the time of a frame: road coordinates, local position and heading."""

    vehicle: Vehicle
    model: Model
    s: float
    d: float
    x: float
    y: float
    z: float
    heading: float


def place_vehicles(scene: Scene, road: RoadView, start: float, seconds: float) -> list[Actor]:
    """Vehicles within sight, ahead of the camera; none stands where the camera is."""
    actors = []
    for vehicle in scene.vehicles:
        model = vehicles.vehicle(vehicle.model)
        s = vehicle.s + vehicle.speed * seconds
        widened = float(scene.shape.widening.shift(s)) if vehicle.d > scene.boundaries[-1][0] else 0.0
        d = vehicle.d + widened
        ahead = s - start
        if not -3.0 < ahead < FAR:
            continue
        if abs(d - scene.ego_d) < 2.4 and ahead - model.length / 2 < 3.2:
            continue
        x, y, z, heading = (float(value) for value in road.place(s, d))
        actors.append(Actor(vehicle, model, s, d, x, y, z, heading + vehicle.turn))
    return actors


_ALBEDO = {
    vehicles.GLASS: (0.02, 0.02, 0.018),
    vehicles.DARK: (0.022, 0.022, 0.022),
    vehicles.RIM: (0.14, 0.14, 0.14),
    vehicles.TAIL: (0.015, 0.015, 0.18),
    vehicles.HEAD: (0.55, 0.55, 0.52),
    vehicles.PLATE: (0.5, 0.5, 0.5),
    vehicles.TRIM: (0.16, 0.16, 0.16),
    vehicles.CARGO: (0.5, 0.5, 0.5),
}
_GLOSS = np.array([0.75, 1.0, 0.06, 0.3, 0.5, 0.6, 0.2, 0.3, 0.1], np.float32)


def _vehicle_mesh(actor: Actor, weather: Weather, view: View) -> Mesh:
    model, paint = actor.model, np.array(actor.vehicle.color)
    sin, cos = np.sin(actor.heading), np.cos(actor.heading)
    turn = np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]], np.float32)
    points = model.vertices @ turn + np.array([actor.x, actor.y, actor.z], np.float32)
    normals = model.normals @ turn
    palette = np.array([paint, *(_ALBEDO[k] for k in range(1, 9))], np.float32)
    palette[vehicles.PLATE] = actor.vehicle.plate
    if actor.vehicle.model == "truck":
        palette[vehicles.CARGO] = 0.35 + 0.5 * paint
    colors = shade_points(
        points, normals, palette[model.materials], weather, view, gloss=_GLOSS[model.materials], open_sky=model.open_sky
    )
    clear = 1.0 - float(air_share(actor.z, weather))
    # Panes are curved: their upper part mirrors the sky, their lower part the road.
    glass = model.materials == vehicles.GLASS
    colors[glass, :3] += np.square(model.rise[glass])[:, None] * np.array(weather.horizon) * (PANE_MIRRORS * clear)
    if weather.night or actor.vehicle.braking:
        power = (1.6 if actor.vehicle.braking else 0.5) if weather.night else 1.2
        tail = model.materials == vehicles.TAIL
        colors[tail, :3] += np.array([0.03, 0.05, 1.0]) * power * clear
    if weather.night:
        colors[model.materials == vehicles.HEAD, :3] += np.array([2.4, 2.8, 3.0]) * clear
    return Mesh(points, colors, model.coordinates, model.triangles, model.textures)


def window_colors(weather: Weather) -> Floats:
    """What `draw_triangles` wants of panes: BGR dark, BGR lit, share lit, contrast."""
    dark = 0.3 * np.array(weather.horizon) + 0.03
    if weather.night:
        dark = np.array([0.008, 0.008, 0.009])
    return np.array([*dark, 0.32, 0.52, 0.62, weather.lit_windows, 1.1], np.float32)


def solid_meshes(scene: Scene, road: RoadView, actors: list[Actor], view: View) -> list[Mesh]:
    """Everything opaque, near things first (they hide the rest)."""
    found = [
        _vehicle_mesh(actor, scene.weather, view) for actor in sorted(actors, key=lambda actor: actor.z) if actor.z > -2
    ]
    found += barrier_meshes(scene, road, view)
    found += [mesh for mesh in (pole_mesh(scene, road, view), building_mesh(scene, road, view)) if mesh is not None]
    return found


def billboards(scene: Scene, road: RoadView, view: View, distortion: float) -> Floats:
    """Plants as `rasterizer.draw_dense_plants` wants them, far ones first."""
    plants = [plant for plant in (*scene.plants, *scene.backdrop) if 1.0 < plant.s - road.start < BACKDROP_END]
    if not plants:
        return np.zeros((0, 15), np.float32)
    weather = scene.weather
    s, d = np.array([plant.s for plant in plants]), np.array([plant.d for plant in plants])
    d = d + np.where(d > 0, scene.shape.widening.shift(s), 0.0)
    height = np.array([plant.height for plant in plants])
    x, y, z, _ = road.place(s, d)
    column, row, depth = project(view, distortion, x, y - 0.1, z)
    _, top, _ = project(view, distortion, x, y + height, z)
    leaf = np.array([plant.leaf for plant in plants])
    sun = sun_direction(weather)
    # Leaves turned to the sun, and those it shines through; a sun behind the camera lights the side that is seen.
    front = 0.55 - 0.45 * sun[2]
    key = np.array(weather.key) * (front if not weather.night else 0.25)
    ambient = np.array(weather.ambient) * 1.15
    if weather.night:
        ambient = ambient + np.exp(-z / 22.0)[:, None] * np.array([0.05, 0.06, 0.07])
    air = air_share(np.hypot(x - view.x, z), weather)[:, None]
    mirrored = np.array([plant.mirrored for plant in plants]) if abs(sun[0]) < 0.3 else np.full(len(plants), sun[0] > 0)
    boards = np.concatenate(
        [
            np.stack(
                [column, row, row - top, 1.0 / np.maximum(depth, 0.1), [plant.kind for plant in plants], mirrored],
                axis=1,
            ),
            leaf * ambient * (1 - air),
            leaf * key * 1.5 * (1 - air),
            np.array(weather.horizon) * air,
        ],
        axis=1,
    )
    boards = boards[depth > 1.5]
    return np.ascontiguousarray(boards[np.argsort(boards[:, 3], kind="stable")], np.float32)
