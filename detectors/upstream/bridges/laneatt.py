"""lucastabelini/LaneATT's own LaneATT."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from detectors.laneatt import CLASSIFICATION_WEIGHT
from detectors.laneatt import LaneATT as OurLaneATT
from detectors.meta import DetectorMeta
from detectors.upstream.bridge import PairedBridge, Scored, bridged
from detectors.upstream.laneatt import LaneATT

ABSENT = -1e5
"""x of a label on a row that it isn't on: lib/datasets/lane_dataset.py."""


class UpstreamLaneATT(PairedBridge):
    """LaneATT of its authors, with the suppression of this project's in the place of their CUDA kernel.

    It suppresses in its forward, in training with other options than in evaluation; here that is put off until the loss or the
    decoding, so that outputs are those of all anchors.
    """

    reference = LaneATT
    departures = "suppression, a CUDA kernel there, which comes behind the outputs here"
    metas: ClassVar[dict[str, DetectorMeta]] = bridged(OurLaneATT.metas, LaneATT.variants)

    @property
    def stages(self) -> tuple[str, ...]:  # type: ignore[override]
        """Of ResNets the layers of a sequence, of the thin one its attributes."""
        names = (f"layer{stage}" for stage in (1, 2, 3)) if self.meta.backbone == "resnet122" else "4567"
        return tuple(f"feature_extractor.{name}" for name in names)

    def outputs(self, images: Tensor) -> Any:
        """All proposals (B, anchors, 77) and the attention among them."""
        network: Any = self.network
        if network.anchors.device != images.device:
            # Anchors are neither parameters nor buffers: they follow a call of the model itself alone.
            network.to(images.device)
        return network(images)

    def terms(self, outputs: Any, targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """`LaneATT.loss` of the proposals that its suppression leaves."""
        proposals, attention = outputs[0].float(), outputs[1].float()
        upstream = self.upstream
        labels = self._labels(targets)
        # The loss makes masks without saying where.
        with torch.device(proposals.device):
            kept = upstream.suppressed((proposals, attention), upstream.settings["train_parameters"])
            _, terms = upstream.model.loss(kept, labels, cls_loss_weight=1)
        # Without a positive in the batch a term is a plain number.
        nothing = 0.0 * proposals.sum()
        return {
            "classification": CLASSIFICATION_WEIGHT * terms["cls_loss"] + nothing,
            "regression": terms["reg_loss"] + nothing,
        }

    def _labels(self, targets: dict[str, Tensor]) -> Tensor:
        """Targets of ours as those of `LaneDataset`: (B, labels, 5 + rows)."""
        first, count, places = targets["first"], targets["count"], targets["places"]
        present = (count > 0).float()
        begin = places.gather(2, first[..., None])[..., 0]
        rows = torch.arange(places.shape[-1], device=places.device)
        on = rows < (first + count)[..., None]
        shares = first / (places.shape[-1] - 1)
        facts = torch.stack([1 - present, present, shares, begin, count.float()], dim=-1)
        return torch.cat([facts, torch.where(on, places, ABSENT)], dim=-1)

    def scored_lanes(self, outputs: Any) -> list[list[Scored]]:
        """`nms`, `decode` and the datasets' writers, which are given the lanes of an image one by one."""
        upstream = self.upstream
        options = {**upstream.settings["test_parameters"], "conf_threshold": upstream.threshold}
        with upstream.upstream:
            kept = upstream.suppressed((outputs[0].float(), outputs[1].float()), options)
            decoded = upstream.model.decode(kept, as_lanes=True)
            return [
                [(points, float(lane.metadata["conf"])) for lane in lanes for points in upstream.written_lanes([lane])]
                for lanes in decoded
            ]
