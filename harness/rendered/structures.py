"""What is built beside the road, as meshes: houses, barriers, lamps and sign posts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from harness.rendered import meshes
from harness.rendered.kernels import View
from harness.rendered.meshes import Mesh
from harness.rendered.road import RoadView
from harness.rendered.scene import Scene
from harness.rendered.shading import shade_points

Array = npt.NDArray[np.float64]


def building_mesh(scene: Scene, road: RoadView, view: View) -> Mesh | None:
    """Houses as boxes: four walls with facade coordinates in bays and storeys, and a roof. Fronts are cut in four, so
    that the lens
    bends them and their light varies."""
    houses = [h for h in scene.buildings if h.s + h.length > road.start - 5 and h.s < road.start + 420]
    houses.sort(key=lambda house: house.s)
    if not houses:
        return None
    count = len(houses)
    s, length, d, depth, height, storey, bay = (
        np.array([getattr(house, name) for house in houses])
        for name in ("s", "length", "d", "depth", "height", "storey", "bay")
    )
    x0, y0, z0, _ = road.place(s, d)
    x1, y1, z1, _ = road.place(s + length, d)
    along = np.stack([x1 - x0, np.zeros(count), z1 - z0], axis=1)
    real = np.linalg.norm(along, axis=1)
    along /= real[:, None]
    right = np.stack([along[:, 2], np.zeros(count), -along[:, 0]], axis=1)
    near = np.stack([x0, np.zeros(count), z0], axis=1)
    far = near + along * real[:, None]
    out = right * depth[:, None]
    base, top = np.minimum(y0, y1) - 1.0, y0 + height
    foot = [near, far, far + out, near + out]
    low, high = ([point + level[:, None] * (0.0, 1.0, 0.0) for point in foot] for level in (base, top))
    side = np.sign(depth)[:, None]
    normals = [-side * right, along, side * right, -along, np.tile([0.0, 1.0, 0.0], (count, 1))]
    upper, lower = (top - y0) / storey, (base - y0) / storey
    front, flank = np.rint(real / bay), np.rint(np.abs(depth) / bay)
    corners, faces, uv, textures = [], [], [], []
    facade = np.array([house.facade for house in houses])
    for wall in range(5):
        if wall == 4:
            quad, bays = high, np.zeros(count)
        else:
            quad = [low[wall], low[(wall + 1) % 4], high[(wall + 1) % 4], high[wall]]
            bays = front if wall % 2 == 0 else flank
        pieces = 4 if wall in (0, 2) else 1
        for a, b in ((k / pieces, (k + 1) / pieces) for k in range(pieces)):
            bottom, ceiling = quad[1] - quad[0], quad[2] - quad[3]
            corners.append([quad[0] + bottom * a, quad[0] + bottom * b, quad[3] + ceiling * b, quad[3] + ceiling * a])
            uv.append([[bays * a, lower], [bays * b, lower], [bays * b, upper], [bays * a, upper]])
            faces.append(normals[wall])
            textures.append(facade if wall < 4 else np.full(count, -1))
    points = np.array(corners).transpose(0, 2, 1, 3).reshape(-1, 3)
    quads = len(points) // 4
    albedo = np.tile(np.repeat([house.color for house in houses], 4, axis=0), (len(corners), 1))
    facing = np.repeat(np.concatenate(faces), 4, axis=0)
    colors = shade_points(points, facing, albedo, scene.weather, view, open_sky=np.tile([0.6, 0.6, 1.0, 1.0], quads))
    return meshes.quads_to_mesh(points, colors, np.array(uv).transpose(0, 3, 1, 2), np.concatenate(textures))


def _strip(
    scene: Scene,
    road: RoadView,
    view: View,
    profile: list[tuple[float, float]],
    albedo: Array,
    d: float,
    follows: int,
    span: tuple[float, float],
) -> Mesh | None:
    """A profile (d, y) swept along the road."""
    begin, end = max(span[0], road.start - 2.0), min(span[1], road.start + 330.0)
    if end - begin < 1.0:
        return None
    s = np.concatenate([np.arange(begin, min(begin + 60, end), 4.0), np.arange(min(begin + 60, end), end, 16.0), [end]])
    s = np.unique(s)
    shift = scene.shape.widening.shift(s) if follows else np.zeros_like(s)
    rails = []
    for dd, height in profile:
        x, y, z, _ = road.place(s, d + shift + dd)
        rails.append(np.stack([x, y + height, z], axis=1))
    quads, normals, colors = [], [], []
    for k in range(len(profile) - 1):
        low, high = rails[k], rails[k + 1]
        quads.append(np.stack([low[:-1], low[1:], high[1:], high[:-1]], axis=1))
        rise = np.array(profile[k + 1]) - np.array(profile[k])
        side = -1.0 if d > scene.ego_d else 1.0
        tilt = np.array([side * abs(rise[1]), abs(rise[0]), 0.0])
        normals.append(np.tile(tilt / np.linalg.norm(tilt), (len(s) - 1, 4, 1)))
        colors.append(np.tile(albedo[k], (len(s) - 1, 4, 1)))
    points = np.concatenate(quads).reshape(-1, 3)
    open_sky = np.tile([0.7, 0.7, 1.0, 1.0], len(points) // 4)
    shaded = shade_points(
        points,
        np.concatenate(normals).reshape(-1, 3),
        np.concatenate(colors).reshape(-1, 3),
        scene.weather,
        view,
        open_sky=open_sky,
    )
    return meshes.quads_to_mesh(points, shaded)


def barrier_meshes(scene: Scene, road: RoadView, view: View) -> list[Mesh]:
    """Guard rails, walls, fences and planters, swept along the road, and their posts."""
    found: list[Mesh | None] = []
    posts: list[tuple[float, float, float, float, Array]] = []
    steel, concrete, green = np.array([0.3, 0.31, 0.31]), np.array([0.27, 0.29, 0.30]), np.array([0.06, 0.16, 0.05])
    white = np.array([0.5, 0.5, 0.48])
    for barrier in scene.barriers:
        span, d, follows = (barrier.begin, barrier.end), barrier.d, barrier.follows
        spacing = 3.0
        if barrier.kind == 0:
            profile = [(0.0, 0.42), (0.06, 0.50), (0.0, 0.58), (0.06, 0.66), (0.0, 0.74)]
            albedo = np.array([steel * k for k in (0.7, 1.1, 0.6, 1.15)])
            found.append(_strip(scene, road, view, profile, albedo, d, follows, span))
            color, width, spacing = steel * 0.7, 0.12, 3.0
        elif barrier.kind == 1:
            toward = 1.0 if d < scene.ego_d else -1.0
            profile = [(0.28 * toward, 0.0), (0.12 * toward, 0.3), (0.0, 0.9), (-0.2 * toward, 0.9)]
            albedo = np.array([concrete * 0.7, concrete, concrete * 1.1])
            found.append(_strip(scene, road, view, profile, albedo, d, follows, span))
            continue
        elif barrier.kind == 2:
            for low, high in ((0.95, 1.03), (0.28, 0.34)):
                found.append(_strip(scene, road, view, [(0.0, low), (0.02, high)], np.array([white]), d, follows, span))
            color, width, spacing = white, 0.05, 0.45 if scene.difficulty < 2 else 1.0
        else:
            profile = [(0.2, 0.0), (0.2, 0.3), (0.0, 0.3)]
            found.append(_strip(scene, road, view, profile, np.array([concrete, concrete]), d, follows, span))
            color, width, spacing = green, 0.28, 0.9
        begin = max(np.ceil(max(barrier.begin, road.start) / spacing) * spacing, barrier.begin)
        reach = 30.0 if spacing < 1 else 110.0
        for s in np.arange(begin, min(barrier.end, road.start + reach), spacing):
            posts.append(
                (float(s), d + (float(scene.shape.widening.shift(s)) if follows else 0.0), width, barrier.height, color)
            )
    if posts:
        along, aside, wide, tall = (np.array([post[k] for post in posts], np.float64) for k in range(4))
        x, y, z, _ = road.place(along, aside)
        found.append(_upright(scene, view, x, y, z, wide, tall, np.array([post[4] for post in posts])))
    return [mesh for mesh in found if mesh is not None]


def _upright(
    scene: Scene, view: View, x: Array, y: Array, z: Array, width: Array, height: Array, albedo: Array
) -> Mesh:
    """Upright strips that face the camera: posts."""
    half = width / 2
    bottom, top = y - 0.05, y + height
    quads = np.stack(
        [
            np.stack([x - half, bottom, z], 1),
            np.stack([x + half, bottom, z], 1),
            np.stack([x + half, top, z], 1),
            np.stack([x - half, top, z], 1),
        ],
        axis=1,
    )
    points = quads.reshape(-1, 3)
    normals = np.tile([(-0.55, 0.1, -0.83), (0.55, 0.1, -0.83), (0.55, 0.1, -0.83), (-0.55, 0.1, -0.83)], (len(x), 1))
    sky = np.tile([0.4, 0.4, 1.0, 1.0], len(x))
    return meshes.quads_to_mesh(
        points, shade_points(points, normals, np.repeat(albedo, 4, axis=0), scene.weather, view, open_sky=sky)
    )


_SIGNS = ((0.45, 0.20, 0.03), (0.06, 0.06, 0.50), (0.12, 0.30, 0.04), (0.36, 0.16, 0.02))
_GANTRIES = {4: (0.36, 0.14, 0.02), 5: (0.07, 0.16, 0.02)}


def pole_mesh(scene: Scene, road: RoadView, view: View) -> Mesh | None:
    """Street lamps and sign posts, None if there are none in sight."""
    poles = [pole for pole in scene.poles if 2.0 < pole.s - road.start < 320]
    if not poles:
        return None
    s = np.array([pole.s for pole in poles])
    d = np.array([pole.d + (float(scene.shape.widening.shift(pole.s)) if pole.d > 0 else 0.0) for pole in poles])
    height = np.array([pole.height for pole in poles])
    x, y, z, heading = road.place(s, d)
    grey = np.array([0.22, 0.22, 0.22])
    quads: list[list[Array]] = []
    normals: list[tuple[float, float, float]] = []
    albedo: list[npt.ArrayLike] = []
    lamp: list[int] = []

    def add(
        a: Array, b: Array, c: Array, e: Array, color: npt.ArrayLike, normal: tuple[float, float, float] = (0, 0, -1)
    ) -> None:
        quads.append([a, b, c, e])
        normals.extend([normal] * 4)
        albedo.extend([color] * 4)

    for k, pole in enumerate(poles):
        foot = np.array([x[k], y[k], z[k]])
        right = np.array([np.cos(heading[k]), 0.0, -np.sin(heading[k])])
        up = np.array([0.0, 1.0, 0.0])
        thin, thick = right * 0.05, right * 0.11
        head = foot + up * height[k]
        add(foot - thick, foot, head, head - thin, grey * 0.8, (-0.8, 0, -0.6))
        add(foot, foot + thick, head + thin, head, grey * 1.3, (0.8, 0, -0.6))
        arm = right * pole.arm
        if pole.sign == 0:
            tip = head + arm + up * 0.5
            add(head - up * 0.05, tip - up * 0.04, tip + up * 0.04, head + up * 0.08, grey)
            lamp.append(len(quads))
            add(
                tip - up * 0.09, tip + arm * 0.28 - up * 0.06, tip + arm * 0.28 + up * 0.03, tip + up * 0.06, grey * 0.6
            )
        elif pole.sign in _GANTRIES:
            add(head - up * 0.1, head + arm - up * 0.1, head + arm + up * 0.1, head + up * 0.1, grey)
            a, b = head + arm * 0.45 - up * 1.0, head + arm * 0.95 - up * 1.0
            lift = np.array([0, 0, -0.1])
            add(a + lift, b + lift, b + up * 2.2 + lift, a + up * 2.2 + lift, _GANTRIES[pole.sign])
            for row in (0.55, 1.2):
                p, q = a + (b - a) * 0.12 + up * row, a + (b - a) * 0.8 + up * row
                add(p + 2 * lift, q + 2 * lift, q + up * 0.28 + 2 * lift, p + up * 0.28 + 2 * lift, (0.6, 0.6, 0.6))
        else:
            half = right * (0.32 if pole.sign != 3 else 0.7)
            lift = np.array([0, 0, -0.06])
            add(
                head - half + lift - up * 0.7,
                head + half + lift - up * 0.7,
                head + half + lift,
                head - half + lift,
                _SIGNS[pole.sign - 1],
            )
            inner = half * 0.55
            add(
                head - inner + 2 * lift - up * 0.45,
                head + inner + 2 * lift - up * 0.45,
                head + inner + 2 * lift - up * 0.28,
                head - inner + 2 * lift - up * 0.28,
                (0.6, 0.6, 0.6),
            )
    points = np.array(quads).reshape(-1, 3)
    colors = shade_points(points, np.array(normals), np.array(albedo), scene.weather, view)
    if scene.weather.night:
        key = np.array(scene.weather.key, np.float32) / max(scene.weather.key)
        colors[np.array(lamp, np.int64)[:, None] * 4 + np.arange(4), :3] += np.float32(6.0) * key + np.float32(1.0)
    return meshes.quads_to_mesh(points, colors)
