"""The score columns of a leaderboard: which score of which scope, in the order and under the names the field uses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.records.counts import THRESHOLDS, UNNAMED, AccuracyCounts, Counts, OverlapCounts
from harness.report.estimates import (
    Estimates,
    Floats,
    clrnet_f1_estimates,
    f1_estimates,
    mean_estimates,
    mean_f1_estimates,
)
from harness.report.sums import Sums, by_clip

Kind = Literal[
    "f1_50", "f1_75", "mf1", "false_positives", "accuracy", "fp", "fn", "f1_clrnet", "f1_matched", "unmatched", "negative_fp"
]  # fmt: skip

COUNTED = frozenset({"false_positives", "unmatched", "negative_fp"})
"""The kinds that are counts, not fractions."""

LOWER_IS_BETTER = COUNTED | {"fp", "fn"}
"""The kinds that count or share mistakes."""

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
        return 1.0 if self.kind in COUNTED else 100.0


@dataclass(frozen=True)
class Family:
    """The columns of one kind of counts: the headline, which rows are ranked by and verdicts are about, then those of the scenarios in
    the same score, then the rest. `empty` is the kind of a scenario without lanes."""

    headline: Column
    rest: tuple[Column, ...]
    empty: Kind

    def scenario_column(self, scenario: str) -> Column:
        """The column of one scenario; those that CULane doesn't know are named after themselves, and told from scores so called."""
        taken = {column.title.lower() for column in ALWAYS} if scenario not in SCENARIOS else set[str]()
        own = f"scenario {scenario}" if scenario.lower() in taken else scenario
        key, title = SCENARIOS.get(scenario, (f"scenario_{scenario}", own))
        return Column(key, title, self.empty if scenario == EMPTY_SCENARIO else self.headline.kind, scenario)


OVERLAP = Family(
    Column("f1_50", "F1@50", "f1_50"),
    (Column("f1_75", "F1@75", "f1_75"), Column("mf1", "mF1", "mf1")),
    "false_positives",
)
ACCURACY = Family(
    Column("accuracy", "accuracy", "accuracy"),
    (
        Column("f1_clrnet", "F1 (CLRNet)", "f1_clrnet"),
        Column("f1_matched", "F1 (matched)", "f1_matched"),
        Column("fp", "FP ↓", "fp"),
        Column("fn", "FN ↓", "fn"),
        Column("images_with_negative_fp", "FP < 0", "negative_fp"),
    ),
    "unmatched",
)
ALWAYS = (
    OVERLAP.headline, *(OVERLAP.scenario_column(name) for name in SCENARIOS), *OVERLAP.rest, ACCURACY.headline, *ACCURACY.rest,
)  # fmt: skip
"""The columns that leaderboard.csv always has, in its order."""

FAMILIES: Mapping[type[Counts], Family] = {OverlapCounts: OVERLAP, AccuracyCounts: ACCURACY}


def columns_of(kind: type[Counts], scenarios: Sequence[str]) -> tuple[Column, ...]:
    """All score columns of a split with these scenarios: CULane's in the field's order, then others by name.

    A split whose images have no scenario at all has only the columns of the whole.
    """
    family = FAMILIES[kind]
    known = [name for name in SCENARIOS if name in scenarios]
    others = sorted(name for name in set(scenarios) - set(SCENARIOS) if name)
    named = [] if others == [UNNAMED] and not known else [*known, *others]
    return (family.headline, *(family.scenario_column(name) for name in named), *family.rest)


def arm_estimates(columns: Sequence[Column], seeds: Sequence[Sums]) -> tuple[Estimates | None, ...]:
    """One arm's scores over its seeds, one a column; None where a score is undefined (no labels in the scope)."""
    layout = seeds[0].layout
    stacked = {name: np.stack([sums.parts[name] for sums in seeds]).astype(np.float64) for name in seeds[0].parts}
    scopes = {
        scenario: {name: by_clip(layout, values, scenario, axis=1) for name, values in stacked.items()}
        for scenario in {column.scenario for column in columns}
    }
    return tuple(ESTIMATES[column.kind](scopes[column.scenario]) for column in columns)


Scope = Mapping[str, Floats]
"""Summand -> its sums by clip within one scope for every seed, (S, C) or (S, C, T). Labels and images are the same for all seeds."""


def f1_at(threshold: float) -> Callable[[Scope], Estimates | None]:
    """The estimator of F1 at one of the IoU thresholds."""
    index = THRESHOLDS.index(threshold)

    def estimates(scope: Scope) -> Estimates | None:
        found = scope["true_positives"][:, :, index]
        return f1_estimates(found, scope["labels"][0], scope["predictions"], scope["images"][0])

    return estimates


def mean_f1(scope: Scope) -> Estimates | None:
    """mF1."""
    return mean_f1_estimates(scope["true_positives"], scope["labels"][0], scope["predictions"], scope["images"][0])


def false_positives(scope: Scope) -> Estimates:
    """The number of predictions that match nothing at IoU 0.50."""
    return number_of(scope["predictions"] - scope["true_positives"][:, :, THRESHOLDS.index(0.50)], scope)


def unmatched(scope: Scope) -> Estimates:
    """The number of predictions beyond the matched lanes of the labels."""
    return number_of(scope["predictions"] - scope["matched"], scope)


def negative_fp(scope: Scope) -> Estimates:
    """The number of images whose FP is negative."""
    return number_of(scope["negative_fp"], scope)


def number_of(values: Floats, scope: Scope) -> Estimates:
    """A count over all images of the scope, from its sums by clip (S, C)."""
    images = scope["images"][0]
    return mean_estimates(values, images).scaled(float(images.sum()))


def mean_of(name: str) -> Callable[[Scope], Estimates]:
    """The estimator of the mean over images of one of TuSimple's rates."""
    return lambda scope: mean_estimates(scope[name], scope["images"][0])


def f1_clrnet(scope: Scope) -> Estimates:
    """TuSimple's F1 as CLRNet computes it."""
    return clrnet_f1_estimates(mean_of("fp")(scope), mean_of("fn")(scope))


def f1_matched(scope: Scope) -> Estimates | None:
    """TuSimple's F1 of the pooled lanes."""
    return f1_estimates(scope["matched"], scope["labels"][0], scope["predictions"], scope["images"][0])


ESTIMATES: Mapping[Kind, Callable[[Scope], Estimates | None]] = {
    "f1_50": f1_at(0.50),
    "f1_75": f1_at(0.75),
    "mf1": mean_f1,
    "false_positives": false_positives,
    "accuracy": mean_of("accuracy"),
    "fp": mean_of("fp"),
    "fn": mean_of("fn"),
    "f1_clrnet": f1_clrnet,
    "f1_matched": f1_matched,
    "unmatched": unmatched,
    "negative_fp": negative_fp,
}
