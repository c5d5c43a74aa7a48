from __future__ import annotations

import itertools
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from detectors.base import stack_targets
from detectors.checkpoints import import_checkpoint
from detectors.registry import TABLE, detector_meta
from detectors.ufld import UFLD, shape_loss, similarity_loss
from harness.errors import InputError
from harness.lanes import Lane
from tests.detectors.promises import assert_alike_in_any_batch, assert_taps, finite_terms, learned_by_heart, unmoved
from tests.detectors.roads import FRAME, HOSTILE, augmented, batch_of, crossing, hostile_lanes, noise, road, variant

CULANE_ANCHORS = (121, 131, 141, 150, 160, 170, 180, 189, 199, 209, 219, 228, 238, 248, 258, 267, 277, 287)
TUSIMPLE_ANCHORS = range(64, 285, 4)
"""Rows of 288: cfzd/Ultra-Fast-Lane-Detection, data/constant.py."""

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "micro": {},
    "as published": {
        **{"rows": (247, 268, 288, 307, 327, 348, 368, 387, 407, 428, 448, 467, 487, 508, 528, 546, 567, 587)},
        **{"decoded_rows": tuple(range(249, 590, 20)), "decoded_span": (7.2309, 1645.18), "cells": 200},
        **{"labels": "cell", "prolong": True, "hidden": 16, "auxiliary": 4, "min_points": 3},
    },
    "without auxiliary head": {"auxiliary": None, "labels": "cell", "similarity": 1.0, "shape": 0.5},
}


def build(name: str = "micro", seed: int = 0, **architecture: Any) -> UFLD:
    torch.manual_seed(seed)
    return UFLD(variant("ufld_micro", **ARCHITECTURES[name] | architecture), "culane")


def published(name: str, form: Any) -> UFLD:
    """A published variant without memory for its weights."""
    with torch.device("meta"):
        return UFLD(detector_meta(name), form)


DETECTORS = {name: build(name).eval() for name in ARCHITECTURES}


