"""ShqWW/PolarRCNN's own Polar R-CNN, of which there is no variant of ours. The repository has no licence, so it is run from the user's
own checkout alone.

Facts and recipes: Config/polarrcnn_*.py and train.py. Of its augmentations there is a Gaussian blur for the median one. Frames of
CULane that are nearly the frame before, which upstream leaves out, are learned too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar
from unittest import mock

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from detectors.base import Tap
from detectors.clrnet import CULANE_INPUT, LLAMAS_INPUT, TUSIMPLE_INPUT
from detectors.meta import Augmentation, Configuration, DetectorMeta, Form, InputSize, Normalisation, Recipe
from detectors.upstream.bridge import (
    NO_LICENCE,
    SUFFIX,
    Bridge,
    Scored,
    clipped_labels,
    dla_taps,
    read_one_by_one,
    resnet_taps,
    single,
)
from detectors.upstream.polarrcnn import PolarRCNN
from detectors.upstream.reference import Polyline
from detectors.upstream.repositories import REPOSITORIES
from harness.lanes import Geometry, Lane

TERMS = {
    "classification": "cls_loss",
    "selection": "cls_loss_o2o",
    "rank": "rank_loss",
    "regression": "reg_loss",
    "line": "iou_loss",
    "polar_map": "polarmap_cls_loss",
    "polar_map_regression": "polarmap_reg_loss",
}
"""Names of the loss terms -> upstream's."""

_REPOSITORY = REPOSITORIES[PolarRCNN.repository]

# Frames are moved after crop and resize. OpenCV's hue has 180 steps; albumentations' brightness adds a share of white.
_AUGMENTATION = Augmentation(
    in_view=True,
    flip=0.5,
    rotation=9,
    shift_x=0.1,
    shift_y=0.1,
    scale=0.2,
    geometric_probability=0.7,
    lift=0.15,
    hue=20,
    saturation=10 / 255,
    blur=0.2,
    blur_length=5,
    blur_sigma=1.0,
    colour_probability=0.7,
)


def _configuration(size: InputSize, epochs: int, batch_size: int, warmup_steps: int) -> Configuration:
    return Configuration(
        input=size,
        recipe=Recipe(
            optimizer="adamw",
            learning_rate=6e-4,
            weight_decay=1e-2,
            schedule="cosine",
            warmup_steps=warmup_steps,
            epochs=epochs,
            batch_size=batch_size,
            augmentation=_AUGMENTATION,
            confidence_threshold=0.46,
        ),
    )


_CONFIGURATIONS: dict[Form, Configuration] = {
    "culane": _configuration(CULANE_INPUT, 32, 40, 800),
    "tusimple": _configuration(TUSIMPLE_INPUT, 70, 24, 200),
    "llamas": _configuration(LLAMAS_INPUT, 20, 32, 800),
}


class UpstreamPolarRCNN(Bridge):
    """Polar R-CNN of its authors, as it selects lanes without suppression."""

    reference = PolarRCNN
    departures = "clipping of labels"
    metas: ClassVar[dict[str, DetectorMeta]] = {
        name + SUFFIX: DetectorMeta(
            name=name + SUFFIX,
            paper="Wang, Liu, Cao, Song, Sun: Polar R-CNN: End-to-End Lane Detection with Fewer Anchors, arXiv 2411.01499",
            year=2024,
            family="anchor",
            backbone=name.removeprefix("polarrcnn_"),
            upstream=_REPOSITORY.url,
            commit=_REPOSITORY.commit,
            licence=NO_LICENCE,
            normalisation=Normalisation(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
            configurations={form: _CONFIGURATIONS[form] for form in forms},
        )
        for name, forms in PolarRCNN.variants.items()
    }

    def taps(self) -> tuple[Tap, ...]:
        """The four stages of the backbone, strides 4 to 32."""
        return dla_taps("backbone.model") if self.meta.backbone == "dla34" else resnet_taps("backbone.model")

    def encode_targets(self, lanes: Sequence[Lane], geometry: Geometry) -> dict[str, npt.NDArray[Any]]:
        """What upstream's training set gives for them, in its names; floats in single precision.

        Clipping to the image is ours, as is what isn't learned: points that aren't finite, and those left of the frame or above it. A
        lane that leaves the image and comes back isn't learned; of more lanes than upstream has places for, those that span the most
        rows are.
        """
        pieces = [clipped_labels(self, [lane], geometry) for lane in lanes]
        whole = [found[0] for found in pieces if len(found) == 1]
        targets = self.upstream.encoded([lane[np.argsort(lane[:, 1], kind="stable")] for lane in whole])
        return {name: value.astype(np.float32) if value.dtype.kind == "f" else value for name, value in targets.items()}

    def outputs(self, images: Tensor) -> Any:
        """What the heads predict of each anchor, before any lane is read from it; in training also the polar map."""
        network: Any = self.network
        # Coordinates are plain attributes: they stay where they were made.
        for coordinates in (network.roi_head.coord_transform, network.rpn_head.coord_trans):
            coordinates.sample_car_y = coordinates.sample_car_y.to(images.device)
        if self.training:
            return network({"img": images})
        with mock.patch.object(network.roi_head, "pred_lanes_batch", lambda predictions: predictions):
            return network(images)["lane_list"]

    def terms(self, outputs: Any, targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """`OverallLoss`. Of a batch without lanes, on which it fails, its classifications and its polar map alone."""
        criterion: Any = self.upstream.criterion.to(outputs["cls"].device)
        shown = single(outputs)
        nothing = 0.0 * (shown["lanereg_xs_offset"].sum() + shown["end_points"].sum())
        if bool(targets["lane_valid"].any()):
            _, found = criterion(shown, targets)
        else:
            _, found = criterion.rpn_loss(shown, targets)
            found |= self._without_lanes(criterion.roi_loss, shown)
        return {ours: (found[theirs] + nothing).sum() for ours, theirs in TERMS.items()}

    def _without_lanes(self, loss: Any, shown: dict[str, Tensor]) -> dict[str, Any]:
        """What `TriBranchLoss` adds up for images without lanes."""
        scores, selected = shown["cls"], shown["cls_o2o"]
        none = torch.zeros_like(scores, dtype=torch.long)
        likely = scores > loss.conf_thres_o2o
        share = loss.cls_loss_weight / len(scores)
        return {
            "cls_loss": share * loss.cls_criterion(scores, none).sum(),
            "cls_loss_o2o": share * (loss.cls_criterion_o2o(selected, none) * likely).sum(),
            **dict.fromkeys(("rank_loss", "reg_loss", "iou_loss"), 0.0),
        }

    def scored_lanes(self, outputs: Any) -> list[list[Scored]]:
        """`pred_lanes_batch` and the evaluators' writers, anchor by anchor; a lane's score is that of its selection."""
        upstream = self.upstream
        names = ("cls_o2o", "end_points", "lanereg_xs_offset", "lanereg_base_car")
        shown = {name: outputs[name].float() for name in names}
        scores = shown["cls_o2o"]
        anchors = (
            {name: value[:, anchor : anchor + 1] for name, value in shown.items()} for anchor in range(scores.shape[1])
        )

        def read(anchor: dict[str, Tensor]) -> list[list[Polyline]]:
            return [upstream.written_lanes(lanes) for lanes in upstream.decoded(anchor)]

        with upstream.upstream:
            return read_one_by_one(read, anchors, scores)
