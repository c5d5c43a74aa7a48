from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.base import Batch, stack_targets, tap_module
from detectors.checkpoints import renamed
from detectors.meta import DetectorMeta
from detectors.parts.row_wise import Anchors
from detectors.registry import TABLE, detector_meta
from detectors.ufldv2 import UFLDv2
from harness.errors import InputError
from harness.lanes import Geometry, Lane

FRAME = (590, 1640)

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


def variant(**architecture: Any) -> DetectorMeta:
    """The micro variant with some other architecture options."""
    meta = detector_meta("ufldv2_micro")
    configuration = meta.configurations["culane"]
    changed = configuration.model_copy(update={"architecture": configuration.architecture | architecture})
    return meta.model_copy(update={"configurations": {"culane": changed}})


def build(name: str = "micro", seed: int = 0) -> UFLDv2:
    torch.manual_seed(seed)
    return UFLDv2(variant(**ARCHITECTURES[name]), "culane")


def batch_of(detector: UFLDv2, images: torch.Tensor, labels: list[list[Lane]], geometries: list[Geometry]) -> Batch:
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
    """Four lanes in CULane's frame that meet at a vanishing point, as a camera in the middle of three lanes sees them."""
    y = np.arange(589.0, 300.0, -10.0)
    near = (y - 260.0) / 330.0
    return [
        Lane(np.stack([820 + offset + foot * near + bend * (1 - near) ** 2, y], axis=1))
        for foot in (-1500, -420, 400, 1480)
    ]


def changed(detector: UFLDv2, rotation: float, shift: tuple[float, float], scale: float, mirror: bool) -> Geometry:
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


def crossing(points: np.ndarray, axis: int, value: float) -> float | None:
    """Where a polyline first reaches `value` on `axis`: its other coordinate. Segment by segment."""
    for start, end in itertools.pairwise(points):
        low, high = min(start[axis], end[axis]), max(start[axis], end[axis])
        if low <= value <= high:
            share = 0.0 if high == low else (value - start[axis]) / (end[axis] - start[axis])
            return float(start[1 - axis] + share * (end[1 - axis] - start[1 - axis]))
    return None


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


def test_impossible_architectures_are_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"ufldv2_micro.*row_lanez.*did you mean 'row_lanes'"):
        UFLDv2(variant(row_lanez=(0,)), "culane")
    with pytest.raises(InputError, match="column_anchors"):
        UFLDv2(variant(row_lanes=(1, 2)), "culane")


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
    geometry = changed(detector, rotation, shift, scale, mirror)
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
        found = [(anchors, crossing(polyline, anchors.axis, nearest_line(anchors, point))) for anchors in families]
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
    geometry = changed(detector, 3.0, (10.0, -5.0), 0.9, False)
    targets = detector.encode_targets(road(), geometry)
    for family, anchors in detector.families.items():
        assert targets[family].dtype == np.float32
        assert targets[family].shape == (len(anchors.lines), 4)
        for slot, lane in enumerate(road()):
            polyline = geometry.to_network(lane.points)
            for line, position in zip(anchors.lines, targets[family][:, slot], strict=True):
                place = crossing(polyline, anchors.axis, line)
                expected = -1.0 if place is None else (place - anchors.origin) / anchors.width
                inside = 0 <= expected <= anchors.cells - 1
                assert position == (pytest.approx(expected, abs=1e-3) if inside else -1.0)


@settings(max_examples=40, deadline=None)
@given(offset=st.floats(-350, 350), bend=st.floats(-300, 300), rotation=st.floats(-8, 8))
def test_a_mirrored_frame_has_mirrored_slots(offset: float, bend: float, rotation: float) -> None:
    detector = DETECTORS["micro"]
    plain = detector.encode_targets(road(offset, bend), changed(detector, rotation, (0, 0), 1.0, False))["row"]
    mirrored = detector.encode_targets(road(offset, bend), changed(detector, rotation, (0, 0), 1.0, True))["row"]
    # Cells begin at x = 0 of the frame and end at 1640, its pixels are mirrored about 819.5.
    both = (plain >= 0) & (mirrored[:, ::-1] >= 0)
    span = (detector.options.row_cells - 1) * 1639 / 1640
    assert both.sum() > 0.9 * (plain >= 0).sum()
    np.testing.assert_allclose(mirrored[:, ::-1][both], span - plain[both], atol=1e-3)


