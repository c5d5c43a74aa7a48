"""What rendered data says of itself at its root: the key of its content, and the scenarios of its frames."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from harness.datasets.base import read_bytes
from harness.errors import InputError, why_unread

RENDERING_FILE = "rendering.json"
"""What a rendered dataset has at its root; its "dataset_key" identifies the content."""

SCENARIOS_FILE = "scenarios.json"
"""Frame id -> scenario, for forms whose layout has no place for it (TuSimple, LLAMAS); optional."""


def rendered_key(root: Path) -> str | None:
    """The content key that rendered data states, None where a folder isn't rendered. InputError on a damaged statement."""
    path = root / RENDERING_FILE
    if not path.is_file():
        return None
    try:
        key = json.loads(read_bytes(path))["dataset_key"]
    except (ValueError, KeyError, TypeError, RecursionError):
        key = None
    if not isinstance(key, str) or not key:
        raise InputError(f'{path}: no "dataset_key"; render the dataset again')
    return key


def rendering_spec(root: Path) -> dict[str, object] | None:
    """What a rendered dataset was asked to be; None for any other. InputError on a damaged statement."""
    path = root / RENDERING_FILE
    if not path.is_file():
        return None
    try:
        spec = json.loads(read_bytes(path))["spec"]
    except (ValueError, KeyError, TypeError, RecursionError):
        spec = None
    if not isinstance(spec, dict):
        raise InputError(f'{path}: no "spec" that is an object; render the dataset again')
    return spec


def read_scenarios(root: Path) -> dict[str, str]:
    """Frame id -> scenario; empty without the file. InputError unless it maps texts to texts that aren't empty."""
    path = root / SCENARIOS_FILE
    if not path.is_file():
        return {}
    try:
        found = json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: not JSON ({why_unread(error)}); write one object, frame id to scenario, or delete it"
        ) from None
    if not isinstance(found, dict):
        raise InputError(f"{path}: not an object; write frame id to scenario, or delete the file")
    for frame, scenario in found.items():
        if not isinstance(scenario, str) or not scenario.strip() or not scenario.isprintable():
            raise InputError(f"{path}: key {frame!r:.80}: the scenario is {scenario!r:.40}; give it a name of one line")
    return found


def scenarios_of(root: Path, frames: Iterable[str]) -> dict[str, str | None]:
    """The scenario of each of a split's frames: all have one, or none has. InputError on a frame left out."""
    named = read_scenarios(root)
    found = {frame: named.get(frame) for frame in frames}
    missing = [frame for frame, scenario in found.items() if scenario is None]
    if missing and len(missing) < len(found):
        raise InputError(
            f"{root / SCENARIOS_FILE}: no scenario for {missing[0]}, though other frames of its split have one; add it"
        )
    return found
