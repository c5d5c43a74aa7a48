"""RESA in the small architectures that its tests build, and the outputs that say what labels say."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from detectors.resa import RESA
from tests.detectors.roads import variant

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "micro": {},
    "full resolution": {"upsamplings": 3, "channels": 16, "iterations": 2},
    "stride 8, six slots": {"upsamplings": 0, "slots": 6, "max_lanes": 5, "iterations": 1},
}


def build(name: str = "micro", seed: int = 0) -> RESA:
    torch.manual_seed(seed)
    return RESA(variant("resa_micro", **ARCHITECTURES[name]), "culane")


def perfect_outputs(detector: RESA, targets: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What the losses ask for: the logits of each class's weighted share of the pixels, place by place of the network's own maps."""
    shares = F.one_hot(targets["mask"].long(), 1 + detector.options.slots).permute(0, 3, 1, 2).float()
    shares = F.avg_pool2d(shares, 8 // 2**detector.options.upsamplings)
    shares[:, 0] *= 0.4
    return {"mask": shares.clamp(min=1e-9).log(), "existence": targets["existence"] * 40 - 20}


DETECTORS = {name: build(name).eval() for name in ARCHITECTURES}
