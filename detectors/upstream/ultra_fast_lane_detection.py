"""The reference from cfzd/Ultra-Fast-Lane-Detection: its own network, test transforms, writers of results, labels and losses.

Its labels are read from masks that come with the datasets, of lanes 16 px wide, as the mean of a lane's pixels in a row. The masks are
drawn here, and show a lane by a pixel where it crosses the row, so that both learn from the same cells.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image
import torch
from torch import Tensor

from detectors.meta import Form
from detectors.parts.masks import placed_mask
from detectors.parts.row_wise import PlacedLane, placed_lanes
from detectors.parts.slots import LANES
from detectors.registry import find_adapter
from detectors.ufld import Architecture, label_anchors
from detectors.upstream.isolation import Isolation, cuda_is_here, stand_in
from detectors.upstream.reference import PILLOW, Difference, Frame, Polyline, Reference, polylines_of, resized_otherwise
from detectors.upstream.running import training_without_dropout
from harness.files.scratch import scratch_folder
from harness.lanes import Lane, plain_geometry

IMAGE = resized_otherwise(PILLOW, within=2.0)

TUSIMPLE_ROWS = range(160, 711, 10)
"""Rows that results are written on: `run_test_tusimple` of both versions, evaluation/eval_wrapper.py."""

DATASETS: dict[Form, str] = {"culane": "CULane", "tusimple": "Tusimple"}
"""Form -> upstream's name of the dataset."""

TERMS = {"cls_loss": "location", "aux_loss": "segmentation", "relation_loss": "similarity", "relation_dis": "shape"}
"""Upstream's names of the loss terms -> ours."""


def evaluation_stand_ins() -> list[Any]:
    """What both versions import to log, to count results and to keep a copy of their code."""
    return [
        stand_in("torch.utils.tensorboard", SummaryWriter=object),
        stand_in("tqdm"),
        stand_in("sklearn"),
        stand_in("sklearn.linear_model", LinearRegression=object),
    ]


def isolated(checkout: Path) -> Isolation:
    """The scope of the repository's code. InputError where the folder isn't its checkout."""
    return Isolation(
        checkout,
        needs=["configs/culane.py", "model/model.py", "data/constant.py"],
        stand_ins=evaluation_stand_ins(),
        patches=[cuda_is_here],
    )


class UltraFast(Reference):
    """What the references of both versions share. `losses_of` is what `get_loss_dict` gives."""

    form: Form
    losses_of: Mapping[str, Sequence[Any]]
    model: Any

    def prepared(self, frame: Frame) -> Tensor:
        """`get_test_loader`: what its data set reads from a file that holds the frame."""
        with self.upstream, folder_of(self.form, frame) as folder:
            image: Tensor = self._test_set(folder)[0][0]
        return image[None]

    def normalised(self, images: Tensor) -> Tensor:
        """The transforms behind its resize."""
        with self.upstream, folder_of(self.form, np.zeros((1, 1, 3), np.uint8)) as folder:
            return transformed(images, self._test_set(folder).img_transform.transforms[1:])

    @abstractmethod
    def _test_set(self, folder: Path) -> Any:
        """The data set of `get_test_loader` on a folder as `folder_of` makes it; inside of `upstream`."""

    def _weighted(self, data: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Tensor]:
        """The terms of `get_loss_dict` that have a weight, under `names` of ours; inside of `upstream`."""
        parts = zip(*(self.losses_of[key] for key in ("name", "op", "weight", "data_src")), strict=True)
        return {
            names[name]: weight * loss(*(data[source] for source in sources))
            for name, loss, weight, sources in parts
            if weight
        }


