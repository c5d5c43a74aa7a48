"""Lanes of any images, and pictures of them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from pydantic import ValidationError
from torch import Tensor

from detectors.base import Detector
from detectors.meta import DetectorMeta
from detectors.registry import find_adapter
from harness.datasets.images import Image
from harness.errors import InputError
from harness.lanes import Geometry, Lane
from harness.methods.attach import inference_model
from harness.methods.config import method_configuration
from harness.training.augmentation import FrameGeometry, planes, read_reduced, warped
from harness.training.checkpoint import load_inference_checkpoint
from harness.training.loading import batches_in_order
from harness.training.plan import AUTOCAST, Precision

COLOURS = ((0, 190, 255), (255, 176, 0), (120, 220, 60), (255, 84, 112), (178, 110, 255), (0, 224, 190))
"""RGB of the lanes of an overlay, in turn."""

View = Callable[[int], tuple[npt.NDArray[np.uint8], Geometry]]
"""Position of an image -> what a detector sees of it, uint8 RGB (3, H, W), and by way of which geometry."""

_SUBPIXEL_BITS = 4


def chosen_device(name: str) -> torch.device:
    """The device that `auto`, `cpu` or `cuda` stands for here. InputError for one that can't be used."""
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: no CUDA device can be used here; say auto or cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def load_detector(path: Path, *, adapter: str | None = None, confidence_threshold: float | None = None) -> Detector:
    """The finished detector of an inference checkpoint, on the host, in eval mode.

    Its facts need `detector` (the variant), `form`, `meta` (a DetectorMeta, as the detector was trained), `method` (the method's
    configuration, with its `kind`), and `origin` (`detectors.registry.Adapter.origin`) where the detector isn't the project's own.
    adapter: how the registry finds the detector, by default under the variant's name. A detector of an adapter file has to be named,
    for a checkpoint never says which file is run. confidence_threshold: in place of the recipe's. InputError where the checkpoint is
    broken, or its parts don't fit this program or that file.
    """
    checkpoint = load_inference_checkpoint(path)
    try:
        name, form = checkpoint.facts["detector"], checkpoint.facts["form"]
        meta = DetectorMeta.model_validate(checkpoint.facts["meta"])
        method = checkpoint.facts["method"]
        configuration = method_configuration(method["kind"], method)
        if confidence_threshold is not None:
            meta = with_confidence_threshold(meta, confidence_threshold)
        meta.configurations[form]
        build = _adapter_class(name, checkpoint.facts.get("origin") or {}, adapter)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValidationError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: its metadata doesn't describe a detector ({reason}); train again") from None
    detector = inference_model(build(meta, form), configuration)
    try:
        detector.load_state_dict(checkpoint.tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: its weights don't fit detector {name!r} ({reason}); train again") from None
    return detector.eval()


def with_confidence_threshold(meta: DetectorMeta, threshold: float) -> DetectorMeta:
    """The same detector with another confidence threshold, in [0, 1], in the recipes of all its forms."""
    change = {"confidence_threshold": threshold}
    configurations = {
        form: one.model_copy(update={"recipe": one.recipe.model_copy(update=change)})
        for form, one in meta.configurations.items()
    }
    return meta.model_copy(update={"configurations": configurations})


def _adapter_class(name: str, origin: dict[str, str], adapter: str | None) -> type[Detector]:
    """The class of a checkpoint's detector, which must be the one that it was trained with."""
    if "file" in origin and adapter is None:
        raise InputError(
            f"its detector {name!r} comes from an adapter file {origin['file']}: name that file too, as "
            f"path/to/{origin['file']}:Class; a run leaves a copy beside the checkpoint"
        )
    found = find_adapter(adapter or name)
    if found.meta.name != name:
        raise InputError(f"its detector is {name!r}, not {found.meta.name!r}; name the one that it was trained with")
    there = found.origin or {}
    if there.get("sha256") != origin.get("sha256"):
        raise InputError(
            f"its detector {name!r} was trained with other code: sha256 {origin.get('sha256', 'none'):.12}, not "
            f"{there.get('sha256', 'none'):.12} of {adapter or name}; a run leaves a copy of the file beside the checkpoint"
        )
    if there.get("distribution") != origin.get("distribution"):
        raise InputError(
            f"its detector {name!r} was trained with {origin.get('distribution', 'samiro-bench')}, but is now found in "
            f"{there.get('distribution', 'samiro-bench')}; install that package, or train again"
        )
    for key, what in (("commit", "commit"), ("changes", "local changes of the checkout, sha256")):
        if there.get(key) != origin.get(key):
            raise InputError(
                f"its detector {name!r} was trained with {what} {origin.get(key, 'none'):.12} of "
                f"{origin.get('repository', 'upstream')}, not {there.get(key, 'none'):.12}; check that out, or train again"
            )
    return found.detector


def network_images(
    detector: Detector, images: Sequence[Path], *, batch_size: int = 16, workers: int = 0
) -> Iterator[Tensor]:
    """The images as the detector sees them without augmentation: uint8 RGB (B, 3, H, W) on the host, in order."""
    view = view_of_files(images, detector.geometry_of)
    with closing(_views(view, len(images), batch_size=batch_size, workers=workers, pin_memory=False)) as views:
        for batch in views:
            yield batch["images"]


def predict(
    detector: Detector,
    images: Sequence[Path],
    *,
    device: torch.device,
    batch_size: int = 16,
    precision: Precision = "fp32",
    channels_last: bool = False,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[list[Lane]]:
    """The lanes of each image, in the order of `images`, in original pixels of each, whatever its size.

    Moves the detector to `device` and leaves it in the mode (train or eval) in which it was. workers: loader processes, 0 for
    none. progress: called after every batch with (images done, images in all). Raises InputError that names an image that is
    missing, truncated or none.
    """
    (lanes,) = predict_at(
        detector,
        images,
        [detector.configuration.recipe.confidence_threshold],
        device=device,
        batch_size=batch_size,
        precision=precision,
        channels_last=channels_last,
        workers=workers,
        progress=progress,
    )
    return lanes


def predict_at(
    detector: Detector,
    images: Sequence[Path],
    thresholds: Sequence[float],
    *,
    device: torch.device,
    batch_size: int = 16,
    precision: Precision = "fp32",
    channels_last: bool = False,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[list[list[Lane]]]:
    """What `predict` gives at each of several confidence thresholds, by one forward of each image; the detector keeps its own."""
    return predict_views(
        detector,
        view_of_files(images, detector.geometry_of),
        len(images),
        thresholds,
        device=device,
        batch_size=batch_size,
        precision=precision,
        channels_last=channels_last,
        workers=workers,
        progress=progress,
    )


def predict_views(
    detector: Detector,
    view: View,
    count: int,
    thresholds: Sequence[float],
    *,
    device: torch.device,
    batch_size: int = 16,
    precision: Precision = "fp32",
    channels_last: bool = False,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[list[list[Lane]]]:
    """What `predict_at` gives of `count` images that are seen by `view`; lanes are in the original pixels of its geometries."""
    was_training, own = detector.training, detector.meta
    metas = [with_confidence_threshold(own, threshold) for threshold in thresholds]
    detector.to(device).eval()
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    if channels_last:
        detector.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    dtype = AUTOCAST[precision]
    lanes: list[list[list[Lane]]] = [[] for _ in metas]
    done = 0
    views = _views(view, count, batch_size=batch_size, workers=workers, pin_memory=device.type == "cuda")
    try:
        with closing(views), torch.inference_mode():
            for batch in views:
                pixels = batch["images"].to(device, non_blocking=True).contiguous(memory_format=memory_format)
                with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
                    outputs = detector(pixels)
                for found, detector.meta in zip(lanes, metas, strict=True):
                    found += decoded(detector, outputs, batch["geometries"])
                done += len(batch["geometries"])
                if progress:
                    progress(done, count)
    finally:
        detector.meta = own
        detector.train(was_training)
    return lanes


def decoded(detector: Detector, outputs: Any, geometries: Sequence[Geometry]) -> list[list[Lane]]:
    """What a detector decodes of a batch, in memory of its own: an adapter may write its next lanes where it wrote these.

    Raises ValueError where there isn't one list of lanes an image, so that no image can get another one's.
    """
    lanes = detector.decode(outputs, geometries)
    if len(lanes) != len(geometries):
        raise ValueError(
            f"decode of {type(detector).__name__} gives lanes of {len(lanes)} images for {len(geometries)}: give a list for "
            "each, empty where it has no lane"
        )
    return [[Lane(lane.points.copy(), lane.score) for lane in image] for image in lanes]


def view_of_files(images: Sequence[Path], geometry_of: FrameGeometry) -> View:
    """Images as they are, without augmentation."""

    def view(index: int) -> tuple[npt.NDArray[np.uint8], Geometry]:
        image = read_reduced(images[index], geometry_of)
        geometry = geometry_of(image.original)
        return planes(warped(image, geometry)), geometry

    return view


def _views(
    view: View, count: int, *, batch_size: int, workers: int, pin_memory: bool
) -> Generator[dict[str, Any], None, None]:
    return batches_in_order(view, _collate, range(count), batch_size=batch_size, workers=workers, pin_memory=pin_memory)


def _collate(views: list[tuple[npt.NDArray[np.uint8], Geometry]]) -> dict[str, Any]:
    return {
        "images": torch.from_numpy(np.stack([image for image, _ in views])),
        "geometries": [geometry for _, geometry in views],
    }


def draw_lanes(image: Image, lanes: Sequence[Lane], labels: Sequence[Lane] | None = None) -> Image:
    """A copy of an RGB image (H, W, 3) with lanes drawn in colours, left to right at their near ends, and labels as thin white lines.

    Lanes are in pixels of the image; a lane of fewer than two points draws nothing.
    """
    canvas = np.ascontiguousarray(image).copy()
    width = max(2, round(canvas.shape[1] / 240))
    visible = [lane for lane in lanes if len(lane) > 1]
    for number, lane in enumerate(sorted(visible, key=lambda lane: float(lane.points[0, 0]))):
        # A dark edge keeps every colour readable on bright road as well as on dark.
        _draw(canvas, lane, (20, 20, 20), width + 2)
        _draw(canvas, lane, COLOURS[number % len(COLOURS)], width)
    for lane in labels or ():
        if len(lane) > 1:
            _draw(canvas, lane, (255, 255, 255), 1)
    return canvas


def _draw(canvas: Image, lane: Lane, colour: tuple[int, int, int], thickness: int) -> None:
    finite = lane.points[np.isfinite(lane.points).all(axis=1)]
    # Far outside the picture OpenCV's fixed-point coordinates would overflow.
    points = np.round(np.clip(finite, -1e5, 1e5) * 2**_SUBPIXEL_BITS).astype(np.int32)
    cv2.polylines(canvas, [points[:, None]], False, colour, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)
