from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from detectors.base import stack_targets
from detectors.checkpoints import renamed
from detectors.registry import detector_meta
from detectors.scnn import SCNN, MessagePassing
from detectors.upstream.pytorch_auto_drive import isolated
from harness.errors import InputError
from harness.lanes import Lane
from tests.checkouts import checkout_of
from tests.detectors.promises import (
    assert_alike_in_any_batch,
    assert_one_seed_gives_one_detector,
    assert_taps,
    finite_terms,
    size_of,
    unmoved,
)
from tests.detectors.roads import FRAME, HOSTILE, batch_of, hostile_lanes, noise, road


def build(name: str = "scnn_micro", form: Any = "culane", seed: int = 0) -> SCNN:
    torch.manual_seed(seed)
    return SCNN(detector_meta(name), form)


# Metadata


@pytest.mark.parametrize(
    ("name", "form", "parameters"),
    [
        # Counted in pytorch-auto-drive (configs/lane_detection/scnn/resnet18_culane.py, resnet34_tusimple.py, resnet34_llamas.py).
        ("scnn_resnet18", "culane", 12_415_049),
        ("scnn_resnet34", "tusimple", 22_738_253),
        ("scnn_resnet34", "llamas", 22_510_409),
    ],
)
def test_published_variants_have_the_published_number_of_parameters(name: str, form: Any, parameters: int) -> None:
    assert size_of(name, form)[0] == parameters


def test_the_published_backbone_is_dilated_where_upstream_dilates_it() -> None:
    with torch.device("meta"):
        backbone = SCNN(detector_meta("scnn_resnet18"), "culane").backbone
    dilations = {name: module.dilation for name, module in backbone.named_modules() if isinstance(module, nn.Conv2d)}
    dilated = {name: dilation for name, dilation in dilations.items() if dilation != (1, 1)}
    assert dilated == {"layer3.1.conv1": (2, 2), "layer4.0.conv1": (2, 2), "layer4.1.conv1": (4, 4)}


@pytest.mark.parametrize(
    ("form", "frame", "rows"),
    [
        # utils/lane_det_utils.py with gap and ppl of the configurations.
        ("culane", (590, 1640), np.arange(589, 239, -20)),
        ("tusimple", (720, 1280), np.arange(710, 150, -10)),
        ("llamas", (717, 1276), np.arange(716, 299, -1)),
    ],
)
def test_published_lanes_are_read_on_the_rows_of_the_dataset(
    form: Any, frame: tuple[int, int], rows: np.ndarray
) -> None:
    with torch.device("meta"):
        detector = SCNN(detector_meta("scnn_resnet34"), form)
    points = np.stack([np.zeros(len(rows)), detector.frame_rows], axis=1)
    np.testing.assert_allclose(detector.geometry_of(frame).to_original(points)[:, 1], rows, atol=1e-9)


def test_unknown_options_are_refused_by_name() -> None:
    meta = detector_meta("scnn_micro")
    configuration = meta.configurations["culane"].model_copy(update={"architecture": {"chanels": 8}})
    meta = meta.model_copy(update={"configurations": {"culane": configuration}})
    with pytest.raises(InputError, match=r"scnn_micro.*chanels.*did you mean 'channels'"):
        SCNN(meta, "culane")


# Messages


def passing(channels: int, seed: int = 0) -> MessagePassing:
    """Message passing with weights and biases that keep about half of the messages positive."""
    torch.manual_seed(seed)
    return MessagePassing(channels)


def slice_by_slice(passing: MessagePassing, features: torch.Tensor) -> torch.Tensor:
    """The same as autograd sees it, one operation after the other, in the order of the paper with upstream's last slices."""
    for convolution, axis, back in zip(passing.convolutions, (2, 2, 3, 3), (False, True, False, True), strict=True):
        slices = list(features.split(1, dim=axis))
        for receiver in range(len(slices) - 2, 0, -1) if back else range(1, len(slices)):
            sender = slices[receiver + (1 if back else -1)]
            slices[receiver] = slices[receiver] + convolution(sender).relu()
        features = torch.cat(slices, dim=axis)
    return features


