from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.base import normalise, stack_targets
from detectors.meta import Form
from detectors.polylanenet import ABSENT, PolyLaneNet, PolyLaneNetB0
from detectors.registry import detector_meta
from harness.errors import InputError
from harness.lanes import Lane
from tests.detectors.promises import (
    assert_alike_in_any_batch,
    assert_one_seed_gives_one_detector,
    assert_taps,
    finite_terms,
    size_of,
)
from tests.detectors.roads import FRAME, HOSTILE, batch_of, crossing, hostile_lanes, noise, road, turned, variant


def build(seed: int = 0, **options: Any) -> PolyLaneNet:
    torch.manual_seed(seed)
    return PolyLaneNet(variant("polylanenet_micro", **options), "culane")


MICRO = build().eval()


def fitted_outputs(targets: dict[str, torch.Tensor]) -> torch.Tensor:
    """Outputs that are sure of every label, each a cubic of least squares; the far end is the furthest label's."""
    points, ends = targets["points"].double().numpy(), targets["ends"]
    outputs = torch.zeros(*points.shape[:2], 7)
    outputs[..., 0] = -20.0
    for image, lane in np.ndindex(*points.shape[:2]):
        x, y = points[image, lane][points[image, lane, :, 0] != ABSENT].T
        if len(x):
            order = min(3, len(x) - 1)
            coefficients = np.zeros(4)
            coefficients[3 - order :] = np.polyfit(y, x, order)
            outputs[image, lane] = torch.tensor([20.0, 0.0, ends[image, lane, 1], *coefficients])
    outputs[:, 0, 1] = torch.where(ends[..., 1] > 0, ends[..., 0], 1.0).amin(dim=1)
    return outputs


# Metadata


@pytest.mark.parametrize(
    ("name", "parameters", "entries"),
    [
        # Counted in lucastabelini/PolyLaneNet with efficientnet_pytorch 0.6.3.
        ("polylanenet_efficientnet_b0", 4_052_383, 360),
        ("polylanenet_efficientnet_b1", 6_558_019, 508),
        ("polylanenet_resnet34", 21_302_627, 218),
        ("polylanenet_resnet50", 23_579_747, 320),
    ],
)
def test_published_variants_have_the_published_size(name: str, parameters: int, entries: int) -> None:
    assert size_of(name, "tusimple") == (parameters, entries)


def test_published_images_have_opencvs_channel_order_and_imagenets_numbers() -> None:
    meta = detector_meta("polylanenet_efficientnet_b0")
    pixels = torch.tensor([10, 20, 30], dtype=torch.uint8).view(1, 3, 1, 1)
    blue_first = zip((30, 20, 10), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)
    expected = [(value / 255 - mean) / std for value, mean, std in blue_first]
    assert normalise(pixels, meta.normalisation).flatten().tolist() == pytest.approx(expected, rel=1e-5)


def test_unknown_options_are_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"polylanenet_micro.*point.*did you mean 'points'"):
        build(point=8)


# Labels


@settings(max_examples=25)
@given(offset=st.floats(-120, 120), bend=st.floats(-200, 200), degrees=st.floats(-8, 8), mirror=st.booleans())
def test_polynomials_of_labels_decode_to_the_labels_within_the_frame(
    offset: float, bend: float, degrees: float, mirror: bool
) -> None:
    lanes, geometry = road(offset, bend), turned(MICRO, degrees, mirror)
    (decoded,) = MICRO.decode(fitted_outputs(stack_targets([MICRO.encode_targets(lanes, geometry)])), [geometry])
    seen = []
    for lane in lanes:
        network = geometry.to_network(lane.points)
        inside = (network > 0).all(1) & (network < (319, 127)).all(1)
        if inside.sum() > 4:
            seen.append(lane.points[inside])
    assert len(decoded) >= len(seen)
    for points in seen:
        near = [max(abs((crossing(found.points, float(y)) or 0.0) - x) for x, y in points[1:-1]) for found in decoded]
        assert min(near) < 12.0
    assert all(lane.points[0, 1] >= lane.points[-1, 1] for lane in decoded)


def test_lanes_are_in_the_order_of_their_far_ends_and_of_more_the_tallest_are_kept() -> None:
    y = np.linspace(580, 300, 8)
    upright = {x: Lane(np.stack([np.full(8, x), y], axis=1)) for x in (900.0, 200.0, 1500.0, 600.0)}
    short = Lane(np.stack([np.full(4, 50.0), np.linspace(580, 500, 4)], axis=1))
    targets = build(lanes=4).encode_targets([short, *upright.values()], MICRO.geometry_of(FRAME))
    found = targets["points"][:, 0, 0] * 1640
    np.testing.assert_allclose(found, [200, 600, 900, 1500], rtol=1e-5)
    np.testing.assert_allclose(targets["ends"], [[(300 - 236) / 354, (580 - 236) / 354]] * 4, rtol=1e-5)


