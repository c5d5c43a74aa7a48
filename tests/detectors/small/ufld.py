"""UFLD in the small architectures that its tests build, and the outputs that say what labels say."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from detectors.registry import detector_meta
from detectors.ufld import UFLD
from tests.detectors.roads import variant

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "micro": {},
    "as published": {
        **{"rows": (247, 268, 288, 307, 327, 348, 368, 387, 407, 428, 448, 467, 487, 508, 528, 546, 567, 587)},
        **{"decoded_rows": tuple(range(249, 590, 20)), "decoded_span": (7.2309, 1645.18), "cells": 200},
        **{"labels": "cell", "prolong": True, "hidden": 16, "auxiliary": 4, "min_points": 3},
    },
    "without auxiliary head": {"auxiliary": None, "labels": "cell", "similarity": 1.0, "shape": 0.5},
}


def build(name: str = "micro", seed: int = 0, **architecture: Any) -> UFLD:
    torch.manual_seed(seed)
    return UFLD(variant("ufld_micro", **ARCHITECTURES[name] | architecture), "culane")


def published(name: str, form: Any) -> UFLD:
    """A published variant without memory for its weights."""
    with torch.device("meta"):
        return UFLD(detector_meta(name), form)


DETECTORS = {name: build(name).eval() for name in ARCHITECTURES}


def perfect_outputs(detector: UFLD, targets: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The logits that put all probability where the labels are."""
    positions, cells = targets["position"], detector.options.cells
    choices = torch.arange(cells + 1).view(1, -1, 1, 1)
    if detector.options.labels == "cell":
        probability = (choices == positions.floor()[:, None]).float()
    else:
        place = (positions - 0.5).clamp(0, cells - 1)[:, None]
        probability = (1 - (place - choices).abs()).clamp(min=0) * (choices < cells)
    absent = torch.where((positions < 0)[:, None], (choices == cells).float(), probability)
    outputs = {"location": absent.clamp(min=1e-12).log()}
    if "mask" in targets:
        outputs["segmentation"] = 40.0 * F.one_hot(targets["mask"].long(), 5).permute(0, 3, 1, 2).float()
    return outputs
