"""CLRNet as small as its tests build it, and the outputs that say what labels say."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from detectors.clrnet import CLRNet
from detectors.parts.dynamic_assignment import LENGTH, PRESENT, START_X, XS
from tests.detectors.roads import variant


def build(seed: int = 0, threshold: float | None = None, **architecture: Any) -> CLRNet:
    torch.manual_seed(seed)
    return CLRNet(variant("clrnet_micro", threshold=threshold, **architecture), "culane")


def outputs_of(detector: CLRNet, targets: Tensor, sure: float = 6.0) -> dict[str, Tensor]:
    """Lanes (B, 1, priors, 6 + rows) that are the targets (B, M, 6 + rows), and background behind them."""
    width, strips = detector.configuration.input.network[1], detector.options.rows - 1
    lanes = torch.zeros(len(targets), 1, detector.options.priors, targets.shape[-1])
    lanes[..., 0], lanes[..., PRESENT] = sure, -sure
    told = targets.clone()
    there = told[..., PRESENT] == 1
    told[..., 0], told[..., PRESENT] = torch.where(there, -sure, sure), torch.where(there, sure, -sure)
    told[..., START_X] /= width - 1
    told[..., LENGTH] /= strips
    told[..., XS] /= width - 1
    lanes[:, 0, : targets.shape[1]] = told
    return {"lanes": lanes}


MICRO = build().eval()
