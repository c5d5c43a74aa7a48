"""liuruijin17/LSTR's own LSTR."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from detectors.lstr import LSTR as OurLSTR
from detectors.meta import DetectorMeta
from detectors.upstream.bridge import PairedBridge, Scored, bridged, read_one_by_one, single
from detectors.upstream.lstr import LSTR


class UpstreamLSTR(PairedBridge):
    """LSTR of its authors."""

    reference = LSTR
    stages = ("layer1", "layer2", "layer3", "layer4")
    metas: ClassVar[dict[str, DetectorMeta]] = bridged(OurLSTR.metas, LSTR.variants)

    def outputs(self, images: Tensor) -> Any:
        """Those of its last decoder layer, the others' below `aux_outputs`; nothing of the images is masked."""
        outputs, _ = self.network(images, torch.zeros_like(images[:, :1]))
        return outputs

    def terms(self, outputs: Any, targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """`SetCriterion`. Of a batch without lanes, on which it fails, its classification alone."""
        upstream = self.upstream
        criterion = upstream.criterion.to(outputs["pred_logits"].device)
        shown = single(outputs)
        labels = [_labelled(*both) for both in zip(targets["x"], targets["ends"], strict=True)]
        if any(len(label) for label in labels):
            terms, _ = criterion(shown, labels)
            weighted: dict[str, Tensor] = upstream.weighted(terms)
            return weighted
        nobody = [(torch.zeros(0, dtype=torch.long),) * 2 for _ in labels]
        layers = [*shown["aux_outputs"], shown]
        entropies = [criterion.loss_labels(layer, labels, nobody, 1, log=False)["loss_ce"] for layer in layers]
        nothing = 0.0 * shown["pred_curves"].sum()
        lane = criterion.weight_dict["loss_ce"] * torch.stack(entropies).sum()
        return {"lane": lane, "curve": nothing, "far": nothing, "near": nothing}

    def scored_lanes(self, outputs: Any) -> list[list[Scored]]:
        """`PostProcess` and `pred2lanes`, query by query."""
        logits, curves = outputs["pred_logits"].float().cpu(), outputs["pred_curves"].float().cpu()
        parts = (
            {"pred_logits": logits[:, query : query + 1], "pred_curves": curves[:, query : query + 1]}
            for query in range(logits.shape[1])
        )
        return read_one_by_one(self.upstream.lanes, parts, logits.softmax(dim=-1)[..., 1])


def _labelled(x: Tensor, ends: Tensor) -> Tensor:
    """Targets of ours, (queries, rows) and (queries, 2), as the labels of sample/tusimple.py: (lanes, 3 + 2 rows)."""
    there = (x >= 0).any(dim=-1)
    x, ends = x[there], ends[there]
    rows = torch.linspace(0.0, 1.0, x.shape[-1], device=x.device).expand_as(x)
    return torch.cat([torch.ones_like(ends[:, :1]), ends, x, rows], dim=-1)
