from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.base import Batch, normalise, stack_targets, tap_module
from detectors.checkpoints import import_checkpoint
from detectors.lstr import LSTR, curve_places
from detectors.meta import DetectorMeta, Form
from detectors.registry import TABLE, detector_meta
from harness.datasets.images import read_image
from harness.datasets.lines import lines_text
from harness.errors import InputError
from harness.inference import draw_lanes, network_images, predict
from harness.lanes import Geometry, Lane
from harness.metrics.culane import score_images

FRAME = (590, 1640)


def variant(
    name: str = "lstr_micro", form: Form = "culane", threshold: float | None = None, **options: Any
) -> DetectorMeta:
    """A variant with some other architecture options and perhaps another confidence threshold."""
    meta = detector_meta(name)
    configuration = meta.configurations[form]
    recipe = configuration.recipe
    if threshold is not None:
        recipe = recipe.model_copy(update={"confidence_threshold": threshold})
    changed = configuration.model_copy(update={"architecture": configuration.architecture | options, "recipe": recipe})
    return meta.model_copy(update={"configurations": {form: changed}})


def build(seed: int = 0, **options: Any) -> LSTR:
    torch.manual_seed(seed)
    return LSTR(variant(**options), "culane")


MICRO = build().eval()


def batch_of(detector: LSTR, images: torch.Tensor, labels: list[list[Lane]], geometries: list[Geometry]) -> Batch:
    targets = [detector.encode_targets(lanes, geometry) for lanes, geometry in zip(labels, geometries, strict=True)]
    size = len(labels)
    return Batch(
        images=images,
        targets=stack_targets(targets),
        lanes=torch.full((size, 1, 1, 2), math.nan),
        lane_counts=torch.zeros(size, dtype=torch.int64),
        point_counts=torch.zeros(size, 1, dtype=torch.int64),
        geometries=tuple(geometries),
        ids=tuple(str(index) for index in range(size)),
    )


def noise(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, 128, 320), dtype=torch.uint8, generator=generator)


def road(offset: float = 0.0, bend: float = 0.0) -> list[Lane]:
    """Four lanes in CULane's frame that meet at a vanishing point, each bent like a parabola."""
    y = np.arange(589.0, 300.0, -10.0)
    near = (y - 260.0) / 330.0
    return [
        Lane(np.stack([820 + offset + foot * near + bend * (1 - near) ** 2, y], axis=1))
        for foot in (-1500, -420, 400, 1480)
    ]


def changed(detector: LSTR, rotation: float, shift: tuple[float, float], scale: float, mirror: bool) -> Geometry:
    """The detector's geometry followed by a rotation (degrees) and a scaling about the centre, a shift and perhaps a mirror."""
    plain = detector.geometry_of(FRAME)
    height, width = plain.network
    centre = np.array([[1, 0, (width - 1) / 2], [0, 1, (height - 1) / 2], [0, 0, 1]])
    sine, cosine = math.sin(math.radians(rotation)) * scale, math.cos(math.radians(rotation)) * scale
    turn = np.array([[cosine, -sine, shift[0]], [sine, cosine, shift[1]], [0, 0, 1]])
    matrix = centre @ turn @ np.linalg.inv(centre) @ plain.matrix
    if mirror:
        matrix = np.array([[-1, 0, width - 1], [0, 1, 0], [0, 0, 1]]) @ matrix
    return Geometry(plain.original, plain.crop, plain.network, matrix)


def crossing(points: np.ndarray, y: float) -> float | None:
    """Where a polyline first reaches the row y: its x. Segment by segment."""
    for start, end in itertools.pairwise(points):
        if min(start[1], end[1]) <= y <= max(start[1], end[1]):
            share = 0.0 if start[1] == end[1] else (y - start[1]) / (end[1] - start[1])
            return float(start[0] + share * (end[0] - start[0]))
    return None


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
        LSTR(variant(querys=3), "culane")
    with pytest.raises(InputError, match="'heads'"):
        LSTR(variant(heads=3), "culane")
    with pytest.raises(InputError, match=r"'width'.*multiple of 4"):
        LSTR(variant(width=30, heads=1), "culane")


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
    geometry = changed(MICRO, rotation, shift, scale, mirror)
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


