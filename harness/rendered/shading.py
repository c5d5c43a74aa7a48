"""The light on surface points, from a scene's weather."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from harness.rendered import kernels
from harness.rendered.kernels import Floats, View
from harness.rendered.scene import Weather

Array = npt.NDArray[np.float64]


def air_share(depth: npt.ArrayLike, weather: Weather) -> Array:
    """The share of air in what is seen at a depth in metres."""
    return 1.0 - np.exp(-weather.haze * np.asarray(depth, np.float64))


def sun_direction(weather: Weather) -> Array:
    """The local unit vector towards the sun."""
    flat = np.cos(weather.elevation)
    return np.array([np.sin(weather.azimuth) * flat, np.sin(weather.elevation), np.cos(weather.azimuth) * flat])


def shade_points(
    points: npt.ArrayLike,
    normals: npt.ArrayLike,
    albedo: npt.ArrayLike,
    weather: Weather,
    view: View,
    *,
    gloss: npt.ArrayLike = 0.0,
    open_sky: npt.ArrayLike = 1.0,
) -> Floats:
    """Colours (N, 4) of surface points, see `kernels.shade`."""
    points_ = np.ascontiguousarray(points, np.float32)
    count = len(points_)
    lamp = np.array(
        [
            weather.key,
            weather.ambient,
            weather.horizon,
            weather.zenith,
            sun_direction(weather),
            (weather.haze, 0.0, 0.0),
        ],
        np.float32,
    )
    surface = np.empty((2, count), np.float32)
    surface[0], surface[1] = gloss, open_sky
    out = np.empty((count, 4), np.float32)
    kernels.shade(
        points_,
        np.ascontiguousarray(normals, np.float32),
        np.ascontiguousarray(albedo, np.float32),
        surface[0],
        surface[1],
        np.array([view.x, view.y], np.float32),
        lamp,
        weather.night,
        out,
    )
    return out
