"""LaneATT as small as its tests build it."""

from __future__ import annotations

from typing import Any

import torch

from detectors.laneatt import LaneATT
from tests.detectors.roads import variant

SMALL = {"lateral": 6, "bottom": 8, "convergence": 1.0, "rows": 24, "positive": 15.0, "negative": 20.0}


def build(seed: int = 0, **architecture: Any) -> LaneATT:
    torch.manual_seed(seed)
    return LaneATT(variant("laneatt_micro", **SMALL | architecture), "culane")


DETECTOR = build().eval()
SUPPRESSING = build(training_suppression=7.5).eval()
