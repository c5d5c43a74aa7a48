"""Roads, views and batches that the tests of every detector use: lanes in CULane's frame, in pixels, (x, y)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch

from detectors.base import Batch, Detector, stack_targets
from detectors.meta import DetectorMeta, Form
from detectors.registry import detector_meta
from harness.lanes import Geometry, Lane

FRAME = (590, 1640)
"""Height and width of CULane's frames."""

HOSTILE: dict[str, list[list[list[float]]]] = {
    "no lane": [],
    "no point": [[]],
    "one point": [[[800, 500]]],
    "one point twice": [[[800, 500], [800, 500]]],
    "one point three times": [[[800, 500]] * 3],
    "two points": [[[800, 500], [900, 300]]],
    "level": [[[100, 500], [500, 500], [900, 500]]],
    "nearly level": [[[100, 500], [1500, 500.001], [1600, 500.002], [1630, 500.003]]],
    "nearly on the same rows": [[[300, 500], [900, 499.9999], [500, 499.9998], [600, 300]]],
    "no numbers": [[[math.nan, 500], [800, math.inf], [700, 400], [650, 380]]],
    "far away": [[[-4000, 4000], [0, 0], [4000, -4000]]],
    "farther than pixels go": [[[-3e38, 400], [820, 400], [3e38, 500]]],
    "a row crossed three times": [[[300, 580], [400, 300], [500, 580], [600, 300]]],
    "from far to near": [[[820, 300], [600, 400], [400, 589]]],
    "along the right edge": [[[1639, 589], [1639, 250]]],
    "beside the frame": [[[1700, 589], [1690, 300]]],
    "below the frame": [[[400, 700], [450, 650], [500, 600]]],
    "many": [[[60.0 * place, 580], [820, 300]] for place in range(30)],
}
"""Labels of one frame that a dataset's file may hold and no adapter may stumble over."""


def variant(name: str, form: Form = "culane", threshold: float | None = None, **architecture: object) -> DetectorMeta:
    """A registered variant with some other architecture options and perhaps another confidence threshold."""
    meta = detector_meta(name)
    configuration = meta.configurations[form]
    recipe = configuration.recipe
    if threshold is not None:
        recipe = recipe.model_copy(update={"confidence_threshold": threshold})
    changed = {"architecture": configuration.architecture | architecture, "recipe": recipe}
    return meta.model_copy(update={"configurations": {form: configuration.model_copy(update=changed)}})


def noise(count: int, seed: int = 0) -> torch.Tensor:
    """Images without any road, of the small variants' size."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, 128, 320), dtype=torch.uint8, generator=generator)


def road(offset: float = 0.0, bend: float = 0.0, last: float = 300.0) -> list[Lane]:
    """Four lanes that lead to a vanishing point, as a camera in the middle of three lanes sees them, each bent like a parabola.

    They end before the row `last`.
    """
    y = np.arange(589.0, last, -10.0)
    near = (y - 260.0) / 330.0
    return [
        Lane(np.stack([820 + offset + foot * near + bend * (1 - near) ** 2, y], axis=1))
        for foot in (-1500, -420, 400, 1480)
    ]


def straight(foot: float, first: float = 589.0) -> Lane:
    """A lane towards (820, 260) that crosses the bottom of the frame at x = foot and is seen from the row `first` on."""
    y = np.arange(first, 290.0, -10.0)
    return Lane(np.stack([820 + (foot - 820) * (y - 260) / 329.5, y], axis=1))


def hostile_lanes(points: list[list[list[float]]]) -> list[Lane]:
    """One of the `HOSTILE` labels as lanes."""
    return [Lane(np.array(each, dtype=np.float32).reshape(-1, 2)) for each in points]


def batch_of(
    detector: Detector,
    labels: Sequence[list[Lane]],
    *,
    images: torch.Tensor | None = None,
    geometries: Sequence[Geometry] | None = None,
) -> Batch:
    """A batch of labels, on noise and in the detector's own view where nothing else is given."""
    size = len(labels)
    views = [detector.geometry_of(FRAME)] * size if geometries is None else geometries
    return Batch(
        images=noise(size) if images is None else images,
        targets=stack_targets(
            [detector.encode_targets(lanes, view) for lanes, view in zip(labels, views, strict=True)]
        ),
        lanes=torch.full((size, 1, 1, 2), math.nan),
        lane_counts=torch.zeros(size, dtype=torch.int64),
        point_counts=torch.zeros(size, 1, dtype=torch.int64),
        geometries=tuple(views),
        ids=tuple(str(index) for index in range(size)),
    )


def augmented(
    detector: Detector, rotation: float, shift: tuple[float, float] = (0, 0), scale: float = 1.0, mirror: bool = False
) -> Geometry:
    """The detector's view followed by a rotation (degrees) and a scaling about the centre, a shift and perhaps a mirror."""
    plain = detector.geometry_of(FRAME)
    height, width = plain.network
    centre = np.array([[1, 0, (width - 1) / 2], [0, 1, (height - 1) / 2], [0, 0, 1]])
    sine, cosine = math.sin(math.radians(rotation)) * scale, math.cos(math.radians(rotation)) * scale
    turn = np.array([[cosine, -sine, shift[0]], [sine, cosine, shift[1]], [0, 0, 1]])
    matrix = centre @ turn @ np.linalg.inv(centre) @ plain.matrix
    if mirror:
        matrix = np.array([[-1, 0, width - 1], [0, 1, 0], [0, 0, 1]]) @ matrix
    return Geometry(plain.original, plain.crop, plain.network, matrix)


def turned(detector: Detector, degrees: float, mirror: bool = False) -> Geometry:
    """The detector's view followed by a rotation about its corner, and perhaps a mirror."""
    plain = detector.geometry_of(FRAME)
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    matrix = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]]) @ plain.matrix
    if mirror:
        matrix = np.array([[-1, 0, plain.network[1] - 1], [0, 1, 0], [0, 0, 1]]) @ matrix
    return Geometry(plain.original, plain.crop, plain.network, matrix)


def crossing(points: np.ndarray, value: float, axis: int = 1) -> float | None:
    """Where a polyline first reaches `value` on an axis: its other coordinate, segment by segment; None where it never does."""
    for start, end in itertools.pairwise(points):
        low, high = min(start[axis], end[axis]), max(start[axis], end[axis])
        if low <= value <= high:
            share = 0.0 if high == low else (value - start[axis]) / (end[axis] - start[axis])
            return float(start[1 - axis] + share * (end[1 - axis] - start[1 - axis]))
    return None


def distance(points: np.ndarray, polyline: np.ndarray) -> float:
    """The largest distance from points to a polyline."""
    start, along = polyline[:-1], np.diff(polyline, axis=0)
    offsets = points[:, None] - start
    share = np.clip((offsets * along).sum(-1) / np.maximum((along**2).sum(-1), 1e-12), 0, 1)
    return float(np.hypot(*np.moveaxis(offsets - share[..., None] * along, -1, 0)).min(axis=1).max())
