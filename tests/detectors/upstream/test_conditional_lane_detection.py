"""CondLaneNet is configured as upstream's own files say, and its labels are encoded as upstream's code encodes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from detectors.condlanenet import WEIGHTS, Architecture
from detectors.registry import TABLE, detector_meta
from detectors.upstream.conditional_lane_detection import NAMES, SIZES, CondLaneNet, settings_of
from harness.lanes import Lane
from harness.parity.compare import imported
from harness.parity.weights import randomise
from tests.checkouts import checkout_of

PUBLISHED = [(f"condlanenet_{backbone}", form) for backbone in SIZES for form in ("culane", "tusimple")]


@pytest.fixture(scope="module")
def checkout() -> Path:
    return checkout_of("conditional-lane-detection")


def test_every_published_configuration_has_a_file_of_upstreams() -> None:
    names = [name for name, where in TABLE.items() if where.startswith("detectors.condlanenet:")]
    ours = [(name, form) for name in names for form in detector_meta(name).configurations]
    assert sorted(PUBLISHED) == sorted((name, form) for name, form in ours if name != "condlanenet_micro")


@pytest.mark.parametrize(("variant", "form"), PUBLISHED)
def test_recipes_are_those_of_upstreams_file(checkout: Path, variant: str, form: Any) -> None:
    theirs = settings_of(checkout, variant, form)
    ours = detector_meta(variant).configurations[form]
    recipe, schedule = ours.recipe, theirs["lr_config"]
    assert theirs["optimizer"] == {"type": "Adam", "lr": recipe.learning_rate, "betas": recipe.betas, "eps": 1e-8}
    assert (recipe.optimizer, recipe.weight_decay, recipe.clip_gradient_norm) == ("adam", 0.0, None)
    assert (recipe.schedule, schedule["policy"], recipe.gamma) == ("multistep", "step", 0.1)
    assert recipe.epochs == theirs["total_epochs"]
    assert [share * recipe.epochs for share in recipe.milestones] == pytest.approx(schedule["step"])
    assert recipe.warmup_steps == schedule["warmup_iters"]
    assert recipe.warmup_start == pytest.approx(schedule["warmup_ratio"])
    devices = len(theirs["device_ids"].split(","))
    assert recipe.batch_size == devices * theirs["data"]["samples_per_gpu"]

    left, top, right, bottom = theirs["crop_bbox"]
    assert ours.input.crop == (top, left, bottom, right)
    assert ours.input.frame == theirs["ori_scale"][::-1]
    assert ours.input.network == theirs["img_scale"][::-1]
    assert ours.weights == "imagenet"
    assert theirs["model"]["pretrained"] == f"torchvision://{detector_meta(variant).backbone}"


@pytest.mark.parametrize(("variant", "form"), PUBLISHED)
def test_architectures_are_those_of_upstreams_file(checkout: Path, variant: str, form: Any) -> None:
    theirs = settings_of(checkout, variant, form)
    model, step = theirs["model"], theirs["train_pipeline"][-1]
    ours = Architecture(**detector_meta(variant).configurations[form].architecture)
    assert (ours.finest, ours.start_stride) == (theirs["mask_down_scale"], theirs["hm_down_scale"])
    assert ours.start_stride == ours.finest * 2 ** model["head"]["hm_idx"]
    assert {ours.channels} == {model["neck"]["out_channels"], model["head"]["branch_channels"]}
    assert model["neck"]["trans_cfg"]["attn_out_dims"] == [ours.attention] * 2
    assert (ours.radius, ours.places) == (step["radius"], step["max_mask_sample"])
    # What the encoder adds to the width that it is told.
    assert ours.width == step["line_width"] + 9
    assert (ours.frozen_stages, ours.frozen_statistics) == (
        model["backbone"]["frozen_stages"],
        model["backbone"]["norm_eval"],
    )
    weights = {"heat": "hm_weight", "location": "row_weight", "offset": "kps_weight", "range": "range_weight"}
    assert {name: model["loss_weights"][key] for name, key in weights.items()} == WEIGHTS
    assert set(NAMES) == set(WEIGHTS)
    # On TuSimple the program that tests takes its own default.
    assert ours.apart == (theirs["nms_thr"] if form == "culane" else 3.0)
    # No recurrent module, which is CurveLanes' alone.
    assert (model["type"], model["head"]["type"]) == ("CondLaneNet", "CondLaneHead")


@pytest.mark.parametrize(("variant", "form"), PUBLISHED)
def test_augmentations_are_those_of_upstreams_file(checkout: Path, variant: str, form: Any) -> None:
    theirs = settings_of(checkout, variant, form)
    ours = detector_meta(variant).configurations[form]
    augmentation = ours.recipe.augmentation
    steps = {step["type"]: step for step in theirs["train_al_pipeline"] if step["type"] != "OneOf"}
    colours, blurs = (step for step in theirs["train_al_pipeline"] if step["type"] == "OneOf")
    moved, cut, shifted = steps["ShiftScaleRotate"], steps["RandomResizedCrop"], colours["transforms"][1]
    assert augmentation.rotation == moved["rotate_limit"]
    assert augmentation.scale == moved["scale_limit"][1]
    assert {augmentation.shift_x, augmentation.shift_y} == {moved["shift_limit"]}
    # What moves is what the crop left, at the network's size.
    order = [step["type"] for step in theirs["train_al_pipeline"]]
    assert augmentation.in_view == (order.index("Crop") < order.index("Resize") < order.index("ShiftScaleRotate"))
    assert {augmentation.geometric_probability} == {moved["p"], cut["p"]}
    assert (1 - augmentation.crop) ** 2 == pytest.approx(cut["scale"][0])
    # albumentations adds it, as a share of white.
    assert (augmentation.lift, augmentation.brightness) == (steps["RandomBrightness"]["limit"], 0)
    assert augmentation.hue == 2 * shifted["hue_shift_limit"][1]
    assert augmentation.saturation == pytest.approx(shifted["sat_shift_limit"][1] / 255)
    assert augmentation.colour_probability == colours["p"]
    assert augmentation.blur == blurs["p"]
    assert augmentation.flip == 0
    assert "HorizontalFlip" not in steps


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["condlanenet_resnet18", "condlanenet_resnet101"])
@torch.no_grad()
def test_maps_that_a_start_gives_are_upstreams_in_every_cell(checkout: Path, variant: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    reference = CondLaneNet(checkout, variant, "tusimple")
    images = torch.randint(0, 256, (2, 3, 320, 800), dtype=torch.uint8)
    prepared = reference.normalised(images)
    randomise(reference.model, lambda: reference.forward(prepared))
    detector: Any = imported(reference, variant, "tusimple", tmp_path)
    found = reference.forward(prepared)
    # Maps as training has them, of layers as evaluation has them.
    detector.training = True
    maps = detector(images)
    detector.training = False
    for image, (pyramid, _) in enumerate(found):
        seeds = reference._seeds(pyramid, 0.0)[::9]
        assert len(seeds) > 4
        places = torch.tensor([[seed["coord"][1] * 50 + seed["coord"][0] for seed in seeds]])
        ours = detector._read({name: value[image : image + 1] for name, value in maps.items()}, places)
        for name, key in (("location", "mask"), ("offset", "reg"), ("rows", "range")):
            theirs = torch.cat([seed[key] for seed in seeds])
            assert float((theirs - ours[name][0]).abs().max()) <= 1e-4 * float(theirs.abs().max())


def roads(count: int) -> list[list[Lane]]:
    """Random lanes in CULane's frame, some of which begin or end beside it or lie near each other; none leaves it and returns."""
    generator = np.random.default_rng(0)
    found = []
    for _ in range(count):
        lanes = []
        for _ in range(generator.integers(1, 6)):
            foot, head = generator.uniform(-600, 2200), generator.uniform(300, 1300)
            near, far = generator.uniform(450, 600), generator.uniform(260, 440)
            share = np.linspace(0, 1, generator.integers(2, 25))
            bend = generator.uniform(-60, 60) * share * (1 - share)
            lanes.append(Lane(np.stack([foot + (head - foot) * share + bend, near + (far - near) * share], axis=1)))
        found.append(lanes)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["condlanenet_resnet18", "condlanenet_resnet101"])
