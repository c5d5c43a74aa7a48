"""Lanes become UFLDv2's labels, and its outputs lanes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.base import stack_targets
from detectors.parts.row_wise import Anchors
from detectors.registry import detector_meta
from detectors.ufldv2 import UFLDv2
from harness.lanes import Lane
from tests.detectors.roads import FRAME, HOSTILE, augmented, crossing, hostile_lanes, noise, road, straight, variant
from tests.detectors.small.ufldv2 import ARCHITECTURES, DETECTORS, perfect_outputs

# Labels


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
@settings(max_examples=40, deadline=None)
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
    targets = stack_targets([detector.encode_targets(road(offset, bend), geometry)])
    (decoded,) = detector.decode(perfect_outputs(detector, targets), [geometry])
    polylines = [geometry.to_network(lane.points) for lane in road(offset, bend)]
    assert len(decoded) == sum(predictable(detector, targets, slot) for slot in range(4))
    for lane in decoded:
        assert len(lane) >= 2
        assert lane.points[0, 1] >= lane.points[-1, 1]
        assert lane.score == pytest.approx(1.0)
        points = geometry.to_network(lane.points)
        assert min(deviation(points, polyline, detector) for polyline in polylines) <= 1.0


def predictable(detector: UFLDv2, targets: dict[str, torch.Tensor], slot: int) -> bool:
    """Whether a slot's label covers enough of its anchors to be predicted as a lane."""
    by_row = slot in detector.options.row_lanes
    exists = targets["row" if by_row else "column"][0, :, slot] >= 0
    share = detector.options.row_share if by_row else detector.options.column_share
    return int(exists.sum()) >= 2 and int(exists.sum()) > share * len(exists)


def deviation(points: np.ndarray, polyline: np.ndarray, detector: UFLDv2) -> float:
    """The largest distance, along the anchor that a point lies on, from a point to a polyline, as a share of the allowed one.

    Allowed is half a cell and .01 px; with labels shared between cells .01 px, but half a cell in the outermost cell.
    """
    worst = 0.0
    for point in points:
        families = [a for a in detector.families.values() if np.isclose(a.lines, point[a.axis], atol=1e-3).any()]
        found = [(anchors, crossing(polyline, nearest_line(anchors, point), anchors.axis)) for anchors in families]
        shares = [
            abs(place - point[1 - a.axis]) / allowed(detector, a, place) for a, place in found if place is not None
        ]
        worst = max(worst, min(shares, default=math.inf))
    return worst


def nearest_line(anchors: Anchors, point: np.ndarray) -> float:
    return float(anchors.lines[np.abs(anchors.lines - point[anchors.axis]).argmin()])


def allowed(detector: UFLDv2, anchors: Anchors, place: float) -> float:
    position = (place - anchors.origin) / anchors.width
    exact = detector.options.labels == "fraction" and 0.5 <= position <= anchors.cells - 0.5
    return 0.01 if exact else 0.5 * anchors.width + 0.01


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_targets_are_where_the_lane_crosses_the_anchors_and_only_there(name: str) -> None:
    detector = DETECTORS[name]
    geometry = augmented(detector, 3.0, (10.0, -5.0), 0.9, False)
    targets = detector.encode_targets(road(), geometry)
    for family, anchors in detector.families.items():
        assert targets[family].dtype == np.float32
        assert targets[family].shape == (len(anchors.lines), 4)
        for slot, lane in enumerate(road()):
            polyline = geometry.to_network(lane.points)
            for line, position in zip(anchors.lines, targets[family][:, slot], strict=True):
                place = crossing(polyline, line, anchors.axis)
                expected = -1.0 if place is None else (place - anchors.origin) / anchors.width
                inside = 0 <= expected <= anchors.cells - 1
                assert position == (pytest.approx(expected, abs=1e-3) if inside else -1.0)


