from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.base import Batch, stack_targets
from detectors.laneatt import LABELS, LaneATT
from detectors.meta import Form
from detectors.registry import TABLE, detector_meta
from harness.errors import InputError
from harness.lanes import Lane
from tests.checkouts import checkout_of
from tests.detectors.promises import assert_taps
from tests.detectors.roads import FRAME, HOSTILE, augmented, batch_of, hostile_lanes, noise, road, variant

SMALL = {"lateral": 6, "bottom": 8, "convergence": 1.0, "rows": 24, "positive": 15.0, "negative": 20.0}


def build(seed: int = 0, **architecture: Any) -> LaneATT:
    torch.manual_seed(seed)
    return LaneATT(variant("laneatt_micro", **SMALL | architecture), "culane")


def straight(near: float, far: float, rows: tuple[float, float] = (589.0, 300.0)) -> Lane:
    return Lane(np.stack([np.linspace(near, far, 30), np.linspace(*rows, 30)], axis=1))


DETECTOR = build().eval()
SUPPRESSING = build(training_suppression=7.5).eval()


# Metadata


@pytest.mark.parametrize(
    ("name", "parameters", "entries"),
    # Counted in LaneATT's own models.
    [
        ("laneatt_resnet18", 12_019_314, 128),
        ("laneatt_resnet34", 22_127_474, 224),
        ("laneatt_resnet122", 8_545_218, 734),
    ],
)
@pytest.mark.parametrize("form", ["culane", "tusimple", "llamas"])
def test_published_variants_have_the_published_number_of_parameters(
    name: str, form: Form, parameters: int, entries: int
) -> None:
    with torch.device("meta"):
        detector = LaneATT(detector_meta(name), form)
    assert sum(parameter.numel() for parameter in detector.parameters()) == parameters
    assert len(detector.state_dict()) == entries


def test_the_registered_variants_are_those_of_the_file() -> None:
    assert {name for name, where in TABLE.items() if where.startswith("detectors.laneatt:")} == set(LaneATT.metas)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"anchor": "grid"}, r"laneatt_micro.*anchor.*did you mean 'anchors'"),
        ({"anchors": "curvelanes"}, "anchors"),
        ({"convergence": 1e-9}, "convergence"),
    ],
)
def test_impossible_architectures_are_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(**options)


def test_anchors_that_converge_cross_the_middle_of_the_upper_edge() -> None:
    kept = build(lateral=12, bottom=20, convergence=0.5).get_buffer("anchor_places")
    every = build(lateral=12, bottom=20, convergence=100.0).get_buffer("anchor_places")
    at_the_top = every[:, -1]
    assert torch.equal(kept, every[(at_the_top >= 80) & (at_the_top <= 240)])


# Forward


def test_answers_are_those_of_attention_written_out_anchor_by_anchor() -> None:
    detector = build(initial_deviation=0.3, lateral=3, bottom=4, channels=3)
    images = noise(2)
    seen: list[torch.Tensor] = []
    handle = detector.reduce.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        outputs = detector(images)
    handle.remove()
    maps = seen[0].double().numpy()
    starts, places = detector.get_buffer("anchor_starts").numpy(), detector.get_buffer("anchor_places").numpy()
    weights = {name: value.double().numpy() for name, value in detector.state_dict().items()}
    batch, channels, rows, columns = maps.shape
    stride = detector.taps()[-1].stride
    count = len(starts)
    for image in range(batch):
        features = np.zeros((count, channels, rows))
        for anchor in range(count):
            # The ray as a line through its first and its last row; rows of the map are spread from the top to the bottom.
            low, high = places[anchor, 0].astype(float), places[anchor, -1].astype(float)
            for row in range(rows):
                column = round((high + (low - high) * row / (rows - 1)) / stride)
                if 0 <= column <= columns:
                    features[anchor, :, row] = maps[image, :, row, min(column, columns - 1)]
        flat = features.reshape(count, -1)
        logits = flat @ weights["attend.weight"].T + weights["attend.bias"]
        for anchor in range(count):
            shares = np.exp(logits[anchor] - logits[anchor].max())
            shares /= shares.sum()
            others = [other for other in range(count) if other != anchor]
            attended = sum(share * flat[other] for share, other in zip(shares, others, strict=True))
            both = np.concatenate([attended, flat[anchor]])
            classes = weights["classify.weight"] @ both + weights["classify.bias"]
            offsets = weights["regress.weight"] @ both + weights["regress.bias"]
            np.testing.assert_allclose(outputs["logits"][image, anchor], classes, atol=1e-4)
            np.testing.assert_allclose(outputs["lengths"][image, anchor], offsets[0], atol=1e-4)
            np.testing.assert_allclose(outputs["places"][image, anchor], places[anchor] + offsets[1:], atol=1e-3)


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


