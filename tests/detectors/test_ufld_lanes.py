"""Lanes become UFLD's labels, and its outputs lanes."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from detectors.base import stack_targets
from detectors.ufld import UFLD
from harness.lanes import Lane
from tests.detectors.roads import FRAME, HOSTILE, augmented, batch_of, crossing, hostile_lanes, road, variant
from tests.detectors.small.ufld import ARCHITECTURES, DETECTORS, build, perfect_outputs, published

# Labels


@pytest.mark.parametrize("name", ["micro", "as published"])
@settings(max_examples=30)
@given(
    offset=st.floats(-300, 300),
    bend=st.floats(-300, 300),
    rotation=st.floats(-8, 8),
    shift=st.floats(-30, 30),
    mirror=st.booleans(),
)
def test_targets_are_where_the_lanes_cross_the_rows_and_only_there(
    name: str, offset: float, bend: float, rotation: float, shift: float, mirror: bool
) -> None:
    detector = build(name, prolong=False)
    geometry, cells = augmented(detector, rotation, (shift, 0.0), mirror=mirror), detector.options.cells
    found = detector.encode_targets(road(offset, bend), geometry)["position"]
    assert found.dtype == np.float32
    places = np.full((4, len(detector.labels.lines)), math.nan)
    for lane, (index, row) in itertools.product(range(4), enumerate(detector.labels.lines)):
        x = crossing(geometry.to_network(road(offset, bend)[lane].points), row)
        places[lane, index] = math.nan if x is None else (x - detector.labels.origin) / detector.labels.width
    inside = (places >= 0) & (places <= cells - 1)
    expected = np.where(inside, places, -1.0)
    # Rounding decides in the outermost pixels.
    doubtful = (np.abs(places) < 1e-2) | (np.abs(places - (cells - 1)) < 1e-2)
    taken = [slot for slot in found.T if slot.max() >= 0]
    matches = [
        [bool(((np.abs(slot - lane) < 1e-2) | skip).all()) for lane, skip in zip(expected, doubtful, strict=True)]
        for slot in taken
    ]
    assert all(any(row) for row in matches)
    assert len(taken) >= min(2, int(inside.any(axis=1).sum()))


def test_a_lane_that_ends_early_goes_on_along_the_line_through_its_lower_half() -> None:
    detector = DETECTORS["as published"]
    y = np.arange(450.0, 250.0, -10.0)
    upper = Lane(np.stack([820 - (y - 260) - np.where(y < 340, (340 - y) ** 2 / 100, 0), y], axis=1))
    target = detector.encode_targets([upper], detector.geometry_of(FRAME))["position"][:, 1]
    rows = np.array(detector.options.rows)
    cells = (820 - (rows - 260)) / (1639 / 199)
    np.testing.assert_allclose(target[rows > 345], cells[rows > 345], atol=1e-3)


def test_every_lane_of_a_frame_goes_on() -> None:
    detector = DETECTORS["as published"]
    y = np.arange(450.0, 250.0, -10.0)
    lanes = [Lane(np.stack([820 + side * (y - 260), y], axis=1)) for side in (-1.0, 0.5, 1.5)]
    target = detector.encode_targets(lanes, detector.geometry_of(FRAME))["position"]
    rows = np.array(detector.options.rows)
    for slot, side in ((1, -1.0), (2, 0.5), (3, 1.5)):
        cells = (820 + side * (rows - 260)) / (1639 / 199)
        np.testing.assert_allclose(target[rows > 345, slot], cells[rows > 345], atol=1e-3)


def test_what_goes_on_beyond_the_frame_is_absent_there() -> None:
    detector = DETECTORS["as published"]
    y = np.arange(450.0, 250.0, -10.0)
    target = detector.encode_targets([Lane(np.stack([100 - (y - 450), y], axis=1))], detector.geometry_of(FRAME))
    rows = np.array(detector.options.rows)
    slot = target["position"][:, 1]
    assert (slot[rows > 551] == -1).all()
    assert (slot[(rows > 250) & (rows < 549)] >= 0).all()


def test_a_lane_on_fewer_than_six_rows_is_not_prolonged() -> None:
    detector = DETECTORS["as published"]
    for last, count in ((380.0, 4), (360.0, 5)):
        y = np.arange(450.0, last - 1, -1.0)
        target = detector.encode_targets([Lane(np.stack([700 - y, y], axis=1))], detector.geometry_of(FRAME))
        assert (target["position"] >= 0).sum() == count
    assert not build(prolong=False).options.prolong


def test_the_mask_shows_at_every_eighth_pixel_the_lane_that_lies_there() -> None:
    detector = DETECTORS["micro"]
    geometry = detector.geometry_of(FRAME)
    targets = detector.encode_targets(road(), geometry)
    assert targets["mask"].shape == (16, 40)
    assert targets["mask"].dtype == np.uint8
    width = detector.options.lane_width
    shown = 0
    for row, column in np.ndindex(16, 40):
        places = [crossing(geometry.to_network(lane.points), 8 * row + 4) for lane in road()]
        distance = [abs(8 * column + 4 - place) if place is not None else math.inf for place in places]
        if min(distance) < width / 2 - 1:
            assert targets["mask"][row, column] == 1 + int(np.argmin(distance))
            shown += 1
        if min(distance) > 4 * width:
            assert targets["mask"][row, column] == 0
    assert shown > 10


@pytest.mark.parametrize("width", [16, 48])
def test_a_lane_of_the_mask_is_as_wide_as_asked_for(width: int) -> None:
    detector = build(lane_width=width)
    upright = Lane(np.array([[410, 589], [410, 240]], dtype=np.float32))  # 80 px from the left of the network's 320
    mask = detector.encode_targets([upright], detector.geometry_of(FRAME))["mask"]
    assert ((mask == 2).sum(axis=1) == width // 8).all()


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
@pytest.mark.parametrize("points", HOSTILE.values(), ids=HOSTILE)
def test_hostile_lanes_give_targets_of_the_usual_shape_and_finite_losses(name: str, points: Any) -> None:
    detector = DETECTORS[name]
    hostile, geometry = hostile_lanes(points), detector.geometry_of(FRAME)
    expected = {key: (value.shape, value.dtype) for key, value in detector.encode_targets(road(), geometry).items()}
    labels = [hostile, hostile * 9, [*road(), *hostile]]
    for lanes in labels:
        targets = detector.encode_targets(lanes, geometry)
        assert {key: (value.shape, value.dtype) for key, value in targets.items()} == expected
        present = targets["position"] != -1
        assert (
            (targets["position"][present] >= 0) & (targets["position"][present] <= detector.options.cells - 1)
        ).all()
    logits = torch.zeros(3, detector.options.cells + 1, len(detector.options.rows), 4, requires_grad=True)
    terms = detector.losses({"location": logits}, batch_of(detector, labels))
    (gradient,) = torch.autograd.grad(torch.stack(list(terms.values())).sum(), logits)
    assert torch.isfinite(gradient).all()


# Decoding


@pytest.mark.parametrize("name", ["micro", "without auxiliary head"])
@settings(max_examples=30)
@given(offset=st.floats(-300, 300), bend=st.floats(-300, 300), rotation=st.floats(-8, 8), mirror=st.booleans())
def test_perfect_outputs_decode_to_the_labels(
    name: str, offset: float, bend: float, rotation: float, mirror: bool
) -> None:
    detector = DETECTORS[name]
    geometry = augmented(detector, rotation, (5.0, 0.0), mirror=mirror)
    targets = stack_targets([detector.encode_targets(road(offset, bend), geometry)])
    (decoded,) = detector.decode(perfect_outputs(detector, targets), [geometry])
    present = (targets["position"][0] >= 0).sum(0)
    assert len(decoded) == int((present >= detector.options.min_points).sum())
    width = detector.labels.width
    for lane in decoded:
        assert lane.points[0, 1] >= lane.points[-1, 1]
        assert lane.score == pytest.approx(1.0)
        apart = []
        for label in road(offset, bend):
            polyline = geometry.to_network(label.points)
            places = [(x, crossing(polyline, y)) for x, y in geometry.to_network(lane.points)]
            apart.append(max((abs(x - place) for x, place in places if place is not None), default=math.inf))
        # The outermost half cells have the place of the outermost centre.
        assert min(apart) <= 0.5 * width + 0.02


@pytest.mark.parametrize("form", ["culane", "tusimple"])
def test_decoding_is_the_expectation_of_upstreams_evaluation(form: Any) -> None:
    detector = published("ufld_resnet18", form)
    cells, rows, size = detector.options.cells, len(detector.options.rows), detector.configuration.input.frame
    generator = torch.Generator().manual_seed(2)
    logits = 4 * torch.randn(2, cells + 1, rows, 4, generator=generator)
    logits[0, -1, : rows // 2, 2] = logits[1, -1, 2:, 3] = logits[0, -1, 3:, 1] = 30.0
    logits[0, 7, :3, 1] = logits[1, 7, :2, 3] = 20.0  # lanes of three points and of two
    decoded = detector.decode({"location": logits}, [detector.geometry_of(size)] * 2)
    for image, lanes in zip(logits.numpy(), decoded, strict=True):
        probability, best = softmax(image[:-1], axis=0), image.argmax(0)
        presence = 1 - softmax(image, axis=0)[-1]
        expected, scores = [], []
        for lane, row in itertools.product(range(4), range(rows)):
            if best[row, lane] == cells:
                continue
            scores.append(presence[row, lane])
            place = probability[:, row, lane] @ np.arange(cells)
            if form == "culane":
                point = ((place + 1) * np.linspace(0, 799, 200)[1] * 1640 / 800 - 1, 590 - 20 * (rows - 1 - row) - 1)
            else:
                point = ((place + 0.5) * 1280.0 / (cells - 1), 160 + 10 * row)
            expected.append((lane, *point))
        table = np.array(expected)
        counts = np.bincount(table[:, 0].astype(int), minlength=4)
        # Upstream writes lanes of more than two points on CULane, and any on TuSimple; here a lane has two at least.
        kept = [lane for lane in range(4) if counts[lane] >= (3 if form == "culane" else 2)]
        assert len(lanes) == len(kept)
        for lane, found in zip(kept, lanes, strict=True):
            np.testing.assert_allclose(found.points, table[table[:, 0] == lane, 1:][::-1], atol=2e-3)
            assert found.score == pytest.approx(np.array(scores)[table[:, 0] == lane].mean(), abs=1e-5)


def test_a_lane_on_too_few_rows_and_a_doubtful_one_are_not_predicted() -> None:
    meta = variant("ufld_micro", min_points=3)
    configuration = meta.configurations["culane"]
    recipe = configuration.recipe.model_copy(update={"confidence_threshold": 0.9})
    strict = meta.model_copy(update={"configurations": {"culane": configuration.model_copy(update={"recipe": recipe})}})
    detector = UFLD(strict, "culane")
    geometry = detector.geometry_of(FRAME)
    logits = perfect_outputs(detector, stack_targets([detector.encode_targets(road(), geometry)]))["location"]
    logits[0, -1, 2:, 0] = 60.0  # on two rows
    logits[0, -1, :-3, 1] = 60.0  # on three
    doubtful = logits[0, :-1, :, 2].logsumexp(0)
    logits[0, -1, :, 2] = doubtful - math.log(4)  # there with a probability of 4 / 5
    (decoded,) = detector.decode({"location": logits}, [geometry])
    assert [len(lane) for lane in decoded] == [3, 12]  # the fourth lane leaves the frame
    assert all(lane.score == pytest.approx(1.0) for lane in decoded)


def test_no_lane_decodes_to_no_lane() -> None:
    for detector in DETECTORS.values():
        geometry = detector.geometry_of(FRAME)
        targets = stack_targets([detector.encode_targets([], geometry)] * 3)
        assert detector.decode(perfect_outputs(detector, targets), [geometry] * 3) == [[], [], []]
