"""Choosing on the validation split: which step of a training is scored. The rule is the same whatever the method."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from harness.counts import AccuracyScores, ScopeScores, scope_scores
from harness.datasets.base import Dataset
from harness.errors import InputError
from harness.inference import predict
from harness.lanes import Lane
from harness.methods.base import TrainingModel
from harness.scoring import SCORINGS
from harness.training.plan import Precision

SPLIT = "val"
"""The split that is chosen on."""

BATCH_SIZE = 16
"""Images that are predicted at once."""


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


def scored(dataset: Dataset, lanes: Sequence[Sequence[Lane]], *, workers: int) -> ScopeScores:
    """The scores of lanes of the validation split's frames, by the official metric, through files as it reads them."""
    frames = dataset.frames(SPLIT)
    with tempfile.TemporaryDirectory() as folder:
        dataset.write_predictions(Path(folder), frames, lanes)
        counts, _ = SCORINGS[dataset.form].scorer(
            dataset, SPLIT, Path(folder), progress=lambda images: None, workers=workers
        )
    return scope_scores(counts)


def headline(scores: ScopeScores) -> float:
    """What is maximised: TuSimple's accuracy, of the other forms F1 at IoU 0.5 over all images; 0 where it isn't defined."""
    return (scores.accuracy if isinstance(scores, AccuracyScores) else scores.f1_50) or 0.0
