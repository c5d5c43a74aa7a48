"""The reference from liuruijin17/LSTR: its network, test loop, encoding of labels and criterion, as config/LSTR.json has them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar
from unittest import mock

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from detectors.lstr import Architecture
from detectors.meta import Form
from detectors.registry import detector_meta
from detectors.upstream.curves import MORE_LANES_THAN_QUERIES, drawn_curves, keep_pole_away, on_rows, seen
from detectors.upstream.isolation import Isolation, cuda_is_here, replaced, stand_in
from detectors.upstream.reference import Difference, Frame, Polyline, Reference
from detectors.upstream.running import training_without_dropout
from harness.files.scratch import scratch_folder
from harness.lanes import Lane
from harness.pytorch.torchvision_guard import ensure_torchvision

ROWS = range(160, 720, 10)
"""The rows of TuSimple's label files."""

MOST_POINTS = 1000
"""Of a lane, in upstream's encoding; what is over of them it ignores."""


def isolated(checkout: Path) -> Isolation:
    """The scope of LSTR's code. InputError where the folder isn't its checkout.

    Left out are packages that only its augmentation, its statistics and its scores need.
    """
    ensure_torchvision()
    import torchvision

    augmenters = ("Affine", "CropToFixedSize", "HorizontalFlip", "Resize", "Sequential", "Sometimes")
    return Isolation(
        checkout,
        needs=["models/LSTR.py", "config/LSTR.json", "db/tusimple.py"],
        stand_ins=[
            stand_in("imgaug"),
            stand_in("imgaug.augmenters", **dict.fromkeys(augmenters, mock.Mock())),
            stand_in("imgaug.augmentables"),
            stand_in("imgaug.augmentables.lines", LineString=None, LineStringsOnImage=None),
            stand_in("h5py"),
            stand_in("sklearn"),
            stand_in("sklearn.linear_model", LinearRegression=mock.Mock()),
            stand_in("ujson"),
        ],
        patches=[
            cuda_is_here,
            replaced(torch.cuda, "synchronize", lambda device: None),
            # Of the version it reads three letters as a number, so that 0.28 is older than 0.7.
            replaced(torchvision, "__version__", "1.0"),
        ],
    )


