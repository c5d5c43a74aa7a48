"""A YAML file becomes a Suite: read, validated, and every name that it uses looked up."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from detectors.backbone_sources import BACKBONES
from detectors.programs import read_program
from detectors.registry import adapter_file, detector_names, is_program, rooted
from harness.datasets.roots import refuse_shared_variable
from harness.errors import InputError, did_you_mean
from harness.files.stored import expanded
from harness.files.validation import validated
from harness.files.yaml import read_yaml
from harness.methods.config import MADE_OF_IMAGES, MethodConfiguration, method_configuration
from harness.suite.axes import Point, check_axes, fitting, points_of, variant_name
from harness.suite.evaluations import evaluations_of, single_evaluations, splits_read, trained_on
from harness.suite.known import known_detector
from harness.suite.overrides import start_of
from harness.suite.schema import LONGEST_NAME, NAME, NamedDetectorPart, Suite, adapter_named, form_of, oracle_of
from harness.suite.tiers import check_tiers
from harness.suite.trial import check_input, check_start
from harness.weights.cache import rooted_weights
from harness.weights.oracles import check_network, oracle_state

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
        if path.is_dir():
            raise InputError(f"{name}: this is a folder; give the path of a suite's file")
        if not path.is_file():
            raise InputError(
                f"{name}: no such suite file; give a path that exists, or one of {', '.join(suite_names())}"
            )
        return path
    known = SUITES / f"{name}.yaml"
    if not known.is_file():
        raise InputError(f"unknown suite {name!r}: {did_you_mean(name, suite_names())}")
    return known


def called(suite: Suite) -> str:
    """How a command names a suite: a suite of the project by its name, others by their file."""
    return suite.name if Path(suite.file).parent == SUITES else suite.file


def load_suite(name: str) -> Suite:
    """Read and validate a suite by name or path. InputError names file, line or key, and the fix."""
    path = suite_path(name)
    if path.stem in RESERVED:
        raise InputError(
            f"{path}: a suite can't be called {path.stem!r}, which is a folder of results; rename the file"
        )
    if not re.fullmatch(NAME, path.stem):
        raise InputError(
            f"{path}: a suite is named after its file, and {path.stem!r} is no name: rename the file; a name has up to "
            f"{LONGEST_NAME} letters from a to z, digits and _ . + - in it, the last three not at its beginning"
        )
    value = read_yaml(path)
    if not isinstance(value, dict):
        raise InputError(f"{path}: a suite is a mapping with keys such as 'title', 'datasets', 'detectors', 'methods'")
    for key in ("name", "file"):
        if key in value:
            raise InputError(f"{path}: unknown key {key!r}: a suite is named after its file, so leave it out")
    value = {**value, "name": path.stem, "file": str(path)}
    methods, detectors = value.get("methods"), value.get("detectors")
    if isinstance(methods, dict):
        value["methods"] = {str(key): method_part(path, key, part) for key, part in methods.items()}
    if isinstance(detectors, dict):
        value["detectors"] = rooted_keys(path, detectors)
    if isinstance(value.get("oracles"), dict):
        value["oracles"] = {key: rooted_oracle(path, part) for key, part in value["oracles"].items()}
    if "defaults" in value:
        value["defaults"] = rooted_part(path, value["defaults"])
    suite = validated(Suite, value, where=str(path))
    check_roots(suite)
    check_oracles(suite)
    check_detectors(suite)
    check_axes(suite)
    check_tiers(suite)
    check_configurations(suite)
    check_evaluations(suite)
    check_splits(suite)
    return suite


def method_part(path: Path, name: object, part: object) -> MethodConfiguration:
    """One entry of `methods`, whose `kind` defaults to its name."""
    if part is not None and not isinstance(part, dict):
        raise InputError(f"{path}: key 'methods.{name}': a mapping of options or nothing, not {part!r:.60}")
    try:
        return method_configuration(str(name), part, under=f"methods.{name}")
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def rooted_keys(path: Path, parts: dict[Any, Any]) -> dict[Any, Any]:
    """The entries of `detectors` with adapter files and files of weights where they lie from the suite's folder."""
    found = {
        rooted(key, path.parent) if isinstance(key, str) else key: rooted_adapter(path, rooted_part(path, part))
        for key, part in parts.items()
    }
    if len(found) < len(parts):
        raise InputError(f"{path}: key 'detectors': one adapter stands twice under two paths; name it once")
    return found