def test_messages_go_down_up_right_and_left() -> None:
    # Written place by place. The passes back leave their last slice as it is.
    module = passing(2, seed=3)
    features = torch.randn(1, 2, 5, 7)
    expected = features[0].numpy().astype(np.float64)
    weights = [convolution.weight.detach().numpy()[:, :, :, :] for convolution in module.convolutions]
    biases = [convolution.bias.detach().numpy() for convolution in module.convolutions]

    def message(number: int, y: int, x: int) -> np.ndarray:
        total = biases[number].astype(np.float64)
        for tap in range(9):
            row, column = (y, x + tap - 4) if number < 2 else (y + tap - 4, x)
            if 0 <= row < 5 and 0 <= column < 7:
                weight = weights[number][:, :, 0, tap] if number < 2 else weights[number][:, :, tap, 0]
                total += weight @ expected[:, row, column]
        return np.maximum(total, 0)

    for y in range(1, 5):
        expected[:, y] += np.stack([message(0, y - 1, x) for x in range(7)], axis=1)
    for y in range(3, 0, -1):
        expected[:, y] += np.stack([message(1, y + 1, x) for x in range(7)], axis=1)
    for x in range(1, 7):
        expected[:, :, x] += np.stack([message(2, y, x - 1) for y in range(5)], axis=1)
    for x in range(5, 0, -1):
        expected[:, :, x] += np.stack([message(3, y, x + 1) for y in range(5)], axis=1)
    np.testing.assert_allclose(module(features)[0].detach().numpy(), expected, atol=1e-5)
    with torch.no_grad():
        np.testing.assert_allclose(module(features)[0].numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 4, 6, 9), (1, 3, 2, 1), (3, 2, 1, 2), (1, 2, 3, 3)])
def test_gradients_are_those_of_autograd(shape: tuple[int, ...]) -> None:
    module = passing(shape[1]).double()
    features = torch.randn(shape, dtype=torch.float64)
    weight = torch.randn(shape, dtype=torch.float64)
    found = []
    for function in (module, lambda given: slice_by_slice(module, given)):
        module.zero_grad()
        given = features.clone().requires_grad_()
        (function(given) * weight).sum().backward()
        assert given.grad is not None
        gradients = [parameter.grad for parameter in module.parameters()]
        found.append([given.grad, *(torch.zeros(()) if g is None else g for g in gradients)])
    for ours, autograd in zip(*found, strict=True):
        torch.testing.assert_close(ours, autograd.expand_as(ours))


