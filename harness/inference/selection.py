"""Choosing on the validation split: which step of a training is scored, and below which score a lane isn't predicted.

Both rules are the same whatever the method.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from detectors.base import Detector
from harness.datasets.base import Dataset
from harness.errors import InputError
from harness.inference.predict import predict, predict_at
from harness.lanes import Lane
from harness.methods.base import TrainingModel
from harness.records.counts import AccuracyScores, ScopeScores, scope_scores
from harness.scoring import SCORINGS
from harness.training.plan import Precision

SPLIT = "val"
"""The split that is chosen on."""

BATCH_SIZE = 16
"""Images that are predicted at once."""

THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))
"""Confidence thresholds that are tried, besides the detector's published one."""


@dataclass(frozen=True)
class Threshold:
    """The confidence threshold that was chosen and its score, a fraction; tried: (threshold, score) of each."""

    threshold: float
    score: float
    tried: tuple[tuple[float, float], ...]


def check_selectable(dataset: Dataset, key: str) -> None:
    """InputError, naming the suite's key that asks for it, where a dataset has no validation split with labels."""
    if not (SPLIT in dataset.splits() and dataset.has_labels(SPLIT)):
        raise InputError(
            f"{dataset.root}: no split {SPLIT!r} with labels, which key '{key}: val-best' chooses on: make its list out of "
            "clips of the training split, or take the other rule"
        )


def split_score(
    model: TrainingModel,
    dataset: Dataset,
    *,
    device: torch.device,
    precision: Precision,
    channels_last: bool,
    workers: int,
    threads: int,
    progress: Callable[[int, int], None],
) -> float:
    """How good a model's detector is on the validation split, deployed as it is now: the headline score, a fraction."""
    frames = dataset.frames(SPLIT)
    lanes = predict(
        model.inference_model(),
        [frame.image for frame in frames],
        device=device,
        batch_size=BATCH_SIZE,
        precision=precision,
        channels_last=channels_last,
        workers=workers,
        progress=progress,
    )
    return headline(scored(dataset, lanes, workers=threads))


def best_threshold(
    detector: Detector,
    dataset: Dataset,
    *,
    device: torch.device,
    precision: Precision,
    channels_last: bool,
    workers: int,
    threads: int,
    progress: Callable[[int, int], None],
) -> Threshold:
    """The confidence threshold with which a finished detector scores best on the validation split; of equals that next to its own."""
    own = detector.configuration.recipe.confidence_threshold
    thresholds = sorted({*THRESHOLDS, own}, key=lambda value: (abs(value - own), value))
    predicted = predict_at(
        detector,
        [frame.image for frame in dataset.frames(SPLIT)],
        thresholds,
        device=device,
        batch_size=BATCH_SIZE,
        precision=precision,
        channels_last=channels_last,
        workers=workers,
        progress=progress,
    )
    scores = [headline(scored(dataset, lanes, workers=threads)) for lanes in predicted]
    # The first of equals is the one that lies next to the detector's own.
    best = scores.index(max(scores))
    return Threshold(thresholds[best], scores[best], tuple(sorted(zip(thresholds, scores, strict=True))))


def scored(dataset: Dataset, lanes: Sequence[Sequence[Lane]], *, workers: int) -> ScopeScores:
    """The scores of lanes of the validation split's frames, by the official metric, through files as it reads them."""
    frames = dataset.frames(SPLIT)
    with tempfile.TemporaryDirectory() as folder:
        dataset.write_predictions(Path(folder), frames, dataset.archived(frames, lanes))
        counts, _ = SCORINGS[dataset.form].scorer(
            dataset, SPLIT, Path(folder), progress=lambda images: None, workers=workers
        )
    return scope_scores(counts)


def headline(scores: ScopeScores) -> float:
    """What is maximised: TuSimple's accuracy, of the other forms F1 at IoU 0.5 over all images; 0 where it isn't defined."""
    return (scores.accuracy if isinstance(scores, AccuracyScores) else scores.f1_50) or 0.0
