"""The published variants of BézierLaneNet and LSTR are configured as upstream's own files say."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from detectors import bezierlanenet
from detectors import lstr as our_lstr
from detectors.registry import detector_class, detector_meta
from detectors.upstream.pytorch_auto_drive import LSTR, BezierLaneNet, isolated
from tests.checkouts import checkout_of

FILES = [
    (variant, form, reference._configurations[variant].format(form))
    for reference in (BezierLaneNet, LSTR)
    for variant, forms in reference.variants.items()
    for form in forms
]


@pytest.fixture(scope="module")
def checkout() -> Path:
    return checkout_of("pytorch-auto-drive")


def test_every_published_configuration_has_a_file_of_upstreams() -> None:
    names = [*BezierLaneNet.variants, *LSTR.variants]
    ours = {(name, form) for name in names for form in detector_meta(name).configurations}
    assert {(variant, form) for variant, form, _ in FILES} == ours


@pytest.mark.parametrize(("variant", "form", "file"), FILES)
def test_recipes_are_those_of_upstreams_file(checkout: Path, variant: str, form: Any, file: str) -> None:
    with isolated(checkout):
        theirs = import_module(f"configs.lane_detection.{file}")
    configuration = detector_meta(variant).configurations[form]
    recipe, size = configuration.recipe, configuration.input
    train, test, optimizer, schedule = theirs.train, theirs.test, theirs.optimizer, theirs.lr_scheduler
    options: Any = detector_class(variant).architecture(**configuration.architecture)

    assert (recipe.optimizer, optimizer["torch_optim_class"]) == ("adam", "Adam")
    # Groups other than the rest have rates of their own.
    factors = {
        part["params"]: pytest.approx(part["lr"] / optimizer["lr"])
        for part in optimizer.get("parameters", [])
        if part["params"] != "__others__"
    }
    renamed = {"fusion.offsets": "conv_offset"}
    assert {renamed[path]: factor for path, factor in recipe.learning_rate_factors.items()} == factors
    assert (recipe.learning_rate, recipe.weight_decay) == (optimizer["lr"], optimizer.get("weight_decay", 0))
    if schedule["name"] == "step_scheduler":
        assert (recipe.schedule, recipe.milestones) == ("multistep", (schedule["step_ratio"],))
        assert recipe.gamma == schedule["gamma"]
    else:
        assert (recipe.schedule, schedule["name"]) == ("cosine", "CosineAnnealingLRWrapper")
    assert recipe.epochs == train["num_epochs"] == schedule["epochs"]
    # A world of size 0 is one device.
    assert recipe.batch_size == train["batch_size"] * max(1, train["world_size"])
    assert recipe.confidence_threshold == theirs.model["thresh"]
    assert configuration.weights == ("imagenet" if theirs.model["backbone_cfg"]["pretrained"] else "none")
    assert (size.network, size.frame) == (train["input_size"], train["original_size"])
    assert size.crop == (0, 0, *size.frame)
    assert options.max_lanes == test["max_lane"]
    normalise = theirs.test_augmentation["transforms"][-1]
    normalisation = detector_meta(variant).normalisation
    assert (list(normalisation.mean), list(normalisation.std)) == (normalise["mean"], normalise["std"])


@pytest.mark.parametrize(("variant", "form", "file"), FILES)
def test_augmentations_are_those_of_upstreams_file(checkout: Path, variant: str, form: Any, file: str) -> None:
    with isolated(checkout):
        theirs = import_module(f"configs.lane_detection.{file}").train_augmentation["transforms"]
    configuration = detector_meta(variant).configurations[form]
    found = configuration.recipe.augmentation.model_dump(exclude_defaults=True)
    height, width = configuration.input.frame
    often = [step for step in theirs if step["name"] == "RandomApply"]
    chance = often[0]["apply_prob"] if often else 1.0
    steps = {step["name"]: step for step in [*theirs, *(part for step in often for part in step["transforms"])]}
    colours = steps["ColorJitter"]
    expected = {name: colours[name] for name in ("brightness", "contrast", "saturation")}
    expected |= {"hue": 360 * colours["hue"], "flip": chance * steps["RandomHorizontalFlip"]["flip_prob"]}
    if often:
        assert steps["RandomCrop"]["size"] == (int(0.9 * height), int(0.9 * width))
        expected |= {"rotation": steps["RandomRotation"]["degrees"], "crop": 0.1, "geometric_probability": chance}
    else:
        moves = steps["RandomAffine"]
        (low, high), (right, down) = moves["scale"], moves["translate"]
        assert low == 2 - high
        expected |= {
            "rotation": moves["degrees"][1],
            "scale": high - 1,
            "shift_x": right / width,
            "shift_y": down / height,
        }
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("variant", list(BezierLaneNet.variants))
def test_the_network_and_losses_of_curves_are_those_of_upstreams_file(checkout: Path, variant: str) -> None:
    for form in BezierLaneNet.variants[variant]:
        with isolated(checkout):
            theirs = import_module(f"configs.lane_detection.{BezierLaneNet._configurations[variant].format(form)}")
        options = bezierlanenet.Architecture(**detector_meta(variant).configurations[form].architecture)
        model, loss = theirs.model, theirs.loss
        assert list(options.dilations) == model["dilated_blocks_cfg"]["dilations"]
        assert options.bottleneck == model["dilated_blocks_cfg"]["mid_channels"]
        assert options.layers == model["head_cfg"]["num_layers"]
        assert options.mask_channels == model["aux_seg_head_cfg"]["mid_channels"]
        assert options.window == model["local_maximum_window_size"] == loss["k"]
        weights = {"curve": loss["curve_weight"], "lane": loss["label_weight"], "mask": loss["seg_weight"]}
        assert weights == bezierlanenet.WEIGHTS
        assert (loss["alpha"], loss["num_sample_points"]) == (bezierlanenet.ALPHA, bezierlanenet.SAMPLES)
        assert loss["weight"] == loss["weight_seg"] == [pytest.approx(1 / bezierlanenet.POSITIVE), 1]


@pytest.mark.parametrize("variant", list(LSTR.variants))
def test_the_network_and_losses_of_lstr_are_those_of_upstreams_file(checkout: Path, variant: str) -> None:
    for form in LSTR.variants[variant]:
        with isolated(checkout):
            theirs = import_module(f"configs.lane_detection.{LSTR._configurations[variant].format(form)}")
        options = our_lstr.Architecture(**detector_meta(variant).configurations[form].architecture)
        model, loss = theirs.model, theirs.loss
        assert (options.queries, options.heads, options.dropout) == (
            model["num_queries"],
            model["num_heads"],
            model["drop_out"],
        )
        assert (options.encoder_layers, options.decoder_layers) == (model["enc_layers"], model["dec_layers"])
        assert (options.width, options.feed_forward) == (32 * model["expansion"], 128 * model["expansion"])
        weights = {"lane": "label", "curve": "curve", "far": "upper", "near": "lower"}
        assert {ours: loss[f"{name}_weight"] for ours, name in weights.items()} == our_lstr.WEIGHTS
