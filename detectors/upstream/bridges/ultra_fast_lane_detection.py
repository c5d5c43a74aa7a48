"""cfzd/Ultra-Fast-Lane-Detection's own UFLD."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from detectors.meta import DetectorMeta
from detectors.parts.slots import LANES
from detectors.ufld import UFLD as OurUFLD
from detectors.upstream.bridge import PairedBridge, Scored, bridged, read_one_by_one
from detectors.upstream.ultra_fast_lane_detection import UFLD


class UpstreamUFLD(PairedBridge):
    """UFLD of its authors. It gives no scores: a lane's is the mean probability that it is there, over the rows it is found on."""

    reference = UFLD
    departures = "scores, of which it has none"
    stages = ("model.layer1", "model.layer2", "model.layer3", "model.layer4")
    metas: ClassVar[dict[str, DetectorMeta]] = bridged(OurUFLD.metas, UFLD.variants)

    def terms(self, outputs: Any, targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weighted terms of `get_loss_dict`."""
        position, cells = targets["position"], self.upstream.configuration.griding_num
        places = torch.where(position >= 0, position.floor(), cells).long()
        terms: dict[str, Tensor] = self.upstream.weighted(
            outputs[0].float(), places, outputs[1].float(), targets["mask"].long()
        )
        return terms

    def scored_lanes(self, outputs: Any) -> list[list[Scored]]:
        """`generate_lines` or `generate_tusimple_lines`, slot by slot."""
        logits = outputs[0].float()
        found = logits.argmax(dim=1) < logits.shape[1] - 1
        there = (1 - logits.softmax(dim=1)[:, -1]) * found
        scores = there.sum(dim=1) / found.sum(dim=1).clamp(min=1)
        return read_one_by_one(self.upstream.lanes, ((_only(logits, slot), None) for slot in range(LANES)), scores)


def _only(logits: Tensor, slot: int) -> Tensor:
    """Logits (B, choices, rows, LANES) in which the other slots have no lane."""
    alone = logits.clone()
    alone[:, -1, :, [other for other in range(LANES) if other != slot]] = torch.finfo(logits.dtype).max
    return alone
