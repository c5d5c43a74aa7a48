"""What detectors share that find lanes by segmentation: every pixel belongs to the background or to one of the lanes.

Lanes are told apart by their order from left to right, and one number a lane says whether it exists. Targets, losses and decoding are
those of voldemortX/pytorch-auto-drive (BSD-3), whose RESA and SCNN have them in common. What differs in training: masks are drawn from
the labels in network pixels and lanes are given to slots by where they cross the bottom of the augmented frame, not by the label
file's lane numbers; lanes beyond the slots and what a rotation brings into the frame are background, upstream ignores both; the warm-up
multiplies the polynomial decay, which upstream starts only after it. Decoding reads the probabilities at exactly the rows of the frame
and gives pixel centres, where upstream truncates both to whole pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from detectors.backbones import backbone_taps, build_backbone
from detectors.base import Batch, Detector, Tap, normalise
from detectors.meta import Data, DetectorMeta, Form, InputSize
from detectors.parts.masks import slot_mask
from detectors.parts.sampling import linear_sampling
from harness.lanes import Geometry, Lane, near_to_far, plain_geometry

STRIDE = 8
"""Of the dilated backbones: `replace_stride_with_dilation` in configs/lane_detection/{resa,scnn}."""

BACKGROUND_WEIGHT = 0.4
EXISTENCE_WEIGHT = 0.1
"""Of the background in the cross-entropy, and of the existence loss: configs/lane_detection/common/optims/segloss_5class.py."""


class SegmentationOptions(Data):
    """Architecture options of every such detector; the defaults are the published CULane configuration.

    slots: lanes that the network tells apart, of which the `max_lanes` likeliest are predicted. lane_width: of a lane in the masks, in
    network pixels. A lane is looked for in `rows` rows, `row_step` pixels of the configured frame apart from `bottom_row` upwards, in
    probabilities averaged over `blur` x `blur` network pixels, and has a point where they exceed `probability`.
    """

    slots: int = Field(4, ge=2, multiple_of=2)
    max_lanes: int = Field(4, ge=1)
    lane_width: int = Field(8, gt=0)
    bottom_row: float = 589
    row_step: float = Field(20, gt=0)
    rows: int = Field(18, ge=2)
    blur: int = Field(9, gt=0)
    probability: float = Field(0.3, ge=0, lt=1)

    @model_validator(mode="after")
    def _odd(self) -> Self:
        if self.blur % 2 == 0:
            raise ValueError("'blur' is an odd number of pixels")
        return self


class SegmentationDetector(Detector):
    """A dilated ResNet whose outputs are logits: `mask` (B, 1 + slots, h, w), the background first, and `existence` (B, slots).

    The map covers the network's part of the frame evenly, at its size or coarser. A detector adds what lies between features and
    outputs. Its `architecture` is a model of options that extends `SegmentationOptions`.
    """

    architecture: ClassVar[type[SegmentationOptions]] = SegmentationOptions
    options: SegmentationOptions
    checkpoint_names: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"^channel_reducer\.conv1\.", "reduce.0."),
        (r"^channel_reducer\.bn1\.", "reduce.1."),
        (r"^lane_classifier\.linear1\.", "existence.hidden."),
        (r"^lane_classifier\.linear2\.", "existence.output."),
    )

    def __init__(self, meta: DetectorMeta, form: Form, *, stages: int) -> None:
        """stages: of the backbone. Raises InputError where the configuration's architecture has unknown or impossible options."""
        super().__init__(meta, form)
        self.options = self.options_of(self.architecture)
        size = self.configuration.input
        self.grid = (math.ceil(size.network[0] / STRIDE), math.ceil(size.network[1] / STRIDE))
        self.backbone = build_backbone(meta.backbone, stages=stages, output_stride=STRIDE)
        _dilate_first_convolutions_only(self.backbone)
        self.frame_rows = _frame_rows(size, self.options)

    def taps(self) -> tuple[Tap, ...]:
        """The stages of the ResNet: stride 4, then 8."""
        return backbone_taps(self.backbone, "backbone")

    def _reads_maps_of(self, height: int) -> None:
        """Have decoding read maps of so many rows; to be called once, by the constructor."""
        means = _row_means(self.frame_rows, self.configuration.input.network[0], height, self.options.blur)
        read = means.any(dim=0).nonzero()
        self._map_rows = slice(int(read.min()), int(read.max()) + 1)
        self.register_buffer("row_means", means[:, self._map_rows].contiguous(), persistent=False)

    def features(self, images: Tensor) -> Tensor:
        """uint8 RGB (B, 3, H, W) -> the last stage's features, of stride 8, channels last in memory."""
        normalised = normalise(images, self.meta.normalisation)
        features: Tensor = self.backbone(normalised.contiguous(memory_format=torch.channels_last))[-1]
        return features

    def encode_targets(self, lanes: Sequence[Lane], geometry: Geometry) -> dict[str, npt.NDArray[Any]]:
        """`mask`: uint8 (H, W), 0 or 1 + the slot whose lane lies there; `existence`: float32 (slots,), 0 or 1.

        A lane without a pixel in the network's part of the frame takes no slot. Where lanes cross, the inner one is seen.
        """
        finite = [lane.points[np.isfinite(lane.points).all(axis=1)] for lane in lanes]
        polylines = [geometry.to_network(points) for points in finite if len(points) > 1]
        options = self.options
        mask, existence = slot_mask(polylines, geometry.network, slots=options.slots, width=options.lane_width)
        return {"mask": mask, "existence": existence}

    def losses(self, outputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """`mask`: cross-entropy over pixels, the background's weighted .4; `existence`: .1 x binary cross-entropy.

        Where the map is coarser than the mask, a place's label is the share that each class has of its pixels.
        """
        logits = outputs["mask"].float()
        height, width = logits.shape[-2:]
        classes = torch.arange(1 + self.options.slots, device=logits.device).view(1, -1, 1, 1)
        lies = (batch.targets["mask"][:, None] == classes).float()
        shares = lies if lies.shape[-2:] == (height, width) else F.adaptive_avg_pool2d(lies, (height, width))
        weights = torch.where(classes == 0, BACKGROUND_WEIGHT * shares, shares)
        existence = F.binary_cross_entropy_with_logits(outputs["existence"].float(), batch.targets["existence"])
        return {
            # The cross-entropy of classes, in a form whose CUDA kernels are deterministic.
            "mask": -(weights * logits.log_softmax(dim=1)).sum() / weights.sum(),
            "existence": EXISTENCE_WEIGHT * existence,
        }

    def decode(self, outputs: dict[str, Tensor], geometries: Sequence[Geometry]) -> list[list[Lane]]:
        """For each lane that exists, the likeliest place on each row where it is likely enough; its score is its existence.

        The rules of upstream's utils/lane_det_utils.py. All that leaves the device is one tensor.
        """
        decoded = self._decoded(outputs).cpu().numpy().astype(np.float64)
        threshold, options = self.configuration.recipe.confidence_threshold, self.options
        images: list[list[Lane]] = []
        for (columns, probability, (scores, *_)), geometry in zip(decoded, geometries, strict=True):
            likeliest = set(np.argsort(-scores, kind="stable")[: options.max_lanes])
            lanes: list[Lane] = []
            for slot, score in enumerate(scores):
                found = probability[:, slot] > options.probability
                if slot in likeliest and score >= threshold and found.sum() > 1:
                    points = np.stack([columns[found, slot], self.frame_rows[found]], axis=1)
                    lanes.append(Lane(near_to_far(geometry.to_original(points)), float(score)))
            images.append(lanes)
        return images

    def _decoded(self, outputs: dict[str, Tensor]) -> Tensor:
        """Logits -> (B, 3, rows, slots): column of the highest averaged probability, that probability, the lane's existence."""
        # The rows far above the lanes are never read.
        shares = outputs["mask"][:, :, self._map_rows].float().softmax(dim=1)[:, 1:]
        on_rows = torch.einsum("bshw,rh->brsw", shares, self.get_buffer("row_means"))
        width = self.configuration.input.network[1]
        if on_rows.shape[3] != width:
            on_rows = F.interpolate(on_rows, size=(on_rows.shape[2], width), mode="bilinear")
        reach = self.options.blur // 2
        averaged = F.avg_pool2d(
            F.pad(on_rows, (reach, reach, 0, 0), mode="replicate"), (1, self.options.blur), stride=1
        )
        probability, column = averaged.max(dim=-1)
        existence = outputs["existence"].float().sigmoid()[:, None].expand_as(probability)
        return torch.stack([column.float(), probability, existence], dim=1)


def _dilate_first_convolutions_only(backbone: nn.Module) -> None:
    """As in upstream's utils/models/resnet.py; timm dilates both 3x3 convolutions of a basic block."""
    for block in backbone.modules():
        second = getattr(block, "conv2", None)
        if isinstance(second, nn.Conv2d) and not hasattr(block, "conv3"):
            second.dilation, second.padding = (1, 1), (1, 1)


def channel_reduction(inputs: int, outputs: int) -> nn.Sequential:
    """The normalised 1x1 convolution between backbone and message passing: utils/models/common_models/plugins/resa_reducer.py."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def _frame_rows(size: InputSize, options: SegmentationOptions) -> npt.NDArray[np.float64]:
    """The rows in which lanes are looked for, in network pixels, from the bottom upwards."""
    rows = options.bottom_row - options.row_step * np.arange(options.rows)
    plain = plain_geometry(size.frame, size.crop, size.network)
    found: npt.NDArray[np.float64] = plain.to_network(np.stack([np.zeros_like(rows), rows], axis=1))[:, 1]
    return found


def _row_means(rows: npt.NDArray[np.float64], network: int, height: int, blur: int) -> Tensor:
    """The matrix (rows, height) that reads a map linearly in given network rows and averages over the `blur` rows around each.

    The map's `height` rows share the `network` rows of the input evenly.
    """
    around = rows[:, None] + np.arange(blur) - blur // 2
    places = (around + 0.5) * (height / network) - 0.5
    return linear_sampling(places.ravel(), height).view(len(rows), blur, height).mean(dim=1)