def perfect_outputs(detector: UFLD, targets: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The logits that put all probability where the labels are."""
    positions, cells = targets["position"], detector.options.cells
    choices = torch.arange(cells + 1).view(1, -1, 1, 1)
    if detector.options.labels == "cell":
        probability = (choices == positions.floor()[:, None]).float()
    else:
        place = (positions - 0.5).clamp(0, cells - 1)[:, None]
        probability = (1 - (place - choices).abs()).clamp(min=0) * (choices < cells)
    absent = torch.where((positions < 0)[:, None], (choices == cells).float(), probability)
    outputs = {"location": absent.clamp(min=1e-12).log()}
    if "mask" in targets:
        outputs["segmentation"] = 40.0 * F.one_hot(targets["mask"].long(), 5).permute(0, 3, 1, 2).float()
    return outputs


# Metadata


@pytest.mark.parametrize(
    ("name", "form", "parameters"),
    [
        # Counted in the upstream repository, with the auxiliary head.
        ("ufld_resnet18", "culane", 47_917_909),
        ("ufld_resnet34", "culane", 58_026_069),
        ("ufld_resnet18", "tusimple", 64_621_357),
    ],
)
def test_published_variants_have_the_published_number_of_parameters(name: str, form: Any, parameters: int) -> None:
    assert sum(parameter.numel() for parameter in published(name, form).parameters()) == parameters


def test_without_the_auxiliary_head_the_number_is_that_of_upstreams_tests() -> None:
    detector = published("ufld_resnet18", "culane")
    detector.auxiliary = None
    assert sum(parameter.numel() for parameter in detector.parameters()) == 44_522_192


def test_the_registered_variants_are_those_of_the_file() -> None:
    assert {name for name, where in TABLE.items() if where.startswith("detectors.ufld:")} == set(UFLD.metas)


@pytest.mark.parametrize(
    ("form", "anchors", "size"), [("culane", CULANE_ANCHORS, (590, 1640)), ("tusimple", TUSIMPLE_ANCHORS, (720, 1280))]
)
def test_lanes_are_learned_where_upstream_reads_its_masks(form: Any, anchors: Any, size: tuple[int, int]) -> None:
    detector = published("ufld_resnet18", form)
    cells = detector.options.cells
    points = detector.geometry_of(size).to_original(detector.labels.points(np.full(len(anchors), 10.0)))
    np.testing.assert_allclose(points[:, 1], [int((row * 1.0 / 288) * size[0]) for row in anchors], atol=1e-9)
    np.testing.assert_allclose(points[:, 0], 10 * np.linspace(0, size[1] - 1, cells)[1])


def test_labels_are_as_wide_as_the_masks_of_the_datasets_and_prolonged_as_upstreams() -> None:
    for form, width in (("culane", 1640), ("tusimple", 1280)):
        options = published("ufld_resnet18", form).options
        assert options.lane_width == round(16 * 800 / width)
        assert options.prolong


def test_published_shifts_are_two_hundred_pixels_across_and_a_hundred_down() -> None:
    for form, (height, width) in (("culane", (590, 1640)), ("tusimple", (720, 1280))):
        recipe = detector_meta("ufld_resnet18").configurations[form].recipe
        assert recipe.augmentation.shift_x * width == pytest.approx(200)
        assert recipe.augmentation.shift_y * height == pytest.approx(100)


def test_the_small_variants_rows_are_those_that_the_metrics_look_at() -> None:
    for form, rows in (("tusimple", range(210, 711, 10)), ("llamas", range(300, 711, 10))):
        assert UFLD(detector_meta("ufld_micro"), form).options.rows == tuple(rows)


def test_impossible_architectures_are_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"ufld_micro.*celz.*did you mean 'cells'"):
        UFLD(variant("ufld_micro", celz=3), "culane")
    with pytest.raises(InputError, match="decoded_rows"):
        UFLD(variant("ufld_micro", decoded_rows=(1, 2)), "culane")
    with pytest.raises(InputError, match="from the top down"):
        UFLD(variant("ufld_micro", rows=(400, 300, 200, 100), decoded_rows=None), "culane")
    for rows in ((300, 400, 500), (300, 400, 400, 500)):
        with pytest.raises(InputError, match="four or more"):
            UFLD(variant("ufld_micro", rows=rows, decoded_rows=None), "culane")


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


# Losses


def published_losses(outputs: dict[str, torch.Tensor], cells: torch.Tensor, mask: torch.Tensor) -> dict[str, float]:
    """Upstream's four losses, written out row by row. cells: (B, rows, lanes), the last choice where a lane is absent."""
    logits = outputs["location"]
    images, choices, rows, lanes = logits.shape
    focal, steps = [], []
    for image, row, lane in np.ndindex(images, rows, lanes):
        probability = float(logits[image, :, row, lane].softmax(0)[cells[image, row, lane]])
        focal.append(-((1 - probability) ** 2) * math.log(probability))
    for row in range(rows - 1):
        steps.append(F.smooth_l1_loss(logits[:, :, row], logits[:, :, row + 1]))
    place = torch.einsum("bkrl,k->brl", logits[:, :-1].softmax(1), torch.arange(choices - 1.0))
    bends = [
        ((place[:, row] - place[:, row + 1]) - (place[:, row + 1] - place[:, row + 2])).abs().mean()
        for row in range(rows // 2 - 1)
    ]
    return {
        "location": float(np.mean(focal)),
        "segmentation": float(F.cross_entropy(outputs["segmentation"], mask.long())),
        "similarity": float(torch.stack(steps).mean()),
        "shape": float(torch.stack(bends).mean()),
    }


def test_losses_are_the_published_ones() -> None:
    detector = build("as published", similarity=0.5, shape=0.25).train()
    left = Lane(np.array([[0, 589], [0, 240]], dtype=np.float32))  # where the first cell begins
    batch = batch_of(detector, [road(), [left, *road(-100.0)[1:3]]])
    assert (batch.targets["position"] == 0).any()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        outputs = {k: 3 * torch.randn(v.shape, generator=generator) for k, v in detector(batch.images).items()}
    terms = detector.losses(outputs, batch)
    positions = batch.targets["position"]
    cells = torch.where(positions < 0, 200, positions.floor()).long()
    expected = published_losses(outputs, cells, batch.targets["mask"])
    expected["similarity"] *= 0.5
    expected["shape"] *= 0.25
    assert {name: float(term) for name, term in terms.items()} == pytest.approx(expected, rel=1e-4)


def test_published_weights_of_the_structural_losses() -> None:
    culane, tusimple = (published("ufld_resnet18", form).options for form in ("culane", "tusimple"))
    assert (culane.similarity, culane.shape) == (0.0, 0.0)
    assert (tusimple.similarity, tusimple.shape) == (1.0, 0.0)


def test_structural_losses_are_zero_for_straight_lanes_that_are_sure() -> None:
    cells, rows = 30, 8
    place = 4 + 2 * torch.arange(rows)[:, None] + torch.zeros(rows, 4)
    straight = 60.0 * (torch.arange(cells + 1)[:, None, None] == place)[None].float()
    assert float(shape_loss(straight)) == pytest.approx(0.0, abs=1e-5)
    assert float(similarity_loss(straight[:, :, :1].expand(-1, -1, rows, -1))) == 0.0
    assert float(similarity_loss(straight)) > 0.1


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_losses_and_gradients_are_finite_without_any_lane(name: str) -> None:
    detector = build(name)
    finite_terms(detector, batch_of(detector, [[], []]))


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_every_parameter_learns_from_a_batch_with_lanes(name: str) -> None:
    detector = build(name)
    assert unmoved(detector, batch_of(detector, [road(), road(60.0)]), detector.backbone.parameters()) == set()


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_perfect_outputs_cost_less_than_any_others(name: str) -> None:
    detector = DETECTORS[name]
    batch = batch_of(detector, [road()])
    perfect = perfect_outputs(detector, batch.targets)
    best = detector.losses(perfect, batch)
    other = detector.losses({key: value.roll(3, 1) for key, value in perfect.items()}, batch)
    assert all(best[term] < other[term] for term in best if term in ("location", "segmentation"))


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


# The module


def test_the_auxiliary_head_works_in_training_alone() -> None:
    detector = build()
    with torch.no_grad():
        trained, tested = detector.train()(noise(2)), detector.eval()(noise(2))
        assert trained["segmentation"].shape == (2, 5, 16, 40)
        assert set(tested) == {"location"}
        assert set(build("without auxiliary head").train()(noise(2))) == {"location"}


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_taps_fire_once_and_deliver_the_stated_shapes(name: str) -> None:
    assert_taps(build(name))


def test_in_evaluation_an_image_is_seen_alike_in_any_batch() -> None:
    assert_alike_in_any_batch(DETECTORS["micro"])


UPSTREAM_NAMES = (
    (r"^backbone\.", "model."),
    (r"^head\.squeeze\.", "pool."),
    (r"^head\.hidden\.", "cls.0."),
    (r"^head\.output\.", "cls.2."),
    (r"^auxiliary\.branches\.(\d)\.(\d)\.0\.", r"aux_header\1.\2.conv."),
    (r"^auxiliary\.branches\.(\d)\.(\d)\.1\.", r"aux_header\1.\2.bn."),
    (r"^auxiliary\.combine\.([0-3])\.0\.", r"aux_combine.\1.conv."),
    (r"^auxiliary\.combine\.([0-3])\.1\.", r"aux_combine.\1.bn."),
    (r"^auxiliary\.combine\.4\.", "aux_combine.4."),
    (r"^aux_header2\.", "aux_header4."),
    (r"^aux_header1\.", "aux_header3."),
    (r"^aux_header0\.", "aux_header2."),
)


def test_a_checkpoint_under_upstreams_names_is_imported(tmp_path: Path) -> None:
    source = build(seed=3).eval()
    state = {}
    for name, value in source.state_dict().items():
        for pattern, replacement in UPSTREAM_NAMES:
            name = re.sub(pattern, replacement, name)
        state[f"module.{name}"] = value
    torch.save({"model": state, "optimizer": {}}, tmp_path / "ep049.pth")
    detector = import_checkpoint("ufld_micro", "culane", tmp_path / "ep049.pth")
    with torch.no_grad():
        assert torch.equal(detector(noise(1))["location"], source(noise(1))["location"])


@pytest.mark.slow
def test_eight_images_are_learned_by_heart() -> None:
    assert learned_by_heart(build(), 60, 2e-3) > 0.9
