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

from detectors.base import stack_targets, tap_module
from detectors.bezierlanenet import IGNORED, BezierLaneNet, MirrorFusion
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


def build(seed: int = 0, form: Form = "culane", **options: Any) -> BezierLaneNet:
    torch.manual_seed(seed)
    return BezierLaneNet(variant("bezierlanenet_micro", form, **options), form)


MICRO = build().eval()
COLUMNS = 20


def fitted_outputs(targets: dict[str, torch.Tensor], columns: int = COLUMNS) -> dict[str, torch.Tensor]:
    """Every fourth column is sure to be a lane, and lies on a label; the others are none."""
    curves, present = targets["curves"], targets["present"]
    logits, found = torch.full((len(curves), columns), -20.0), torch.zeros(len(curves), columns, 4, 2)
    for image, label in itertools.product(range(len(curves)), range(curves.shape[1])):
        if present[image, label]:
            logits[image, 4 * label], found[image, 4 * label] = 20.0, curves[image, label]
    return {"logits": logits, "curves": found}


# Metadata


@pytest.mark.parametrize(
    ("name", "form", "parameters", "entries"),
    [
        # Counted in pytorch-auto-drive (configs/lane_detection/bezierlanenet).
        ("bezierlanenet_resnet18", "culane", 4_250_404, 173),
        ("bezierlanenet_resnet34", "tusimple", 9_637_924, 257),
    ],
)
def test_published_variants_have_the_published_size(name: str, form: Form, parameters: int, entries: int) -> None:
    assert size_of(name, form) == (parameters, entries)


@pytest.mark.parametrize(("options", "message"), [({"windows": 3}, "did you mean 'window'"), ({"window": 4}, "window")])
def test_impossible_options_are_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(**options)


# The fusion


def test_a_symmetric_map_is_fused_with_itself_and_offsets_start_at_none() -> None:
    torch.manual_seed(1)
    fusion = MirrorFusion(4).eval()
    features = torch.randn(1, 4, 5, 6)
    # Unlearned, the mirror image goes through a plain convolution of which every tap counts one half.
    mirrored = F.conv2d(features.flip(-1), 0.5 * fusion.weight, fusion.bias, padding=1)
    expected = F.relu(fusion.own(features) + fusion.norm(mirrored))
    torch.testing.assert_close(fusion(features), expected, atol=1e-5, rtol=1e-5)


def test_under_autocast_the_fusion_keeps_its_digits() -> None:
    detector = build().eval()
    seen: list[torch.dtype] = []
    detector.fusion.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        detector(noise(1))
    assert seen == [torch.float32]


def test_where_features_have_places_curves_begin_at_their_columns() -> None:
    detector = build(placed=True, stages=2).eval()
    with torch.no_grad():
        detector.curve.weight.zero_()
        detector.curve.bias.zero_()
        curves = detector(noise(1))["curves"][0]
    assert curves.shape == (40, 4, 2)
    torch.testing.assert_close(curves[:, :, 0], ((torch.arange(40) + 0.5) / 40)[:, None].expand(40, 4))
    assert not curves[:, :, 1].any()


# Labels


@settings(max_examples=25)
@given(offset=st.floats(-120, 120), bend=st.floats(-200, 200), degrees=st.floats(-8, 8), mirror=st.booleans())
def test_curves_of_labels_decode_to_the_labels_within_the_frame(
    offset: float, bend: float, degrees: float, mirror: bool
) -> None:
    lanes, geometry = road(offset, bend), turned(MICRO, degrees, mirror)
    targets = stack_targets([MICRO.encode_targets(lanes, geometry)])
    outputs = fitted_outputs(targets)
    (decoded,) = MICRO.decode(outputs, [geometry])
    inside = [
        lane.points[(network > -0.5).all(1) & (network < (319.5, 127.5)).all(1)]
        for lane in lanes
        for network in [geometry.to_network(lane.points)]
    ]
    inside = [points for points in inside if len(points) > 2]
    assert len(inside) <= len(decoded) <= 4
    for points in inside:
        # A cubic meets these lanes within some pixels of 1640.
        assert min(distance(points[1:-1], found.points) for found in decoded) < 6.0
    for found in decoded:
        assert min(distance(found.points, lane.points) for lane in lanes) < 6.0
        assert found.points[0, 1] >= found.points[-1, 1]


def test_more_lanes_than_places_leave_out_the_lowest_ones() -> None:
    detector = build(labels=2)
    short = Lane(np.stack([np.linspace(600, 700, 5), np.linspace(580, 500, 5)], axis=1))
    curves = detector.encode_targets([short, road()[1], road()[2]], detector.geometry_of(FRAME))
    expected = detector.encode_targets(road()[1:3], detector.geometry_of(FRAME))
    np.testing.assert_array_equal(curves["curves"], expected["curves"])
    assert curves["present"].tolist() == [1, 1]


