"""Fingerprints of code: which source files a phase stands on, and whether they still say the same.

The files are found by following imports inside `harness` and `detectors` from a phase's entry modules, as text (nothing is imported).
A file's hash is of its syntax tree without docstrings, so neither comments nor prose nor formatting make a result stale.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from harness.errors import InputError
from harness.files import sha256_of_text

ROOT = Path(__file__).resolve().parents[1]
"""The folder that holds the packages `harness` and `detectors`."""

PACKAGES = ("harness", "detectors")

WITHOUT_EFFECT = frozenset({"harness/errors.py", "harness/validation.py"})
"""Files that only word messages: a change there can't change a result."""


def fingerprint(modules: Iterable[str]) -> dict[str, str]:
    """File (posix, relative to the root) -> hash of its code, for the given modules and all they import from our packages.

    A module outside our packages (an out-of-tree adapter) is not followed.
    """
    waiting = list(modules)
    seen: set[str] = set()
    hashes: dict[str, str] = {}
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        path = source_of(module)
        if path is None:
            continue
        name = path.relative_to(ROOT).as_posix()
        digest, imports = read_source(path, module)
        waiting += imports
        if name not in WITHOUT_EFFECT:
            hashes[name] = digest
    return dict(sorted(hashes.items()))


def changed_files(stored: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Names of files whose code differs between two fingerprints, new and vanished ones included."""
    return sorted(name for name in {*stored, *now} if stored.get(name) != now.get(name))


def source_of(module: str) -> Path | None:
    """The file of a module of our packages; None for anything else (other packages, attributes of modules)."""
    if module.split(".")[0] not in PACKAGES:
        return None
    base = ROOT.joinpath(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


@cache
def read_source(path: Path, module: str) -> tuple[str, tuple[str, ...]]:
    """Hash of a file's code, and the modules it may import from our packages (wherever in the file the import stands)."""
    try:
        tree = ast.parse(path.read_bytes(), filename=str(path))
    except SyntaxError as error:
        raise InputError(f"{path}:{error.lineno}: {error.msg}; mend the source file") from error
    imports: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = node.module or ""
            if node.level:
                parents = module.split(".")[: -node.level]
                package = ".".join([*parents, *([node.module] if node.module else [])])
            imports += [package, *(f"{package}.{alias.name}" for alias in node.names)]
        strip_docstring(node)
    return sha256_of_text(ast.dump(tree)), tuple(name for name in imports if name.split(".")[0] in PACKAGES)


def strip_docstring(node: ast.AST) -> None:
    """Remove bare strings (docstrings, also those of attributes) from a body, in place."""
    body = getattr(node, "body", None)
    if isinstance(body, list):
        body[:] = [
            statement
            for statement in body
            if not (
                isinstance(statement, ast.Expr)
                and isinstance(statement.value, ast.Constant)
                and isinstance(statement.value.value, str)
            )
        ]
