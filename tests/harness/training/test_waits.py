"""How often the host waits for the device in a step: a GPU is idle meanwhile, until the next operations have reached it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from harness.conformance.second_device import SECOND_DEVICE, second_device
from harness.conformance.waits import host_waits
from harness.methods.base import TrainingModel
from harness.training.loop import steps_of
from harness.training.plan import TrainingPlan

pytestmark = pytest.mark.usefixtures("one_thread")

TRAININGS: dict[str, tuple[Callable[[ModuleType], TrainingModel], dict[str, Any], dict[str, Any]]] = {
    "an average of weights": (lambda toy: toy.model(), {"ema_decay": 0.9}, {}),
    "bfloat16 in micro-batches": (lambda toy: toy.model(), {}, {"precision": "bf16", "micro_batch_size": 2}),
    "AdamW without clipping": (lambda toy: toy.model(), {"optimizer": "adamw", "clip_gradient_norm": None}, {}),
    "SAMIRO": (lambda toy: toy.samiro("fixed", 9), {}, {}),
}


@pytest.mark.parametrize(("make", "recipe", "options"), TRAININGS.values(), ids=TRAININGS)
def test_a_step_waits_once_when_all_is_done_for_what_it_showed(
    toy: ModuleType,
    roads: Any,
    make: Callable[[ModuleType], TrainingModel],
    recipe: dict[str, Any],
    options: dict[str, Any],
) -> None:
    plan = TrainingPlan(toy.recipe(**recipe), 9, **options)
    with second_device():
        model = make(toy)
        first, second = roads.stream(model.detector).batches(0, 2)
        step = steps_of(model, plan, device=SECOND_DEVICE, folder=Path("nowhere"))
        # The first step looks at the method's promises besides. Images are made on the device.
        step(first)
        with host_waits() as found:
            step(replace(second, images=second.images.to(SECOND_DEVICE, non_blocking=True)))
    assert found.total() == 1, found
    assert "loop.py" in next(iter(found))
