"""Lanes become RESA's masks, and its outputs lanes."""

from __future__ import annotations

import itertools
import math
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st

from detectors.base import stack_targets
from detectors.resa import RESA
from harness.lanes import Geometry, Lane
from tests.detectors.roads import FRAME, HOSTILE, augmented, distance, hostile_lanes, road, straight, variant
from tests.detectors.small.resa import ARCHITECTURES, DETECTORS, perfect_outputs

# Labels


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
@settings(max_examples=25, deadline=None)
@example(offset=-231.0, bend=0.0, rotation=0.0, shift=(-30.0, 12.0), scale=0.9375, mirror=False)
@example(offset=-119.0, bend=0.0, rotation=1.0, shift=(-30.0, -13.0), scale=1.15625, mirror=False)
@example(offset=0.0, bend=0.0, rotation=7.25, shift=(2.0, -1.5), scale=0.80078125, mirror=False)
@given(
    offset=st.floats(-300, 300),
    bend=st.floats(-300, 300),
    rotation=st.floats(-8, 8),
    shift=st.tuples(st.floats(-30, 30), st.floats(-15, 15)),
    scale=st.floats(0.8, 1.2),
    mirror=st.booleans(),
)
def test_perfect_outputs_decode_to_the_labels(
    name: str, offset: float, bend: float, rotation: float, shift: tuple[float, float], scale: float, mirror: bool
) -> None:
    detector = DETECTORS[name]
    geometry = augmented(detector, rotation, shift, scale, mirror)
    labels = road(offset, bend)
    targets = stack_targets([detector.encode_targets(labels, geometry)])
    (decoded,) = detector.decode(perfect_outputs(detector, targets), [geometry])
    assert len(decoded) <= int(targets["existence"].sum())
    polylines = [geometry.to_network(lane.points) for lane in labels]
    # Half the drawn width and a pixel of rounding, and half the diagonal of a place of the map; half a place more where a lane
    # leaves the map, which cuts its mask off there.
    place = 8 / 2**detector.options.upsamplings
    bound = detector.options.lane_width / 2 + 1 + place / math.sqrt(2)
    width = geometry.network[1]
    for lane in decoded:
        assert len(lane) >= 2
        assert lane.points[0, 1] >= lane.points[-1, 1]
        assert lane.score == pytest.approx(1.0)
        points = geometry.to_network(lane.points)
        far = [point for point in points if vanishing(point, geometry, offset, bend) > 12]
        for point in far:
            cut_off = not place < point[0] < width - 1 - place
            assert min(distance(point[None], polyline) for polyline in polylines) <= bound + cut_off * place / 2


def vanishing(point: np.ndarray, geometry: Geometry, offset: float, bend: float) -> float:
    """Distance in network pixels of a point from where the lanes of a road end: there masks overlap."""
    ends = geometry.to_network(np.stack([lane.points[-1] for lane in road(offset, bend)]))
    return float(np.hypot(*(ends - point).T).min())


@pytest.mark.parametrize(("name", "bound"), [("full resolution", 0.5), ("micro", 0.6), ("stride 8, six slots", 1.5)])
def test_without_augmentation_every_lane_comes_back_within_a_bound_in_network_pixels(name: str, bound: float) -> None:
    detector = DETECTORS[name]
    geometry = detector.geometry_of(FRAME)
    for offset, bend in ((0.0, 0.0), (150.0, 200.0), (-80.0, -250.0)):
        labels = road(offset, bend)
        targets = stack_targets([detector.encode_targets(labels, geometry)])
        (decoded,) = detector.decode(perfect_outputs(detector, targets), [geometry])
        assert len(decoded) == 4
        for lane, label in zip(decoded, labels, strict=True):
            polyline = geometry.to_network(label.points)
            assert np.mean([distance(point[None], polyline) for point in geometry.to_network(lane.points)]) <= bound


def test_masks_are_the_labels_drawn_in_their_slots() -> None:
    detector = DETECTORS["micro"]
    geometry = augmented(detector, 3.0, (10.0, -5.0), 0.9, False)
    targets = detector.encode_targets(road(), geometry)
    assert targets["mask"].dtype == np.uint8
    assert targets["mask"].shape == (128, 320)
    np.testing.assert_array_equal(targets["existence"], np.ones(4, dtype=np.float32))
    polylines = [geometry.to_network(lane.points) for lane in road()]
    reach = detector.options.lane_width / 2
    for y, x in itertools.product(range(0, 128, 6), range(0, 320, 5)):
        away = [distance(np.array([[x, y]]), polyline) for polyline in polylines]
        near = [slot for slot, value in enumerate(away) if value < reach - 1]
        if near:
            assert targets["mask"][y, x] - 1 in near
        elif min(away) > reach + 1.5:
            assert targets["mask"][y, x] == 0


