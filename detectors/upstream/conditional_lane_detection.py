"""References from aliyun/conditional-lane-detection: its own configurations, model, loss, encoding of labels and decoding.

What isn't upstream's: mmcv and the parts of mmdet that aren't CondLaneNet's (`mmdet_forks`); labels come cropped and resized as
albumentations does it with points; which places around a start learn its lane, and which place of a frame without lanes, is drawn as
ours draws it. Positions and coordinates are made for batches of any size, by options of upstream's; a copy follows the rectifier on
whose output it adds positions in place, which torch has refused to differentiate for years. TuSimple's large configuration gives the
head the size of the smaller ones' maps, with which it can't run; here it has that of its own, `mask_size`.
"""

from __future__ import annotations

import runpy
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from detectors.condlanenet import Architecture
from detectors.meta import Form
from detectors.registry import find_adapter
from detectors.upstream.isolation import Isolation, bare_package, replaced
from detectors.upstream.mmdet_forks import ENCODERS, PATCHES, label_encoder, labelled, mmdet_fork, normalised_as
from detectors.upstream.reference import BILINEAR, Difference, Frame, Polyline, Reference, needed
from detectors.upstream.running import training_without_dropout
from harness.lanes import Lane

SIZES = {"resnet18": "small", "resnet34": "medium", "resnet101": "large"}
"""What upstream calls its configurations."""

NAMES = {"heat": "hm", "location": "row", "offset": "kps", "range": "range"}
"""Our loss terms and upstream's."""

BAND = Difference(
    "Offsets are learned in cells near the lane. Upstream paints them as a line twelve cells wide between whole cells, ours takes "
    "those within six cells of the lane itself; all else of the terms is the same.",
    within=0.05,
    terms=("offset",),
)
FEW = Difference(
    "A batch with two starts or fewer has no loss of the map of starts upstream, though it is computed. Ours has, so that frames "
    "without lanes teach that there are none. Offsets differ as above.",
    terms=("heat", "offset"),
)


def settings_of(checkout: Path, variant: str, form: Form) -> dict[str, Any]:
    """Upstream's configuration file of a variant, as the names that it sets."""
    size = SIZES[variant.removeprefix("condlanenet_")]
    return runpy.run_path(str(checkout / "configs" / "condlanenet" / form / f"{form}_{size}_train.py"))


def isolated(checkout: Path) -> Isolation:
    """The scope of upstream's code. InputError where the folder isn't its checkout."""
    folder = checkout.resolve()
    return Isolation(
        checkout,
        needs=["mmdet/models/detectors/condlanenet.py", "tools/condlanenet", "configs/condlanenet"],
        stand_ins=[
            *mmdet_fork(folder),
            bare_package("mmdet.models.dense_heads", folder / "mmdet" / "models" / "dense_heads"),
        ],
        patches=PATCHES,
    )


def imported() -> None:
    """Have upstream's classes registered; inside its scope."""
    for module in ("backbones.resnet", "necks.trans_fpn", "dense_heads.condlanenet_head"):
        import_module(f"mmdet.models.{module}")
    loss = import_module("mmdet.models.losses.condlaneloss").CondLaneLoss
    vars(import_module("mmdet.models.losses")).update(CondLaneLoss=loss)
    import_module("mmdet.models.detectors.condlanenet")


Seeds = list[dict[str, Any]]
"""The starts of one image as upstream's head gives them, each with what is read for it."""


