"""References from lucastabelini/LaneATT: its own configurations, model, loss, target encoder, decoding and writers.

What isn't upstream's: the suppression, which is a CUDA kernel there (`line_suppression`); the test transform, which is imgaug's
resizing, OpenCV's bicubic one; the clipping of labels to the image, which is imgaug's too and is ours here; the order of anchors that
are equally frequent, which upstream leaves to an unstable sort: it gets a stable one; and the spread of the head's random weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from detectors.meta import Form
from detectors.parts.lane_rows import clipped
from detectors.upstream.isolation import Isolation, replaced, stand_in
from detectors.upstream.line_suppression import nms
from detectors.upstream.reference import BICUBIC, Difference, Frame, Polyline, Reference, Unavailable, polylines_of
from detectors.upstream.running import training_without_dropout
from harness.lanes import Lane

LENGTH = 40.0
"""Rows that lanes of random weights go on for, about as those of a trained model do: without, there would be none."""

SPREAD = {"conv1": 0.45, "attention_layer": 2.5, "cls_layer": 0.75, "reg_layer": 20.0}
"""Deviation of random weights times the root of how many a value is the sum of. Upstream's own deviation, .001, gives every anchor the
same score and the same attention.
"""

FRAMES: dict[Form, tuple[int, int]] = {"culane": (590, 1640), "tusimple": (720, 1280), "llamas": (717, 1276)}
"""Height and width of the frames, which upstream's datasets set."""


def _stable_argsort(values: Tensor, *, descending: bool = False) -> Tensor:
    return values.sort(descending=descending, stable=True).indices


def isolated(checkout: Path) -> Isolation:
    """The scope of LaneATT's code. InputError where the folder isn't its checkout.

    Left out are what is compiled, and what its datasets augment and evaluate with.
    """
    inert = {
        "imgaug.augmenters": ("Resize",),
        "imgaug.augmentables.lines": ("LineString", "LineStringsOnImage"),
        "shapely.geometry": ("LineString", "Polygon"),
        "sklearn.linear_model": ("LinearRegression",),
        "p_tqdm": ("t_map", "p_map"),
        "ujson": (),
    }
    return Isolation(
        checkout,
        needs=["lib/models/laneatt.py", "cfgs", "data/culane_anchors_freq.pt"],
        stand_ins=[
            stand_in("nms", nms=nms),
            *(stand_in(name) for name in ("imgaug", "imgaug.augmentables", "shapely", "sklearn")),
            *(stand_in(name, **dict.fromkeys(names, object)) for name, names in inert.items()),
        ],
        patches=[replaced(torch, "argsort", _stable_argsort)],
    )


