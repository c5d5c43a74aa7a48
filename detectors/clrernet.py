"""CLRerNet: Honda and Uchida, "CLRerNet: Improving Confidence of Lane Detection with LaneIoU", WACV 2024.

CLRNet whose priors are assigned to lanes by LaneIoU, and learn it: the overlap of bands that are as wide across a lane at any angle, as
the official metric draws them, so that scores say better which lanes will count. Facts come from the paper and from
hirotomusiker/CLRerNet (Apache-2.0).

Upstream's code is CLRNet's, rewritten, and so is the network but for three things that its checkpoints rest on and that are kept:
starts are counted from the top (and turned round here when they come out); places along a prior are read from the bottom up; and of
most places x is that of a row, but y that of the next row above. Kept as well, since its results were made with it: a prior that
starts later than its lane is to be longer by as many rows, not shorter, because CLRNet's rule was not turned round with the starts.

What differs in training: all frames are learned from, where upstream leaves out those that are nearly the frame before; masks are drawn
from the labels, and running statistics move once a batch, as in `detectors.clrnet`; of upstream's augmentations there are no shuffled
channels, no shift of the value and a Gaussian blur for the median one, colours change in 70 % of the images, all of them together and
saturation by a factor, and shifts go to all sides, upstream's right and down alone; what lies beyond the frame is black, upstream
mirrors the view (IAAAffine's default). What differs in decoding: x, as in `detectors.clrnet`.

`clrernet_micro` is the same code with other numbers, for budgets of a few hundred steps on a CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from detectors import clrnet
from detectors.clrnet import CLRNet
from detectors.meta import Augmentation, Configuration, DetectorMeta, Form, Recipe
from detectors.parts.cross_layer import LINE, CrossLayerRefinement, sampled_rows
from detectors.parts.dynamic_assignment import START_Y, XS, clrernet_costs, covered_rows, present_lanes
from detectors.parts.lane_curves import claimed_rows
from detectors.parts.line_iou import LONGEST_STEP, lane_iou, lane_iou_of_ranges, lane_radii


class Architecture(clrnet.Architecture):
    """Architecture options of CLRerNet; the defaults are the published CULane configuration.

    radius: half of the width of a lane across it, in the loss and where the overlaps say how many priors learn a lane. cost_radius: the
    same where it says which priors. Both in network pixels. own_angles: whether a prediction's band is as wide as its own angles make
    it, or as wide as its label's (not of the paper). first_length: the share of the rows that an untrained prior claims to be on (not
    of the paper). The rest as in CLRNet.
    """

    radius: float = Field(7.5, gt=0)
    cost_radius: float = Field(30.0, gt=0)
    own_angles: bool = True
    first_length: float = Field(0.0, ge=0, le=1)
    label_points: int = Field(2, ge=2)
    line: float = Field(4.0, ge=0)
    first_row: int = Field(0, ge=0)
    row_step: int = Field(2, ge=1)


class Refinement(CrossLayerRefinement):
    """CLRNet's, with weights that count starts from the top and places along a prior from the bottom."""

    def __init__(self, network: tuple[int, int], sizes: Sequence[tuple[int, int]], **options: Any) -> None:
        super().__init__(network, sizes, **options)
        with torch.no_grad():
            self.priors[:, 0] = 1 - self.priors[:, 0]
        sampled = sampled_rows(options["samples"], options["rows"])
        self.read_on(sampled, sampled[::-1] / (options["rows"] - 1), [height for height, _ in sizes])

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        """As in CLRNet: lanes (B, stages, P, 6 + rows) whose starts are counted from the bottom."""
        lanes = super().forward(pyramid)
        return torch.cat(
            [lanes[..., :START_Y], 1 - lanes[..., START_Y : START_Y + 1], lanes[..., START_Y + 1 :]], dim=-1
        )

    def line(self, start: Tensor) -> Tensor:
        """Starts from the top and angles (..., 3) -> x on each row (..., rows), as a share of the width - 1."""
        return super().line(torch.cat([1 - start[..., :1], start[..., 1:]], dim=-1))