def slots(lanes: list[Lane]) -> list[int | None]:
    """The slot of each lane, found by encoding them together and each alone."""
    detector = DETECTORS["micro"]
    geometry = detector.geometry_of(FRAME)
    together = detector.encode_targets(lanes, geometry)["row"]
    found: list[int | None] = []
    for lane in lanes:
        alone = detector.encode_targets([lane], geometry)["row"].max(axis=1)
        same = [slot for slot in range(4) if np.array_equal(together[:, slot], alone)]
        found.append(same[0] if same and alone.max() >= 0 else None)
    return found


def straight(foot: float, near: float = 589.0) -> Lane:
    """A lane towards (820, 260) that crosses the bottom of the frame at x = foot and is seen from y = near on."""
    y = np.arange(near, 290.0, -10.0)
    return Lane(np.stack([820 + (foot - 820) * (y - 260) / 329.5, y], axis=1))


@pytest.mark.parametrize(
    ("feet", "expected"),
    [
        ([-600, 400, 1200, 2200], [0, 1, 2, 3]),
        ([2200, 1200, 400, -600], [3, 2, 1, 0]),
        ([400], [1]),
        ([1200, 2200], [2, 3]),
        ([-1600, -600, 400], [None, 0, 1]),
        ([100, 300, 500, 900, 1200, 1500], [None, 0, 1, 2, 3, None]),
        ([], []),
    ],
)
def test_lanes_take_slots_from_the_centre_outwards(feet: list[float], expected: list[int | None]) -> None:
    assert slots([straight(foot) for foot in feet]) == expected


def test_a_lane_that_starts_late_is_placed_by_its_prolongation() -> None:
    # Both lie left of the centre; where it begins, high up in the frame, the outer one is nearer to it than the other one's foot.
    lanes = [straight(400), straight(100, near=330)]
    assert slots(lanes) == [1, 0]


def test_a_lane_outside_the_frame_takes_no_slot() -> None:
    outside = Lane(np.array([[1700.0, 589.0], [1690.0, 300.0]]))
    assert slots([outside, straight(1900)]) == [None, 2]


def test_a_lane_that_ends_early_goes_on_to_the_last_row_where_labels_are_prolonged() -> None:
    early = straight(400, near=450.0)
    plain, longer = (
        UFLDv2(variant(**ARCHITECTURES["fully connected"], prolong=prolong), "culane") for prolong in (False, True)
    )
    geometry = plain.geometry_of(FRAME)
    before, after = (detector.encode_targets([early], geometry) for detector in (plain, longer))
    whole = plain.encode_targets([straight(400)], geometry)
    kept = before["row"] >= 0
    np.testing.assert_array_equal(after["row"][kept], before["row"][kept])
    rows = np.linspace(0.42, 0.99, 32) * 590
    np.testing.assert_allclose(after["row"][rows < 589], whole["row"][rows < 589], atol=0.02)
    np.testing.assert_array_equal(after["column"], before["column"])
    assert detector_meta("ufldv2_resnet18").configurations["culane"].architecture == {"prolong": True}


HOSTILE = {
    "no points": [],
    "one point": [[800, 500]],
    "twice the same point": [[800, 500], [800, 500]],
    "level": [[100, 500], [900, 500]],
    "not a number": [[math.nan, 500], [800, math.inf], [700, 400]],
    "far away": [[-4000, 4000], [4000, -4000]],
    "a row crossed three times": [[300, 580], [400, 300], [500, 580], [600, 300]],
    "from far to near": [[820, 300], [400, 589]],
    "on anchors": [[400, y] for y in np.linspace(0.99, 0.42, 32) * 590],
    "below the frame": [[400, 700], [500, 600]],
}


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
@pytest.mark.parametrize("points", HOSTILE.values(), ids=HOSTILE)
def test_hostile_lanes_encode_to_finite_targets_of_the_usual_shape(name: str, points: Any) -> None:
    detector = DETECTORS[name]
    lane = Lane(np.array(points, dtype=np.float32))
    expected = detector.encode_targets(road(), detector.geometry_of(FRAME))
    for lanes in ([lane], [lane] * 9, [*road(), lane]):
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
    labels: list[list[Lane]] = [[], []]
    batch = batch_of(detector, noise(2), labels, [detector.geometry_of(FRAME)] * 2)
    terms = detector.losses(detector(batch.images), batch)
    sum(terms.values(), torch.zeros(())).backward()
    for term_name, term in terms.items():
        assert term.shape == ()
        assert torch.isfinite(term), term_name
        assert float(term.detach()) == 0 or term_name.endswith("existence")
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in detector.parameters())


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_every_parameter_learns_from_a_batch_with_lanes(name: str) -> None:
    detector = build(name)
    batch = batch_of(detector, noise(2), [road(), road(60.0)], [detector.geometry_of(FRAME)] * 2)
    # timm starts the last normalisation of every block at zero: one step later its convolutions get gradient, too.
    with torch.no_grad():
        for parameter in detector.backbone.parameters():
            parameter.add_(0.01)
    sum(detector.losses(detector(batch.images), batch).values(), torch.zeros(())).backward()
    assert [n for n, p in detector.named_parameters() if p.grad is None or not p.grad.any()] == []


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
    left = Lane(np.array([[5, 589], [5, 260]], dtype=np.float32))
    labels = [[left, *road()[2:]], road(-100.0)]
    batch = batch_of(detector, noise(2), labels, [detector.geometry_of(FRAME)] * 2)
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
    batch = batch_of(detector, noise(1), [road()], [detector.geometry_of(FRAME)])
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
    meta = variant()
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


