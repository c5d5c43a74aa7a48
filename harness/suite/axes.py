"""The matrix of a suite: the product of its axes without what it excludes and with what it includes.

A condition fits a point that fits every key that it names. A pattern is a shell pattern of names (`resa_*`); of several any will do.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path
from typing import NamedTuple

from detectors.programs import read_program
from detectors.registry import is_program
from harness.errors import InputError, did_you_mean
from harness.files.validation import validated
from harness.records.record import Identity
from harness.suite.known import known_detector
from harness.suite.schema import Condition, Inclusion, Suite


class Point(NamedTuple):
    """One point of the matrix: names as the suite gives them, the detector by its key there."""

    dataset: str
    detector: str
    seed: int
    method: str


class Region(NamedTuple):
    """A sub-product of the matrix, its axes in the order of a point's."""

    datasets: Collection[str]
    detectors: Collection[str]
    seeds: Collection[int]
    methods: Collection[str]

    def points(self) -> Iterable[Point]:
        """Its points, in order."""
        return map(Point._make, product(*self))

    def holds(self, point: Point) -> bool:
        """Whether a point lies in it."""
        return all(value in axis for value, axis in zip(point, self, strict=True))


@dataclass(frozen=True)
class Axes:
    """The names on each axis in the order of the suite's file: key in the suite -> the name that conditions and tables know."""

    dataset: Mapping[str, str]
    detector: Mapping[str, str]
    method: Mapping[str, str]

    def region(self, part: Condition | Inclusion, seeds: Collection[int]) -> Region:
        """What a part of a suite means, over some seeds."""
        return Region(
            fitting(self.dataset, part.dataset), fitting(self.detector, part.detector), seeds,
            fitting(self.method, part.method),
        )  # fmt: skip

    def check(self, part: Condition | Inclusion, where: str, key: str = "") -> None:
        """InputError, naming the key, on a pattern that fits no name."""
        for axis in ("dataset", "detector", "method"):
            names = list(getattr(self, axis).values())
            for pattern in getattr(part, axis) or ():
                if not any(fnmatchcase(name, pattern) for name in names):
                    at = f"key '{key}.{axis}'" if key else f"key '{axis}'"
                    raise InputError(f"{where}: {at}: no {axis} is called {pattern!r}: {did_you_mean(pattern, names)}")


def fitting(names: Mapping[str, str], patterns: Sequence[str] | None) -> tuple[str, ...]:
    """The keys whose names fit one of the patterns, in order; all where there are none."""
    if patterns is None:
        return tuple(names)
    return tuple(key for key, name in names.items() if any(fnmatchcase(name, pattern) for pattern in patterns))


def fits(condition: Condition, cell: Point | Identity) -> bool:
    """Whether a cell fits every key of a condition. cell: a point's detector goes by the name of its variant."""
    named = ((condition.dataset, cell.dataset), (condition.detector, cell.detector), (condition.method, cell.method))
    return all(
        patterns is None or any(fnmatchcase(name, pattern) for pattern in patterns) for patterns, name in named
    ) and (condition.seed is None or cell.seed in condition.seed)


def variant_name(suite: Suite, key: str) -> str:
    """The name in tables of what a suite lists among its detectors: a variant's, a program's, or one of the suite's own."""
    if suite.detectors[key].adapter is not None:
        return key
    return read_program(Path(key)).program.name if is_program(key) else known_detector(key).meta.name


def axes_of(suite: Suite) -> Axes:
    """The axes of a suite. InputError as `find_adapter` on a detector that there isn't."""
    return Axes(
        {name: name for name in suite.datasets},
        {key: variant_name(suite, key) for key in suite.detectors},
        {name: name for name in suite.methods},
    )


def points_of(suite: Suite, seeds: int | None = None) -> tuple[Point, ...]:
    """The points of a suite's matrix, each once: dataset, then detector, then seed, then method, so that a pair stands side by side.

    seeds: takes the place of every number of seeds in the suite; of seeds that an inclusion lists, those below it stay. A program isn't
    trained: it has its points at seed 0 of the methods of kind `baseline` alone.
    """
    axes = axes_of(suite)
    count = suite.seeds if seeds is None else seeds
    whole = Region(tuple(axes.dataset), tuple(axes.detector), range(count), tuple(axes.method))
    excluded = [axes.region(part, range(count) if part.seed is None else part.seed) for part in suite.exclude]
    found = {point for point in whole.points() if not any(region.holds(point) for region in excluded)}
    for part in suite.include:
        found.update(axes.region(part, seeds_of(part, suite, seeds)).points())
    found = {point for point in found if can_be(suite, point)}
    places = [{name: place for place, name in enumerate(axis)} for axis in (axes.dataset, axes.detector, axes.method)]
    datasets, detectors, methods = places
    return tuple(sorted(found, key=lambda p: (datasets[p.dataset], detectors[p.detector], p.seed, methods[p.method])))


