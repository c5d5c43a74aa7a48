"""Draws what a scene is seen through: its light and air, and the camera."""

from __future__ import annotations

import numpy as np

from harness.rendered.scene import Camera, Weather

Generator = np.random.Generator


def sample_weather(g: Generator, scenario: str, difficulty: float) -> Weather:
    """Light by scenario: street lamps at night, a low sun ahead for hlight, else sun or an overcast sky."""
    azimuth, elevation = float(g.uniform(-3.1, 3.1)), float(g.uniform(0.45, 1.05))
    if scenario == "night":
        return _night(g, difficulty, azimuth)
    if scenario == "hlight":
        return _low_sun(g, difficulty)
    if scenario == "shadow":
        # The sun stands beside the road, so that what lines it throws its shadow across.
        azimuth = float(g.choice([-1, 1]) * g.uniform(0.75, 2.3))
        return _sunny(g, azimuth, elevation=float(g.uniform(0.5, 0.9)), brighter=1.1)
    if g.random() < 0.55:
        return _sunny(g, azimuth, elevation, brighter=1.0)
    return _overcast(g, azimuth, elevation)


def _night(g: Generator, difficulty: float, azimuth: float) -> Weather:
    dark = 1.0 - 0.45 * difficulty
    lamp = float(g.uniform(0.5, 1.0)) * dark
    sodium = g.random() < 0.5
    horizon = (0.014, 0.014, 0.017)
    return Weather(
        azimuth,
        elevation=0.8,
        key=(0.13 * lamp, 0.34 * lamp, 0.55 * lamp) if sodium else (0.42 * lamp, 0.46 * lamp, 0.48 * lamp),
        ambient=(0.020 * dark, 0.019 * dark, 0.020 * dark),
        zenith=(0.003, 0.0025, 0.002),
        horizon=horizon,
        haze=0.0015,
        cloud=1.0,
        cloud_color=horizon,
        night=True,
        lit_windows=float(g.uniform(0.08, 0.4)),
    )


def _low_sun(g: Generator, difficulty: float) -> Weather:
    azimuth, elevation = float(g.uniform(-0.32, 0.32)), float(g.uniform(0.1, 0.24))
    warm = float(g.uniform(0, 1))
    glare = float(g.uniform(0.8, 1.5)) * (0.8 + 0.5 * difficulty)
    horizon = (1.15 - 0.35 * warm, 1.25 - 0.1 * warm, 1.3)
    return Weather(
        azimuth,
        elevation,
        key=(1.7 - 0.7 * warm, 2.0 - 0.3 * warm, 2.2),
        ambient=(0.46, 0.42, 0.40),
        zenith=(0.75, 0.6, 0.45),
        horizon=horizon,
        haze=float(g.uniform(0.0006, 0.0025)),
        cloud=0.62,
        cloud_color=horizon,
        glare=glare,
        glint=float(g.uniform(1.2, 2.6)),
    )


def _sunny(g: Generator, azimuth: float, elevation: float, brighter: float) -> Weather:
    low = max(0.0, 0.75 - elevation)
    power = float(g.uniform(2.4, 3.4)) * brighter
    blue = float(g.uniform(0.1, 1.0))
    return Weather(
        azimuth,
        elevation,
        key=(power * (0.80 - 0.35 * low), power * (0.92 - 0.15 * low), power),
        ambient=(0.50, 0.42, 0.36),
        zenith=(0.72, 0.42 - 0.10 * blue, 0.26 - 0.14 * blue),
        horizon=(0.98, 0.90 - 0.06 * blue, 0.80 - 0.1 * blue),
        haze=float(g.uniform(0.0002, 0.0016)),
        cloud=float(g.uniform(0.4, 0.85)),
        cloud_color=(1.35, 1.35, 1.35),
    )


def _overcast(g: Generator, azimuth: float, elevation: float) -> Weather:
    grey = float(g.uniform(0.7, 1.1))
    tint = float(g.uniform(-0.05, 0.05))
    return Weather(
        azimuth,
        elevation,
        key=(0.22, 0.23, 0.24),
        ambient=(1.0, 0.98, 0.96),
        zenith=(0.86 * grey, 0.83 * grey, 0.80 * grey),
        horizon=(0.98 * grey, (0.98 + tint / 2) * grey, (0.96 + tint) * grey),
        haze=float(g.uniform(0.0006, 0.0035)),
        cloud=float(g.uniform(0.25, 0.5)),
        cloud_color=(0.88 * grey, 0.88 * grey, 0.88 * grey),
    )


def sample_camera(g: Generator, scenario: str, difficulty: float) -> Camera:
    """A dashboard camera; difficulty shakes it, bends its lens and adds noise."""
    night = scenario == "night"
    return Camera(
        focal=float(g.uniform(0.56, 0.66)),
        horizon=float(g.normal(0.0, 0.022)),
        height=float(g.uniform(1.35, 1.65)),
        offset=float(g.normal(0, 0.05)),
        yaw=float(g.normal(0, 0.008 + 0.012 * difficulty)),
        roll=float(g.normal(0, 0.004 + 0.01 * difficulty)),
        distortion=float(-g.uniform(0.0, 0.02 + 0.09 * difficulty)),
        shake_pitch=0.002 + 0.006 * difficulty,
        shake_roll=0.001 + 0.008 * difficulty,
        noise=float(g.uniform(3.5, 6.0 + 5.0 * difficulty) if night else g.uniform(0.8, 2.2 + difficulty)),
        exposure=float(np.exp(g.normal(0, 0.1 + 0.15 * difficulty))),
        contrast=float(g.uniform(1.0, 1.3)),
        blur=float(g.uniform(0.45, 0.8)),
        vignette=float(g.uniform(0.05, 0.22)),
    )
