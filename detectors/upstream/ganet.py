"""References from Wolfwjs/GANet: its own configurations, model, loss, encoding of labels, decoding and clustering.

What isn't upstream's: mmcv and the parts of mmdet that aren't GANet's (`mmdet_forks`); the deformable convolution, which is a CUDA
kernel there (`deformable`); and labels come cropped and resized as albumentations does it with points.
"""

from __future__ import annotations

import runpy
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from detectors.meta import Form
from detectors.upstream.isolation import Isolation, replaced
from detectors.upstream.mmdet_forks import (
    ENCODERS,
    PATCHES,
    deform_conv,
    label_encoder,
    labelled,
    mmdet_fork,
    normalised_as,
)
from detectors.upstream.reference import BILINEAR, Difference, Frame, Polyline, Reference, Unavailable, needed
from detectors.upstream.running import training_without_dropout
from harness.lanes import Lane

NAMES = {
    "keypoint": "1_focalloss",
    "error": "2_regl1kploss",
    "offset": "3_regl1kploss",
    "aggregation": "4_smoothl1loss",
}
"""Our loss terms and upstream's, whose first, of the map of starts, counts nothing."""


def isolated(checkout: Path) -> Isolation:
    """The scope of GANet's code. InputError where the folder isn't its checkout."""
    return Isolation(
        checkout,
        needs=["mmdet/models/detectors/ganet.py", "tools/ganet", "configs/culane/final_exp_res18_s8.py"],
        stand_ins=mmdet_fork(checkout.resolve()),
        patches=PATCHES,
    )


def imported() -> None:
    """Have upstream's classes registered; inside its scope."""
    convolutions = import_module("mmdet.ops.dcn.deform_conv")
    vars(convolutions).update(deform_conv=deform_conv)
    vars(import_module("mmdet.ops")).update(DeformConv=convolutions.DeformConv, DeformConv1D=convolutions.DeformConv1D)
    for module in (
        "core.bbox.assigners.lane_assigner",
        "models.backbones.resnet",
        "models.dense_heads",
        "models.necks.dcn_fpn",
        "models.losses.smooth_l1_loss",
        "models.losses.ganetloss",
        "models.detectors.ganet",
    ):
        import_module(f"mmdet.{module}")