def test_a_label_keeps_its_own_points_and_of_more_than_there_are_places_a_part_all_along() -> None:
    y = np.linspace(580, 300, 40)
    lane = Lane(np.stack([700 + 0.5 * (580 - y), y], axis=1))
    own = build(label_points=40).encode_targets([lane], MICRO.geometry_of(FRAME))["points"][0]
    np.testing.assert_allclose(own * [1640, 354] + [0, 236], lane.points[::-1], atol=1e-3)
    fewer = build(label_points=14).encode_targets([lane], MICRO.geometry_of(FRAME))["points"][0]
    np.testing.assert_allclose(fewer, own[::3], atol=1e-5)


def test_what_leaves_the_frame_and_comes_back_is_its_longest_piece() -> None:
    lane = Lane(np.array([[40, 580], [-60, 520], [-60, 480], [200, 300]], dtype=np.float32))
    targets = MICRO.encode_targets([lane], MICRO.geometry_of(FRAME))
    there = targets["points"][0][targets["points"][0, :, 0] != ABSENT] * [1640, 354] + [0, 236]
    np.testing.assert_allclose(there, [[200, 300], [0, 480 - 180 * 60 / 260]], atol=0.2)


def test_the_longest_piece_is_the_tallest_not_the_one_of_most_points() -> None:
    near = [[40, 580], [35, 575], [30, 570], [25, 565], [20, 560]]
    lane = Lane(np.array([*near, [-60, 520], [-60, 480], [200, 300]], dtype=np.float32))
    targets = MICRO.encode_targets([lane], MICRO.geometry_of(FRAME))
    assert targets["ends"][0] == pytest.approx([(300 - 236) / 354, (480 - 180 * 60 / 260 - 236) / 354], abs=1e-3)


def test_a_label_from_far_to_near_is_the_same_label() -> None:
    geometry = MICRO.geometry_of(FRAME)
    turned_round = [Lane(lane.points[::-1]) for lane in road()]
    for name, value in MICRO.encode_targets(road(), geometry).items():
        np.testing.assert_array_equal(MICRO.encode_targets(turned_round, geometry)[name], value)


@pytest.mark.parametrize("points", HOSTILE.values(), ids=HOSTILE)
def test_hostile_labels_give_finite_losses_and_gradients(points: Any) -> None:
    detector = build()
    finite_terms(detector, batch_of(detector, [hostile_lanes(points), []]))


# Losses


def published_losses(outputs: torch.Tensor, labels: list[list[Lane]]) -> dict[str, float]:
    """Section III of the paper with the constants of its code, lane by lane and point by point, of labels inside the frame."""
    found = outputs.double().tolist()
    entropy, far, near, points = 0.0, [], [], []
    for image, lanes in zip(found, labels, strict=True):
        tops = [(lane.points[-1, 1] - 236) / 354 for lane in lanes]
        for number, lane in enumerate(image):
            there = number < len(lanes)
            entropy += math.log1p(math.exp(-lane[0] if there else lane[0]))
            if there:
                far.append((image[0][1] - min(tops)) ** 2)
                near.append((lane[2] - (lanes[number].points[0, 1] - 236) / 354) ** 2)
                points.append(
                    [
                        sum(c * ((y - 236) / 354) ** (3 - k) for k, c in enumerate(lane[3:])) - x / 1640
                        for x, y in lanes[number].points.astype(float)
                    ]
                )
    total = sum(map(len, points))
    squares = [error**2 * total / len(errors) for errors in points for error in errors]
    curve = sum(square for square in squares if square > (15 / 720) ** 2) / (len(points) * total)
    lanes_in_all = sum(map(len, found))
    return {"lane": entropy / lanes_in_all, "far": np.mean(far), "near": np.mean(near), "curve": 300 * curve}


@pytest.mark.parametrize("seed", range(3))
def test_losses_are_the_published_ones(seed: int) -> None:
    inner = [Lane(lane.points[seed:]) for lane in road(20.0 * seed)[1:3]]
    labels = [inner, [Lane(inner[1].points[:7])], []]
    outputs = torch.rand(3, 5, 7, generator=torch.Generator().manual_seed(seed))
    # Some errors are small enough to cost nothing.
    outputs[..., 3:] *= torch.tensor([0.1, 0.1, 0.2, 1.0])
    measured = {name: float(term) for name, term in MICRO.losses(outputs, batch_of(MICRO, labels)).items()}
    assert measured == pytest.approx(published_losses(outputs, labels), rel=1e-4)


def test_lanes_on_their_labels_cost_nothing_and_any_others_something() -> None:
    batch = batch_of(MICRO, [road()])
    best = fitted_outputs(batch.targets)
    cheap, dear = MICRO.losses(best, batch), MICRO.losses(best + 0.5, batch)
    assert sum(cheap.values()) < 1e-5
    assert all(dear[name] > cheap[name] for name in ("far", "near", "curve"))