def test_where_lanes_cross_the_inner_one_is_seen() -> None:
    detector = DETECTORS["micro"]
    inner = Lane(np.array([[700.0, 589.0], [700.0, 300.0]]))
    outer = Lane(np.array([[100.0, 589.0], [700.0, 450.0], [700.0, 300.0]]))
    for lanes in ([inner, outer], [outer, inner]):
        targets = detector.encode_targets(lanes, detector.geometry_of(FRAME))
        np.testing.assert_array_equal(targets["existence"], [1, 1, 0, 0])
        x, y = detector.geometry_of(FRAME).to_network([700.0, 350.0])
        assert targets["mask"][round(float(y)), round(float(x))] == 2


@pytest.mark.parametrize(
    ("name", "feet", "expected"),
    [
        ("micro", [-600, 400, 1200, 2200], [1, 1, 1, 1]),
        ("micro", [400], [0, 1, 0, 0]),
        ("micro", [1000, 1200, 2200], [0, 0, 1, 1]),
        ("micro", [], [0, 0, 0, 0]),
        ("stride 8, six slots", [-1200, -600, 400, 1200], [1, 1, 1, 1, 0, 0]),
        ("stride 8, six slots", [1000, 1300, 1600, 1900], [0, 0, 0, 1, 1, 1]),
    ],
)
def test_lanes_exist_from_the_centre_outwards(name: str, feet: list[float], expected: list[int]) -> None:
    detector = DETECTORS[name]
    targets = detector.encode_targets([straight(foot) for foot in feet], detector.geometry_of(FRAME))
    np.testing.assert_array_equal(targets["existence"], expected)
    assert set(np.unique(targets["mask"])) - {0} == {slot + 1 for slot, there in enumerate(expected) if there}


def test_a_lane_outside_the_frame_takes_no_slot() -> None:
    detector = DETECTORS["micro"]
    outside = Lane(np.array([[1800.0, 589.0], [1790.0, 300.0]]))
    targets = detector.encode_targets([outside, straight(1900)], detector.geometry_of(FRAME))
    np.testing.assert_array_equal(targets["existence"], [0, 0, 1, 0])


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
@pytest.mark.parametrize("points", HOSTILE.values(), ids=HOSTILE)
def test_hostile_lanes_encode_to_masks_of_the_usual_shape(name: str, points: Any) -> None:
    detector = DETECTORS[name]
    hostile = hostile_lanes(points)
    slots = detector.options.slots
    for lanes in (hostile, hostile * 9, [*road(), *hostile]):
        targets = detector.encode_targets(lanes, detector.geometry_of(FRAME))
        assert (targets["mask"].shape, targets["mask"].dtype) == ((128, 320), np.uint8)
        assert (targets["existence"].shape, targets["existence"].dtype) == ((slots,), np.float32)
        assert targets["mask"].max() <= slots
        assert set(np.unique(targets["existence"])) <= {0.0, 1.0}


def test_points_that_are_no_numbers_count_as_absent() -> None:
    detector = DETECTORS["micro"]
    clean = straight(400)
    holed = Lane(np.insert(clean.points, 7, [[math.nan, 500.0], [400.0, math.inf]], axis=0))
    expected, measured = (detector.encode_targets([lane], detector.geometry_of(FRAME)) for lane in (clean, holed))
    np.testing.assert_array_equal(measured["mask"], expected["mask"])


# Decoding


