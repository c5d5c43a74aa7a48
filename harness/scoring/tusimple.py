"""TuSimple's form: the official rates of every image by `tusimple/official`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from harness.datasets.base import Dataset, Frame
from harness.datasets.sizes import check_sizes
from harness.datasets.tusimple import PREDICTIONS_FILE, TuSimple
from harness.metrics.oddities import Oddity
from harness.metrics.tusimple import TusimpleCounts, score_file
from harness.records.counts import AccuracyCounts
from harness.scoring.images import Progress, of_images


def score(
    dataset: Dataset, split: str, predictions: Path, *, progress: Progress, workers: int
) -> tuple[AccuracyCounts, tuple[Oddity, ...]]:
    """Score `predictions/predictions.json` of a split; see `harness.scoring.Scorer`. One thread is more than fast enough."""
    assert isinstance(dataset, TuSimple)
    frames = dataset.frames(split)
    check_sizes(dataset, frames)
    with one_file(dataset.label_files(split)) as labels:
        counted, _ = score_file(labels, predictions / PREDICTIONS_FILE, strict=True)
    progress(len(frames))
    return accuracy_counts(frames, counted), ()


def accuracy_counts(frames: Sequence[Frame], counted: TusimpleCounts) -> AccuracyCounts:
    """What the metric counted in the frames, in their order."""
    return AccuracyCounts(
        **of_images(frames),
        labels=counted.n_gt.astype(np.int32),
        predictions=counted.n_pred.astype(np.int32),
        matched=counted.matched.astype(np.int32),
        accuracy=counted.accuracy,
        fp=counted.fp,
        fn=counted.fn,
    )


@contextmanager
def one_file(files: Sequence[Path]) -> Iterator[Path]:
    """The labels of a split in one file, as the official script wants them: train has two."""
    if len(files) == 1:
        yield files[0]
        return
    with tempfile.TemporaryDirectory() as folder:
        joined = Path(folder) / "labels.json"
        joined.write_bytes(b"".join(file.read_bytes().removesuffix(b"\n") + b"\n" for file in files))
        yield joined
