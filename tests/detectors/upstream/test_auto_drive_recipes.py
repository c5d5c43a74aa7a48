"""The published variants of RESA and SCNN are configured as upstream's own files say."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from detectors.registry import detector_class, detector_meta
from detectors.upstream.pytorch_auto_drive import RESA, SCNN, isolated
from tests.checkouts import checkout_of

FILES = [
    (variant, form, reference._configurations[variant].format(form))
    for reference in (RESA, SCNN)
    for variant, forms in reference.variants.items()
    for form in forms
]


@pytest.fixture(scope="module")
def checkout() -> Path:
    return checkout_of("pytorch-auto-drive")


def test_every_published_configuration_has_a_file_of_upstreams() -> None:
    ours = {(name, form) for name in (*RESA.variants, *SCNN.variants) for form in detector_meta(name).configurations}
    assert {(variant, form) for variant, form, _ in FILES} == ours


@pytest.mark.parametrize(("variant", "form", "file"), FILES)
def test_recipes_and_decoding_are_those_of_upstreams_file(checkout: Path, variant: str, form: Any, file: str) -> None:
    with isolated(checkout):
        theirs = import_module(f"configs.lane_detection.{file}")
    configuration = detector_meta(variant).configurations[form]
    recipe, size = configuration.recipe, configuration.input
    options: Any = detector_class(variant).architecture(**configuration.architecture)
    train, test, optimizer, schedule = theirs.train, theirs.test, theirs.optimizer, theirs.lr_scheduler

    assert (optimizer["torch_optim_class"], schedule["name"]) == ("SGD", "poly_scheduler_with_warmup")
    assert (recipe.optimizer, recipe.schedule, recipe.power) == ("sgd", "poly", schedule["power"])
    assert (recipe.learning_rate, recipe.weight_decay, recipe.momentum) == (
        optimizer["lr"],
        optimizer["weight_decay"],
        optimizer["momentum"],
    )
    assert (recipe.epochs, recipe.warmup_steps, recipe.warmup_start) == (
        train["num_epochs"],
        schedule["warmup_steps"],
        schedule.get("start_lr_ratio", 0),
    )
    assert schedule["epochs"] == train["num_epochs"]
    # A world of size 0 is one device.
    assert recipe.batch_size == train["batch_size"] * max(1, train["world_size"])
    (rotation,) = (
        step["degrees"] for step in theirs.train_augmentation["transforms"] if step["name"] == "RandomRotation"
    )
    others = {"Resize", "RandomRotation", "ToTensor", "Normalize"}
    assert {step["name"] for step in theirs.train_augmentation["transforms"]} == others
    assert recipe.augmentation.model_dump(exclude_defaults=True) == {"rotation": rotation}
    assert configuration.weights == ("imagenet" if theirs.model["backbone_cfg"]["pretrained"] else "none")

    assert (size.network, size.frame) == (train["input_size"], train["original_size"])
    assert size.crop == (0, 0, *size.frame)
    assert 1 + options.slots == train["num_classes"] == len(theirs.loss["weight"])
    assert (options.max_lanes, options.rows, options.row_step) == (test["max_lane"], test["ppl"], test["gap"])
    assert options.probability == test["thresh"]
    # utils/lane_det_utils.py: the lowest row is `gap` above the frame's end on TuSimple, the last one elsewhere.
    assert options.bottom_row == size.frame[0] - (test["gap"] if form == "tusimple" else 1)
    normalise = theirs.test_augmentation["transforms"][-1]
    normalisation = detector_meta(variant).normalisation
    assert (list(normalisation.mean), list(normalisation.std)) == (normalise["mean"], normalise["std"])
    assert theirs.loss["weight"][0] == 0.4
    assert theirs.loss["existence_weight"] == 0.1