def rooted_adapter(path: Path, part: Any) -> Any:
    """One entry of `detectors`, with the file of its adapter where that lies from the suite's folder."""
    if not (isinstance(part, dict) and isinstance(part.get("adapter"), str)):
        return part
    return {**part, "adapter": rooted(part["adapter"], path.parent)}


def rooted_part(path: Path, part: Any) -> Any:
    """Overrides, those of forms among them, with the file of their weights where it lies from the suite's folder."""
    if not isinstance(part, dict):
        return part
    found = dict(part)
    if isinstance(part.get("weights"), str):
        found["weights"] = rooted_weights(part["weights"], path.parent)
    if isinstance(part.get("forms"), dict):
        found["forms"] = {form: rooted_part(path, over) for form, over in part["forms"].items()}
    return found


def rooted_oracle(path: Path, part: Any) -> Any:
    """One entry of `oracles`, with its file where that lies from the suite's folder."""
    if not (isinstance(part, dict) and isinstance(part.get("configuration"), dict)):
        return part
    configuration = dict(part["configuration"])
    if isinstance(configuration.get("file"), str) and configuration["file"]:
        configuration["file"] = str((path.parent / expanded(configuration["file"])).resolve())
    return {**part, "configuration": configuration}


def refuse_unknown(suite: Suite, key: str, kind: str, name: str, known: Collection[str]) -> None:
    """InputError, naming the key, where a name isn't known."""
    if name not in known:
        raise InputError(f"{suite.file}: key '{key}': unknown {kind} {name!r}: {did_you_mean(name, list(known))}")


def check_roots(suite: Suite) -> None:
    """The environment has no variable that would be the folder of two real datasets."""
    try:
        refuse_shared_variable(part.root or name for name, part in suite.datasets.items() if part.rendered is None)
    except InputError as error:
        raise InputError(f"{suite.file}: key 'datasets': {error}") from error


def check_oracles(suite: Suite) -> None:
    """Every oracle is of something that there is, and every method's oracle is one of the suite's."""
    for name, oracle in suite.oracles.items():
        configuration, key = oracle.configuration, f"oracles.{name}.configuration.name"
        if configuration.kind in MADE_OF_IMAGES:
            refuse_unknown(suite, key, "backbone", configuration.backbone, BACKBONES)
        if configuration.has_weights:
            try:
                check_network(configuration)
                oracle_state(configuration)
            except InputError as error:
                raise InputError(f"{suite.file}: key '{key}': {error}") from error
        if configuration.kind == "shuffled":
            others = [other for other, part in suite.oracles.items() if part.configuration.kind != "shuffled"]
            refuse_unknown(suite, key, "oracle", configuration.backbone, others)
        if oracle.dataset is not None:
            refuse_unknown(suite, f"oracles.{name}.dataset", "dataset", oracle.dataset, suite.datasets)
    for name, method in suite.methods.items():
        wanted = oracle_of(method)
        if wanted is not None:
            refuse_unknown(suite, f"methods.{name}.oracle", "oracle", wanted, suite.oracles)


def check_evaluations(suite: Suite) -> None:
    """Every dataset that an evaluation names is one of the suite's, no two evaluations come to one name, and no cell is without one."""
    names = Counter(name for key, part in suite.evaluations.items() for name, _ in single_evaluations(key, part))
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise InputError(
            f"{suite.file}: key 'evaluations': {twice[0]!r} is the name of two, for severities make names of their own: "
            "rename one"
        )
    for key, part in suite.evaluations.items():
        if part.dataset is not None:
            refuse_unknown(suite, f"evaluations.{key}.dataset", "dataset", part.dataset, suite.datasets)
        for pattern in part.trained_on or ():
            if not fitting({name: name for name in suite.datasets}, (pattern,)):
                refuse_unknown(suite, f"evaluations.{key}.trained_on", "dataset", pattern, suite.datasets)
    for name in trained_on(suite):
        if not evaluations_of(suite, name):
            raise InputError(
                f"{suite.file}: key 'evaluations': none is for cells trained on {name!r}: add one, or widen a 'trained_on'"
            )


def check_splits(suite: Suite) -> None:
    """A rendered dataset has the splits that are read of it."""
    for name, splits in splits_read(suite).items():
        spec = suite.datasets[name].rendered
        for split, user in splits.items():
            if spec is not None and split not in spec.splits:
                raise InputError(
                    f"{suite.file}: key 'datasets.{name}.rendered.splits': has no {split!r}, which {user} reads; it has "
                    f"{', '.join(spec.splits)}: add it"
                )


