from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.interpolate import InterpolatedUnivariateSpline
from torch import Tensor

from detectors.checkpoints import import_checkpoint
from detectors.clrernet import CLRerNet
from detectors.clrnet import CLRNet
from detectors.parts.cross_layer import initial_priors, sampled_rows
from detectors.parts.dynamic_assignment import LENGTH, PRESENT, START_X, START_Y, THETA, XS, present_lanes
from detectors.parts.line_iou import LONGEST_STEP, lane_iou, lane_radii
from detectors.registry import detector_meta
from harness.lanes import Lane
from tests.detectors.promises import unmoved
from tests.detectors.roads import FRAME, batch_of

CROP = (354.0, 1640.0)
"""Height and width of what the micro variant sees of a frame."""


def build(kind: type[CLRNet] = CLRerNet, seed: int = 0, **architecture: Any) -> CLRNet:
    """The micro variant with some other architecture options."""
    torch.manual_seed(seed)
    meta = detector_meta("clrernet_micro" if kind is CLRerNet else "clrnet_micro")
    configuration = meta.configurations["culane"]
    changed = configuration.model_copy(update={"architecture": configuration.architecture | architecture})
    return kind(meta.model_copy(update={"configurations": {"culane": changed}}), "culane")


def straight(foot: float, slope: float, top: float = 260.0) -> Lane:
    """A lane from the bottom of the frame, `slope` pixels to the right for each upwards."""
    y = np.arange(589.0, top, -10)
    return Lane(np.stack([foot + slope * (589 - y), y], axis=1).astype(np.float32))


