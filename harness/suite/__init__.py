"""Suites: a YAML file becomes a validated Suite, and a Suite becomes Cells.

A suite names datasets, oracles, detectors, methods and seeds; its cells are the points of their product, less what it excludes, and
what it includes besides.
"""

from harness.suite.axes import Point
from harness.suite.cells import (
    Cell,
    ScoredCell,
    adapter_module,
    adapter_of,
    cells_of,
    dataset_identity,
    with_micro_batch,
)
from harness.suite.choice import EVERYTHING, Choice
from harness.suite.known import asked_of, known_detector, parameter_count
from harness.suite.load import called, load_suite, suite_names
from harness.suite.not_yet import not_yet, refuse_not_yet
from harness.suite.resources import needs_of, with_resources
from harness.suite.schema import DatasetPart, EvaluationPart, OraclePart, Suite, TrainingPart, form_of
from harness.suite.tiers import tier_of

__all__ = [
    "EVERYTHING",
    "Cell",
    "Choice",
    "DatasetPart",
    "EvaluationPart",
    "OraclePart",
    "Point",
    "ScoredCell",
    "Suite",
    "TrainingPart",
    "adapter_module",
    "adapter_of",
    "asked_of",
    "called",
    "cells_of",
    "dataset_identity",
    "form_of",
    "known_detector",
    "load_suite",
    "needs_of",
    "not_yet",
    "parameter_count",
    "refuse_not_yet",
    "suite_names",
    "tier_of",
    "with_micro_batch",
    "with_resources",
]
