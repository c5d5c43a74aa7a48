"""References from voldemortX/pytorch-auto-drive: its own configurations, models, test transforms, decoding and criteria.

Its segmentation detectors learn from masks that come with the datasets, so there is no code of upstream's that draws them: its
criterion is shown the masks of ours. The curves of LSTR learn from the points of the label files, which ours reads on rows of its
own; there upstream's transforms are shown labels that have their points on these rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from detectors.bezierlanenet import WEIGHTS as CURVE_LOSS_WEIGHTS
from detectors.lstr import WEIGHTS
from detectors.meta import Form
from detectors.parts.masks import binary_mask, slot_mask
from detectors.parts.segmentation import EXISTENCE_WEIGHT
from detectors.registry import find_adapter
from detectors.upstream.curves import MORE_LANES_THAN_QUERIES, drawn_curves, keep_pole_away, on_rows, seen
from detectors.upstream.deformable import ModulatedDeformConv2d, modulated_deform_conv2d
from detectors.upstream.isolation import Isolation, bare_package, cuda_is_here, replaced, stand_in
from detectors.upstream.reference import PILLOW, Difference, Frame, Polyline, Reference, resized_otherwise
from detectors.upstream.running import training_without_dropout
from harness.lanes import Lane, plain_geometry

IMAGE = resized_otherwise(PILLOW, within=2.5)

MOST_POINTS = 200
"""Of a lane, where upstream learns from points; what is over of them it ignores."""


@contextmanager
def _import_from(folder: str) -> Iterator[None]:
    """In place of importmagician's, with which the configurations say that they start from the working directory."""
    yield


def isolated(checkout: Path) -> Isolation:
    """The scope of pytorch-auto-drive's code. InputError where the folder isn't its checkout.

    Left out are two packages' `__init__`, which import every dataset and more, and what is compiled at import: the suppression of
    LaneATT, and deformable convolutions, which are not mmcv's.
    """
    return Isolation(
        checkout,
        needs=["utils/models/lane_detection", "utils/losses", "configs/lane_detection"],
        stand_ins=[
            bare_package("utils", checkout / "utils"),
            bare_package("utils.datasets", checkout / "utils" / "datasets"),
            stand_in("utils.csrc"),
            stand_in("utils.csrc.apis", line_nms=None),
            stand_in("importmagician", import_from=_import_from),
            stand_in("mmcv"),
            stand_in(
                "mmcv.ops",
                ModulatedDeformConv2d=ModulatedDeformConv2d,
                modulated_deform_conv2d=modulated_deform_conv2d,
            ),
        ],
        # The criteria move their class weights to a GPU; Pillow 10 took the old name of its filter away.
        patches=[cuda_is_here, replaced(PIL.Image, "LINEAR", PIL.Image.Resampling.BILINEAR)],
    )


class AutoDrive(Reference):
    """What all references of the repository share. `_configurations`: variant of ours -> upstream's, in which {} is the dataset."""

    repository = "pytorch-auto-drive"
    differences: ClassVar[Mapping[str, Difference]] = {"image": IMAGE}
    _configurations: ClassVar[dict[str, str]]
    model: Any

    def __init__(self, checkout: Path, variant: str, form: Form) -> None:
        self.upstream = isolated(checkout)
        adapter = find_adapter(variant)
        self.form: Form = form
        self.size = adapter.meta.configurations[form].input
        self.options: Any = adapter.detector.architecture(**adapter.meta.configurations[form].architecture)
        with self.upstream:
            configuration = import_module(f"configs.lane_detection.{self._configurations[variant].format(form)}")
            models, losses = import_module("utils.models").MODELS, import_module("utils.losses").LOSSES
            model = {
                **configuration.model,
                "backbone_cfg": {**configuration.model["backbone_cfg"], "pretrained": False},
            }
            self.model = models.from_dict(model)
            self.criterion = losses.from_dict(configuration.loss)
            self.transforms = import_module("utils.transforms").TRANSFORMS.from_dict(configuration.test_augmentation)
        self.test: dict[str, Any] = configuration.test
        # LSTR's `eval` gives nothing back.
        self.model.eval()

    def prepared(self, frame: Frame) -> Tensor:
        """`test_augmentation`: resized, normalised."""
        with self.upstream:
            image: Tensor = self.transforms(PIL.Image.fromarray(frame))
        return image[None]

    def normalised(self, images: Tensor) -> Tensor:
        """The last two of these transforms, on images that have their size already."""
        with self.upstream:
            return torch.stack(
                [self.transforms(PIL.Image.fromarray(image.permute(1, 2, 0).numpy())) for image in images]
            )

    def forward(self, images: Tensor) -> Any:
        """The model's own."""
        with self.upstream:
            return self.model(images)

    def _sizes(self) -> list[tuple[int, int]]:
        return [self.test["input_size"], self.test["original_size"]]


