"""The reference from cfzd/Ultra-Fast-Lane-Detection-v2: its own network, test transforms, writers of results, labels and losses.

Its labels come from points of the label files, which a compiled function for GPUs interpolates on the anchors: our own does it here,
and the rest of upstream's loader runs. Published CULane figures average test-time shifts of the features; compared is the way without.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from detectors.meta import Form
from detectors.parts.row_wise import placed_lanes
from detectors.parts.slots import LANES
from detectors.registry import find_adapter
from detectors.ufldv2 import Architecture, anchors_of
from detectors.upstream.isolation import Isolation, cuda_is_here, replaced, stand_in
from detectors.upstream.reference import Difference, Polyline
from detectors.upstream.running import training_without_dropout
from detectors.upstream.ultra_fast_lane_detection import (
    DATASETS,
    IMAGE,
    UltraFast,
    culane_lanes,
    drawn_locations,
    evaluation_stand_ins,
    tusimple_lanes,
)
from harness.files.scratch import scratch_folder
from harness.lanes import Lane, plain_geometry

ABSENT = -99999.0
"""Coordinate of a point that a lane doesn't have: scripts/cache_culane_ponits.py."""

OUTPUTS = {
    "loc_row": "row_location",
    "loc_col": "column_location",
    "exist_row": "row_existence",
    "exist_col": "column_existence",
}
"""Upstream's names of the outputs -> ours."""

TERMS = {
    "cls_loss": "row_location",
    "cls_loss_col": "column_location",
    "cls_ext": "row_existence",
    "cls_ext_col": "column_existence",
    "mean_loss_row": "row_expectation",
    "mean_loss_col": "column_expectation",
}
"""Upstream's names of the loss terms -> ours."""

WHOLE_CROP = Difference(
    "Upstream resizes and keeps the lower rows then. Ours cuts first, at a whole pixel of the frame, which on CULane moves the image "
    "by up to a fifth of a network pixel. " + IMAGE.why,
    within=2.0,
)


def isolated(checkout: Path, configuration: str) -> Isolation:
    """The scope of the repository's code, as its programs run with a configuration. InputError where the folder isn't its checkout.

    Left out are the loader of NVIDIA DALI, whose pipeline augments, and the interpolation that is compiled for GPUs.
    """
    return Isolation(
        checkout,
        needs=["configs/culane_res18.py", "model/model_culane.py", "data/dali_data.py"],
        stand_ins=[
            *evaluation_stand_ins(),
            stand_in("ujson"),
            stand_in("pathspec"),
            stand_in("nvidia"),
            stand_in("nvidia.dali"),
            stand_in("nvidia.dali.pipeline", Pipeline=None),
            stand_in("nvidia.dali.types"),
            stand_in("nvidia.dali.fn"),
            stand_in("nvidia.dali.plugin"),
            stand_in("nvidia.dali.plugin.pytorch", DALIGenericIterator=None, LastBatchPolicy=None),
            stand_in("my_interp", run=_interpolated),
            stand_in("utils.config", Config=SimpleNamespace(fromfile=lambda path: import_module(f"configs.{path}"))),
        ],
        patches=[cuda_is_here, replaced(sys, "argv", ["parity", configuration])],
    )


def _interpolated(points: Tensor, lines: Tensor, direction: int) -> Tensor:
    """Where polylines (B, L, N, 2) cross the rows (direction 0) or columns (1) `lines`: points (B, L, A, 2), -1 where they don't.

    What my_interp/my_interp_cuda_kernel.cu computes: of the segments without an end beyond the left or upper edge that reach a line,
    the last one counts.
    """
    along = 1 - direction
    found = torch.full((*points.shape[:2], len(lines), 2), -1.0)
    found[..., along] = lines
    if points.shape[2] < 2:
        return found
    start, end = points[..., :-1, :], points[..., 1:, :]
    to_start, to_end = start[..., along, None] - lines, end[..., along, None] - lines
    reached = ((start >= 0) & (end >= 0)).all(-1)[..., None] & (to_start * to_end <= 0)
    # The first of the largest is the last segment that is reached.
    order = torch.arange(1, reached.shape[2] + 1)[:, None]
    last = (reached * order).argmax(2, keepdim=True)
    share = to_end.abs() / (to_start - to_end).abs()
    places = end[..., direction, None] + share * (start[..., direction, None] - end[..., direction, None])
    found[..., direction] = torch.where(reached.any(2), places.gather(2, last)[..., 0, :], -1.0)
    return found


