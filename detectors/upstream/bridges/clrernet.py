"""hirotomusiker/CLRerNet's own CLRerNet."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from torch import Tensor

from detectors.clrernet import CLRerNet as OurCLRerNet
from detectors.meta import DetectorMeta
from detectors.parts.dynamic_assignment import PRESENT, START_Y
from detectors.upstream.bridge import PairedBridge, Scored, bridged, single
from detectors.upstream.clrernet import TERMS, CLRerNet


class UpstreamCLRerNet(PairedBridge):
    """CLRerNet of its authors, on the stand-ins for OpenMMLab's packages and with the suppression of this project's in the place of
    their CUDA kernel.
    """

    reference = CLRerNet
    departures = "suppression, a CUDA kernel there; OpenMMLab's packages"
    checkpoint_spare = (r"^data_preprocessor\.",)
    stages = tuple(f"backbone.model.level{stage}" for stage in range(2, 6))
    metas: ClassVar[dict[str, DetectorMeta]] = bridged(OurCLRerNet.metas, CLRerNet.variants)

    def outputs(self, images: Tensor) -> Any:
        """`predictions` of every stage, in training also `seg`: what `loss_by_feat` takes."""
        network: Any = self.network
        features = network.extract_feat(images)
        found = {"predictions": network.bbox_head(features)}
        return found | {"seg": network.bbox_head.forward_seg(features)} if self.training else found

    def terms(self, outputs: Any, targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """`CLRerHead.loss_by_feat`."""
        shown = single(outputs)
        lanes = targets["lanes"].clone()
        # Upstream counts starts from the top.
        lanes[..., START_Y] = torch.where(lanes[..., PRESENT] == 1, 1 - lanes[..., START_Y], lanes[..., START_Y])
        shape = (*targets["mask"].shape[1:], 3)
        samples = [
            SimpleNamespace(lanes=label, gt_masks=[mask], img_shape=shape)
            for label, mask in zip(lanes, targets["mask"].cpu().numpy(), strict=True)
        ]
        head: Any = self.upstream.model.bbox_head
        terms = head.loss_by_feat(shown, samples)
        return {ours: terms[f"loss_{theirs}"] for ours, theirs in TERMS.items()}

    def scored_lanes(self, outputs: Any) -> list[list[Scored]]:
        """`get_lanes` and the evaluator's writer, which is given the lanes of an image one by one."""
        upstream = self.upstream
        with upstream.upstream:
            return [
                [(points, float(lane.metadata["conf"])) for lane in lanes for points in upstream.written_lanes([lane])]
                for lanes in upstream.decoded(single(outputs["predictions"][-1]))
            ]
