"""The tiers of a suite: the order in which its cells are run, of which a command line takes the first one or several.

A cell is of the first tier one of whose conditions it fits. Tiers only choose cells: they are no part of an identity, so that a later
tier finds done what an earlier one ran.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.errors import InputError, did_you_mean
from harness.records.record import Identity
from harness.suite.axes import Point, axes_of, fits, points_of
from harness.suite.schema import Suite


def tier_of(suite: Suite, cell: Point | Identity) -> str | None:
    """The tier of a cell, None where it is of none. cell: as for `fits`."""
    return next((name for name, parts in suite.tiers.items() if any(fits(part, cell) for part in parts)), None)


def taken_tiers(suite: Suite, tier: str) -> tuple[str, ...]:
    """A tier and those before it. InputError where there is no such tier."""
    names = list(suite.tiers)
    if not names:
        raise InputError(f"--tier {tier}: {suite.file} has no key 'tiers': leave the option out, or add the key")
    if tier not in names:
        raise InputError(
            f"--tier {tier}: {suite.file}: key 'tiers': no tier is called {tier!r}: {did_you_mean(tier, names)}"
        )
    return tuple(names[: names.index(tier) + 1])


def tiered(suite: Suite, points: Sequence[Point]) -> Mapping[Point, str]:
    """The tier of each point of a suite that has tiers. InputError, naming the point, where one is of none."""
    names, found = axes_of(suite).detector, {}
    for point in points:
        named = point._replace(detector=names[point.detector])
        tier = tier_of(suite, named)
        if tier is None:
            which = ", ".join(f"{key}: {value}" for key, value in named._asdict().items())
            raise InputError(
                f"{suite.file}: key 'tiers': the cell {{{which}}} fits no tier: name it in one, or end the last with "
                "`- {detector: '*'}`, which takes all that are left"
            )
        found[point] = tier
    return found


def check_tiers(suite: Suite) -> None:
    """InputError on a tier that names what there isn't or has no cell, and on a cell that is of none."""
    axes, points = axes_of(suite), points_of(suite)
    seeds = sorted({point.seed for point in points})
    for name, parts in suite.tiers.items():
        for number, part in enumerate(parts):
            axes.check(part, suite.file, f"tiers.{name}.{number}")
            for seed in part.seed or ():
                if seed not in seeds:
                    raise InputError(
                        f"{suite.file}: key 'tiers.{name}.{number}.seed': there is no seed {seed}; known: "
                        f"{', '.join(map(str, seeds))}"
                    )
    used = set(tiered(suite, points).values()) if suite.tiers else set()
    for name in suite.tiers:
        if name not in used:
            raise InputError(
                f"{suite.file}: key 'tiers.{name}': no cell is of this tier: none fits it that isn't of an earlier one: widen it, "
                "or take it out"
            )