def can_be(suite: Suite, point: Point) -> bool:
    """Whether a cell can stand at a point: a program's only at seed 0 of methods of kind `baseline`."""
    return not is_program(point.detector) or (point.seed == 0 and suite.methods[point.method].kind == "baseline")


def seeds_of(part: Inclusion, suite: Suite, seeds: int | None = None) -> Collection[int]:
    """The seeds of an inclusion."""
    if isinstance(part.seeds, tuple):
        return [seed for seed in part.seeds if seeds is None or seed < seeds]
    return range(seeds if seeds is not None else part.seeds if part.seeds is not None else suite.seeds)


def check_axes(suite: Suite) -> None:
    """InputError on an exclusion or inclusion that names what there isn't or changes nothing, and where no cell is left."""
    axes = axes_of(suite)
    for number, condition in enumerate(suite.exclude):
        axes.check(condition, suite.file, f"exclude.{number}")
        for seed in condition.seed or ():
            if seed >= suite.seeds:
                raise InputError(
                    f"{suite.file}: key 'exclude.{number}.seed': there is no seed {seed}: the suite has 0 to {suite.seeds - 1}"
                )
    for number, needs in enumerate(suite.resources.cells):
        axes.check(needs, suite.file, f"resources.cells.{number}")
    without = set(points_of(suite.model_copy(update={"include": ()})))
    for number, inclusion in enumerate(suite.include):
        axes.check(inclusion, suite.file, f"include.{number}")
        points = axes.region(inclusion, seeds_of(inclusion, suite)).points()
        added = {point for point in points if can_be(suite, point)}
        if added <= without:
            raise InputError(
                f"{suite.file}: key 'include.{number}': adds no cell that isn't there already: widen it or take it out"
            )
        without |= added
    if not without:
        raise InputError(f"{suite.file}: key 'exclude': leaves no cell: take a condition out")


def parse_condition(expression: str, option: str) -> Condition:
    """The condition that a command line writes as `key=pattern,key=pattern`, a comma being "and"."""
    where = f"{option} {expression!r}"
    found: dict[str, str] = {}
    for term in expression.split(","):
        key, separator, pattern = (part.strip() for part in term.partition("="))
        if not separator or not pattern:
            raise InputError(f"{where}: {term.strip()!r} isn't key=pattern; write detector=resa_*,method=samiro")
        if key in found:
            raise InputError(f"{where}: key '{key}' stands twice; for either of two give {option} twice")
        found[key] = pattern
    return validated(Condition, found, where=where, strict=False)


def select(
    suite: Suite, points: Sequence[Point], only: Sequence[str] = (), skip: Sequence[str] = (), of: str | None = None
) -> tuple[Point, ...]:
    """The points, in their order, that one of the expressions of `only` fits (without any, all) and none of `skip`.

    of: what messages call the points; default: the suite's name. InputError on an expression that names what there isn't or fits no
    point, and where no point is left.
    """
    name = of or suite.name
    chosen = fitting_points(suite, points, only, "--only", name) if only else set(points)
    chosen -= fitting_points(suite, points, skip, "--skip", name)
    if skip and not chosen:
        raise InputError(f"--skip {skip[-1]!r}: leaves no cell of {name}: skip less")
    return tuple(point for point in points if point in chosen)


def fitting_points(
    suite: Suite, points: Sequence[Point], expressions: Sequence[str], option: str, of: str
) -> set[Point]:
    """The points that one of the expressions of a command line's option fits. of: what messages call all of them."""
    axes, seeds = axes_of(suite), sorted({point.seed for point in points})
    found: set[Point] = set()
    for expression in expressions:
        condition, where = parse_condition(expression, option), f"{option} {expression!r}"
        axes.check(condition, where)
        unknown = [seed for seed in condition.seed or () if seed not in seeds]
        if unknown:
            raise InputError(f"{where}: key 'seed': there is no seed {unknown[0]}; known: {', '.join(map(str, seeds))}")
        region = axes.region(condition, seeds if condition.seed is None else condition.seed)
        fits = {point for point in points if region.holds(point)}
        if not fits:
            raise InputError(f"{where}: no cell of {of} is all of that: name fewer keys, or see `plan {suite.name}`")
        found |= fits
    return found
