"""The reference from lucastabelini/PolyLaneNet: its network, dataset, loss and decoding, as its cfgs have them.

It needs two of the packages that upstream's requirements name, efficientnet_pytorch 0.6.3 and imgaug 0.4.0. The data pipeline is
upstream's whole one, without its random changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar
from unittest import mock

import cv2
import numpy as np
import torch
import yaml
from torch import Tensor

from detectors.meta import Form
from detectors.polylanenet import Architecture
from detectors.registry import detector_meta
from detectors.upstream.isolation import Isolation, former_numpy_names, stand_in
from detectors.upstream.reference import Difference, Frame, Polyline, Reference, Unavailable, resized_otherwise
from detectors.upstream.running import training_without_dropout
from harness.files.scratch import scratch_folder
from harness.lanes import Lane

ROWS: dict[Form, range] = {"tusimple": range(160, 720, 10), "llamas": range(300, 717)}
"""On which labels are given and lanes are written."""

FILES = {
    ("polylanenet_efficientnet_b0", "tusimple"): "tusimple",
    ("polylanenet_efficientnet_b0", "llamas"): "llamas",
    ("polylanenet_efficientnet_b1", "tusimple"): "tusimple_efficientnetb1",
    ("polylanenet_resnet34", "tusimple"): "tusimple_resnet34",
    ("polylanenet_resnet50", "tusimple"): "tusimple_resnet50",
}
"""Variant and form of ours -> the file in upstream's cfgs."""


class _Loader(yaml.SafeLoader):
    """Reads upstream's configurations, in which a list says that it is a tuple."""


def _tuple(loader: Any, node: Any) -> tuple[Any, ...]:
    return tuple(loader.construct_sequence(node))


_Loader.add_constructor("tag:yaml.org,2002:python/tuple", _tuple)


def configuration(checkout: Path, variant: str, form: Form) -> dict[str, Any]:
    """Upstream's configuration file of a variant."""
    loaded: dict[str, Any] = yaml.load((checkout / "cfgs" / f"{FILES[variant, form]}.yaml").read_text(), Loader=_Loader)
    return loaded


def isolated(checkout: Path) -> Isolation:
    """The scope of upstream's code. InputError where the folder isn't its checkout. Left out is what ELAS and scores alone need."""
    return Isolation(
        checkout,
        needs=["lib/models.py", "lib/datasets/lane_dataset.py", "cfgs/tusimple.yaml"],
        stand_ins=[
            stand_in("lxml"),
            stand_in("lxml.etree", fromstring=None),
            stand_in("xmljson", badgerfish=None),
            stand_in("sklearn"),
            stand_in("sklearn.linear_model", LinearRegression=mock.Mock()),
            stand_in("ujson"),
            stand_in("tabulate", tabulate=None),
            stand_in("progressbar", progressbar=None),
        ],
        patches=[former_numpy_names],
    )


