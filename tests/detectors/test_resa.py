"""RESA: its published variants, its aggregator, and what every detector promises."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from detectors.registry import detector_meta
from detectors.resa import RESA, Aggregator
from harness.errors import InputError
from harness.files.stored import sha256_of_text
from tests.detectors.promises import (
    assert_alike_in_any_batch,
    assert_one_seed_gives_one_detector,
    assert_restored_strictly,
    assert_taps,
    learned_by_heart,
    size_of,
)
from tests.detectors.roads import variant
from tests.detectors.small.resa import ARCHITECTURES, DETECTORS, build

# Metadata


@pytest.mark.parametrize(
    ("name", "form", "parameters"),
    [
        # Counted in pytorch-auto-drive (configs/lane_detection/resa/resnet18_culane.py and resnet34_tusimple.py).
        ("resa_resnet18", "culane", 6_617_646),
        ("resa_resnet34", "tusimple", 11_992_658),
    ],
)
def test_published_variants_have_the_published_number_of_parameters(name: str, form: Any, parameters: int) -> None:
    assert size_of(name, form)[0] == parameters


@pytest.mark.parametrize(
    ("form", "frame", "rows", "maps"),
    [
        ("culane", (590, 1640), np.arange(589, 239, -20), (5, 288, 800)),
        ("tusimple", (720, 1280), np.arange(710, 150, -10), (7, 360, 640)),
    ],
)
def test_published_lanes_are_read_on_the_rows_of_the_dataset_from_maps_of_full_size(
    form: Any, frame: tuple[int, int], rows: np.ndarray, maps: tuple[int, int, int]
) -> None:
    detector = RESA(detector_meta("resa_resnet18"), form).eval()
    geometry = detector.geometry_of(frame)
    found = geometry.to_original(np.stack([np.zeros(len(rows)), detector.frame_rows], axis=1))[:, 1]
    np.testing.assert_allclose(found, rows, atol=1e-9)
    with torch.no_grad():
        outputs = detector(torch.zeros(1, 3, *geometry.network, dtype=torch.uint8))
    assert outputs["mask"].shape == (1, *maps)
    assert outputs["existence"].shape == (1, maps[0] - 1)


def test_the_published_backbone_is_dilated_where_upstream_dilates_it() -> None:
    with torch.device("meta"):
        backbone = RESA(detector_meta("resa_resnet18"), "culane").backbone
    dilated = [
        name for name, module in backbone.named_modules() if isinstance(module, nn.Conv2d) and module.dilation != (1, 1)
    ]
    assert dilated == ["layer3.1.conv1"]
    assert backbone.get_submodule("layer3.1.conv1").dilation == (2, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chanels": 8}, r"resa_micro.*chanels.*did you mean 'channels'"),
        ({"channels": 12, "upsamplings": 3}, "upsamplings"),
        ({"blur": 4}, "blur"),
        ({"slots": 5}, "slots"),
    ],
)
def test_impossible_architectures_are_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        RESA(variant("resa_micro", **options), "culane")


# The aggregator


def test_the_aggregator_adds_what_is_learned_from_shifted_maps() -> None:
    # Written place by place: down, up, right, left, each in strides of a quarter and a half of the map.
    torch.manual_seed(3)
    aggregator = Aggregator(2, (5, 7), iterations=2, gain=1.5)
    features = torch.randn(1, 2, 5, 7)
    expected = features[0].numpy().astype(np.float64)
    weights = [convolution.weight.detach().numpy() for convolution in aggregator.convolutions]
    for number, (vertical, sign, k) in enumerate(itertools.product((True, False), (1, -1), (0, 1))):
        before = expected.copy()
        shift = sign * ((5 if vertical else 7) // 2 ** (2 - k))
        for y, x in itertools.product(range(5), range(7)):
            total = np.zeros(2)
            for tap in range(9):
                row, column = (y, x + tap - 4) if vertical else (y + tap - 4, x)
                if not (0 <= row < 5 and 0 <= column < 7):
                    continue
                there = before[:, (row + shift) % 5, column] if vertical else before[:, row, (column + shift) % 7]
                total += weights[number][:, :, 0, tap] @ there if vertical else weights[number][:, :, tap, 0] @ there
            expected[:, y, x] = before[:, y, x] + 1.5 * np.maximum(total, 0)
    np.testing.assert_allclose(aggregator(features)[0].detach().numpy(), expected, atol=1e-5)


# The module


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_taps_fire_once_and_deliver_the_stated_shapes(name: str) -> None:
    detector = build(name)
    assert [tap.stride for tap in detector.taps()] == [4, 8, 8]
    assert_taps(detector)


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_one_seed_gives_one_detector(name: str) -> None:
    assert_one_seed_gives_one_detector(lambda seed: build(name, seed))


def test_a_seed_gives_the_weights_that_the_published_results_began_with() -> None:
    # Of results/mini and results/ablation, whose checkpoints have these names.
    state = build("micro").state_dict()
    listed = "\n".join(f"{name} {tuple(value.shape)}" for name, value in state.items())
    assert sha256_of_text(listed).startswith("e9dc00980f68be51")
    for name, first in {
        "backbone.layer3.0.conv1.weight": 0.043112006,
        "reduce.0.weight": 0.014512718,
        "aggregate.convolutions.11.weight": -0.032190815,
        "decoder.1.weight": 0.014102714,
        "existence.output.bias": -0.098615602,
    }.items():
        assert float(state[name].flatten()[0]) == pytest.approx(first, rel=1e-5)


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_in_evaluation_an_image_is_seen_alike_in_any_batch(name: str) -> None:
    assert_alike_in_any_batch(DETECTORS[name])


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_the_state_dict_restores_a_detector_strictly(name: str) -> None:
    assert_restored_strictly(lambda seed: build(name, seed))


@pytest.mark.slow
def test_eight_images_are_learned_by_heart() -> None:
    assert learned_by_heart(build(), 100, 1e-2) > 0.9
