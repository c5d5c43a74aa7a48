"""What the micro variants share: their input and most of their recipe.

Micro variants are this project's: 128x320 and a `resnet_micro`, for suites that a CPU trains in minutes. Their numbers come from no
paper.
"""

from __future__ import annotations

from typing import Any

from detectors.meta import Augmentation, Form, InputSize, Recipe

FRAMES: dict[Form, tuple[int, int]] = {"culane": (590, 1640), "tusimple": (720, 1280), "llamas": (717, 1276)}
"""The frames of each form, (height, width)."""

TOPS: dict[Form, int] = {"culane": 236, "tusimple": 200, "llamas": 280}
"""Rows of each form's frames that hold no road and aren't looked at."""

AUGMENTATION = Augmentation(flip=0.5, rotation=2, shift_x=0.06, shift_y=0.02, scale=0.1, brightness=0.2, contrast=0.2)


def micro_input(form: Form, top: int | None = None) -> InputSize:
    """The frame of a form below row `top`, TOPS's without one, in 128x320."""
    frame = FRAMES[form]
    return InputSize(frame=frame, crop=(TOPS[form] if top is None else top, 0, *frame), network=(128, 320))


def micro_recipe(*, learning_rate: float, weight_decay: float, steps: int, **more: Any) -> Recipe:
    """AdamW with one cycle of the learning rate, batches of 16; `more` are other settings of a Recipe."""
    return Recipe(
        optimizer="adamw",
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        schedule="one_cycle",
        steps=steps,
        batch_size=16,
        augmentation=AUGMENTATION,
        **more,
    )
