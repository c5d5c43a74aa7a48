"""UFLDv2: its published variants, their checkpoints' names, and what every detector promises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from detectors.checkpoints import renamed
from detectors.registry import detector_meta
from detectors.ufldv2 import UFLDv2
from harness.errors import InputError
from tests.detectors.promises import (
    assert_alike_in_any_batch,
    assert_one_seed_gives_one_detector,
    assert_restored_strictly,
    assert_taps,
    learned_by_heart,
    size_of,
)
from tests.detectors.roads import FRAME, variant
from tests.detectors.small.ufldv2 import ARCHITECTURES, DETECTORS, build

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
    assert size_of(name, form)[0] == parameters


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
