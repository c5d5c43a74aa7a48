"""References from Turoad/CLRNet: its own configurations, models, target encoder, loss, decoding and writers.

What isn't upstream's: the suppression, which is a CUDA kernel there (`line_suppression`); the test transform, which is imgaug's
resizing, OpenCV's bicubic one; the clipping of labels to the image, which is imgaug's too and is ours here; and masks, which come with
the datasets there and are drawn as ours draws them.
"""

from __future__ import annotations

import runpy
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from detectors.meta import Form
from detectors.parts.lane_rows import clipped
from detectors.parts.masks import slot_mask
from detectors.registry import find_adapter
from detectors.upstream.isolation import Isolation, replaced, stand_in
from detectors.upstream.line_suppression import nms
from detectors.upstream.openmmlab import ConvModule
from detectors.upstream.reference import (
    BICUBIC,
    Difference,
    Frame,
    Polyline,
    Reference,
    Unavailable,
    UpstreamModel,
    polylines_of,
)
from detectors.upstream.running import training_without_dropout
from harness.lanes import Lane, plain_geometry

TERMS = {"classification": "cls_loss", "regression": "reg_xytl_loss", "line": "iou_loss", "mask": "seg_loss"}
"""Our loss terms -> upstream's."""


class Settings(dict[str, Any]):
    """A configuration as upstream's code reads one: keys as attributes, also of the dicts inside."""

    def __getattr__(self, name: str) -> Any:
        try:
            value = self[name]
        except KeyError:
            raise AttributeError(name) from None
        return Settings(value) if type(value) is dict else value

    def haskey(self, name: str) -> bool:
        """Whether there is such a key."""
        return name in self


def _unchanged(*arguments: Any, **options: Any) -> Callable[[Any], Any]:
    """A decorator that does nothing, whatever it is told."""
    return lambda function: function


def isolated(checkout: Path, package: str, needs: Sequence[str]) -> Isolation:
    """The scope of CLRNet's code, or of what grew from it in `package`. InputError where the folder isn't a checkout of it.

    Left out are what is compiled, what its datasets augment, count and evaluate with, and what prints its configurations.
    """
    return Isolation(
        checkout,
        needs=[f"{package}/models/heads/clr_head.py", *needs],
        stand_ins=[
            stand_in(f"{package}.ops", nms=nms),
            stand_in("mmcv", jit=_unchanged),
            stand_in("mmcv.cnn", ConvModule=ConvModule),
            stand_in("mmcv.runner", auto_fp16=_unchanged),
            *inert(),
        ],
    )


def inert() -> list[ModuleType]:
    """Packages that CLRNet's code, and code that grew from it, imports to augment, count, evaluate and print, and doesn't need here."""
    names = {
        "imgaug.augmentables.lines": ("LineString", "LineStringsOnImage"),
        "imgaug.augmentables.segmaps": ("SegmentationMapsOnImage",),
        "shapely.geometry": ("LineString", "Polygon"),
        "sklearn.linear_model": ("LinearRegression",),
        "p_tqdm": ("t_map", "p_map"),
        "mmcv.parallel": ("DataContainer", "collate"),
        "yapf.yapflib.yapf_api": ("FormatCode",),
    }
    return [
        stand_in("six", string_types=str),
        stand_in("addict", Dict=dict),
        stand_in("imgaug.augmenters", Sequential=list),
        *(stand_in(name) for name in ("imgaug", "imgaug.augmentables")),
        *(stand_in(name) for name in ("shapely", "sklearn", "yapf", "yapf.yapflib")),
        *(stand_in(name, **dict.fromkeys(inside, object)) for name, inside in names.items()),
    ]


