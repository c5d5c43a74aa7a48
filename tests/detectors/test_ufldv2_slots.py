"""Which of UFLDv2's slots a lane takes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.registry import detector_meta
from detectors.ufldv2 import UFLDv2
from harness.lanes import Lane
from tests.detectors.roads import FRAME, augmented, road, straight

MICRO = UFLDv2(detector_meta("ufldv2_micro"), "culane").eval()


@settings(max_examples=40, deadline=None)
@given(offset=st.floats(-350, 350), bend=st.floats(-300, 300), rotation=st.floats(-8, 8))
def test_a_mirrored_frame_has_mirrored_slots(offset: float, bend: float, rotation: float) -> None:
    plain = MICRO.encode_targets(road(offset, bend), augmented(MICRO, rotation, (0, 0), 1.0, False))["row"]
    mirrored = MICRO.encode_targets(road(offset, bend), augmented(MICRO, rotation, (0, 0), 1.0, True))["row"]
    # Cells begin at x = 0 of the frame and end at 1640, its pixels are mirrored about 819.5.
    both = (plain >= 0) & (mirrored[:, ::-1] >= 0)
    span = (MICRO.options.row_cells - 1) * 1639 / 1640
    assert both.sum() > 0.9 * (plain >= 0).sum()
    np.testing.assert_allclose(mirrored[:, ::-1][both], span - plain[both], atol=1e-3)


def slots(lanes: list[Lane]) -> list[int | None]:
    """The slot of each lane, found by encoding them together and each alone."""
    geometry = MICRO.geometry_of(FRAME)
    together = MICRO.encode_targets(lanes, geometry)["row"]
    found: list[int | None] = []
    for lane in lanes:
        alone = MICRO.encode_targets([lane], geometry)["row"].max(axis=1)
        same = [slot for slot in range(4) if np.array_equal(together[:, slot], alone)]
        found.append(same[0] if same and alone.max() >= 0 else None)
    return found


@pytest.mark.parametrize(
    ("feet", "expected"),
    [
        ([-600, 400, 1200, 2200], [0, 1, 2, 3]),
        ([2200, 1200, 400, -600], [3, 2, 1, 0]),
        ([400], [1]),
        ([1200, 2200], [2, 3]),
        ([-1600, -600, 400], [None, 0, 1]),
        ([100, 300, 500, 900, 1200, 1500], [None, 0, 1, 2, 3, None]),
        ([], []),
    ],
)
def test_lanes_take_slots_from_the_centre_outwards(feet: list[float], expected: list[int | None]) -> None:
    assert slots([straight(foot) for foot in feet]) == expected


def test_a_lane_that_starts_late_is_placed_by_its_prolongation() -> None:
    # Both lie left of the centre; where it begins, high up in the frame, the outer one is nearer to it than the other one's foot.
    lanes = [straight(400), straight(100, first=330)]
    assert slots(lanes) == [1, 0]


def test_a_lane_outside_the_frame_takes_no_slot() -> None:
    outside = Lane(np.array([[1700.0, 589.0], [1690.0, 300.0]]))
    assert slots([outside, straight(1900)]) == [None, 2]
