from __future__ import annotations

import math
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from detectors.base import tap_module
from detectors.condlanenet import RARE, UNIT, WEIGHTS, CondLaneNet
from detectors.meta import Form
from detectors.parts.lane_starts import ABSENT
from detectors.registry import TABLE, detector_meta
from harness.errors import InputError
from harness.lanes import Geometry, Lane
from tests.detectors.roads import FRAME, batch_of, noise, variant

TOP = 236
CELL_X, CELL_Y = 1640 / 40, (590 - TOP) / 16
"""Of the fine map, in pixels of the frame."""


def build(seed: int = 0, form: Form = "culane", threshold: float | None = None, **options: Any) -> CondLaneNet:
    torch.manual_seed(seed)
    return CondLaneNet(variant("condlanenet_micro", form, threshold, **options), form)


MICRO = build().eval()
PLAIN = MICRO.geometry_of(FRAME)


def lane(*points: tuple[float, float]) -> Lane:
    return Lane(np.array(points, dtype=np.float32))


def road(feet: tuple[float, ...] = (300, 700, 1100), bend: float = 0.0) -> list[Lane]:
    """Lanes in CULane's frame that meet at a vanishing point, each bent like a parabola."""
    y = np.arange(589.0, 300.0, -10.0)
    near = (y - 260.0) / 330.0
    return [Lane(np.stack([820 + (foot - 820) * near + bend * (1 - near) ** 2, y], axis=1)) for foot in feet]


def shown(lanes: list[Lane]) -> dict[str, Tensor]:
    """What the network would say in evaluation, of a batch of one, were it right about these lanes."""
    targets = MICRO.encode_targets(lanes, PLAIN)
    order = np.argsort(targets["places"][: len(lanes), 0])
    columns = torch.from_numpy(targets["columns"][order])[None]
    on = torch.where(columns >= 0, 1.0, -1.0)
    # Offsets count from an index's whole part.
    expected = (columns - 0.5).clamp(0)
    return {
        "scores": torch.full((1, len(lanes)), 0.9),
        "places": torch.from_numpy(targets["places"][order, 0])[None],
        "columns": expected,
        "offsets": columns - expected.floor(),
        "rows": torch.stack([-on, on], dim=2),
    }


@pytest.mark.parametrize("bend", [0.0, 200.0])
def test_labels_are_columns_on_rows_counted_from_the_frames_first_pixel(bend: float) -> None:
    lanes = road(bend=bend)
    targets = MICRO.encode_targets(lanes, PLAIN)
    for points, columns in zip((one.points for one in lanes), targets["columns"], strict=False):
        for row, column in enumerate(columns):
            y = TOP + row * CELL_Y
            if not points[-1, 1] <= y <= points[0, 1]:
                assert column == ABSENT
                continue
            x = np.interp(y, points[::-1, 1], points[::-1, 0])
            assert column == pytest.approx(x / CELL_X, abs=1e-4)
    assert (targets["columns"][3:] == ABSENT).all()
    assert (targets["places"][3:] == -1).all()


def test_each_lane_has_its_peak_where_it_comes_into_sight() -> None:
    # At the lowest row, y of 567.875; at x of 0, where y is 532; at the last column, x of 1599, where y is 500.
    lanes = [lane((560, 588), (700, 300)), lane((-200, 580), (300, 460)), lane((1659, 560), (1539, 440))]
    targets = MICRO.encode_targets(lanes, PLAIN)
    starts = [(13, 15), (0, int((532 - TOP) / CELL_Y)), (39, int((500 - TOP) / CELL_Y))]
    assert [divmod(int(place), 40)[::-1] for place in targets["places"][:3, 0]] == starts
    assert sorted(zip(*np.nonzero(targets["heat"] == 1), strict=True)) == sorted((y, x) for x, y in starts)


