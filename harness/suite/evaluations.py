"""Which scorings a cell gets, one a severity, and which splits of which datasets that takes."""

from __future__ import annotations

from collections.abc import Iterator

from detectors.registry import is_program
from harness.scoring import SCORINGS
from harness.suite.axes import fitting, points_of
from harness.suite.schema import EvaluationPart, Suite, form_of


def evaluations_of(suite: Suite, dataset: str) -> dict[str, EvaluationPart]:
    """The evaluations, by name, of cells that were trained on a dataset, which they don't name; each has one severity at most.

    Where a suite names none: the split that the field scores of the dataset's form, under its own name.
    """
    split = SCORINGS[form_of(suite.datasets[dataset])].split
    return {
        name: single if single.dataset != dataset else single.model_copy(update={"dataset": None})
        for key, part in (suite.evaluations or {split: EvaluationPart(split=split)}).items()
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


def trained_on(suite: Suite) -> tuple[str, ...]:
    """The datasets that some cell trains on, or that a program is asked about."""
    return tuple(dict.fromkeys(point.dataset for point in points_of(suite)))


def splits_read(suite: Suite) -> dict[str, dict[str, str]]:
    """Dataset -> the splits that cells read of it, each with the key of the suite that asks for it first."""
    found: dict[str, dict[str, str]] = {name: {} for name in suite.datasets}
    trained = {point.dataset for point in points_of(suite) if not is_program(point.detector)}
    for name in trained_on(suite):
        if name in trained:
            found[name]["train"] = "training"
        for key in ("selection", "confidence"):
            if name in trained and getattr(suite.training, key) == "val-best":
                found[name].setdefault("val", f"training.{key}")
        for key, part in evaluations_of(suite, name).items():
            found[part.dataset or name].setdefault(part.split, f"evaluations.{key}")
    for key, oracle in suite.oracles.items():
        if oracle.dataset is not None:
            found[oracle.dataset].setdefault("train", f"oracles.{key}")
    return found