def test_a_batch_without_lanes_costs_confidence_alone() -> None:
    terms = MICRO.losses(torch.ones(2, 5, 7), batch_of(MICRO, [[], []]))
    assert {name for name, term in terms.items() if float(term) != 0} == {"lane"}


@pytest.mark.parametrize(("place", "term"), [(1, "far"), (2, "near"), (5, "curve")])
def test_outputs_that_are_no_numbers_show_in_the_loss(place: int, term: str) -> None:
    batch = batch_of(MICRO, [road()])
    outputs = fitted_outputs(batch.targets)
    outputs[0, :, place] = math.nan
    assert torch.isnan(MICRO.losses(outputs, batch)[term])


# Decoding


def test_lanes_are_confident_and_run_from_the_first_ones_far_end_to_their_own_near_end() -> None:
    outputs = torch.zeros(1, 5, 7)
    outputs[0, :, 0] = torch.tensor([-1.0, 2.0, -2.0, 1.0, 3.0])
    outputs[0, :, 1] = torch.tensor([0.5, 0.1, 0.2, 0.3, 0.4])
    outputs[0, :, 2] = torch.tensor([1.0, 0.9, 1.0, 0.4, 1.7])
    outputs[0, :, 5:] = torch.tensor([0.2, 0.4])
    (lanes,) = MICRO.decode(outputs, [MICRO.geometry_of(FRAME)])
    # The first isn't confident, whose far end still holds; the fourth would end above it; the last ends with the frame.
    assert [round(lane.score or 0, 3) for lane in lanes] == [0.881, 0.953]
    for lane, near in zip(lanes, (0.9, 1.0), strict=True):
        y = (lane.points[[0, -1], 1] - 236) / 354
        np.testing.assert_allclose(y, [near, 0.5], atol=1e-4)
        np.testing.assert_allclose(lane.points[:, 0] / 1640, 0.2 * (lane.points[:, 1] - 236) / 354 + 0.4, atol=1e-4)


def test_lanes_begin_at_the_frames_upper_edge_at_the_earliest_and_are_as_sure_as_is_asked_for() -> None:
    outputs = torch.zeros(1, 5, 7)
    outputs[0, :, 0] = torch.tensor([-1.0, -1.5, 2.0, -9.0, -9.0])
    outputs[0, :, 1], outputs[0, :, 2], outputs[0, :, 6] = -0.3, 0.8, 0.5
    for threshold, scores in ((0.5, [0.881]), (0.25, [0.269, 0.881]), (0.15, [0.269, 0.182, 0.881])):
        detector = PolyLaneNet(variant("polylanenet_micro", threshold=threshold), "culane")
        (lanes,) = detector.decode(outputs, [detector.geometry_of(FRAME)])
        assert [round(lane.score or 0, 3) for lane in lanes] == scores
        assert [(lane.points[-1, 1] - 236) / 354 for lane in lanes] == pytest.approx([0.0] * len(lanes), abs=1e-4)


# The module


def test_taps_fire_once_and_deliver_the_stated_shapes() -> None:
    assert_taps(build())
    assert MICRO(noise(2)).shape == (2, 5, 7)


def test_outputs_see_where_a_feature_lies_only_where_it_is_squeezed() -> None:
    for squeezed, moves in ((0, False), (8, True)):
        detector = build(squeezed=squeezed).eval()
        feature = torch.zeros(1, 128, 4, 10)
        feature[..., 2, 1] = 1.0
        seen = []
        for shown in (feature, feature.flip(3)):
            handle = detector.backbone.register_forward_hook(lambda module, inputs, output, shown=shown: [shown])
            seen.append(detector(noise(1)))
            handle.remove()
        assert torch.allclose(*seen) != moves


def test_every_parameter_of_an_efficient_variant_learns() -> None:
    torch.manual_seed(0)
    meta = detector_meta("polylanenet_efficientnet_b0")
    configuration = meta.configurations["tusimple"]
    small = configuration.model_copy(update={"input": configuration.input.model_copy(update={"network": (64, 128)})})
    form: Form = "tusimple"
    detector = PolyLaneNetB0(meta.model_copy(update={"configurations": {form: small}}), form)
    lanes = [Lane(lane.points * (1280 / 1640, 720 / 590)) for lane in road()]
    batch = batch_of(detector, [lanes, lanes], geometries=[detector.geometry_of((720, 1280))] * 2)
    images = torch.randint(0, 256, (2, 3, 64, 128), dtype=torch.uint8)
    sum(detector.losses(detector(images), batch).values(), torch.zeros(())).backward()
    assert all(p.grad is not None and p.grad.any() for p in detector.parameters())


def test_one_seed_gives_one_detector_that_sees_an_image_alike_in_any_batch() -> None:
    assert_one_seed_gives_one_detector(build)
    assert_alike_in_any_batch(MICRO)
