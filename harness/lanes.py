"""Lane and Geometry: what crosses every seam.

Coordinates are pixels with x to the right, y downwards and **pixel centres at integers**: the image covers
[-0.5, W - 0.5] x [-0.5, H - 0.5]. "Original" pixels are those of the image file, "network" pixels those of a detector's input.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]

PIXEL_FRACTION = 8
"""Lanes are archived and scored in steps of 1/8 px, which three decimals hold exactly."""

PIXEL_LIMIT = 4000.0
"""Archived coordinates are clipped to +- this many pixels, so that they fit an int16 at 1/8 px."""


@dataclass(frozen=True, eq=False)
class Lane:
    """One lane as a polyline from its near end (bottom of the image) to its far end.

    `points` is float32 of shape (N, 2), N >= 0, columns x and y in pixels. `score` is a detector's confidence, None for a label.
    A lane carries, it doesn't validate: readers decide what is acceptable.
    """

    points: Points
    score: float | None = None

    def __post_init__(self) -> None:
        """Bring the points to float32 of shape (N, 2)."""
        object.__setattr__(self, "points", np.asarray(self.points, dtype=np.float32).reshape(-1, 2))

    def __len__(self) -> int:
        return len(self.points)


@dataclass(frozen=True, eq=False)
class Geometry:
    """How original pixels of one sample became network pixels.

    original: (height, width) of the image file. crop: (top, left, bottom, right) in original pixels, half-open like a slice.
    network: (height, width) of the detector's input. matrix: 3x3 float64 from original to network pixels (homogeneous column
    vectors), including this sample's augmentation.
    """

    original: tuple[int, int]
    crop: tuple[int, int, int, int]
    network: tuple[int, int]
    matrix: Matrix = field(repr=False)

    def to_network(self, points: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Map (..., 2) original pixels to network pixels."""
        return apply_matrix(self.matrix, points)

    def to_original(self, points: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Map (..., 2) network pixels back to original pixels."""
        return apply_matrix(np.asarray(np.linalg.inv(self.matrix), dtype=np.float64), points)


def resize_matrix(crop: tuple[int, int, int, int], network: tuple[int, int]) -> Matrix:
    """The 3x3 matrix that maps a crop (top, left, bottom, right) onto a (height, width) image, outer edges onto outer edges."""
    top, left, bottom, right = crop
    if bottom <= top or right <= left:
        raise ValueError(f"crop {crop} is empty: it is (top, left, bottom, right)")
    scale_y, scale_x = network[0] / (bottom - top), network[1] / (right - left)
    return np.array(
        [
            [scale_x, 0.0, (0.5 - left) * scale_x - 0.5],
            [0.0, scale_y, (0.5 - top) * scale_y - 0.5],
            [0.0, 0.0, 1.0],
        ]
    )


def plain_geometry(original: tuple[int, int], crop: tuple[int, int, int, int], network: tuple[int, int]) -> Geometry:
    """Crop and resize without augmentation: what evaluation and prediction use."""
    return Geometry(original, crop, network, resize_matrix(crop, network))


@dataclass(frozen=True)
class Part:
    """A rectangle of a picture, `width` x `height` pixels with its first one at column `left` and row `top`."""

    width: int
    height: int
    left: int
    top: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}+{self.left}+{self.top}"

    def fits(self, size: tuple[int, int]) -> bool:
        """Whether it lies wholly in a picture of `size` (height, width)."""
        return 0 < self.height <= size[0] - self.top and 0 < self.width <= size[1] - self.left

    def geometry(self, inside: Geometry, original: tuple[int, int]) -> Geometry:
        """The geometry of a whole picture of which a detector is shown this part as if it were a frame of its own.

        inside: the geometry of that frame.
        """
        shift = np.array([[1.0, 0.0, -self.left], [0.0, 1.0, -self.top], [0.0, 0.0, 1.0]])
        top, left, bottom, right = inside.crop
        crop = (top + self.top, left + self.left, bottom + self.top, right + self.left)
        return Geometry(original, crop, inside.network, inside.matrix @ shift)


def apply_matrix(matrix: npt.NDArray[np.float64], points: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Apply a homogeneous 3x3 matrix to points of shape (..., 2)."""
    array = np.asarray(points, dtype=np.float64)
    mapped = array @ matrix[:2, :2].T + matrix[:2, 2]
    if matrix[2, 0] == 0.0 and matrix[2, 1] == 0.0:
        return np.asarray(mapped / matrix[2, 2])
    return np.asarray(mapped / (array @ matrix[2, :2] + matrix[2, 2])[..., None])


def archived_points(points: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Round to 1/8 px (half to even) and clip to +-4,000 px: what every writer writes and every scorer then scores."""
    array = np.asarray(points, dtype=np.float64)
    return np.clip(np.round(array * PIXEL_FRACTION) / PIXEL_FRACTION, -PIXEL_LIMIT, PIXEL_LIMIT)


def archived(lanes: Iterable[Lane]) -> list[Lane]:
    """Lanes as they will be archived; the scores stay.

    Of points that round to the same place one after another the first is kept: at a repeated point the official curves are undefined. A
    lane that lies in one place keeps two points, or the only one it had.
    """
    return [Lane(_without_repetitions(archived_points(lane.points)).astype(np.float32), lane.score) for lane in lanes]


def _without_repetitions(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    moves = (points[1:] != points[:-1]).any(axis=1)
    return points[np.concatenate([[True], moves])] if moves.any() else points[:2]


def near_to_far(points: npt.ArrayLike) -> Points:
    """The same polyline, reversed if its first point lies above (further away than) its last."""
    array = np.asarray(points, dtype=np.float32).reshape(-1, 2)
    return array[::-1].copy() if len(array) and array[0, 1] < array[-1, 1] else array
