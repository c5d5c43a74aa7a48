"""The published variants of PolyLaneNet are configured as upstream's own files say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from detectors.polylanenet import CURVE_WEIGHT, Architecture
from detectors.registry import TABLE, detector_class, detector_meta
from detectors.upstream.polylanenet import FILES, configuration
from tests.checkouts import checkout_of


@pytest.fixture(scope="module")
def checkout() -> Path:
    return checkout_of("PolyLaneNet")


def test_every_published_configuration_has_a_file_of_upstreams() -> None:
    names = [name for name, where in TABLE.items() if where.startswith("detectors.polylanenet:")]
    ours = {(name, form) for name in names for form in detector_meta(name).configurations}
    assert set(FILES) == {(name, form) for name, form in ours if name != "polylanenet_micro"}


@pytest.mark.parametrize(("variant", "form"), sorted(FILES))
def test_recipes_are_those_of_upstreams_file(checkout: Path, variant: str, form: Any) -> None:
    theirs = configuration(checkout, variant, form)
    ours = detector_meta(variant).configurations[form]
    recipe, optimizer, train = ours.recipe, theirs["optimizer"], theirs["datasets"]["train"]["parameters"]
    assert (recipe.optimizer, optimizer["name"]) == ("adam", "Adam")
    assert optimizer["parameters"] == {"lr": recipe.learning_rate}
    assert (recipe.schedule, theirs["lr_scheduler"]["name"]) == ("cosine", "CosineAnnealingLR")
    assert (recipe.epochs, recipe.batch_size) == (theirs["epochs"], theirs["batch_size"])
    assert recipe.epochs == recipe.half_cycles * theirs["lr_scheduler"]["parameters"]["T_max"]
    assert recipe.confidence_threshold == theirs["test_parameters"]["conf_threshold"]
    assert ours.weights == ("imagenet" if theirs["model"]["parameters"]["pretrained"] else "none")
    assert list(ours.input.network) == train["img_size"]
    weights = {"conf_weight": 1, "lower_weight": 1, "upper_weight": 1, "cls_weight": 0, "poly_weight": CURVE_WEIGHT}
    assert theirs["loss_parameters"] == weights
    lanes = Architecture(**ours.architecture).lanes
    assert theirs["model"]["parameters"]["num_outputs"] == 7 * lanes
    assert "share_top_y" not in theirs["model"]["parameters"]

    chance, height, width = train["aug_chance"], *ours.input.frame
    steps = {step["name"]: step["parameters"] for step in train["augmentations"]}
    expected: dict[str, float] = {}
    if steps:
        assert steps["CropToFixedSize"] == {"width": 0.9 * width, "height": 0.9 * height}
        expected = {
            "rotation": steps["Affine"]["rotate"][1],
            "flip": chance * steps["HorizontalFlip"]["p"],
            "crop": 0.1,
            "geometric_probability": chance,
        }
    assert recipe.augmentation.model_dump(exclude_defaults=True) == pytest.approx(expected)


def test_variants_of_one_size_of_efficientnet_have_its_numbering_of_blocks() -> None:
    for size, blocks in (("b0", 16), ("b1", 23)):
        names = detector_class(f"polylanenet_efficientnet_{size}").checkpoint_names
        assert sum(pattern.startswith(r"^_blocks\.") for pattern, _ in names) == blocks
