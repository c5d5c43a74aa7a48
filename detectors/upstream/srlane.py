"""SRLane as passerer/SRLane builds it, its encoding of labels, decoding and writer. The repository has no licence: it is run from the
user's checkout alone, and nothing of it is here.

What isn't upstream's: the suppression, which is a CUDA kernel there (`line_suppression`), and what augments and evaluates.
"""

from __future__ import annotations

import runpy
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from detectors.meta import Form
from detectors.upstream.clrnet import Settings, inert
from detectors.upstream.isolation import Isolation, stand_in
from detectors.upstream.line_suppression import nms_of_ends
from detectors.upstream.reference import Polyline, UpstreamModel, polylines_of

CONFIGURATIONS = ("configs/datasets/culane.py", "configs/models/srlane_r18.py", "configs/exp_srlane_culane.py")
"""What a configuration is put together from, the last one on top."""

ROWS = np.arange(270, 590, 8)
"""Rows of the frame that lanes are written on: srlane/datasets/culane.py."""


def isolated(checkout: Path) -> Isolation:
    """The scope of SRLane's code. InputError where the folder isn't its checkout."""
    return Isolation(
        checkout,
        needs=["srlane/models/heads/srlane_head.py", *CONFIGURATIONS],
        stand_ins=[
            stand_in("srlane.ops", nms=nms_of_ends),
            stand_in("srlane.evaluation"),
            stand_in("srlane.evaluation.culane_metric"),
            stand_in("mmcv"),
            stand_in("tqdm", tqdm=None),
            *inert(),
        ],
    )


class SRLane(UpstreamModel):
    """`configs/exp_srlane_culane.py`."""

    repository = "SRLane"
    variants: ClassVar[dict[str, tuple[Form, ...]]] = {"srlane_resnet18": ("culane",)}
    model: Any

    def __init__(self, checkout: Path, variant: str, form: Form) -> None:
        self.upstream = isolated(checkout)
        with self.upstream:
            self.settings = Settings()
            for path in CONFIGURATIONS:
                self.settings.update(runpy.run_path(path))
            self.settings["backbone"] = {**self.settings["backbone"], "pretrained": False}
            import_module("srlane.models")
            self.model = import_module("srlane.models.registry").build_net(self.settings).eval()
            process = import_module("srlane.datasets.process")
            self.encoder = process.GenerateLaneLine(transforms=[], cfg=self.settings)
        self.threshold = self.settings.test_parameters.conf_threshold

    def encoded(self, polylines: list[Polyline]) -> dict[str, Any]:
        """`transform_annotation` of lanes (N, 2) in network pixels, clipped to the image."""
        with self.upstream:
            found: dict[str, Any] = self.encoder.transform_annotation([lane.tolist() for lane in polylines])
        return found

    def decoded(self, predictions: Tensor) -> list[list[Any]]:
        """`get_lanes`, by the threshold; inside of `upstream`."""
        settings = self.settings
        settings["test_parameters"] = {**settings["test_parameters"], "conf_threshold": self.threshold}
        seen = {"img_cut_height": settings.cut_height, "img_size": (settings.ori_img_h, settings.ori_img_w)}
        images = SimpleNamespace(data=[[seen] * len(predictions)])
        found: list[list[Any]] = self.model.roi_head.get_lanes(predictions, images)
        return found

    def written_lanes(self, lanes: list[Any]) -> list[Polyline]:
        """What the dataset's writer makes of lanes; inside of `upstream`."""
        dataset = SimpleNamespace(cfg=self.settings, h_samples=ROWS / self.settings.ori_img_h)
        written = import_module("srlane.datasets.culane").CULane.get_prediction_string(dataset, lanes)
        return polylines_of(written)