def check_detectors(suite: Suite) -> None:
    """Every detector is one that there is, and a name of the suite's own is nobody else's."""
    for name, part in suite.detectors.items():
        if part.adapter is not None:
            check_adapter(suite, name, part.adapter)
        try:
            variant = variant_name(suite, name)
        except InputError as error:
            raise InputError(f"{suite.file}: key 'detectors.{name}': {error}") from error
        if len(variant) > LONGEST_NAME:
            raise InputError(
                f"{suite.file}: key 'detectors.{name}': {variant!r} has more than {LONGEST_NAME} characters, too many for names of "
                "files: give its variant or program a shorter name, or the row one of its own, with 'adapter'"
            )
        if is_program(name) and part != NamedDetectorPart():
            raise InputError(
                f"{suite.file}: key 'detectors.{name}': a program is run as its description says: leave the overrides out"
            )
        if is_program(name) and all(method.kind != "baseline" for method in suite.methods.values()):
            raise InputError(
                f"{suite.file}: key 'methods': {variant} is a program, to which no method can be attached: name a "
                "method of kind 'baseline' as well"
            )
    for name in (name for name, part in suite.detectors.items() if part.adapter is not None):
        others = [variant_name(suite, other) for other in suite.detectors if other != name]
        if name in {*detector_names(), *others}:
            raise InputError(
                f"{suite.file}: key 'detectors.{name}': a detector is called {name!r} already: give another name"
            )


def check_adapter(suite: Suite, name: str, adapter: str) -> None:
    """What a suite gives a detector for a name is one, and stands for an adapter that there is."""
    key = f"detectors.{name}"
    if not re.fullmatch(NAME, name) or is_program(name) or adapter_file(name):
        raise InputError(
            f"{suite.file}: key '{key}': {name!r} is no name: beside 'adapter' give one of up to "
            f"{LONGEST_NAME} letters from a to z, digits and _ . + -"
        )
    if is_program(adapter):
        raise InputError(
            f"{suite.file}: key '{key}.adapter': a program is run as its description says: list {adapter} itself"
        )
    try:
        known_detector(adapter)
    except InputError as error:
        raise InputError(f"{suite.file}: key '{key}.adapter': {error}") from error


def check_programs(suite: Suite, points: Iterable[Point]) -> None:
    """Every program knows the forms of the datasets that it meets, and is asked for what programs can do."""
    for point in points:
        if not is_program(point.detector):
            continue
        form, program = form_of(suite.datasets[point.dataset]), read_program(Path(point.detector)).program
        if form not in program.forms:
            raise InputError(
                f"{suite.file}: key 'detectors.{point.detector}': isn't described for form {form!r} of dataset {point.dataset!r}, but "
                f"for {', '.join(program.forms)}; write under 'exclude' the line `- {{dataset: {point.dataset}, detector: "
                f"{program.name}}}`, or add the form to the description"
            )


def check_configurations(suite: Suite) -> None:
    """Every detector has a configuration for every dataset that it meets, and every override fits it."""
    points = points_of(suite)
    check_programs(suite, points)
    pairs = dict.fromkeys((point.dataset, point.detector) for point in points if not is_program(point.detector))
    lacking: dict[str, list[str]] = {}
    for dataset, detector in pairs:
        if start_of(suite, detector, form_of(suite.datasets[dataset])) is None:
            lacking.setdefault(dataset, []).append(detector)
    for dataset, detectors in lacking.items():
        form, names = form_of(suite.datasets[dataset]), [variant_name(suite, detector) for detector in detectors]
        there = ", ".join(known_detector(adapter_named(suite, detectors[0])).meta.configurations)
        raise InputError(
            f"{suite.file}: key 'detectors.{detectors[0]}': has no configuration for form {form!r} of dataset {dataset!r}, "
            f"but for {there}; write under 'exclude' the line `- {{dataset: {dataset}, detector: [{', '.join(names)}]}}`, "
            f"or under 'defaults' `forms: {{{form}: {{like: {there.split(', ')[0]}}}}}`"
        )
    for detector, form in dict.fromkeys((detector, form_of(suite.datasets[dataset])) for dataset, detector in pairs):
        check_start(suite, detector, form)
        check_input(suite, detector, form)
