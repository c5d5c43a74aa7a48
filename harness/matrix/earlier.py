"""Cells that are missing because an option of theirs changed: which earlier cell they were, and which keys differ."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.cell.changes import changes
from harness.cell.phases import told_names
from harness.matrix.plan import Plan
from harness.matrix.recorded import file_names

_HASH = re.compile(r"-[0-9a-f]{10}$")


def earlier_options(plan: Plan) -> dict[str, str]:
    """Id of a missing cell -> the cell of the same names that is there, and what it was run with. Those without one aren't in it."""
    folder = plan.results / plan.suite.name
    ids = {cell.id for cell in plan.all_cells}
    others: dict[str, list[str]] = defaultdict(list)
    for name in sorted(file_names(folder / "cells") - ids):
        others[_HASH.sub("", name)].append(name)
    found = {}
    for state in plan.cells if others else ():
        there = others.get(_HASH.sub("", state.cell.id), ()) if state.state == "missing" else ()
        if there:
            now = state.cell.identity.model_dump(mode="json")
            differ, name = min(((changed(folder, name, now), name) for name in there), key=lambda one: len(one[0]))
            found[state.cell.id] = f"{name} is there with other options{told_names(differ)}"
    return found


def changed(folder: Path, cell: str, now: Mapping[str, Any]) -> list[str]:
    """What an earlier cell's identity differs in, as far as it left word of it."""
    before = identity_of(folder, cell)
    # A training's phase leaves out what only predictions depend on.
    return changes(before, {key: value for key, value in now.items() if key in before}) if before else []


def identity_of(folder: Path, cell: str) -> dict[str, Any] | None:
    """The identity of a cell by its record, else by its training; None where neither tells."""
    places = (
        (folder / "records" / f"{cell}.json", ("identity",)),
        (folder / "cells" / cell / "train" / "phase.json", ("options", "identity")),
    )
    for path, keys in places:
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
            for key in keys:
                value = value[key]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if isinstance(value, dict):
            return value
    return None
