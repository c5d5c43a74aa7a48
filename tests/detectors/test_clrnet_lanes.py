"""Lanes become CLRNet's labels, and its outputs lanes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from detectors.base import stack_targets
from detectors.clrnet import CLRNet
from detectors.parts.dynamic_assignment import LENGTH, PRESENT, START_Y, THETA, XS
from harness.lanes import Geometry, Lane
from tests.detectors.roads import FRAME, HOSTILE, hostile_lanes, road
from tests.detectors.small.clrnet import MICRO, build, outputs_of


def moved(detector: CLRNet, shift: tuple[float, float], scale: float, mirror: bool) -> Geometry:
    """The detector's geometry followed by a scaling, a shift in network pixels and perhaps a mirror."""
    plain = detector.geometry_of(FRAME)
    width = plain.network[1]
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]], [0, 0, 1]]) @ plain.matrix
    if mirror:
        matrix = np.array([[-1, 0, width - 1], [0, 1, 0], [0, 0, 1]]) @ matrix
    return Geometry(plain.original, plain.crop, plain.network, matrix)


# Labels


def test_labels_are_on_rows_that_run_from_the_lower_edge_to_the_upper() -> None:
    targets = MICRO.encode_targets(road(), MICRO.geometry_of(FRAME))
    assert targets["mask"].dtype == np.uint8
    assert set(np.unique(targets["mask"])) == {0, 1, 2, 3, 4}
    lanes = targets["lanes"]
    assert (lanes.shape, lanes.dtype) == ((4, 42), np.float32)
    assert lanes[:, PRESENT].all()
    # Of 354 rows of the frame, x of the frame are 320 / 1640 as many pixels.
    y = 590 - np.arange(36) * 354 / 35
    for lane, foot in zip(lanes, (-1500, -420, 400, 1480), strict=True):
        x = (820 + foot * (y - 260) / 330) * 320 / 1640
        inside = np.flatnonzero((x >= 0) & (x < 320) & (y >= 300))
        start = inside[0]
        assert round(lane[START_Y] * 35) == start
        # From the lowest row on which it is in the image up to its last point at y = 309, or 299 where the image's edge comes first.
        assert abs(lane[LENGTH] - len(inside)) <= 1
        np.testing.assert_allclose(lane[XS][inside[:-1]], x[inside[:-1]], atol=0.05)
        rise = (inside[-2] - start) * 128 / 35
        assert lane[THETA] == pytest.approx(math.atan2(rise, x[inside[-2]] - x[start]) / math.pi, abs=0.01)


def test_points_left_of_the_frame_do_not_count() -> None:
    geometry = MICRO.geometry_of(FRAME)
    lane = road()[1]
    outside = Lane(np.concatenate([[[-50.0, 589.0], [-20.0, 588.0]], lane.points]))
    for key, value in MICRO.encode_targets([lane], geometry).items():
        np.testing.assert_array_equal(MICRO.encode_targets([outside], geometry)[key], value)


def test_points_above_the_frame_do_not_count() -> None:
    geometry = MICRO.geometry_of(FRAME)
    lane = road()[1]
    outside = Lane(np.concatenate([lane.points, [[900.0, -5.0], [950.0, -200.0]]]))
    for key, value in MICRO.encode_targets([lane], geometry).items():
        np.testing.assert_array_equal(MICRO.encode_targets([outside], geometry)[key], value)


def test_lanes_of_fewer_points_than_upstream_takes_are_none() -> None:
    two = Lane(np.array([[400.0, 580.0], [700.0, 330.0]]))
    three = Lane(np.array([[400.0, 580.0], [500.0, 500.0], [700.0, 330.0]]))
    geometry = MICRO.geometry_of(FRAME)
    assert MICRO.encode_targets([two, three], geometry)["lanes"][:, PRESENT].sum() == 1
    assert build(label_points=2).encode_targets([two, three], geometry)["lanes"][:, PRESENT].sum() == 2


@settings(max_examples=20, deadline=None)
@given(
    offset=st.floats(-300, 300),
    bend=st.floats(-300, 300),
    shift=st.tuples(st.floats(-30, 30), st.floats(-15, 15)),
    scale=st.floats(0.8, 1.2),
    mirror=st.booleans(),
)
def test_labels_come_back_from_perfect_outputs(
    offset: float, bend: float, shift: tuple[float, float], scale: float, mirror: bool
) -> None:
    geometry = moved(MICRO, shift, scale, mirror)
    labels = road(offset, bend)
    targets = stack_targets([MICRO.encode_targets(labels, geometry)])
    (decoded,) = MICRO.decode(outputs_of(MICRO, targets["lanes"]), [geometry])
    # Two that run beside each other all the way are one lane to the suppression.
    assert 1 <= len(decoded) <= int(targets["lanes"][0, :, PRESENT].sum())
    for lane in decoded:
        assert len(lane) >= 2
        assert lane.points[0, 1] >= lane.points[-1, 1]
        assert lane.score == pytest.approx(1.0, abs=1e-4)
        # Lines and parabolas are cubic splines: they come back but for single precision, and for what ends bring along that are
        # prolonged by up to 1 % of the frame's height.
        near = (lane.points[:, 1] - 260.0) / 330.0
        known = (near > 40 / 330) & (lane.points[:, 1] <= 589)
        x = [820 + offset + foot * near + bend * (1 - near) ** 2 for foot in (-1500, -420, 400, 1480)]
        apart = min((np.abs(lane.points[known, 0] - line[known]) for line in x), key=np.max)
        assert np.median(apart) < 2.0
        assert np.max(apart) < 20.0


