"""What the phases `threshold` and `predict` do: choose a confidence threshold on the validation split, and predict an evaluation."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from detectors.base import Detector
from harness.cell.checkpoint import finished_checkpoint
from harness.cell.phases import damaged, read_json
from harness.datasets.base import Dataset, Frame
from harness.datasets.predictions import keep_predictions
from harness.datasets.sizes import check_decoded
from harness.files.stored import write_json
from harness.inference.detector import load_detector
from harness.inference.predict import Settings, View, predict_views, view_of_files
from harness.inference.selection import best_threshold, check_selectable
from harness.inference.showing import transferred_geometry, view_of_corrupted
from harness.lanes import Geometry
from harness.processes.progress import Event, Report
from harness.pytorch.device import resolve_device
from harness.suite import Cell, EvaluationPart
from harness.training.augmentation import FrameGeometry
from harness.training.determinism import make_deterministic

THRESHOLD_FILE = "threshold.json"
"""Of phase `threshold`."""


def choose_threshold(cell: Cell, trained: Path, dataset: Dataset, report: Report, folder: Path) -> None:
    """Phase `threshold`: writes threshold.json, the confidence threshold that scores best on the validation split, and all others."""
    make_deterministic(threads=cell.training.threads)
    check_selectable(dataset, "training.confidence")
    detector = load_detector(finished_checkpoint(trained), adapter=cell.adapter)
    settings = prediction_settings(cell, "choose a threshold", report)
    chosen = best_threshold(detector, dataset, settings, threads=cell.training.threads)
    write_json(folder / THRESHOLD_FILE, asdict(chosen))


def prediction_settings(cell: Cell, phase: str, report: Report) -> Settings:
    """How a cell's images go through its detector; how far they are is news of `phase`."""

    def progress(done: int, total: int) -> None:
        report(Event(cell.id, phase, done, total, "images"))

    return Settings(
        torch.device(resolve_device(cell.training.device)),
        precision=cell.identity.precision,
        channels_last=cell.identity.channels_last,
        workers=cell.training.workers,
        progress=progress,
    )


def finished_detector(cell: Cell, trained: Path, chosen: Path | None) -> Detector:
    """A cell's detector as it is scored and timed: its checkpoint, with the threshold that phase `threshold` left in `chosen`."""
    threshold = chosen_threshold(chosen)
    return load_detector(finished_checkpoint(trained), adapter=cell.adapter, confidence_threshold=threshold)


def chosen_threshold(chosen: Path | None) -> float | None:
    """The threshold that phase `threshold` left in its folder; None without such a phase."""
    if chosen is None:
        return None
    threshold = read_json(chosen / THRESHOLD_FILE).get("threshold")
    if not isinstance(threshold, float):
        raise damaged(chosen, f"{THRESHOLD_FILE} has no threshold")
    return threshold


def predict_split(
    cell: Cell,
    trained: Path,
    chosen: Path | None,
    own: Dataset,
    dataset: Dataset,
    evaluation: EvaluationPart,
    report: Report,
    folder: Path,
) -> None:
    """Phase `predict`: writes the predictions as one archive, with scores.

    own: the dataset that the cell was trained on. dataset: the one that the evaluation is about, mostly the same.
    """
    make_deterministic(threads=cell.training.threads)
    detector = finished_detector(cell, trained, chosen)
    frames = dataset.frames(evaluation.split)
    (found,) = predict_views(
        detector,
        view_of_evaluation(detector, own, dataset, frames, evaluation),
        [frame.id for frame in frames],
        [detector.configuration.recipe.confidence_threshold],
        replace(prediction_settings(cell, "predict", report), batch_size=evaluation.batch_size),
    )
    facts = {
        "confidence_threshold": detector.configuration.recipe.confidence_threshold,
        "predictions_sha256": keep_predictions(folder, dataset, frames, found),
    }
    write_json(folder / "predict.json", facts)


def view_of_evaluation(
    detector: Detector, own: Dataset, dataset: Dataset, frames: tuple[Frame, ...], evaluation: EvaluationPart
) -> View:
    """How a detector that was trained on `own` sees the frames of an evaluation, which are of `dataset`.

    Raises InputError, as it is decoded, on an image of another size than its label is made for.
    """
    corruption = evaluation.corruption
    geometry_of: FrameGeometry = detector.geometry_of
    if evaluation.dataset is not None:
        geometry_of = transferred_geometry(detector.configuration.input, own, dataset)
    if corruption is None:
        view = view_of_files([frame.image for frame in frames], geometry_of)
    else:
        (severity,) = corruption.severities
        view = view_of_corrupted(frames, geometry_of, corruption=corruption.name, severity=severity, form=dataset.form)

    def checked(index: int) -> tuple[npt.NDArray[np.uint8], Geometry]:
        pixels, geometry = view(index)
        check_decoded(dataset, frames[index], geometry.original)
        return pixels, geometry

    return checked
