"""cfzd/Ultra-Fast-Lane-Detection-v2's own UFLDv2."""

from __future__ import annotations

from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from detectors.meta import DetectorMeta
from detectors.parts.slots import LANES
from detectors.ufldv2 import UFLDv2 as OurUFLDv2
from detectors.upstream.bridge import PairedBridge, Scored, bridged, read_one_by_one, single
from detectors.upstream.ultra_fast_lane_detection_v2 import UFLDv2

FAMILIES = {"row": "row", "col": "column"}
"""Upstream's name of a family of anchors -> ours."""


class UpstreamUFLDv2(PairedBridge):
    """UFLDv2 of its authors, without their shifts of features in evaluation.

    It gives no scores: a lane's is the mean probability that it is there, over the anchors it is found on.
    """

    reference = UFLDv2
    departures = "scores, of which it has none; no shifts of features in evaluation"
    stages = ("model.layer1", "model.layer2", "model.layer3", "model.layer4")
    metas: ClassVar[dict[str, DetectorMeta]] = bridged(OurUFLDv2.metas, UFLDv2.variants)

    def terms(self, outputs: Any, targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weighted terms of `get_loss_dict`. Upstream's means over a family's anchors aren't numbers where no lane crosses any of
        them; there they are nothing.
        """
        shown = single(outputs)
        labels, crossed = {}, {}
        for theirs, ours in FAMILIES.items():
            position = targets[ours]
            cells = shown[f"loc_{theirs}"].shape[1]
            labels[f"labels_{theirs}"] = torch.where(position >= 0, position.floor(), -1.0).long()
            labels[f"labels_{theirs}_float"] = torch.where(position >= 0, position / (cells - 1), -1.0)
            crossed[ours] = bool((position >= 0).any())
        terms: dict[str, Tensor] = self.upstream.weighted(shown, labels)
        for name in terms:
            family, _, kind = name.partition("_")
            if kind != "existence" and not crossed[family]:
                terms[name] = 0.0 * shown["loc_row" if family == "row" else "loc_col"].sum()
        return terms

    def scored_lanes(self, outputs: Any) -> list[list[Scored]]:
        """`generate_lines_local` and `generate_lines_col_local`, or `generate_tusimple_lines`, slot by slot."""
        shown = single(outputs)
        by_row = set(cast(OurUFLDv2, self.native).options.row_lanes)
        scores = []
        for slot in range(LANES):
            exists = shown["exist_row" if slot in by_row else "exist_col"][..., slot]
            found = exists.argmax(dim=1) == 1
            scores.append((exists.softmax(dim=1)[:, 1] * found).sum(dim=1) / found.sum(dim=1).clamp(min=1))
        parts = (_only(shown, slot) for slot in range(LANES))
        return read_one_by_one(self.upstream.lanes, parts, torch.stack(scores, dim=1))


def _only(outputs: dict[str, Tensor], slot: int) -> dict[str, Tensor]:
    """Outputs in which no other slot's lane is anywhere."""
    alone = dict(outputs)
    for name in ("exist_row", "exist_col"):
        alone[name] = outputs[name].clone()
        alone[name][:, 0, :, [other for other in range(LANES) if other != slot]] = torch.finfo(torch.float32).max
    return alone