def test_labels_are_encoded_as_upstream_encodes_them(checkout: Path, variant: str) -> None:
    pytest.importorskip("shapely")
    reference = CondLaneNet(checkout, variant, "culane")
    overlaps = []
    for lanes in roads(25):
        ours = reference.encoder.encode_targets(lanes, reference.encoder.geometry_of((590, 1640)))
        with reference.upstream:
            theirs = reference._target(lanes, ours["places"])
        np.testing.assert_allclose(ours["heat"], theirs["gt_hm"][0], atol=1e-6)
        masks = theirs["gt_masks"]
        assert len(masks) == (ours["places"][:, 1] >= 0).sum()
        width = ours["heat"].shape[1]
        for columns, reach, places, mask in zip(ours["columns"], ours["reach"], ours["places"], masks, strict=False):
            on = columns >= 0
            np.testing.assert_array_equal(on, mask["row_mask"] > 0)
            np.testing.assert_array_equal(on, mask["range"][0] > 0)
            np.testing.assert_allclose(columns[on], mask["row"][on], atol=1e-3)
            assert {tuple(cell) for cell in mask["points"]} == {
                (place % width, place // width) for place in places.tolist() if place >= 0
            }
            away = columns[:, None] - np.arange(mask["reg"].shape[-1])
            band, painted = np.abs(away) < reach[:, None], mask["reg_mask"][0] > 0
            np.testing.assert_allclose(away[painted], mask["reg"][0][painted], atol=1e-3)
            overlaps.append((band & painted).sum() / max((band | painted).sum(), 1))
    assert len(overlaps) > 40
    assert np.mean(overlaps) > 0.8
