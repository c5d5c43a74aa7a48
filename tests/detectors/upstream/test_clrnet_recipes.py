"""CLRNet's colours are drawn, and its masks are as wide, as upstream's own files say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from detectors.registry import TABLE, detector_meta
from tests.checkouts import checkout_of

PUBLISHED = [
    (name, form)
    for name, where in TABLE.items()
    if where.startswith("detectors.clrnet:") and not name.endswith(("_micro", "_convnext_tiny"))
    for form in detector_meta(name).configurations
]


@pytest.fixture(scope="module")
def checkout() -> Path:
    return checkout_of("CLRNet")


def settings_of(checkout: Path, variant: str, form: str) -> dict[str, Any]:
    """The names that a configuration of upstream's, which is plain Python, defines."""
    settings: dict[str, Any] = {}
    backbone = variant.removeprefix("clrnet_")
    exec((checkout / "configs" / "clrnet" / f"clr_{backbone}_{form}.py").read_text(encoding="utf-8"), settings)
    return settings


@pytest.mark.parametrize(("variant", "form"), PUBLISHED)
def test_colours_are_drawn_from_the_ranges_of_upstreams_file(checkout: Path, variant: str, form: Any) -> None:
    (generated,) = (step for step in settings_of(checkout, variant, form)["train_process"] if "transforms" in step)
    steps = {step["name"]: step for step in generated["transforms"]}
    ours = detector_meta(variant).configurations[form].recipe.augmentation
    if "MultiplyAndAddToBrightness" not in steps:
        assert (ours.brightness, ours.lift, ours.hue, ours.saturation, ours.blur) == (0, 0, 0, 0, 0)
        return
    brightness = steps["MultiplyAndAddToBrightness"]["parameters"]
    assert [1 - ours.brightness, 1 + ours.brightness] == pytest.approx(brightness["mul"])
    assert [-255 * ours.lift, 255 * ours.lift] == pytest.approx(brightness["add"])
    assert 255 * ours.saturation == pytest.approx(steps["AddToHueAndSaturation"]["parameters"]["value"][1])
    assert ours.colour_probability == steps["AddToHueAndSaturation"]["p"]
    assert ours.blur == steps["OneOf"]["p"]


def test_masks_of_tusimple_are_as_wide_as_those_that_upstream_draws(checkout: Path) -> None:
    drawing = (checkout / "tools" / "generate_seg_tusimple.py").read_text(encoding="utf-8")
    (width,) = re.findall(r"SEG_WIDTH = (\d+)", drawing)
    assert "SEG_WIDTH // 2)" in drawing
    tusimple = [variant for variant, form in PUBLISHED if form == "tusimple"]
    assert tusimple
    for variant in tusimple:
        ours = detector_meta(variant).configurations["tusimple"]
        frame, network = ours.input.frame[1], ours.input.network[1]
        assert ours.architecture["mask_width"] == round(int(width) // 2 * network / frame)