class UFLD(UltraFast):
    """`configs/culane.py` and `configs/tusimple.py`."""

    repository = "Ultra-Fast-Lane-Detection"
    variants: ClassVar[dict[str, tuple[Form, ...]]] = {
        "ufld_resnet18": ("culane", "tusimple"),
        "ufld_resnet34": ("culane", "tusimple"),
        "ufld_resnet101": ("culane", "tusimple"),
    }
    differences: ClassVar[Mapping[str, Difference]] = {
        "image": IMAGE,
        "lanes as decoded": Difference(
            "Upstream writes whole pixels, truncated on CULane and rounded on TuSimple. Ours gives the places as they are.",
            within=1.0,
        ),
        "losses, more lanes than slots": Difference(
            "Where lanes lie on the same pixel, upstream's masks show one of them. Ours learns all.", within=0.01
        ),
    }

    def __init__(self, checkout: Path, variant: str, form: Form) -> None:
        self.upstream = isolated(checkout)
        meta = find_adapter(variant).meta
        self.form: Form = form
        self.size = meta.configurations[form].input
        self.options = Architecture(**meta.configurations[form].architecture)
        with self.upstream:
            self.configuration = import_module(f"configs.{form}")
            anchors = getattr(import_module("data.constant"), f"{form}_row_anchor")
            self.losses_of = import_module("utils.factory").get_loss_dict(self.configuration)
            self.model = import_module("model.model").parsingNet(
                pretrained=False,
                backbone=meta.backbone.removeprefix("resnet"),
                cls_dim=(self.configuration.griding_num + 1, len(anchors), self.configuration.num_lanes),
                use_aux=self.configuration.use_aux,
            )
        self.model.eval()

    def _test_set(self, folder: Path) -> Any:
        return import_module("data.dataloader").get_test_loader(1, str(folder), DATASETS[self.form], False).dataset

    def forward(self, images: Tensor) -> Any:
        """The model's own: logits of the rows and, where it computes it, of the auxiliary head."""
        with self.upstream:
            outputs = self.model(images)
        return outputs if self.model.use_aux else (outputs, None)

    def raw(self, outputs: Any) -> dict[str, Tensor]:
        """Those of the rows; ours has an auxiliary head in training alone."""
        return {"location": outputs[0]}

    def lanes(self, outputs: Any) -> list[list[Polyline]]:
        """`generate_lines`, as `run_test` calls it, and `generate_tusimple_lines`."""
        logits, shape, cells = outputs[0], self.size.network, self.configuration.griding_num
        with self.upstream:
            wrapper = import_module("evaluation.eval_wrapper")
            if self.form == "tusimple":
                return [tusimple_lanes(wrapper.generate_tusimple_lines(image, shape, cells)) for image in logits]
            with scratch_folder() as folder:
                names = [f"{index}.jpg" for index in range(len(logits))]
                wrapper.generate_lines(
                    logits, shape, names, str(folder), cells, localization_type="rel", flip_updown=True
                )
                return culane_lanes(folder, names)

    def written(self, lane: Polyline) -> Polyline:
        """Upstream's whole pixels."""
        whole = np.floor if self.form == "culane" else np.round
        return np.stack([whole(lane[:, 0]), lane[:, 1]], axis=1)

    def drawn(self) -> tuple[Any, Any]:
        """Logits of two frames: four lanes, of which one ends half way; two lanes, one of them on too few rows for CULane."""
        rows, cells = len(self.options.rows), self.options.cells
        logits = torch.stack([drawn_locations(rows, cells + 1, cells, seed) for seed in range(2)])
        absent = torch.zeros(2, rows, LANES, dtype=torch.bool)
        absent[0, rows // 2 :, 2] = absent[1, :, 0] = absent[1, 2:, 3] = True
        logits[:, -1] = torch.where(absent, 20.0, -20.0)
        return (logits, None), {"location": logits}

    def losses(self, images: Tensor, labels: Sequence[Sequence[Lane]]) -> dict[str, Tensor]:
        """The weighted terms of `get_loss_dict`; those without weight are left out."""
        with self.upstream, training_without_dropout(self.model):
            places, segmentation = self._targets(labels)
            logits, mask = self.model(images)
            return self.weighted(logits, places, mask, segmentation)

    def weighted(self, logits: Tensor, places: Tensor, mask: Tensor, segmentation: Tensor) -> dict[str, Tensor]:
        """The terms of outputs and of labels as `LaneClsDataset` gives them; inside of `upstream`."""
        data = {"cls_out": logits, "cls_label": places, "seg_out": mask, "seg_label": segmentation}
        return self._weighted(data, TERMS)

    def _targets(self, labels: Sequence[Sequence[Lane]]) -> tuple[Tensor, Tensor]:
        """What `LaneClsDataset` reads from masks, without augmentation: cells (B, rows, LANES) and the mask (B, H / 8, W / 8)."""
        with folder_of(self.form, np.zeros((1, 1, 3), np.uint8)) as folder:
            load, configuration = import_module("data.dataloader").get_train_loader, self.configuration
            sizes = (
                configuration.griding_num,
                DATASETS[self.form],
                configuration.use_aux,
                False,
                configuration.num_lanes,
            )
            samples = load(1, str(folder), *sizes)[0].dataset
        geometry = plain_geometry(self.size.frame, self.size.crop, self.size.network)
        cells, masks = [], []
        for lanes in labels:
            placed = placed_lanes(lanes, geometry, {"position": label_anchors(self.size, self.options)})
            polylines = {slot: lane.polyline for slot, lane in placed.items()}
            mask = placed_mask(polylines, self.size.network, slots=LANES, width=self.options.lane_width)
            masks.append(samples.segment_transform(PIL.Image.fromarray(mask)))
            points = samples._get_index(PIL.Image.fromarray(self._crossings(placed)))
            cells.append(torch.from_numpy(samples._grid_pts(points, samples.griding_num, self.size.frame[1])))
        return torch.stack(cells), torch.stack(masks)

    def _crossings(self, placed: Mapping[int, PlacedLane]) -> npt.NDArray[np.uint8]:
        """A mask of the frame that shows lanes on the labels' rows alone, by one pixel: the nearest that is in the same cell."""
        height, width = self.size.frame
        mask, cell_width = np.zeros((height, width), dtype=np.uint8), (width - 1) / (self.options.cells - 1)
        for slot, lane in placed.items():
            for row, position in zip(self.options.rows, lane.positions["position"], strict=True):
                if position >= 0:
                    first, last = (
                        math.ceil(math.floor(position) * cell_width),
                        math.ceil(math.floor(position + 1) * cell_width) - 1,
                    )
                    mask[int(row), min(max(round(position * cell_width), first), last, width - 1)] = 1 + slot
        return mask


@contextmanager
def folder_of(form: Form, frame: Frame) -> Iterator[Path]:
    """A dataset's folder as upstream's data sets read it, of one image, for as long as the context lasts."""
    with scratch_folder() as folder:
        lists = folder / "list" if form == "culane" else folder
        lists.mkdir(exist_ok=True)
        cv2.imwrite(str(folder / "frame.png"), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        for part in ("test", "train_gt"):
            (lists / f"{part}.txt").write_text("frame.png frame.png\n")
        yield folder


def transformed(images: Tensor, transforms: Sequence[Any]) -> Tensor:
    """uint8 RGB (B, 3, h, w) through upstream's transforms of Pillow images."""
    found = []
    for image in images:
        value: Any = PIL.Image.fromarray(image.permute(1, 2, 0).numpy())
        for transform in transforms:
            value = transform(value)
        found.append(value)
    return torch.stack(found)


def culane_lanes(folder: Path, names: Sequence[str]) -> list[list[Polyline]]:
    """The lanes (N, 2) of the files that upstream wrote for images."""
    return [polylines_of((folder / name).with_suffix(".lines.txt").read_text()) for name in names]


def tusimple_lanes(lanes: Sequence[Sequence[float]]) -> list[Polyline]:
    """The lanes (N, 2) of a line of upstream's results, but for those without a point."""
    rows = np.array(TUSIMPLE_ROWS, dtype=np.float64)
    places = [np.array(lane, dtype=np.float64) for lane in lanes]
    return [np.stack([place[place >= 0], rows[place >= 0]], axis=1) for place in places if (place >= 0).any()]


def drawn_locations(anchors: int, choices: int, cells: int, seed: int) -> Tensor:
    """Logits (choices, anchors, LANES) of an image: noise, in which four curves stand out over a few cells."""
    generator = torch.Generator().manual_seed(seed)
    along = torch.linspace(0.0, 1.0, anchors)[:, None]
    feet = torch.tensor([-0.3, 0.2, 0.75, 1.3])
    centres = cells * (0.5 + (feet - 0.5) * (0.1 + 0.6 * along) + 0.05 * along**2)
    distance = torch.arange(choices)[:, None, None] - centres
    logits = 12.0 * torch.exp(-((distance / 2.0) ** 2))
    return logits + 0.5 * torch.randn(logits.shape, generator=generator)