class Segmentation(AutoDrive):
    """Detectors that tell lanes apart as classes of pixels: their outputs are `out` and `lane`, ours `mask` and `existence`."""

    differences: ClassVar[Mapping[str, Difference]] = {
        "image": IMAGE,
        "lanes": Difference(
            "Upstream reads a lane on whole rows of the map, cut off below, and writes the column's left edge, again cut off, on the "
            "dataset's row. Ours reads the probabilities on exactly that row and gives the middle of the column. The maps are drawn: "
            "the highest of random values is another one a quarter of a row further.",
            within=4.0,
        ),
        "lanes as decoded": Difference(
            "Besides, upstream takes a point in the map's first column for none. Ours keeps it, so that a lane may reach some rows "
            "further where it leaves the frame on the left.",
            within=16.0,
        ),
    }

    def raw(self, outputs: Any) -> dict[str, Tensor]:
        """Maps and existence."""
        return {"mask": outputs["out"], "existence": outputs["lane"]}

    def ours(self, outputs: Any) -> dict[str, Tensor]:
        """The same."""
        return {"mask": outputs["mask"], "existence": outputs["existence"]}

    def lanes(self, outputs: Any) -> list[list[Polyline]]:
        """`lane_as_segmentation_inference`, which has the existence's threshold of .5 built in."""
        keys = ("gap", "ppl", "thresh")
        with self.upstream:
            infer = import_module("utils.lane_det_utils").lane_as_segmentation_inference
            found = infer(
                None,
                outputs,
                self._sizes(),
                *(self.test[key] for key in keys),
                self.form,
                self.test["max_lane"],
                forward=False,
            )
        return [[present_points(lane) for lane in lanes] for lanes in found]

    def written(self, lane: Polyline) -> Polyline:
        """Without the points in the map's first column."""
        column = self.size.frame[1] / self.size.network[1]
        kept: Polyline = lane[lane[:, 0] > column - 0.5]
        return kept

    def losses(self, images: Tensor, labels: Sequence[Sequence[Lane]]) -> dict[str, Tensor]:
        """`LaneLoss`, its parts weighted as in its sum."""
        masks, existence = self._targets(labels)
        with self.upstream, training_without_dropout(self.model):
            _, terms = self.criterion(images, masks, existence, self.model, self.test["input_size"])
        return {"mask": terms["loss seg"], "existence": EXISTENCE_WEIGHT * terms["loss exist"]}

    def _targets(self, labels: Sequence[Sequence[Lane]]) -> tuple[Tensor, Tensor]:
        """Masks int64 (B, H, W) and existence (B, slots) as ours draws them."""
        geometry = plain_geometry(self.size.frame, self.size.crop, self.size.network)
        targets = [
            slot_mask(
                [geometry.to_network(lane.points) for lane in lanes],
                self.size.network,
                slots=self.options.slots,
                width=self.options.lane_width,
            )
            for lanes in labels
        ]
        masks, existence = (np.stack(parts) for parts in zip(*targets, strict=True))
        return torch.from_numpy(masks).long(), torch.from_numpy(existence)

    def drawn(self) -> tuple[Any, Any]:
        """Maps of two frames: all lanes there; one not there, and one that ends half way up."""
        slots, (height, width) = self.options.slots, self.size.network
        rows, columns = torch.arange(height)[:, None] / height, torch.arange(width) / width
        maps, existence = torch.zeros(2, 1 + slots, height, width), torch.linspace(6.0, 3.0, slots).repeat(2, 1)
        for slot, foot in enumerate(torch.linspace(-0.3, 1.2, slots)):
            centre = 0.5 + (foot - 0.5) * (rows - 0.3) + 0.1 * (rows - 0.3) ** 2
            maps[:, 1 + slot] = 8.0 * torch.exp(-(((columns - centre) / 0.01) ** 2)) * (rows > 0.36)
        maps[:, 0] = 4.0
        existence[1, 0], maps[1, 2, : int(0.54 * height)] = -1.0, 0.0
        return {"out": maps, "lane": existence}, {"mask": maps, "existence": existence}


