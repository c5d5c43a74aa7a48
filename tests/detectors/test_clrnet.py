from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from detectors.base import Batch, stack_targets
from detectors.checkpoints import import_checkpoint
from detectors.clrnet import CLRNet
from detectors.parts.dynamic_assignment import (
    LENGTH,
    PRESENT,
    START_X,
    START_Y,
    THETA,
    XS,
    assign_dynamic_k,
    present_lanes,
)
from detectors.registry import TABLE, detector_meta
from harness.errors import InputError
from harness.lanes import Geometry, Lane
from tests.checkouts import checkout_of
from tests.detectors.promises import (
    assert_alike_in_any_batch,
    assert_one_seed_gives_one_detector,
    assert_taps,
    finite_terms,
    unmoved,
)
from tests.detectors.roads import FRAME, HOSTILE, batch_of, hostile_lanes, noise, road, variant


def build(seed: int = 0, threshold: float | None = None, **architecture: Any) -> CLRNet:
    torch.manual_seed(seed)
    return CLRNet(variant("clrnet_micro", threshold=threshold, **architecture), "culane")


def moved(detector: CLRNet, shift: tuple[float, float], scale: float, mirror: bool) -> Geometry:
    """The detector's geometry followed by a scaling, a shift in network pixels and perhaps a mirror."""
    plain = detector.geometry_of(FRAME)
    width = plain.network[1]
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]], [0, 0, 1]]) @ plain.matrix
    if mirror:
        matrix = np.array([[-1, 0, width - 1], [0, 1, 0], [0, 0, 1]]) @ matrix
    return Geometry(plain.original, plain.crop, plain.network, matrix)


def outputs_of(detector: CLRNet, targets: Tensor, sure: float = 6.0) -> dict[str, Tensor]:
    """Lanes (B, 1, priors, 6 + rows) that are the targets (B, M, 6 + rows), and background behind them."""
    width, strips = detector.configuration.input.network[1], detector.options.rows - 1
    lanes = torch.zeros(len(targets), 1, detector.options.priors, targets.shape[-1])
    lanes[..., 0], lanes[..., PRESENT] = sure, -sure
    told = targets.clone()
    there = told[..., PRESENT] == 1
    told[..., 0], told[..., PRESENT] = torch.where(there, -sure, sure), torch.where(there, sure, -sure)
    told[..., START_X] /= width - 1
    told[..., LENGTH] /= strips
    told[..., XS] /= width - 1
    lanes[:, 0, : targets.shape[1]] = told
    return {"lanes": lanes}


MICRO = build().eval()


# Metadata


def test_published_recipes_move_the_view_as_upstreams_pipelines_do() -> None:
    # configs/clrnet/*.py of Turoad/CLRNet: Affine comes after the cut and Resize.
    published = [meta for name, meta in CLRNet.metas.items() if name != "clrnet_micro"]
    assert all(one.recipe.augmentation.in_view for meta in published for one in meta.configurations.values())


@pytest.mark.parametrize(
    ("name", "form", "parameters", "tensors"),
    [
        # Counted in Turoad/CLRNet, which has six more tensors: constants, and the priors as lines.
        ("clrnet_resnet18", "culane", 11_774_387, 205 - 6),
        ("clrnet_resnet18", "tusimple", 11_774_773, 205 - 6),
        ("clrnet_resnet34", "culane", 21_882_547, 301 - 6),
        ("clrnet_resnet101", "culane", 43_270_067, 709 - 6),
    ],
)
def test_published_variants_have_the_published_number_of_parameters(
    name: str, form: Any, parameters: int, tensors: int
) -> None:
    with torch.device("meta"):
        detector = CLRNet(detector_meta(name), form)
    assert sum(parameter.numel() for parameter in detector.parameters()) == parameters
    assert len(detector.state_dict()) == tensors


def test_the_registered_variants_are_those_of_the_file() -> None:
    assert {name for name, where in TABLE.items() if where.startswith("detectors.clrnet:")} == set(CLRNet.metas)