def test_decoding_at_full_resolution_is_that_of_upstream() -> None:
    detector = DETECTORS["full resolution"]
    generator = torch.Generator().manual_seed(2)
    coarse = torch.randn(1, 5, 16, 40, generator=generator) * 4
    outputs = {
        "mask": F.interpolate(coarse, size=(128, 320), mode="bicubic"),
        "existence": torch.tensor([[2.0, -1.0, 0.3, 4.0]]),
    }
    geometry = detector.geometry_of(FRAME)
    (decoded,) = detector.decode(outputs, [geometry])
    assert [lane.score for lane in decoded] == pytest.approx([1 / (1 + math.exp(-logit)) for logit in (2.0, 0.3, 4.0)])
    probabilities = outputs["mask"][0].softmax(0).numpy()
    for lane, slot in zip(decoded, (0, 2, 3), strict=True):
        blurred = cv2.blur(probabilities[1 + slot], (5, 5), borderType=cv2.BORDER_REPLICATE)
        expected = []
        for y in range(589, 589 - 33 * 10, -10):
            row = (y - 236 + 0.5) * 128 / 354 - 0.5
            below = min(int(row), 126)
            line = blurred[below] + (row - below) * (blurred[below + 1] - blurred[below])
            if row > 127:
                line = blurred[127]
            if line.max() > 0.3:
                expected.append(((line.argmax() + 0.5) * 1640 / 320 - 0.5, y))
        np.testing.assert_allclose(lane.points, expected, atol=0.01)


def test_only_lanes_that_exist_surely_enough_are_predicted() -> None:
    meta = variant("resa_micro")
    configuration = meta.configurations["culane"]
    recipe = configuration.recipe.model_copy(update={"confidence_threshold": 0.9})
    strict_meta = meta.model_copy(
        update={"configurations": {"culane": configuration.model_copy(update={"recipe": recipe})}}
    )
    detector, strict = RESA(meta, "culane"), RESA(strict_meta, "culane")
    geometry = detector.geometry_of(FRAME)
    outputs = perfect_outputs(detector, stack_targets([detector.encode_targets(road(), geometry)]))
    outputs["existence"] = torch.tensor([[8.0, math.log(16), math.log(4), -1.0]])
    (all_lanes,), (sure_lanes,) = detector.decode(outputs, [geometry]), strict.decode(outputs, [geometry])
    sure = 1 / (1 + math.exp(-8))
    assert [lane.score for lane in all_lanes] == pytest.approx([sure, 16 / 17, 4 / 5])
    assert [lane.score for lane in sure_lanes] == pytest.approx([sure, 16 / 17])


def test_of_more_lanes_than_allowed_the_likeliest_are_predicted() -> None:
    detector = DETECTORS["stride 8, six slots"]
    geometry = detector.geometry_of(FRAME)
    lanes = [straight(foot) for foot in (-2400, -900, 400, 1200, 2500, 4000)]
    outputs = perfect_outputs(detector, stack_targets([detector.encode_targets(lanes, geometry)]))
    outputs["existence"] = torch.tensor([[1.0, 2.0, 3.0, 0.5, 2.5, 1.5]])
    (decoded,) = detector.decode(outputs, [geometry])
    kept = [1 / (1 + math.exp(-logit)) for logit in (1.0, 2.0, 3.0, 2.5, 1.5)]
    assert [lane.score for lane in decoded] == pytest.approx(kept)


def test_a_lane_on_a_single_row_is_not_predicted() -> None:
    detector = DETECTORS["full resolution"]
    geometry = detector.geometry_of(FRAME)
    rows = detector.frame_rows
    mask = torch.full((1, 5, 128, 320), -20.0)
    mask[:, 0] = 0.0
    mask[0, 2, round(rows[10]) - 1 : round(rows[10]) + 1, 100:110] = 20.0  # rows are 3.6 pixels apart
    mask[0, 3, round(rows[12]) - 1 : round(rows[10]) + 1, 200:210] = 20.0
    (decoded,) = detector.decode({"mask": mask, "existence": torch.full((1, 4), 9.0)}, [geometry])
    assert [len(lane) >= 2 for lane in decoded] == [True]
    np.testing.assert_allclose(geometry.to_network(decoded[0].points)[:, 0], 204.5, atol=5)


def test_no_lane_decodes_to_no_lane() -> None:
    for detector in DETECTORS.values():
        targets = stack_targets([detector.encode_targets([], detector.geometry_of(FRAME))] * 3)
        outputs = perfect_outputs(detector, targets)
        assert detector.decode(outputs, [detector.geometry_of(FRAME)] * 3) == [[], [], []]
        outputs["existence"] = -outputs["existence"]  # said to exist, but nowhere to be seen
        assert detector.decode(outputs, [detector.geometry_of(FRAME)] * 3) == [[], [], []]
