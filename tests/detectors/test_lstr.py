"""LSTR: its published variants, its curves, and what every detector promises."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from detectors.lstr import LSTR, curve_places
from detectors.registry import detector_meta
from harness.errors import InputError
from tests.detectors.promises import (
    assert_alike_in_any_batch,
    assert_one_seed_gives_one_detector,
    assert_restored_strictly,
    assert_taps,
    learned_by_heart,
    size_of,
)
from tests.detectors.roads import noise, variant
from tests.detectors.small.lstr import MICRO, build

# Metadata


@pytest.mark.parametrize(
    ("name", "form", "parameters", "entries"),
    [
        # Counted in liuruijin17/LSTR and in voldemortX/pytorch-auto-drive.
        ("lstr_resnet18s", "tusimple", 765_754, 186),
        ("lstr_resnet18s_2x", "culane", 3_048_106, 187),
        ("lstr_resnet34", "culane", 22_344_522, 295),
    ],
)
def test_published_variants_have_the_published_parameters(name: str, form: Any, parameters: int, entries: int) -> None:
    assert size_of(name, form) == (parameters, entries)


def test_impossible_architectures_are_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"lstr_micro.*querys.*did you mean 'queries'"):
        LSTR(variant("lstr_micro", querys=3), "culane")
    with pytest.raises(InputError, match="'heads'"):
        LSTR(variant("lstr_micro", heads=3), "culane")
    with pytest.raises(InputError, match=r"'width'.*multiple of 4"):
        LSTR(variant("lstr_micro", width=30, heads=1), "culane")


# Curves


def test_a_curve_is_the_papers() -> None:
    k, f, m, n, b1, b2 = 0.01, -0.2, 0.3, 0.4, 0.5, 0.6
    y = 0.7
    places = curve_places(torch.tensor([k, f, m, n, b1, b2]), torch.tensor([y]))
    assert places.tolist() == pytest.approx([k / (y - f) ** 2 + m / (y - f) + n + b1 * y - b2])


def test_a_curve_is_finite_at_its_pole_and_so_is_its_gradient() -> None:
    curves = torch.tensor([1.0, 0.5, 1.0, 0.0, 0.0, 0.0], requires_grad=True)
    places = curve_places(curves, torch.tensor([0.5, 0.5 + 1e-12, 0.5 - 1e-5]))
    places.sum().backward()
    assert torch.isfinite(places).all()
    assert torch.isfinite(curves.grad).all()


# The module


def test_taps_fire_once_and_deliver_the_stated_shapes() -> None:
    assert_taps(build())
    assert {name: tuple(value.shape) for name, value in MICRO(noise(2)).items()} == {
        "logits": (2, 2, 7, 2),
        "curves": (2, 2, 7, 8),
    }


def test_taps_of_an_odd_input_have_the_rounded_up_shapes() -> None:
    with torch.device("meta"):
        detector = LSTR(detector_meta("lstr_resnet18s"), "tusimple")
        features = detector.backbone(torch.zeros(1, 3, 360, 640))
    assert [tuple(feature.shape[1:]) for feature in features] == [
        (16, 90, 160),
        (32, 45, 80),
        (64, 23, 40),
        (128, 12, 20),
    ]
    assert [(tap.channels, tap.stride) for tap in detector.taps()] == [(16, 4), (32, 8), (64, 16), (128, 32)]


def test_the_four_coefficients_of_the_road_are_one_for_all_queries() -> None:
    with torch.no_grad():
        curves = MICRO(noise(2))["curves"]
    assert torch.equal(curves[..., 2:6], curves[:, :, :1, 2:6].expand_as(curves[..., 2:6]))
    assert all(len(curves[0, 0, :, index].unique()) == 7 for index in (0, 1, 6, 7))


def test_one_seed_gives_one_detector() -> None:
    assert_one_seed_gives_one_detector(build)


def test_in_evaluation_an_image_is_seen_alike_in_any_batch() -> None:
    assert_alike_in_any_batch(MICRO)


def test_the_state_dict_restores_a_detector_strictly() -> None:
    assert_restored_strictly(build)


# Learning


@pytest.mark.slow
def test_eight_images_are_learned_by_heart() -> None:
    assert learned_by_heart(build(), 500, 2e-3) > 0.9