@pytest.mark.parametrize(
    ("form", "first", "last", "count"),
    [("culane", 270, 582, 40), ("tusimple", 160, 710, 56), ("llamas", 300, 716, 417)],
)
def test_published_lanes_are_written_on_upstreams_rows(form: Any, first: int, last: int, count: int) -> None:
    with torch.device("meta"):
        rows = CLRNet(detector_meta("clrnet_resnet18"), form).frame_rows
    assert (rows[0], rows[-1], len(rows)) == (first, last, count)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prior": 8}, r"clrnet_micro.*prior.*did you mean 'priors'"),
        ({"priors": 20}, "priors"),
        ({"samples": 40}, "samples"),
        ({"slots": 5}, "slots"),
    ],
)
def test_impossible_architectures_are_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(**options)


def test_a_frame_of_another_size_is_cut_in_proportion() -> None:
    geometry = MICRO.geometry_of((295, 820))
    assert geometry.crop == (118, 0, 295, 820)
    np.testing.assert_allclose(geometry.to_network([[-0.5, 117.5], [819.5, 294.5]]), [[-0.5, -0.5], [319.5, 127.5]])


# Labels


def test_labels_are_on_rows_that_run_from_the_lower_edge_to_the_upper() -> None:
    targets = MICRO.encode_targets(road(), MICRO.geometry_of(FRAME))
    assert targets["mask"].dtype == np.uint8
    assert set(np.unique(targets["mask"])) == {0, 1, 2, 3, 4}
    lanes = targets["lanes"]
    assert (lanes.shape, lanes.dtype) == ((4, 42), np.float32)
    assert lanes[:, PRESENT].all()
    # Of 354 rows of the frame, x of the frame are 320 / 1640 as many pixels.
    y = 590 - np.arange(36) * 354 / 35
    for lane, foot in zip(lanes, (-1500, -420, 400, 1480), strict=True):
        x = (820 + foot * (y - 260) / 330) * 320 / 1640
        inside = np.flatnonzero((x >= 0) & (x < 320) & (y >= 300))
        start = inside[0]
        assert round(lane[START_Y] * 35) == start
        # From the lowest row on which it is in the image up to its last point at y = 309, or 299 where the image's edge comes first.
        assert abs(lane[LENGTH] - len(inside)) <= 1
        np.testing.assert_allclose(lane[XS][inside[:-1]], x[inside[:-1]], atol=0.05)
        rise = (inside[-2] - start) * 128 / 35
        assert lane[THETA] == pytest.approx(math.atan2(rise, x[inside[-2]] - x[start]) / math.pi, abs=0.01)


def test_points_left_of_the_frame_do_not_count() -> None:
    geometry = MICRO.geometry_of(FRAME)
    lane = road()[1]
    outside = Lane(np.concatenate([[[-50.0, 589.0], [-20.0, 588.0]], lane.points]))
    for key, value in MICRO.encode_targets([lane], geometry).items():
        np.testing.assert_array_equal(MICRO.encode_targets([outside], geometry)[key], value)


def test_points_above_the_frame_do_not_count() -> None:
    geometry = MICRO.geometry_of(FRAME)
    lane = road()[1]
    outside = Lane(np.concatenate([lane.points, [[900.0, -5.0], [950.0, -200.0]]]))
    for key, value in MICRO.encode_targets([lane], geometry).items():
        np.testing.assert_array_equal(MICRO.encode_targets([outside], geometry)[key], value)


def test_lanes_of_fewer_points_than_upstream_takes_are_none() -> None:
    two = Lane(np.array([[400.0, 580.0], [700.0, 330.0]]))
    three = Lane(np.array([[400.0, 580.0], [500.0, 500.0], [700.0, 330.0]]))
    geometry = MICRO.geometry_of(FRAME)
    assert MICRO.encode_targets([two, three], geometry)["lanes"][:, PRESENT].sum() == 1
    assert build(label_points=2).encode_targets([two, three], geometry)["lanes"][:, PRESENT].sum() == 2