class CLRNetModel(UpstreamModel):
    """A model of CLRNet's code, which `package` holds; `needs` is what the checkout has to have besides."""

    package: ClassVar[str]
    needs: ClassVar[Sequence[str]] = ()
    model: Any

    def __init__(self, checkout: Path, variant: str, form: Form) -> None:
        self.upstream = isolated(checkout, self.package, self.needs)
        self.form: Form = form
        with self.upstream:
            self.settings = Settings(runpy.run_path(self.configuration(variant)))
            self.settings["backbone"] = {**self.settings["backbone"], "pretrained": False}
            import_module(f"{self.package}.models")
            self.model = import_module(f"{self.package}.models.registry").build_net(self.settings).eval()
        self.threshold = self.settings.test_parameters.conf_threshold

    @abstractmethod
    def configuration(self, variant: str) -> str:
        """The path of a variant's configuration."""

    def decoded(self, outputs: Tensor) -> list[list[Any]]:
        """`get_lanes`, by the threshold; inside of `upstream`."""
        self.settings["test_parameters"] = {**self.settings["test_parameters"], "conf_threshold": self.threshold}
        head = self.model.heads
        rows = head.prior_ys
        found: list[list[Any]] = head.get_lanes(outputs)
        # Decoding leaves the rows in double precision, which the next training step can't take.
        head.prior_ys = rows
        return found

    def written_lanes(self, lanes: list[Any]) -> list[Polyline]:
        """What the datasets' writers make of lanes; inside of `upstream`."""
        dataset = SimpleNamespace(cfg=self.settings)
        if self.form == "tusimple":
            rows = np.arange(160, 720, 10)
            places = [lane(rows / self.settings.ori_img_h) for lane in lanes]
            seen = [(x >= 0) & (x < 1) for x in places]
            return [
                np.stack([x[s] * self.settings.ori_img_w, rows[s]], axis=1) for x, s in zip(places, seen, strict=True)
            ]
        writer = {"culane": "CULane", "llamas": "LLAMAS"}[self.form]
        module = import_module(f"{self.package}.datasets.{self.form}")
        written = getattr(module, writer).get_prediction_string(dataset, lanes)
        return polylines_of(written)


