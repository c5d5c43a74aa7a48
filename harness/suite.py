"""Suites: a YAML file becomes a validated Suite, and a Suite becomes Cells.

A suite names datasets, oracles, detectors, methods and seeds; its cells are their product, in the order in which the file names them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from detectors.backbones import BACKBONES
from detectors.meta import Configuration, DetectorMeta, Form
from detectors.registry import Adapter, detector_class, detector_meta, find_adapter, rooted
from harness.errors import InputError, did_you_mean
from harness.files import sha256_of_json
from harness.methods.config import (
    BaselineConfiguration,
    MethodConfiguration,
    OracleConfiguration,
    method_configuration,
)
from harness.records import Identity
from harness.rendered.spec import RenderSpec, dataset_key
from harness.scoring import SCORINGS
from harness.validation import validated
from harness.yaml_files import read_yaml

SUITES = Path(__file__).resolve().parents[1] / "suites"
"""Where the suites that come with the project lie."""

Device = Literal["auto", "cpu", "cuda"]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.+-]*$")]
"""A name that a suite gives: it becomes part of folders' and files' names."""

RESERVED = frozenset({"local", "artefacts"})
"""Names that a suite can't have: folders of results are called so."""
ProtocolName = Literal["lane-latency/1", "lane-latency/1-short"]


class Part(BaseModel):
    """Base of all parts of a suite: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DatasetPart(Part):
    """A dataset: either `rendered` (made here) or real, of a `form`, found under the name `root` (default: the dataset's own name)."""

    rendered: RenderSpec | None = None
    form: Form | None = None
    root: str | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.rendered is None) == (self.form is None):
            raise ValueError("give either 'rendered' (a specification) or 'form' (culane, tusimple, llamas), not both")
        if self.rendered is not None and self.root is not None:
            raise ValueError("'root' is for real datasets; a rendered one lies where the harness put it")
        return self


class OraclePart(Part):
    """An oracle: what `configuration` says, pre-trained on the training split of `dataset`."""

    dataset: str
    configuration: OracleConfiguration


class DetectorPart(Part):
    """Overrides of a detector's published configuration, key by key; what is not named stays."""

    input: dict[str, Any] = {}
    architecture: dict[str, Any] = {}
    recipe: dict[str, Any] = {}


class TrainingPart(Part):
    """What holds for all cells. `threads`: CPU threads of torch in every phase, part of a cell's identity.

    selection: which checkpoint is scored; the last step's is the only rule so far.
    """

    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    threads: int = Field(1, ge=1, le=256)
    device: Device = "auto"
    workers: int = Field(0, ge=0, le=64)
    selection: Literal["last"] = "last"


class EvaluationPart(Part):
    """One scoring of every cell's predictions."""

    split: Literal["train", "val", "test"] = "test"
    batch_size: int = Field(16, ge=1)


class Suite(Part):
    """A whole suite as its file says it; `name` and `file` say which file that is, and are no keys of it."""

    name: Name = Field(exclude=True)
    file: str = Field(exclude=True)
    title: str
    datasets: dict[Name, DatasetPart] = Field(min_length=1)
    oracles: dict[Name, OraclePart] = {}
    detectors: dict[str, DetectorPart] = Field(min_length=1)
    methods: dict[Name, MethodConfiguration] = Field(min_length=1)
    seeds: int = Field(1, ge=1, le=1000)
    training: TrainingPart = TrainingPart()
    evaluations: dict[Name, EvaluationPart] = {}
    throughput: ProtocolName = "lane-latency/1"


@dataclass(frozen=True)
class Cell:
    """One point of the matrix, fully resolved. `id` is readable and ends in a hash of the identity.

    `adapter` is how the registry finds the detector: its name, or the whole path of its adapter file.
    """

    id: str
    suite: str
    identity: Identity
    adapter: str
    meta: DetectorMeta
    form: Form
    method: MethodConfiguration
    dataset: DatasetPart
    oracle: OraclePart | None
    oracle_dataset: DatasetPart | None
    training: TrainingPart
    evaluations: Mapping[str, EvaluationPart]
    throughput: ProtocolName

    @property
    def configuration(self) -> Configuration:
        """The detector's configuration for this cell's dataset form."""
        return self.meta.configurations[self.form]


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
        evaluations = evaluations_of(suite, form_of(dataset))
        wanted = {"train": "training"} | {part.split: f"evaluations.{key}" for key, part in evaluations.items()}
        for split, user in wanted.items():
            if split not in there:
                raise InputError(
                    f"{path}: key 'datasets.{name}.rendered.splits': has no {split!r}, which {user} reads; it has "
                    f"{', '.join(there)}: add it"
                )


def evaluations_of(suite: Suite, form: Form) -> Mapping[str, EvaluationPart]:
    """What a suite scores; where it doesn't say, the split that the form's field scores (test, but val of LLAMAS)."""
    split = SCORINGS[form].split
    return suite.evaluations or {split: EvaluationPart(split=split)}