def test_places_are_drawn_from_labels_and_geometry_alone() -> None:
    first, again = (MICRO.encode_targets(road(), PLAIN)["places"] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert ((first >= 0).sum(axis=1) == [5, 5, 5, *[0] * 9]).all()
    matrix = PLAIN.matrix.copy()
    matrix[0, 2] += 1e-3
    other = MICRO.encode_targets(road(), Geometry(PLAIN.original, PLAIN.crop, PLAIN.network, matrix))["places"]
    np.testing.assert_array_equal(other[:, 0], first[:, 0])
    assert (other[:3, 1:] != first[:3, 1:]).any()


def test_a_frame_without_lanes_has_one_place_that_varies_with_the_geometry() -> None:
    found = set()
    for shift in np.linspace(0, 5, 20):
        matrix = PLAIN.matrix.copy()
        matrix[0, 2] += shift
        targets = MICRO.encode_targets([], Geometry(PLAIN.original, PLAIN.crop, PLAIN.network, matrix))
        assert not targets["heat"].any()
        assert (targets["columns"] == ABSENT).all()
        assert (targets["places"] >= 0).sum() == 1
        found.add(int(targets["places"][0, 0]))
    assert len(found) > 10
    assert max(found) < 16 * 40


def test_a_label_that_leaves_the_image_and_returns_is_two_lanes() -> None:
    targets = MICRO.encode_targets([lane((200, 585), (-300, 480), (400, 300))], PLAIN)
    seen = targets["columns"] >= 0
    assert seen.any(axis=1).tolist() == [True, True] + [False] * 10
    assert not (seen[0] & seen[1]).any()


def test_of_more_lanes_than_labels_those_on_the_most_rows_are_learned() -> None:
    short, long = [lane((x, 580), (x, 540)) for x in (100, 500, 900)], [lane((x, 580), (x, 300)) for x in (300, 700)]
    detector = build(labels=2)
    targets = detector.encode_targets([short[0], long[0], short[1], long[1], short[2]], PLAIN)
    np.testing.assert_array_equal(targets["columns"], detector.encode_targets(long, PLAIN)["columns"])
    assert (targets["heat"] == 1).sum() == 2


coordinates = st.floats(-3e3, 5e3) | st.sampled_from([math.nan, math.inf, -math.inf, 1e6, 590.0, 820.0])
labels = st.lists(st.lists(st.tuples(coordinates, coordinates), max_size=6), max_size=14)


@given(labels)
@settings(max_examples=60)
def test_any_label_is_valid_input(points: list[list[tuple[float, float]]]) -> None:
    with np.errstate(invalid="ignore"):
        targets = MICRO.encode_targets([lane(*one) for one in points], PLAIN)
    assert {name: (value.shape, str(value.dtype)) for name, value in targets.items()} == {
        "heat": ((16, 40), "float32"),
        "columns": ((12, 16), "float32"),
        "reach": ((12, 16), "float32"),
        "places": ((12, 5), "int64"),
    }
    columns, places = targets["columns"], targets["places"]
    assert ((columns == ABSENT) | ((columns >= 0) & (columns <= 39))).all()
    assert ((targets["reach"] > 0) <= (columns >= 0)).all()
    assert ((places >= -1) & (places < 640)).all()
    assert (places[:, 0] >= 0).any()
    starts = places[places[:, 0] >= 0, 0]
    assert not targets["heat"].any() or (targets["heat"].reshape(-1)[starts] == 1).all()


@torch.no_grad()
def test_a_start_gives_the_weights_of_its_own_convolutions() -> None:
    generator = torch.Generator().manual_seed(1)
    kernels = torch.randn(2, 70, 16, 40, generator=generator)
    features = torch.randn(2, 32, 16, 40, generator=generator)
    places = torch.tensor([[3, 639, 130], [130, 0, -1]])
    found = MICRO._read({"kernels": UNIT * kernels, "features": UNIT * features}, places)
    for image, seed, y, x in ((0, 0, 0, 0), (0, 1, 15, 39), (0, 2, 7, 20), (1, 0, 7, 20), (1, 1, 3, 39)):
        own = kernels[image].flatten(1)[:, places[image, seed]]
        seen = torch.cat([torch.tensor([x / 40, y / 40]), features[image, :, y, x]])
        for name, weights in (("location", own[:35]), ("offset", own[35:])):
            expected = float(weights[:34] @ seen + weights[34]) - 2.19
            assert float(found[name][image, seed, y, x]) == pytest.approx(expected, rel=1e-4, abs=1e-4)
    # One that is none has no weights.
    assert (found["location"][1, 2] == RARE).all()
    first, last = MICRO.rows[0], MICRO.rows[2]
    hidden = (first.weight[..., 0] @ found["location"][0, 2, 5] + first.bias).relu()
    torch.testing.assert_close(found["rows"][0, 2, :, 5], last.weight[..., 0] @ hidden + last.bias)


def test_losses_are_those_of_the_paper() -> None:
    detector = build().train()
    lanes = [road(), [], road((500,), bend=100)]
    batch = batch_of(detector, lanes)
    generator = torch.Generator().manual_seed(2)
    outputs = {
        "heat": torch.randn(3, 16, 40, generator=generator),
        "kernels": UNIT * 0.3 * torch.randn(3, 70, 16, 40, generator=generator),
        "features": UNIT * torch.randn(3, 32, 16, 40, generator=generator),
    }
    with torch.no_grad():
        terms = detector.losses(outputs, batch)
    location, offset, rows = [], [], []
    for image, targets in enumerate(detector.encode_targets(one, PLAIN) for one in lanes):
        for label, places in enumerate(targets["places"]):
            for place in places[places >= 0]:
                with torch.no_grad():
                    read = detector._read(
                        {name: value[image : image + 1] for name, value in outputs.items()}, torch.tensor([[place]])
                    )
                for row, column in enumerate(targets["columns"][label]):
                    logits = read["rows"][0, 0, :, row].log_softmax(0)
                    rows.append(-float(logits[int(column >= 0)]))
                    if column < 0:
                        continue
                    shares = read["location"][0, 0, row].softmax(0)
                    location.append(abs(float(shares @ torch.arange(40.0)) + 0.5 - column))
                    for x in range(40):
                        if abs(column - x) < targets["reach"][label, row]:
                            offset.append(abs(float(read["offset"][0, 0, row, x]) - (column - x)))
    assert float(terms["location"]) == pytest.approx(np.mean(location), rel=1e-4)
    assert float(terms["offset"]) == pytest.approx(0.4 * np.mean(offset), rel=1e-4)
    assert float(terms["range"]) == pytest.approx(np.mean(rows), rel=1e-4)
    assert set(terms) == set(WEIGHTS)


@pytest.mark.parametrize(
    "lanes", [[], [lane((100, 500))], [lane((100, 400), (1500, 400))], [lane((820, 580), (820, 575))]]
)
def test_a_batch_without_anything_to_see_has_finite_losses_with_gradients(lanes: list[Lane]) -> None:
    detector = build().train()
    batch = batch_of(detector, [lanes, lanes])
    terms = detector.losses(detector(batch.images), batch)
    torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
    gradients = [parameter.grad for parameter in detector.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
    heat = detector.heat[2].bias
    assert isinstance(heat, Tensor)
    assert heat.grad is not None
    assert heat.grad.abs().sum() > 0


def test_losses_are_computed_in_full_precision_under_autocast() -> None:
    detector = build().train()
    batch = batch_of(detector, [road(), road(bend=100)])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = detector(batch.images)
        terms = detector.losses(outputs, batch)
    assert outputs["features"].dtype == torch.bfloat16
    exact = detector.losses({name: value.float() for name, value in outputs.items()}, batch)
    for name, term in terms.items():
        assert term.dtype == torch.float32
        assert float(term.detach()) == pytest.approx(float(exact[name].detach()), rel=1e-6)


@pytest.mark.parametrize("bend", [0.0, 150.0])
def test_what_is_encoded_is_decoded(bend: float) -> None:
    lanes = road(bend=bend)
    (decoded,) = MICRO.decode(shown(lanes), [PLAIN])
    assert len(decoded) == 3
    for label, found in zip(lanes, sorted(decoded, key=lambda one: one.points[0, 0]), strict=True):
        assert found.score == pytest.approx(0.9)
        assert (np.diff(found.points[:, 1]) < 0).all()
        np.testing.assert_allclose(np.diff(found.points[:, 1]), -CELL_Y, atol=1e-3)
        x = np.interp(found.points[:, 1], label.points[::-1, 1], label.points[::-1, 0])
        np.testing.assert_allclose(found.points[:, 0], x, atol=0.1)
        assert found.points[0, 1] > label.points[0, 1] - CELL_Y
        assert found.points[-1, 1] < label.points[-1, 1] + CELL_Y


def test_lanes_are_decoded_in_the_frame_that_was_shown() -> None:
    lanes = road()
    matrix = np.array([[-1.0, 0, 319], [0, 1, 0], [0, 0, 1]]) @ PLAIN.matrix
    mirrored = Geometry(PLAIN.original, PLAIN.crop, PLAIN.network, matrix)
    (plain,), (turned,) = MICRO.decode(shown(lanes), [PLAIN]), MICRO.decode(shown(lanes), [mirrored])
    for one, other in zip(plain, turned, strict=True):
        np.testing.assert_allclose(one.points[:, 0] + other.points[:, 0], 1639, atol=1e-2)


def test_a_lane_reaches_over_gaps_and_as_far_beyond_its_rows_as_it_is_extended() -> None:
    outputs = shown(road((700,)))
    outputs["rows"] = torch.tensor([1.0, -1.0])[:, None].expand(1, 1, 2, 16).clone()
    outputs["rows"][0, 0, 1, [6, 9]] = 2.0
    for extended, rows in ((0, (6, 9)), (1, (5, 10)), (20, (0, 15))):
        (decoded,) = build(extended=extended).decode(outputs, [PLAIN])
        np.testing.assert_allclose(decoded[0].points[[-1, 0], 1], [TOP + row * CELL_Y for row in rows], atol=1e-2)
    outputs["rows"][0, 0, 1] = -3.0
    assert MICRO.decode(outputs, [PLAIN]) == [[]]


def test_starts_below_the_threshold_or_near_a_later_one_give_no_lane() -> None:
    outputs = shown(road((300, 700, 1100)))
    outputs["scores"] = torch.tensor([[0.6, 0.49, 0.5]])
    (decoded,) = MICRO.decode(outputs, [PLAIN])
    assert [one.score for one in decoded] == pytest.approx([0.6, 0.5])
    outputs["places"] = torch.tensor([[600, 601, 602]])
    (decoded,) = MICRO.decode(outputs, [PLAIN])
    assert [one.score for one in decoded] == pytest.approx([0.5])
    (decoded,) = build(threshold=0.0).decode({**outputs, "scores": torch.zeros(1, 3)}, [PLAIN])
    assert decoded == []


@torch.no_grad()
def test_starts_are_the_likeliest_peaks_in_reading_order() -> None:
    heat = torch.full((2, 16, 40), -12.0)
    heat[0, 3, 30], heat[0, 10, 5], heat[0, 10, 6], heat[0, 12, 20], heat[0, 14, 33] = 2.0, 3.0, 2.5, 1.0, 0.5
    maps = {"heat": heat, "kernels": torch.zeros(2, 70, 16, 40), "features": torch.zeros(2, 32, 16, 40)}
    found = build(seeds=3)._found(maps)
    assert found["places"][0].tolist() == [3 * 40 + 30, 10 * 40 + 5, 12 * 40 + 20]
    assert found["scores"][0].tolist() == pytest.approx([1 / (1 + math.exp(-logit)) for logit in (2.0, 3.0, 1.0)])
    # A plateau is all peaks: they are as unlikely as can be, and no more than are looked at.
    assert found["scores"][1].tolist() == pytest.approx([1e-4] * 3)
    # Without any peak but one there is nothing at the other places.
    rising = torch.arange(640.0).view(16, 40)[None] / 100
    found = build(seeds=3)._found({name: value[:1] for name, value in maps.items()} | {"heat": rising})
    assert (found["places"].tolist(), found["scores"][0, 1:].tolist()) == ([[639, 0, 0]], [0.0, 0.0])


@torch.no_grad()
def test_offsets_are_read_in_the_cell_that_is_expected() -> None:
    generator = torch.Generator().manual_seed(3)
    maps = {
        "heat": torch.randn(2, 16, 40, generator=generator),
        "kernels": UNIT * torch.randn(2, 70, 16, 40, generator=generator),
        "features": UNIT * torch.randn(2, 32, 16, 40, generator=generator),
    }
    found = MICRO._found(maps)
    read = MICRO._read(maps, found["places"])
    torch.testing.assert_close(found["rows"], read["rows"])
    for image, seed, row in np.ndindex(2, 16, 16):
        shares = read["location"][image, seed, row].softmax(0)
        column = float(found["columns"][image, seed, row])
        assert column == pytest.approx(float(shares @ torch.arange(40.0)), abs=1e-4)
        assert found["offsets"][image, seed, row] == read["offset"][image, seed, row, int(column)]


@torch.no_grad()
def test_outputs_of_training_are_decoded_as_those_of_evaluation() -> None:
    detector = build(threshold=0.0).eval()
    images = noise(2)
    expected = detector.decode(detector(images), [PLAIN] * 2)
    detector.training = True
    maps = detector(images)
    detector.training = False
    found = detector.decode(maps, [PLAIN] * 2)
    assert sum(map(len, expected)) > 2
    for one, other in zip(chain.from_iterable(expected), chain.from_iterable(found), strict=True):
        np.testing.assert_array_equal(one.points, other.points)


@torch.no_grad()
def test_outputs_that_are_not_numbers_give_no_lane_and_no_error() -> None:
    outputs = shown(road())
    for name in ("scores", "columns", "offsets", "rows"):
        broken = outputs | {name: torch.full_like(outputs[name], math.nan)}
        for lanes in MICRO.decode(broken, [PLAIN]):
            assert all(np.isfinite(one.points).all() for one in lanes)


def test_published_variants_start_with_a_stage_and_statistics_that_stay() -> None:
    meta = detector_meta("condlanenet_resnet18")
    torch.manual_seed(0)
    detector = CondLaneNet(meta, "culane").train()
    assert [tap.trainable for tap in detector.taps()] == [False, True, True, True]
    frozen = {name for name, parameter in detector.named_parameters() if not parameter.requires_grad}
    assert {name.split(".")[1] for name in frozen} == {"conv1", "bn1", "layer1"}
    assert all(name.startswith("backbone.") for name in frozen)
    assert not any(parameter.requires_grad for parameter in tap_module(detector, detector.taps()[0]).parameters())
    before = {name: value.clone() for name, value in detector.named_buffers()}
    with torch.no_grad():
        detector(torch.randint(0, 256, (1, 3, 320, 800), dtype=torch.uint8))
    moved = {name for name, value in detector.named_buffers() if not torch.equal(value, before[name])}
    assert moved
    assert not any(name.startswith("backbone.") for name in moved)


def test_the_small_variant_trains_all_of_its_backbone() -> None:
    detector = build().train()
    assert all(tap.trainable for tap in detector.taps())
    assert all(parameter.requires_grad for parameter in detector.parameters())
    before = detector.backbone.get_buffer("layer1.0.bn1.running_mean").clone()
    with torch.no_grad():
        detector(noise(2))
    assert not torch.equal(before, detector.backbone.get_buffer("layer1.0.bn1.running_mean"))


def test_the_normalisation_is_upstreams_of_levels_in_opencvs_order() -> None:
    for name in (name for name, where in TABLE.items() if "condlanenet" in where and "micro" not in name):
        normalisation = detector_meta(name).normalisation
        assert normalisation.order == "bgr"
        assert [255 * value for value in normalisation.mean] == pytest.approx([75.3, 76.6, 77.6])
        assert [255 * value for value in normalisation.std] == pytest.approx([50.5, 53.8, 54.3])
        assert set(detector_meta(name).configurations) == {"culane", "tusimple"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"finest": 8, "start_stride": 4}, "start_stride"),
        ({"attention": 30}, "attention"),
        ({"frozen_stages": 5}, "frozen_stages"),
        ({"recurrent": True}, "recurrent"),
    ],
)
def test_impossible_options_are_refused_by_name(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        build(**options)
