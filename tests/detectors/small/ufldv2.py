"""UFLDv2 in the small architectures that its tests build, and the outputs that say what labels say."""

from __future__ import annotations

from typing import Any

import torch

from detectors.ufldv2 import UFLDv2
from tests.detectors.roads import variant

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "micro": {},
    "convolutional with columns": {"row_lanes": (1, 2), "column_anchors": 20, "column_cells": 30, "labels": "cell"},
    "fully connected": {
        "head": "fully_connected",
        "hidden": 64,
        "row_lanes": (1, 2),
        "row_share": 0.5,
        "row_cells": 100,
        "column_anchors": 20,
        "column_cells": 50,
        "labels": "cell",
    },
}


def build(name: str = "micro", seed: int = 0) -> UFLDv2:
    torch.manual_seed(seed)
    return UFLDv2(variant("ufldv2_micro", **ARCHITECTURES[name]), "culane")


def perfect_outputs(detector: UFLDv2, targets: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The logits that put all probability where the labels are."""
    outputs = {}
    for name, anchors in detector.families.items():
        positions = targets[name]
        cells = torch.arange(anchors.cells).view(1, -1, 1, 1)
        if detector.options.labels == "cell":
            probability = (cells == positions.floor()[:, None]).float()
        else:
            probability = (1 - (positions[:, None] - 0.5 - cells).abs()).clamp(min=0)
        outputs[f"{name}_location"] = probability.clamp(min=1e-12).log()
        exists = (positions >= 0).float()
        outputs[f"{name}_existence"] = torch.stack([-40 * exists + 20, 40 * exists - 20], dim=1)
    return outputs


DETECTORS = {name: build(name).eval() for name in ARCHITECTURES}
