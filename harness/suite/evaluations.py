"""Which scorings a cell gets: those of the suite that are for its dataset, one a severity."""

from __future__ import annotations

from collections.abc import Iterator

from harness.suite.axes import fitting
from harness.suite.schema import EvaluationPart, Suite


def evaluations_of(suite: Suite, dataset: str) -> dict[str, EvaluationPart]:
    """The evaluations, by name, of cells that were trained on a dataset; each has one severity at most."""
    return {
        name: single
        for key, part in suite.evaluations.items()
        if part.trained_on is None or fitting({dataset: dataset}, part.trained_on)
        for name, single in single_evaluations(key, part)
    }


def single_evaluations(key: str, part: EvaluationPart) -> Iterator[tuple[str, EvaluationPart]]:
    """An evaluation of a suite under its own name; one of corrupted images once for each severity, as `<name>-<severity>`."""
    if part.corruption is None:
        yield key, part
        return
    for severity in part.corruption.severities:
        corruption = part.corruption.model_copy(update={"severities": (severity,)})
        yield f"{key}-{severity}", part.model_copy(update={"corruption": corruption})
