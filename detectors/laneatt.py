"""LaneATT: Tabelini, Berriel, Paixao, Badue, De Souza, Oliveira-Santos, "Keep your Eyes on the Lane", CVPR 2021.

Anchors are rays from the left, lower and right edge of the image. Each one's features are read off the backbone's last map where the
ray crosses its rows; attention among all anchors of an image gives each a second, global feature; from both, two linear layers say
whether the anchor is a lane, and by how much the lane lies beside it on each of 72 rows and on how many rows it goes on. Facts come
from the paper and from lucastabelini/LaneATT (MIT); what it has for each dataset lies in its cfgs/*.yml.

The published variants keep the 1,000 anchors that lie near the most lanes of their dataset (`detectors.parts.line_anchors`). As
upstream, they learn from the anchors only that survive a suppression of near ones. Coordinates of anchors and labels are upstream's:
those of the frame's pixels, scaled to the network's size, so that 0 is the centre of the first pixel of the frame, not its edge.

What differs: of anchors that are equally frequent the first come first (upstream leaves it to an unstable sort, on which the order of
its weights of attention depends); a label that leaves the image at its far end stays on its rows (`detectors.parts.lane_rows`);
of more lanes than there are places for, the longest are learned; TuSimple's columns aren't cut off to whole pixels; a lane whose length
is so negative that it ends below the image is none (upstream's slice then counts from the far end, and draws it).

`laneatt_micro` is the same code with other numbers, small enough for a CPU: the anchors of a coarse grid that run towards the middle of
the upper edge, a map of stride 8, first weights that aren't next to zero, and no suppression in training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from detectors.backbones import backbone_taps, build_backbone
from detectors.base import Batch, Detector, Tap, normalise
from detectors.meta import Augmentation, Configuration, Data, DetectorMeta, Form, InputSize, Normalisation, Recipe
from detectors.parts.lane_curves import curve_on_rows, seen_rows
from detectors.parts.lane_rows import LaneRows, clipped
from detectors.parts.lane_suppression import suppressed, unsuppressed
from detectors.parts.line_anchors import GRID, LineAnchors, line_anchors, published_anchors
from detectors.parts.micro import micro_input, micro_recipe
from detectors.parts.thin_resnet import ThinResNet
from harness.lanes import Geometry, Lane, near_to_far, plain_geometry

FOCAL_GAMMA = 2.0
FOCAL_ALPHA = 0.25
FOCAL_EPSILON = 1e-6
CLASSIFICATION_WEIGHT = 10.0
"""Focusing, weight of both classes alike, what is added to shares and labels, and weight of the term: upstream's `LaneATT.loss` and
lib/focal_loss.py."""

RESNET122_BLOCKS = 20
"""Blocks of each of its three stages: upstream's lib/models/resnet.py."""

LABELS = 8
"""Places for labels."""

PROLONGED = 0.01
"""Share of the image's height by which a decoded lane is prolonged at both ends: upstream's lib/lane.py."""


class Architecture(Data):
    """Architecture options of LaneATT; the defaults are the published CULane configuration.

    rows: on which a lane is described. anchors: the dataset whose published anchors are kept, or `grid`: `lateral` origins on each
    side and `bottom` on the lower edge, of whose rays those are kept that cross the upper edge in the middle `convergence` of the
    width. stages: of the backbone. channels: of an anchor's feature on a row of the map. initial_deviation: of all weights but the
    backbone's. positive, negative: mean distances of anchor and label in network pixels, below which the anchor is the lane and above
    which it is none. training_suppression, suppression: distance in network pixels below which of two lanes the likelier stays, None
    is none. max_lanes: predicted in an image. Lanes are read every `row_step` rows of the frame from `bottom_row` upwards.
    """

    rows: int = Field(72, ge=2)
    anchors: Literal["culane", "tusimple", "llamas", "grid"] = "culane"
    lateral: int = Field(GRID[0], ge=2)
    bottom: int = Field(GRID[1], ge=2)
    convergence: float = Field(1.0, gt=0)
    stages: int = Field(4, ge=1, le=4)
    channels: int = Field(64, gt=0)
    initial_deviation: float = Field(1e-3, gt=0)
    positive: float = Field(15.0, gt=0)
    negative: float = Field(20.0, gt=0)
    training_suppression: float | None = Field(15.0, gt=0)
    suppression: float = Field(50.0, gt=0)
    max_lanes: int = Field(4, gt=0)
    bottom_row: int = Field(589, gt=0)
    row_step: int = Field(1, gt=0)

    @model_validator(mode="after")
    def _others_to_attend_to(self) -> Self:
        if len(self.kept_anchors()) < 2:
            raise ValueError("'convergence' leaves fewer than two anchors of the grid: give a larger share")
        return self

    def kept_anchors(self) -> LineAnchors:
        """The anchors that these options name."""
        if self.anchors != "grid":
            return published_anchors(self.anchors)
        grid = line_anchors(self.lateral, self.bottom)
        return grid.at(np.flatnonzero(np.abs(grid.places(2)[:, -1] - 0.5) <= self.convergence / 2))