HOSTILE = {
    "no points": [],
    "one point": [[800, 500]],
    "twice the same point": [[800, 500], [800, 500]],
    "level": [[100, 500], [900, 500]],
    "not a number": [[math.nan, 500], [800, math.inf], [700, 400]],
    "far away": [[-4000, 4000], [4000, -4000]],
    "a row crossed three times": [[300, 580], [400, 300], [500, 580], [600, 300]],
    "from far to near": [[820, 300], [400, 589]],
    "on rows": [[400, y] for y in np.linspace(590, 236, 37)],
    "outside": [[1700, 589], [1690, 300]],
    "below the frame": [[400, 700], [500, 600]],
}


@pytest.mark.parametrize("points", HOSTILE.values(), ids=HOSTILE)
def test_hostile_lanes_encode_to_finite_targets_and_losses(points: Any) -> None:
    lane = Lane(np.array(points, dtype=np.float32))
    geometry = MICRO.geometry_of(FRAME)
    for lanes in ([lane], [lane] * 9, [*road(), lane]):
        targets = MICRO.encode_targets(lanes, geometry)
        assert {name: (value.shape, value.dtype) for name, value in targets.items()} == {
            "x": ((7, 37), np.float32),
            "ends": ((7, 2), np.float32),
        }
        present = targets["x"] != -1
        assert ((targets["x"][present] >= 0) & (targets["x"][present] <= 1)).all()
        assert ((targets["ends"] >= 0) & (targets["ends"] <= 1)).all()
        assert (present.any(axis=1) == (targets["ends"][:, 1] > targets["ends"][:, 0])).all()
        batch = batch_of(MICRO, noise(1), [lanes], [geometry])
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
    geometry = changed(MICRO, rotation, shift, scale, mirror)
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
        (lanes,) = LSTR(variant(**options), "culane").decode(outputs, [geometry])
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
    batch = batch_of(MICRO, noise(4), lanes, [MICRO.geometry_of(FRAME)] * 4)
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
    batch = batch_of(detector, noise(2), [[], []], [detector.geometry_of(FRAME)] * 2)
    terms = detector.losses(detector(batch.images), batch)
    sum(terms.values(), torch.zeros(())).backward()
    assert all(term.shape == () and torch.isfinite(term) for term in terms.values())
    assert {name for name, term in terms.items() if float(term.detach()) != 0} == {"lane"}
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in detector.parameters())


def test_every_parameter_learns_from_a_batch_with_lanes() -> None:
    detector = build()
    batch = batch_of(detector, noise(2), [road(), road(60.0)], [detector.geometry_of(FRAME)] * 2)
    # Where a normalisation starts at zero, what lies before it gets a gradient one step later.
    with torch.no_grad():
        for parameter in detector.parameters():
            parameter.add_(0.01)
    sum(detector.losses(detector(batch.images), batch).values(), torch.zeros(())).backward()
    still = {
        name for name, parameter in detector.named_parameters() if parameter.grad is None or not parameter.grad.any()
    }
    # DETR's decoder begins with nothing found, so its first self-attention has nothing to compare.
    assert still <= {"transformer.decoder.0.self_attention.in_proj_weight"}


def test_curves_on_their_labels_cost_less_than_any_others() -> None:
    batch = batch_of(MICRO, noise(1), [road()], [MICRO.geometry_of(FRAME)])
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
            MICRO.losses(outputs, batch_of(MICRO, images, [lanes], [geometry])) for lanes in (road(), road()[::-1])
        )
    assert {k: float(v) for k, v in one.items()} == pytest.approx({k: float(v) for k, v in other.items()}, rel=1e-5)


def test_outputs_that_are_no_numbers_show_in_the_loss() -> None:
    batch = batch_of(MICRO, noise(1), [road()], [MICRO.geometry_of(FRAME)])
    outputs = fitted_outputs(batch.targets)
    outputs["curves"][0, 0, :, 5] = math.nan
    assert torch.isnan(MICRO.losses(outputs, batch)["curve"])


# The module


