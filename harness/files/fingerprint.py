"""Fingerprints of code: which source files a phase stands on, and whether they still say the same.

The files are found by following imports inside `harness` and `detectors` from a phase's entry modules, as text (nothing is imported).
A detector's adapter that lies elsewhere is followed inside its own package (or file) as well. A file's hash is of its syntax tree
without docstrings, so neither comments nor prose nor formatting make a result stale.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from harness.errors import InputError
from harness.files.known_sources import Said, known_sources
from harness.files.stored import sha256_of_text

THIS = Path(__file__).resolve()

ROOT = THIS.parents[2]
"""The folder that holds the packages `harness` and `detectors`."""

PARSER = THIS.read_text(encoding="utf-8")
"""This module's code, read as it is imported: once the file has been edited, what this process finds isn't what the new code would."""

PACKAGES = ("harness", "detectors")

DEPENDENCIES = frozenset(
    {
        "cv2", "filelock", "huggingface_hub", "jinja2", "matplotlib", "numba", "numpy", "pandas", "pydantic", "rich", "safetensors",
        "scipy", "tabulate", "timm", "torch", "torchvision", "typer", "yaml",
    }
)  # fmt: skip
"""What pyproject.toml's dependencies are imported as: every installation has them, and constraints.txt pins their versions."""

WITHOUT_EFFECT = frozenset({"harness/errors.py", "harness/files/validation.py", "detectors/registry.py"})
"""Files that only word messages, and the table that only finds a detector: a change there can't change a result."""


@dataclass(frozen=True)
class Source:
    """A source file: its name (posix, relative to the folder that its top package lies in), the hash of its code, what it imports."""

    name: str
    digest: str
    imports: tuple[str, ...]


def fingerprint(modules: Iterable[str]) -> dict[str, str]:
    """File (posix, relative to the folder that its top package lies in) -> hash of its code.

    Covers the given modules and all they import from our packages and from their own. A given module that isn't ours has been
    imported already.
    """
    found = {source.name: source.digest for source in sources(modules) if source.name not in WITHOUT_EFFECT}
    return dict(sorted(found.items()))


def sources(modules: Iterable[str]) -> Iterator[Source]:
    """The files of the given modules and of all they import from our packages and from their own, each once."""
    waiting = list(modules)
    folders = dict.fromkeys(PACKAGES, ROOT) | outside_folders(waiting)
    seen: set[str] = set()
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        path = source_of(module, folders)
        if path is None:
            continue
        digest, imports = read_source(path, module)
        waiting += imports
        yield Source(path.relative_to(folders[module.split(".")[0]]).as_posix(), digest, imports)
    if (known := known_sources(PARSER)) is not None:
        known.keep()


def refuse_uncovered(modules: Iterable[str]) -> None:
    """InputError where the code behind modules of ours imports a package that no fingerprint covers and no installation pins."""
    covered = {*PACKAGES, *DEPENDENCIES, *sys.stdlib_module_names, ""}
    for source in sources(modules):
        for module in source.imports:
            if module.split(".")[0] not in covered:
                raise InputError(
                    f"{source.name}: imports {module!r}, whose code no fingerprint covers, so that a change in it would make no result "
                    "stale: put the file below harness/methods (docs/add-a-method.md), or make the package a dependency of the "
                    "project (pyproject.toml, and DEPENDENCIES of harness/files/fingerprint.py)"
                )


@cache
def code_of(*modules: str) -> dict[str, str]:
    """Fingerprint of the code behind some modules, made once a process: every cell of a matrix asks for it."""
    return fingerprint(modules)


def outside_folders(modules: Iterable[str]) -> dict[str, Path]:
    """The top package (or module) of each module that isn't ours -> the folder that it lies in."""
    found = {}
    for module in modules:
        top = module.split(".")[0]
        file = getattr(sys.modules.get(module), "__file__", None)
        if top not in PACKAGES and file is not None:
            path = Path(file)
            depth = module.count(".") + (path.name == "__init__.py")
            found[top] = path.parents[depth]
    return found


def changed_files(stored: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Names of files whose code differs between two fingerprints, new and vanished ones included."""
    return sorted(name for name in {*stored, *now} if stored.get(name) != now.get(name))


def source_of(module: str, folders: Mapping[str, Path]) -> Path | None:
    """The file of a module, by the folders of top packages; None for anything else (other packages, attributes of modules)."""
    top = module.split(".")[0]
    if top not in folders:
        return None
    base = folders[top].joinpath(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    # An adapter file is a module under a name of its own.
    file = getattr(sys.modules.get(module), "__file__", None)
    return Path(file) if module == top and file is not None else None


@cache
def read_source(path: Path, module: str) -> Said:
    """Hash of a file's code, and the modules that it may import (wherever in the file the import stands).

    What the project's own files say is remembered by their bytes.
    """
    code = path.read_bytes()
    known = known_sources(PARSER) if path.is_relative_to(ROOT) else None
    if known is None:
        return parsed(code, path, module)
    key = hashlib.sha256(f"{module} {path.name} ".encode(errors="surrogateescape") + code).hexdigest()
    return known.recall(key) or known.add(key, parsed(code, path, module))


def parsed(code: bytes, path: Path, module: str) -> Said:
    """What `read_source` gives, from a file's bytes."""
    try:
        tree = ast.parse(code, filename=str(path))
    except SyntaxError as error:
        raise InputError(f"{path}:{error.lineno}: {error.msg}; mend the source file") from error
    imports: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = node.module or ""
            if node.level:
                own = [*module.split("."), "__init__"] if path.name == "__init__.py" else module.split(".")
                parents = own[: -node.level]
                package = ".".join([*parents, *([node.module] if node.module else [])])
            imports += [package, *(f"{package}.{alias.name}" for alias in node.names)]
        strip_docstring(node)
    return sha256_of_text(code_text(tree)), tuple(imports)


def code_text(value: object) -> str:
    """A syntax tree as a text that is the same under every version of Python.

    That of `ast.dump` isn't: 3.12 gave functions and classes a field for type parameters, and 3.13 leaves out empty lists. Here fields
    that are None or an empty list are left out, which says the same; and so are the empty pieces that 3.12 adds to some f-strings.
    """
    if isinstance(value, ast.JoinedStr):
        value.values = [piece for piece in value.values if not (isinstance(piece, ast.Constant) and piece.value == "")]
    if isinstance(value, ast.AST):
        fields = ((name, getattr(value, name, None)) for name in value._fields)
        told = (f"{name}={code_text(field)}" for name, field in fields if field is not None and field != [])
        return f"{type(value).__name__}({', '.join(told)})"
    if isinstance(value, list):
        return f"[{', '.join(map(code_text, value))}]"
    return repr(value)


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