def pyramid_of(detector: CLRNet, value: float = 1.0) -> list[Tensor]:
    return [torch.full((1, 32, 16 // 2**level, 40 // 2**level), value) for level in range(3)]


def outputs_of(lanes: Tensor, logit: float = 5.0) -> dict[str, Tensor]:
    """Targets (P, 6 + rows) as the outputs of one image that is sure of them."""
    found = lanes.clone()
    found[:, 0], found[:, PRESENT] = -logit, logit
    found[:, START_X] /= 319
    found[:, LENGTH] /= 35
    found[:, XS] /= 319
    return {"lanes": found[None, None]}


def test_published_variants_have_the_published_number_of_parameters_and_recipe() -> None:
    # Counted in hirotomusiker/CLRerNet's own model; configs/clrernet/culane/clrernet_culane_dla34{,_ema}.py.
    for name, epochs, schedule, decay, threshold in (
        ("clrernet_dla34", 15, "cosine", None, 0.41),
        ("clrernet_dla34_ema", 50, "constant", 0.9999, 0.43),
    ):
        with torch.device("meta"):
            detector = CLRerNet(detector_meta(name), "culane")
        assert sum(parameter.numel() for parameter in detector.parameters()) == 15_826_979
        recipe = detector.configuration.recipe
        assert (recipe.epochs, recipe.batch_size, recipe.learning_rate) == (epochs, 24, 6e-4)
        assert (recipe.schedule, recipe.ema_decay, recipe.confidence_threshold) == (schedule, decay, threshold)
        assert recipe.augmentation.in_view, "its Affine comes after Crop and Resize"


def test_what_upstreams_moving_average_leaves_beside_the_weights_is_dropped(tmp_path: Path) -> None:
    # Its hook keeps a buffer for each entry, by the entry's name with underscores (hirotomusiker/CLRerNet, issue 26).
    state = build().state_dict()
    buffers = {f"ema_{name.replace('.', '_')}": torch.zeros_like(value) for name, value in state.items()}
    torch.save({"meta": {"epoch": 50}, "state_dict": state | buffers}, tmp_path / "ema.pth")
    found = import_checkpoint("clrernet_micro", "culane", tmp_path / "ema.pth").state_dict()
    assert all(torch.equal(value, state[name]) for name, value in found.items())


def test_untrained_priors_are_the_lines_of_clrnet_though_their_weights_count_from_the_top() -> None:
    ours, theirs = build(CLRerNet).eval(), build(CLRNet).eval()
    for detector in (ours, theirs):
        torch.nn.init.zeros_(detector.head.changes.weight)
        torch.nn.init.zeros_(detector.head.changes.bias)
    assert torch.allclose(ours.head.priors[:, 0], 1 - initial_priors(64)[:, 0])
    with torch.no_grad():
        found, expected = (detector.head(pyramid_of(detector)) for detector in (ours, theirs))
    assert torch.allclose(found[..., START_Y:], expected[..., START_Y:], atol=1e-4)
    assert found[..., START_Y].min() >= 0


def test_a_start_that_is_moved_up_in_the_weights_comes_out_nearer_the_bottom() -> None:
    detector = build().eval()
    torch.nn.init.zeros_(detector.head.changes.weight)
    torch.nn.init.zeros_(detector.head.changes.bias)
    with torch.no_grad():
        before = detector.head(pyramid_of(detector))[:, 0, :, START_Y]
        detector.head.changes.bias[0] = 0.1
        after = detector.head(pyramid_of(detector))[:, 0, :, START_Y]
    assert torch.allclose(after, before - 0.1, atol=1e-6)


def test_features_follow_a_prior_from_the_bottom_up_and_are_read_a_row_above_its_places() -> None:
    """Upstream's y at place k is that of the k-th place from the other end: libs/models/dense_heads/clrernet_head.py."""
    head = build().head
    sampled, count = sampled_rows(18, 36), 18
    assert head.get_buffer("sampled").tolist() == sampled.tolist()
    assert sampled[0] == 0
    assert sampled[-1] == 35
    # A map of 16 rows on which every place says how far down it lies.
    depth = torch.linspace(0, 1, 16)[None, None, :, None].expand(1, 32, 16, 40)
    read = head._read(2, depth, torch.full((1, 1, count), 0.5))[0, 0, :, 0]
    assert torch.allclose(read, torch.tensor(sampled[::-1] / 35, dtype=torch.float32), atol=1e-6)
    above = (1 - sampled / 35 - read.numpy()) * 35
    assert np.allclose(above[1:-1], 1, atol=1e-4)
    assert np.allclose(above[[0, -1]], 0, atol=1e-4)


def test_a_prior_that_starts_later_is_to_be_as_much_longer_as_upstreams_code_has_it() -> None:
    targets = build().encode_targets([straight(400, 1.0)], build().geometry_of(FRAME))["lanes"]
    lane = torch.from_numpy(targets[0])
    late = outputs_of(lane[None])["lanes"][0]
    late[..., START_Y] += 3 / 35
    for kind, longer in ((CLRerNet, 3), (CLRNet, -3)):
        detector = build(kind)
        errors = []
        for rows in (-longer, 0, longer):
            late[..., LENGTH] = (lane[LENGTH] + rows) / 35
            errors.append(float(detector._regression_errors(late, lane[None, None])[0, 0]))
        assert errors[2] == min(errors)
        # What is left is the start itself, three rows off.
        assert errors[2] == pytest.approx((3 - 0.5) / 4, abs=1e-3)


def test_the_line_loss_is_what_lane_iou_lacks_over_the_priors_that_learn() -> None:
    detector = build(classification=0.0, regression=0.0, mask=0.0, radius=3.0, own_angles=True).train()
    batch = batch_of(detector, [[straight(500, 1.2, top=200), straight(1000, -0.4, top=200)]])
    lanes = batch.targets["lanes"][0, :2]
    outputs = outputs_of(lanes)
    assert float(detector.losses(outputs, batch)["line"]) == pytest.approx(0, abs=0.02)
    outputs["lanes"][..., XS] += 2 / 319
    places, labels = outputs["lanes"][0, 0, :, XS] * 319 / 320, lanes[:, XS] / 320
    radii = [
        lane_radii(xs, radius=3 / 320, frame=CROP, longest_step=longest)
        for xs, longest in ((places, math.inf), (labels, LONGEST_STEP))
    ]
    expected = 1 - lane_iou(places, labels, *radii)
    assert float(detector.losses(outputs, batch)["line"]) == pytest.approx(4 * float(expected.mean()), rel=1e-5)


def test_places_far_apart_on_neighbouring_rows_still_learn_where_to_go() -> None:
    """Where bands have the angles of such places, they are as wide as the image and have the label in them, on whichever side."""
    jagged = torch.tensor([0.3, 0.3, 0.7, 0.7]).repeat(9)
    for own, learns in ((False, True), (True, False)):
        detector = build(own_angles=own, radius=3.0)
        predicted = torch.zeros(1, 1, 6 + 36)
        predicted[..., XS] = jagged
        predicted.requires_grad_()
        learned = torch.full((1, 1, 6 + 36), 160.0)
        detector.line_errors(predicted, learned).sum().backward()
        assert predicted.grad is not None
        inner = predicted.grad[0, 0, XS][1:-1]
        assert bool((inner != 0).any()) == learns


def test_labels_keep_the_course_that_they_have_outside_the_frame() -> None:
    """A bent lane that leaves the frame on the right: CLRNet's is cut off there and prolonged straight, here the curve goes on."""
    y = np.arange(589.0, 260, -10)
    bent = Lane(np.stack([1900 - 0.008 * (589 - y) ** 2 - 2 * (589 - y), y], axis=1).astype(np.float32))
    ours, theirs = build(CLRerNet), build(CLRNet)
    found, cut = (d.encode_targets([bent], d.geometry_of(FRAME))["lanes"][0] for d in (ours, theirs))
    rows = 128 * (1 - np.arange(36) / 35)
    height = 589 - (236 + rows / 128 * 354)
    expected = (1900 - 0.008 * height**2 - 2 * height) * 320 / 1640
    inside = found[XS] > -1e4
    assert inside[2:30].all()
    assert np.abs(found[XS] - expected)[2:30].max() < 0.1
    assert np.abs(cut[XS] - expected)[2:30].max() > 1
    assert found[START_Y] == pytest.approx(np.flatnonzero(expected < 320)[0] / 35)


def test_labels_of_two_points_are_learned_and_of_one_are_not() -> None:
    detector = build()
    for points, count in (([[400, 580]], 0), ([[400, 580], [600, 300]], 1)):
        lanes = [Lane(np.array(points, dtype=np.float32))]
        targets = detector.encode_targets(lanes, detector.geometry_of(FRAME))["lanes"]
        assert int(present_lanes(torch.from_numpy(targets)).sum()) == count


def test_a_decoded_curve_goes_through_its_places_left_of_the_frame() -> None:
    """CLRNet leaves such places out, so that its curve may swing where a lane comes back."""
    up = torch.linspace(0, 1, 36)
    lane = torch.zeros(1, 6 + 36)
    lane[0, LENGTH], lane[0, THETA] = 36, 0.3
    lane[0, XS] = 40 * torch.cos(2 * math.pi * 1.5 * up) + 30
    y = 590 - np.arange(36) * 354 / 35
    curve = InterpolatedUnivariateSpline(y[::-1], lane[0, XS].numpy()[::-1] * 1640 / 320, k=3)
    for kind, through_all in ((CLRerNet, True), (CLRNet, False)):
        detector = build(kind, row_step=1).eval()
        (found,) = detector.decode(outputs_of(lane), [detector.geometry_of(FRAME)])[0]
        assert (found.points[:, 0] >= 0).all()
        assert len(found.points) > 200
        off = np.abs(found.points[:, 0] - curve(found.points[:, 1])).max()
        assert (off < 0.05) == through_all


def test_losses_and_gradients_are_finite_with_lanes_in_some_images_and_in_none() -> None:
    detector = build().train()
    for labels in ([[], []], [[straight(500, 1.2)], []], [[straight(200 + 200 * k, 0.1 * k) for k in range(6)], []]):
        detector.zero_grad()
        batch = batch_of(detector, labels)
        losses = detector.losses(detector(batch.images), batch)
        sum(losses.values()).backward()
        assert all(torch.isfinite(value) for value in losses.values())
        assert all(p.grad is None or torch.isfinite(p.grad).all() for p in detector.parameters())


def test_every_parameter_learns_from_a_batch_with_lanes() -> None:
    detector = build().train()
    hiding = (*detector.backbone.parameters(), *detector.head.gathering.context.parameters())
    assert unmoved(detector, batch_of(detector, [[straight(500, 1.2), straight(1100, -1.2)]] * 2), hiding) == set()


def test_upstreams_names_are_translated_to_every_name_of_ours() -> None:
    names = {
        "bbox_head.anchor_generator.prior_embeddings.weight": "head.priors",
        "bbox_head.attention.attention.f_key.conv.weight": "head.gathering.key.conv.weight",
        "bbox_head.attention.attention.W.bias": "head.gathering.context.bias",
        "bbox_head.attention.catconv.2.bn.running_mean": "head.gathering.joined.2.bn.running_mean",
        "bbox_head.attention.fc_norm.weight": "head.gathering.norm.weight",
        "bbox_head.reg_modules.2.bias": "head.regression.2.bias",
        "bbox_head.cls_layers.weight": "head.logits.weight",
        "bbox_head.seg_decoder.conv.weight": "masks.conv.weight",
        "neck.fpn_convs.1.conv.bias": "neck.output.1.bias",
        "backbone.model.level5.root.bn.weight": "backbone.level5.root.bn.weight",
    }
    with torch.device("meta"):
        ours = CLRerNet(detector_meta("clrernet_dla34"), "culane").state_dict()
    for upstream, expected in names.items():
        name = upstream
        for pattern, replacement in CLRerNet.checkpoint_names:
            name = re.sub(pattern, replacement, name)
        assert name == expected
        assert name in ours
