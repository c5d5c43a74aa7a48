"""The score columns of a leaderboard: which score of which scope, in the order and under the names the field uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.records import THRESHOLDS
from harness.report.estimates import Estimates, f1_estimates, mean_estimates, mean_f1_estimates
from harness.report.sums import Sums

Kind = Literal["f1_50", "f1_75", "mf1", "false_positives"]

EMPTY_SCENARIO = "cross"
"""CULane's crossroads have no lanes by definition, so only false positives mean something there."""

SCENARIOS: dict[str, tuple[str, str]] = {
    "normal": ("normal", "normal"),
    "crowd": ("crowded", "crowded"),
    "hlight": ("dazzle", "dazzle"),
    "shadow": ("shadow", "shadow"),
    "noline": ("no_line", "no line"),
    "arrow": ("arrow", "arrow"),
    "curve": ("curve", "curve"),
    "cross": ("cross_fp", "cross FP ↓"),
    "night": ("night", "night"),
}
"""CULane's nine scenarios in the order of its papers' tables, with the name of their CSV column and their title."""


@dataclass(frozen=True)
class Column:
    """One score: `kind` over `scenario`, None for the whole split. `key` names its CSV column, `title` heads it in a table."""

    key: str
    title: str
    kind: Kind
    scenario: str | None = None

    @property
    def factor(self) -> float:
        """What a stored value is multiplied by to be shown: fractions become points, counts stay."""
        return 1.0 if self.kind == "false_positives" else 100.0


HEADLINE = Column("f1_50", "F1@50", "f1_50")
"""The score that rows are ranked by and verdicts are about."""

STRICTER = (Column("f1_75", "F1@75", "f1_75"), Column("mf1", "mF1", "mf1"))


def scenario_column(scenario: str) -> Column:
    """The column of one scenario; those that CULane doesn't know are named after themselves."""
    key, title = SCENARIOS.get(scenario, (f"scenario_{scenario}", scenario))
    return Column(key, title, "false_positives" if scenario == EMPTY_SCENARIO else "f1_50", scenario)


def columns_of(scenarios: Sequence[str]) -> tuple[Column, ...]:
    """All score columns of a split with these scenarios: CULane's in the field's order, then others by name."""
    known = [name for name in SCENARIOS if name in scenarios]
    others = sorted(name for name in set(scenarios) - set(SCENARIOS) if name)
    return (HEADLINE, *(scenario_column(name) for name in [*known, *others]), *STRICTER)


def column_estimates(column: Column, seeds: Sequence[Sums]) -> Estimates | None:
    """One arm's score in a column, over its seeds; None where it is undefined (no labels in the scope)."""
    scopes = [sums.scope(column.scenario) for sums in seeds]
    images, labels = scopes[0].images, scopes[0].labels
    predictions = np.stack([scope.predictions for scope in scopes])
    true_positives = np.stack([scope.true_positives for scope in scopes])
    at_50 = true_positives[:, :, THRESHOLDS.index(0.50)]
    if column.kind == "false_positives":
        return mean_estimates(predictions - at_50, images).scaled(float(images.sum()))
    if column.kind == "mf1":
        return mean_f1_estimates(true_positives, labels, predictions)
    at_75 = true_positives[:, :, THRESHOLDS.index(0.75)]
    return f1_estimates(at_50 if column.kind == "f1_50" else at_75, labels, predictions)
