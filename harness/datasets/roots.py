"""Where datasets lie on this machine, and where the harness may cache what it derives from them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from harness.errors import InputError
from harness.files.stored import expanded
from harness.files.yaml import read_yaml

SOURCES = {
    "culane": "https://xingangpan.github.io/projects/CULane.html",
    "tusimple": "https://github.com/TuSimple/tusimple-benchmark",
    "llamas": "https://unsupervised-llamas.com",
    "curvelanes": "https://github.com/SoulmateB/CurveLanes",
}
"""Known dataset -> the page that it is obtained from."""

PATHS_FILE = "paths.yaml"

ROOT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
"""What a folder may be called in `paths.yaml` and by a suite's `root`."""

_NEAR = 0.85  # one letter too many, too few or exchanged; "culane-night" isn't that near


def environment_variable(name: str) -> str:
    """The environment variable that names a dataset's folder, e.g. SAMIRO_BENCH_DATA_CULANE."""
    return "SAMIRO_BENCH_DATA_" + re.sub(r"[^A-Z0-9]", "_", name.upper())


def dataset_root(name: str) -> Path:
    """The folder of a dataset: from its environment variable, else from paths.yaml in the current directory or the checkout.

    A relative folder in paths.yaml is relative to that file. Raises InputError if nothing names a folder, saying how to name
    one and where the dataset comes from, if the folder that is named doesn't exist, or if the variable is another name's as well.
    """
    variable = environment_variable(name)
    named = os.environ.get(variable)
    if named:
        refuse_shared_variable([name, *(known for file in _paths_files() for known in _folders(file))])
        return _existing(Path(named), f"{variable}={named}")
    known: dict[str, Path] = {}
    for file in _paths_files():
        folders = _folders(file)
        if name in folders:
            return _existing(folders[name], f"{file}: {name}: {folders[name]}")
        known |= dict.fromkeys(folders, file)
    empty = f" ({variable} is set, but empty)" if named is not None else ""
    near = get_close_matches(name, known, n=1) if name not in SOURCES else []
    guess = f"did you mean {near[0]!r}, which {known[near[0]]} names? else " if near else ""
    source = f"; {name} is obtained from {SOURCES[name]}" if name in SOURCES else ""
    raise InputError(
        f"no folder is known for the dataset {name!r}{empty}: {guess}set {variable}=FOLDER, or write "
        f"`{name}: FOLDER` into {PATHS_FILE} in the current directory or the checkout{source}"
    )


def refuse_shared_variable(names: Iterable[str]) -> None:
    """InputError if the environment has one variable for two of the names, such as my-roads and my_roads: which it means isn't said."""
    known: dict[str, str] = {}
    for name in names:
        variable = environment_variable(name)
        other = known.setdefault(variable, name)
        if other != name and os.environ.get(variable):
            raise InputError(
                f"{variable} is set, and would be the folder of dataset {other!r} and of {name!r}: give one of them another "
                f"name, or unset it and write both into {PATHS_FILE}"
            )


def _folders(file: Path) -> dict[str, Path]:
    # A link that leads nowhere is told when it is read, not passed over.
    return read_paths(file) if os.path.lexists(file) else {}


def _paths_files() -> list[Path]:
    checkout = Path(__file__).resolve().parents[2]
    return list(dict.fromkeys([Path.cwd() / PATHS_FILE, checkout / PATHS_FILE]))


def read_paths(file: Path) -> dict[str, Path]:
    """Read a paths.yaml: a mapping of dataset names to folders; names of one's own are welcome.

    Raises InputError on anything else, on a name that stands twice, and on one that is nearly a known dataset's, which would never be
    looked up.
    """
    if file.is_dir():
        raise InputError(f"{file} is a folder, not a file of YAML; move it away, and see paths.example.yaml")
    content = read_yaml(file)
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(f"{file} must map dataset names to folders, one `name: FOLDER` a line; see paths.example.yaml")
    folders = {}
    for name, folder in content.items():
        if not isinstance(name, str) or not ROOT_NAME.fullmatch(name):
            raise InputError(f"{file}: {name!r} can't be a dataset's name; use letters, digits and any of _ . + -")
        if name not in SOURCES and (near := get_close_matches(name.lower(), SOURCES, n=1, cutoff=_NEAR)):
            raise InputError(
                f"{file}: unknown dataset {name!r}; did you mean {near[0]!r}? a dataset of your own needs another name"
            )
        if not isinstance(folder, str) or not folder.strip():
            raise InputError(f"{file}: {name}: must be a folder, not {folder!r}")
        folders[str(name)] = file.parent / expanded(folder)
    return folders


def _existing(folder: Path, origin: str) -> Path:
    found = expanded(folder)
    if found.is_file():
        raise InputError(f"{origin}: this is a file; give the folder that the dataset lies in")
    if not found.is_dir():
        raise InputError(f"{origin}: there is no such folder; correct the path or mount the disk that holds it")
    return found.resolve()
