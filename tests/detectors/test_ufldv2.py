from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.base import stack_targets
from detectors.checkpoints import renamed
from detectors.parts.row_wise import Anchors
from detectors.registry import TABLE, detector_meta
from detectors.ufldv2 import UFLDv2
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
from tests.detectors.roads import (
    FRAME,
    HOSTILE,
    augmented,
    batch_of,
    crossing,
    hostile_lanes,
    noise,
    road,
    straight,
    variant,
)

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "micro": {},
    "convolutional with columns": {"row_lanes": (1, 2), "column_anchors": 20, "column_cells": 30, "labels": "cell"},
    "fully connected": {
        "head": "fully_connected",
        "hidden": 64,
        "row_lanes": (1, 2),
        "row_share": 0.5,
        "row_cells": 100,
        "column_anchors": 20,
        "column_cells": 50,
        "labels": "cell",
    },
}


def build(name: str = "micro", seed: int = 0) -> UFLDv2:
    torch.manual_seed(seed)
    return UFLDv2(variant("ufldv2_micro", **ARCHITECTURES[name]), "culane")


def perfect_outputs(detector: UFLDv2, targets: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The logits that put all probability where the labels are."""
    outputs = {}
    for name, anchors in detector.families.items():
        positions = targets[name]
        cells = torch.arange(anchors.cells).view(1, -1, 1, 1)
        if detector.options.labels == "cell":
            probability = (cells == positions.floor()[:, None]).float()
        else:
            probability = (1 - (positions[:, None] - 0.5 - cells).abs()).clamp(min=0)
        outputs[f"{name}_location"] = probability.clamp(min=1e-12).log()
        exists = (positions >= 0).float()
        outputs[f"{name}_existence"] = torch.stack([-40 * exists + 20, 40 * exists - 20], dim=1)
    return outputs


# Metadata


@pytest.mark.parametrize(
    ("name", "form", "parameters"),
    [
        # Counted in the upstream repository (culane r18, r34 and tusimple r18).
        ("ufldv2_resnet18", "culane", 206_300_640),
        ("ufldv2_resnet34", "culane", 216_408_800),
        ("ufldv2_resnet18", "tusimple", 96_369_888),
    ],
)
def test_published_variants_have_the_published_number_of_parameters(name: str, form: Any, parameters: int) -> None:
    with torch.device("meta"):
        detector = UFLDv2(detector_meta(name), form)
    assert sum(parameter.numel() for parameter in detector.parameters()) == parameters


def test_the_registered_variants_are_those_of_the_file() -> None:
    assert {name for name, where in TABLE.items() if where.startswith("detectors.ufldv2:")} == set(UFLDv2.metas)


def test_the_published_input_is_the_lower_three_fifths_of_the_frame() -> None:
    size = detector_meta("ufldv2_resnet18").configurations["culane"].input
    assert size.crop_of(FRAME) == (236, 0, 590, 1640)
    assert size.network == (320, 1600)


def test_published_anchors_lie_where_upstream_puts_them() -> None:
    with torch.device("meta"):
        detector = UFLDv2(detector_meta("ufldv2_resnet18"), "culane")
    geometry = detector.geometry_of(FRAME)
    row, column = detector.families["row"], detector.families["column"]
    rows = geometry.to_original(row.points(np.full(72, 100.5)))
    np.testing.assert_allclose(rows[:, 1], np.linspace(0.42, 1, 72) * 590, atol=1e-9)
    np.testing.assert_allclose(rows[:, 0], 100.5 / 199 * 1640)
    columns = geometry.to_original(column.points(np.full(81, 60.5)))
    np.testing.assert_allclose(columns[:, 0], np.linspace(0, 1, 81) * 1640, atol=1e-9)
    np.testing.assert_allclose(columns[:, 1], 60.5 / 99 * 590)


def test_published_shifts_are_two_hundred_pixels_across_and_a_hundred_down() -> None:
    for form, (height, width) in (("culane", (590, 1640)), ("tusimple", (720, 1280))):
        recipe = detector_meta("ufldv2_resnet18").configurations[form].recipe
        assert recipe.augmentation.shift_x * width == pytest.approx(200)
        assert recipe.augmentation.shift_y * height == pytest.approx(100)


def test_the_small_variants_rows_are_those_that_the_metrics_look_at() -> None:
    for form, height, rows in (("tusimple", 720, range(210, 711, 10)), ("llamas", 717, range(300, 711, 10))):
        detector = UFLDv2(detector_meta("ufldv2_micro"), form)
        anchors = detector.families["row"]
        points = detector.geometry_of((height, 1280 if form == "tusimple" else 1276)).to_original(
            anchors.points(np.full(len(rows), 40.0))
        )
        np.testing.assert_allclose(points[:, 1], rows, atol=1e-9)


def test_impossible_architectures_are_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"ufldv2_micro.*row_lanez.*did you mean 'row_lanes'"):
        UFLDv2(variant("ufldv2_micro", row_lanez=(0,)), "culane")
    with pytest.raises(InputError, match="column_anchors"):
        UFLDv2(variant("ufldv2_micro", row_lanes=(1, 2)), "culane")
    with pytest.raises(InputError, match="at least 2 'column_anchors'"):
        UFLDv2(variant("ufldv2_micro", row_lanes=(1, 2), column_anchors=1), "culane")
    with pytest.raises(InputError, match="'row_lanes' names slots 0 to 3"):
        UFLDv2(variant("ufldv2_micro", row_lanes=(0, 1, 2, 3, 4)), "culane")


def test_upstreams_names_are_those_of_the_published_variants() -> None:
    with torch.device("meta"):
        culane, tusimple = (UFLDv2(detector_meta("ufldv2_resnet18"), form) for form in ("culane", "tusimple"))
    backbone = {f"model.{name}": value for name, value in culane.backbone.state_dict().items()}
    head = {"pool": "squeeze", "cls.0": "norm", "cls.1": "hidden", "cls.3": "output"}
    for detector, entries in ((culane, 128), (tusimple, 126)):
        upstream = backbone | {
            f"{theirs}.{part}": value
            for theirs, ours in head.items()
            for part, value in detector.head.get_submodule(ours).state_dict().items()
        }
        assert len(upstream) == entries  # counted in the upstream repository
        found = renamed(upstream, UFLDv2.checkpoint_names, where=Path("upstream"))
        assert found.keys() == detector.state_dict().keys()
        assert all(found[name].shape == value.shape for name, value in detector.state_dict().items())


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


DETECTORS = {name: build(name).eval() for name in ARCHITECTURES}


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


# Losses


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_losses_and_gradients_are_finite_without_any_lane(name: str) -> None:
    detector = build(name)
    terms = finite_terms(detector, batch_of(detector, [[], []]))
    assert all(value == 0 or term.endswith("existence") for term, value in terms.items())


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_every_parameter_learns_from_a_batch_with_lanes(name: str) -> None:
    detector = build(name)
    assert unmoved(detector, batch_of(detector, [road(), road(60.0)]), detector.backbone.parameters()) == set()


def published_losses(location: torch.Tensor, existence: torch.Tensor, labels: torch.Tensor) -> list[float]:
    """Upstream's three losses of one family, written anchor by anchor. labels: (B, anchors, lanes), cell or -1."""
    cells, focal, distance = location.shape[1], [], []
    for image, anchor, lane in np.argwhere(labels.numpy() >= 0):
        label = int(labels[image, anchor, lane])
        target = torch.zeros(cells)
        for neighbour, mass in ((label - 1, 0.05), (label, 0.9), (label + 1, 0.05)):
            target[min(max(neighbour, 0), cells - 1)] += mass
        probability = location[image, :, anchor, lane].softmax(0)
        focal.append(float(-(target * (1 - probability) ** 2 * probability.log()).sum()))
        expectation = (probability * torch.arange(cells)).sum()
        distance.append(float(F.smooth_l1_loss(expectation, torch.tensor(float(label)))))
    exist = float(F.cross_entropy(existence, (labels >= 0).long()))
    return [float(np.mean(focal)), exist, 0.05 * float(np.mean(distance))]


def test_losses_with_cell_labels_are_the_published_ones() -> None:
    detector = DETECTORS["fully connected"]
    left = Lane(np.array([[0, 589], [0, 260]], dtype=np.float32))  # where the first cell begins
    labels = [[left, *road()[2:]], road(-100.0)]
    batch = batch_of(detector, labels)
    assert (batch.targets["row"] == 0).any()
    generator = torch.Generator().manual_seed(1)
    shapes = {key: value.shape for key, value in detector(batch.images).items()}
    outputs = {key: torch.randn(shape, generator=generator) * 3 for key, shape in shapes.items()}
    terms = detector.losses(outputs, batch)
    for family in ("row", "column"):
        cells = torch.where(batch.targets[family] >= 0, batch.targets[family].floor(), -1)
        expected = published_losses(outputs[f"{family}_location"], outputs[f"{family}_existence"], cells)
        measured = [float(terms[f"{family}_{term}"]) for term in ("location", "existence", "expectation")]
        assert measured == pytest.approx(expected, rel=1e-4)
    assert set(terms) == {f"{f}_{t}" for f in ("row", "column") for t in ("location", "existence", "expectation")}


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_perfect_outputs_cost_less_than_any_others(name: str) -> None:
    detector = DETECTORS[name]
    batch = batch_of(detector, [road()])
    best = detector.losses(perfect_outputs(detector, batch.targets), batch)
    other = detector.losses(
        {k: torch.roll(v, 3, 1) for k, v in perfect_outputs(detector, batch.targets).items()}, batch
    )
    for term in best:
        assert best[term] < other[term] or term.endswith("existence")
        assert not term.endswith(("expectation", "existence")) or best[term] < 1e-3


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


# The module


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_taps_fire_once_and_deliver_the_stated_shapes(name: str) -> None:
    assert_taps(build(name))


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_one_seed_gives_one_detector(name: str) -> None:
    assert_one_seed_gives_one_detector(lambda seed: build(name, seed))


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_in_evaluation_an_image_is_seen_alike_in_any_batch(name: str) -> None:
    assert_alike_in_any_batch(DETECTORS[name])


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_the_state_dict_restores_a_detector_strictly(name: str) -> None:
    assert_restored_strictly(lambda seed: build(name, seed))


@pytest.mark.slow
def test_eight_images_are_learned_by_heart() -> None:
    assert learned_by_heart(build(), 70, 4e-3) > 0.9
