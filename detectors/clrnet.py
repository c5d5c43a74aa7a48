"""CLRNet: Zheng et al., "CLRNet: Cross Layer Refinement Network for Lane Detection", CVPR 2022.

Straight lines that are learned, the priors, are refined on the maps of a feature pyramid, from the coarsest, which knows what a lane
is, to the finest, which knows where it is (`detectors.parts.cross_layer`). Every prior is a candidate: a score, a start, an angle, a
length and an x on each of 72 rows. Each label teaches the few priors that are nearest to it. An auxiliary decoder of masks helps in
training. Facts come from the paper and from Turoad/CLRNet (Apache-2.0).

What differs in training: masks are drawn from the labels, with lanes in slots by where they cross the bottom of the augmented frame;
where two lanes claim one prior it goes to the one it costs least (`detectors.parts.dynamic_assignment`); running statistics move once a
batch (`detectors.parts.cross_layer`). Of upstream's augmentations there are no shuffled channels and a Gaussian blur
for the median one, and colours change in 70 % of the images, all of them together; saturation changes by a factor, by at most as
much as upstream adds to it.

What differs in decoding: an x is a share of the network's width - 1, as in the losses, where upstream writes it as a share of the whole
width, up to 2 px further right in a frame of CULane; on LLAMAS upstream's rows and x are also off by up to a pixel, because a lane is
read in shares of the frame's size and written in shares of its size - 1. On TuSimple x isn't truncated to whole pixels and ends at the
frame's edge. A negative length is no lane. Priors are always those of the weights; upstream evaluates with those of the last training
step's beginning, which its checkpoints hold beside the weights.

`clrnet_convnext_tiny` is no published variant: its recipe is that of the ResNets. `clrnet_micro` is the same code with other numbers,
for budgets of a few hundred steps on a CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from detectors.backbones import backbone_taps, build_backbone
from detectors.base import Batch, Detector, Tap, normalise
from detectors.meta import Augmentation, Configuration, Data, DetectorMeta, Form, InputSize, Normalisation, Recipe
from detectors.parts.cross_layer import CrossLayerRefinement, MaskDecoder
from detectors.parts.dynamic_assignment import (
    LENGTH,
    PRESENT,
    START_Y,
    XS,
    assign_dynamic_k,
    clrnet_costs,
    present_lanes,
    with_every_lane,
)
from detectors.parts.focal import focal_errors
from detectors.parts.lane_curves import curve_on_rows, seen_rows
from detectors.parts.lane_rows import LaneRows
from detectors.parts.lane_suppression import suppressed_on_host
from detectors.parts.line_iou import line_iou
from detectors.parts.masks import mask_cross_entropy, slot_mask
from detectors.parts.micro import TOPS, micro_input, micro_recipe
from detectors.parts.pyramid import FeaturePyramid
from harness.lanes import Geometry, Lane, apply_matrix, near_to_far, plain_geometry
from harness.pytorch.constants import constant

DEGREES = 180
"""Unit of angles in the regression, of a half-turn."""

BACKGROUND_WEIGHT = 0.4
"""Of the background in the masks' cross-entropy: `bg_weight` of all configs."""

PROLONGED = 0.01
"""Share of the frame's height by which a decoded lane's curve may be prolonged to reach a row: clrnet/utils/lane.py."""


class Architecture(Data):
    """Architecture options of CLRNet; the defaults are the published CULane configuration.

    priors, of which each has `rows` rows and reads the maps on `samples` of them. channels: of the maps and of all that follows, but
    for `inner` ones of what is read along a prior. grid: (height, width) to which a map is thinned out before attention. max_lanes:
    lanes of a frame that are learned and that are predicted. slots: lanes that the masks tell apart, drawn `mask_width` network pixels
    wide. Labels of fewer than `label_points` points are none. radius: half of the width of a lane in the LineIoU, suppression: mean
    distance below which two lanes are one, both in network pixels. classification, regression, line, mask: weights of the losses.
    every_lane: whether a lane whose claims all went to others is learned by one more prior (not of the paper).
    prolonged: rows by which a predicted lane that starts above the bottom is prolonged downwards at most, until it leaves the image.
    Lanes are predicted on every `row_step`-th row of the configured frame, from `first_row` to its end.
    """

    priors: int = Field(192, ge=32, multiple_of=8)
    rows: int = Field(72, ge=3)
    samples: int = Field(36, ge=2)
    channels: int = Field(64, gt=0)
    inner: int = Field(48, gt=0)
    grid: tuple[int, int] = (10, 25)
    max_lanes: int = Field(4, ge=1)
    slots: int = Field(4, ge=2, multiple_of=2)
    mask_width: int = Field(8, gt=0)
    label_points: int = Field(3, ge=2)
    radius: float = Field(15.0, gt=0)
    suppression: float = Field(50.0, gt=0)
    classification: float = Field(2.0, ge=0)
    regression: float = Field(0.2, ge=0)
    line: float = Field(2.0, ge=0)
    mask: float = Field(1.0, ge=0)
    every_lane: bool = False
    prolonged: int = Field(72, ge=0)
    first_row: int = Field(270, ge=0)
    row_step: int = Field(8, ge=1)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.samples > self.rows:
            raise ValueError("'samples' are some of the 'rows', so at most as many")
        return self


