"""What the jobs of a suite need of a machine: the suite's own words, what a command line lays over them, and a cell's share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.errors import InputError
from harness.files.validation import validated
from harness.records.record import Identity
from harness.suite.axes import axes_of, fits
from harness.suite.schema import CellNeeds, Condition, Needs, ResourcesPart, Suite


def needs_of(suite: Suite, identity: Identity | None = None) -> Needs:
    """What a cell needs; without one, what every job needs that belongs to no cell."""
    found = suite.resources.model_dump(exclude={"cells"}, exclude_unset=True)
    for part in suite.resources.cells:
        if identity is not None and fits(part, identity):
            own = part.model_dump(exclude=set(Condition.model_fields), exclude_unset=True)
            found |= own | {"slurm": {**found.get("slurm", {}), **own.get("slurm", {})}}
    return Needs.model_validate(found)


def with_resources(suite: Suite, expressions: Sequence[str]) -> Suite:
    """The suite with what a command line says of resources laid over its own; later expressions over earlier ones.

    An expression is `key=value,key=value`: keys of `resources` (`slurm.partition=gpu` for sbatch's), and where it also has keys of a
    condition (`detector=resa_*`), it is of those cells alone. InputError names the expression and the key.
    """
    resources = suite.resources
    for expression in expressions:
        where = f"--resources {expression!r}"
        value = parsed(expression, where)
        if value.keys() & Condition.model_fields.keys():
            part = validated(CellNeeds, value, where=where, strict=False)
            axes_of(suite).check(part, where)
            resources = resources.model_copy(update={"cells": (*resources.cells, part)})
            continue
        over = validated(Needs, value, where=where, strict=False).model_dump(exclude_unset=True)
        # What was said of single cells before yields as well: the command line has the last word.
        cells = tuple(part.model_copy(update=laid_over(part, over)) for part in resources.cells)
        resources = resources.model_copy(update={**laid_over(resources, over), "cells": cells})
    return suite.model_copy(
        update={"resources": ResourcesPart.model_validate(resources.model_dump(exclude_unset=True))}
    )


def laid_over(base: Needs, over: dict[str, Any]) -> dict[str, Any]:
    """The fields that change when `over` is laid over a part, option by option of Slurm."""
    return over if "slurm" not in over else {**over, "slurm": {**base.slurm, **over["slurm"]}}


def parsed(expression: str, where: str) -> dict[str, Any]:
    """`key=value,key=value` as a mapping, `slurm.KEY` below `slurm`."""
    found: dict[str, Any] = {}
    for term in expression.split(","):
        key, separator, value = (part.strip() for part in term.partition("="))
        if not separator or not value:
            raise InputError(f"{where}: {term.strip()!r} isn't key=value; write hours=8,slurm.partition=gpu")
        outer, dot, inner = key.partition(".")
        place = found.setdefault("slurm", {}) if dot and outer == "slurm" else found
        name = inner if place is not found else key
        if name in place:
            raise InputError(f"{where}: key '{key}' stands twice")
        place[name] = value
    return found
