"""Polar R-CNN as ShqWW/PolarRCNN builds it, its encoding of labels, loss, decoding and writers. The repository has no licence: it is
run from the user's checkout alone, and nothing of it is here.

What isn't upstream's: what augments, draws and evaluates; and the clipping of labels to the image, which is shapely's there.
"""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from detectors.meta import Form
from detectors.upstream.isolation import Isolation, cuda_is_here, stand_in
from detectors.upstream.reference import Polyline, UpstreamModel, polylines_of
from harness.files.scratch import scratch_folder

CONFIGURATIONS: dict[str, str] = {"polarrcnn_resnet18": "r18", "polarrcnn_resnet34": "r34", "polarrcnn_dla34": "dla34"}
"""Variant -> how the names of its configurations end."""

TUSIMPLE_ROWS = np.arange(160, 720, 10)
"""Rows that results are written on: Eval/utils/tusimple_eval_utils.py."""

LEAST_HEIGHT = 2
"""Rows that a label has to span: upstream's encoder divides by the points that it finds on them."""


def isolated(checkout: Path) -> Isolation:
    """The scope of Polar R-CNN's code. InputError where the folder isn't its checkout."""
    return Isolation(
        checkout,
        needs=[
            "Models/Head/roi_head/global_polar_head.py",
            "Config/polarrcnn_culane_r18.py",
            "Dataset/base_dataset.py",
        ],
        stand_ins=[
            # Suppression by distance, which its head without suppression imports as well.
            stand_in("FastNMS"),
            stand_in("FastNMS.fastnms", nms=None),
            stand_in("albumentations", Compose=lambda *given, **options: None, KeypointParams=lambda **options: None),
            stand_in("shapely"),
            stand_in("shapely.geometry", LineString=object, Polygon=object),
            stand_in("sklearn"),
            stand_in("sklearn.linear_model", LinearRegression=object),
            stand_in("tabulate", tabulate=None),
            stand_in("tqdm", tqdm=None),
        ],
        # Its coordinates and its loss name a GPU.
        patches=[cuda_is_here],
    )


class PolarRCNN(UpstreamModel):
    """`Config/polarrcnn_*.py`, without suppression, as they are."""

    repository = "PolarRCNN"
    variants: ClassVar[dict[str, tuple[Form, ...]]] = {
        "polarrcnn_resnet18": ("culane", "tusimple", "llamas"),
        "polarrcnn_resnet34": ("culane",),
        "polarrcnn_dla34": ("culane", "llamas"),
    }
    model: Any

    def __init__(self, checkout: Path, variant: str, form: Form) -> None:
        self.upstream = isolated(checkout)
        self.form: Form = form
        with self.upstream:
            module = import_module(f"Config.polarrcnn_{form}_{CONFIGURATIONS[variant]}")
            self.settings = settings_of(module)
            self.model = import_module("Models.build").build_model(self.settings).eval()
            self.criterion = import_module("Loss.overallloss").OverallLoss(cfg=self.settings)
            self.dataset = _dataset(self.settings)
        self.threshold = self.settings.conf_thres_nmsfree

    def encoded(self, polylines: list[Polyline]) -> dict[str, Any]:
        """`BaseTrSet.__getitem__` for lanes (N, 2) in network pixels, far to near, clipped to the image; at most `max_lanes` are
        learned, those that span the most rows.
        """
        with self.upstream:
            self.dataset.lanes = polylines
            found: dict[str, Any] = self.dataset[0]
        return {name: value for name, value in found.items() if name not in {"img", "plot_img"}}

    def decoded(self, predictions: dict[str, Tensor]) -> list[list[Any]]:
        """`pred_lanes_batch`, by the threshold; inside of `upstream`."""
        head = self.model.roi_head
        head.conf_thres = self.threshold
        # It changes what it is given.
        found: list[list[Any]] = type(head).pred_lanes_batch(
            head, {name: value.clone() for name, value in predictions.items()}
        )
        return found

    def written_lanes(self, lanes: list[Any]) -> list[Polyline]:
        """What the evaluators' writers make of lanes; inside of `upstream`."""
        height, width = self.settings.ori_img_h, self.settings.ori_img_w
        if self.form == "tusimple":
            write = import_module("Eval.utils.tusimple_eval_utils").write_output_tusimple_format
            places = np.array(json.loads(write(lanes, "", height, width))["lanes"]).reshape(-1, len(TUSIMPLE_ROWS))
            return [np.stack([x[x >= 0], TUSIMPLE_ROWS[x >= 0]], axis=1) for x in places]
        write = import_module("Eval.utils.eval_utils").write_output_culane_format
        with scratch_folder() as folder:
            file = folder / "lanes.txt"
            write(lanes, file, height, width, self.settings.cut_height)
            return polylines_of(file.read_text())


def settings_of(module: ModuleType) -> SimpleNamespace:
    """A configuration as `tools/get_config.py` reads it, without pretrained weights, augmentations and the modules that it imports."""
    read = {
        name: value
        for name, value in vars(module).items()
        if not (name.startswith("__") or isinstance(value, ModuleType))
    }
    return SimpleNamespace(**{**read, "pretrained": False, "train_augments": []})


def _dataset(settings: SimpleNamespace) -> Any:
    """Upstream's training set of one image that isn't there, with the labels that it is given as `lanes`."""
    base: Any = import_module("Dataset.base_dataset").BaseTrSet
    nothing = np.zeros((settings.img_h, settings.img_w, 3), dtype=np.uint8)
    least = LEAST_HEIGHT * settings.img_h / (settings.num_offsets - 1)

    class Labels(base):  # type: ignore[misc]
        lanes: list[Polyline]

        def get_sample(self, index: int) -> tuple[Any, list[Polyline]]:
            return nothing, self.lanes

        def augment(self, image: Any, lanes: list[Polyline]) -> tuple[Any, list[Polyline]]:
            return image, lanes

        def extend_lane2boundary(self, lanes: list[Polyline]) -> list[Polyline]:
            with np.errstate(divide="ignore", invalid="ignore"):
                extended = super().extend_lane2boundary(lanes)
            heights = [np.ptp(lane[:, 1]) if np.isfinite(lane).all() else 0.0 for lane in extended]
            tallest = sorted(range(len(extended)), key=lambda index: -heights[index])[: settings.max_lanes]
            return [extended[index] for index in sorted(tallest) if heights[index] >= least]

    return Labels(cfg=settings, transforms=lambda image: image)
