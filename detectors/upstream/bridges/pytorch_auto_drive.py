"""voldemortX/pytorch-auto-drive's own RESA, SCNN, LSTR and BézierLaneNet."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from inspect import signature
from typing import Any, ClassVar
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from detectors.bezierlanenet import IGNORED
from detectors.bezierlanenet import WEIGHTS as BEZIER_WEIGHTS
from detectors.bezierlanenet import BezierLaneNet as OurBezierLaneNet
from detectors.lstr import LSTR as OurLSTR
from detectors.lstr import WEIGHTS
from detectors.meta import DetectorMeta
from detectors.parts.segmentation import EXISTENCE_WEIGHT
from detectors.resa import RESA as OurRESA
from detectors.scnn import SCNN as OurSCNN
from detectors.upstream.bridge import PairedBridge, Scored, bridged, single
from detectors.upstream.pytorch_auto_drive import LSTR, RESA, SCNN, BezierLaneNet, present_points


class Segmentation(PairedBridge):
    """Maps of lanes and their existence."""

    stages: ClassVar[tuple[str, ...]] = ("backbone.layer1", "backbone.layer2", "backbone.layer3")

    def terms(self, outputs: Any, targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """`LaneLoss`, whose network is what it gave already."""
        upstream = self.upstream
        upstream.criterion.to(outputs["out"].device)
        shown = single(outputs)
        mask, existence = targets["mask"].long(), targets["existence"]
        _, terms = upstream.criterion(None, mask, existence, lambda _: shown, upstream.test["input_size"])
        return {"mask": terms["loss seg"], "existence": EXISTENCE_WEIGHT * terms["loss exist"]}

    def scored_lanes(self, outputs: Any) -> list[list[Scored]]:
        """`lane_as_segmentation_inference`, whose reading of the maps is asked slot by slot, so that a lane's score is known."""
        upstream, test = self.upstream, self.upstream.test
        shown = single(outputs)
        with upstream.upstream:
            module = import_module("utils.lane_det_utils")
            with mock.patch.object(module, "prob_to_lines", by_slot(module.prob_to_lines)):
                sizes = [test["input_size"], test["original_size"]]
                keys = (test["gap"], test["ppl"], test["thresh"], upstream.form, test["max_lane"])
                found = module.lane_as_segmentation_inference(None, shown, sizes, *keys, forward=False)
        scores = shown["lane"].sigmoid().tolist()
        return [
            [(present_points(lane), scores[image][slot]) for slot, lane in lanes] for image, lanes in enumerate(found)
        ]


def by_slot(read: Callable[..., list[Any]]) -> Callable[..., list[tuple[int, Any]]]:
    """`prob_to_lines`, or what reads curves, with the slot of each lane that it finds. Its second parameter says which are there."""
    found = signature(read)
    existence = list(found.parameters)[1]

    def reading(*arguments: Any, **options: Any) -> list[tuple[int, Any]]:
        given = found.bind(*arguments, **options).arguments
        there = [slot for slot, exists in enumerate(given[existence]) if exists]
        count = len(given[existence])
        return [(slot, lane) for slot in there for lane in read(**{**given, existence: np.arange(count) == slot})]

    return reading


class UpstreamRESA(Segmentation):
    """RESA of pytorch-auto-drive."""

    reference = RESA
    metas: ClassVar[dict[str, DetectorMeta]] = bridged(OurRESA.metas, RESA.variants)


class UpstreamSCNN(Segmentation):
    """SCNN of pytorch-auto-drive."""

    reference = SCNN
    stages = ("backbone.layer1", "backbone.layer2", "backbone.layer3", "backbone.layer4")
    metas: ClassVar[dict[str, DetectorMeta]] = bridged(OurSCNN.metas, SCNN.variants)


