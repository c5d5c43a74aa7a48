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

from detectors.base import stack_targets
from detectors.lstr import LSTR, curve_places
from detectors.registry import TABLE, detector_meta
from harness.errors import InputError
from harness.lanes import Lane
from tests.detectors.promises import (
    assert_alike_in_any_batch,
    assert_one_seed_gives_one_detector,
    assert_restored_strictly,
    assert_taps,
    finite_terms,
    learned_by_heart,
    unmoved,
)
from tests.detectors.roads import FRAME, HOSTILE, augmented, batch_of, crossing, hostile_lanes, noise, road, variant


def build(seed: int = 0, **options: Any) -> LSTR:
    torch.manual_seed(seed)
    return LSTR(variant("lstr_micro", **options), "culane")


MICRO = build().eval()


def fitted_curve(places: np.ndarray, rows: np.ndarray) -> list[float]:
    """The curve (k, f, m, n, b1, b2) with one of a few poles that lies best on points, by least squares."""
    curves = []
    for pole in (-0.05, -0.25, -1.0, -4.0):
        basis = np.stack([1 / (rows - pole) ** 2, 1 / (rows - pole), np.ones_like(rows), rows], axis=1)
        k, m, n, b1 = np.linalg.lstsq(basis, places, rcond=None)[0]
        error = float(np.abs(basis @ [k, m, n, b1] - places).max())
        # What b2 takes away, n gives back.
        curves.append((error, [k, pole, m, n + 0.5, b1, 0.5]))
    return min(curves)[1]