def test_no_lane_decodes_to_no_lane() -> None:
    for detector in DETECTORS.values():
        targets = stack_targets([detector.encode_targets([], detector.geometry_of(FRAME))] * 3)
        assert detector.decode(perfect_outputs(detector, targets), [detector.geometry_of(FRAME)] * 3) == [[], [], []]


# The module


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_taps_fire_once_and_deliver_the_stated_shapes(name: str) -> None:
    detector = build(name)
    shapes: dict[str, list[tuple[int, ...]]] = {tap.path: [] for tap in detector.taps()}
    for tap in detector.taps():
        tap_module(detector, tap).register_forward_hook(
            lambda module, inputs, output, path=tap.path: shapes[path].append(tuple(output.shape))
        )
    detector(noise(2))
    assert shapes == {tap.path: [(2, tap.channels, 128 // tap.stride, 320 // tap.stride)] for tap in detector.taps()}


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_one_seed_gives_one_detector(name: str) -> None:
    one, same, other = build(name).eval(), build(name).eval(), build(name, seed=1).eval()
    with torch.no_grad():
        assert torch.equal(one(noise(1))["row_location"], same(noise(1))["row_location"])
        assert not torch.equal(one(noise(1))["row_location"], other(noise(1))["row_location"])


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_in_evaluation_an_image_is_seen_alike_in_any_batch(name: str) -> None:
    detector = DETECTORS[name]
    with torch.no_grad():
        together = detector(noise(3))
        for index in range(3):
            alone = detector(noise(3)[index : index + 1])
            for key, value in alone.items():
                torch.testing.assert_close(value[0], together[key][index], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_the_state_dict_restores_a_detector_strictly(name: str) -> None:
    source, other = build(name), build(name, seed=1)
    source(noise(2))  # moves the running statistics
    other.load_state_dict(source.state_dict(), strict=True)
    with torch.no_grad():
        before, after = source.eval()(noise(2)), other.eval()(noise(2))
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.slow
def test_eight_images_are_learned_by_heart() -> None:
    detector = build("micro")
    geometry = detector.geometry_of(FRAME)
    generator = np.random.default_rng(0)
    labels = [road(float(generator.uniform(-120, 120)), float(generator.uniform(-150, 150))) for _ in range(8)]
    labels[3] = labels[3][1:3]
    labels[5] = []
    batch = batch_of(detector, drawn(labels, geometry, generator), labels, [geometry] * 8)
    optimizer = torch.optim.AdamW(detector.parameters(), lr=4e-3)
    for _ in range(70):
        optimizer.zero_grad()
        sum(detector.losses(detector(batch.images), batch).values(), torch.zeros(())).backward()
        optimizer.step()
    with torch.no_grad():
        decoded = detector.eval().decode(detector(batch.images), batch.geometries)
    assert f1(decoded, labels) > 0.9


def drawn(labels: list[list[Lane]], geometry: Geometry, generator: np.random.Generator) -> torch.Tensor:
    """Noise with bright lines of 5 px where the lanes are."""
    images = generator.integers(0, 120, (len(labels), 3, *geometry.network), dtype=np.uint8)
    columns = np.arange(geometry.network[1])
    for image, lanes in zip(images, labels, strict=True):
        for points in (geometry.to_network(lane.points) for lane in lanes):
            for row in range(geometry.network[0]):
                place = crossing(points, 1, float(row))
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
    places = [crossing(candidate.points, 1, float(y)) for y in visible[:, 1]]
    distances = [abs(place - x) for place, x in zip(places, visible[:, 0], strict=True) if place is not None]
    return len(distances) >= 0.8 * len(visible) and float(np.mean(distances)) < 15
