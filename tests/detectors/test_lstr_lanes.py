"""Lanes become LSTR's labels, and its curves lanes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.base import stack_targets
from detectors.lstr import LSTR
from detectors.registry import detector_meta
from harness.lanes import Lane
from tests.detectors.roads import FRAME, HOSTILE, augmented, batch_of, crossing, hostile_lanes, road, variant
from tests.detectors.small.lstr import MICRO, fitted_outputs

# Labels


def test_labels_of_tusimple_become_upstreams_shares_of_the_frame() -> None:
    detector = LSTR(detector_meta("lstr_resnet18s"), "tusimple")
    rows = np.arange(160, 720, 10)
    left = Lane(np.stack([700.0 - rows / 2, rows], axis=1)[::-1])
    right = Lane(np.stack([600.0 + rows[20:40], rows[20:40]], axis=1)[::-1])
    targets = detector.encode_targets([left, right], detector.geometry_of((720, 1280)))
    assert {name: (value.shape, value.dtype) for name, value in targets.items()} == {
        "x": ((7, 73), np.float32),
        "ends": ((7, 2), np.float32),
    }
    expected = np.full((7, 73), -1.0)
    expected[0, 16:72] = (700.0 - rows / 2) / 1280
    expected[1, 36:56] = (600.0 + rows[20:40]) / 1280
    np.testing.assert_allclose(targets["x"], expected, atol=1e-6)
    # The original teaches all lanes of a frame to end where the furthest one does.
    np.testing.assert_allclose(targets["ends"][:2], np.array([[160, 710], [160, 550]]) / 720, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(
    offset=st.floats(-300, 300),
    rotation=st.floats(-8, 8),
    shift=st.tuples(st.floats(-30, 30), st.floats(-15, 15)),
    scale=st.floats(0.8, 1.2),
    mirror=st.booleans(),
)
def test_targets_are_where_the_lanes_cross_the_rows_and_only_there(
    offset: float, rotation: float, shift: tuple[float, float], scale: float, mirror: bool
) -> None:
    geometry = augmented(MICRO, rotation, shift, scale, mirror)
    targets = MICRO.encode_targets(road(offset, 80.0), geometry)
    expected = []
    for lane in road(offset, 80.0):
        polyline = geometry.to_network(lane.points)
        # The network sees rows 236 to 590 and columns 0 to 1640 of the plain frame.
        places = [crossing(polyline, (row + 0.5) / 354 * 128 - 0.5) for row in np.linspace(0, 354, 37)]
        shares = [-1.0 if x is None else (x + 0.5 - 320 / 1640 / 2) / 320 for x in places]
        found = np.array([share if 0 <= share <= 1 else -1.0 for share in shares])
        if (found >= 0).sum() >= 2:
            expected.append(found)
    expected.sort(key=lambda found: -(found >= 0).sum())
    np.testing.assert_allclose(targets["x"][: len(expected)], np.array(expected).reshape(-1, 37), atol=1e-4)
    assert (targets["x"][len(expected) :] == -1).all()
    rows = np.linspace(0, 1, 37)
    for found, (far, near) in zip(expected, targets["ends"], strict=False):
        assert -1 / 36 <= far - rows[found >= 0].min() <= 1e-6
        assert -1e-6 <= near - rows[found >= 0].max() <= 1 / 36


def test_more_lanes_than_queries_leave_the_shortest_out() -> None:
    rows = [np.linspace(580, 300 + 20 * index, 20) for index in range(10)]
    lanes = [Lane(np.stack([np.full(20, 100.0 + 150 * index), y], axis=1)) for index, y in enumerate(rows)]
    x = MICRO.encode_targets(lanes[::-1], MICRO.geometry_of(FRAME))["x"]
    assert sorted(round(float(lane.max()) * 1640) for lane in x) == [100 + 150 * index for index in range(7)]


LABELS = HOSTILE | {"on rows": [[[400, y] for y in np.linspace(590, 236, 37)]]}


@pytest.mark.parametrize("points", LABELS.values(), ids=LABELS)
def test_hostile_lanes_encode_to_finite_targets_and_losses(points: Any) -> None:
    hostile = hostile_lanes(points)
    geometry = MICRO.geometry_of(FRAME)
    for lanes in (hostile, hostile * 9, [*road(), *hostile]):
        targets = MICRO.encode_targets(lanes, geometry)
        assert {name: (value.shape, value.dtype) for name, value in targets.items()} == {
            "x": ((7, 37), np.float32),
            "ends": ((7, 2), np.float32),
        }
        present = targets["x"] != -1
        assert ((targets["x"][present] >= 0) & (targets["x"][present] <= 1)).all()
        assert ((targets["ends"] >= 0) & (targets["ends"] <= 1)).all()
        assert (present.any(axis=1) == (targets["ends"][:, 1] > targets["ends"][:, 0])).all()
        batch = batch_of(MICRO, [lanes])
        with torch.no_grad():
            assert all(torch.isfinite(term) for term in MICRO.losses(MICRO(batch.images), batch).values())


# Decoding


@settings(max_examples=40, deadline=None)
@given(
    offset=st.floats(-300, 300),
    bend=st.floats(-300, 300),
    rotation=st.floats(-6, 6),
    shift=st.tuples(st.floats(-30, 30), st.floats(-15, 15)),
    scale=st.floats(0.8, 1.2),
    mirror=st.booleans(),
)
def test_curves_fitted_to_labels_decode_to_the_labels(
    offset: float, bend: float, rotation: float, shift: tuple[float, float], scale: float, mirror: bool
) -> None:
    geometry = augmented(MICRO, rotation, shift, scale, mirror)
    targets = stack_targets([MICRO.encode_targets(road(offset, bend), geometry)])
    outputs = fitted_outputs(targets)
    (decoded,) = MICRO.decode(outputs, [geometry])
    labels = [geometry.to_network(lane.points) for lane in road(offset, bend)]
    rows = [int(count) for count in (targets["x"][0] >= 0).sum(dim=-1) if count]
    assert len(decoded) == len(rows)
    # A curve of four coefficients is determined, also between the last row and the end, by a few rows more than that.
    for lane in (lane for lane, count in zip(decoded, rows, strict=True) if count >= 6):
        assert lane.points[0, 1] >= lane.points[-1, 1]
        assert lane.score == pytest.approx(1.0)
        points = geometry.to_network(lane.points)
        found = [[crossing(label, y) for y in points[:, 1]] for label in labels]
        # A quarter of a pixel is 1.3 px of the frame; the outermost points may lie a hair beyond the label's end.
        errors = [
            [abs(x - place) for place, x in zip(places, points[:, 0], strict=True) if place is not None]
            for places in found
        ]
        assert min(max(e) for e in errors if len(e) >= len(points) - 2) < 0.25


def test_a_lane_is_decoded_as_far_as_its_label_goes() -> None:
    geometry = MICRO.geometry_of(FRAME)
    lanes = [Lane(np.array([[600.0, 563.0], [700.0, 341.0]])), Lane(np.array([[900.0, 589.0], [1000.0, 420.0]]))]
    targets = stack_targets([MICRO.encode_targets(lanes, geometry)])
    (decoded,) = MICRO.decode(fitted_outputs(targets), [geometry])
    for lane, label in zip(sorted(decoded, key=lambda lane: lane.points[0, 0]), lanes, strict=True):
        np.testing.assert_allclose(lane.points[[0, -1]], label.points, atol=0.5)


def test_decoding_keeps_what_is_sure_enough_and_at_most_so_many() -> None:
    geometry = MICRO.geometry_of(FRAME)
    outputs = fitted_outputs(stack_targets([MICRO.encode_targets(road(), geometry)]))
    scores = [0.95, 0.4, 0.7, 0.8]
    outputs["logits"][0, 0, :4, 1] = torch.tensor([math.log(score / (1 - score)) for score in scores])
    outputs["logits"][0, 0, :4, 0] = 0.0

    def kept(**options: Any) -> list[float]:
        (lanes,) = LSTR(variant("lstr_micro", **options), "culane").decode(outputs, [geometry])
        return [round(lane.score or 0.0, 3) for lane in lanes]

    assert kept() == [0.95, 0.7, 0.8]
    assert kept(threshold=0.75) == [0.95, 0.8]
    assert kept(threshold=0.0, max_lanes=3) == [0.95, 0.7, 0.8]
    assert kept(max_lanes=1) == [0.95]


def test_what_is_decoded_is_the_last_decoder_layers() -> None:
    geometry = MICRO.geometry_of(FRAME)
    last = fitted_outputs(stack_targets([MICRO.encode_targets(road(), geometry)]))
    first = fitted_outputs(stack_targets([MICRO.encode_targets(road(200.0)[1:3], geometry)]))
    both = {name: torch.cat([first[name], last[name]], dim=1) for name in last}
    (expected,), (decoded,) = MICRO.decode(last, [geometry]), MICRO.decode(both, [geometry])
    assert [lane.points.tolist() for lane in decoded] == [lane.points.tolist() for lane in expected]


def test_curves_that_lie_nowhere_are_no_lanes() -> None:
    geometry = MICRO.geometry_of(FRAME)
    outputs = fitted_outputs(stack_targets([MICRO.encode_targets(road(), geometry)]))
    curves = outputs["curves"][0, 0]
    curves[0, :2] = torch.tensor([0.8, 0.3])  # ends in the wrong order
    curves[1, 5] += 3.0  # beyond the right edge
    curves[2, :2] = torch.tensor([1.2, 1.4])  # below the lower edge
    curves[3, 2] = math.nan
    assert MICRO.decode(outputs, [geometry]) == [[]]


def test_points_beyond_the_sides_are_left_out() -> None:
    geometry = MICRO.geometry_of(FRAME)
    outputs = fitted_outputs(stack_targets([MICRO.encode_targets(road()[1:2], geometry)]))
    outputs["curves"][0, 0, 0] = torch.tensor([0.2, 1.0, 0.0, -0.5, 0.0, -0.5, 1.0, 0.0])  # x = y - .5
    ((lane,),) = MICRO.decode(outputs, [geometry])
    assert lane.points[:, 0].min() >= 0
    assert lane.points[-1, 1] == pytest.approx(236 + 354 / 2, abs=354 / 36)
    assert lane.points[0].tolist() == pytest.approx([820, 590], abs=0.1)