# Losses


def outputs_for(detector: LaneATT, seed: int, images: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    places = detector.get_buffer("anchor_places")
    count, rows = places.shape
    return {
        "logits": torch.randn(images, count, 2, generator=generator),
        "lengths": torch.rand(images, count, generator=generator) * rows,
        "places": places + torch.randn(images, count, rows, generator=generator) * 4,
    }


def losses_in_words(detector: LaneATT, outputs: dict[str, torch.Tensor], batch: Batch) -> tuple[float, float]:
    """The two terms of the paper's equation 6, image by image, anchor by anchor and row by row, with all anchors taking part."""
    starts = (detector.get_buffer("anchor_starts") * 23).round().int().tolist()
    anchors = detector.get_buffer("anchor_places").double().numpy()
    values = {name: value.double().numpy() for name, value in outputs.items()}
    targets = {name: value.numpy() for name, value in batch.targets.items()}
    classification = regression = 0.0
    images = len(values["logits"])
    for image in range(images):
        labels = [index for index in range(LABELS) if targets["count"][image, index]]
        kinds: list[int | None] = []
        errors: list[float] = []
        for anchor, start in enumerate(starts):
            best, nearest = math.inf, -1
            for label in labels:
                first = int(targets["first"][image, label])
                rows = range(max(first, start), first + int(targets["count"][image, label]))
                if len(rows):
                    apart = [abs(anchors[anchor, row] - targets["places"][image, label, row]) for row in rows]
                    if np.mean(apart) < best:
                        best, nearest = float(np.mean(apart)), label
            kinds.append(1 if best < 15 else 0 if best > 20 else None)
            if kinds[-1] == 1:
                last = int(targets["first"][image, nearest] + targets["count"][image, nearest])
                off = [values["lengths"][image, anchor] - (last - start)]
                off += [
                    values["places"][image, anchor, row] - targets["places"][image, nearest, row]
                    for row in range(start, last)
                ]
                errors.append(sum(e * e / 2 if abs(e) < 1 else abs(e) - 0.5 for e in off) / 25)
        if not errors:
            kinds = [0] * len(kinds)
        focal = 0.0
        for anchor, kind in enumerate(kinds):
            if kind is not None:
                share = np.exp(values["logits"][image, anchor])
                share = share[kind] / share.sum()
                focal -= 0.25 * (1 - share) ** 2 * math.log(share)
        classification += 10 * focal / max(1, len(errors)) / images
        regression += sum(errors) / max(1, len(errors)) / images
    return classification, regression


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**20), st.floats(-150, 150), st.floats(-100, 100))
def test_losses_are_the_published_ones(seed: int, offset: float, bend: float) -> None:
    batch = batch_of(DETECTOR, [road(offset, bend), [], road(-offset)[1:3]])
    outputs = outputs_for(DETECTOR, seed, 3)
    terms = DETECTOR.losses(outputs, batch)
    classification, regression = losses_in_words(DETECTOR, outputs, batch)
    assert float(terms["classification"]) == pytest.approx(classification, rel=1e-4)
    assert float(terms["regression"]) == pytest.approx(regression, rel=1e-4)


def test_an_image_without_a_positive_counts_all_its_anchors_as_negatives() -> None:
    # No anchor is near enough to be the lane, and none far enough to be no lane.
    detector = build(positive=1e-6, negative=1e6).eval()
    outputs = outputs_for(detector, 0, 1)
    terms = detector.losses(outputs, batch_of(detector, [road()]))
    none = outputs["logits"].double().softmax(-1)[..., 0]
    assert float(terms["classification"]) == pytest.approx(
        float(-10 * 0.25 * ((1 - none) ** 2 * none.log()).sum()), rel=1e-4
    )
    assert float(terms["regression"]) == 0


