"""The configurations that RESA and SCNN have in common: pytorch-auto-drive's configs/lane_detection/{resa,scnn}, and the micro ones."""

from __future__ import annotations

from typing import Any

from detectors.meta import Augmentation, Configuration, Form, InputSize, Recipe
from detectors.parts.micro import micro_input, micro_recipe

_SIX_LANES = {"slots": 6, "max_lanes": 5, "bottom_row": 710}
"""TuSimple's frames."""


def published(learning_rate: float, epochs: int, *, warmup_steps: int, batch_size: int = 20) -> Recipe:
    """What the recipes share. batch_size: over all of upstream's devices."""
    return Recipe(
        optimizer="sgd",
        learning_rate=learning_rate,
        weight_decay=1e-4,
        momentum=0.9,
        schedule="poly",
        power=0.9,
        epochs=epochs,
        warmup_steps=warmup_steps,
        batch_size=batch_size,
        augmentation=Augmentation(rotation=3),
    )


# Masks are drawn 16 px wide in CULane's frames of 1640 (laneseg_label_w16), 15 px in TuSimple's of 1280; in LLAMAS's of 1276 by the
# program that drew CULane's: all of them are 8 px in network pixels.
def on_culane(recipe: Recipe) -> Configuration:
    """CULane's frames, and the architecture that is the default."""
    return _on((590, 1640), (288, 800), recipe)


def on_tusimple(recipe: Recipe) -> Configuration:
    """TuSimple's frames and rows."""
    return _on((720, 1280), (360, 640), recipe, **_SIX_LANES, row_step=10, rows=56)


def on_llamas(recipe: Recipe) -> Configuration:
    """LLAMAS's frames and rows."""
    return _on((717, 1276), (360, 640), recipe, bottom_row=716, row_step=1, rows=417)


def _on(frame: tuple[int, int], network: tuple[int, int], recipe: Recipe, **architecture: Any) -> Configuration:
    size = InputSize(frame=frame, crop=(0, 0, *frame), network=network)
    return Configuration(input=size, architecture=architecture, weights="imagenet", recipe=recipe)


def micros(**architecture: Any) -> dict[Form, Configuration]:
    """Numbers of this project, small enough for a CPU; `architecture` are those of one detector alone."""
    shared = {**architecture, "channels": 16, "existence_hidden": 64, "lane_width": 4, "row_step": 10, "blur": 5}
    recipe = micro_recipe(learning_rate=1e-2, weight_decay=5e-2, steps=220, confidence_threshold=0.5)
    of_form: dict[Form, dict[str, Any]] = {
        "culane": {"rows": 33},
        "tusimple": {**_SIX_LANES, "rows": 51},
        "llamas": {"bottom_row": 716, "rows": 42},
    }
    return {
        form: Configuration(input=micro_input(form), architecture=shared | own, recipe=recipe)
        for form, own in of_form.items()
    }
