"""How each form of dataset is scored in the matrix: by which metric, by whose code, and on which split.

The predictions that are scored are the files that the dataset wrote (`Dataset.write_predictions`), and the scoring is strict.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Literal, Protocol

from harness.datasets.base import Dataset
from harness.datasets.culane import IMAGE_SIZE
from harness.metrics.oddities import Oddity
from harness.records.counts import Counts
from harness.scoring.images import Progress


class Scorer(Protocol):
    """Scores predictions of a split that lie in the official format."""

    def __call__(
        self, dataset: Dataset, split: str, predictions: Path, *, progress: Progress, workers: int
    ) -> tuple[Counts, tuple[Oddity, ...]]:
        """Counts of `dataset.frames(split)` in their order, and what is odd about the labels.

        Raises InputError for a missing label and for anything odd about the predictions. Odd labels are no error: the real ones hold
        lanes of one point, which the official evaluators count.
        """


@dataclass(frozen=True)
class Scoring:
    """metric: the name of the official metric. module: where its scorer lives, a function `score`, imported when first asked for.

    split: the one that is scored where a suite names none.
    """

    metric: str
    module: str
    split: Literal["val", "test"]

    @property
    def scorer(self) -> Scorer:
        """The function that scores."""
        found: Scorer = import_module(self.module).score
        return found


LANE_WIDTH = 30
"""Pixels that `culane/official` paints lanes wide unless a suite says otherwise: the official evaluator's own width on 1640x590."""


def scoring_on(scoring: Scoring, image_size: tuple[int, int], lane_width: int) -> Scoring:
    """A scoring on images of a size of their own: the metric's name says so wherever it isn't what CULane itself is scored with."""
    if (image_size, lane_width) == (IMAGE_SIZE, LANE_WIDTH):
        return scoring
    height, width = image_size
    return replace(scoring, metric=f"{scoring.metric} ({width}x{height}, lanes {lane_width} px wide)")


SCORINGS = {
    "culane": Scoring("culane/official", "harness.scoring.culane", "test"),
    "tusimple": Scoring("tusimple/official", "harness.scoring.tusimple", "test"),
    # The labels of LLAMAS's test split are private.
    "llamas": Scoring("llamas/official", "harness.scoring.llamas", "val"),
}
"""Form -> how it is scored."""
