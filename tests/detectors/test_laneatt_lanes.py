"""Lanes become LaneATT's labels, and its outputs lanes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.base import stack_targets
from detectors.laneatt import LABELS, LaneATT
from detectors.meta import Form
from harness.lanes import Lane
from tests.detectors.roads import FRAME, HOSTILE, augmented, batch_of, hostile_lanes, road, variant
from tests.detectors.small.laneatt import DETECTOR, SMALL, SUPPRESSING, build


def straight(near: float, far: float, rows: tuple[float, float] = (589.0, 300.0)) -> Lane:
    return Lane(np.stack([np.linspace(near, far, 30), np.linspace(*rows, 30)], axis=1))


# Labels


def test_a_label_is_read_where_upstream_has_its_rows() -> None:
    # Rows are spread from the frame's lower edge, 590, to the upper edge of the view, 236; x is a share of 1640 pixels.
    targets = DETECTOR.encode_targets([straight(400.0, 800.0)], DETECTOR.geometry_of(FRAME))
    assert targets["first"].tolist() == [0] * LABELS
    y = 590 - np.arange(24) * (590 - 236) / 23
    assert targets["count"].tolist() == [(y >= 300).sum(), *[0] * (LABELS - 1)]
    expected = (400 + (589 - y) * 400 / 289) * 320 / 1640
    seen = targets["count"][0]
    np.testing.assert_allclose(targets["places"][0, :seen], expected[:seen], atol=1e-3)


def test_a_lane_that_enters_from_the_side_begins_where_it_is_in_the_image() -> None:
    targets = DETECTOR.encode_targets([straight(-600.0, 800.0)], DETECTOR.geometry_of(FRAME))
    y = 590 - np.arange(24) * (590 - 236) / 23
    x = -600 + (589 - y) * 1400 / 289
    inside = (x >= 0) & (y >= 300)
    assert targets["first"][0] == inside.argmax() > 0
    assert targets["count"][0] == inside.sum()


def test_points_beside_the_frame_bend_nothing_of_what_is_learned() -> None:
    """Upstream's loader drops points left of the frame: an augmentation that moves them into view shows black there."""
    lane = straight(200.0, 800.0)
    beside = Lane(np.concatenate([[[-400.0, 589.0], [-5.0, 585.0]], lane.points[1:]]))
    geometry = augmented(DETECTOR, 3, shift=(20, 0))
    without = Lane(lane.points[1:])
    for name, value in DETECTOR.encode_targets([without], geometry).items():
        np.testing.assert_array_equal(DETECTOR.encode_targets([beside], geometry)[name], value)


def test_points_above_the_frame_are_none_of_a_label() -> None:
    lane = straight(200.0, 800.0)
    above = Lane(np.concatenate([lane.points, [[900.0, -5.0], [950.0, -200.0]]]))
    geometry = DETECTOR.geometry_of(FRAME)
    for name, value in DETECTOR.encode_targets([lane], geometry).items():
        np.testing.assert_array_equal(DETECTOR.encode_targets([above], geometry)[name], value)


def test_of_too_many_lanes_the_longest_are_learned() -> None:
    lanes = [straight(300.0 + 100 * index, 700.0 + 20 * index, (589, 560 - 20 * index)) for index in range(LABELS + 3)]
    geometry = DETECTOR.geometry_of(FRAME)
    found = DETECTOR.encode_targets(lanes, geometry)
    for name, value in DETECTOR.encode_targets(lanes[3:], geometry).items():
        np.testing.assert_array_equal(found[name], value)


@pytest.mark.parametrize("detector", [DETECTOR, SUPPRESSING], ids=["all anchors", "suppressed anchors"])
@pytest.mark.parametrize("points", HOSTILE.values(), ids=HOSTILE)
def test_hostile_lanes_give_targets_of_the_usual_shape_and_finite_losses(detector: LaneATT, points: Any) -> None:
    hostile = hostile_lanes(points)
    batch = batch_of(detector, [hostile, [*road(), *hostile], hostile * 12])
    targets = batch.targets
    assert {name: (tuple(value.shape), value.dtype) for name, value in targets.items()} == {
        "first": ((3, LABELS), torch.int64),
        "count": ((3, LABELS), torch.int64),
        "places": ((3, LABELS, 24), torch.float32),
    }
    terms = detector.losses(detector(batch.images), batch)
    sum(terms.values(), torch.zeros(())).backward()
    assert all(torch.isfinite(term) for term in terms.values())
    gradients = [parameter.grad for parameter in detector.parameters() if parameter.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)
    detector.zero_grad()


# Decoding


