"""References from hirotomusiker/CLRerNet: its own model, assignment, losses, encoding of labels, decoding and writing.

What isn't upstream's: OpenMMLab's packages (`openmmlab`); the suppression, which is a CUDA kernel there (`line_suppression`); and
masks, which come with the dataset there and are drawn as ours draws them.
"""

from __future__ import annotations

import runpy
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from detectors.meta import Form
from detectors.parts.masks import slot_mask
from detectors.registry import find_adapter
from detectors.upstream.isolation import Isolation, bare_package, replaced, stand_in
from detectors.upstream.line_suppression import nms
from detectors.upstream.openmmlab import Options, mmdet3
from detectors.upstream.reference import BILINEAR, Difference, Frame, Polyline, Reference, needed, polylines_of
from detectors.upstream.running import training_without_dropout
from harness.lanes import Lane, plain_geometry

CONFIGS = "configs/clrernet"

TERMS = {"classification": "cls", "regression": "reg_xytl", "line": "iou", "mask": "seg"}
"""Our loss terms -> how upstream's end."""


def isolated(checkout: Path) -> Isolation:
    """The scope of CLRerNet's code. InputError where the folder isn't its checkout.

    Left out are two packages' `__init__`, which import transforms that not all of this needs.
    """
    return Isolation(
        checkout,
        needs=["libs/models", "libs/core", CONFIGS],
        stand_ins=[
            *mmdet3(),
            bare_package("libs.datasets", checkout / "libs" / "datasets"),
            bare_package("libs.datasets.pipelines", checkout / "libs" / "datasets" / "pipelines"),
            stand_in("nms", nms=nms),
            stand_in("p_tqdm", p_map=None, t_map=None),
            stand_in("tqdm", tqdm=None),
        ],
    )