class LaneATT(Detector):
    """Lanes as offsets from line anchors, with attention among these (see the module)."""

    metas: ClassVar[dict[str, DetectorMeta]]
    architecture: ClassVar[type[Data]] = Architecture
    checkpoint_names: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"^conv1\.", "reduce."),
        (r"^cls_layer\.", "classify."),
        (r"^reg_layer\.", "regress."),
        (r"^attention_layer\.", "attend."),
        (r"^feature_extractor\.0\.", "backbone.conv1."),
        (r"^feature_extractor\.1\.", "backbone.bn1."),
        (r"^feature_extractor\.4\.", "backbone.layer1."),
        (r"^feature_extractor\.5\.", "backbone.layer2."),
        (r"^feature_extractor\.6\.", "backbone.layer3."),
        (r"^feature_extractor\.7\.", "backbone.layer4."),
        (r"^feature_extractor\.", "backbone."),
    )

    def __init__(self, meta: DetectorMeta, form: Form) -> None:
        """Raises InputError where the configuration's architecture has unknown or impossible options."""
        super().__init__(meta, form)
        self.options = self.options_of(Architecture)
        options, size = self.options, self.configuration.input
        self.labels = LaneRows(size.network, options.rows)
        top, left, _, _ = size.crop
        self.corner = plain_geometry(size.frame, size.crop, size.network).to_network([left, top])
        rows_of_frame = np.arange(options.bottom_row, -1, -options.row_step, dtype=np.float64)[::-1]
        self.frame_rows: npt.NDArray[np.float64] = (rows_of_frame - top) * (size.network[0] / (size.crop[2] - top))
        self.backbone = (
            ThinResNet(RESNET122_BLOCKS)
            if meta.backbone == "resnet122"
            else build_backbone(meta.backbone, stages=options.stages)
        )
        last = self.taps()[-1]
        anchors = options.kept_anchors()
        # As upstream: where the stride doesn't divide the height, the map's last row isn't looked at.
        self.map_rows = size.network[0] // last.stride
        self._lay_out(anchors, last.stride)
        length = self.map_rows * options.channels
        self.reduce = nn.Conv2d(last.channels, options.channels, 1)
        self.classify = nn.Linear(2 * length, 2)
        self.regress = nn.Linear(2 * length, 1 + options.rows)
        self.attend = nn.Linear(length, len(anchors) - 1)
        for name, parameter in self.named_parameters():
            if not name.startswith("backbone."):
                nn.init.normal_(parameter, std=options.initial_deviation if name.endswith("weight") else 0.0)

    def _lay_out(self, anchors: LineAnchors, stride: int) -> None:
        """What of the anchors the forward needs: x on each row, first row as a share, and the places on the map that each crosses."""
        width = self.configuration.input.network[1]
        columns = np.round(anchors.places(self.map_rows)[:, ::-1] * np.float32(width) / np.float32(stride)).astype(int)
        crossed = np.arange(self.map_rows) * -(-width // stride) + columns.clip(0, width // stride - 1)
        seen = (columns >= 0) & (columns <= width // stride)
        for name, value in (
            ("anchor_places", anchors.places(self.options.rows) * np.float32(width)),
            ("anchor_starts", 1 - anchors.y),
            ("crossed", crossed),
            ("seen", seen[..., None].astype(np.float32)),
        ):
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(value)), persistent=False)

    def taps(self) -> tuple[Tap, ...]:
        """The stages of the backbone that are used."""
        return backbone_taps(self.backbone, "backbone")

    def encode_targets(self, lanes: Sequence[Lane], geometry: Geometry) -> dict[str, npt.NDArray[Any]]:
        """`first` and `count`: int64 (LABELS,), a lane's first row and its number of rows, 0 without a lane; `places`: float32
        (LABELS, rows), its x in upstream's network pixels, 0 where it has none.

        A lane begins where it is in the image, prolonged to the bottom. One that leaves the image and comes back is two.
        """
        first, count = np.zeros(LABELS, dtype=np.int64), np.zeros(LABELS, dtype=np.int64)
        places = np.zeros((LABELS, self.options.rows), dtype=np.float32)
        found = [seen for lane in lanes for seen in self._labels_of(lane, geometry)]
        longest = sorted(range(len(found)), key=lambda index: -found[index][1])[:LABELS]
        for place, index in enumerate(sorted(longest)):
            first[place], count[place], places[place] = found[index]
        return {"first": first, "count": count, "places": places}

    def _labels_of(self, lane: Lane, geometry: Geometry) -> list[tuple[int, int, npt.NDArray[np.float64]]]:
        points = lane.points[np.isfinite(lane.points).all(axis=1)]
        # As upstream's loaders, none left of the frame or above it.
        polyline = geometry.to_network(points[(points >= 0).all(axis=1)]) - self.corner
        found = []
        for piece in clipped(polyline, geometry.network):
            xs = self.labels.places(piece)
            inside = (xs >= 0) & (xs < geometry.network[1])
            if inside.any():
                first = int(inside.argmax())
                gone = np.flatnonzero(~inside[first:])
                count = int(gone[0]) if len(gone) else len(inside) - first
                found.append((first, count, np.where(np.arange(len(xs)) < first + count, xs, 0.0)))
        return found

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """uint8 RGB (B, 3, H, W) -> of each anchor `logits` (B, A, 2) of none and lane, `lengths` (B, A) in rows and `places`
        (B, A, rows) in network pixels.
        """
        normalised = normalise(images, self.meta.normalisation)
        features = self.backbone(normalised.contiguous(memory_format=torch.channels_last))[-1]
        own = self._pooled(self.reduce(features))
        answers = torch.cat([self.classify.weight, self.regress.weight])
        attended_weight, own_weight = answers.chunk(2, dim=1)
        # (attention x features) x weight, in the order that costs a tenth.
        attended, answer = F.linear(own, self._by_rows(torch.cat([attended_weight, own_weight]))).chunk(2, dim=-1)
        attention = F.linear(own, self._by_rows(self.attend.weight), self.attend.bias).softmax(dim=-1)
        answer = answer + _off_diagonal(attention).to(attended.dtype) @ attended
        answer = answer.float() + torch.cat([self.classify.bias, self.regress.bias])
        return {
            "logits": answer[..., :2],
            "lengths": answer[..., 2],
            "places": answer[..., 3:] + self.get_buffer("anchor_places"),
        }

    def _pooled(self, features: Tensor) -> Tensor:
        """Features (B, C, h, w) -> those that each anchor crosses (B, A, map rows x C), 0 where it is outside the map."""
        batch, channels, height, width = features.shape
        table = features.permute(0, 2, 3, 1).reshape(-1, channels)
        starts = torch.arange(batch, device=features.device).view(-1, 1, 1) * (height * width)
        # An embedding's gradient is summed up in a fixed order, on CUDA too.
        crossed = F.embedding(starts + self.get_buffer("crossed"), table)
        return (crossed * self.get_buffer("seen").to(crossed.dtype)).flatten(2)

    def _by_rows(self, weight: Tensor) -> Tensor:
        """Upstream's weights (outputs, C x map rows) for features that lie as (map rows x C)."""
        return weight.view(len(weight), -1, self.map_rows).transpose(1, 2).flatten(1)

    def losses(self, outputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """`classification`: 10 x focal loss over positives, by their number; `regression`: smooth L1 of length and places, their mean.

        Both are means over images. An image without a positive counts all its anchors as negatives.
        """
        logits, lengths, places = outputs["logits"].float(), outputs["lengths"].float(), outputs["places"].float()
        taking_part = self._taking_part(logits, lengths, places)
        first, last = batch.targets["first"], batch.targets["first"] + batch.targets["count"] - 1
        distance, nearest = self._distances(first, last, batch.targets["places"]).min(dim=2)
        positive = taking_part & (distance < self.options.positive)
        count = positive.sum(dim=1)
        negative = taking_part & ((distance > self.options.negative) | (count == 0)[:, None])
        share = logits.softmax(dim=-1) + FOCAL_EPSILON
        none, lane = (-FOCAL_ALPHA * (1 - share) ** FOCAL_GAMMA * share.log()).unbind(dim=-1)
        focal = (torch.where(positive, lane, none) + FOCAL_EPSILON * (none + lane)) * (positive | negative)
        start = self._start_rows()
        rows = torch.arange(self.options.rows, device=logits.device)
        last = last.gather(1, nearest)
        target = batch.targets["places"].gather(1, nearest[..., None].expand(-1, -1, self.options.rows))
        covered = (rows >= start[:, None]) & (rows <= last[..., None])
        offset = F.smooth_l1_loss(places, target, reduction="none") * covered
        length = F.smooth_l1_loss(lengths, (last - start + 1).float(), reduction="none")
        regression = torch.where(positive, offset.sum(dim=-1) + length, 0.0).sum(dim=1)
        divisor = count.clamp(min=1)
        return {
            "classification": CLASSIFICATION_WEIGHT * (focal.sum(dim=1) / divisor).mean(),
            "regression": (regression / (divisor * (1 + self.options.rows))).mean(),
        }

    def _taking_part(self, logits: Tensor, lengths: Tensor, places: Tensor) -> Tensor:
        """bool (B, A): the anchors that are learned from."""
        if self.options.training_suppression is None:
            return torch.ones(logits.shape[:2], dtype=torch.bool, device=logits.device)
        scores, starts = logits.detach().softmax(dim=-1)[..., 1], self.get_buffer("anchor_starts").expand_as(lengths)
        return unsuppressed(scores, starts, lengths, places, threshold=self.options.training_suppression)

    def _start_rows(self) -> Tensor:
        """int64 (A,): the row that each anchor starts on."""
        return (self.get_buffer("anchor_starts") * (self.options.rows - 1)).round().long()

    @torch.no_grad()
    def _distances(self, first: Tensor, last: Tensor, places: Tensor) -> Tensor:
        """Mean distance (B, A, LABELS) in pixels of anchors and labels over the rows that both cover; infinite without such a row."""
        rows = torch.arange(self.options.rows, device=places.device)
        begins = torch.maximum(first[:, None], self._start_rows()[:, None])[..., None]
        covered = (rows >= begins) & (rows <= last[:, None, :, None])
        apart = (places[:, None] - self.get_buffer("anchor_places")[:, None]).abs_().mul_(covered).sum(dim=-1)
        common = last[:, None] - begins[..., 0] + 1
        return torch.where(common > 0, apart / common.clamp(min=1), torch.inf)

    def decode(self, outputs: dict[str, Tensor], geometries: Sequence[Geometry]) -> list[list[Lane]]:
        """The likeliest lanes that don't lie beside a likelier one, by the rules of upstream's `LaneATT.decode` and lib/lane.py.

        A lane's score is its probability. All that leaves the device is one tensor.
        """
        scores = outputs["logits"].float().softmax(dim=-1)[..., 1]
        lengths, places = outputs["lengths"].float(), outputs["places"].float()
        starts = self.get_buffer("anchor_starts").expand_as(lengths)
        kept = suppressed(
            scores,
            starts,
            lengths,
            places,
            threshold=self.options.suppression,
            limit=self.options.max_lanes,
            candidates=scores > self.configuration.recipe.confidence_threshold,
        )
        columns = [kept.present, *(value.gather(1, kept.indices) for value in (scores, starts, lengths))]
        chosen = places.gather(1, kept.indices[..., None].expand(-1, -1, places.shape[-1]))
        found = torch.cat([torch.stack([column.float() for column in columns], dim=-1), chosen], dim=-1).cpu().numpy()
        images: list[list[Lane]] = []
        for image, geometry in zip(found, geometries, strict=True):
            lanes = []
            for lane in image[image[:, 0] > 0]:
                points = self._polyline(lane[2], lane[3], lane[4:].astype(np.float64))
                if len(points) > 1:
                    lanes.append(Lane(near_to_far(geometry.to_original(points + self.corner)), float(lane[1])))
            images.append(lanes)
        return images

    def _polyline(self, start: float, length: float, xs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """A proposal -> the lane (N, 2) on rows of the frame, in upstream's network pixels, from the bottom up."""
        height, width = self.configuration.input.network
        rows = seen_rows(start, length, xs / width, prolonged=len(xs))
        if len(rows) < 2:
            return np.empty((0, 2))
        known = np.stack([xs[rows], height * (1 - rows / (len(xs) - 1))], axis=1)
        points = curve_on_rows(known, self.frame_rows, prolonged=PROLONGED * height)
        # Upstream's writers leave out what is right of the frame, but for TuSimple's.
        right = np.inf if self.form == "tusimple" else width
        return points[(points[:, 0] >= 0) & (points[:, 0] < right)]


def _off_diagonal(shares: Tensor) -> Tensor:
    """(B, A, A - 1), a row's shares of the others in order -> (B, A, A) with zeros on the diagonal."""
    batch, count, others = shares.shape
    # Behind each diagonal entry but the last come A entries that lie in a row.
    between = F.pad(shares.reshape(batch, others, count), (0, 1)).flatten(1)
    return F.pad(between, (1, 0)).view(batch, count, count)


_PAPER = "Tabelini et al.: Keep your Eyes on the Lane: Real-time Attention-guided Lane Detection, CVPR 2021"
_UPSTREAM = "https://github.com/lucastabelini/LaneATT"
_COMMIT = "2f8583ba14eccba05e6779668bc3a38bc751984a"


def _published(frame: tuple[int, int], epochs: int, batch_size: int, confidence_threshold: float = 0.5) -> Recipe:
    """What upstream's configurations share; its shifts are of +-25 and +-10 pixels of the frame."""
    augmentation = Augmentation(flip=0.5, rotation=6, shift_x=25 / frame[1], shift_y=10 / frame[0], scale=0.15)
    return Recipe(
        optimizer="adam",
        learning_rate=3e-4,
        schedule="cosine",
        epochs=epochs,
        batch_size=batch_size,
        augmentation=augmentation,
        confidence_threshold=confidence_threshold,
    )


_FRAMES: dict[Form, tuple[int, int]] = {"culane": (590, 1640), "tusimple": (720, 1280), "llamas": (717, 1276)}
_OPTIONS: dict[Form, dict[str, Any]] = {
    "culane": {},
    "tusimple": {"anchors": "tusimple", "suppression": 45.0, "max_lanes": 5, "bottom_row": 719},
    "llamas": {"anchors": "llamas", "bottom_row": 716},
}


def _full_size(batch_sizes: dict[Form, int], *, weights: str) -> dict[Form, Configuration]:
    """Upstream's configurations of one backbone."""
    return {
        form: Configuration(
            input=InputSize(frame=frame, crop=(0, 0, *frame), network=(360, 640)),
            architecture=_OPTIONS[form],
            weights=weights,
            recipe=_published(frame, 100, batch_sizes[form], 0.2)
            if form == "tusimple"
            else _published(frame, 15, batch_sizes[form]),
        )
        for form, frame in _FRAMES.items()
    }


_RESNET = _full_size({"culane": 8, "tusimple": 8, "llamas": 8}, weights="imagenet")
_RESNET122 = _full_size({"culane": 4, "tusimple": 2, "llamas": 16}, weights="none")


def _micro(form: Form, **options: Any) -> Configuration:
    return Configuration(
        input=micro_input(form),
        architecture={
            "anchors": "grid",
            "lateral": 24,
            "bottom": 40,
            "convergence": 0.6,
            "rows": 36,
            "stages": 2,
            "channels": 32,
            "initial_deviation": 0.1,
            "positive": 10.0,
            "negative": 13.0,
            "training_suppression": None,
            "suppression": 20.0,
            "row_step": 10,
            "bottom_row": _FRAMES[form][0] - 1,
            **options,
        },
        recipe=micro_recipe(
            learning_rate=1.2e-2, weight_decay=5e-2, steps=220, clip_gradient_norm=10.0, confidence_threshold=0.45
        ),
    )


LaneATT.metas = {
    name: DetectorMeta(
        name=name,
        paper=_PAPER,
        year=2021,
        family="anchor",
        backbone=backbone,
        upstream=_UPSTREAM,
        commit=_COMMIT,
        licence="MIT",
        normalisation=Normalisation(mean=(0, 0, 0), std=(1, 1, 1), order="bgr"),
        configurations=configurations,
    )
    for name, backbone, configurations in (
        ("laneatt_resnet18", "resnet18", _RESNET),
        ("laneatt_resnet34", "resnet34", _RESNET),
        ("laneatt_resnet122", "resnet122", _RESNET122),
        (
            "laneatt_micro",
            "resnet_micro",
            {
                "culane": _micro("culane"),
                "tusimple": _micro("tusimple", max_lanes=5, bottom_row=710),
                "llamas": _micro("llamas"),
            },
        ),
    )
}
