"""CULane's form: matched lanes of every image by `culane/official`."""

from __future__ import annotations

from pathlib import Path

from harness.datasets.base import Dataset
from harness.datasets.culane import CULane
from harness.datasets.sizes import check_sizes
from harness.files.stored import cache_folder
from harness.metrics.canvas import LANE_WIDTH
from harness.metrics.culane import score_images
from harness.metrics.label_pack import PACKS
from harness.metrics.oddities import Oddity, refuse
from harness.records.counts import OverlapCounts
from harness.scoring.images import Progress, overlap_counts


def score(
    dataset: Dataset, split: str, predictions: Path, *, progress: Progress, workers: int
) -> tuple[OverlapCounts, tuple[Oddity, ...]]:
    """Score `predictions/<image>.lines.txt` of a split; see `harness.scoring.Scorer`."""
    assert isinstance(dataset, CULane)
    frames = dataset.frames(split)
    images = [frame.id for frame in frames]
    check_sizes(dataset, frames)
    counted, oddities = score_images(
        dataset.root,
        predictions,
        images,
        image_size=dataset.image_size,
        lane_width=dataset.lane_width or LANE_WIDTH,
        progress=progress,
        workers=workers,
        cache=cache_folder() / PACKS,
    )
    refuse(oddity for oddity in oddities if oddity.file.is_relative_to(predictions) or not oddity.file.is_file())
    return overlap_counts(frames, counted), oddities