class CLRerNet(Reference):
    """`configs/clrernet/culane`."""

    repository = "CLRerNet"
    variants: ClassVar[dict[str, tuple[Form, ...]]] = {"clrernet_dla34": ("culane",), "clrernet_dla34_ema": ("culane",)}
    differences: ClassVar[Mapping[str, Difference]] = {
        "image": BILINEAR,
        "lanes as decoded": Difference(
            "In upstream's loss an x is a share of the network's width - 1, in its decoding of the whole width, which moves lanes to "
            "the right by up to 1/799 of the frame's width. Ours means the same by an x in both.",
            within=3.0,
        ),
    }
    model: Any

    def __init__(self, checkout: Path, variant: str, form: Form) -> None:
        self.upstream = isolated(checkout)
        meta = find_adapter(variant).meta
        self.size = meta.configurations[form].input
        self.options: Any = find_adapter(variant).detector.architecture(**meta.configurations[form].architecture)
        with self.upstream:
            folder = Path(CONFIGS)
            options = Options(runpy.run_path(str(folder / "base_clrernet.py"))["model"])
            changes = runpy.run_path(str(folder / form / f"clrernet_{form}_{meta.name.removeprefix('clrernet_')}.py"))
            options.test_cfg.update(changes["model"]["test_cfg"])
            self.pipeline = runpy.run_path(str(folder / form / f"dataset_{form}_clrernet.py"))["val_al_pipeline"]
            for part in ("models", "core.bbox", "core.anchor"):
                import_module(f"libs.{part}")
            options.backbone.pretrained = False
            options.pop("data_preprocessor")
            self.model = import_module("mmdet.registry").MODELS.build(options).eval()
        self.threshold = options.test_cfg.conf_threshold

    def prepared(self, frame: Frame) -> Tensor:
        """`val_al_pipeline`, then the division of its data preprocessor."""
        with self.upstream:
            transform = needed("libs.datasets.pipelines.alaug", "its transforms need").Alaug(self.pipeline)
            image = transform({"img": np.ascontiguousarray(frame[..., ::-1]), "gt_points": []})["img"]
        return torch.from_numpy(image).permute(2, 0, 1)[None] / 255.0

    def normalised(self, images: Tensor) -> Tensor:
        """What its data preprocessor is configured to do: a division by 255, in OpenCV's order of channels."""
        return images.flip(1).float() / 255.0

    def forward(self, images: Tensor) -> Any:
        """The head's predictions of every stage."""
        with self.upstream:
            return self.model.bbox_head(self.model.extract_feat(images))

    def raw(self, outputs: Any) -> dict[str, Tensor]:
        """Logits, lines and places of every stage, starts from the bottom up."""
        keys = ("cls_logits", "anchor_params", "lengths", "xs")
        logits, lines, lengths, places = (torch.stack([stage[key] for stage in outputs], dim=1) for key in keys)
        lines = torch.cat([1 - lines[..., :1], lines[..., 1:], lengths], dim=-1)
        return {"logits": logits, "lines": lines, "places": places}

    def ours(self, outputs: Any) -> dict[str, Tensor]:
        """The same."""
        lanes = outputs["lanes"]
        return {"logits": lanes[..., :2], "lines": lanes[..., 2:6], "places": lanes[..., 6:]}

    def lanes(self, outputs: Any) -> list[list[Polyline]]:
        """`get_lanes` and the evaluator's writer."""
        with self.upstream:
            return [self.written_lanes(lanes) for lanes in self.decoded(outputs[-1])]

    def decoded(self, predictions: Mapping[str, Tensor]) -> list[list[Any]]:
        """Lanes of a stage's predictions, by the threshold; inside of `upstream`."""
        head = self.model.bbox_head
        head.test_cfg.conf_threshold = self.threshold
        found: list[list[Any]] = head.get_lanes(predictions)[0]
        return found

    def written_lanes(self, lanes: list[Any]) -> list[Polyline]:
        """What the evaluator's writer makes of lanes; inside of `upstream`."""
        options = self.model.bbox_head.test_cfg
        metric = import_module("libs.datasets.metrics.culane_metric").CULaneMetric
        writer = SimpleNamespace(ori_w=options.ori_img_w, ori_h=options.ori_img_h, y_step=2)
        return polylines_of(metric.get_prediction_string(writer, lanes))

    def written(self, lane: Polyline) -> Polyline:
        """In shares of the network's whole width."""
        width = self.size.network[1]
        return np.stack([lane[:, 0] * width / (width - 1), lane[:, 1]], axis=1)

    def drawn(self) -> tuple[Any, Any]:
        """Slightly bent lanes from anywhere to anywhere, many of them beside each other, some of which leave the frame."""
        generator = torch.Generator().manual_seed(0)

        def random(*size: int) -> Tensor:
            return torch.rand(4, 40, *size, generator=generator)

        foot, way, bend = (random(1) * spread - shift for spread, shift in ((1.6, 0.3), (2.0, 1.0), (0.6, 0.3)))
        up = torch.linspace(0, 1, self.options.rows)
        start, lengths = 0.5 * random(1), 0.2 + 0.7 * random(1)
        places = foot + way * up + bend * up**2 + 1e-3 * random(self.options.rows)
        logits = 4 * random(2)
        line = torch.cat([start, foot, random(1)], dim=-1)
        upstream = {
            "cls_logits": logits,
            "anchor_params": torch.cat([1 - start, line[..., 1:]], dim=-1),
            "lengths": lengths,
            "xs": places,
        }
        return [upstream], {"lanes": torch.cat([logits, line, lengths, places], dim=-1)[:, None]}

    def losses(self, images: Tensor, labels: Sequence[Sequence[Lane]]) -> dict[str, Tensor]:
        """`CLRerHead.loss` of targets that `PackCLRNetInputs` encodes."""
        # ROIGather has the probability of its dropout in the call.
        still = replaced(F, "dropout", lambda features, **options: features)
        with self.upstream, still(), training_without_dropout(self.model):
            samples = [
                SimpleNamespace(lanes=self._target(lanes), gt_masks=[mask], img_shape=(*self.size.network, 3))
                for lanes, mask in zip(labels, self._masks(labels), strict=True)
            ]
            terms = self.model.bbox_head.loss(self.model.extract_feat(images), samples)
        return {ours: terms[f"loss_{theirs}"] for ours, theirs in TERMS.items()}

    def _target(self, lanes: Sequence[Lane]) -> Tensor:
        """What upstream's dataset and pipeline give for labels: lanes of two points or more, in network pixels, far outside or not."""
        top, left, bottom, right = self.size.crop
        scale = np.array([self.size.network[1] / (right - left), self.size.network[0] / (bottom - top)])
        points = [(lane.points.astype(np.float64) - [left, top]) * scale for lane in lanes if len(lane.points) > 1]
        encode = import_module("libs.datasets.pipelines.lane_formatting").PackCLRNetInputs().convert_targets
        found: Tensor = encode({"gt_points": [lane.reshape(-1) for lane in points]})["lanes"]
        return found

    def _masks(self, labels: Sequence[Sequence[Lane]]) -> list[npt.NDArray[np.uint8]]:
        """Masks (H, W) as ours draws them."""
        geometry = plain_geometry(self.size.frame, self.size.crop, self.size.network)
        slots, width = self.options.slots, self.options.mask_width
        drawn = [[geometry.to_network(lane.points) for lane in lanes] for lanes in labels]
        return [slot_mask(lanes, self.size.network, slots=slots, width=width)[0] for lanes in drawn]