class UpstreamLSTR(PairedBridge):
    """LSTR of pytorch-auto-drive."""

    reference = LSTR
    stages = ("backbone.layer1", "backbone.layer2", "backbone.layer3", "backbone.layer4")
    metas: ClassVar[dict[str, DetectorMeta]] = bridged(OurLSTR.metas, LSTR.variants)

    def terms(self, outputs: Any, targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """`HungarianLoss`, each term summed over the decoder layers. A batch without lanes, which it refuses, has its first alone."""
        criterion, labels = (
            self.upstream.criterion,
            [labelled(*both) for both in zip(targets["x"], targets["ends"], strict=True)],
        )
        if not any(len(label["labels"]) for label in labels):
            layers = [outputs, *outputs["aux"]]
            none = outputs["logits"].new_zeros(outputs["logits"].shape[:2], dtype=torch.long)
            entropies = [criterion.classification_loss(layer["logits"].permute(0, 2, 1), none) for layer in layers]
            nothing = 0.0 * outputs["curves"].sum()
            terms = {name: nothing for name in NAMES}
            return terms | {"lane": WEIGHTS["lane"] * torch.stack(entropies).sum()}
        _, terms = criterion(None, labels, lambda _: outputs)
        return {
            ours: WEIGHTS[ours] * sum(value for name, value in terms.items() if name.startswith(f"loss {theirs}"))
            for ours, theirs in NAMES.items()
        }

    def scored_lanes(self, outputs: Any) -> list[list[Scored]]:
        """`inference`, whose reading of the curves is asked query by query, so that a lane's score is known."""
        upstream, test = self.upstream, self.upstream.test
        model: Any = upstream.model
        model.thresh = upstream.threshold
        scores = outputs["logits"].softmax(dim=-1)[..., 1].tolist()
        with (
            upstream.upstream,
            mock.patch.object(model, "coefficients_to_coordinates", by_slot(model.coefficients_to_coordinates)),
        ):
            sizes = [test["input_size"], test["original_size"]]
            keys = (test["gap"], test["ppl"], upstream.form, test["max_lane"])
            found = model.inference(outputs, sizes, *keys, forward=False)
        return [
            [(present_points(lane), scores[image][query]) for query, lane in lanes] for image, lanes in enumerate(found)
        ]


class UpstreamBezierLaneNet(PairedBridge):
    """BézierLaneNet of pytorch-auto-drive, with the deformable convolution of `detectors.upstream.deformable` for mmcv's."""

    reference = BezierLaneNet
    departures = "deformable convolution, compiled there"
    stages = ("backbone.layer1", "backbone.layer2", "backbone.layer3")
    metas: ClassVar[dict[str, DetectorMeta]] = bridged(
        OurBezierLaneNet.metas, BezierLaneNet.variants, {"fusion.offsets": "simple_flip_2d.proj2_conv.conv_offset"}
    )

    def terms(self, outputs: Any, targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """`HungarianBezierLoss`, whose network is what it gave already."""
        criterion = self.upstream.criterion.to(outputs["logits"].device)
        shown = single(outputs)
        labels = []
        for curves, present, mask in zip(targets["curves"], targets["present"], targets["mask"], strict=True):
            keypoints = curves[present > 0]
            sampled = criterion.bezier_sampler.get_sample_points(keypoints)
            mask = torch.where(mask == IGNORED, criterion.ignore_index, mask.long())
            labels.append({"keypoints": keypoints, "sample_points": sampled, "segmentation_mask": mask})
        _, terms = criterion(None, labels, lambda _: shown)
        return {ours: BEZIER_WEIGHTS[ours] * terms[f"loss {theirs}"] for ours, theirs in BEZIER_NAMES.items()}

    def scored_lanes(self, outputs: Any) -> list[list[Scored]]:
        """`inference`, whose reading of the curves is asked column by column, so that a lane's score is known."""
        upstream, test = self.upstream, self.upstream.test
        model: Any = upstream.model
        model.thresh = upstream.threshold
        shown = single(outputs)
        with (
            upstream.upstream,
            mock.patch.object(model, "bezier_to_coordinates", by_slot(model.bezier_to_coordinates)),
        ):
            sizes = [test["input_size"], test["original_size"]]
            keys = (test["gap"], test["ppl"], upstream.form, test["max_lane"])
            found = model.inference(shown, sizes, *keys, forward=False)
        scores = shown["logits"].sigmoid().tolist()
        # Only on TuSimple does a negative x say that there is no point.
        read = present_points if upstream.form == "tusimple" else np.array
        return [[(read(lane), scores[image][column]) for column, lane in lanes] for image, lanes in enumerate(found)]


BEZIER_NAMES = {"curve": "curve", "lane": "label", "mask": "seg"}
"""Our loss terms -> how those of BézierLaneNet end."""

NAMES = {"lane": "label", "curve": "curve", "far": "upper", "near": "lower"}
"""Our loss terms -> the beginnings of LSTR's."""


def labelled(x: Tensor, ends: Tensor) -> dict[str, Tensor]:
    """Targets of ours, (queries, rows) and (queries, 2), as what `generate_lane_label_dict` makes of points on the same rows."""
    there = (x > 0).sum(dim=-1) >= 2
    x, ends = x[there], ends[there]
    rows = torch.linspace(0.0, 1.0, x.shape[-1], device=x.device).expand_as(x)
    return {
        "keypoints": torch.stack([torch.where(x > 0, x, -2.0), rows], dim=-1),
        "labels": torch.ones(len(x), dtype=torch.int64, device=x.device),
        "uppers": ends[:, 0],
        "lowers": ends[:, 1],
    }