def test_frozen_messages_still_let_gradients_through() -> None:
    module = passing(2).double().requires_grad_(False)
    features = torch.randn(1, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(module, (features,))


def test_under_autocast_messages_have_the_lower_precision_and_gradients_their_parameters() -> None:
    module = passing(8)
    features = torch.randn(2, 8, 6, 10)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        passed = module(features)
    assert passed.dtype == torch.bfloat16
    passed.float().sum().backward()
    assert all(
        parameter.grad is not None and parameter.grad.dtype == torch.float32 for parameter in module.parameters()
    )
    torch.testing.assert_close(passed.float(), module(features), atol=0.1, rtol=0.05)


# Labels and losses


@pytest.mark.parametrize("points", HOSTILE.values(), ids=HOSTILE)
def test_hostile_labels_give_finite_losses_and_gradients(points: Any) -> None:
    detector = build()
    assert set(finite_terms(detector, batch_of(detector, [hostile_lanes(points), []]))) == {"mask", "existence"}


def test_every_parameter_learns_from_a_batch_with_lanes() -> None:
    detector = build()
    assert unmoved(detector, batch_of(detector, [road(), road(60.0)]), detector.backbone.parameters()) == set()


def test_losses_are_the_published_ones() -> None:
    # utils/losses/lane_seg_loss.py on maps of the network's size.
    detector = build()
    batch = batch_of(detector, [road(), road(-100.0)[1:3]])
    outputs = {key: value.detach() for key, value in detector(batch.images).items()}
    terms = detector.losses(outputs, batch)
    weight = torch.tensor([0.4, 1.0, 1.0, 1.0, 1.0])
    expected = F.cross_entropy(outputs["mask"], batch.targets["mask"].long(), weight=weight)
    assert float(terms["mask"]) == pytest.approx(float(expected), rel=1e-5)
    exists = F.binary_cross_entropy_with_logits(outputs["existence"], batch.targets["existence"])
    assert float(terms["existence"]) == pytest.approx(0.1 * float(exists), rel=1e-5)


@pytest.mark.parametrize(
    ("form", "frame"), [("culane", (590, 1640)), ("tusimple", (720, 1280)), ("llamas", (717, 1276))]
)
def test_perfect_maps_decode_to_the_labels(form: Any, frame: tuple[int, int]) -> None:
    detector = build(form=form).eval()
    geometry = detector.geometry_of(frame)
    scale = np.array([frame[1] / FRAME[1], frame[0] / FRAME[0]])
    labels = [Lane(lane.points * scale) for lane in road(40.0, 120.0)]
    targets = stack_targets([detector.encode_targets(labels, geometry)])
    mask = F.one_hot(targets["mask"].long(), 1 + detector.options.slots).permute(0, 3, 1, 2) * 20.0
    (decoded,) = detector.decode({"mask": mask, "existence": targets["existence"] * 40 - 20}, [geometry])
    assert len(decoded) == 4
    for lane, label in zip(decoded, labels, strict=True):
        found, drawn = geometry.to_network(lane.points), geometry.to_network(label.points)[::-1]
        away = np.abs(found[:, 0] - np.interp(found[:, 1], drawn[:, 1], drawn[:, 0]))
        # Half a lane's width where it is flat, and where it leaves the frame.
        assert np.median(away) < 1.0
        assert len(lane) >= 10


# The module


def test_taps_fire_once_and_deliver_the_stated_shapes() -> None:
    detector = build()
    assert [tap.stride for tap in detector.taps()] == [4, 8, 8, 8]
    assert_taps(detector)
    assert {name: tuple(output.shape) for name, output in detector(noise(2)).items()} == {
        "mask": (2, 5, 128, 320),
        "existence": (2, 4),
    }


def test_one_seed_gives_one_detector_that_sees_an_image_alike_in_any_batch() -> None:
    assert_one_seed_gives_one_detector(lambda seed: build(seed=seed))
    assert_alike_in_any_batch(build())


@pytest.mark.slow
def test_compiled_training_gives_the_same_losses_and_gradients() -> None:
    detector = build()
    batch = batch_of(detector, [road(), []])
    found = []
    for forward in (detector, torch.compile(detector, backend="aot_eager")):
        detector.zero_grad()
        terms = detector.losses(forward(batch.images), batch)
        sum(terms.values(), torch.zeros(())).backward()
        found.append((terms["mask"].detach(), *(p.grad.clone() for p in detector.parameters() if p.grad is not None)))
    for plain, compiled in zip(*found, strict=True):
        torch.testing.assert_close(plain, compiled, rtol=1e-3, atol=1e-5)


def test_messages_and_their_gradients_are_those_of_upstreams_code() -> None:
    checkout = checkout_of("pytorch-auto-drive")
    with isolated(checkout):
        theirs: nn.Module = import_module("utils.models.common_models.plugins.spatial_conv").SpatialConv(16)
    ours = passing(16)
    state = {f"scnn_layer.{name}": value for name, value in theirs.state_dict().items()}
    named = renamed(state, SCNN.checkpoint_names, where=checkout)
    ours.load_state_dict({name.removeprefix("messages."): value for name, value in named.items()}, strict=True)
    found = []
    for module in (ours, theirs):
        torch.manual_seed(5)
        features = torch.randn(2, 16, 12, 20, requires_grad=True)
        passed = module(features)
        (passed * torch.randn(passed.shape)).sum().backward()
        found.append((passed, features.grad, *(parameter.grad for parameter in module.parameters())))
    for one, other in zip(*found, strict=True):
        assert one is not None
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_maps_are_enlarged_with_their_corners_aligned() -> None:
    detector = build().eval()
    seen: list[torch.Tensor] = []
    detector.classifier.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        mask = detector(noise(2))["mask"]
    expected = F.interpolate(seen[0], size=(128, 320), mode="bilinear", align_corners=True)
    torch.testing.assert_close(mask, expected, atol=1e-5, rtol=1e-5)
