"""No option of a method mixes devices: losses and gradients are computed where the images are."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from harness.conformance.second_device import SECOND_DEVICE, second_device

OPTIONS: list[dict[str, Any]] = [
    {},
    {"kind": "baseline"},
    {"kind": "attention_only", "lambda": 0},
    {"kind": "miro"},
    {"gate": "cbam"},
    {"site": "regularizer"},
    {"attention": "none", "mi_attention": "off"},
    {"mi_attention": "weight"},
    {"oracle_attention": "fixed"},
    {"normalize": "l2"},
    {"normalize": "batch_standardize"},
    {"normalize": "none"},
    {"variance": "miro"},
    {"variance": "fixed"},
    {"lambda_mode": "ratio"},
    {"pair": "depth", "taps": ["stages.0", "stages.1"]},
    {"oracle_scale": 0.5},
]


@pytest.mark.parametrize(
    ("layout", "options"), [*(("nchw", options) for options in OPTIONS), ("nhwc", {}), ("tokens", {})], ids=str
)
def test_a_method_stays_on_the_device_of_its_images_and_computes_what_the_host_computes(
    toy: ModuleType, attached: Callable[..., Any], layout: str, options: dict[str, Any]
) -> None:
    arguments = {"kind": "samiro", "total_steps": 4, "oracle": "o", **options}
    if arguments["kind"] == "baseline":
        del arguments["oracle"]

    def seen(device: torch.device) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
        torch.manual_seed(0)
        model: nn.Module = attached(detector=toy.detector(layout=layout), **arguments).to(device).train()
        terms = model(toy.batch().to(device))
        sum(terms.values(), torch.zeros((), device=device)).backward()
        found = {name: p.grad.cpu() for name, p in model.named_parameters() if p.grad is not None}
        return {name: float(term.detach()) for name, term in terms.items()}, found

    losses, gradients = seen(torch.device("cpu"))
    with second_device():
        there, reached = seen(SECOND_DEVICE)
    assert there == pytest.approx(losses, rel=1e-5)
    assert list(reached) == list(gradients)
    for name, gradient in gradients.items():
        torch.testing.assert_close(reached[name], gradient, rtol=1e-3, atol=1e-6)
