from __future__ import annotations

import math

import numpy as np
import pytest

from detectors.parts.line_anchors import BOTTOM, GRID, LEFT, PUBLISHED, RIGHT, line_anchors, published_anchors


def test_rays_leave_their_origins_under_their_angles() -> None:
    grid = line_anchors(3, 4)
    origins = [(0.0, y) for y in (1.0, 0.5, 0.0) for _ in LEFT]
    origins += [(x, 1.0) for x in (1.0, 2 / 3, 1 / 3, 0.0) for _ in BOTTOM]
    origins += [(1.0, y) for y in (1.0, 0.5, 0.0) for _ in RIGHT]
    angles = [*LEFT * 3, *BOTTOM * 4, *RIGHT * 3]
    assert len(grid) == len(origins) == len(angles)
    places = grid.places(5)
    for index, ((x, y), angle) in enumerate(zip(origins, angles, strict=True)):
        for row, height in enumerate((1.0, 0.75, 0.5, 0.25, 0.0)):
            expected = x + (y - height) / math.tan(math.radians(angle))
            assert places[index, row] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("dataset", ["culane", "tusimple", "llamas"])
def test_a_dataset_keeps_a_thousand_different_anchors_of_the_published_grid(dataset: str) -> None:
    kept = published_anchors(dataset)
    every = line_anchors(*GRID)
    assert len(every) == 2784
    assert len(kept) == 1000
    assert len(set(PUBLISHED[dataset].split())) == 1000


def test_the_likeliest_anchors_lead_from_the_bottom_to_the_middle() -> None:
    # A camera in a lane sees its lines begin at the bottom or at the sides, and converge near the middle of the upper half.
    for dataset in ("culane", "tusimple", "llamas"):
        likeliest = published_anchors(dataset).at(range(50))
        at_half_height = likeliest.places(3)[:, 1]
        assert np.median(np.abs(at_half_height - 0.5)) < 0.25
