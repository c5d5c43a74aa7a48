"""What a suite may ask for already although this program can't do it yet. `plan` says so, `bench` refuses before it begins.

When a part comes to exist, its line in the table below goes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from detectors.registry import is_program
from harness.errors import InputError
from harness.suite.axes import points_of
from harness.suite.cells import Cell, ScoredCell
from harness.suite.evaluations import evaluations_of, single_evaluations
from harness.suite.schema import EvaluationPart, Suite


@dataclass(frozen=True)
class NotYet:
    """One part that can't be run: the key at which a suite asks for it, and a sentence."""

    key: str
    why: str

    def __str__(self) -> str:
        """One line."""
        return f"key '{self.key}': {self.why}"


OF_PROGRAMS = {
    "dataset": "a program can't be tested on another dataset than the one that it is asked about yet",
    "corruption": "a program reads image files by itself, which can't be corrupted for it yet",
}
"""Key of an evaluation -> why a program that has one with it can't be run."""


def not_yet(suite: Suite, cells: Sequence[ScoredCell]) -> tuple[NotYet, ...]:
    """What some cells of a suite need and the program can't do yet, in the order of the suite's keys."""
    used = {asked for cell in cells if not isinstance(cell, Cell) for asked in beyond_programs(cell.evaluations)}
    return tuple(
        NotYet(f"evaluations.{name}.{key}", why)
        for name, part in suite.evaluations.items()
        for key, why in OF_PROGRAMS.items()
        if any((single, key) in used for single, _ in single_evaluations(name, part))
    )


def beyond_programs(evaluations: Mapping[str, EvaluationPart]) -> set[tuple[str, str]]:
    """Name and key of what evaluations ask that a program can't do yet."""
    return {(name, key) for name, part in evaluations.items() for key in OF_PROGRAMS if getattr(part, key) is not None}


def refuse_not_yet(suite: Suite, cells: Sequence[ScoredCell]) -> None:
    """InputError, in one line, if some cells need what can't be done yet."""
    found = not_yet(suite, cells)
    if found:
        # Of the whole suite: cells without may be among those that weren't chosen.
        others = any(
            not (is_program(point.detector) and beyond_programs(evaluations_of(suite, point.dataset)))
            for point in points_of(suite)
        )
        advice = "--only runs cells without" if others else "every cell asks for it: take it out in a copy of the suite"
        raise InputError(f"{suite.file}: {'; '.join(map(str, found))}; {advice}")