class RESA(Segmentation):
    """`configs/lane_detection/resa`."""

    variants: ClassVar[dict[str, tuple[Form, ...]]] = {
        "resa_resnet18": ("culane", "tusimple"),
        "resa_resnet34": ("culane", "tusimple"),
        "resa_resnet101": ("culane", "tusimple"),
    }
    _configurations: ClassVar[dict[str, str]] = {
        "resa_resnet18": "resa.resnet18_{}",
        "resa_resnet34": "resa.resnet34_{}",
        "resa_resnet101": "resa.resnet101_{}",
    }


class SCNN(Segmentation):
    """`configs/lane_detection/scnn`. Ours gives maps of the network's size, to which upstream enlarges its own to use them."""

    variants: ClassVar[dict[str, tuple[Form, ...]]] = {
        "scnn_resnet18": ("culane", "tusimple"),
        "scnn_resnet34": ("culane", "tusimple", "llamas"),
        "scnn_resnet101": ("culane", "tusimple"),
    }
    _configurations: ClassVar[dict[str, str]] = {
        "scnn_resnet18": "scnn.resnet18_{}",
        "scnn_resnet34": "scnn.resnet34_{}",
        "scnn_resnet101": "scnn.resnet101_{}",
    }

    def raw(self, outputs: Any) -> dict[str, Tensor]:
        """Maps, enlarged as `LaneLoss` and `lane_as_segmentation_inference` do, and existence."""
        maps = interpolate(outputs["out"], size=self.test["input_size"], mode="bilinear", align_corners=True)
        return {"mask": maps, "existence": outputs["lane"]}


