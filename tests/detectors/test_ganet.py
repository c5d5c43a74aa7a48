from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors import ganet
from detectors.base import stack_targets
from detectors.ganet import Aggregation, Architecture, GANet
from detectors.meta import Form
from harness.errors import InputError
from harness.lanes import Lane
from tests.detectors.promises import (
    assert_alike_in_any_batch,
    assert_one_seed_gives_one_detector,
    finite_terms,
    size_of,
    unmoved,
)
from tests.detectors.roads import FRAME, HOSTILE, batch_of, distance, hostile_lanes, noise, road, turned, variant

GRID = (16, 40)
Maps = dict[str, torch.Tensor]


def build(seed: int = 0, **options: Any) -> GANet:
    torch.manual_seed(seed)
    return GANet(variant("ganet_micro", **options), "culane")


MICRO = build().eval()


def frame_points(cells: Any) -> np.ndarray:
    """Cells (N, 2) -> CULane's pixels: eight network pixels a cell, from the corner of the view below row 236."""
    x, y = np.asarray(cells, dtype=np.float64).T * 8
    return np.stack([x * 1640 / 320, 236 + y * 354 / 128], axis=1)


def maps_of(targets: Maps) -> Maps:
    """Outputs that say what the targets say."""
    logits = torch.where(targets["keypoint"] == 1, 8.0, -8.0)[:, None]
    return {"keypoint": logits, "offset": targets["offset"], "error": targets["error"]}


def drawn(lanes: list[list[tuple[int, int]]], scores: float = 0.9) -> Maps:
    """Keypoints of one image, x and y in cells, each lane's with offsets to the first of them and without errors."""
    logits, offset = torch.full((1, 1, *GRID), -9.0), torch.zeros(1, 2, *GRID)
    for lane in lanes:
        for x, y in lane:
            logits[0, 0, y, x] = math.log(scores / (1 - scores))
            offset[0, :, y, x] = torch.tensor([lane[0][0] - x, lane[0][1] - y])
    return {"keypoint": logits, "offset": offset, "error": torch.zeros(1, 2, *GRID)}


def decoded(maps: Maps, detector: GANet = MICRO) -> list[Lane]:
    (lanes,) = detector.decode(maps, [detector.geometry_of(FRAME)])
    return lanes


# Metadata


def test_published_recipes_move_the_view_as_upstreams_pipelines_do() -> None:
    # configs/*/final_exp_*.py of Wolfwjs/GANet: ShiftScaleRotate comes after Crop and Resize.
    published = [meta for name, meta in GANet.metas.items() if name != "ganet_micro"]
    assert all(one.recipe.augmentation.in_view for meta in published for one in meta.configurations.values())


@pytest.mark.parametrize(
    ("name", "form", "parameters", "entries"),
    [
        # Counted in Wolfwjs/GANet, without what nothing depends on: of 20,787,972, 30,896,132 and 61,620,520.
        ("ganet_resnet18", "culane", 14_690_773, 195),
        ("ganet_resnet34", "tusimple", 24_798_933, 291),
        ("ganet_resnet101", "culane", 52_418_905, 701),
    ],
)
def test_published_variants_have_the_published_size(name: str, form: Form, parameters: int, entries: int) -> None:
    assert size_of(name, form) == (parameters, entries)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"tap": 3}, "did you mean 'taps'"), ({"taps": 4}, "odd"), ({"stride": 32}, "stride"), ({"attention": []}, "wid")],
)
def test_impossible_options_are_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(**options)


# The aggregation


def test_points_on_the_grid_make_the_aggregation_a_plain_convolution() -> None:
    aggregation = Aggregation(Architecture(width=8, gathered=12, layers=2, taps=5))
    torch.nn.init.zeros_(aggregation.points.weight)
    # y and x of five points on the place's own row.
    aggregation.points.bias.data = torch.tensor([0, -2, 0, -1, 0, 0, 0, 1, 0, 2.0])
    features = torch.randn(2, 8, 6, 9)
    gathered = features
    for layer in aggregation.features:
        gathered = F.relu(layer(gathered))
    output, _ = aggregation(features)
    expected = F.relu(F.conv2d(gathered, aggregation.weight, padding=(0, 2)))
    torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-5)
    # One row up, all of it moves.
    aggregation.points.bias.data[0::2] = -1.0
    output, _ = aggregation(features)
    moved = F.pad(expected, (0, 0, 1, 0))[:, :, :-1]
    torch.testing.assert_close(output, moved, atol=1e-5, rtol=1e-5)


