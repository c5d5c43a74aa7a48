"""A training whose device isn't the host's: nothing of the loop mixes the two, and it learns, and goes on, as on the host."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from harness.conformance.second_device import SECOND_DEVICE, second_device
from harness.methods.base import TrainingModel
from harness.training.loop import train
from harness.training.plan import TrainingPlan, Validation
from tests.harness.training.trainings import CPU, Interrupted, interrupt_at

pytestmark = pytest.mark.usefixtures("one_thread")

STEPS = 6

TRAININGS: dict[str, tuple[Callable[[ModuleType], TrainingModel], dict[str, Any], dict[str, Any]]] = {
    "an average of weights": (lambda toy: toy.model(dropout=0.0), {"ema_decay": 0.9}, {}),
    "micro-batches": (lambda toy: toy.model(dropout=0.0), {}, {"micro_batch_size": 2}),
    "bfloat16": (lambda toy: toy.model(dropout=0.0), {}, {"precision": "bf16"}),
    "fp16 and its scaler": (lambda toy: toy.model(dropout=0.0), {}, {"precision": "fp16"}),
    "AdamW without clipping": (
        lambda toy: toy.model(dropout=0.0),
        {"optimizer": "adamw", "learning_rate": 1e-3, "clip_gradient_norm": None},
        {},
    ),
    "SAMIRO": (lambda toy: toy.samiro("fixed", STEPS), {}, {}),
    "SAMIRO with a weight that is steered": (lambda toy: toy.samiro("ratio", STEPS), {}, {"micro_batch_size": 2}),
}


@pytest.mark.parametrize(("make", "recipe", "options"), TRAININGS.values(), ids=TRAININGS)
def test_a_training_that_goes_on_on_another_device_is_that_of_the_host(
    toy: ModuleType,
    roads: Any,
    tmp_path: Path,
    make: Callable[[ModuleType], TrainingModel],
    recipe: dict[str, Any],
    options: dict[str, Any],
) -> None:
    plan = TrainingPlan(toy.recipe(**recipe), STEPS, checkpoint_steps=2, log_every=1, diagnostics_every=2, **options)
    weights = []
    for device in (CPU, SECOND_DEVICE):
        model = make(toy)
        validation = Validation(3, lambda model: float(model.detector.head.weight.detach().sum()))
        folder = tmp_path / str(device)
        folder.mkdir()
        how: dict[str, Any] = {"device": device, "folder": folder, "validation": validation}
        with second_device():
            with pytest.raises(Interrupted):
                train(model, roads.stream(model.detector).batches, plan, progress=interrupt_at(5), **how)
            model = make(toy)
            assert train(model, roads.stream(model.detector).batches, plan, **how).resumed == 1
            weights.append({name: value.detach().cpu() for name, value in model.state_dict().items()})
    assert list(weights[0]) == list(weights[1])
    for name, value in weights[0].items():
        torch.testing.assert_close(
            weights[1][name], value, rtol=1e-4, atol=1e-5, msg=lambda told, name=name: f"{name}: {told}"
        )