def oracle_of(method: MethodConfiguration) -> str | None:
    """The name of the oracle that a method needs, None if it needs none."""
    return None if isinstance(method, BaselineConfiguration) or method.lambda_ == 0 else method.oracle


def form_of(dataset: DatasetPart) -> Form:
    """The format of a dataset."""
    form = dataset.form if dataset.rendered is None else dataset.rendered.form
    assert form is not None
    return form


def resolved_meta(name: str, part: DetectorPart, form: Form, *, where: str) -> DetectorMeta:
    """A detector's metadata with a suite's overrides laid over the configuration of one form; the other forms are left out."""
    meta = detector_meta(name)
    configuration = meta.configurations[form]
    value = configuration.model_dump()
    recipe = dict(part.recipe)
    if "steps" in recipe:
        value["recipe"]["epochs"] = None
    if "epochs" in recipe:
        value["recipe"]["steps"] = None
    value["input"] = merged(value["input"], part.input)
    value["recipe"] = merged(value["recipe"], recipe)
    options = merged(configuration.architecture, part.architecture)
    architecture = validated(detector_class(name).architecture, options, where=f"{where}.architecture")
    value["architecture"] = architecture.model_dump(mode="json")
    overridden = validated(Configuration, value, where=where)
    return meta.model_copy(update={"configurations": {form: overridden}})


def merged(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid over `base`, mapping by mapping; anything but a mapping is replaced whole."""
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        result[key] = merged(below, value) if isinstance(below, dict) and isinstance(value, Mapping) else value
    return result


def cells_of(suite: Suite, *, seeds: int | None = None) -> tuple[Cell, ...]:
    """All cells of a suite: dataset, then detector, then seed, then method, so that the cells of a pair stand side by side."""
    cells = []
    for dataset_name, dataset in suite.datasets.items():
        for detector_name, part in suite.detectors.items():
            where = f"{suite.file}: detectors.{detector_name}"
            meta = resolved_meta(detector_name, part, form_of(dataset), where=where)
            for seed in range(suite.seeds if seeds is None else seeds):
                for method_name, method in suite.methods.items():
                    cells.append(cell_of(suite, dataset_name, dataset, detector_name, meta, method_name, method, seed))
    return tuple(cells)


def cell_of(
    suite: Suite,
    dataset_name: str,
    dataset: DatasetPart,
    adapter: str,
    meta: DetectorMeta,
    method_name: str,
    method: MethodConfiguration,
    seed: int,
) -> Cell:
    """Resolve one point of the matrix."""
    form = form_of(dataset)
    oracle_name = oracle_of(method)
    oracle = suite.oracles[oracle_name] if oracle_name is not None else None
    oracle_dataset = suite.datasets[oracle.dataset] if oracle is not None else None
    configuration = meta.configurations[form]
    described = meta.model_dump(mode="json", exclude={"configurations"})
    described |= configuration.model_dump(mode="json", exclude={"recipe"})
    origin = find_adapter(adapter).origin
    described |= {} if origin is None else {"origin": origin}
    identity = Identity(
        detector=meta.name,
        detector_meta=described,
        form=form,
        method=method_name,
        method_configuration=method.model_dump(mode="json", by_alias=True),
        oracle=None
        if oracle is None or oracle_dataset is None
        else {
            "configuration": oracle.configuration.model_dump(mode="json"),
            "dataset": dataset_identity(oracle.dataset, oracle_dataset),
        },
        dataset=dataset_name,
        dataset_key=dataset_identity(dataset_name, dataset),
        recipe=configuration.recipe.model_dump(mode="json"),
        weights="none",
        precision=suite.training.precision,
        threads=suite.training.threads,
        selection=suite.training.selection,
        confidence="published",
        seed=seed,
    )
    digest = identity_hash(identity)[:10]
    return Cell(
        id=f"{dataset_name}-{meta.name}-{method_name}-s{seed}-{digest}",
        suite=suite.name,
        identity=identity,
        adapter=adapter,
        meta=meta,
        form=form,
        method=method,
        dataset=dataset,
        oracle=oracle,
        oracle_dataset=oracle_dataset,
        training=suite.training,
        evaluations=evaluations_of(suite, form),
        throughput=suite.throughput,
    )


def adapter_of(cell: Cell) -> Adapter:
    """The adapter of a cell. InputError where its file isn't what it was when the cell was made."""
    found = find_adapter(cell.adapter)
    if found.origin != cell.identity.detector_meta.get("origin"):
        raise InputError(f"{cell.adapter}: changed while the suite ran; run `bench` again")
    return found


def dataset_identity(name: str, dataset: DatasetPart) -> dict[str, Any]:
    """What identifies a dataset before it is opened: the key of a rendered one, the name of a real one.

    The content of a real dataset is part of the phases' keys, once it is at hand.
    """
    if dataset.rendered is not None:
        return {"rendered": dataset_key(dataset.rendered)}
    return {"real": dataset.root or name, "form": dataset.form}


def identity_hash(identity: Identity) -> str:
    """The sha256 that a cell's id ends in the beginning of."""
    return sha256_of_json(identity.model_dump(mode="json"))
