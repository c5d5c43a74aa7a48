"""Choosing on the validation split: which step of a training is scored, and below which score a lane isn't predicted.

Both rules are the same whatever the method.
"""

from __future__ import annotations

from dataclasses import dataclass

from detectors.base import Detector
from harness.datasets.base import Dataset
from harness.errors import InputError
from harness.inference.predict import Settings, predict, predict_at
from harness.methods.base import TrainingModel
from harness.scoring.headline import score_of

SPLIT = "val"
"""The split that is chosen on."""

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


def split_score(model: TrainingModel, dataset: Dataset, settings: Settings, *, threads: int) -> float:
    """How good a model's detector is on the validation split, deployed as it is now: the headline score, a fraction.

    threads: to score on.
    """
    frames = dataset.frames(SPLIT)
    lanes = predict(model.inference_model(), [frame.image for frame in frames], settings)
    return score_of(dataset, SPLIT, frames, lanes, workers=threads)


def best_threshold(detector: Detector, dataset: Dataset, settings: Settings, *, threads: int) -> Threshold:
    """The confidence threshold with which a finished detector scores best on the validation split; of equals that next to its own.

    threads: to score on.
    """
    own = detector.configuration.recipe.confidence_threshold
    thresholds = sorted({*THRESHOLDS, own}, key=lambda value: (abs(value - own), value))
    frames = dataset.frames(SPLIT)
    predicted = predict_at(detector, [frame.image for frame in frames], thresholds, settings)
    scores = [score_of(dataset, SPLIT, frames, lanes, workers=threads) for lanes in predicted]
    # The first of equals is the one that lies next to the detector's own.
    best = scores.index(max(scores))
    return Threshold(thresholds[best], scores[best], tuple(sorted(zip(thresholds, scores, strict=True))))