def test_a_lane_that_ends_early_goes_on_to_the_last_row_where_labels_are_prolonged() -> None:
    early = straight(400, first=450.0)
    plain, longer = (
        UFLDv2(variant("ufldv2_micro", **ARCHITECTURES["fully connected"], prolong=prolong), "culane")
        for prolong in (False, True)
    )
    geometry = plain.geometry_of(FRAME)
    before, after = (detector.encode_targets([early], geometry) for detector in (plain, longer))
    whole = plain.encode_targets([straight(400)], geometry)
    kept = before["row"] >= 0
    np.testing.assert_array_equal(after["row"][kept], before["row"][kept])
    rows = np.linspace(0.42, 0.99, 32) * 590
    np.testing.assert_allclose(after["row"][rows < 589], whole["row"][rows < 589], atol=0.02)
    np.testing.assert_array_equal(after["column"], before["column"])
    configurations = detector_meta("ufldv2_resnet18").configurations
    assert configurations["culane"].architecture == {"prolong": True}
    assert configurations["tusimple"].architecture["prolong"]


LABELS = HOSTILE | {"on anchors": [[[400, y] for y in np.linspace(0.99, 0.42, 32) * 590]]}


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
@pytest.mark.parametrize("points", LABELS.values(), ids=LABELS)
def test_hostile_lanes_encode_to_finite_targets_of_the_usual_shape(name: str, points: Any) -> None:
    detector = DETECTORS[name]
    hostile = hostile_lanes(points)
    expected = detector.encode_targets(road(), detector.geometry_of(FRAME))
    for lanes in (hostile, hostile * 9, [*road(), *hostile]):
        targets = detector.encode_targets(lanes, detector.geometry_of(FRAME))
        for family, anchors in detector.families.items():
            assert targets[family].shape == expected[family].shape
            assert targets[family].dtype == np.float32
            present = targets[family] != -1
            assert ((targets[family][present] >= 0) & (targets[family][present] <= anchors.cells - 1)).all()


def test_points_that_are_no_numbers_count_as_absent() -> None:
    detector = DETECTORS["micro"]
    clean = straight(400)
    holed = Lane(np.insert(clean.points, 7, [[math.nan, 500.0], [400.0, math.inf]], axis=0))
    (expected, measured) = (
        detector.encode_targets([lane], detector.geometry_of(FRAME))["row"] for lane in (clean, holed)
    )
    np.testing.assert_array_equal(measured, expected)


def test_a_row_that_is_crossed_twice_counts_where_the_lane_is_nearer() -> None:
    detector = DETECTORS["micro"]
    lane = Lane(np.array([[300, 580], [400, 300], [500, 580]], dtype=np.float32))
    targets = detector.encode_targets([lane], detector.geometry_of(FRAME))["row"][:, 1]
    assert targets.max() <= 400 / 1640 * (detector.options.row_cells - 1)


# Decoding


def test_decoding_is_the_local_expectation_of_upstream() -> None:
    detector = DETECTORS["fully connected"]
    generator = torch.Generator().manual_seed(2)
    outputs = {key: torch.randn(value.shape, generator=generator) for key, value in detector(noise(1)).items()}
    for key in outputs:
        if key.endswith("existence"):
            outputs[key][:, 1] += 2.0
    geometry = detector.geometry_of(FRAME)
    (decoded,) = detector.decode(outputs, [geometry])
    assert len(decoded) == 4
    for slot, lane in enumerate(decoded):
        family = "row" if slot in (1, 2) else "column"
        points, scores = [], []
        count, extent = (32, 1640) if family == "row" else (20, 590)
        lines = np.linspace(0.42, 0.99, 32) * 590 if family == "row" else np.linspace(0, 1, 20) * 1640
        for anchor in range(count):
            exists = outputs[f"{family}_existence"][0, :, anchor, slot].softmax(0)[1]
            if exists <= 0.5:
                continue
            logits = outputs[f"{family}_location"][0, :, anchor, slot]
            best = int(logits.argmax())
            near = list(range(max(0, best - 1), min(len(logits) - 1, best + 1) + 1))
            place = float((logits[near].softmax(0) * torch.tensor(near)).sum()) + 0.5
            place = place / (len(logits) - 1) * extent
            points.append((place, lines[anchor]) if family == "row" else (lines[anchor], place))
            scores.append(float(exists))
        expected = np.array(points)
        expected = expected[::-1] if expected[0, 1] < expected[-1, 1] else expected
        np.testing.assert_allclose(lane.points, expected, atol=0.01)
        assert lane.score == pytest.approx(np.mean(scores), abs=1e-5)


