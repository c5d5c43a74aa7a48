"""The headline score: the one fraction by which a mode, a step or a threshold is better than another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.datasets.base import Dataset, Frame
from harness.files.scratch import scratch_folder
from harness.lanes import Lane
from harness.records.counts import AccuracyScores, ScopeScores, scope_scores
from harness.scoring import SCORINGS


def headline(scores: ScopeScores) -> float:
    """What is maximised: TuSimple's accuracy, of the other forms F1 at IoU 0.5 over all images; 0 where it isn't defined."""
    return (scores.accuracy if isinstance(scores, AccuracyScores) else scores.f1_50) or 0.0


def score_of(
    dataset: Dataset, split: str, frames: Sequence[Frame], lanes: Sequence[Sequence[Lane]], *, workers: int
) -> float:
    """The headline score of lanes over some frames of a split, by the official metric, through files as it reads them."""
    every = dataset.frames(split)
    archived = dataset.archived(frames, lanes)
    found = {frame.id: lanes_of_frame for frame, lanes_of_frame in zip(frames, archived, strict=True)}
    with scratch_folder() as folder:
        dataset.write_predictions(folder, every, [found.get(frame.id, ()) for frame in every])
        counts, _ = SCORINGS[dataset.form].scorer(dataset, split, folder, progress=lambda images: None, workers=workers)
    return headline(scope_scores(counts, np.array([frame.id in found for frame in every])))