@pytest.mark.parametrize("points", HOSTILE.values(), ids=HOSTILE)
def test_hostile_lanes_encode_to_finite_targets_of_the_usual_shape(points: Any) -> None:
    hostile = hostile_lanes(points)
    for lanes in (hostile, hostile * 9, [*road(), *hostile]):
        targets = MICRO.encode_targets(lanes, MICRO.geometry_of(FRAME))
        assert targets["lanes"].shape == (4, 42)
        assert np.isfinite(targets["lanes"]).all()
        assert targets["mask"].shape == (128, 320)


# Decoding


def candidates(*lanes: tuple[float, float, float, float]) -> dict[str, Tensor]:
    """Upright lanes of (score, start in rows, length in rows, x in network pixels), then background."""
    outputs = torch.zeros(1, 1, 64, 42)
    outputs[..., 0] = 20.0
    for number, (score, start, length, x) in enumerate(lanes):
        outputs[0, 0, number, :2] = torch.tensor([0.0, math.log(score / (1 - score))])
        outputs[0, 0, number, START_Y], outputs[0, 0, number, LENGTH] = start / 35, length / 35
        outputs[0, 0, number, XS] = x / 319
    return {"lanes": outputs}


def found(detector: CLRNet, outputs: dict[str, Tensor]) -> list[tuple[float, int, int, int]]:
    """Score, x in network pixels, first and last row of the frame of each decoded lane."""
    geometry = detector.geometry_of(FRAME)
    (lanes,) = detector.decode(outputs, [geometry])
    return [
        (
            round(float(lane.score or 0), 3),
            round(float(lane.points[:, 0].mean()) * 320 / 1640),
            round(float(lane.points[0, 1])),
            round(float(lane.points[-1, 1])),
        )
        for lane in lanes
    ]


def test_only_lanes_that_are_likely_enough_are_predicted() -> None:
    outputs = candidates((0.9, 0, 36, 40), (0.7, 0, 36, 120), (0.5, 0, 36, 200), (0.3, 0, 36, 280))
    assert [lane[:2] for lane in found(build(threshold=0.6), outputs)] == [(0.9, 40), (0.7, 120)]
    assert [lane[0] for lane in found(build(threshold=0.2), outputs)] == [0.9, 0.7, 0.5, 0.3]


def test_the_last_stages_lanes_are_predicted() -> None:
    stages = [candidates((0.9, 0, 36, x))["lanes"] for x in (40, 120, 200)]
    assert [lane[:2] for lane in found(MICRO, {"lanes": torch.cat(stages, dim=1)})] == [(0.9, 200)]


def test_of_lanes_beside_each_other_the_likeliest_is_predicted_and_at_most_so_many() -> None:
    outputs = candidates(
        (0.6, 0, 36, 40), (0.9, 0, 36, 55), (0.8, 0, 36, 120), (0.7, 0, 36, 200), (0.65, 0, 36, 160), (0.5, 0, 36, 300)
    )
    assert [lane[:2] for lane in found(MICRO, outputs)] == [(0.9, 55), (0.8, 120), (0.7, 200), (0.65, 160)]
    assert [lane[:2] for lane in found(build(max_lanes=2), outputs)] == [(0.9, 55), (0.8, 120)]


def test_a_lane_that_starts_high_is_prolonged_to_the_bottom_or_the_edge_where_that_is_asked_for() -> None:
    outputs = candidates((0.9, 12, 10, 160))
    ((_, _, first, last),) = found(build(prolonged=36), outputs)
    assert first >= 580
    assert found(build(prolonged=0), outputs)[0][2:] == (pytest.approx(590 - 12 * 354 / 35, abs=8), last)
    assert found(build(prolonged=4), outputs)[0][2:] == (pytest.approx(590 - 8 * 354 / 35, abs=8), last)
    # Left of the image on row 5 and below: it goes down to row 6.
    outputs["lanes"][0, 0, 0, XS][:6] = -0.1
    assert found(build(prolonged=36), outputs)[0][2:] == (pytest.approx(590 - 6 * 354 / 35, abs=8), last)


def test_a_lane_is_written_a_hundredth_of_the_frames_height_beyond_its_last_row() -> None:
    ((*_, last),) = found(build(first_row=236, row_step=1), candidates((0.9, 0, 10, 160)))
    assert last == math.ceil(590 - 9 * 354 / 35 - 0.01 * 590)


@pytest.mark.parametrize("length", [0.0, 1.0, -3.0, -80.0, math.nan, -math.inf])
def test_a_lane_without_length_is_not_predicted(length: float) -> None:
    assert found(MICRO, candidates((0.9, 0, length, 160), (0.8, 0, 36, 40))) == [(0.8, 40, 588, 236)]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_places_that_are_no_numbers_are_passed_over(value: float) -> None:
    outputs = candidates((0.9, 0, 36, 160))
    outputs["lanes"][0, 0, 0, XS][10:13] = value
    (lanes,) = MICRO.decode(outputs, [MICRO.geometry_of(FRAME)])
    np.testing.assert_allclose(lanes[0].points[:, 0], 160 * 1640 / 320, atol=0.01)


def test_a_network_that_says_nothing_but_nonsense_finds_nothing() -> None:
    outputs = {"lanes": torch.full((2, 3, 64, 42), math.nan)}
    assert MICRO.decode(outputs, [MICRO.geometry_of(FRAME)] * 2) == [[], []]