def test_on_tusimple_all_lanes_are_decoded_from_rows_over_a_wide_stretch() -> None:
    with torch.device("meta"):
        detector = UFLDv2(detector_meta("ufldv2_resnet18"), "tusimple")
    generator = torch.Generator().manual_seed(3)
    location, existence = (torch.randn(1, choices, 56, 4, generator=generator) * 3 for choices in (100, 2))
    existence[0, 0] = torch.where(torch.arange(56)[:, None] < torch.tensor([3, 4, 30, 56]), -9.0, 9.0)
    (decoded,) = detector.decode(
        {"row_location": location, "row_existence": existence}, [detector.geometry_of((720, 1280))]
    )
    assert [len(lane) for lane in decoded] == [4, 30, 56]  # more than three points
    for slot, lane in zip((1, 2, 3), decoded, strict=True):
        for (x, y), anchor in zip(lane.points[::-1], range(56), strict=False):
            logits = location[0, :, anchor, slot]
            near = torch.arange(max(0, int(logits.argmax()) - 14), min(99, int(logits.argmax()) + 14) + 1)
            place = float((logits[near].softmax(0) * near).sum()) + 0.5
            assert (x, y) == (pytest.approx(place / 99 * 1280, abs=0.01), pytest.approx(160 + 10 * anchor, abs=0.01))


def test_lanes_below_the_confidence_threshold_are_not_predicted() -> None:
    meta = variant("ufldv2_micro")
    configuration = meta.configurations["culane"]
    recipe = configuration.recipe.model_copy(update={"confidence_threshold": 0.9})
    strict_meta = meta.model_copy(
        update={"configurations": {"culane": configuration.model_copy(update={"recipe": recipe})}}
    )
    detector, strict = UFLDv2(meta, "culane"), UFLDv2(strict_meta, "culane")
    geometry = detector.geometry_of(FRAME)
    outputs = perfect_outputs(detector, stack_targets([detector.encode_targets(road(), geometry)]))
    outputs["row_existence"][..., 1] /= 20 / math.log(4)  # two logits that far apart: a probability of 16 / 17
    outputs["row_existence"][..., 2] /= 20 / math.log(2)  # 4 / 5
    (all_lanes,), (sure_lanes,) = detector.decode(outputs, [geometry]), strict.decode(outputs, [geometry])
    assert [lane.score for lane in all_lanes] == pytest.approx([1.0, 16 / 17, 4 / 5, 1.0])
    assert [lane.score for lane in sure_lanes] == pytest.approx([1.0, 16 / 17, 1.0])


def test_a_lane_on_too_few_anchors_is_not_predicted() -> None:
    detector = DETECTORS["fully connected"]
    geometry = detector.geometry_of(FRAME)
    outputs = perfect_outputs(detector, stack_targets([detector.encode_targets(road(), geometry)]))
    existence = outputs["row_existence"]
    existence[:, 1, :, 1:3] = torch.where(torch.arange(32) < 16, 20.0, -40.0).view(1, -1, 1)
    existence[:, 1, 16, 2] = 20.0  # slot 2 has 17 of 32 anchors, slot 1 only 16
    existence[:, 0] = 0.0
    (decoded,) = detector.decode(outputs, [geometry])
    by_row = [lane for lane in decoded if len(lane) in (16, 17)]
    assert [len(lane) for lane in by_row] == [17]


def test_a_lane_on_one_anchor_is_none_however_few_are_asked_for() -> None:
    detector = UFLDv2(variant("ufldv2_micro", row_share=0.0), "culane").eval()
    geometry = detector.geometry_of(FRAME)
    outputs = perfect_outputs(detector, stack_targets([detector.encode_targets(road(), geometry)]))
    for slot in range(4):
        outputs["row_existence"][:, 1, slot:, slot] = -60.0  # on no anchor, on one, two and three
        outputs["row_existence"][:, 1, :slot, slot] = 60.0
    (decoded,) = detector.decode(outputs, [geometry])
    assert [len(lane) for lane in decoded] == [2, 3]


def test_no_lane_decodes_to_no_lane() -> None:
    for detector in DETECTORS.values():
        targets = stack_targets([detector.encode_targets([], detector.geometry_of(FRAME))] * 3)
        assert detector.decode(perfect_outputs(detector, targets), [detector.geometry_of(FRAME)] * 3) == [[], [], []]