class CLRNet(CLRNetModel, Reference):
    """`configs/clrnet`."""

    repository = "CLRNet"
    package = "clrnet"
    needs = ("configs/clrnet",)
    variants: ClassVar[dict[str, tuple[Form, ...]]] = {
        "clrnet_resnet18": ("culane", "tusimple", "llamas"),
        "clrnet_resnet34": ("culane", "tusimple"),
        "clrnet_resnet101": ("culane", "tusimple"),
        "clrnet_dla34": ("culane", "llamas"),
    }
    differences: ClassVar[Mapping[str, Difference]] = {
        "image": BICUBIC,
        "lanes as decoded": Difference(
            "In upstream's loss an x is a share of the network's width - 1, in its decoding of the whole width, which moves lanes to "
            "the right by up to 1/799 of the frame's width. Ours means the same by an x in both. On LLAMAS upstream also reads lanes "
            "in shares of the frame's size and writes them in shares of its size - 1.",
            within=4.0,
        ),
        "lanes": Difference(
            "On LLAMAS alone: rows of a frame of 717 are read there in shares of 716, so that a lane may end a row earlier or later.",
            within=4.0,
        ),
        "losses, more lanes than slots": Difference(
            "Upstream learns the first lanes of the label file, ours those that are on the most rows."
        ),
    }

    def __init__(self, checkout: Path, variant: str, form: Form) -> None:
        super().__init__(checkout, variant, form)
        adapter = find_adapter(variant)
        self.size = adapter.meta.configurations[form].input
        self.options: Any = adapter.detector.architecture(**adapter.meta.configurations[form].architecture)

    def configuration(self, variant: str) -> str:
        """By variant and form."""
        return f"configs/clrnet/{variant.replace('clrnet', 'clr')}_{self.form}.py"

    def prepared(self, frame: Frame) -> Tensor:
        """`BaseDataset.__getitem__` and the test transform."""
        settings = self.settings
        cropped = frame[settings.cut_height :, :, ::-1]
        resized = cv2.resize(cropped, (settings.img_w, settings.img_h), interpolation=cv2.INTER_CUBIC)
        return torch.from_numpy(resized.astype(np.float32) / 255.0).permute(2, 0, 1)[None]

    def normalised(self, images: Tensor) -> Tensor:
        """The last step of the same."""
        return images.flip(1).float() / 255.0

    def forward(self, images: Tensor) -> Any:
        """The model's own: (B, priors, 78)."""
        with self.upstream:
            return self.model(images)

    def raw(self, outputs: Any) -> dict[str, Tensor]:
        """Logits, lines and places of the last stage."""
        return {"logits": outputs[..., :2], "lines": outputs[..., 2:6], "places": outputs[..., 6:]}

    def ours(self, outputs: Any) -> dict[str, Tensor]:
        """The same."""
        return self.raw(outputs["lanes"][:, -1])

    def lanes(self, outputs: Any) -> list[list[Polyline]]:
        """`get_lanes`, and the datasets' writers; for TuSimple without their truncation to whole pixels."""
        with self.upstream:
            written = [self.written_lanes(lanes) for lanes in self.decoded(outputs)]
        # A file may hold a lane of one point or none; ours isn't one.
        return [[lane for lane in lanes if len(lane) > 1] for lanes in written]

    def written(self, lane: Polyline) -> Polyline:
        """In shares of the network's whole width; on LLAMAS of the frame's size - 1."""
        width = self.size.network[1]
        scale = np.array([width / (width - 1), 1.0])
        if self.form == "llamas":
            scale = scale * [1 - 1 / self.size.frame[1], 1 - 1 / self.size.frame[0]]
        scaled: Polyline = lane * scale
        return scaled

    def drawn(self) -> tuple[Any, Any]:
        """Bundles of bent lanes in four frames, some of which start high, leave the image or are long or sure beyond all measure.

        Random weights give lanes without length.
        """
        generator = torch.Generator().manual_seed(0)

        def uniform(low: float, high: float, *shape: int) -> Tensor:
            return low + (high - low) * torch.rand(4, *shape, generator=generator)

        bundles, members, rows = 12, self.options.priors // 12, self.options.rows
        heights = torch.linspace(0, 1, rows)
        foot, slope, bend = (
            uniform(-0.3, 1.3, bundles, 1, 1),
            uniform(-1, 1, bundles, 1, 1),
            uniform(-1, 1, bundles, 1, 1),
        )
        foot = foot + uniform(-0.05, 0.05, bundles, members, 1)
        places = (foot + slope * heights + bend * heights**2).flatten(1, 2)
        starts, lengths = uniform(-0.05, 0.6, bundles * members, 1), uniform(-0.05, 1.1, bundles * members, 1)
        between = places[..., :1], uniform(0.1, 0.9, bundles * members, 1)
        outputs = torch.cat([uniform(-4, 4, bundles * members, 2), starts, *between, lengths, places], dim=-1)
        return outputs, {"lanes": outputs[:, None]}

    def losses(self, images: Tensor, labels: Sequence[Sequence[Lane]]) -> dict[str, Tensor]:
        """`CLRHead.loss` of targets that `GenerateLaneLine` encodes."""
        if not any(labels):
            raise Unavailable("it divides by zero where no image of a batch has a lane")
        head = self.model.heads
        priors = head.priors, head.priors_on_featmap
        with self.upstream:
            targets = np.stack([self._target(lanes) for lanes in labels])
            batch = {"img": images, "lane_line": torch.from_numpy(targets), "seg": self._masks(labels)}
            # ROIGather has the probability of its dropout in the call.
            still = replaced(F, "dropout", lambda features, **options: features)
            with still(), training_without_dropout(self.model):
                terms = self.model(batch)["loss_stats"]
                # Training leaves tensors with a graph in these buffers.
                head.priors, head.priors_on_featmap = priors
        return {ours: terms[theirs] for ours, theirs in TERMS.items()}

    def _target(self, lanes: Sequence[Lane]) -> npt.NDArray[np.float32]:
        """Upstream's encoding of labels."""
        encoder = import_module("clrnet.datasets.process.generate_lane_line").GenerateLaneLine
        # Without what it is told of augmentations.
        generate = encoder.__new__(encoder)
        settings = self.settings
        height, width = settings.img_h, settings.img_w
        vars(generate).update(
            img_w=width,
            img_h=height,
            n_offsets=settings.num_points,
            n_strips=settings.num_points - 1,
            strip_size=height / (settings.num_points - 1),
            max_lanes=settings.max_lanes,
            offsets_ys=np.arange(height, -1, -height / (settings.num_points - 1)),
        )
        scale = np.array([width / settings.ori_img_w, height / (settings.ori_img_h - settings.cut_height)])
        scaled = [(points - [0, settings.cut_height]) * scale for points in self._read(lanes)]
        pieces = [piece.tolist() for polyline in scaled for piece in clipped(polyline, (height, width))]
        label: npt.NDArray[np.float32] = generate.transform_annotation({"lanes": pieces}, img_wh=(width, height))[
            "label"
        ]
        return label

    def _read(self, lanes: Sequence[Lane]) -> list[Polyline]:
        """Labels as upstream's loaders read them: no points left of the frame or above it, at least three of them (TuSimple: two)."""
        read = [lane.points[(lane.points >= 0).all(axis=1)].astype(np.float64) for lane in lanes]
        return [points for points in read if len(points) >= (2 if self.form == "tusimple" else 3)]

    def _masks(self, labels: Sequence[Sequence[Lane]]) -> Tensor:
        """Masks (B, H, W) as ours draws them."""
        geometry = plain_geometry(self.size.frame, self.size.crop, self.size.network)
        slots, width = self.options.slots, self.options.mask_width
        masks = [
            slot_mask(
                [geometry.to_network(points) for points in self._read(lanes)],
                self.size.network,
                slots=slots,
                width=width,
            )[0]
            for lanes in labels
        ]
        return torch.from_numpy(np.stack(masks))