def test_a_tenth_of_the_gradient_reaches_the_points_through_the_features(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    aggregation = Aggregation(Architecture(width=8, gathered=8, layers=1, taps=3)).double()
    features, gradients = torch.randn(1, 8, 5, 7, dtype=torch.float64), []
    for share in (0.1, 1.0):
        monkeypatch.setattr(ganet, "PASSED", share)
        output, points = aggregation(features)
        gradients += torch.autograd.grad(output.square().sum(), [aggregation.points.weight])
        assert points.shape == (1, 6, 5, 7)
    torch.testing.assert_close(10 * gradients[0], gradients[1])


def test_under_autocast_the_aggregation_keeps_its_digits() -> None:
    detector = build().eval()
    seen: list[torch.dtype] = []
    detector.aggregation.register_forward_hook(lambda module, inputs, output: seen.append(output[0].dtype))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        detector(noise(1))
    assert seen == [torch.float32]


def test_where_the_recipe_freezes_them_stages_and_statistics_stay_as_they_are() -> None:
    detector = build(frozen_stages=1, frozen_statistics=True).train()
    before = {name: value.clone() for name, value in detector.named_buffers()}
    batch = batch_of(detector, [road(), road(60.0)])
    sum(detector.losses(detector(batch.images), batch).values(), torch.zeros(())).backward()
    idle = {name.split(".")[1] for name, p in detector.named_parameters() if not p.requires_grad}
    assert idle == {"conv1", "bn1", "layer1"}
    assert [tap.trainable for tap in detector.taps()] == [False, True, True, True]
    moved = {name.split(".")[0] for name, value in detector.named_buffers() if not torch.equal(value, before[name])}
    assert moved == {"attention"}
    assert not detector.eval().training
    assert detector.train().attention[0].before[1].training


# Labels


def test_targets_of_an_upright_lane_are_those_of_the_definition() -> None:
    # From the foot of the view to a third of its height, at x = 12.25 cells.
    cells = np.stack([np.full(9, 12.25), np.linspace(16, 10.6, 9)], axis=1)
    targets = MICRO.encode_targets([Lane(frame_points(cells))], MICRO.geometry_of(FRAME))
    rows, columns = np.nonzero(targets["weight"])
    assert set(columns) == {12}
    assert set(rows) == set(range(10, 16))
    assert set(targets["weight"][rows, 12]) == {1.0}
    np.testing.assert_array_equal(targets["keypoint"] == 1, targets["weight"] > 0)
    np.testing.assert_allclose(targets["error"][0, rows, 12], 0.25, atol=1e-4)
    np.testing.assert_allclose(targets["offset"][0, rows, 12], 0, atol=1e-4)
    # The lane starts where it crosses the last row of cells; 20 keypoints lie evenly on rows 16 to 10.6.
    keypoints = np.append(15, np.linspace(16, 10.6, 20)[np.linspace(16, 10.6, 20) < 15])
    for row in rows:
        last = keypoints[keypoints.astype(int) == row][-1]
        assert targets["error"][1, row, 12] == pytest.approx(last - row, abs=1e-4)
        assert targets["offset"][1, row, 12] == pytest.approx(15 - last, abs=1e-4)
    points = np.stack([np.linspace(10.6, 16, 17).clip(max=15).astype(int), np.full(17, 12)], axis=1)
    np.testing.assert_array_equal(targets["points"][0], points)
    assert (targets["points"][1:] == -1).all()


def test_offsets_of_a_lane_less_than_a_cell_high_count_less() -> None:
    flat = Lane(frame_points([(5.0, 8.0), (7.0, 7.9), (9.0, 7.5), (11.0, 7.2)]))
    weight = MICRO.encode_targets([flat], MICRO.geometry_of(FRAME))["weight"]
    assert np.unique(weight).tolist() == pytest.approx([0.0, 0.4])


def test_of_more_lanes_than_places_the_tallest_teach_the_aggregation_and_all_are_keypoints() -> None:
    lanes = [Lane(frame_points([(4.0 * k + 2.5, 15.0), (4.0 * k + 2.5, 13.5 - k)])) for k in range(9)]
    targets = MICRO.encode_targets(lanes, MICRO.geometry_of(FRAME))
    assert targets["points"][:, 0, 1].tolist() == [14, 18, 22, 26, 30, 34]
    assert set(np.nonzero(targets["weight"])[1]) == {4 * k + 2 for k in range(9)}


@settings(max_examples=20)
@given(offset=st.floats(-120, 120), bend=st.floats(-200, 200), degrees=st.floats(-6, 6), mirror=st.booleans())
def test_targets_decode_to_the_labels(offset: float, bend: float, degrees: float, mirror: bool) -> None:
    lanes, geometry = road(offset, bend, last=350.0), turned(MICRO, degrees, mirror)
    maps = maps_of(stack_targets([MICRO.encode_targets(lanes, geometry)]))
    (found,) = MICRO.decode(maps, [geometry])
    assert 2 <= len(found) <= 4
    for lane in lanes[1:3]:
        network = geometry.to_network(lane.points)
        # A cell has one keypoint, so a lane may end a cell early, and the middle of the last row of cells is the lowest place.
        seen = lane.points[(network > 8).all(axis=1) & (network < (312, 112)).all(axis=1)][3:-3]
        assert min(distance(seen, one.points) for one in found) < 6.0
    for one in found:
        assert min(distance(one.points, lane.points) for lane in lanes) < 2.0
        assert (np.diff(one.points[:, 1]) <= 0).all()


@pytest.mark.parametrize("points", HOSTILE.values(), ids=HOSTILE)
def test_hostile_labels_give_finite_losses_and_gradients(points: Any) -> None:
    detector = build()
    finite_terms(detector, batch_of(detector, [hostile_lanes(points), []]))


# Losses


def published_losses(outputs: Maps, targets: Maps) -> dict[str, float]:
    """What the paper says, cell by cell and point by point; the best matching is found by trying them all."""
    share = outputs["keypoint"][:, 0].double().sigmoid()
    truth, weight = targets["keypoint"].double(), targets["weight"].double()
    focal, error, offset = 0.0, 0.0, 0.0
    for place in itertools.product(*map(range, truth.shape)):
        p, t, w = (float(value[place]) for value in (share, truth, weight))
        focal -= (1 - p) ** 2 * math.log(p) if t == 1 else (1 - t) ** 4 * p**2 * math.log(1 - p)
        image, row, column = place
        where = (image, slice(None), row, column)
        error += float((outputs["error"][where] - targets["error"][where]).abs().sum()) * (w > 0)
        offset += float((outputs["offset"][where] - targets["offset"][where]).abs().sum()) * w
    count = int((weight > 0).sum())
    labels, maps = targets["points"].numpy(), outputs["points"].double().numpy()
    total = 0.0
    for image, points in enumerate(labels):
        for lane in points:
            if lane[0, 0] <= 0:
                continue
            for y, x in lane.astype(int):
                predicted = maps[image, :, y, x].reshape(-1, 2) + np.array([y, x])
                best = min(
                    itertools.permutations(range(len(lane)), len(predicted)),
                    key=lambda chosen: ((lane[list(chosen)] - predicted) ** 2).sum(),
                )
                apart = np.abs(lane[list(best)] - predicted)
                total += np.where(apart < 1 / 9, 4.5 * apart**2, apart - 1 / 18).sum()
    return {
        "keypoint": focal / count,
        "error": error / count,
        "offset": 0.5 * offset / (2 * count),
        "aggregation": 0.2 * total / (labels.size * maps.shape[1] // 2),
    }


@pytest.mark.parametrize("seed", range(2))
def test_losses_are_the_published_ones(seed: int) -> None:
    detector = build(taps=3, learned=5)
    batch = batch_of(detector, [road(30.0 * seed)[:3], [], road(-100.0)[1:2]])
    generator = torch.Generator().manual_seed(seed)
    outputs = {
        name: torch.randn(3, channels, *GRID, generator=generator)
        for name, channels in (("keypoint", 1), ("offset", 2), ("error", 2), ("points", 6))
    }
    measured = {name: float(term) for name, term in detector.losses(outputs, batch).items()}
    assert measured == pytest.approx(published_losses(outputs, batch.targets), rel=1e-4)


def test_a_lane_that_reaches_the_first_row_teaches_no_aggregation() -> None:
    detector = build()
    # One goes up to row 0.5, the other to row 1.5.
    for far, teaches in ((0.5, False), (1.5, True)):
        batch = batch_of(detector, [[Lane(frame_points([(9.5, 15.0), (11.5, 9.0), (12.5, far)]))]])
        outputs = maps_of(batch.targets) | {"points": torch.ones(1, 10, *GRID)}
        assert (float(detector.losses(outputs, batch)["aggregation"]) > 0) is teaches


def test_two_keypoints_in_a_whole_batch_are_too_few_for_their_map() -> None:
    short = Lane(frame_points([(9.5, 14.9), (9.5, 13.5)]))
    longer = Lane(frame_points([(9.5, 14.9), (9.5, 12.5)]))
    for lane, count in ((short, 2), (longer, 3)):
        batch = batch_of(MICRO, [[lane]])
        assert int((batch.targets["keypoint"] == 1).sum()) == count
        outputs = {name: torch.zeros(1, size, *GRID) for name, size in (("keypoint", 1), ("offset", 2), ("error", 2))}
        terms = MICRO.losses(outputs | {"points": torch.zeros(1, 10, *GRID)}, batch)
        assert (float(terms["keypoint"]) > 0) is (count > 2)


def test_every_parameter_learns_from_a_batch_with_lanes() -> None:
    detector = build()
    # A shift of all keys alike changes no share of the attention.
    assert unmoved(detector, batch_of(detector, [road(), road(60.0)]), detector.parameters(), least=1e-9) <= {
        "attention.0.key.bias"
    }


@pytest.mark.parametrize("name", ["keypoint", "offset", "error", "points"])
def test_outputs_that_are_no_numbers_show_in_the_loss(name: str) -> None:
    batch = batch_of(MICRO, [road()])
    outputs = maps_of(batch.targets) | {"points": torch.zeros(1, 10, *GRID)}
    outputs[name] = torch.full_like(outputs[name], math.nan)
    total = sum(MICRO.losses(outputs, batch).values(), torch.zeros(()))
    assert torch.isnan(total)


# Decoding


def test_keypoints_are_one_lane_where_they_point_at_one_start() -> None:
    left, right = [(8 + k // 2, 15 - k) for k in range(8)], [(30 - k, 15 - k) for k in range(7)]
    found = decoded(drawn([left, right]))
    assert len(found) == 2
    for lane, cells in zip(found, (left, right), strict=True):
        np.testing.assert_allclose(lane.points, frame_points(cells), atol=0.01)
        assert lane.score == pytest.approx(0.9, abs=1e-4)


def test_errors_move_keypoints_within_their_cells() -> None:
    cells = [(8, 15 - k) for k in range(6)]
    maps = drawn([cells])
    maps["error"][:, 0], maps["error"][:, 1] = 0.75, 0.5
    (lane,) = decoded(maps)
    np.testing.assert_allclose(lane.points, frame_points([(x + 0.75, y + 0.5) for x, y in cells]), atol=0.01)


def test_what_points_elsewhere_or_is_no_number_is_no_part_of_a_lane() -> None:
    cells = [(8, 15 - k) for k in range(8)]
    maps = drawn([cells])
    maps["offset"][0, 0, 9, 8] = 3.1
    maps["offset"][0, 1, 11, 8] = math.nan
    maps["error"][0, 0, 12, 8] = math.inf
    (lane,) = decoded(maps)
    np.testing.assert_allclose(
        lane.points, frame_points([cell for cell in cells if cell[1] not in (9, 11, 12)]), atol=0.01
    )


def test_on_a_row_only_the_highest_of_neighbours_is_a_keypoint() -> None:
    cells = [(8, 15 - k) for k in range(6)]
    maps = drawn([cells])
    beside = drawn([[(x + 1, y) for x, y in cells]], scores=0.6)
    maps["keypoint"] = torch.maximum(maps["keypoint"], beside["keypoint"])
    (lane,) = decoded(maps)
    assert len(lane) == 6


def test_a_lane_has_more_keypoints_than_the_least_and_none_below_the_threshold() -> None:
    assert decoded(drawn([[(8, 15 - k) for k in range(3)]])) == []
    assert len(decoded(drawn([[(8, 15 - k) for k in range(4)]]))) == 1
    assert decoded(drawn([[(8, 15 - k) for k in range(8)]], scores=0.39)) == []
    assert len(decoded(drawn([[(8, 15 - k) for k in range(8)]], scores=0.41))) == 1


def test_without_a_start_there_is_no_lane() -> None:
    maps = drawn([[(8, 15 - k) for k in range(8)]])
    maps["offset"][:, 1] = maps["offset"][:, 1].clamp(min=1.0)
    assert decoded(maps) == []


# The module


def test_points_are_made_in_training_alone() -> None:
    shapes = {"keypoint": (2, 1, *GRID), "offset": (2, 2, *GRID), "error": (2, 2, *GRID)}
    detector = build()
    trained = {name: tuple(value.shape) for name, value in detector(noise(2)).items()}
    assert trained == shapes | {"points": (2, 10, *GRID)}
    with torch.no_grad():
        assert {name: tuple(value.shape) for name, value in detector.eval()(noise(2)).items()} == shapes


def test_one_seed_gives_one_detector_that_sees_an_image_alike_in_any_batch() -> None:
    assert_one_seed_gives_one_detector(build)
    assert_alike_in_any_batch(MICRO)
