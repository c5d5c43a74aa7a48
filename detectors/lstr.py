"""LSTR: Liu, Yuan, Liu, Xiong, "End-to-end Lane Shape Prediction with Transformers", WACV 2021.

A transformer on the coarsest feature of a small ResNet answers a handful of learned queries. Each query says whether it is a lane and
between which rows; its shape is a cubic on the road as a pitched camera sees it (equation 5 of the paper, with the names that it has
in upstream's db/tusimple.py)

    x(y) = k / (y - f)^2 + m / (y - f) + n + b1 * y - b2

in shares of the frame's width and height. k, f, m and n are the road's and the camera's and so one for all lanes of a frame. Labels
are matched with queries one to one (Hungarian matching), for every decoder layer anew. Facts come from the paper and from
liuruijin17/LSTR (BSD-3); those on CULane from voldemortX/pytorch-auto-drive (BSD-3).

`lstr_resnet18s` on TuSimple is the original, whose published weights import strictly. Its form CULane is this network with
pytorch-auto-drive's input and recipe, which that publishes for twice the width only; the authors' own for CULane (their branch
`culane`, config/LSTR_CULANE.json: 295x820, three classes, 500,000 steps on train and val, F1 .64) isn't here. `lstr_resnet18s_1x`,
`lstr_resnet18s_2x` and `lstr_resnet34` are pytorch-auto-drive's, with strong augmentation (its level 1a). The reduced networks start
at random in both repositories, `lstr_resnet34` from ImageNet.

What differs in training: the original learns TuSimple from train and val; labels are read on equally spaced rows of the network's view
instead of at the label file's points, of which pytorch-auto-drive leaves out CULane's above row 290; where rotation leaves a part of
the view empty, upstream hides that part from the attention; crops take up to a tenth of the view, where upstream's always take a tenth;
there is no random lighting. In decoding, points beyond the frame's sides are left out, as pytorch-auto-drive does; the original keeps
them. On CULane lanes reach their ends, where upstream writes every 20th row between them.

`lstr_micro` is the same code with other numbers, small enough for a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Self, TypeVar, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from scipy.special import expit
from torch import Tensor, nn

from detectors.backbones import backbone_taps, build_backbone
from detectors.base import Batch, Detector, Tap, normalise
from detectors.meta import (
    Augmentation,
    Configuration,
    Data,
    DetectorMeta,
    Form,
    InputSize,
    Normalisation,
    Recipe,
    Weights,
)
from detectors.parts.matching import matched_pairs
from detectors.parts.micro import micro_input, micro_recipe
from detectors.parts.row_wise import ABSENT, Anchors
from detectors.parts.transformer import MultilayerPerceptron, Transformer, sine_positions
from harness.lanes import Geometry, Lane, near_to_far, plain_geometry

WEIGHTS = {"lane": 3.0, "curve": 5.0, "far": 2.0, "near": 2.0}
"""Weights of the terms, in the matching and in the loss (upstream's models/py_utils/kp.py)."""

NEAREST = 1e-3
"""Where the curve has its pole, y - f is kept this far from 0: upstream divides by it whatever it is."""


class Architecture(Data):
    """Architecture options of LSTR; the defaults are the published TuSimple network.

    width: channels of the transformer. rows: equally spaced rows from the frame's upper edge to its lower one, on which labels are
    compared with curves. common_far_end: all lanes of a frame are taught to end where the furthest one does. max_lanes: at most so
    many lanes are predicted, those with the highest scores.
    """

    queries: int = Field(7, ge=1)
    width: int = Field(32, ge=4, multiple_of=4)
    heads: int = Field(2, ge=1)
    encoder_layers: int = Field(2, ge=0)
    decoder_layers: int = Field(2, ge=1)
    feed_forward: int = Field(128, ge=1)
    dropout: float = Field(0.1, ge=0, lt=1)
    rows: int = Field(73, ge=2)
    common_far_end: bool = False
    max_lanes: int = Field(7, ge=1)

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.width % self.heads:
            raise ValueError("'width' has to be a multiple of 'heads'")
        return self


Numbers = TypeVar("Numbers", Tensor, npt.NDArray[np.float32])


def curve_places(curves: Numbers, rows: Numbers) -> Numbers:
    """x of curves (..., 6), which are k, f, m, n, b1, b2, at rows y that broadcast with (..., R): (..., R)."""
    k, f, m, n, b1, b2 = (curves[..., index, None] for index in range(6))
    distance = rows - f
    # In words that torch and numpy share: NEAREST where it is nearer than that.
    distance = distance + (abs(distance) < NEAREST) * (NEAREST - distance)
    return k / distance**2 + m / distance + n + b1 * rows - b2


class LSTR(Detector):
    """Set prediction of lanes as curves (see the module)."""

    metas: ClassVar[dict[str, DetectorMeta]]
    architecture: ClassVar[type[Data]] = Architecture
    checkpoint_names: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"^(conv1|bn1|layer\d)\.", r"backbone.\1."),
        (r"^query_embed\.weight$", "queries"),
        (r"^input_proj\.", "projection."),
        (r"^class_embed\.", "lane."),
        (r"^specific_embed\.", "own_curve."),
        (r"^shared_embed\.", "shared_curve."),
        (r"^transformer\.decoder\.norm\.", "transformer.norm."),
        (r"^transformer\.(encoder|decoder)\.layers\.", r"transformer.\1."),
        (r"\.self_attn\.", ".self_attention."),
        (r"\.multihead_attn\.", ".cross_attention."),
        (r"\.linear1\.", ".feed_forward.expand."),
        (r"\.linear2\.", ".feed_forward.contract."),
    )

    def __init__(self, meta: DetectorMeta, form: Form) -> None:
        """Raises InputError where the configuration's architecture has unknown or impossible options."""
        super().__init__(meta, form)
        self.options = options = self.options_of(Architecture)
        self.frame = frame_of(self.configuration.input, options.rows)
        self.backbone = build_backbone(meta.backbone)
        last = self.taps()[-1]
        self.projection = nn.Conv2d(last.channels, options.width, 1)
        self.queries = nn.Parameter(torch.randn(options.queries, options.width))
        self.transformer = Transformer(
            options.width,
            heads=options.heads,
            encoder_layers=options.encoder_layers,
            decoder_layers=options.decoder_layers,
            hidden=options.feed_forward,
            dropout=options.dropout,
        )
        self.lane = nn.Linear(options.width, 2)
        self.own_curve = MultilayerPerceptron(options.width, options.width, options.width, 4)
        self.shared_curve = MultilayerPerceptron(options.width, options.width, options.width, 4)
        height, width = (math.ceil(side / last.stride) for side in self.configuration.input.network)
        self.register_buffer("positions", sine_positions(height, width, options.width), persistent=False)
        self.register_buffer("rows", torch.linspace(0.0, 1.0, options.rows), persistent=False)
        self.shares = np.linspace(0.0, 1.0, options.rows, dtype=np.float32)

    def taps(self) -> tuple[Tap, ...]:
        """The four stages of the ResNet, strides 4 to 32."""
        return backbone_taps(self.backbone, "backbone")

    def encode_targets(self, lanes: Sequence[Lane], geometry: Geometry) -> dict[str, npt.NDArray[Any]]:
        """`x`: float32 (queries, rows), where each lane crosses each row, else ABSENT. `ends`: float32 (queries, 2), far and near y.

        All in shares of the frame. A lane that crosses fewer than two rows within the frame is left out; of more lanes than there
        are queries those are kept that cross the most rows.
        """
        polylines = [geometry.to_network(lane.points[np.isfinite(lane.points).all(axis=1)]) for lane in lanes]
        places = [self.frame.positions(polyline) for polyline in polylines]
        longest = sorted(range(len(lanes)), key=lambda index: -int((places[index] >= 0).sum()))
        x = np.full((self.options.queries, self.options.rows), ABSENT, dtype=np.float32)
        ends = np.zeros((self.options.queries, 2), dtype=np.float32)
        kept = [index for index in longest[: self.options.queries] if (places[index] >= 0).sum() >= 2]
        for target, index in enumerate(kept):
            x[target] = places[index]
            crossed = np.linspace(0.0, 1.0, self.options.rows)[places[index] >= 0]
            inside = self._inside(polylines[index])
            ends[target] = min([*crossed, *inside]), max([*crossed, *inside])
        if self.options.common_far_end and kept:
            ends[: len(kept), 0] = ends[: len(kept), 0].min()
        return {"x": x, "ends": ends}

    def _inside(self, polyline: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """y of those points of a polyline in network pixels that lie in the frame, in shares of its height."""
        x = (polyline[:, 0] - self.frame.origin) / self.frame.width
        y = (polyline[:, 1] - self.frame.lines[0]) / (self.frame.lines[-1] - self.frame.lines[0])
        return np.asarray(y[(x >= 0) & (x <= 1) & (y >= 0) & (y <= 1)])

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """uint8 RGB (B, 3, H, W) -> of each decoder layer, `logits` (B, layers, Q, 2) of no lane and lane, `curves` (B, layers, Q, 8).

        A curve is far y, near y, k, f, m, n, b1, b2.
        """
        normalised = normalise(images, self.meta.normalisation)
        feature = self.backbone(normalised.contiguous(memory_format=torch.channels_last))[-1]
        tokens = self.projection(feature).flatten(2).transpose(1, 2)
        positions = cast(Tensor, self.positions).to(tokens.dtype)
        found = self.transformer(tokens, positions, self.queries.to(tokens.dtype))
        own = self.own_curve(found)
        shared = self.shared_curve(found).mean(dim=2, keepdim=True).expand_as(own)
        return {"logits": self.lane(found), "curves": torch.cat([own[..., :2], shared, own[..., 2:]], dim=-1)}

    def losses(self, outputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """`lane` (cross-entropy of every query), `curve`, `far` and `near` (L1 per lane), each summed over the decoder layers.

        A curve's L1 is the sum over the rows that its lane crosses, less for lanes that cross more rows of them than others do. Lanes
        are matched by the same terms, with the probability in place of the cross-entropy.
        """
        places, ends = batch.targets["x"], batch.targets["ends"]
        seen = (places >= 0).float()
        counts = seen.sum(dim=-1)
        present = counts > 0
        curves = outputs["curves"].float()[..., None, :]
        none, lane = outputs["logits"].float().unbind(dim=-1)
        errors = (curve_places(curves[..., 2:], cast(Tensor, self.rows)) - places[:, None, None]).abs()
        # Upstream's weight of a lane: the square root of the fewest rows that any lane of the batch has over its own.
        fewest = counts.masked_fill(~present, math.inf).min()
        balance = (fewest / counts.clamp(min=1.0)).sqrt().masked_fill(~present, 0.0)
        # All of (B, layers, Q, M): every query against every lane of its image.
        distances = {
            "curve": (errors * seen[:, None, None]).sum(dim=-1) * balance[:, None, None],
            "far": (curves[..., 0] - ends[:, None, None, :, 0]).abs(),
            "near": (curves[..., 1] - ends[:, None, None, :, 1]).abs(),
        }
        unlikely = -WEIGHTS["lane"] * (lane - none).sigmoid()[..., None]
        costs = sum((WEIGHTS[name] * value for name, value in distances.items()), unlikely)
        pairs = matched_pairs(costs, present[:, None])
        count = present.sum().clamp(min=1)
        terms = {name: WEIGHTS[name] * (value * pairs).sum() / count for name, value in distances.items()}
        # The cross-entropy of two classes, in a form whose CUDA kernels are deterministic.
        entropy = F.binary_cross_entropy_with_logits(lane - none, pairs.any(dim=-1).float(), reduction="none")
        return {"lane": WEIGHTS["lane"] * entropy.mean(dim=(0, 2)).sum(), **terms}

    def decode(self, outputs: dict[str, Tensor], geometries: Sequence[Geometry]) -> list[list[Lane]]:
        """The last layer's queries that are lanes by the threshold, as points between their ends.

        All that leaves the device is one tensor.
        """
        found = torch.cat([outputs["logits"][:, -1], outputs["curves"][:, -1]], dim=-1).float().cpu().numpy()
        threshold = self.configuration.recipe.confidence_threshold
        images: list[list[Lane]] = []
        for queries, geometry in zip(found, geometries, strict=True):
            scores = expit(queries[:, 1] - queries[:, 0])
            best = np.sort(np.argsort(-scores, kind="stable")[: self.options.max_lanes])
            chosen = best[scores[best] >= threshold]
            images.append(self._lanes(queries[chosen, 2:], scores[chosen], geometry) if len(chosen) else [])
        return images

    def _lanes(
        self, curves: npt.NDArray[np.float32], scores: npt.NDArray[np.float32], geometry: Geometry
    ) -> list[Lane]:
        """The lanes of curves (N, 8), without those whose ends or points are none."""
        far, near = curves[:, :2].clip(0.0, 1.0).T[..., None]
        y = far + (near - far) * self.shares
        x = curve_places(curves[:, 2:], y)
        visible = (x >= 0) & (x <= 1) & (far < near)
        first, last = self.frame.lines[[0, -1]]
        network = np.stack([self.frame.origin + x * self.frame.width, first + y * (last - first)], axis=-1)
        # From near to far: y grows with the number of a point.
        points = geometry.to_original(network)[:, ::-1]
        return [
            Lane(near_to_far(lane[seen]), float(score))
            for lane, seen, score in zip(points, visible[:, ::-1], scores, strict=True)
            if seen.sum() > 1
        ]


def frame_of(size: InputSize, rows: int) -> Anchors:
    """Rows from the upper to the lower edge of what the network sees, with one cell that is as wide as that.

    Upstream divides label coordinates by the frame's size, so an edge is at 0 and at the count of pixels, not half a pixel before.
    """
    plain = plain_geometry(size.frame, size.crop, size.network)
    top, left, bottom, right = size.crop
    origin, end = plain.to_network([float(left), float(top)]), plain.to_network([float(right), float(bottom)])
    lines = np.linspace(origin[1], end[1], rows)
    return Anchors(1, lines, cells=2, origin=float(origin[0]), width=float(end[0] - origin[0]))


_PAPER = "Liu, Yuan, Liu, Xiong: End-to-end Lane Shape Prediction with Transformers, WACV 2021"
_ORIGINAL = ("https://github.com/liuruijin17/LSTR", "c8fe59a1d8e1c456c982c9e954ee660ae9116b49")
_AUTO_DRIVE = ("https://github.com/voldemortX/pytorch-auto-drive", "137e63a9e6c3cd2cfeb15e101808478d7b25ddbd")

# db/tusimple.py; upstream's images are in OpenCV's channel order.
_BGR = Normalisation(mean=(0.40789654, 0.44719302, 0.47026115), std=(0.28863828, 0.27408164, 0.27809835), order="bgr")
# db/tusimple.py and utils/image.py: of 11 images 10 are turned, mirrored and cropped, and the colours of all are changed.
# pytorch-auto-drive's `level 1a` is the same and turns hues by a fifth of the circle.
_AUGMENTATION = Augmentation(
    flip=0.5 * 10 / 11,
    rotation=10,
    crop=0.1,
    geometric_probability=10 / 11,
    brightness=0.4,
    contrast=0.4,
    saturation=0.4,
)
_TUSIMPLE = Configuration(
    input=InputSize(frame=(720, 1280), crop=(0, 0, 720, 1280), network=(360, 640)),
    architecture={"common_far_end": True},
    # config/LSTR.json.
    recipe=Recipe(
        optimizer="adam",
        learning_rate=1e-4,
        schedule="multistep",
        milestones=(450 / 500,),
        gamma=0.1,
        steps=500_000,
        batch_size=16,
        augmentation=_AUGMENTATION,
        confidence_threshold=0.5,
    ),
)


def _auto_drive(
    frame: tuple[int, int],
    network: tuple[int, int],
    epochs: int,
    threshold: float,
    weights: Weights = "none",
    **architecture: Any,
) -> Configuration:
    """What pytorch-auto-drive's configs/lane_detection/lstr/*_aug.py share."""
    return Configuration(
        input=InputSize(frame=frame, crop=(0, 0, *frame), network=network),
        architecture=architecture,
        weights=weights,
        recipe=Recipe(
            optimizer="adam",
            learning_rate=2.5e-4,
            schedule="multistep",
            milestones=(0.9,),
            gamma=0.1,
            epochs=epochs,
            batch_size=20,
            augmentation=_AUGMENTATION.model_copy(update={"hue": 72.0}),
            confidence_threshold=threshold,
        ),
    )


def _culane(weights: Weights = "none", **architecture: Any) -> Configuration:
    return _auto_drive((590, 1640), (288, 800), 150, 0.95, weights, rows=60, max_lanes=4, **architecture)


def _micro(form: Form, top: int | None = None, **architecture: Any) -> Configuration:
    """Numbers of this project: small enough for a CPU."""
    return Configuration(
        input=micro_input(form, top),
        architecture={"rows": 37, "dropout": 0.0, "max_lanes": 4, **architecture},
        recipe=micro_recipe(
            learning_rate=2e-3, weight_decay=1e-4, steps=1000, clip_gradient_norm=1.0, confidence_threshold=0.5
        ),
    )


_MICRO: dict[Form, Configuration] = {
    "culane": _micro("culane"),
    "tusimple": _micro("tusimple", max_lanes=5),
    # Its labels reach up to the horizon, where curves have their pole, so the view begins well above it.
    "llamas": _micro("llamas", top=220),
}

LSTR.metas = {
    name: DetectorMeta(
        name=name,
        paper=_PAPER,
        year=2021,
        family="parametric",
        backbone=backbone,
        upstream=upstream,
        commit=commit,
        licence="BSD-3-Clause",
        normalisation=normalisation,
        configurations=configurations,
    )
    for name, backbone, (upstream, commit), normalisation, configurations in (
        ("lstr_resnet18s", "resnet18s", _ORIGINAL, _BGR, {"tusimple": _TUSIMPLE, "culane": _culane()}),
        (
            "lstr_resnet18s_1x",
            "resnet18s_1x",
            _AUTO_DRIVE,
            Normalisation(),
            {"tusimple": _auto_drive((720, 1280), (360, 640), 2000, 0.5, max_lanes=5)},
        ),
        (
            "lstr_resnet18s_2x",
            "resnet18s_2x",
            _AUTO_DRIVE,
            Normalisation(),
            {"culane": _culane(width=64, feed_forward=256)},
        ),
        (
            "lstr_resnet34",
            "resnet34",
            _AUTO_DRIVE,
            Normalisation(),
            {"culane": _culane("imagenet", width=128, feed_forward=512)},
        ),
        ("lstr_micro", "resnet_micro", _ORIGINAL, Normalisation(), _MICRO),
    )
}
