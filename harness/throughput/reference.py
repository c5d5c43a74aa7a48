"""The reference model: what a machine does at a moment with a network that never changes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from harness.pytorch.torchvision_guard import ensure_torchvision
from harness.throughput.devices import Timer, timing_settings
from harness.throughput.interleaved import timed
from harness.throughput.protocol import Protocol

REFERENCE_INPUT = (1, 3, 288, 800)
"""What the reference model, torchvision's resnet18 in fp32-strict, is timed on: UFLD's input size."""


def reference_milliseconds(device: torch.device, timer: Timer, rules: Protocol, *, threads: int) -> float:
    """Median of the reference model's times, in fp32-strict."""
    model, images = reference_model(device)
    with timing_settings(threads=threads, tf32=False), torch.inference_mode():
        for _ in range(rules.reference_warm_iterations):
            timed(lambda: model(images), timer)
        return float(np.median([timed(lambda: model(images), timer) for _ in range(rules.reference_iterations)])) / 1e6


def reference_model(device: torch.device) -> tuple[nn.Module, Tensor]:
    """The reference model and its input; the global random generators are left as they were."""
    ensure_torchvision()
    from torchvision.models import resnet18

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return resnet18(weights=None).eval().to(device), torch.rand(REFERENCE_INPUT).to(device)
