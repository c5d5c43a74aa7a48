"""UFLD: its published variants, how it is built and imported, and what every detector promises."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from detectors.checkpoints import import_checkpoint
from detectors.registry import detector_meta
from detectors.ufld import UFLD
from harness.errors import InputError
from tests.detectors.promises import assert_alike_in_any_batch, assert_taps, learned_by_heart
from tests.detectors.roads import noise, variant
from tests.detectors.small.ufld import ARCHITECTURES, DETECTORS, build, published

CULANE_ANCHORS = (121, 131, 141, 150, 160, 170, 180, 189, 199, 209, 219, 228, 238, 248, 258, 267, 277, 287)
TUSIMPLE_ANCHORS = range(64, 285, 4)
"""Rows of 288: cfzd/Ultra-Fast-Lane-Detection, data/constant.py."""


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
