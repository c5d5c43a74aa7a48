"""What the scorers share: the names of a split's images, and counts of matched lanes as records hold them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from harness.datasets.base import Frame
from harness.metrics.counts import Counts
from harness.records.counts import THRESHOLDS, UNNAMED, OverlapCounts

Progress = Callable[[int], object]
"""Called with the number of images done since the last call."""


def of_images(frames: Sequence[Frame]) -> dict[str, npt.NDArray[np.str_]]:
    """Image, clip and scenario of every frame."""
    return {
        "image": np.array([frame.id for frame in frames], dtype=np.str_),
        "clip": np.array([frame.clip for frame in frames], dtype=np.str_),
        "scenario": np.array([frame.scenario or UNNAMED for frame in frames], dtype=np.str_),
    }


def overlap_counts(frames: Sequence[Frame], counted: Counts) -> OverlapCounts:
    """What a metric counted in the frames, in their order."""
    return OverlapCounts(
        **of_images(frames),
        labels=counted.n_gt.astype(np.int32),
        predictions=counted.n_pred.astype(np.int32),
        true_positives=counted.tp[:, : len(THRESHOLDS)].astype(np.int32),
    )