@settings(max_examples=20, deadline=None)
@given(
    offset=st.floats(-300, 300),
    bend=st.floats(-300, 300),
    shift=st.tuples(st.floats(-30, 30), st.floats(-15, 15)),
    scale=st.floats(0.8, 1.2),
    mirror=st.booleans(),
)
def test_labels_come_back_from_perfect_outputs(
    offset: float, bend: float, shift: tuple[float, float], scale: float, mirror: bool
) -> None:
    geometry = moved(MICRO, shift, scale, mirror)
    labels = road(offset, bend)
    targets = stack_targets([MICRO.encode_targets(labels, geometry)])
    (decoded,) = MICRO.decode(outputs_of(MICRO, targets["lanes"]), [geometry])
    # Two that run beside each other all the way are one lane to the suppression.
    assert 1 <= len(decoded) <= int(targets["lanes"][0, :, PRESENT].sum())
    for lane in decoded:
        assert len(lane) >= 2
        assert lane.points[0, 1] >= lane.points[-1, 1]
        assert lane.score == pytest.approx(1.0, abs=1e-4)
        # Lines and parabolas are cubic splines: they come back but for single precision, and for what ends bring along that are
        # prolonged by up to 1 % of the frame's height.
        near = (lane.points[:, 1] - 260.0) / 330.0
        known = (near > 40 / 330) & (lane.points[:, 1] <= 589)
        x = [820 + offset + foot * near + bend * (1 - near) ** 2 for foot in (-1500, -420, 400, 1480)]
        apart = min((np.abs(lane.points[known, 0] - line[known]) for line in x), key=np.max)
        assert np.median(apart) < 2.0
        assert np.max(apart) < 20.0


@pytest.mark.parametrize("points", HOSTILE.values(), ids=HOSTILE)
def test_hostile_lanes_encode_to_finite_targets_of_the_usual_shape(points: Any) -> None:
    hostile = hostile_lanes(points)
    for lanes in (hostile, hostile * 9, [*road(), *hostile]):
        targets = MICRO.encode_targets(lanes, MICRO.geometry_of(FRAME))
        assert targets["lanes"].shape == (4, 42)
        assert np.isfinite(targets["lanes"]).all()
        assert targets["mask"].shape == (128, 320)


# Losses