def test_masks_hold_lanes_and_say_where_no_frame_is_seen() -> None:
    geometry = turned(MICRO, 20.0)
    mask = MICRO.encode_targets(road(), geometry)["mask"]
    rows, columns = np.indices(mask.shape)
    original = geometry.to_original(np.stack([columns, rows], axis=-1))
    # Pixels on the frame's edge, which are 5 px of the frame wide, may count to either side.
    beyond = np.maximum(-original, original - (1639, 589)).max(axis=-1)
    assert (mask[beyond > 6] == IGNORED).all()
    assert (mask[beyond < -6] != IGNORED).all()
    lies = original[mask == 1]
    assert len(lies) > 300
    assert max(min(distance(point[None], lane.points) for lane in road()) for point in lies[::40]) < 25
    assert (MICRO.encode_targets([], MICRO.geometry_of(FRAME))["mask"] == 0).all()


@pytest.mark.parametrize("points", HOSTILE.values(), ids=HOSTILE)
def test_hostile_labels_give_finite_losses_and_gradients(points: Any) -> None:
    detector = build()
    finite_terms(detector, batch_of(detector, [hostile_lanes(points), []]))


# Losses


def published_losses(outputs: dict[str, torch.Tensor], targets: dict[str, torch.Tensor], k: int) -> dict[str, float]:
    """Equations 4 to 7 of the paper, label by label and column by column; the best matching is found by trying them all."""
    logits, curves = outputs["logits"].double(), outputs["curves"].double().numpy()
    t = np.linspace(0, 1, 100)
    basis = np.stack([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3], axis=1)
    truth, total, count = torch.zeros_like(logits), 0.0, 0
    for image, scores in enumerate(logits.sigmoid().tolist()):
        labels = [
            basis @ curve
            for curve, there in zip(targets["curves"][image].double().numpy(), targets["present"][image], strict=True)
            if there
        ]
        highest = [p == max(scores[max(0, q - k // 2) : q + k // 2 + 1]) for q, p in enumerate(scores)]
        l1 = [[np.abs(basis @ curve - label).sum() / 100 for label in labels] for curve in curves[image]]
        merit = [
            [here * p**0.2 * max(0.0, 1 - each) ** 0.8 for each in row]
            for here, p, row in zip(highest, scores, l1, strict=True)
        ]
        best = max(
            itertools.permutations(range(len(scores)), len(labels)),
            key=lambda chosen: sum(merit[q][m] for m, q in enumerate(chosen)),
        )
        for label, column in enumerate(best):
            truth[image, column] = 1
            total += l1[column][label]
            count += 1
    lane = F.binary_cross_entropy_with_logits(logits, truth, pos_weight=torch.tensor(2.5)) / 2.5
    mask, pixels = (
        targets["mask"],
        F.interpolate(
            outputs["mask"][:, None].double(), targets["mask"].shape[1:], mode="bilinear", align_corners=True
        )[:, 0],
    )
    entropy = -(2.5 * (mask == 1) * F.logsigmoid(pixels) + (mask == 0) * F.logsigmoid(-pixels)) / 2.5
    return {"curve": total / max(count, 1), "lane": 0.1 * float(lane), "mask": 0.75 * float(entropy.mean())}


@pytest.mark.parametrize("seed", range(3))
def test_losses_are_the_published_ones(seed: int) -> None:
    geometries = [MICRO.geometry_of(FRAME), turned(MICRO, 12.0), MICRO.geometry_of(FRAME)]
    batch = batch_of(MICRO, [road(30.0 * seed)[:3], road(-100.0)[1:3], []], geometries=geometries)
    generator = torch.Generator().manual_seed(seed)
    columns = 9
    outputs = {
        # Three columns are far higher than all around them, so that the best matching is no tie.
        "logits": torch.randn(3, columns, generator=generator) + 4 * (torch.arange(columns) % 3 == 1),
        "curves": torch.rand(3, columns, 4, 2, generator=generator),
        "mask": torch.randn(3, 8, 20, generator=generator),
    }
    measured = {name: float(term) for name, term in MICRO.losses(outputs, batch).items()}
    assert measured == pytest.approx(published_losses(outputs, batch.targets, 3), rel=1e-4)


def test_pixels_beyond_the_frame_teach_nothing() -> None:
    batch = batch_of(MICRO, [road()], geometries=[turned(MICRO, 20.0)])
    outputs = {name: value.clone() for name, value in fitted_outputs(batch.targets).items()}
    outputs["mask"] = torch.zeros(1, 8, 20, requires_grad=True)
    MICRO.losses(outputs, batch)["mask"].backward()
    assert batch.targets["mask"][0, 0, -1] == IGNORED
    assert outputs["mask"].grad is not None
    assert outputs["mask"].grad[0, 0, -1] == 0
    assert outputs["mask"].grad.any()


def test_every_parameter_learns_from_a_batch_with_lanes() -> None:
    detector = build()
    assert unmoved(detector, batch_of(detector, [road(), road(60.0)]), detector.parameters()) == set()


def test_outputs_that_are_no_numbers_show_in_the_loss() -> None:
    batch = batch_of(MICRO, [road()])
    outputs = fitted_outputs(batch.targets) | {"mask": torch.zeros(1, 8, 20)}
    outputs["curves"][0, :, 2] = math.nan
    assert torch.isnan(MICRO.losses(outputs, batch)["curve"])


# Decoding


def drawn(columns: dict[int, float]) -> dict[str, torch.Tensor]:
    """A straight upright line in each column that is named, with a score; all others have none."""
    logits, curves = torch.full((1, COLUMNS), -9.0), torch.zeros(1, COLUMNS, 4, 2)
    for column, score in columns.items():
        logits[0, column] = math.log(score / (1 - score))
        curves[0, column, :, 0], curves[0, column, :, 1] = (column + 0.5) / COLUMNS, torch.tensor([1, 0.8, 0.6, 0.4])
    return {"logits": logits, "curves": curves}


def columns_of(detector: BezierLaneNet, columns: dict[int, float]) -> dict[int, float]:
    (lanes,) = detector.decode(drawn(columns), [detector.geometry_of(FRAME)])
    return {int(lane.points[0, 0] / 1640 * COLUMNS): round(lane.score or 0, 4) for lane in lanes}


def test_a_column_is_a_lane_where_it_is_sure_enough_and_none_near_it_is_surer() -> None:
    assert columns_of(MICRO, {3: 0.9, 4: 0.8, 6: 0.6, 10: 0.49, 15: 0.7}) == {3: 0.9, 6: 0.6, 15: 0.7}
    assert columns_of(build(window=7).eval(), {3: 0.9, 4: 0.8, 6: 0.6, 15: 0.7}) == {3: 0.9, 15: 0.7}
    assert columns_of(build(threshold=0.0).eval(), {}) != {}


def test_of_more_lanes_than_there_may_be_the_surest_are_predicted_from_left_to_right() -> None:
    found = columns_of(build(max_lanes=2).eval(), {1: 0.6, 5: 0.9, 9: 0.7, 13: 0.8})
    assert list(found.items()) == [(5, 0.9), (13, 0.8)]


def test_points_beyond_the_frames_sides_are_left_out_where_the_dataset_has_none() -> None:
    outputs = drawn({10: 0.9})
    outputs["curves"][0, 10, :, 0] = torch.tensor([-0.3, 0.0, 0.3, 0.6])
    for trimmed, least in ((False, -0.3), (True, 0.0)):
        detector = build(trimmed=trimmed).eval()
        ((lane,),) = detector.decode(outputs, [detector.geometry_of(FRAME)])
        assert lane.points[:, 0].min() / 1640 == pytest.approx(least, abs=0.02)
        assert lane.points[:, 0].min() / 1640 >= least - 1e-6


# The module


def test_taps_fire_once_and_the_mask_is_made_in_training_alone() -> None:
    detector = build()
    shapes: dict[str, list[tuple[int, ...]]] = {tap.path: [] for tap in detector.taps()}
    for tap in detector.taps():
        tap_module(detector, tap).register_forward_hook(
            lambda module, inputs, output, path=tap.path: shapes[path].append(tuple(output.shape))
        )
    outputs = detector(noise(2))
    assert shapes == {tap.path: [(2, tap.channels, 128 // tap.stride, 320 // tap.stride)] for tap in detector.taps()}
    expected = {"logits": (2, COLUMNS), "curves": (2, COLUMNS, 4, 2)}
    assert {name: tuple(value.shape) for name, value in outputs.items()} == expected | {"mask": (2, 8, 20)}
    assert {name: tuple(value.shape) for name, value in detector.eval()(noise(2)).items()} == expected


def test_one_seed_gives_one_detector_that_sees_an_image_alike_in_any_batch() -> None:
    assert_one_seed_gives_one_detector(build)
    assert_alike_in_any_batch(MICRO)