class CLRNet(Detector):
    """Refinement of lane priors across the maps of a pyramid (see the module)."""

    metas: ClassVar[dict[str, DetectorMeta]]
    architecture: ClassVar[type[Architecture]] = Architecture
    refinement: ClassVar[type[CrossLayerRefinement]] = CrossLayerRefinement
    checkpoint_names: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"^backbone\.model\.", "backbone."),
        (r"^neck\.lateral_convs\.(\d)\.conv\.", r"neck.lateral.\1."),
        (r"^neck\.fpn_convs\.(\d)\.conv\.", r"neck.output.\1."),
        (r"^heads\.seg_decoder\.", "masks."),
        (r"^heads\.prior_embeddings\.weight$", "head.priors"),
        (r"^heads\.cls_modules\.", "head.classification."),
        (r"^heads\.reg_modules\.", "head.regression."),
        (r"^heads\.cls_layers\.", "head.logits."),
        (r"^heads\.reg_layers\.", "head.changes."),
        (r"^heads\.roi_gather\.f_key\.", "head.gathering.key."),
        (r"^heads\.roi_gather\.f_query\.0\.", "head.gathering.query."),
        (r"^heads\.roi_gather\.f_value\.", "head.gathering.value."),
        (r"^heads\.roi_gather\.W\.", "head.gathering.context."),
        (r"^heads\.roi_gather\.convs\.", "head.gathering.along."),
        (r"^heads\.roi_gather\.catconv\.", "head.gathering.joined."),
        (r"^heads\.roi_gather\.fc\.", "head.gathering.token."),
        (r"^heads\.roi_gather\.fc_norm\.", "head.gathering.norm."),
    )
    # Constants, the priors as straight lines, and the projections that DLA-34 has and never uses.
    checkpoint_spare: ClassVar[tuple[str, ...]] = (
        r"^heads\.(sample_x_indexs|prior_feat_ys|prior_ys|priors|priors_on_featmap|criterion\.weight)$",
        r"^backbone\.model\.level[34]\.project\.",
    )

    def __init__(self, meta: DetectorMeta, form: Form) -> None:
        """Raises InputError where the configuration's architecture has unknown or impossible options."""
        super().__init__(meta, form)
        self.options = options = self.options_of(self.architecture)
        size = self.configuration.input
        self.rows = LaneRows(size.network, options.rows)
        self.backbone = build_backbone(meta.backbone)
        taps = self.taps()[1:]
        self.neck = FeaturePyramid([tap.channels for tap in taps], options.channels)
        self.head = self.refinement(
            size.network,
            [(-(-size.network[0] // tap.stride), -(-size.network[1] // tap.stride)) for tap in reversed(taps)],
            priors=options.priors,
            rows=options.rows,
            samples=options.samples,
            channels=options.channels,
            inner=options.inner,
            grid=options.grid,
        )
        self.masks = MaskDecoder(len(taps), options.channels, 1 + options.slots)
        self.frame = plain_geometry(size.frame, size.crop, size.network)
        self.frame_rows = np.arange(options.first_row, size.frame[0], options.row_step, dtype=np.float64)
        # Where x of 0 lies in the frame and how far from there x of 1; where each row lies.
        top, left, bottom, right = size.crop
        self.columns = left, (right - left) * (1 - 1 / size.network[1])
        self.lines = np.linspace(bottom, top, options.rows)

    def taps(self) -> tuple[Tap, ...]:
        """The four stages of the backbone, strides 4 to 32."""
        return backbone_taps(self.backbone, "backbone")

    def encode_targets(self, lanes: Sequence[Lane], geometry: Geometry) -> dict[str, npt.NDArray[Any]]:
        """`lanes`: float32 (max_lanes, 6 + rows), see `detectors.parts.dynamic_assignment`; `mask`: uint8 (H, W), 0 or 1 + the slot.

        Points that aren't finite don't count, nor do those that `counted` leaves out.
        """
        found = [self.counted(lane.points[np.isfinite(lane.points).all(axis=1)]) for lane in lanes]
        polylines = [geometry.to_network(points) for points in found if len(points) >= self.options.label_points]
        top, left, _, _ = self.configuration.input.crop
        corner = self.frame.to_network([float(left), float(top)])
        mask, _ = slot_mask(polylines, geometry.network, slots=self.options.slots, width=self.options.mask_width)
        targets = self.on_rows([polyline - corner for polyline in polylines])
        return {"lanes": targets, "mask": mask}

    def counted(self, points: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The points (N, 2) of a label that are learned from: not those left of the frame or above it, as in upstream's loaders."""
        return points[(points >= 0).all(axis=1)]

    def on_rows(self, polylines: list[npt.NDArray[np.float64]]) -> npt.NDArray[np.float32]:
        """Labels in network pixels, from the image's corner, on the rows that are learned: (max_lanes, 6 + rows)."""
        return self.rows.encode(polylines, self.options.max_lanes)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """uint8 RGB (B, 3, H, W) -> `lanes` (B, stages, priors, 6 + rows), see `CrossLayerRefinement.forward`.

        In training also `mask`, logits (B, 1 + slots, H / 8, W / 8).
        """
        normalised = normalise(images, self.meta.normalisation)
        pyramid = self.neck(self.backbone(normalised.contiguous(memory_format=torch.channels_last))[1:])
        outputs = {"lanes": self.head(pyramid)}
        return outputs | {"mask": self.masks(pyramid)} if self.training else outputs

    def losses(self, outputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """`classification` (focal, per lane), `regression` (smooth L1 of start, angle and length) and `line` (1 - LineIoU) of priors
        that a lane is assigned to, each averaged over stages and images; `mask`: cross-entropy, where there are masks.
        """
        predicted = outputs["lanes"].float()
        stages = predicted.shape[1]
        predicted = predicted.flatten(0, 1)
        targets = batch.targets["lanes"].repeat_interleave(stages, dim=0)
        present = present_lanes(targets)
        costs, overlaps = self.costs_and_overlaps(predicted, targets)
        assigned = assign_dynamic_k(costs, overlaps, present)
        if self.options.every_lane:
            assigned = with_every_lane(assigned, costs, present)
        positive = assigned >= 0
        learned = targets.gather(1, assigned.clamp_min(0)[..., None].expand(-1, -1, targets.shape[-1]))

        def mean(errors: Tensor) -> Tensor:
            return (torch.where(positive, errors, 0.0).sum(dim=1) / positive.sum(dim=1).clamp_min(1)).mean()

        entropy = focal_errors(predicted[..., :2], positive).sum(dim=1) / present.sum(dim=1).clamp_min(1)
        options = self.options
        terms = {
            "classification": options.classification * entropy.mean(),
            "regression": options.regression * mean(self._regression_errors(predicted, learned)),
            "line": options.line * mean(self.line_errors(predicted, learned)),
        }
        if "mask" in outputs:
            logits, mask = outputs["mask"].float(), batch.targets["mask"]
            terms["mask"] = options.mask * mask_cross_entropy(logits, mask, background=BACKGROUND_WEIGHT)
        return terms

    def costs_and_overlaps(self, predicted: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """What each lane (N, M, 6 + rows) costs each prior (N, P, 6 + rows), and how much they overlap: (N, P, M) both."""
        height, width = self.configuration.input.network
        xs = predicted[:, :, None, XS].detach() * (width - 1)
        overlaps = line_iou(xs, targets[:, None, :, XS], radius=self.options.radius, width=width)
        return clrnet_costs(predicted, targets, (height, width)), overlaps

    def line_errors(self, predicted: Tensor, learned: Tensor) -> Tensor:
        """How far off each prior's places (N, P, 6 + rows) are from those of the lane that it learns: (N, P)."""
        width = self.configuration.input.network[1]
        xs = predicted[..., XS] * (width - 1)
        return 1 - line_iou(xs, learned[..., XS], radius=self.options.radius, width=width)

    def wanted_lengths(self, lengths: Tensor, later: Tensor) -> Tensor:
        """Rows that a prior has to learn for lanes of `lengths` that it starts so many rows `later`: it is as much shorter."""
        return lengths - later

    def _regression_errors(self, predicted: Tensor, learned: Tensor) -> Tensor:
        """Smooth L1 of start, angle and length, in rows, pixels and degrees: (N, P)."""
        strips = self.options.rows - 1
        width = self.configuration.input.network[1]
        scales = constant([strips, width - 1, DEGREES, strips], predicted.device)
        units = constant([strips, 1, DEGREES, 1], predicted.device)
        found, wanted = predicted[..., START_Y : LENGTH + 1] * scales, learned[..., START_Y : LENGTH + 1] * units
        later = found[..., :1].detach().round().clamp(0, strips) - wanted[..., :1].round()
        wanted = torch.cat([wanted[..., :-1], self.wanted_lengths(wanted[..., -1:], later)], dim=-1)
        return F.smooth_l1_loss(found, wanted, reduction="none").mean(dim=-1)

    def decode(self, outputs: dict[str, Tensor], geometries: Sequence[Geometry]) -> list[list[Lane]]:
        """The last stage's lanes that are likely enough and not suppressed, as cubic curves read on the frame's rows.

        All that leaves the device is one tensor.
        """
        lanes = outputs["lanes"][:, -1].float().cpu().numpy()
        with np.errstate(over="ignore", invalid="ignore"):
            scores = 1 / (1 + np.exp(lanes[..., 0] - lanes[..., PRESENT]))
        sure = scores >= self.configuration.recipe.confidence_threshold
        return [
            self._decoded(image[chosen], score[chosen], geometry)
            for image, score, chosen, geometry in zip(lanes, scores, sure, geometries, strict=True)
        ]

    def _decoded(
        self, lanes: npt.NDArray[np.float32], scores: npt.NDArray[np.float32], geometry: Geometry
    ) -> list[Lane]:
        """The lanes of an image, of those (N, 6 + rows) that are likely enough."""
        kept = suppressed_on_host(
            scores,
            lanes[:, START_Y],
            lanes[:, LENGTH] * np.float32(self.options.rows - 1),
            lanes[:, XS] * np.float32(self.configuration.input.network[1] - 1),
            threshold=self.options.suppression,
            limit=self.options.max_lanes,
        )
        to_original = np.linalg.inv(geometry.matrix) @ self.frame.matrix
        found: list[Lane] = []
        for index in kept:
            points = self._points(lanes[index])
            if len(points) > 1:
                found.append(Lane(near_to_far(apply_matrix(to_original, points)), float(scores[index])))
        return found

    def curve_rows(self, start: float, length: float, xs: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
        """The rows whose places a decoded lane's curve goes through: see `detectors.parts.lane_curves`."""
        return seen_rows(start, length, xs, prolonged=self.options.prolonged)

    def _points(self, lane: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """A lane (6 + rows) -> its points (N, 2) in pixels of the configured frame, near to far."""
        xs = lane[XS]
        strips = np.float32(len(xs) - 1)
        rows = self.curve_rows(lane[START_Y], lane[LENGTH] * strips, xs)
        if len(rows) < 2:
            return np.empty((0, 2))
        points = np.empty((len(rows), 2))
        points[:, 0] = self.columns[0] + xs[rows] * self.columns[1]
        points[:, 1] = self.lines[rows]
        points = curve_on_rows(points, self.frame_rows, prolonged=PROLONGED * self.frame.original[0])
        return points[(points[:, 0] >= 0) & (points[:, 0] < self.frame.original[1])]


_PAPER = "Zheng, Huang, Liu, Tang, Yang, Cai, He: CLRNet: Cross Layer Refinement Network for Lane Detection, CVPR 2022"
_UPSTREAM = "https://github.com/Turoad/CLRNet"
_COMMIT = "7269e9d1c1c650343b6c7febb8e764be538b1aed"

PLAIN = Normalisation(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), order="bgr")
"""Images as shares of 255 in OpenCV's order of channels; upstream's configs have a mean that nothing reads."""

# All of it after crop and resize: turns and shifts are those of 800 x 320.
FLIP_AND_MOVE: dict[str, Any] = {
    "in_view": True,
    "flip": 0.5,
    "rotation": 10,
    "shift_x": 0.1,
    "shift_y": 0.1,
    "scale": 0.2,
    "geometric_probability": 0.7,
}
# imgaug adds up to 10 to brightness, hue and saturation, each in 0..255.
COLOURS = {
    "brightness": 0.15,
    "lift": 10 / 255,
    "hue": 10 / 255 * 360,
    "saturation": 10 / 255,
    "blur": 0.2,
    "blur_sigma": 1.0,
    "blur_length": 5,
    "colour_probability": 0.7,
}


def published(epochs: int, batch_size: int, learning_rate: float, threshold: float, *, colours: bool = True) -> Recipe:
    """What the configs of upstream share: AdamW as torch has it, a cosine over all steps, the augmentations."""
    return Recipe(
        optimizer="adamw",
        learning_rate=learning_rate,
        weight_decay=1e-2,
        schedule="cosine",
        epochs=epochs,
        batch_size=batch_size,
        augmentation=Augmentation(**FLIP_AND_MOVE, **(COLOURS if colours else {})),
        confidence_threshold=threshold,
    )


CULANE_INPUT = InputSize(frame=(590, 1640), crop=(270, 0, 590, 1640), network=(320, 800))
TUSIMPLE_INPUT = InputSize(frame=(720, 1280), crop=(160, 0, 720, 1280), network=(320, 800))
LLAMAS_INPUT = InputSize(frame=(717, 1276), crop=(300, 0, 717, 1276), network=(320, 800))


def _culane(epochs: int = 15, batch_size: int = 24, learning_rate: float = 6e-4) -> Configuration:
    """configs/clrnet/clr_*_culane.py."""
    recipe = published(epochs, batch_size, learning_rate, 0.4)
    return Configuration(input=CULANE_INPUT, weights="imagenet", recipe=recipe)


def _tusimple(batch_size: int, learning_rate: float) -> Configuration:
    """configs/clrnet/clr_*_tusimple.py. Masks there are 15 of the frame's pixels wide: tools/generate_seg_tusimple.py halves its 30."""
    architecture = {
        "max_lanes": 5,
        "slots": 6,
        "mask_width": 9,
        "label_points": 2,
        "classification": 6.0,
        "regression": 0.5,
        "first_row": 160,
        "row_step": 10,
    }
    recipe = published(70, batch_size, learning_rate, 0.4)
    return Configuration(input=TUSIMPLE_INPUT, architecture=architecture, weights="imagenet", recipe=recipe)


def _llamas(*, colours: bool, **architecture: Any) -> Configuration:
    """configs/clrnet/clr_*_llamas.py. Masks there are 15 of the frame's pixels wide (clrnet/datasets/llamas.py)."""
    shared = {"mask_width": 9, "regression": 0.5, "first_row": 300, "row_step": 1}
    recipe = published(20, 24, 6e-4, 0.45, colours=colours)
    return Configuration(input=LLAMAS_INPUT, architecture=shared | architecture, weights="imagenet", recipe=recipe)


_MICRO_RECIPE = micro_recipe(
    learning_rate=6e-3, weight_decay=1e-2, steps=220, clip_gradient_norm=5.0, confidence_threshold=0.4
)


def _micro(form: Form, **architecture: Any) -> Configuration:
    shared = {
        "priors": 64,
        "rows": 36,
        "samples": 18,
        "channels": 32,
        "inner": 24,
        "grid": (4, 10),
        "mask_width": 5,
        "radius": 15.0,
        "suppression": 20.0,
        "every_lane": True,
        "prolonged": 0,
        "first_row": TOPS[form],
    }
    return Configuration(input=micro_input(form), architecture=shared | architecture, recipe=_MICRO_RECIPE)


CLRNet.metas = {
    name: DetectorMeta(
        name=name,
        paper=_PAPER,
        year=2022,
        family="anchor",
        backbone=backbone,
        upstream=_UPSTREAM,
        commit=_COMMIT,
        licence="Apache-2.0",
        normalisation=PLAIN,
        configurations=configurations,
    )
    for name, backbone, configurations in (
        (
            "clrnet_resnet18",
            "resnet18",
            {
                "culane": _culane(),
                "tusimple": _tusimple(40, 1e-3),
                "llamas": _llamas(colours=True, classification=2.0, line=8.0, suppression=60.0),
            },
        ),
        ("clrnet_resnet34", "resnet34", {"culane": _culane(), "tusimple": _tusimple(32, 8e-4)}),
        ("clrnet_resnet101", "resnet101", {"culane": _culane(20, 12, 3e-4), "tusimple": _tusimple(10, 3e-4)}),
        ("clrnet_dla34", "dla34", {"culane": _culane(), "llamas": _llamas(colours=False, classification=4.0)}),
        ("clrnet_convnext_tiny", "convnext_tiny", {"culane": _culane(), "tusimple": _tusimple(32, 8e-4)}),
        (
            "clrnet_micro",
            "resnet_micro",
            {
                "culane": _micro("culane"),
                "tusimple": _micro("tusimple", max_lanes=5, slots=6, label_points=2, row_step=10),
                "llamas": _micro("llamas"),
            },
        ),
    )
}