class CondLaneNet(Reference):
    """`configs/condlanenet`. Outputs are of one image after the other, as upstream's testing is: the pyramid's maps, and what
    `forward_test` gives.
    """

    repository = "conditional-lane-detection"
    variants: ClassVar[dict[str, tuple[Form, ...]]] = dict.fromkeys(
        ("condlanenet_resnet18", "condlanenet_resnet34", "condlanenet_resnet101"), ("culane", "tusimple")
    )
    differences: ClassVar[Mapping[str, Difference]] = {
        "image": BILINEAR,
        "loss offset": BAND,
        "losses, no lane": FEW,
        "losses, one lane": FEW,
        "losses, lanes in one image only": BAND,
        "losses, more lanes than slots": BAND,
    }
    model: Any

    def __init__(self, checkout: Path, variant: str, form: Form) -> None:
        self.upstream = isolated(checkout)
        self.form: Form = form
        adapter = find_adapter(variant)
        self.options = Architecture(**adapter.meta.configurations[form].architecture)
        with torch.device("meta"):
            self.encoder = adapter.detector(adapter.meta, form)
        with self.upstream:
            self.settings = settings_of(self.upstream.checkout, variant, form)
            imported()
            options = {**self.settings["model"], "pretrained": None}
            options["neck"]["trans_cfg"]["pos_shape"] = (1, *options["neck"]["trans_cfg"]["pos_shape"][1:])
            options["head"]["compute_locations_pre"] = False
            options["head"]["location_configs"]["size"] = self.settings["mask_size"]
            self.model = import_module("mmdet.models.builder").build_detector(options).eval()
        for layer in self.model.neck.trans_head.attn_layers:
            layer.pre_conv.register_forward_hook(lambda module, inputs, output: output.clone())
        self.threshold = 0.5

    def prepared(self, frame: Frame) -> Tensor:
        """`val_al_pipeline`, then the normalisation."""
        with self.upstream:
            transforms = needed("mmdet.datasets.pipelines.alaug", "its transforms need")
            transform = transforms.Alaug(self.settings["val_al_pipeline"])
            with _without_none(transform, "_Alaug__augmentor"):
                image = transform({"img": np.ascontiguousarray(frame[..., ::-1]), "gt_points": []})["img"]
        return self.normalised(torch.from_numpy(np.ascontiguousarray(image[..., ::-1])).permute(2, 0, 1)[None])

    def normalised(self, images: Tensor) -> Tensor:
        """`img_norm_cfg`, in OpenCV's order of channels."""
        return normalised_as(self.settings, images)

    def forward(self, images: Tensor) -> list[tuple[tuple[Tensor, ...], Seeds]]:
        """Backbone and neck of the whole batch, the head of one image after the other, which is all that it can."""
        with self.upstream:
            maps, _ = self.model.neck(self.model.backbone(images))
            single = zip(*(one.split(1) for one in maps), strict=True)
            return [(image, self._seeds(image, self.threshold or 0.0)) for image in single]

    def _seeds(self, maps: tuple[Tensor, ...], threshold: float) -> Seeds:
        with self.upstream:
            seeds: Seeds = self.model.bbox_head.forward_test(maps, None, threshold)[0]
            return seeds

    @torch.no_grad()
    def raw(self, outputs: Any) -> dict[str, Tensor]:
        """Of each image the starts with the highest scores, in the order in which upstream lists them. Of the maps that they give, the
        columns that decoding expects and the logits of rows; what is read from the others shows in the lanes.
        """
        images = []
        for maps, _ in outputs:
            seeds = self._seeds(maps, 0.0)
            likeliest = sorted(range(len(seeds)), key=lambda index: -seeds[index]["score"])[: self.options.seeds]
            images.append([seeds[index] for index in sorted(likeliest)])
        width = self.settings["img_scale"][0] // self.settings["hm_down_scale"]

        def stacked(value: Any) -> Tensor:
            return torch.stack([torch.stack([torch.as_tensor(value(seed)) for seed in seeds]) for seeds in images])

        location = stacked(lambda seed: seed["mask"][0]).softmax(dim=-1)
        return {
            "scores": stacked(lambda seed: seed["score"]),
            "places": stacked(lambda seed: seed["coord"][1] * width + seed["coord"][0]),
            "columns": (location * torch.arange(location.shape[-1], device=location.device)).sum(dim=-1),
            "rows": stacked(lambda seed: seed["range"][0]),
        }

    def ours(self, outputs: Any) -> dict[str, Tensor]:
        """The same."""
        return {name: outputs[name] for name in ("scores", "places", "columns", "rows")}

    def lanes(self, outputs: Any) -> list[list[Polyline]]:
        """The suppression and decoding of the program that tests, whose device is named there, and its way into the frame."""
        settings, size = self.settings, self.settings["img_scale"][::-1]
        seeds = _listed(outputs) if isinstance(outputs, dict) else [found for _, found in outputs]
        device = next((one[0]["mask"].device for one in seeds if one), torch.device("cpu"))
        with self.upstream:
            tools = import_module(f"tools.condlanenet.{self.form}.test_{self.form}")
            # The program that tests TuSimple leaves the distance at its default.
            distance = {"nms_thr": settings["nms_thr"]} if self.form == "culane" else {}
            frame = {"tgt_shape": settings["ori_scale"][::-1]} if self.form == "culane" else {}
            with _counting_on(tools.CondLanePostProcessor, device):
                decode = tools.CondLanePostProcessor(mask_size=settings["mask_size"], use_offset=True, **distance)
            images = []
            for found in seeds:
                lanes, _ = decode(found, settings["mask_down_scale"])
                images.append(
                    tools.adjust_result(lanes=lanes, crop_bbox=settings["crop_bbox"], img_shape=size, **frame)
                )
        return [[np.array(lane, dtype=np.float64) for lane in lanes] for lanes in images]

    def drawn(self) -> tuple[Any, Any] | None:
        """Lanes that lean and bend anywhere, known on rows with gaps between them, some of whose starts are near each other.

        Where the expected column is as near to one cell as to the next, rounding decides in which the offset is read. That changes
        nothing where offsets are true to their cells, as they are here, unlike those of random weights.
        """
        generator = torch.Generator().manual_seed(0)
        count, (_, height, width) = 10, self.settings["mask_size"]

        def random(*size: int) -> Tensor:
            return torch.rand(2, count, *size, generator=generator)

        up = torch.linspace(0, 1, height)
        foot, way, bend = (random(1) * spread - shift for spread, shift in ((0.8, 0.1), (0.6, 0.3), (0.3, 0.15)))
        places = width * (foot + way * up + bend * up**2) + 0.3 * random(height)
        away = places[..., None] - torch.arange(width)
        rows = torch.arange(height)
        begin, end = (random(1) * height / 2).long(), (height * (0.6 + 0.5 * random(1))).long()
        on = (rows >= begin) & (rows < end) & (random(height) < 0.9)
        starts = [side // self.settings["hm_down_scale"] for side in self.settings["img_scale"][::-1]]
        cells = torch.stack([torch.randperm(starts[0] * starts[1], generator=generator)[:count] for _ in range(2)])
        # Every other start lies beside or below the one before it.
        cells[:, 1::2] = (cells[:, ::2] + torch.tensor([1, starts[1]])[:, None]).clamp(max=starts[0] * starts[1] - 1)
        cells = cells.sort(dim=1).values
        said = {
            "score": 0.5 + 0.49 * random(),
            "coord": torch.stack([cells % starts[1], cells // starts[1]], dim=-1),
            "mask": 5 * random(height, width) - 2 * (away - 0.5).abs(),
            "reg": away,
            "range": 3 * random(2, height) + torch.stack([~on, on], dim=2) * 4,
        }
        columns = (said["mask"].softmax(dim=-1) * torch.arange(width)).sum(dim=-1)
        offsets = said["reg"].gather(-1, columns.long()[..., None])[..., 0]
        ours = {"scores": said["score"], "places": cells, "columns": columns, "offsets": offsets, "rows": said["range"]}
        return said, ours

    def losses(self, images: Tensor, labels: Sequence[Sequence[Lane]]) -> dict[str, Tensor]:
        """`CondLaneNet.forward_train` of targets that `CollectLane` encodes."""
        with self.upstream:
            drawn = [self._drawn(lanes) for lanes in labels]
            targets = [self._target(lanes, places) for lanes, places in zip(labels, drawn, strict=True)]
            heat = torch.stack([target["gt_hm"] for target in targets])
            # One is drawn for each frame without lanes.
            empty = iter(
                [places[0, 0] for places, target in zip(drawn, targets, strict=True) if not target["gt_masks"]]
            )
            detector = import_module("mmdet.models.detectors.condlanenet")
            draws = SimpleNamespace(randint=lambda low, high: int(next(empty)))
            with replaced(detector, "random", draws)(), training_without_dropout(self.model):
                terms = self.model.forward_train(images, targets, gt_hm=heat)
        return {ours: terms[f"{theirs}_loss"] for ours, theirs in NAMES.items()}

    def _drawn(self, lanes: Sequence[Lane]) -> npt.NDArray[np.int64]:
        places: npt.NDArray[np.int64] = self.encoder.encode_targets(lanes, self.encoder.geometry_of(self._frame))[
            "places"
        ]
        return places

    @property
    def _frame(self) -> tuple[int, int]:
        width, height = self.settings["ori_scale"]
        return height, width

    def _target(self, lanes: Sequence[Lane], places: npt.NDArray[np.int64]) -> dict[str, Any]:
        """What upstream's dataset and last step make of labels, with our draws."""
        encode = label_encoder(self.settings)
        sample = labelled(self.settings, lanes)
        ours = _Draws(places, sample["img_shape"][1] // encode.hm_down_scale)
        with replaced(import_module(ENCODERS), "random", ours)():
            encode.target(sample)
        return sample


class _Draws:
    """Stands for the module `random` while labels are encoded: gives the places (labels, N) that ours drew, lane by lane."""

    def __init__(self, places: npt.NDArray[np.int64], width: int) -> None:
        self._lanes: Iterator[list[list[int]]] = iter(
            [[[int(place % width), int(place // width)] for place in row[1:] if place >= 0] for row in places]
        )

    def sample(self, candidates: list[list[int]], count: int) -> list[list[int]]:
        """`count` of the candidates. Lanes with no more than that aren't asked for, and are passed over."""
        return next(lane for lane in self._lanes if len(lane) == count and all(cell in candidates for cell in lane))


def _without_none(transform: Any, name: str) -> Any:
    """The attribute leaves out arguments that are None, as releases of albumentations newer than upstream's want it."""
    compose = getattr(transform, name)
    given = lambda **arguments: compose(**{key: value for key, value in arguments.items() if value is not None})  # noqa: E731
    return replaced(transform, name, given)()


def _listed(said: dict[str, Tensor]) -> list[Seeds]:
    """What is said of starts (B, N, ...) as upstream has it, a list of starts for each image."""
    images = zip(*said.values(), strict=True)
    return [
        [
            {"score": score, "coord": coord, "mask": mask, "reg": reg, "range": rows}
            for score, coord, mask, reg, rows in zip(
                scores.tolist(), coords.tolist(), masks.split(1), offsets.split(1), ranges.split(1), strict=True
            )
        ]
        for scores, coords, masks, offsets, ranges in images
    ]


def _counting_on(processor: Any, device: torch.device) -> Any:
    """While upstream's decoder is made, it counts its columns on `device`, not on the first GPU."""
    module = import_module(processor.__module__)
    owner = processor if hasattr(processor, "compute_locations") else module
    original = owner.compute_locations

    def here(*arguments: Any, device: Any, to: torch.device = device) -> Any:
        return original(*arguments, device=to)

    return replaced(owner, "compute_locations", here)()
