from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from detectors.parts.row_wise import Anchors, expected_cell, focal_loss, placed_lanes, shared_cells
from harness.lanes import Lane, plain_geometry

ROWS = np.arange(10.0, 210.0, 10.0)
ANCHORS = Anchors(1, ROWS, cells=50, origin=-2.0, width=4.0)


def positions_of(x: np.ndarray, seen: slice) -> np.ndarray:
    """Positions of a lane that is at x on the rows, of which only some see it."""
    found = np.full(len(ROWS), -1.0, dtype=np.float32)
    found[seen] = ((x + 2.0) / 4.0)[seen]
    return found


def test_a_lane_whose_points_lie_on_the_anchors_crosses_them_there() -> None:
    x = 100.0 + 0.1 * ROWS
    np.testing.assert_allclose(ANCHORS.positions(np.stack([x, ROWS], axis=1)), positions_of(x, slice(None)))
    # Positions go from the first cell's near edge to the last cell's, both included.
    edges = np.array([[-2.0, 10.0], [194.0, 20.0], [194.4, 30.0]])
    np.testing.assert_allclose(ANCHORS.positions(edges)[:3], [0.0, 49.0, -1.0])


@given(slope=st.floats(-0.4, 0.4), first=st.integers(0, 8), count=st.integers(6, 11))
def test_a_straight_lane_is_prolonged_along_itself(slope: float, first: int, count: int) -> None:
    x = 100.0 + slope * (ROWS - 100.0)
    found = ANCHORS.prolonged(positions_of(x, slice(first, first + count)))
    np.testing.assert_allclose(found, positions_of(x, slice(first, None)), atol=1e-3)


def test_only_the_lower_half_of_a_lane_says_where_it_goes() -> None:
    straight = 100.0 + 0.2 * ROWS
    bent = np.where(np.arange(len(ROWS)) < 6, straight + 30.0, straight)
    seen = slice(0, 12)
    expected = np.where(np.arange(len(ROWS)) < 12, positions_of(bent, seen), positions_of(straight, slice(None)))
    np.testing.assert_allclose(ANCHORS.prolonged(positions_of(bent, seen)), expected, atol=1e-3)


@pytest.mark.parametrize("seen", [slice(0, 5), slice(0, 0), slice(10, None)])
def test_short_lanes_none_and_whole_ones_stay_as_they_are(seen: slice) -> None:
    positions = positions_of(100.0 + 0.1 * ROWS, seen)
    np.testing.assert_array_equal(ANCHORS.prolonged(positions), positions)


def test_rows_between_that_do_not_see_a_lane_stay_without_it() -> None:
    positions = positions_of(100.0 + 0.1 * ROWS, slice(0, 12))
    positions[4] = -1.0
    assert ANCHORS.prolonged(positions)[4] == -1.0


@pytest.mark.parametrize(("middle", "slope"), [(31.0, -0.4), (165.0, 0.4)])
def test_beyond_the_cells_nothing_is_prolonged(middle: float, slope: float) -> None:
    x = middle + slope * (ROWS - 100.0)
    found = ANCHORS.prolonged(positions_of(x, slice(0, 10)))
    np.testing.assert_array_equal(found >= 0, (x >= -2.0) & (x + 2.0 <= 4.0 * 49))


def test_lanes_that_no_anchor_crosses_take_no_slot() -> None:
    geometry = plain_geometry((300, 300), (0, 0, 300, 300), (300, 300))
    inside = Lane(np.array([[40.0, 299.0], [120.0, 20.0]]))
    right = Lane(np.array([[180.0, 299.0], [160.0, 20.0]]))
    above = Lane(np.array([[40.0, 8.0], [120.0, 2.0]]))
    outside = Lane(np.array([[250.0, 299.0], [240.0, 20.0]]))
    holed = Lane(np.array([[40.0, 299.0], [np.nan, 50.0], [120.0, 20.0]]))
    assert sorted(placed_lanes([above, inside, outside, right], geometry, {"row": ANCHORS})) == [1, 2]
    # Those of one family are enough.
    columns = Anchors(0, np.array([280.0, 290.0]), cells=50, origin=0.0, width=6.0)
    assert sorted(placed_lanes([inside, right], geometry, {"row": ANCHORS, "column": columns})) == [1, 2]
    placed = placed_lanes([holed], geometry, {"row": ANCHORS})[1]
    np.testing.assert_allclose(placed.polyline, [[40.0, 299.0], [120.0, 20.0]])
    np.testing.assert_allclose(placed.positions["row"], ANCHORS.positions(placed.polyline))


@given(st.floats(0.0, 49.0))
def test_shared_cells_have_the_exact_place_as_their_expectation(position: float) -> None:
    place, indices, shares = shared_cells(torch.full((1, 1, 1), position), 50)
    assert float((indices * shares).sum()) == pytest.approx(float(place), abs=1e-4)
    assert float(shares.sum()) == pytest.approx(1.0)
    assert float(place) == pytest.approx(min(max(position - 0.5, 0.0), 49.0), abs=1e-4)


def test_the_focal_loss_without_focus_would_be_the_cross_entropy() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 9, 5, 4, generator=generator)
    labels = torch.randint(0, 9, (2, 5, 4), generator=generator)
    found = focal_loss(logits.log_softmax(1), labels[:, None], torch.ones(2, 1, 5, 4))
    entropy = F.cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(found, (1 - (-entropy).exp()) ** 2 * entropy)


def test_the_expected_cell_is_the_mean_of_its_distribution() -> None:
    probability = torch.zeros(1, 8, 1, 2)
    probability[0, 3, 0, 0] = 1.0
    probability[0, [2, 7], 0, 1] = 0.5
    assert expected_cell(probability).tolist() == [[[3.0, 4.5]]]
