"""Draws the vehicles of a scene."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from harness.rendered.scene import Color, Vehicle
from harness.rendered.streams import Stream, open_stream
from harness.rendered.vehicles import VEHICLES

Generator = np.random.Generator

WHITE_PLATE: Color = (0.55, 0.55, 0.53)

_CAR_COLORS: tuple[Color, ...] = (
    (0.70, 0.70, 0.68),
    (0.62, 0.62, 0.62),
    (0.30, 0.30, 0.30),
    (0.11, 0.11, 0.12),
    (0.018, 0.017, 0.016),
    (0.012, 0.012, 0.013),
    (0.20, 0.21, 0.22),
    (0.025, 0.025, 0.20),
    (0.10, 0.045, 0.025),
    (0.10, 0.15, 0.18),
    (0.05, 0.052, 0.055),
)


def sample_traffic(
    g: Generator,
    scenario: str,
    difficulty: float,
    left: float,
    lanes: int,
    lane_width: float,
    ego_lane: int,
    speed: float,
    travel: float,
    style: str,
    junction: tuple[float, float] | None,
) -> tuple[Vehicle, ...]:
    """Vehicles lane by lane, oncoming ones, parked ones in town, and crossing ones at a junction."""
    vehicles: list[Vehicle] = []
    density = {"crowd": 1.0, "cross": 0.3, "noline": 0.25, "hlight": 0.3, "night": 0.4}.get(scenario, 0.3) * (
        0.65 + 0.7 * difficulty
    )

    def add(s: float, d: float, own_speed: float, turn: float) -> float:
        kinds = g.choice(VEHICLES, p=[0.38, 0.17, 0.22, 0.09, 0.07, 0.07])
        color = _CAR_COLORS[int(g.integers(len(_CAR_COLORS)))]
        if kinds in ("bus", "truck"):
            color = ((0.42, 0.12, 0.05), (0.05, 0.22, 0.5), (0.05, 0.3, 0.1), (0.6, 0.6, 0.6), (0.3, 0.3, 0.32))[
                int(g.integers(5))
            ]
        vehicles.append(
            Vehicle(str(kinds), s, d, own_speed, color, turn, bool(g.random() < (0.5 if scenario == "crowd" else 0.2)))
        )
        return {"bus": 11.5, "truck": 9.0}.get(str(kinds), 4.8)

    for k in range(lanes):
        middle = left + (k + 0.5) * lane_width
        nearest = g.uniform(8, 15) - 4.0 * difficulty if scenario == "crowd" else g.uniform(14, 60)
        s = float(nearest if k == ego_lane else g.uniform(4, 16) if scenario == "crowd" else g.uniform(6, 70))
        lane_speed = speed * float(g.uniform(0.92, 1.12))
        while s < 190 + travel:
            long = 4.8
            if g.random() < min(density * 1.15, 0.97) or (scenario == "crowd" and s < 22):
                long = add(s + 2.4, middle + float(g.normal(0, 0.18)), lane_speed, 0.0)
            s += long + float(g.uniform(2.5, 9) if scenario == "crowd" else g.uniform(12, 45))
    if style in ("city", "avenue") and g.random() < 0.7 and junction is None:
        for _ in range(int(g.integers(1, 9))):
            add(float(g.uniform(10, 160 + travel)), left - float(g.uniform(2.6, 6.0)), -float(g.uniform(5, 10)), np.pi)
    if style in ("highway", "elevated"):
        for _ in range(int(g.integers(0, 8))):
            add(float(g.uniform(15, 200 + travel)), left - float(g.uniform(4.0, 8.0)), -float(g.uniform(12, 20)), np.pi)
    if style == "city" and g.random() < 0.4 and junction is None:
        s = float(g.uniform(6, 30))
        while s < 120 + travel:
            s += add(s, left + lanes * lane_width + 1.4, 0.0, 0.0) + float(g.uniform(0.8, 14))
    if junction is not None:
        for _ in range(int(g.integers(0, 4))):
            vehicles.append(
                Vehicle(
                    "sedan",
                    float(g.uniform(junction[0] + 7, junction[1] - 4)),
                    float(g.uniform(-16, 16)),
                    0.0,
                    _CAR_COLORS[int(g.integers(len(_CAR_COLORS)))],
                    float(g.choice([-1, 1])) * 1.45,
                    False,
                )
            )
    return tuple(vehicles)


def as_in_america(vehicles: tuple[Vehicle, ...], seed: int) -> tuple[Vehicle, ...]:
    """The same traffic as on an American road: plates are white, most hatchbacks and buses are pick-ups, drawn from a stream of their
    own."""
    g = open_stream(seed, Stream.AMERICAN_TRAFFIC)
    found = []
    for vehicle in vehicles:
        chance, color = g.random(), _CAR_COLORS[int(g.integers(len(_CAR_COLORS)))]
        if vehicle.model in ("hatch", "bus") and chance < 0.7:
            vehicle = replace(vehicle, model="pickup", color=color)
        found.append(replace(vehicle, plate=WHITE_PLATE))
    return tuple(found)
