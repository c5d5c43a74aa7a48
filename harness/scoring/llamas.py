"""LLAMAS's form: matched lanes of every image by `llamas/official`."""

from __future__ import annotations

from pathlib import Path

from harness.datasets.base import Dataset
from harness.datasets.llamas import LLAMAS
from harness.datasets.sizes import check_sizes
from harness.metrics.llamas import count_labels
from harness.metrics.oddities import Oddity, refuse
from harness.records.counts import OverlapCounts
from harness.scoring.images import Progress, overlap_counts


def score(
    dataset: Dataset, split: str, predictions: Path, *, progress: Progress, workers: int
) -> tuple[OverlapCounts, tuple[Oddity, ...]]:
    """Score `predictions/<recording>/<name>.lines.txt` of a split that has labels; see `harness.scoring.Scorer`."""
    assert isinstance(dataset, LLAMAS)
    frames = dataset.frames(split)
    check_sizes(dataset, frames)
    labels = [str(dataset.root / dataset.label_name(frame)) for frame in frames]
    counted, oddities = count_labels(labels, predictions, progress=progress, workers=workers)
    refuse(oddity for oddity in oddities if oddity.file.is_relative_to(predictions))
    return overlap_counts(frames, counted), oddities