class LSTR(Reference):
    """config/LSTR.json: TuSimple."""

    repository = "LSTR"
    variants: ClassVar[dict[str, tuple[Form, ...]]] = {"lstr_resnet18s": ("tusimple",)}
    differences: ClassVar[Mapping[str, Difference]] = {
        "losses, more lanes than slots": MORE_LANES_THAN_QUERIES,
    }
    model: Any

    def __init__(self, checkout: Path, variant: str, form: Form) -> None:
        self.upstream = isolated(checkout)
        meta = detector_meta(variant).configurations[form]
        self.size, self.rows = meta.input, Architecture(**meta.architecture).rows
        settings = json.loads((self.upstream.checkout / "config" / "LSTR.json").read_text())
        with self.upstream:
            configuration = import_module("config").system_configs
            configuration.update_config(settings["system"])
            self.model = import_module("models.LSTR").model().eval()
            self.criterion = (
                import_module("models.py_utils")
                .AELoss(
                    aux_loss=configuration.aux_loss,
                    num_classes=configuration.lane_categories,
                    dec_layers=configuration.dec_layers,
                )
                .criterion
            )
            self.database = self._database(settings["db"])

    def make_comparable(self) -> None:
        """Keep the curves' pole out of the frame."""
        keep_pole_away(self.model.shared_embed)

    def _database(self, settings: Mapping[str, Any]) -> Any:
        """Upstream's dataset of TuSimple without a file: its constants, its encoding and its decoding."""

        def no_files(database: Any) -> None:
            database._image_ids, database.max_lanes, database.max_points = [], 1, MOST_POINTS

        tusimple = import_module("db.tusimple").TUSIMPLE
        with mock.patch.object(tusimple, "_load_data", no_files):
            return tusimple(settings, "test")

    def prepared(self, frame: Frame) -> Tensor:
        """The test loop of test/tusimple.py as it is, on a file; in the place of the network something that keeps its input."""
        database = self.database
        kept: list[Tensor] = []
        nothing = {"pred_logits": torch.zeros(1, 1, 2), "pred_curves": torch.zeros(1, 1, 8)}

        def test(inputs: Sequence[Tensor]) -> tuple[dict[str, Tensor], None]:
            kept.append(inputs[0])
            return nothing, None

        evaluator = SimpleNamespace(add_prediction=lambda *result: None, eval=lambda **options: ("", None))
        with scratch_folder() as folder, self.upstream:
            file = f"{folder}/frame.png"
            cv2.imwrite(file, cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
            database._db_inds, database._image_ids, database._image_file = np.arange(1), [0], [file]
            loop = import_module("test.tusimple").kp_detection
            loop(database, SimpleNamespace(test=test), None, evaluator=evaluator)
        return kept[0]

    def normalised(self, images: Tensor) -> Tensor:
        """The same loop, on images that have their size already."""
        return torch.cat([self.prepared(image.permute(1, 2, 0).numpy()) for image in images])

    def forward(self, images: Tensor) -> Any:
        """The model's own, with nothing masked."""
        with self.upstream:
            outputs, _ = self.model(images, torch.zeros(len(images), 1, *images.shape[-2:]))
        return outputs

    def raw(self, outputs: Any) -> dict[str, Tensor]:
        """The logits and curves of every decoder layer, the last one last."""
        layers = [*outputs["aux_outputs"], outputs]
        return {name: torch.stack([layer[f"pred_{name}"] for layer in layers], dim=1) for name in ("logits", "curves")}

    def lanes(self, outputs: Any) -> list[list[Polyline]]:
        """`PostProcess` and the dataset's `pred2lanes`; x is -2 on rows without a point."""
        found = []
        with self.upstream:
            process = import_module("test.tusimple").PostProcess()
            for logits, curves in zip(outputs["pred_logits"], outputs["pred_curves"], strict=True):
                one = {"pred_logits": logits[None], "pred_curves": curves[None]}
                queries = process(one, torch.zeros(1, 2))[0].numpy()
                lanes = self.database.pred2lanes(None, queries, list(ROWS))
                points = [np.stack([lane, ROWS], axis=1).astype(np.float64) for lane in lanes]
                found.append([lane[lane[:, 0] != -2] for lane in points])
        return found

    def drawn(self) -> tuple[Any, Any]:
        """Lanes within the frame."""
        logits, curves = drawn_curves(self.model.query_embed.num_embeddings, spread=0.9)
        return {"pred_logits": logits, "pred_curves": curves}, {"logits": logits[:, None], "curves": curves[:, None]}

    def losses(self, images: Tensor, labels: Sequence[Sequence[Lane]]) -> dict[str, Tensor]:
        """`SetCriterion`, each term summed over the decoder layers and weighted by its weights."""
        with self.upstream, training_without_dropout(self.model):
            terms, _ = self.criterion(self.forward(images), [self._target(lanes) for lanes in labels])
        return self.weighted(terms)

    def weighted(self, terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The criterion's terms under the names of ours, each summed over the decoder layers."""
        names = {"lane": "loss_ce", "curve": "loss_curves", "far": "loss_lowers", "near": "loss_uppers"}
        weights = self.criterion.weight_dict
        return {
            ours: torch.stack([weights[key] * value for key, value in terms.items() if key.startswith(theirs)]).sum()
            for ours, theirs in names.items()
        }

    def _target(self, lanes: Sequence[Lane]) -> Tensor:
        """What sample/tusimple.py gives, without its augmentation: the ends from the labels' own points, the curves on our rows."""
        rows = []
        for lane in lanes:
            ends, read = seen(lane, self.size, self.rows), on_rows(lane, self.size, self.rows)
            if len(read) > 1:
                row = self._encoded(read)
                row[1:3] = self._encoded(ends)[1:3]
                rows.append(row)
        label = np.stack(rows) if rows else np.zeros((0, 3 + 2 * MOST_POINTS), dtype=np.float32)
        # All far ends are the furthest one's; without a lane there is none, and upstream stops here too.
        label[:, 1] = np.min(label[:, 1])
        return torch.from_numpy(label)

    def _encoded(self, points: Polyline) -> npt.NDArray[np.float32]:
        found: npt.NDArray[np.float32] = self.database._transform_annotation({"path": "", "lanes": [points.tolist()]})[
            "label"
        ][0]
        return found