def _with_edges(polyline: Polyline) -> Polyline:
    """The same polyline with points where it crosses the left and the upper edge: upstream drops stretches that end beyond these."""
    for axis in (0, 1):
        start, end = polyline[:-1, axis], polyline[1:, axis]
        (segments,) = np.nonzero(start * end < 0)
        share = (start[segments] / (start[segments] - end[segments]))[:, None]
        crossings = polyline[segments] + share * (polyline[segments + 1] - polyline[segments])
        crossings[:, axis] = 0.0
        polyline = np.insert(polyline, segments + 1, crossings, axis=0)
    return polyline


class UFLDv2(UltraFast):
    """`configs/culane_res*.py` and `configs/tusimple_res*.py`."""

    repository = "Ultra-Fast-Lane-Detection-v2"
    variants: ClassVar[dict[str, tuple[Form, ...]]] = {
        "ufldv2_resnet18": ("culane", "tusimple"),
        "ufldv2_resnet34": ("culane", "tusimple"),
    }
    differences: ClassVar[Mapping[str, Difference]] = {
        "image": WHOLE_CROP,
        "lanes as decoded": Difference(
            "On TuSimple upstream cuts places off to whole pixels. Ours gives them as they are.", within=1.0
        ),
        "losses, no lane": Difference(
            "Upstream's means over no anchor aren't numbers. Ours are 0; what it says of existence is the same.",
            terms=("row_location", "column_location", "row_expectation", "column_expectation"),
        ),
    }

    def __init__(self, checkout: Path, variant: str, form: Form) -> None:
        meta = find_adapter(variant).meta
        self.upstream = isolated(checkout, f"{form}_res{meta.backbone.removeprefix('resnet')}")
        self.form: Form = form
        self.size = meta.configurations[form].input
        self.options = Architecture(**meta.configurations[form].architecture)
        with self.upstream:
            self.common = import_module("utils.common")
            _, self.configuration = self.common.merge_config()
            configuration = self.configuration
            self.losses_of = import_module("utils.factory").get_loss_dict(configuration)
            # As `get_model` does, which asks for pretrained weights.
            self.model = import_module(f"model.model_{form}").parsingNet(
                pretrained=False,
                backbone=configuration.backbone,
                num_grid_row=configuration.num_cell_row,
                num_cls_row=configuration.num_row,
                num_grid_col=configuration.num_cell_col,
                num_cls_col=configuration.num_col,
                num_lane_on_row=configuration.num_lanes,
                num_lane_on_col=configuration.num_lanes,
                use_aux=configuration.use_aux,
                input_height=configuration.train_height,
                input_width=configuration.train_width,
                fc_norm=configuration.fc_norm,
            )
        self.model.eval()

    def _test_set(self, folder: Path) -> Any:
        loader, configuration = import_module("data.dataloader").get_test_loader, self.configuration
        sizes = (configuration.crop_ratio, configuration.train_width, configuration.train_height)
        return loader(1, str(folder), DATASETS[self.form], False, *sizes).dataset

    def forward(self, images: Tensor) -> Any:
        """The model's own."""
        with self.upstream:
            return self.model(images)

    def raw(self, outputs: Any) -> dict[str, Tensor]:
        """Locations and existence on rows and columns."""
        return {OUTPUTS[name]: value for name, value in outputs.items()}

    def lanes(self, outputs: Any) -> list[list[Polyline]]:
        """`generate_lines_local` and `generate_lines_col_local`, as `run_test` calls them, and `generate_tusimple_lines`."""
        rows, columns = self.configuration.row_anchor, self.configuration.col_anchor
        parts = [outputs[name] for name in ("loc_row", "exist_row", "loc_col", "exist_col")]
        with self.upstream:
            wrapper = import_module("evaluation.eval_wrapper")
            if self.form == "tusimple":
                write = wrapper.generate_tusimple_lines
                found = [write(*image, rows, columns, mode="4row") for image in zip(*parts, strict=True)]
                return [tusimple_lanes(lanes) for lanes in found]
            with scratch_folder() as folder:
                names = [f"{index}.jpg" for index in range(len(parts[0]))]
                wrapper.generate_lines_local("CULane", *parts[:2], names, str(folder), "normal", row_anchor=rows)
                wrapper.generate_lines_col_local("CULane", *parts[2:], names, str(folder), "normal", col_anchor=columns)
                return culane_lanes(folder, names)

    def written(self, lane: Polyline) -> Polyline:
        """On TuSimple upstream's whole pixels."""
        if self.form == "culane":
            return lane
        return np.stack([np.floor(lane[:, 0]), lane[:, 1]], axis=1)

    def drawn(self) -> tuple[Any, Any]:
        """Outputs for two frames: four lanes; two lanes, one of them on too few anchors."""
        options, theirs = self.options, {}
        sizes = {"row": (options.row_anchors, options.row_cells), "col": (options.column_anchors, options.column_cells)}
        for name, (anchors, cells) in sizes.items():
            theirs[f"loc_{name}"] = torch.stack([drawn_locations(anchors, cells, cells, seed) for seed in range(2)])
            exists = torch.full((2, anchors, LANES), 3.0)
            exists[0, : anchors // 3] = exists[1, :, 0] = exists[1, 2:, 2] = -3.0
            theirs[f"exist_{name}"] = torch.stack([-exists, exists], dim=1)
        return theirs, {OUTPUTS[name]: value for name, value in theirs.items()}

    def losses(self, images: Tensor, labels: Sequence[Sequence[Lane]]) -> dict[str, Tensor]:
        """The weighted terms of `get_loss_dict`; those without weight are left out."""
        with self.upstream, training_without_dropout(self.model):
            return self.weighted(self.model(images), self._targets(labels))

    def weighted(self, outputs: Mapping[str, Tensor], labels: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The terms of outputs and of labels as `TrainCollect` gives them; inside of `upstream`."""
        data = self.common.inference(lambda _: outputs, {"images": None, **labels}, DATASETS[self.form])
        return self._weighted(data, TERMS)

    def _targets(self, labels: Sequence[Sequence[Lane]]) -> dict[str, Tensor]:
        """The labels of `TrainCollect` without augmentation."""
        geometry = plain_geometry(self.size.frame, self.size.crop, self.size.network)
        families = anchors_of(self.size, self.options)
        placed = [placed_lanes(lanes, geometry, families) for lanes in labels]
        polylines = [
            {slot: _with_edges(geometry.to_original(lane.polyline)) for slot, lane in lanes.items()} for lanes in placed
        ]
        count = max((len(line) for lanes in polylines for line in lanes.values()), default=1)
        points = torch.full((len(labels), LANES, count, 2), ABSENT)
        for image, lanes in enumerate(polylines):
            for slot, line in lanes.items():
                points[image, slot, : len(line)] = torch.from_numpy(line)
        collect = import_module("data.dali_data").TrainCollect
        with _without_pipeline(collect, points):
            configuration = self.configuration
            loader = collect(
                *(len(labels), 0, "", "", 0, 1),
                *(configuration.row_anchor, configuration.col_anchor),
                *(configuration.train_width, configuration.train_height),
                *(configuration.num_cell_row, configuration.num_cell_col),
                *(configuration.dataset, configuration.crop_ratio),
            )
            found: dict[str, Tensor] = next(loader)
        return {name: value for name, value in found.items() if name.startswith("labels")}


@contextmanager
def _without_pipeline(collect: Any, points: Tensor) -> Iterator[None]:
    """In place of DALI's pipeline, which reads and augments, its loader gets the points of a batch."""
    module = sys.modules[collect.__module__]
    batch = [{"images": None, "seg_images": None, "points": points}]

    def nothing(*arguments: Any, **options: Any) -> Any:
        return SimpleNamespace(n=len(points))

    def batches(*arguments: Any, **options: Any) -> Iterator[Any]:
        return iter([batch])

    changes = {
        "LaneExternalIterator": nothing,
        "ExternalSourceTrainPipeline": nothing,
        "DALIGenericIterator": batches,
        "LastBatchPolicy": SimpleNamespace(PARTIAL=None),
    }
    with ExitStack() as stack:
        for name, value in changes.items():
            stack.enter_context(replaced(module, name, value)())
        yield
