"""Whether targets follow an augmentation: those of labels by an augmented geometry are those of labels that were moved beforehand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.base import Detector
from harness.conformance.samples import Samples
from harness.conformance.subject import Unmet
from harness.lanes import Geometry, Lane, Matrix, apply_matrix

Targets = Mapping[str, npt.NDArray[Any]]

IGNORED = 0.8
"""A change is ignored where so large a share of what it moves in the targets isn't moved as it should be. Where a label is cut at the
frame's edge, half may differ: the edge isn't moved with the label.
"""

RELATIVE = 1e-3
"""Floats nearer than this, as a share of the largest, are the same but for rounding."""


def follows_augmentation(detector: Detector, samples: Samples) -> None:
    """Raise Unmet where `encode_targets` doesn't move the labels as the geometry says that it is given."""
    plain = detector.geometry_of(samples.size)
    ignored = [what for what, change in _changes(plain).items() if _share(detector, samples, plain, change) > IGNORED]
    if ignored:
        raise Unmet(
            f"encode_targets doesn't follow an augmentation ({', '.join(ignored)}), which moves the image: map labels by the geometry "
            "that it is given, geometry.to_network"
        )


def _changes(plain: Geometry) -> dict[str, Matrix]:
    """Augmentations one by one, as matrices in original pixels."""
    height, width = plain.original
    top, left, bottom, right = plain.crop
    turn, growth = math.radians(4), 1.15

    def about_centre(a: float, b: float, c: float, d: float) -> Matrix:
        x, y = (left + right - 1) / 2, (top + bottom - 1) / 2
        return np.array([[a, b, x - a * x - b * y], [c, d, y - c * x - d * y], [0.0, 0.0, 1.0]])

    return {
        "flip": about_centre(-1.0, 0.0, 0.0, 1.0),
        "rotation": about_centre(math.cos(turn), -math.sin(turn), math.sin(turn), math.cos(turn)),
        "shift": np.array([[1.0, 0.0, 0.06 * width], [0.0, 1.0, -0.04 * height], [0.0, 0.0, 1.0]]),
        "scale": about_centre(growth, 0.0, 0.0, growth),
    }


def _share(detector: Detector, samples: Samples, plain: Geometry, change: Matrix) -> float:
    """Of what a change should move in the targets, how much isn't moved as it should be."""
    augmented = replace(plain, matrix=plain.matrix @ change)
    wrong = due = 0
    for frame in samples.frames:
        lanes = samples.lanes(frame)
        moved = [Lane(apply_matrix(change, lane.points).astype(np.float32)) for lane in lanes]
        expected, found = detector.encode_targets(moved, plain), detector.encode_targets(lanes, augmented)
        still = detector.encode_targets(lanes, plain)
        wrong += _differing(found, expected)
        due += max(_differing(still, expected), _differing(still, found))
    return wrong / due if due else 0.0


def _differing(found: Targets, expected: Targets) -> int:
    """How many numbers differ."""
    count = 0
    for name, value in expected.items():
        if value.dtype.kind == "f":
            finite = np.abs(value[np.isfinite(value)])
            reach = RELATIVE * max(1.0, float(finite.max(initial=0.0)))
            unlike = ~np.isclose(found[name], value, rtol=RELATIVE, atol=reach, equal_nan=True)
        else:
            unlike = np.asarray(found[name] != value)
        count += int(unlike.sum())
    return count
