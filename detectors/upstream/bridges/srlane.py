"""passerer/SRLane's own SRLane, of which there is no variant of ours. The repository has no licence, so it is run from the user's own
checkout alone.

Facts and recipe: configs/exp_srlane_culane.py and what it builds on. Of its augmentations there are no shear, no shuffled channels and
no artefacts of JPEG; frames that are nearly the frame before, which upstream leaves out, are learned too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

from detectors.base import Tap
from detectors.clrnet import COLOURS, CULANE_INPUT, FLIP_AND_MOVE
from detectors.meta import Augmentation, Configuration, DetectorMeta, Normalisation, Recipe
from detectors.upstream.bridge import (
    NO_LICENCE,
    SUFFIX,
    Bridge,
    Scored,
    clipped_labels,
    resnet_taps,
    scored_by_prediction,
    single,
)
from detectors.upstream.repositories import REPOSITORIES
from detectors.upstream.srlane import SRLane
from harness.lanes import Geometry, Lane

TERMS = {"classification": "cls_loss", "regression": "l1_loss", "line": "iou_loss", "angle": "angle_loss"}
"""Names of the loss terms -> upstream's. Its attention's loss has no weight in the configuration."""

_REPOSITORY = REPOSITORIES[SRLane.repository]

_RECIPE = Recipe(
    optimizer="adamw",
    learning_rate=6e-4,
    weight_decay=1e-2,
    schedule="cosine",
    warmup_steps=800,
    steps=44_440,
    batch_size=40,
    augmentation=Augmentation(**FLIP_AND_MOVE, **COLOURS),
    confidence_threshold=0.4,
)


class UpstreamSRLane(Bridge):
    """SRLane of its authors, with the suppression of this project's in the place of their CUDA kernel."""

    reference = SRLane
    departures = "clipping of labels; suppression, a CUDA kernel there"
    metas: ClassVar[dict[str, DetectorMeta]] = {
        name + SUFFIX: DetectorMeta(
            name=name + SUFFIX,
            paper="Chen, Liu, Zhou, Tang, Wu: Sketch and Refine: Towards Fast and Accurate Lane Detection, AAAI 2024",
            year=2024,
            family="anchor",
            backbone="resnet18",
            upstream=_REPOSITORY.url,
            commit=_REPOSITORY.commit,
            licence=NO_LICENCE,
            normalisation=Normalisation(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
            configurations={"culane": Configuration(input=CULANE_INPUT, recipe=_RECIPE)},
        )
        for name in SRLane.variants
    }

    def taps(self) -> tuple[Tap, ...]:
        """The four stages of the ResNet, strides 4 to 32."""
        return resnet_taps("backbone.model")

    def encode_targets(self, lanes: Sequence[Lane], geometry: Geometry) -> dict[str, npt.NDArray[Any]]:
        """`lanes`: float32 (labels, 4 + rows); `angle_STRIDE`: float32 maps of that stride. As upstream encodes them.

        Clipping to the image is ours, as is what isn't learned: points that aren't finite, and those left of the frame or above it.
        """
        found = self.upstream.encoded(clipped_labels(self, lanes, geometry))
        strides = self.upstream.settings.feat_ds_strides
        angles = zip(strides, found["gt_angle"], strict=True)
        return {"lanes": found["gt_lane"], **{f"angle_{stride}": angle.astype(np.float32) for stride, angle in angles}}

    def outputs(self, images: Tensor) -> Any:
        """In training what both heads give their losses; in evaluation lanes (B, proposals, 4 + rows)."""
        network: Any = self.network
        if not self.training:
            return network(images)
        features = network.extract_feat(images)
        proposed = network.rpn_head(features)
        return {"proposed": proposed, "refined": network.roi_head(features, **proposed)}

    def terms(self, outputs: Any, targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """The losses of both heads, weighted as the detector sums them."""
        network: Any = self.network
        settings = self.upstream.settings
        shown = single(outputs)
        angles = [targets[f"angle_{stride}"] for stride in settings.feat_ds_strides]
        found = network.rpn_head.loss(**shown["proposed"], gt_angle=angles, gt_seg=None)
        found |= network.roi_head.loss(shown["refined"], {"gt_lane": targets["lanes"]})
        # Without a lane in the batch some terms are plain numbers.
        nothing = 0.0 * shown["refined"]["predictions_lists"][-1].sum()
        return {ours: settings.get(f"{theirs}_weight", 1.0) * found[theirs] + nothing for ours, theirs in TERMS.items()}

    def scored_lanes(self, outputs: Any) -> list[list[Scored]]:
        """Those of the last stage."""
        upstream = self.upstream
        final = outputs if isinstance(outputs, Tensor) else outputs["refined"]["predictions_lists"][-1]
        return scored_by_prediction(upstream, upstream.model.roi_head, final)