class BezierLaneNet(AutoDrive):
    """`configs/lane_detection/bezierlanenet`. Curves are fitted to labels by upstream's tool and encoded by its dataset."""

    differences: ClassVar[Mapping[str, Difference]] = {
        "image": IMAGE,
        "lanes": Difference(
            "On TuSimple's rows upstream writes the x of the nearest of 720 points of a curve, also on a row up to five pixels beyond "
            "its end. Ours gives the curve.",
            within=5.0,
        ),
    }
    variants: ClassVar[dict[str, tuple[Form, ...]]] = {
        "bezierlanenet_resnet18": ("culane", "tusimple", "llamas"),
        "bezierlanenet_resnet34": ("culane", "tusimple", "llamas"),
    }
    _configurations: ClassVar[dict[str, str]] = {
        "bezierlanenet_resnet18": "bezierlanenet.resnet18_{}_aug1b",
        "bezierlanenet_resnet34": "bezierlanenet.resnet34_{}_aug1b",
    }

    def __init__(self, checkout: Path, variant: str, form: Form) -> None:
        super().__init__(checkout, variant, form)
        self.threshold = self.model.thresh

    def raw(self, outputs: Any) -> dict[str, Tensor]:
        """Logits and curves; the mask, which only training uses, is compared by its loss."""
        return {"logits": outputs["logits"], "curves": outputs["curves"]}

    def ours(self, outputs: Any) -> dict[str, Tensor]:
        """The same."""
        return self.raw(outputs)

    def lanes(self, outputs: Any) -> list[list[Polyline]]:
        """`inference`, without its forward."""
        with self.upstream:
            self.model.thresh = self.threshold
            keys = (self.test["gap"], self.test["ppl"], self.form, self.test["max_lane"])
            found = self.model.inference(outputs, self._sizes(), *keys, forward=False)
        # Elsewhere a negative x is a point beyond the frame.
        read = present_points if self.form == "tusimple" else np.array
        return [[read(lane) for lane in lanes] for lanes in found]

    def drawn(self) -> tuple[Any, Any]:
        """Lanes that meet ahead, of more columns than are predicted, with less likely neighbours."""
        columns = -(-self.size.network[1] // 16)
        feet = torch.linspace(-0.2, 1.2, columns)
        steps = torch.linspace(0.0, 1.0, 4)
        x = feet[:, None] + (0.5 - feet[:, None]) * steps + 0.2 * steps * (1 - steps)
        y = (1.0 - 0.55 * steps).expand_as(x)
        logits = torch.full((2, columns), -6.0)
        logits[:, 4::6], logits[:, 5::6] = torch.linspace(3.1, 6.0, len(feet[4::6])), 3.0
        logits[1, 4] = -3.0
        drawn = {"logits": logits, "curves": torch.stack([x, y], dim=-1).expand(2, -1, -1, -1)}
        return dict(drawn), drawn

    def losses(self, images: Tensor, labels: Sequence[Sequence[Lane]]) -> dict[str, Tensor]:
        """`HungarianBezierLoss`, each term weighted as in its sum."""
        names = {"curve": "loss curve", "lane": "loss label", "mask": "loss seg"}
        with self.upstream, training_without_dropout(self.model):
            _, terms = self.criterion(images, [self._target(lanes) for lanes in labels], self.model)
        return {ours: CURVE_LOSS_WEIGHTS[ours] * terms[theirs] for ours, theirs in names.items()}

    def _target(self, lanes: Sequence[Lane]) -> dict[str, Tensor]:
        """tools/curve_fitting_tools/gen_bezier_annotations.py, the test transforms, and the dataset's last step. The mask is ours."""
        curve = import_module("utils.curve_utils")
        fitted = []
        for lane in lanes:
            fit = curve.BezierCurve(order=3)
            fit.get_control_points(*lane.points.astype(np.float64).T)
            fitted.append(np.round(fit.save_control_points(), 3))
        blank = PIL.Image.new("RGB", self.size.frame[::-1])
        _, target = self.transforms(blank, {"keypoints": np.array(fitted, dtype=np.float32)})
        geometry = plain_geometry(self.size.frame, self.size.crop, self.size.network)
        lines = [geometry.to_network(lane.points) for lane in lanes]
        mask = binary_mask(lines, geometry, width=self.options.lane_width, beyond=0)
        dataset = SimpleNamespace(bezier_sampler=curve.BezierSampler(order=3, num_sample_points=100))
        finish = import_module("utils.datasets.lane_as_bezier")._BezierLaneDataset._post_process
        found: dict[str, Tensor] = finish(dataset, {**target, "segmentation_mask": torch.from_numpy(mask).long()})
        return found


class LSTR(AutoDrive):
    """`configs/lane_detection/lstr`."""

    differences: ClassVar[Mapping[str, Difference]] = {
        "image": IMAGE,
        "losses, more lanes than slots": MORE_LANES_THAN_QUERIES,
    }
    variants: ClassVar[dict[str, tuple[Form, ...]]] = {
        "lstr_resnet18s_1x": ("tusimple",),
        "lstr_resnet18s_2x": ("culane",),
        "lstr_resnet34": ("culane",),
    }
    _configurations: ClassVar[dict[str, str]] = {
        "lstr_resnet18s_1x": "lstr.resnet18s_{}_aug",
        "lstr_resnet18s_2x": "lstr.resnet18s_{}_aug",
        "lstr_resnet34": "lstr.resnet34_{}_aug",
    }

    def __init__(self, checkout: Path, variant: str, form: Form) -> None:
        super().__init__(checkout, variant, form)
        self.threshold = self.model.thresh

    def make_comparable(self) -> None:
        """Keep the curves' pole out of the frame."""
        keep_pole_away(self.model.shared_embed)

    def raw(self, outputs: Any) -> dict[str, Tensor]:
        """The logits and curves of every decoder layer, the last one last."""
        layers = [*outputs["aux"], outputs]
        return {name: torch.stack([layer[name] for layer in layers], dim=1) for name in ("logits", "curves")}

    def lanes(self, outputs: Any) -> list[list[Polyline]]:
        """`inference`, without its forward."""
        with self.upstream:
            self.model.thresh = self.threshold
            found = self.model.inference(
                outputs,
                self._sizes(),
                self.test["gap"],
                self.test["ppl"],
                self.form,
                self.test["max_lane"],
                forward=False,
            )
        return [[present_points(lane) for lane in lanes] for lanes in found]

    def losses(self, images: Tensor, labels: Sequence[Sequence[Lane]]) -> dict[str, Tensor]:
        """`HungarianLoss`, each term summed over the decoder layers and weighted as in its sum."""
        names = {"lane": "label", "curve": "curve", "far": "upper", "near": "lower"}
        with self.upstream, training_without_dropout(self.model):
            _, terms = self.criterion(images, [self._target(lanes) for lanes in labels], self.model)
        return {
            ours: WEIGHTS[ours] * sum(value for name, value in terms.items() if name.startswith(f"loss {theirs}"))
            for ours, theirs in names.items()
        }

    def _target(self, lanes: Sequence[Lane]) -> dict[str, Tensor]:
        """What upstream's dataset gives: the ends from the labels' own points, the curves from labels with points on our rows."""
        rows = self.options.rows
        target = self._encoded([seen(lane, self.size, rows) for lane in lanes])
        return {**target, "keypoints": self._encoded([on_rows(lane, self.size, rows) for lane in lanes])["keypoints"]}

    def _encoded(self, polylines: Sequence[Polyline]) -> dict[str, Tensor]:
        """Upstream's test transforms and `generate_lane_label_dict`; x is -2 where a lane has no point."""
        height, width = self.size.frame
        # As its datasets have it: without lanes there is no second dimension.
        shape = (len(polylines), MOST_POINTS, 2) if polylines else (0,)
        keypoints = np.full(shape, -2.0, dtype=np.float32)
        for lane, polyline in zip(keypoints, polylines, strict=True):
            lane[: len(polyline)] = polyline
        blank = PIL.Image.new("RGB", (width, height))
        _, target = self.transforms(blank, {"keypoints": keypoints})
        found: dict[str, Tensor] = import_module("utils.datasets.utils").generate_lane_label_dict(target)
        return found

    def drawn(self) -> tuple[Any, Any]:
        """Four lanes and three queries that aren't any."""
        logits, curves = drawn_curves(self.options.queries, spread=1.8)
        theirs = {"logits": logits, "curves": curves}
        return theirs, {name: value[:, None] for name, value in theirs.items()}


def present_points(lane: Any) -> Polyline:
    """The points of a written lane that are there: on TuSimple x is -2 on rows without."""
    points = np.array(lane, dtype=np.float64).reshape(-1, 2)
    return points[points[:, 0] >= 0]