class PolyLaneNet(Reference):
    """lib/models.py: `PolyRegression`."""

    repository = "PolyLaneNet"
    differences: ClassVar[Mapping[str, Difference]] = {
        "image": resized_otherwise("with OpenCV's cubic filter, over four pixels whatever the reduction", within=3.0),
        "losses, no lane": Difference(
            "Upstream takes means over no lanes, which aren't numbers. Ours are 0 there, and the confidence counts alone.",
            terms=("far", "near", "curve"),
        ),
    }
    variants: ClassVar[dict[str, tuple[Form, ...]]] = {
        "polylanenet_efficientnet_b0": ("tusimple", "llamas"),
        "polylanenet_efficientnet_b1": ("tusimple",),
        "polylanenet_resnet34": ("tusimple",),
        "polylanenet_resnet50": ("tusimple",),
    }
    model: Any

    def __init__(self, checkout: Path, variant: str, form: Form) -> None:
        self.upstream = isolated(checkout)
        ours = detector_meta(variant).configurations[form]
        self.form: Form = form
        self.size = ours.input
        self.options = Architecture(**ours.architecture)
        settings = configuration(self.upstream.checkout, variant, form)
        self.loss_parameters = settings["loss_parameters"]
        self.threshold = settings["test_parameters"]["conf_threshold"]
        parameters = settings["model"]["parameters"]
        self.lanes_count = parameters["num_outputs"] // 7
        with self.upstream:
            self._dataset = import_module("lib.datasets.lane_dataset").LaneDataset
            build = import_module("lib.models").PolyRegression
            self.model = build(**{**parameters, "pretrained": False}).eval()
        network = self.model.model
        if hasattr(network, "_global_params"):
            # Blocks are left out at random in training, which no module of their own does.
            network._global_params = network._global_params._replace(drop_connect_rate=0.0)

    def _samples(self, frames: Sequence[Frame], labels: Sequence[Sequence[Lane]]) -> tuple[Tensor, Tensor]:
        """Upstream's `LaneDataset` of these frames: images (B, 3, h, w) and labels (B, lanes, 3 + 2 x points)."""
        size, network = self.size.frame, self.size.network
        with scratch_folder() as folder, self.upstream:
            dataset = self._dataset(
                dataset="nolabel_dataset",
                root=str(folder),
                img_h=size[0],
                img_w=size[1],
                max_lanes=self.lanes_count,
                img_size=network,
                normalize=True,
                augmentations=[],
            )
            dataset.dataset.max_points = self.options.label_points
            items = []
            for number, (frame, lanes) in enumerate(zip(frames, labels, strict=True)):
                path = f"{folder}/{number}.png"
                cv2.imwrite(path, cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
                # From the top, as the label files have it.
                points = [[(float(x), float(y)) for x, y in lane.points[::-1]] for lane in lanes]
                items.append(
                    {"path": path, "label": None, "old_anno": {"lanes": points}, "categories": [1] * len(points)}
                )
            dataset.dataset.annotations = items
            images, targets, _ = zip(*(dataset[index] for index in range(len(items))), strict=True)
        return torch.stack(images), torch.from_numpy(np.stack(targets))

    def prepared(self, frame: Frame) -> Tensor:
        """A file through `LaneDataset`."""
        return self._samples([frame], [[]])[0]

    def normalised(self, images: Tensor) -> Tensor:
        """The same, of images that have their size already."""
        frames = [image.permute(1, 2, 0).numpy() for image in images]
        return self._samples(frames, [[] for _ in frames])[0]

    def forward(self, images: Tensor) -> Any:
        """The model's own: outputs, and those of categories, which there are none of."""
        with self.upstream:
            return self.model(images)

    def raw(self, outputs: Any) -> dict[str, Tensor]:
        """As `decode` reads them."""
        return {"lanes": outputs[0].reshape(len(outputs[0]), -1, 7)}

    def ours(self, outputs: Any) -> dict[str, Tensor]:
        """The same."""
        return {"lanes": outputs}

    def lanes(self, outputs: Any) -> list[list[Polyline]]:
        """What test.py does: the loss, which gives all lanes the first one's far end, `decode`, and the dataset's `pred2lanes`."""
        rows = np.array(ROWS[self.form])
        outputs = (outputs[0].clone(), None)
        labels = torch.zeros(len(outputs[0]), self.lanes_count, 5)
        with torch.no_grad(), self.upstream:
            self.model.loss(outputs, labels, **self.loss_parameters)
            decoded, _ = self.model.decode(outputs, labels, self.threshold)
            dataset = SimpleNamespace(img_h=self.size.frame[0], img_w=self.size.frame[1])
            read = import_module("lib.datasets.tusimple").TuSimple.pred2lanes
            found = [read(dataset, "", image.numpy(), rows) for image in decoded]
        written = [[np.stack([np.array(lane), rows], axis=1) for lane in lanes] for lanes in found]
        return [[lane[lane[:, 0] != -2] for lane in lanes if (lane[:, 0] != -2).sum() > 1] for lanes in written]

    def drawn(self) -> tuple[Any, Any]:
        """Two frames with lanes that meet ahead; one of them isn't sure of two."""
        feet = torch.linspace(-0.3, 1.2, self.lanes_count)
        lanes = torch.zeros(2, self.lanes_count, 7)
        lanes[..., 0], lanes[..., 1], lanes[..., 2] = 3.0, 0.42, 0.98
        lanes[1, 1::2, 0] = -2.0
        lanes[1, 0, 1], lanes[0, 2, 1], lanes[:, 3, 2] = 0.5, 0.6, 0.8
        lanes[..., 5] = 2 * (feet - 0.5)
        lanes[..., 6] = 0.5 - 0.4 * lanes[..., 5]
        lanes[..., 3], lanes[..., 4] = 0.1, -0.12
        return (lanes.flatten(1), None), lanes

    def losses(self, images: Tensor, labels: Sequence[Sequence[Lane]]) -> dict[str, Tensor]:
        """`PolyRegression.loss`."""
        if max(map(len, labels)) > self.lanes_count:
            raise Unavailable(f"upstream's encoding has no place for more than {self.lanes_count} lanes")
        height, width = self.size.frame
        blank = [np.zeros((height, width, 3), dtype=np.uint8)] * len(labels)
        _, targets = self._samples(blank, labels)
        names = {"lane": "conf", "far": "lower", "near": "upper", "curve": "poly"}
        with self.upstream, training_without_dropout(self.model):
            _, terms = self.model.loss(self.model(images), targets, **self.loss_parameters)
        return {ours: terms[theirs] for ours, theirs in names.items()}