class CLRerNet(CLRNet):
    """CLRNet that learns LaneIoU (see the module)."""

    metas: ClassVar[dict[str, DetectorMeta]]
    architecture: ClassVar[type[Architecture]] = Architecture
    refinement: ClassVar[type[CrossLayerRefinement]] = Refinement
    checkpoint_names: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"^bbox_head\.anchor_generator\.", "heads."),
        (r"^bbox_head\.attention\.(attention\.)?", "heads.roi_gather."),
        (r"^bbox_head\.", "heads."),
        *CLRNet.checkpoint_names,
    )
    # Constants; and of a training with a moving average, the weights that were averaged: what is deployed has the plain names.
    checkpoint_spare: ClassVar[tuple[str, ...]] = (
        r"^ema_",
        r"^bbox_head\.(sample_x_indices|prior_feat_ys|prior_ys|loss_seg\.criterion\.weight)$",
        r"^data_preprocessor\.",
    )
    options: Architecture

    def __init__(self, meta: DetectorMeta, form: Form) -> None:
        """Raises InputError where the configuration's architecture has unknown or impossible options."""
        super().__init__(meta, form)
        with torch.no_grad():
            self.head.changes.bias[LINE] += self.options.first_length

    def counted(self, points: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """All points of a label (N, 2): upstream's pipeline keeps those outside the frame."""
        return points

    def on_rows(self, polylines: list[npt.NDArray[np.float64]]) -> npt.NDArray[np.float32]:
        """As in CLRNet, with curves through the points outside the image, which upstream doesn't cut off."""
        return self.rows.encode_whole(polylines, self.options.max_lanes)

    def costs_and_overlaps(self, predicted: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """By LaneIoU: what each lane (N, M, 6 + rows) costs each prior (N, P, 6 + rows), and how much they overlap: (N, P, M) both."""
        width = self.configuration.input.network[1]
        xs, labels = predicted[:, :, None, XS].detach(), targets[:, None, :, XS] / (width - 1)
        overlaps = lane_iou(xs, labels, *self._radii(xs, labels, self.options.radius))
        likeness = lane_iou_of_ranges(
            xs, labels, *self._radii(xs, labels, self.options.cost_radius), covered_rows(predicted)[:, :, None]
        )
        return clrernet_costs(predicted, likeness, present_lanes(targets)), overlaps

    def line_errors(self, predicted: Tensor, learned: Tensor) -> Tensor:
        """1 - LaneIoU of each prior's places (N, P, 6 + rows) with those of the lane that it learns: (N, P)."""
        width = self.configuration.input.network[1]
        places, labels = predicted[..., XS] * ((width - 1) / width), learned[..., XS] / width
        return 1 - lane_iou(places, labels, *self._radii(places, labels, self.options.radius))

    def wanted_lengths(self, lengths: Tensor, later: Tensor) -> Tensor:
        """As upstream's have it: a lane that starts so many rows `later` is as much longer (see the module)."""
        return lengths + later

    def curve_rows(self, start: float, length: float, xs: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
        """As in CLRNet, those left of the frame included."""
        return claimed_rows(start, length, xs, prolonged=self.options.prolonged)

    def _radii(self, predicted: Tensor, labelled: Tensor, radius: float) -> tuple[Tensor, Tensor]:
        """Half-widths of predicted and labelled bands. Angles are those in what the network sees, in pixels of the frame."""
        size = self.configuration.input
        top, left, bottom, right = size.crop
        radius, frame = radius / size.network[1], (bottom - top, right - left)
        labels = lane_radii(labelled, radius=radius, frame=frame, longest_step=LONGEST_STEP)
        return lane_radii(predicted, radius=radius, frame=frame) if self.options.own_angles else labels, labels


_PAPER = "Honda, Uchida: CLRerNet: Improving Confidence of Lane Detection with LaneIoU, WACV 2024"
_UPSTREAM = "https://github.com/hirotomusiker/CLRerNet"
_COMMIT = "21761ed997ff63186d3d0a616613ac5693616af8"

# OpenCV's hue has 180 steps.
_AUGMENTATION = Augmentation(
    **clrnet.FLIP_AND_MOVE,
    # albumentations' contrast is a factor, and its brightness adds a share of white.
    brightness=0.15,
    lift=0.04,
    hue=20,
    saturation=10 / 255,
    blur=0.2,
    blur_sigma=1.0,
    blur_length=5,
    colour_probability=0.7,
)


def _recipe(*, threshold: float, **length: Any) -> Recipe:
    """configs/clrernet/culane: AdamW as torch has it, batch 24 on one device."""
    return Recipe(
        optimizer="adamw",
        learning_rate=6e-4,
        weight_decay=1e-2,
        batch_size=24,
        augmentation=_AUGMENTATION,
        confidence_threshold=threshold,
        **length,
    )


_PLAIN = _recipe(threshold=0.41, schedule="cosine", epochs=15)

_AVERAGED = _recipe(threshold=0.43, schedule="constant", epochs=50, ema_decay=0.9999)
"""Its schedule is written as mmdet 2 has it, which mmdet 3 doesn't read; with its `min_lr` it would be constant as well."""


def _culane(recipe: Recipe) -> Configuration:
    return Configuration(input=clrnet.CULANE_INPUT, weights="imagenet", recipe=recipe)


def _micro(of: Configuration, steps: int) -> Configuration:
    """CLRNet's, with the radii in the proportion to its one that the published ones have, for so many steps.

    What an untrained network puts far apart on neighbouring rows would have bands so wide that each has a label in it, wherever that
    lies, and no gradient says where to go; a few hundred steps aren't enough to get out of that. So bands have the labels' angles. And
    priors that claim to be on no row are all as unlike every lane, so that chance would say which one each learns; these start long.
    """
    radius = clrnet.Architecture(**of.architecture).radius
    changes = {"radius": radius / 2, "cost_radius": 2 * radius, "own_angles": False, "first_length": 0.6}
    recipe = of.recipe.model_copy(update={"learning_rate": 3e-3, "steps": steps})
    return of.model_copy(update={"architecture": of.architecture | changes, "recipe": recipe})


MICRO_STEPS: dict[Form, int] = {"culane": 220, "tusimple": 220, "llamas": 330}
"""On LLAMAS's form it took half as many more until eight images were learned with SAMIRO too (F1@50 .885 after 220)."""

_CONFIGURATIONS: tuple[tuple[str, str, dict[Form, Configuration]], ...] = (
    ("clrernet_dla34", "dla34", {"culane": _culane(_PLAIN)}),
    ("clrernet_dla34_ema", "dla34", {"culane": _culane(_AVERAGED)}),
    (
        "clrernet_micro",
        "resnet_micro",
        {form: _micro(of, MICRO_STEPS[form]) for form, of in CLRNet.metas["clrnet_micro"].configurations.items()},
    ),
)

CLRerNet.metas = {
    name: DetectorMeta(
        name=name,
        paper=_PAPER,
        year=2024,
        family="anchor",
        backbone=backbone,
        upstream=_UPSTREAM,
        commit=_COMMIT,
        licence="Apache-2.0",
        normalisation=clrnet.PLAIN,
        configurations=configurations,
    )
    for name, backbone, configurations in _CONFIGURATIONS
}