def perfect_outputs(detector: LaneATT, targets: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Of each label one anchor that starts below it and says what the label says; all others say that they are none."""
    starts = (detector.get_buffer("anchor_starts") * (detector.options.rows - 1)).round().long()
    images, count = len(targets["count"]), len(starts)
    places = detector.get_buffer("anchor_places").repeat(images, 1, 1)
    logits = torch.tensor([8.0, -8.0]).repeat(images, count, 1)
    lengths = torch.zeros(images, count)
    at_the_bottom = torch.nonzero(starts == 0).flatten()
    for image in range(images):
        for label in torch.nonzero(targets["count"][image]).flatten().tolist():
            anchor = int(at_the_bottom[label])
            logits[image, anchor] = torch.tensor([-4.0, 4.0 - 0.1 * label])
            last = targets["first"][image, label] + targets["count"][image, label]
            lengths[image, anchor] = float(last - starts[anchor])
            places[image, anchor] = targets["places"][image, label]
    return {"logits": logits, "lengths": lengths, "places": places}


@settings(max_examples=25, deadline=None)
@given(
    offset=st.floats(-300, 300),
    bend=st.floats(-300, 300),
    rotation=st.floats(-6, 6),
    shift=st.tuples(st.floats(-30, 30), st.floats(-15, 15)),
    scale=st.floats(0.8, 1.2),
    mirror=st.booleans(),
)
def test_perfect_outputs_decode_to_the_labels(
    offset: float, bend: float, rotation: float, shift: tuple[float, float], scale: float, mirror: bool
) -> None:
    geometry = augmented(DETECTOR, rotation, shift, scale, mirror)
    labels = road(offset, bend)
    targets = stack_targets([DETECTOR.encode_targets(labels, geometry)])
    (decoded,) = DETECTOR.decode(perfect_outputs(DETECTOR, targets), [geometry])
    assert len(decoded) == min(4, int((targets["count"] > 1).sum()))
    polylines = [geometry.to_network(lane.points) for lane in labels]
    for lane in decoded:
        assert lane.points[0, 1] >= lane.points[-1, 1]
        points = geometry.to_network(lane.points)
        # Where a lane leaves the view and comes back, the cubic through its rows may swing; so it may where it is prolonged.
        middle = points[(points[:, 0] > 8) & (points[:, 0] < 311) & (points[:, 1] > 30)][3:-3]
        for point in middle:
            assert min(distance(point, polyline) for polyline in polylines) < 1.5


def distance(point: np.ndarray, polyline: np.ndarray) -> float:
    """Distance from a point to a polyline whose ends are prolonged, segment by segment."""
    found = math.inf
    for index in range(len(polyline) - 1):
        start, along = polyline[index], polyline[index + 1] - polyline[index]
        low = -20.0 if index == 0 else 0.0
        high = 20.0 if index == len(polyline) - 2 else 1.0
        share = np.clip((point - start) @ along / max(along @ along, 1e-12), low, high)
        found = min(found, float(np.hypot(*(point - start - share * along))))
    return found


def test_lanes_are_written_on_rows_of_the_frame_and_prolonged_by_a_hundredth_of_the_view() -> None:
    labels = [straight(400.0, 800.0)]
    geometry = DETECTOR.geometry_of(FRAME)
    outputs = perfect_outputs(DETECTOR, stack_targets([DETECTOR.encode_targets(labels, geometry)]))
    ((lane,),) = DETECTOR.decode(outputs, [geometry])
    y = 590 - np.arange(24) * (590 - 236) / 23
    highest = y[y >= 300].min() - 0.01 * (590 - 236)
    np.testing.assert_allclose(lane.points[:, 1], np.arange(589, highest, -10), atol=1e-3)
    np.testing.assert_allclose(lane.points[:, 0], 400 + (589 - lane.points[:, 1]) * 400 / 289, atol=0.05)
    assert lane.score == pytest.approx(1 / (1 + math.exp(-8)), abs=1e-6)


def test_of_lanes_beside_each_other_the_likelier_is_predicted_and_of_many_the_likeliest() -> None:
    labels = [straight(x, 700 + x / 10) for x in (200.0, 230.0, 600.0, 900.0, 1200.0, 1500.0)]
    geometry = DETECTOR.geometry_of(FRAME)
    outputs = perfect_outputs(DETECTOR, stack_targets([DETECTOR.encode_targets(labels, geometry)]))
    (decoded,) = DETECTOR.decode(outputs, [geometry])
    np.testing.assert_allclose([lane.points[0, 0] for lane in decoded], [200, 600, 900, 1200], atol=2)


@pytest.mark.parametrize(
    ("form", "frame", "top"),
    [("culane", (590, 1640), 236), ("tusimple", (720, 1280), 200), ("llamas", (717, 1276), 280)],
)
def test_points_right_of_the_frame_are_predicted_on_tusimple_alone(
    form: Form, frame: tuple[int, int], top: int
) -> None:
    # The writers of upstream's lib/datasets/{culane,llamas}.py leave out x of 1 and more; that of tusimple.py x below 0 alone.
    detector = LaneATT(variant("laneatt_micro", form, **SMALL), form).eval()
    places = detector.get_buffer("anchor_places")[None].clone()
    anchor = int((detector.get_buffer("anchor_starts") == 0).nonzero()[0])
    places[0, anchor] = 300 + 4.0 * torch.arange(24)
    outputs = {"logits": torch.tensor([8.0, -8.0]).repeat(1, places.shape[1], 1), "places": places}
    outputs["logits"][0, anchor] = torch.tensor([-8.0, 8.0])
    ((lane,),) = detector.decode(
        {**outputs, "lengths": torch.full(places.shape[:2], 24.0)}, [detector.geometry_of(frame)]
    )
    height, width = frame
    rows = (height - lane.points[:, 1]) * 23 / (height - top)
    np.testing.assert_allclose(lane.points[:, 0], (300 + 4 * rows) * width / 320, atol=0.05)
    assert width - 15 < lane.points[:, 0].max() < (width if form != "tusimple" else math.inf)
    # To the upper edge of the view, which is 92 px right of where it began.
    assert (lane.points[-1, 1] < top + 10) == (form == "tusimple")


def test_a_lane_is_predicted_by_the_threshold_the_distance_and_the_number_that_are_asked_for() -> None:
    labels = [straight(x, 700 + x / 10) for x in (200.0, 230.0, 600.0, 900.0, 1200.0)]
    geometry = DETECTOR.geometry_of(FRAME)
    outputs = perfect_outputs(DETECTOR, stack_targets([DETECTOR.encode_targets(labels, geometry)]))
    # 30 px of the frame are 6 of the network, and they converge.
    (near,) = build(suppression=2.0, max_lanes=5).eval().decode(outputs, [geometry])
    np.testing.assert_allclose([lane.points[0, 0] for lane in near], [200, 230, 600, 900, 1200], atol=2)
    (few,) = build(max_lanes=2).eval().decode(outputs, [geometry])
    np.testing.assert_allclose([lane.points[0, 0] for lane in few], [200, 600], atol=2)
    unsure = {
        **outputs,
        "logits": torch.where(outputs["logits"].abs() < 5, outputs["logits"].sign() * -0.3, outputs["logits"]),
    }
    for threshold, count in ((0.2, 4), (0.4, 0)):
        detector = LaneATT(variant("laneatt_micro", threshold=threshold, **SMALL), "culane").eval()
        assert [len(lanes) for lanes in detector.decode(unsure, [geometry])] == [count]


def test_only_lanes_that_are_likely_enough_are_predicted() -> None:
    geometry = DETECTOR.geometry_of(FRAME)
    outputs = perfect_outputs(DETECTOR, stack_targets([DETECTOR.encode_targets(road(), geometry)]))
    threshold = DETECTOR.configuration.recipe.confidence_threshold
    for label, score in ((1, threshold - 0.01), (2, threshold + 0.01)):
        its = outputs["logits"][0, :, 1].isclose(torch.tensor(4.0 - 0.1 * label))
        outputs["logits"][0, its] = torch.tensor([0.0, math.log(score / (1 - score))])
    (decoded,) = DETECTOR.decode(outputs, [geometry])
    expected = [1 / (1 + math.exp(-8)), 1 / (1 + math.exp(-7.7)), threshold + 0.01]
    assert [lane.score for lane in decoded] == pytest.approx(expected, abs=1e-6)
    outputs["logits"] = torch.tensor([8.0, -8.0]).expand_as(outputs["logits"])
    assert DETECTOR.decode(outputs, [geometry]) == [[]]


def test_outputs_that_are_no_numbers_decode_to_sound_lanes_or_none() -> None:
    geometry = DETECTOR.geometry_of(FRAME)
    for name in ("logits", "lengths", "places"):
        for value in (math.nan, math.inf, -math.inf):
            outputs = perfect_outputs(DETECTOR, stack_targets([DETECTOR.encode_targets(road(), geometry)]))
            outputs[name][:, ::2] = value
            for lane in DETECTOR.decode(outputs, [geometry])[0]:
                assert np.isfinite(lane.points).all()
                assert len(lane) > 1