def test_anchors_whose_lanes_were_suppressed_are_not_learned_from() -> None:
    outputs = outputs_for(SUPPRESSING, 1, 1)
    outputs["lengths"] = torch.full_like(outputs["lengths"], 24.0)
    logits = outputs["logits"].clone().requires_grad_()
    # Without a label every anchor that takes part is a negative.
    terms = SUPPRESSING.losses({**outputs, "logits": logits}, batch_of(SUPPRESSING, [[]]))
    terms["classification"].backward()
    assert logits.grad is not None
    learned = logits.grad[0].abs().sum(dim=-1) > 0
    assert 0 < int(learned.sum()) < len(learned)
    scores = outputs["logits"][0].softmax(dim=-1)[:, 1]
    starts = (SUPPRESSING.get_buffer("anchor_starts") * 23).round().int()
    for anchor in range(len(learned)):
        distances = (outputs["places"][0] - outputs["places"][0, anchor]).abs()
        from_row = torch.maximum(starts, starts[anchor]).tolist()
        mean = torch.stack([row[first:].mean() for row, first in zip(distances, from_row, strict=True)])
        likelier = learned & (scores > scores[anchor]) & (mean < 7.5)
        assert bool(learned[anchor]) != bool(likelier.any())


def test_losses_are_finite_without_any_lane_and_every_parameter_learns_with_some() -> None:
    detector = build(initial_deviation=0.05)
    with torch.no_grad():
        for parameter in detector.backbone.parameters():
            # timm starts the last normalisation of every block at zero: one step later its convolutions get gradient, too.
            parameter.add_(0.01)
    terms = detector.losses(detector(noise(2)), batch_of(detector, [[], []]))
    assert float(terms["regression"].detach()) == 0
    assert torch.isfinite(terms["classification"])
    sum(detector.losses(detector(noise(2)), batch_of(detector, [road(), []])).values(), torch.zeros(())).backward()
    assert [n for n, p in detector.named_parameters() if p.grad is None or not p.grad.any()] == []


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
    outputs["logits"] = torch.where(outputs["logits"] > 3.85, 0.0, outputs["logits"])
    threshold = DETECTOR.configuration.recipe.confidence_threshold
    (decoded,) = DETECTOR.decode(outputs, [geometry])
    assert all((lane.score or 0) >= threshold for lane in decoded)
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


# The module


def test_taps_fire_once_and_deliver_the_stated_shapes() -> None:
    assert_taps(DETECTOR)


def test_one_seed_gives_one_detector_whose_state_dict_restores_it() -> None:
    one, other = build(), build(seed=1)
    one(noise(2))  # moves the running statistics
    with torch.no_grad():
        before = one.eval()(noise(1))
        assert not torch.equal(before["logits"], other.eval()(noise(1))["logits"])
        other.load_state_dict(one.state_dict(), strict=True)
        assert all(torch.equal(value, other(noise(1))[name]) for name, value in before.items())
    assert all(torch.equal(value, build().state_dict()[name]) for name, value in build().state_dict().items())


# Upstream


@pytest.fixture(scope="module")
def checkout() -> Path:
    return checkout_of("LaneATT")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "form"), [("laneatt_resnet18", "culane"), ("laneatt_resnet34", "tusimple")])
def test_everything_is_as_upstream_has_it(name: str, form: Form, checkout: Path) -> None:
    from harness.parity.compare import parity

    found = parity(name, form, checkout)
    assert {layer.name: layer.outcome for layer in found.layers if layer.outcome == "differs"} == {}
    assert {"raw logits", "raw places", "lanes", "loss classification", "loss regression"} <= {
        layer.name for layer in found.layers if layer.outcome == "agrees"
    }


@pytest.mark.slow
@pytest.mark.parametrize("dataset", ["culane", "tusimple", "llamas"])
def test_published_anchors_are_the_most_frequent_of_upstreams_count(dataset: str, checkout: Path) -> None:
    from detectors.parts.line_anchors import PUBLISHED

    frequencies = torch.load(checkout / "data" / f"{dataset}_anchors_freq.pt", weights_only=True)
    expected = frequencies.sort(descending=True, stable=True).indices[:1000]
    assert [int(rank) for rank in PUBLISHED[dataset].split()] == expected.tolist()