class LaneATT(Reference):
    """`cfgs/laneatt_*.yml`. Outputs of its forward are all proposals (B, anchors, 77) and the attention, before the suppression."""

    repository = "LaneATT"
    variants: ClassVar[dict[str, tuple[Form, ...]]] = dict.fromkeys(
        ("laneatt_resnet18", "laneatt_resnet34", "laneatt_resnet122"), ("culane", "tusimple", "llamas")
    )
    differences: ClassVar[Mapping[str, Difference]] = {"image": BICUBIC}
    model: Any

    def __init__(self, checkout: Path, variant: str, form: Form) -> None:
        self.upstream = isolated(checkout)
        self.form: Form = form
        with self.upstream:
            path = Path("cfgs", f"laneatt_{form}_{variant.removeprefix('laneatt_')}.yml")
            self.settings = import_module("lib.config").Config(str(path))
            self.model = self.settings.get_model(pretrained_backbone=False).eval()
        self.model.nms = lambda proposals, attention, *rest: (proposals, attention)
        self.threshold = self.settings["test_parameters"]["conf_threshold"]

    def make_comparable(self) -> None:
        """Spread the weights: upstream's own deviation gives every anchor the same score."""
        for layer, deviation in SPREAD.items():
            weight = getattr(self.model, layer).weight
            nn.init.normal_(weight, std=deviation / weight[0].numel() ** 0.5)
        nn.init.constant_(self.model.reg_layer.bias[:1], LENGTH)

    def prepared(self, frame: Frame) -> Tensor:
        """`LaneDataset.__getitem__` without augmentation."""
        size = (self.model.img_w, round(self.model.img_w * 9 / 16))
        resized = cv2.resize(frame[..., ::-1], size, interpolation=cv2.INTER_CUBIC)
        return torch.from_numpy((resized / 255.0).astype(np.float32)).permute(2, 0, 1)[None]

    def normalised(self, images: Tensor) -> Tensor:
        """The last step of the same."""
        return images.flip(1).float() / 255.0

    def forward(self, images: Tensor) -> Any:
        """The model's own, up to the suppression."""
        with self.upstream:
            return self.model(images)

    def raw(self, outputs: Any) -> dict[str, Tensor]:
        """Logits, lengths and places of all proposals."""
        proposals = outputs[0]
        return {"logits": proposals[..., :2], "lengths": proposals[..., 4], "places": proposals[..., 5:]}

    def lanes(self, outputs: Any) -> list[list[Polyline]]:
        """`nms`, `decode`, and the datasets' writers; for TuSimple every row, without truncation to whole pixels. Without the lanes
        that would end below the image, whose last row upstream counts from the far end.
        """
        with self.upstream:
            options = {**self.settings["test_parameters"], "conf_threshold": self.threshold}
            kept = [(self._ending_in_the_image(lanes), *rest) for lanes, *rest in self.suppressed(outputs, options)]
            decoded = self.model.decode(kept, as_lanes=True)
            return [self.written_lanes(lanes) for lanes in decoded]

    def _ending_in_the_image(self, proposals: Tensor) -> Tensor:
        starts = (proposals[:, 2].double() * self.model.n_strips).round()
        return proposals[starts + proposals[:, 4].double().round() >= 0]

    def suppressed(self, outputs: Any, options: Mapping[str, Any]) -> Any:
        """The proposals of each image that `nms` keeps by options, and what `loss` and `decode` take with them."""
        names = ("nms_thres", "nms_topk", "conf_threshold")
        return type(self.model).nms(self.model, *outputs, *(options[name] for name in names))

    def written_lanes(self, lanes: list[Any]) -> list[Polyline]:
        """What the datasets' writers make of lanes; inside of `upstream`."""
        height, width = FRAMES[self.form]
        if self.form == "tusimple":
            rows = np.arange(height)
            places = [lane(rows / height) * width for lane in lanes]
            return [np.stack([x[x >= 0], rows[x >= 0]], axis=1) for x in places]
        writer = {"culane": "CULane", "llamas": "LLAMAS"}[self.form]
        dataset = SimpleNamespace(img_h=height, img_w=width)
        written = getattr(import_module(f"lib.datasets.{self.form}"), writer).get_prediction_string(dataset, lanes)
        return polylines_of(written)

    def losses(self, images: Tensor, labels: Sequence[Sequence[Lane]]) -> dict[str, Tensor]:
        """`LaneATT.loss` of targets that `LaneDataset.transform_annotation` encodes."""
        with self.upstream:
            targets = torch.from_numpy(np.stack([self._target(lanes) for lanes in labels]))
            with training_without_dropout(self.model):
                outputs = self.model(images)
                proposals = self.suppressed(outputs, self.settings["train_parameters"])
                # Without a lane in the batch a term is a plain number.
                terms = self.model.loss(proposals, targets, cls_loss_weight=1)[1]
        return {
            "classification": 10 * torch.as_tensor(terms["cls_loss"]),
            "regression": torch.as_tensor(terms["reg_loss"]),
        }

    def _target(self, lanes: Sequence[Lane]) -> npt.NDArray[np.float32]:
        """Upstream's encoding of labels as its loaders read them: no points left of the image or above it."""
        encoder = import_module("lib.datasets.lane_dataset").LaneDataset
        # Without a dataset's files.
        encode = encoder.__new__(encoder)
        rows, size = self.model.n_offsets, (round(self.model.img_w * 9 / 16), self.model.img_w)
        slots = self.settings["test_parameters"]["nms_topk"]
        vars(encode).update(
            n_strips=rows - 1,
            n_offsets=rows,
            img_h=size[0],
            img_w=size[1],
            offsets_ys=np.arange(size[0], -1, -size[0] / (rows - 1)),
            dataset=SimpleNamespace(max_lanes=slots),
        )
        scale = np.array([size[1] / FRAMES[self.form][1], size[0] / FRAMES[self.form][0]])
        read = [lane.points[(lane.points >= 0).all(axis=1)].astype(np.float64) for lane in lanes]
        scaled = [points * scale for points in read if len(points) > 1]
        pieces = [piece.tolist() for polyline in scaled for piece in clipped(polyline, size)]
        if len(pieces) > slots:
            raise Unavailable("its encoder has no place for a lane more than there are slots, and ends the training")
        label: npt.NDArray[np.float32] = encode.transform_annotation({"path": "", "lanes": pieces}, img_wh=size[::-1])[
            "label"
        ]
        return label
