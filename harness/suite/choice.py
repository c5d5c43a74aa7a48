"""Which cells of a suite a command line asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.errors import InputError
from harness.suite.axes import Point, points_of, select
from harness.suite.schema import Suite
from harness.suite.tiers import taken_tiers, tiered


@dataclass(frozen=True)
class Choice:
    """Some of a suite's cells; without anything said, all of them.

    seeds: takes the place of the suite's numbers. only: conditions (`parse_condition`) of which one has to fit; skip: of which none.
    tier: the last that is taken, with all before it.
    """

    seeds: int | None = None
    only: Sequence[str] = ()
    skip: Sequence[str] = ()
    tier: str | None = None


EVERYTHING = Choice()


def chosen_points(suite: Suite, choice: Choice) -> tuple[Point, ...]:
    """The points of a suite that were chosen, in the order of `points_of`. InputError where nothing is left."""
    points = points_of(suite, choice.seeds)
    if choice.tier is None:
        return select(suite, points, choice.only, choice.skip)
    taken, tiers = taken_tiers(suite, choice.tier), tiered(suite, points)
    left = [point for point in points if tiers[point] in taken]
    if not left:
        raise InputError(
            f"--tier {choice.tier}: no cell of {suite.name} is left: its cells are of other seeds: give more --seeds"
        )
    return select(suite, left, choice.only, choice.skip, of=f"tier {choice.tier} of {suite.name}")