def test_taps_fire_once_and_deliver_the_stated_shapes() -> None:
    detector = build()
    shapes: dict[str, list[tuple[int, ...]]] = {tap.path: [] for tap in detector.taps()}
    for tap in detector.taps():
        tap_module(detector, tap).register_forward_hook(
            lambda module, inputs, output, path=tap.path: shapes[path].append(tuple(output.shape))
        )
    outputs = detector(noise(2))
    assert shapes == {tap.path: [(2, tap.channels, 128 // tap.stride, 320 // tap.stride)] for tap in detector.taps()}
    assert {name: tuple(value.shape) for name, value in outputs.items()} == {
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
    one, same, other = build().eval(), build().eval(), build(seed=1).eval()
    with torch.no_grad():
        assert torch.equal(one(noise(1))["curves"], same(noise(1))["curves"])
        assert not torch.equal(one(noise(1))["curves"], other(noise(1))["curves"])


def test_in_evaluation_an_image_is_seen_alike_in_any_batch() -> None:
    with torch.no_grad():
        together = MICRO(noise(3))
        for index in range(3):
            alone = MICRO(noise(3)[index : index + 1])
            for key, value in alone.items():
                torch.testing.assert_close(value[0], together[key][index], atol=1e-4, rtol=1e-4)


def test_the_state_dict_restores_a_detector_strictly() -> None:
    source, other = build(), build(seed=1)
    source(noise(2))  # moves the running statistics
    other.load_state_dict(source.state_dict(), strict=True)
    with torch.no_grad():
        before, after = source.eval()(noise(2)), other.eval()(noise(2))
    assert all(torch.equal(before[key], after[key]) for key in before)


# The published weights on real frames


@pytest.fixture(scope="module")
def published(shared: Path) -> LSTR:
    path = shared / "real" / "weights" / "lstr_tusimple" / "LSTR_500000.pkl"
    detector = import_checkpoint("lstr_resnet18s", "tusimple", path)
    assert isinstance(detector, LSTR)
    return detector


UPSTREAM_LANES = np.array(
    [
        [0.99994, 0.37416, 0.99954, -0.0007, 0.04993, 0.00522, 0.24792, 0.63611, -0.04551],
        [0.99988, 0.36996, 0.59706, -0.0007, 0.04993, 0.00522, 0.24792, -1.96420, -0.92475],
        [0.99997, 0.36962, 0.58852, -0.0007, 0.04993, 0.00522, 0.24792, 1.90369, 0.38009],
        [0.99999, 0.36863, 0.99829, -0.0007, 0.04993, 0.00522, 0.24792, -0.68539, -0.49520],
    ]
)
"""Score and curve of the four lanes that upstream's own model, run with these weights, finds in tusimple_masks/image_0.png."""


def test_every_published_weight_has_its_place(shared: Path, published: LSTR) -> None:
    path = shared / "real" / "weights" / "lstr_tusimple" / "LSTR_500000.pkl"
    stored = torch.load(path, map_location="cpu", weights_only=True)
    kept = [value for name, value in stored.items() if not name.endswith(("total_ops", "total_params"))]
    state = published.state_dict()
    assert len(kept) == len(state) == 186
    by_bytes = [sorted(value.numpy().tobytes() for value in values) for values in (kept, state.values())]
    assert by_bytes[0] == by_bytes[1]


def test_raw_outputs_are_upstreams(shared: Path, published: LSTR) -> None:
    image = shared / "real" / "images" / "tusimple_masks" / "image_0.png"
    (pixels,) = network_images(published, [image])
    with torch.no_grad():
        outputs = published(pixels)
    scores = outputs["logits"][0, -1].softmax(dim=-1)[:, 1:]
    found = torch.cat([scores, outputs["curves"][0, -1]], dim=1)[scores[:, 0] > 0.5]
    np.testing.assert_allclose(found.numpy(), UPSTREAM_LANES, atol=2e-5)


def mask_lanes(mask: np.ndarray) -> list[Lane]:
    """The lanes of an instance mask, scaled to CULane's frame: on every eighth row the mean column of one value."""
    scale = np.array([FRAME[1] / mask.shape[1], FRAME[0] / mask.shape[0]])
    lanes = []
    for value in np.unique(mask[mask > 0]):
        rows = [row for row in range(0, mask.shape[0], 8) if (mask[row] == value).any()]
        points = [[np.flatnonzero(mask[row] == value).mean(), row] for row in rows]
        lanes.append(Lane(np.array(points)[::-1] * scale))
    return lanes


def overlays(
    folder: Path, images: list[Path], predictions: list[list[Lane]], labels: list[list[Lane]] | None = None
) -> None:
    for index, (path, lanes) in enumerate(zip(images, predictions, strict=True)):
        picture = draw_lanes(read_image(path), lanes, labels[index] if labels else None)
        cv2.imwrite(str(folder / f"{path.parent.name}_{path.stem}.png"), picture[..., ::-1])


def test_the_published_weights_find_every_lane_of_the_frames_with_masks(
    shared: Path, published: LSTR, tmp_path: Path
) -> None:
    images = sorted((shared / "real" / "images" / "tusimple_masks").glob("image_*.png"))
    predictions = predict(published, images, device=torch.device("cpu"))
    overlays(tmp_path, images, predictions)
    for image, lanes in zip(images, predictions, strict=True):
        mask = cv2.imread(str(image).replace("image_", "gt_instance_image_"), cv2.IMREAD_UNCHANGED)
        scale = np.array([FRAME[1] / mask.shape[1], FRAME[0] / mask.shape[0]])
        for folder, drawn in (("labels", mask_lanes(mask)), ("lanes", [Lane(lane.points * scale) for lane in lanes])):
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / f"{image.stem}.lines.txt").write_text(lines_text(drawn))
    counts, _ = score_images(tmp_path / "labels", tmp_path / "lanes", [image.name for image in images], strict=True)
    sums = counts.sums(0.5)
    assert (sums.tp, sums.fp, sums.fn) == (25, 0, 0)


def test_the_published_weights_find_as_many_lanes_as_upstream_on_other_frames(
    shared: Path, published: LSTR, tmp_path: Path
) -> None:
    folder = shared / "real" / "images"
    images = [*sorted((folder / "tusimple").glob("*.jpg")), *sorted((folder / "highway").glob("*.jpg"))]
    predictions = predict(published, images, device=torch.device("cpu"))
    overlays(tmp_path, images, predictions)
    assert [len(lanes) for lanes in predictions] == [4, 5, 5, 4] + [3] * 8
    assert all(len(lane) >= 2 and lane.points[0, 1] >= lane.points[-1, 1] for lanes in predictions for lane in lanes)


def test_published_images_are_normalised_in_opencvs_channel_order() -> None:
    meta = detector_meta("lstr_resnet18s")
    pixels = torch.tensor([10, 20, 30], dtype=torch.uint8).view(1, 3, 1, 1)
    expected = [
        (blue_first / 255 - mean) / std
        for blue_first, mean, std in zip(
            (30, 20, 10), (0.40789654, 0.44719302, 0.47026115), (0.28863828, 0.27408164, 0.27809835), strict=True
        )
    ]
    assert normalise(pixels, meta.normalisation).flatten().tolist() == pytest.approx(expected, rel=1e-5)


# Learning


def drawn(labels: list[list[Lane]], geometry: Geometry, generator: np.random.Generator) -> torch.Tensor:
    """Noise with bright lines of 5 px where the lanes are."""
    images = generator.integers(0, 120, (len(labels), 3, *geometry.network), dtype=np.uint8)
    columns = np.arange(geometry.network[1])
    for image, lanes in zip(images, labels, strict=True):
        for points in (geometry.to_network(lane.points) for lane in lanes):
            for row in range(geometry.network[0]):
                place = crossing(points, float(row))
                if place is not None:
                    image[:, row, np.abs(columns - place) <= 2.5] = 250
    return torch.from_numpy(images)


def f1(predictions: list[list[Lane]], labels: list[list[Lane]]) -> float:
    """F1 of lanes that are found within 15 px (mean distance in x over a label's rows, of which 80 % have to be there)."""
    matched = 0
    for found, truth in zip(predictions, labels, strict=True):
        for lane in truth:
            matched += any(near(candidate, lane) for candidate in found)
    return 2 * matched / (sum(map(len, predictions)) + sum(map(len, labels)))


def near(candidate: Lane, lane: Lane) -> bool:
    visible = lane.points[(lane.points[:, 0] >= 0) & (lane.points[:, 0] < FRAME[1])]
    places = [crossing(candidate.points, float(y)) for y in visible[:, 1]]
    distances = [abs(place - x) for place, x in zip(places, visible[:, 0], strict=True) if place is not None]
    return len(distances) >= 0.8 * len(visible) and float(np.mean(distances)) < 15


@pytest.mark.slow
def test_eight_images_are_learned_by_heart() -> None:
    detector = build()
    geometry = detector.geometry_of(FRAME)
    generator = np.random.default_rng(0)
    labels = [road(float(generator.uniform(-120, 120)), float(generator.uniform(-150, 150))) for _ in range(8)]
    labels[3] = labels[3][1:3]
    labels[5] = []
    batch = batch_of(detector, drawn(labels, geometry, generator), labels, [geometry] * 8)
    steps = 500
    optimizer = torch.optim.AdamW(detector.parameters(), lr=2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        sum(detector.losses(detector(batch.images), batch).values(), torch.zeros(())).backward()
        torch.nn.utils.clip_grad_norm_(detector.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        decoded = detector.eval().decode(detector(batch.images), batch.geometries)
    assert f1(decoded, labels) > 0.9