def fitted_outputs(targets: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Outputs of one decoder layer whose first queries are sure to be lanes and lie on the labels; the others are none."""
    places, ends = targets["x"].double().numpy(), targets["ends"]
    images, queries, rows = places.shape
    curves, logits = torch.zeros(images, 1, queries, 8), torch.tensor([20.0, 0.0]).repeat(images, 1, queries, 1)
    for image, query in itertools.product(range(images), range(queries)):
        seen = places[image, query] >= 0
        if seen.any():
            curve = fitted_curve(places[image, query, seen], np.linspace(0, 1, rows)[seen])
            curves[image, 0, query] = torch.tensor([*ends[image, query], *curve])
            logits[image, 0, query] = torch.tensor([0.0, 20.0])
    return {"logits": logits, "curves": curves}


# Metadata


@pytest.mark.parametrize(
    ("name", "form", "parameters", "entries"),
    [
        # Counted in liuruijin17/LSTR and in voldemortX/pytorch-auto-drive.
        ("lstr_resnet18s", "tusimple", 765_754, 186),
        ("lstr_resnet18s_2x", "culane", 3_048_106, 187),
        ("lstr_resnet34", "culane", 22_344_522, 295),
    ],
)
def test_published_variants_have_the_published_parameters(name: str, form: Any, parameters: int, entries: int) -> None:
    with torch.device("meta"):
        detector = LSTR(detector_meta(name), form)
    assert sum(parameter.numel() for parameter in detector.parameters()) == parameters
    assert len(detector.state_dict()) == entries


def test_the_registered_variants_are_those_of_the_file() -> None:
    assert {name for name, where in TABLE.items() if where.startswith("detectors.lstr:")} == set(LSTR.metas)


def test_impossible_architectures_are_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"lstr_micro.*querys.*did you mean 'queries'"):
        LSTR(variant("lstr_micro", querys=3), "culane")
    with pytest.raises(InputError, match="'heads'"):
        LSTR(variant("lstr_micro", heads=3), "culane")
    with pytest.raises(InputError, match=r"'width'.*multiple of 4"):
        LSTR(variant("lstr_micro", width=30, heads=1), "culane")


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


# Curves


def test_a_curve_is_the_papers() -> None:
    k, f, m, n, b1, b2 = 0.01, -0.2, 0.3, 0.4, 0.5, 0.6
    y = 0.7
    places = curve_places(torch.tensor([k, f, m, n, b1, b2]), torch.tensor([y]))
    assert places.tolist() == pytest.approx([k / (y - f) ** 2 + m / (y - f) + n + b1 * y - b2])


def test_a_curve_is_finite_at_its_pole_and_so_is_its_gradient() -> None:
    curves = torch.tensor([1.0, 0.5, 1.0, 0.0, 0.0, 0.0], requires_grad=True)
    places = curve_places(curves, torch.tensor([0.5, 0.5 + 1e-12, 0.5 - 1e-5]))
    places.sum().backward()
    assert torch.isfinite(places).all()
    assert torch.isfinite(curves.grad).all()


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


# Losses


def published_losses(logits: torch.Tensor, curves: torch.Tensor, targets: dict[str, torch.Tensor]) -> dict[str, float]:
    """Upstream's loss of one decoder layer, lane by lane, with the matching found by trying all of them."""
    rows = torch.linspace(0, 1, targets["x"].shape[-1])
    lanes = [[int(m) for m in np.flatnonzero((x >= 0).any(dim=-1).numpy())] for x in targets["x"]]
    points = {(i, m): int((targets["x"][i, m] >= 0).sum()) for i, ms in enumerate(lanes) for m in ms}
    total, weights = sum(points.values()), {}
    for key, count in points.items():
        weights[key] = math.sqrt(total / count)
    weights = {key: weight / max(weights.values()) for key, weight in weights.items()}

    def terms(image: int, query: int, lane: int) -> tuple[float, float, float]:
        far, near, k, f, m, n, b1, b2 = curves[image, query].tolist()
        distance = 0.0
        for y, place in zip(rows.tolist(), targets["x"][image, lane].tolist(), strict=True):
            if place >= 0:
                distance += abs(k / (y - f) ** 2 + m / (y - f) + n + b1 * y - b2 - place)
        ends = targets["ends"][image, lane].tolist()
        return weights[image, lane] * distance, abs(far - ends[0]), abs(near - ends[1])

    sums, classes = np.zeros(3), torch.zeros(logits.shape[:2], dtype=torch.int64)
    for image, present in enumerate(lanes):
        probability = logits[image].softmax(-1)[:, 1].tolist()
        pairs = {
            (q, m): (-3 * probability[q] + float(np.dot([5, 2, 2], terms(image, q, m))))
            for q in range(logits.shape[1])
            for m in present
        }
        best = min(
            itertools.permutations(range(logits.shape[1]), len(present)),
            key=lambda chosen: sum(pairs[pair] for pair in zip(chosen, present, strict=True)),
        )
        for query, lane in zip(best, present, strict=True):
            sums += terms(image, query, lane)
            classes[image, query] = 1
    curve, far, near = sums / max(1, len(points))
    entropy = float(F.cross_entropy(logits.flatten(0, 1), classes.flatten()))
    return {"lane": 3 * entropy, "curve": 5 * curve, "far": 2 * far, "near": 2 * near}


@pytest.mark.parametrize("seed", range(4))
def test_losses_are_the_published_ones_summed_over_the_decoder_layers(seed: int) -> None:
    lanes = [road(20.0 * seed), road(-100.0)[1:3], [], road(0.0, 100.0)[:3]]
    batch = batch_of(MICRO, lanes)
    generator = torch.Generator().manual_seed(seed)
    outputs = {
        "logits": torch.randn(4, 2, 7, 2, generator=generator),
        "curves": torch.rand(4, 2, 7, 8, generator=generator) - torch.tensor([0, 0, 0, 1.2, 0, 0, 0, 0]),
    }
    expected = [
        published_losses(outputs["logits"][:, layer], outputs["curves"][:, layer], batch.targets) for layer in range(2)
    ]
    measured = {name: float(term) for name, term in MICRO.losses(outputs, batch).items()}
    assert measured == pytest.approx({name: expected[0][name] + expected[1][name] for name in measured}, rel=1e-4)
    assert set(measured) == set(expected[0])


def test_losses_and_gradients_are_finite_without_any_lane() -> None:
    detector = build()
    terms = finite_terms(detector, batch_of(detector, [[], []]))
    assert {name for name, value in terms.items() if value != 0} == {"lane"}


def test_every_parameter_learns_from_a_batch_with_lanes() -> None:
    detector = build()
    # DETR's decoder begins with nothing found, so its first self-attention has nothing to compare.
    expected = {"transformer.decoder.0.self_attention.in_proj_weight"}
    assert unmoved(detector, batch_of(detector, [road(), road(60.0)]), detector.parameters()) <= expected


def test_curves_on_their_labels_cost_less_than_any_others() -> None:
    batch = batch_of(MICRO, [road()])
    best = fitted_outputs(batch.targets)
    other = {"logits": best["logits"].flip(-1), "curves": best["curves"] + 0.1}
    cheap, dear = MICRO.losses(best, batch), MICRO.losses(other, batch)
    assert all(cheap[name] < dear[name] for name in cheap)
    assert sum(cheap.values()) < 0.01


def test_the_order_of_the_labels_makes_no_difference() -> None:
    images, geometry = noise(1), MICRO.geometry_of(FRAME)
    with torch.no_grad():
        outputs = MICRO(images)
        one, other = (
            MICRO.losses(outputs, batch_of(MICRO, [lanes], images=images, geometries=[geometry]))
            for lanes in (road(), road()[::-1])
        )
    assert {k: float(v) for k, v in one.items()} == pytest.approx({k: float(v) for k, v in other.items()}, rel=1e-5)


def test_outputs_that_are_no_numbers_show_in_the_loss() -> None:
    batch = batch_of(MICRO, [road()])
    outputs = fitted_outputs(batch.targets)
    outputs["curves"][0, 0, :, 5] = math.nan
    assert torch.isnan(MICRO.losses(outputs, batch)["curve"])


# The module


def test_taps_fire_once_and_deliver_the_stated_shapes() -> None:
    assert_taps(build())
    assert {name: tuple(value.shape) for name, value in MICRO(noise(2)).items()} == {
        "logits": (2, 2, 7, 2),
        "curves": (2, 2, 7, 8),
    }


def test_taps_of_an_odd_input_have_the_rounded_up_shapes() -> None:
    with torch.device("meta"):
        detector = LSTR(detector_meta("lstr_resnet18s"), "tusimple")
        features = detector.backbone(torch.zeros(1, 3, 360, 640))
    assert [tuple(feature.shape[1:]) for feature in features] == [
        (16, 90, 160),
        (32, 45, 80),
        (64, 23, 40),
        (128, 12, 20),
    ]
    assert [(tap.channels, tap.stride) for tap in detector.taps()] == [(16, 4), (32, 8), (64, 16), (128, 32)]


def test_the_four_coefficients_of_the_road_are_one_for_all_queries() -> None:
    with torch.no_grad():
        curves = MICRO(noise(2))["curves"]
    assert torch.equal(curves[..., 2:6], curves[:, :, :1, 2:6].expand_as(curves[..., 2:6]))
    assert all(len(curves[0, 0, :, index].unique()) == 7 for index in (0, 1, 6, 7))


def test_one_seed_gives_one_detector() -> None:
    assert_one_seed_gives_one_detector(build)


def test_in_evaluation_an_image_is_seen_alike_in_any_batch() -> None:
    assert_alike_in_any_batch(MICRO)


def test_the_state_dict_restores_a_detector_strictly() -> None:
    assert_restored_strictly(build)


# Learning


@pytest.mark.slow
def test_eight_images_are_learned_by_heart() -> None:
    assert learned_by_heart(build(), 500, 2e-3) > 0.9
