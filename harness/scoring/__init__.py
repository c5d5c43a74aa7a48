"""How each form of dataset is scored in the matrix: by which metric, by whose code, and on which split.

The predictions that are scored are the files that the dataset wrote (`Dataset.write_predictions`), and the scoring is strict.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Literal, Protocol

from harness.datasets.base import Dataset
from harness.metrics.canvas import metric_on
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

    split: the one that is reported, and scored where a suite names none.
    """

    metric: str
    module: str
    split: Literal["val", "test"]

    @property
    def scorer(self) -> Scorer:
        """The function that scores."""
        found: Scorer = import_module(self.module).score
        return found


def scoring_on(scoring: Scoring, image_size: tuple[int, int], lane_width: int) -> Scoring:
    """A scoring on images of a size of their own, named for it (`metric_on`)."""
    return replace(scoring, metric=metric_on(scoring.metric, image_size, lane_width))


SCORINGS = {
    "culane": Scoring("culane/official", "harness.scoring.culane", "test"),
    "tusimple": Scoring("tusimple/official", "harness.scoring.tusimple", "test"),
    # The labels of LLAMAS's test split are private.
    "llamas": Scoring("llamas/official", "harness.scoring.llamas", "val"),
}
"""Form -> how it is scored."""


def is_reported(metric: str, split: str) -> bool:
    """Whether scores by a metric, or of a form, are reported of that split, so that nothing is chosen on it: `test`, LLAMAS's `val`."""
    scoring = SCORINGS.get(metric.partition("/")[0])
    return split == (scoring.split if scoring else "test")
