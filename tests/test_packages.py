"""constraints.txt pins what pyproject.toml's dependencies bring, all of it and nothing else."""

from __future__ import annotations

import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ITSELF = canonicalize_name(PROJECT["name"])
PINS = [Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
PINNED = {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in PINS}
DIRECT = [
    requirement
    for lines in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for requirement in map(Requirement, lines)
    if canonicalize_name(requirement.name) != ITSELF
]


def test_every_dependency_is_pinned_once_within_its_bounds() -> None:
    assert len(PINNED) == len(PINS)
    outside = [str(each) for each in DIRECT if not each.specifier.contains(PINNED[canonicalize_name(each.name)])]
    assert outside == []


def installed(name: str) -> str | None:
    """A package's version here, without the label of its build such as +cpu."""
    try:
        return distribution(name).version.split("+")[0]
    except PackageNotFoundError:
        return None


def test_pins_are_what_the_dependencies_need_and_no_more() -> None:
    if any(installed(name) != version for name, version in PINNED.items()):
        pytest.skip("other packages are installed than constraints.txt pins")
    needed: set[str] = set()
    waiting = list(DIRECT)
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if (name, frozenset(requirement.extras)) in seen:
            continue
        seen.add((name, frozenset(requirement.extras)))
        needed.add(name)
        for line in distribution(name).requires or []:
            child = Requirement(line)
            extras = ("", *requirement.extras)
            if child.marker is None or any(child.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(child)
    # torch's CUDA build names the versions of what it brings itself.
    brought_by_torch = {name for name in needed if name.startswith(("nvidia-", "cuda-")) or name == "triton"}
    assert needed - brought_by_torch == set(PINNED)