def by_hand(detector: CLRNet, outputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
    """The published losses, one image, stage and pair at a time."""
    options, width = detector.options, detector.configuration.input.network[1]
    strips = options.rows - 1
    terms: dict[str, list[Tensor]] = {"classification": [], "regression": [], "line": []}
    for stages, targets in zip(outputs["lanes"], batch.targets["lanes"], strict=True):
        lanes = [target for target in targets if target[PRESENT] == 1]
        for predicted in stages:
            costs, overlaps = detector.costs_and_overlaps(predicted[None], targets[None])
            assigned = assign_dynamic_k(costs, overlaps, present_lanes(targets[None]))[0]
            focal, regression, line = predicted.new_zeros(3)
            for prior, number in zip(predicted, assigned.tolist(), strict=True):
                share = prior[:2].softmax(0)[int(number >= 0)]
                focal = focal - 0.25 * (1 - share) ** 2 * share.log()
                if number < 0:
                    continue
                target = targets[number]
                late = (prior[START_Y] * strips).round().clamp(0, strips) - target[START_Y] * strips
                found = prior[2:6] * torch.tensor([strips, width - 1, 180, strips])
                wanted = torch.stack(
                    [target[START_Y] * strips, target[START_X], target[THETA] * 180, target[LENGTH] - late]
                )
                regression = regression + F.smooth_l1_loss(found, wanted)
                seen = (target[XS] >= 0) & (target[XS] < width)
                apart = (prior[XS] * (width - 1) - target[XS])[seen].abs()
                line = line + 1 - (2 * options.radius - apart).sum() / (2 * options.radius + apart).sum()
            count = max(1, int((assigned >= 0).sum()))
            terms["classification"].append(focal / max(1, len(lanes)))
            terms["regression"].append(regression / count)
            terms["line"].append(line / count)
    weight = torch.tensor([0.4] + [1.0] * options.slots)
    logits = F.interpolate(outputs["mask"], size=(128, 320), mode="bilinear")
    means = {name: torch.stack(values).mean() * getattr(options, name) for name, values in terms.items()}
    entropy = F.cross_entropy(logits, batch.targets["mask"].long(), weight=weight)
    return means | {"mask": options.mask * entropy}


def test_losses_are_the_published_ones() -> None:
    detector = build(every_lane=False, classification=6.0, regression=0.5, line=8.0, mask=0.7).train()
    batch = batch_of(detector, [road(), road(-100.0)[1:3], []])
    with torch.no_grad():
        outputs = detector(batch.images)
        generator = torch.Generator().manual_seed(1)
        # Random weights give lanes without length, all as sure as each other.
        outputs["lanes"] += 0.05 * torch.randn(outputs["lanes"].shape, generator=generator)
        outputs["lanes"][..., :2] += torch.randn(outputs["lanes"][..., :2].shape, generator=generator)
        outputs["lanes"][..., LENGTH] += 0.6
        measured, expected = detector.losses(outputs, batch), by_hand(detector, outputs, batch)
    assert set(measured) == set(expected)
    for name, value in expected.items():
        assert float(measured[name]) == pytest.approx(float(value), rel=2e-5), name


def test_losses_and_gradients_are_finite_without_any_lane() -> None:
    detector = build().train()
    terms = finite_terms(detector, batch_of(detector, [[], []]))
    assert set(terms) == {"classification", "regression", "line", "mask"}
    assert terms["regression"] == terms["line"] == 0.0


def test_every_parameter_learns_from_a_batch_with_lanes() -> None:
    detector = build().train()
    hiding = (*detector.backbone.parameters(), *detector.head.gathering.context.parameters())
    assert unmoved(detector, batch_of(detector, [road(), road(60.0)]), hiding) == set()


def test_perfect_outputs_cost_less_than_any_others() -> None:
    batch = batch_of(MICRO, [road()[1:]])
    perfect = outputs_of(MICRO, batch.targets["lanes"])
    best = MICRO.losses(perfect, batch)
    assert float(best["line"]) == pytest.approx(0.0, abs=1e-5)
    assert float(best["regression"]) == pytest.approx(0.0, abs=1e-5)
    for columns, by in ((slice(0, 2), 2.0), (slice(2, 6), 0.01), (XS, 0.01)):
        changed = perfect["lanes"].clone()
        changed[..., columns] += torch.tensor([by, -by] * 40)[: changed[..., columns].shape[-1]]
        worse = MICRO.losses({"lanes": changed}, batch)
        assert float(sum(worse.values())) > float(sum(best.values()))


def test_a_lane_whose_claims_go_to_others_is_learned_by_another_prior_where_that_is_asked_for() -> None:
    batch = batch_of(MICRO, [road()])
    outputs = outputs_of(MICRO, batch.targets["lanes"])
    # Nothing is sure but the first lane's prior, which every lane then claims; the others' lie far off.
    outputs["lanes"][0, 0, 1:, :2] = torch.tensor([6.0, -6.0])
    outputs["lanes"][0, 0, 1:, XS] += 0.5
    few, all_of_them = build(every_lane=False), build(every_lane=True)
    assert float(few.losses(outputs, batch)["line"]) == pytest.approx(0.0, abs=1e-5)
    assert float(all_of_them.losses(outputs, batch)["line"]) > 0.5


# Decoding


def candidates(*lanes: tuple[float, float, float, float]) -> dict[str, Tensor]:
    """Upright lanes of (score, start in rows, length in rows, x in network pixels), then background."""
    outputs = torch.zeros(1, 1, 64, 42)
    outputs[..., 0] = 20.0
    for number, (score, start, length, x) in enumerate(lanes):
        outputs[0, 0, number, :2] = torch.tensor([0.0, math.log(score / (1 - score))])
        outputs[0, 0, number, START_Y], outputs[0, 0, number, LENGTH] = start / 35, length / 35
        outputs[0, 0, number, XS] = x / 319
    return {"lanes": outputs}


def found(detector: CLRNet, outputs: dict[str, Tensor]) -> list[tuple[float, int, int, int]]:
    """Score, x in network pixels, first and last row of the frame of each decoded lane."""
    geometry = detector.geometry_of(FRAME)
    (lanes,) = detector.decode(outputs, [geometry])
    return [
        (
            round(float(lane.score or 0), 3),
            round(float(lane.points[:, 0].mean()) * 320 / 1640),
            round(float(lane.points[0, 1])),
            round(float(lane.points[-1, 1])),
        )
        for lane in lanes
    ]


def test_only_lanes_that_are_likely_enough_are_predicted() -> None:
    outputs = candidates((0.9, 0, 36, 40), (0.7, 0, 36, 120), (0.5, 0, 36, 200), (0.3, 0, 36, 280))
    assert [lane[:2] for lane in found(build(threshold=0.6), outputs)] == [(0.9, 40), (0.7, 120)]
    assert [lane[0] for lane in found(build(threshold=0.2), outputs)] == [0.9, 0.7, 0.5, 0.3]


def test_the_last_stages_lanes_are_predicted() -> None:
    stages = [candidates((0.9, 0, 36, x))["lanes"] for x in (40, 120, 200)]
    assert [lane[:2] for lane in found(MICRO, {"lanes": torch.cat(stages, dim=1)})] == [(0.9, 200)]


def test_of_lanes_beside_each_other_the_likeliest_is_predicted_and_at_most_so_many() -> None:
    outputs = candidates(
        (0.6, 0, 36, 40), (0.9, 0, 36, 55), (0.8, 0, 36, 120), (0.7, 0, 36, 200), (0.65, 0, 36, 160), (0.5, 0, 36, 300)
    )
    assert [lane[:2] for lane in found(MICRO, outputs)] == [(0.9, 55), (0.8, 120), (0.7, 200), (0.65, 160)]
    assert [lane[:2] for lane in found(build(max_lanes=2), outputs)] == [(0.9, 55), (0.8, 120)]


def test_a_lane_that_starts_high_is_prolonged_to_the_bottom_or_the_edge_where_that_is_asked_for() -> None:
    outputs = candidates((0.9, 12, 10, 160))
    ((_, _, first, last),) = found(build(prolonged=36), outputs)
    assert first >= 580
    assert found(build(prolonged=0), outputs)[0][2:] == (pytest.approx(590 - 12 * 354 / 35, abs=8), last)
    assert found(build(prolonged=4), outputs)[0][2:] == (pytest.approx(590 - 8 * 354 / 35, abs=8), last)
    # Left of the image on row 5 and below: it goes down to row 6.
    outputs["lanes"][0, 0, 0, XS][:6] = -0.1
    assert found(build(prolonged=36), outputs)[0][2:] == (pytest.approx(590 - 6 * 354 / 35, abs=8), last)


def test_a_lane_is_written_a_hundredth_of_the_frames_height_beyond_its_last_row() -> None:
    ((*_, last),) = found(build(first_row=236, row_step=1), candidates((0.9, 0, 10, 160)))
    assert last == math.ceil(590 - 9 * 354 / 35 - 0.01 * 590)


@pytest.mark.parametrize("length", [0.0, 1.0, -3.0, -80.0, math.nan, -math.inf])
def test_a_lane_without_length_is_not_predicted(length: float) -> None:
    assert found(MICRO, candidates((0.9, 0, length, 160), (0.8, 0, 36, 40))) == [(0.8, 40, 588, 236)]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_places_that_are_no_numbers_are_passed_over(value: float) -> None:
    outputs = candidates((0.9, 0, 36, 160))
    outputs["lanes"][0, 0, 0, XS][10:13] = value
    (lanes,) = MICRO.decode(outputs, [MICRO.geometry_of(FRAME)])
    np.testing.assert_allclose(lanes[0].points[:, 0], 160 * 1640 / 320, atol=0.01)


def test_a_network_that_says_nothing_but_nonsense_finds_nothing() -> None:
    outputs = {"lanes": torch.full((2, 3, 64, 42), math.nan)}
    assert MICRO.decode(outputs, [MICRO.geometry_of(FRAME)] * 2) == [[], []]


# The module


def test_taps_fire_once_and_deliver_the_stated_shapes() -> None:
    detector = build()
    assert [tap.stride for tap in detector.taps()] == [4, 8, 16, 32]
    assert_taps(detector)


def test_masks_are_made_for_training_alone() -> None:
    detector = build()
    assert {key: tuple(value.shape) for key, value in detector.train()(noise(2)).items()} == {
        "lanes": (2, 3, 64, 42),
        "mask": (2, 5, 16, 40),
    }
    assert set(detector.eval()(noise(1))) == {"lanes"}


def test_training_leaves_nothing_behind_that_cannot_be_copied() -> None:
    # Upstream keeps tensors with a graph in buffers, which a moving average of weights can't copy.
    detector = build().train()
    batch = batch_of(detector, [road(), []])
    sum(detector.losses(detector(batch.images), batch).values(), torch.zeros(())).backward()
    twin = copy.deepcopy(detector).eval()
    kept = twin(noise(1))["lanes"]
    detector.decode({"lanes": kept.detach()}, [detector.geometry_of(FRAME)])
    fresh = build().state_dict()
    assert all(value.dtype == fresh[name].dtype for name, value in twin.state_dict().items())
    assert kept.dtype == torch.float32


def test_one_seed_gives_one_detector() -> None:
    assert_one_seed_gives_one_detector(build)


def test_in_evaluation_an_image_is_seen_alike_in_any_batch() -> None:
    assert_alike_in_any_batch(MICRO)


def test_the_spare_entries_of_a_checkpoint_are_passed_over_and_no_others(tmp_path: Path) -> None:
    state = {f"head.{name}": value for name, value in MICRO.head.state_dict().items()}
    state |= {name: value for name, value in MICRO.state_dict().items() if name not in state}
    spare = {"heads.prior_ys": torch.zeros(36), "heads.criterion.weight": torch.ones(5), "heads.priors": torch.zeros(3)}
    torch.save({"net": {f"module.{name}": value for name, value in (state | spare).items()}}, tmp_path / "a.pth")
    detector = import_checkpoint("clrnet_micro", "culane", tmp_path / "a.pth")
    assert all(torch.equal(value, MICRO.state_dict()[name]) for name, value in detector.state_dict().items())
    torch.save({"net": state | {"heads.other": torch.zeros(1)}}, tmp_path / "b.pth")
    with pytest.raises(InputError, match=r"unknown: heads\.other"):
        import_checkpoint("clrnet_micro", "culane", tmp_path / "b.pth")


@pytest.mark.slow
@pytest.mark.parametrize("form", ["culane", "tusimple"])
def test_upstreams_code_gives_the_same(form: Any) -> None:
    from harness.parity.compare import parity

    compared = parity("clrnet_resnet18", form, checkout_of("CLRNet"))
    assert [layer.name for layer in compared.layers if layer.outcome == "differs"] == []
    agreeing = {layer.name for layer in compared.layers if layer.outcome == "agrees"}
    assert {"raw logits", "raw lines", "raw places", "lanes", "loss classification", "loss line"} <= agreeing
