"""A YAML file becomes a Suite: read, validated, and every name that it uses looked up."""

from __future__ import annotations

from pathlib import Path

from detectors.backbones import BACKBONES
from detectors.registry import detector_meta, rooted
from harness.errors import InputError, did_you_mean
from harness.methods.config import MethodConfiguration, method_configuration
from harness.suite.schema import Suite, form_of, oracle_of
from harness.validation import validated
from harness.yaml_files import read_yaml

SUITES = Path(__file__).resolve().parents[2] / "suites"
"""Where the suites that come with the project lie."""

RESERVED = frozenset({"local", "artefacts"})
"""Names that a suite can't have: folders of results are called so."""


def suite_names() -> list[str]:
    """The suites that come with the project."""
    return sorted(path.stem for path in SUITES.glob("*.yaml"))


def suite_path(name: str) -> Path:
    """The file behind a suite's name or path. InputError names the nearest known suite."""
    path = Path(name)
    if path.suffix in {".yaml", ".yml"}:
        if not path.is_file():
            raise InputError(
                f"{name}: no such suite file; give a path that exists, or one of {', '.join(suite_names())}"
            )
        return path
    known = SUITES / f"{name}.yaml"
    if not known.is_file():
        raise InputError(f"unknown suite {name!r}: {did_you_mean(name, suite_names())}")
    return known


def load_suite(name: str) -> Suite:
    """Read and validate a suite by name or path. InputError names file, line or key, and the fix."""
    path = suite_path(name)
    value = read_yaml(path)
    if not isinstance(value, dict):
        raise InputError(f"{path}: a suite is a mapping with keys such as 'title', 'datasets', 'detectors', 'methods'")
    for key in ("name", "file"):
        if key in value:
            raise InputError(f"{path}: unknown key {key!r}: a suite is named after its file, so leave it out")
    methods = value.get("methods")
    if isinstance(methods, dict):
        value = {**value, "methods": {str(key): method_part(path, key, part) for key, part in methods.items()}}
    value = {
        key: rooted_keys(path, blank_parts_filled(part)) if key == "detectors" else part for key, part in value.items()
    }
    if path.stem in RESERVED:
        raise InputError(
            f"{path}: a suite can't be called {path.stem!r}, which is a folder of results; rename the file"
        )
    suite = validated(Suite, {**value, "name": path.stem, "file": str(path)}, where=str(path))
    check_references(suite, path)
    return suite


def method_part(path: Path, name: object, part: object) -> MethodConfiguration:
    """One entry of `methods`, whose `kind` defaults to its name."""
    if part is not None and not isinstance(part, dict):
        raise InputError(f"{path}: key 'methods.{name}': a mapping of options or nothing, not {part!r:.60}")
    try:
        return method_configuration(str(name), part)
    except InputError as error:
        raise InputError(f"{path}: methods.{name}: {error}") from error


def blank_parts_filled(parts: object) -> object:
    """`name:` without a value in YAML is None: read it as "no overrides"."""
    return {key: {} if part is None else part for key, part in parts.items()} if isinstance(parts, dict) else parts


def rooted_keys(path: Path, parts: object) -> object:
    """The keys of `detectors` with adapter files where they lie from the suite's folder."""
    if not isinstance(parts, dict):
        return parts
    found = {rooted(key, path.parent) if isinstance(key, str) else key: part for key, part in parts.items()}
    if len(found) < len(parts):
        raise InputError(f"{path}: key 'detectors': one adapter stands twice under two paths; name it once")
    return found


def check_references(suite: Suite, path: Path) -> None:
    """Every name that a suite uses is one it defines, and every split that it needs is one that will be there."""
    check_splits(suite, path)
    for name, oracle in suite.oracles.items():
        if oracle.configuration.backbone not in BACKBONES:
            unknown = oracle.configuration.backbone
            raise InputError(f"{path}: key 'oracles.{name}.configuration.name': unknown backbone {unknown!r}: "
                             f"{did_you_mean(unknown, list(BACKBONES))}")  # fmt: skip
        if oracle.dataset not in suite.datasets:
            raise InputError(f"{path}: key 'oracles.{name}.dataset': unknown dataset {oracle.dataset!r}: "
                             f"{did_you_mean(oracle.dataset, list(suite.datasets))}")  # fmt: skip
    for name, method in suite.methods.items():
        wanted = oracle_of(method)
        if wanted is not None and wanted not in suite.oracles:
            raise InputError(f"{path}: key 'methods.{name}.oracle': unknown oracle {wanted!r}: "
                             f"{did_you_mean(wanted, list(suite.oracles))}")  # fmt: skip
    for name in suite.detectors:
        try:
            meta = detector_meta(name)
        except InputError as error:
            raise InputError(f"{path}: key 'detectors.{name}': {error}") from error
        for dataset_name, dataset in suite.datasets.items():
            if form_of(dataset) not in meta.configurations:
                raise InputError(
                    f"{path}: key 'detectors.{name}': has no configuration for form {form_of(dataset)!r} of dataset "
                    f"{dataset_name!r}; it has {', '.join(meta.configurations)}"
                )


def check_splits(suite: Suite, path: Path) -> None:
    """A rendered dataset has the splits that training and the evaluations read."""
    for name, dataset in suite.datasets.items():
        if dataset.rendered is None:
            continue
        there = dataset.rendered.splits
        wanted = {"train": "training"} | {part.split: f"evaluations.{key}" for key, part in suite.evaluations.items()}
        for split, user in wanted.items():
            if split not in there:
                raise InputError(
                    f"{path}: key 'datasets.{name}.rendered.splits': has no {split!r}, which {user} reads; it has "
                    f"{', '.join(there)}: add it"
                )
