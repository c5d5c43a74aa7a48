"""Turoad/CLRNet's own CLRNet."""

from __future__ import annotations

from importlib import import_module
from typing import Any, ClassVar
from unittest import mock

import torch
from torch import Tensor

from detectors.clrnet import CLRNet as OurCLRNet
from detectors.meta import DetectorMeta
from detectors.upstream.bridge import LabelledBridge, PairedBridge, Scored, bridged, scored_by_prediction
from detectors.upstream.clrnet import TERMS, CLRNet, CLRNetModel


class Refinement(LabelledBridge):
    """What bridges to CLRNet's code share. Its CUDA kernel for suppression is this project's own."""

    reference: ClassVar[type[CLRNetModel]]
    departures = "suppression, a CUDA kernel there"

    @property
    def stages(self) -> tuple[str, ...]:  # type: ignore[override]
        """ResNets count layers, DLA levels."""
        deep = "dla" in self.meta.backbone
        return tuple(f"backbone.model.{f'level{stage + 1}' if deep else f'layer{stage}'}" for stage in range(1, 5))

    def outputs(self, images: Tensor) -> Any:
        """In training what the head gives its own loss, which it would call at once."""
        network: Any = self.network
        if not self.training:
            return network(images)
        head = network.heads
        with mock.patch.object(head, "loss", lambda outputs, batch: outputs):
            found = network({"img": images})
        # Tensors with a graph in buffers can't be copied; evaluation reads their values.
        head.priors, head.priors_on_featmap = head.priors.detach(), head.priors_on_featmap.detach()
        return found

    def terms(self, outputs: Any, targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """`CLRHead.loss`. Where no image of a batch has a lane its statistics divide by zero, so there the parts are called."""
        network: Any = self.network
        head, lanes = network.heads, targets["lanes"]
        stages, masks = [stage.float() for stage in outputs["predictions_lists"]], outputs["seg"].float()
        if bool((lanes[..., 1] == 1).any()):
            batch = {"lane_line": lanes, "seg": targets["mask"]}
            terms = head.loss({"predictions_lists": stages, "seg": masks}, batch)["loss_stats"]
            return {ours: terms[theirs] for ours, theirs in TERMS.items()}
        settings = self.upstream.settings
        focal = import_module(f"{self.reference.package}.models.losses.focal_loss").FocalLoss(alpha=0.25, gamma=2.0)
        logits = torch.stack(stages)[..., :2].flatten(0, -2)
        background = focal(logits, logits.new_zeros(len(logits), dtype=torch.long)).sum() / (len(stages) * len(lanes))
        nothing = 0.0 * logits.sum()
        return {
            "classification": settings.cls_loss_weight * background,
            "regression": nothing,
            "line": nothing,
            "mask": settings.seg_loss_weight * head.criterion(masks.log_softmax(dim=1), targets["mask"].long()),
        }

    def scored_lanes(self, outputs: Any) -> list[list[Scored]]:
        """Those of the last stage."""
        upstream = self.upstream
        final = outputs if isinstance(outputs, Tensor) else outputs["predictions_lists"][-1]
        return scored_by_prediction(upstream, upstream.model.heads, final)


class UpstreamCLRNet(Refinement, PairedBridge):
    """CLRNet of its authors."""

    reference: ClassVar[type[CLRNet]] = CLRNet
    metas: ClassVar[dict[str, DetectorMeta]] = bridged(OurCLRNet.metas, CLRNet.variants)