class GANet(Reference):
    """`configs/*/final_exp_*.py`. Outputs of its forward are those of the head: starts, keypoints, offsets and errors."""

    repository = "GANet"
    variants: ClassVar[dict[str, tuple[Form, ...]]] = dict.fromkeys(
        ("ganet_resnet18", "ganet_resnet34", "ganet_resnet101"), ("culane", "tusimple")
    )
    differences: ClassVar[Mapping[str, Difference]] = {
        "image": BILINEAR,
        "lanes as decoded": Difference(
            "Upstream cuts the fractions of its points off, before they are written or read on TuSimple's rows. Ours keeps them.",
            within=1.5,
        ),
    }
    model: Any

    def __init__(self, checkout: Path, variant: str, form: Form) -> None:
        self.upstream = isolated(checkout)
        depth = variant.removeprefix("ganet_resnet")
        self.form: Form = form
        with self.upstream:
            path = Path("configs", form, f"final_exp_res{depth}_s{4 if depth == '101' else 8}.py")
            self.settings = runpy.run_path(str(path))
            imported()
            options = {**self.settings["model"], "pretrained": None}
            self.model = import_module("mmdet.models.builder").build_detector(options).eval()
        self.threshold = self.settings["kpt_thr"]

    def prepared(self, frame: Frame) -> Tensor:
        """The transforms that `Alaug` makes of `val_al_pipeline`, then the normalisation.

        They are called one after the other: what `Alaug` says to all of them at once, not every release of albumentations takes.
        """
        with self.upstream:
            transforms = needed("mmdet.datasets.pipelines.alaug", "its transforms need")
            made = transforms.Alaug(self.settings["val_al_pipeline"])
            image = np.ascontiguousarray(frame[..., ::-1])
            for transform in made.transforms:
                image = transform(image=image)["image"]
        return self.normalised(torch.from_numpy(np.ascontiguousarray(image[..., ::-1])).permute(2, 0, 1)[None])

    def normalised(self, images: Tensor) -> Tensor:
        """`img_norm_cfg`, in OpenCV's order of channels."""
        return normalised_as(self.settings, images)

    def forward(self, images: Tensor) -> Any:
        """The head's maps (B, C, h, w)."""
        with self.upstream:
            return self.model.forward_dummy(images)

    def raw(self, outputs: Any) -> dict[str, Tensor]:
        """Keypoints, offsets and errors."""
        return dict(zip(("keypoint", "offset", "error"), outputs[1:], strict=True))

    def lanes(self, outputs: Any) -> list[list[Polyline]]:
        """`forward_test` of the head and the test programs' clustering, image by image, as upstream's testing is."""
        names = ("cluster_thr", "cluster_by_center_thr", "group_fast")
        settings, head = self.settings, type(self.model.bbox_head)
        with self.upstream:
            places = import_module("mmdet.models.dense_heads.ganet_head")
            cluster = import_module("tools.ganet.post_process").PostProcessor(
                **{name: settings[name] for name in names}
            )
            adjust = import_module(f"tools.ganet.{self.form}.test_dataset").adjust_result
            found = []
            here = partial(places.make_coordmat, device=outputs[0].device)
            with replaced(places, "make_coordmat", here)():
                for maps in zip(*(output.split(1) for output in outputs), strict=True):
                    seeds = head.forward_test(self._head(maps), [None], kpt_thr=self.threshold)
                    lanes, centers = cluster(seeds, settings["hm_down_scale"])
                    shape = settings["img_scale"][::-1]
                    found.append(adjust(lanes, centers, settings["crop_bbox"], shape, settings["points_thr"])[0])
        return [[np.array(lane, dtype=np.float64) for lane in lanes] for lanes in found]

    def _head(self, maps: Sequence[Tensor]) -> Any:
        """Upstream's head where it has spoken already."""
        own = self.model.bbox_head
        branches = zip(
            ("centerpts_head", "keypts_head", "offset_head", "reg_head"),
            ("hm", "hm", "offset_map", "offset_map"),
            maps,
            strict=True,
        )
        said = {branch: lambda features, name=name, value=value: {name: value} for branch, name, value in branches}
        return SimpleNamespace(
            **said,
            **{name: getattr(own, name) for name in ("hm_idx", "upsample_module", "root_thr", "ktdet_decode_fast")},
        )

    def written(self, lane: Polyline) -> Polyline:
        """Without fractions."""
        return np.trunc(lane)

    def drawn(self) -> tuple[Any, Any] | None:
        """Lanes that lean and bend anywhere, some of whose keypoints are unsure of themselves or point astray."""
        generator = torch.Generator().manual_seed(0)
        stride = self.settings["hm_down_scale"]
        width, height = (side // stride for side in self.settings["img_scale"])

        def noise(*size: int) -> Tensor:
            return torch.randn(*size, generator=generator)

        logits, offset, error = (
            -4 + noise(2, 1, height, width),
            3 * noise(2, 2, height, width),
            noise(2, 2, height, width),
        )
        rows = torch.arange(height - 1, height // 4, -1)
        up = (height - 1 - rows) / height
        for image, foot, way, bend in (
            (0, 0.1, 0.5, 0.1),
            (0, 0.45, 0.1, -0.2),
            (0, 0.9, -0.4, 0.0),
            (1, 0.3, 0.3, 0.2),
            (1, 0.6, -0.1, 0.1),
        ):
            places = (width - 1) * (foot + way * up + bend * up**2)
            columns = places.long().clamp(0, width - 1)
            steps = torch.stack([places[0] - columns, rows[0] - rows])
            logits[image, 0, rows, columns] = 2 + noise(len(rows))
            offset[image, :, rows, columns] = steps + 0.6 * noise(2, len(rows))
            error[image, :, rows, columns] = torch.stack([places - columns, torch.rand(len(rows), generator=generator)])
        return [logits, logits, offset, error], {"keypoint": logits, "offset": offset, "error": error}

    def losses(self, images: Tensor, labels: Sequence[Sequence[Lane]]) -> dict[str, Tensor]:
        """`GANet.forward_train` of targets that `CollectLanePoints` encodes."""
        with self.upstream:
            targets = [self._target(lanes) for lanes in labels]
            batch = {name: torch.stack([target[name] for target in targets]) for name in targets[0]}
            with training_without_dropout(self.model):
                terms = self.model.forward_train(images, None, **batch)
        return {ours: terms[theirs] for ours, theirs in NAMES.items()}

    def _target(self, lanes: Sequence[Lane]) -> dict[str, Tensor]:
        encode = label_encoder(self.settings)
        if len(lanes) > 6:
            raise Unavailable("its encoder has no place for a seventh lane, and ends the training")
        sample = labelled(self.settings, lanes)
        # Geometries of several parts could be listed before shapely 2.
        with replaced(import_module(ENCODERS).MultiLineString, "__iter__", lambda self: iter(self.geoms))():
            encode.target(sample)
        return {name: value for name, value in sample.items() if isinstance(value, Tensor)}
