"""A Suite becomes Cells: the points of its matrix, fully resolved, each with its identity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from detectors.meta import Configuration, DetectorMeta, Form
from detectors.registry import Adapter, find_adapter, is_program
from harness.errors import InputError
from harness.methods.config import MethodConfiguration, OracleConfiguration
from harness.records.record import Identity, identity_hash
from harness.records.timings import ProtocolName
from harness.rendered.spec import dataset_key
from harness.suite.axes import Point, variant_name
from harness.suite.choice import EVERYTHING, Choice, chosen_points
from harness.suite.evaluations import evaluations_of
from harness.suite.known import known_detector
from harness.suite.overrides import resolved_meta
from harness.suite.schema import (
    DatasetPart,
    EvaluationPart,
    OraclePart,
    Suite,
    TrainingPart,
    adapter_named,
    form_of,
    oracle_of,
)
from harness.weights.cache import weights_state
from harness.weights.oracles import oracle_state


@dataclass(frozen=True)
class Cell:
    """One point of the matrix, fully resolved. `id` is readable and ends in a hash of the identity.

    `adapter` is how the registry finds the detector: its name, or the whole path of its adapter file. `datasets`: all that it reads
    (its own, its oracle's, its evaluations') by name. `oracle`: where it is a shuffled one, the one that it shuffles; `shuffled` says
    so. `evaluations`: `dataset` is None where it is the cell's own.
    """

    id: str
    suite: str
    identity: Identity
    adapter: str
    meta: DetectorMeta
    form: Form
    method: MethodConfiguration
    dataset: DatasetPart
    datasets: Mapping[str, DatasetPart]
    oracle: OraclePart | None
    oracle_dataset: DatasetPart | None
    shuffled: bool
    training: TrainingPart
    evaluations: Mapping[str, EvaluationPart]
    throughput: ProtocolName

    @property
    def configuration(self) -> Configuration:
        """The detector's configuration for this cell's dataset form."""
        return self.meta.configurations[self.form]

    @property
    def share(self) -> int:
        """Samples that each of its processes has of a batch."""
        return self.configuration.recipe.batch_size // self.identity.processes

    @property
    def micro_batch_size(self) -> int:
        """How many of them go through the model at once."""
        return self.identity.micro_batch_size or self.share

    @property
    def oracle_with_weights(self) -> OracleConfiguration | None:
        """Its oracle, where that one's weights were trained before the suite runs."""
        asked = None if self.oracle is None else self.oracle.configuration
        return asked if asked is not None and asked.has_weights else None


class ScoredCell(Protocol):
    """What scoring and records know of a cell, whether it was trained here or is a program's."""

    @property
    def id(self) -> str:
        """Readable, and ends in a hash of the identity."""

    @property
    def suite(self) -> str:
        """The suite's name."""

    @property
    def identity(self) -> Identity:
        """What makes the cell the cell it is."""

    @property
    def form(self) -> Form:
        """The format of its own dataset."""

    @property
    def dataset(self) -> DatasetPart:
        """Its own dataset."""

    @property
    def datasets(self) -> Mapping[str, DatasetPart]:
        """All that it reads, by name."""

    @property
    def training(self) -> TrainingPart:
        """What holds for all cells of the suite."""

    @property
    def evaluations(self) -> Mapping[str, EvaluationPart]:
        """Its scorings by name."""


def cells_of(suite: Suite, choice: Choice = EVERYTHING) -> tuple[Cell, ...]:
    """The cells of a suite that are trained, in the order of `points_of`. InputError where a choice leaves none."""
    metas: dict[tuple[str, Form], DetectorMeta] = {}
    alike: dict[Point, Cell] = {}
    cells = []
    for point in chosen_points(suite, choice):
        if is_program(point.detector):
            continue
        form = form_of(suite.datasets[point.dataset])
        if (point.detector, form) not in metas:
            metas[point.detector, form] = resolved_meta(suite, point.detector, form)
        first = point._replace(seed=0)
        if first not in alike:
            alike[first] = cell_of(suite, first, metas[point.detector, form])
        cells.append(of_seed(alike[first], point.seed))
    return tuple(cells)


def of_seed(cell: Cell, seed: int) -> Cell:
    """The cell that differs in its seed, and in what has a seed for each, alone: everything else is resolved once for all seeds."""
    identity = cell.identity.model_copy(update={"seed": seed})
    oracle = None if cell.oracle is None else cell.oracle.of_seed(seed)
    return replace(cell, id=cell_id(identity), identity=identity, oracle=oracle)


def cell_id(identity: Identity) -> str:
    """A readable name that ends in a hash of the identity."""
    digest = identity_hash(identity)[:10]
    return f"{identity.dataset}-{identity.detector}-{identity.method}-s{identity.seed}-{digest}"


def cell_of(suite: Suite, point: Point, meta: DetectorMeta) -> Cell:
    """Resolve one point of the matrix."""
    dataset, method = suite.datasets[point.dataset], suite.methods[point.method]
    form, adapter = form_of(dataset), adapter_named(suite, point.detector)
    oracle_name = oracle_of(method)
    asked = None if oracle_name is None else oracle_for(suite, oracle_name, point.dataset)
    shuffled = asked is not None and asked.configuration.kind == "shuffled"
    oracle = oracle_for(suite, asked.configuration.backbone, point.dataset) if asked and shuffled else asked
    evaluations = evaluations_of(suite, point.dataset)
    identity = Identity(
        detector=variant_name(suite, point.detector),
        detector_meta=described(meta, form, adapter),
        form=form,
        method=point.method,
        method_configuration=method.model_dump(mode="json", by_alias=True),
        oracle=None if asked is None else oracle_identity(suite, asked, point.dataset),
        dataset=point.dataset,
        dataset_key=dataset_identity(point.dataset, dataset),
        recipe=meta.configurations[form].recipe.model_dump(mode="json"),
        weights=weights_state(meta, form).name,
        precision=suite.training.precision,
        threads=suite.training.threads,
        selection=suite.training.selection,
        confidence=suite.training.confidence,
        seed=point.seed,
        **arithmetic(suite, point.detector, meta.configurations[form].recipe.batch_size),
    )
    names = (
        point.dataset,
        None if oracle is None else oracle.dataset,
        *(part.dataset for part in evaluations.values()),
    )
    return Cell(
        id=cell_id(identity),
        suite=suite.name,
        identity=identity,
        adapter=adapter,
        meta=meta,
        form=form,
        method=method,
        dataset=dataset,
        datasets={name: suite.datasets[name] for name in names if name is not None},
        oracle=oracle,
        oracle_dataset=None if oracle is None or oracle.dataset is None else suite.datasets[oracle.dataset],
        shuffled=shuffled,
        training=suite.training,
        evaluations=evaluations,
        throughput=suite.throughput,
    )


def with_micro_batch(cell: Cell, size: int) -> Cell:
    """The cell that differs from another in its micro-batch alone; `size` is smaller than what each process has of a batch."""
    identity = cell.identity.model_copy(update={"micro_batch_size": size})
    return replace(cell, id=cell_id(identity), identity=identity)


def arithmetic(suite: Suite, detector: str, batch: int) -> dict[str, Any]:
    """The options of a training that change what it computes, as an identity says them; a micro-batch of a whole share is none.

    detector: its key in the suite. batch: its recipe's. InputError where its processes can't share a batch evenly.
    """
    training = suite.training
    if batch % training.processes:
        raise InputError(
            f"{suite.file}: key 'training.processes': {training.processes} can't share a batch of {batch} "
            f"({variant_name(suite, detector)}) evenly: give a number that divides it, or the recipe another 'batch_size'"
        )
    micro = training.micro_batch_size
    return {
        "micro_batch_size": None if micro is None or micro >= batch // training.processes else micro,
        "channels_last": training.channels_last,
        "compiled": training.compile,
        "processes": training.processes,
        "validations": None if training.selection == "last" else training.validations,
    }


def described(meta: DetectorMeta, form: Form, adapter: str) -> dict[str, Any]:
    """What a cell's identity says of its detector: facts, input and architecture, and where an adapter from outside comes from."""
    facts = meta.model_dump(mode="json", exclude={"configurations"})
    facts |= meta.configurations[form].model_dump(mode="json", exclude={"recipe", "weights"})
    origin = known_detector(adapter).origin
    return facts if origin is None else facts | {"origin": origin}


def oracle_for(suite: Suite, name: str, dataset: str) -> OraclePart:
    """An oracle as cells that train on `dataset` have it: one that is made of images says of which."""
    oracle = suite.oracles[name]
    if oracle.dataset is None and oracle.configuration.made_of_images:
        return oracle.model_copy(update={"dataset": dataset})
    return oracle


def oracle_identity(suite: Suite, oracle: OraclePart, dataset: str) -> dict[str, Any]:
    """What identifies an oracle of a cell that trains on `dataset`."""
    configuration = oracle.configuration
    if oracle.dataset is not None:
        made = {
            "configuration": configuration.model_dump(mode="json", exclude={"file"}),
            "dataset": dataset_identity(oracle.dataset, suite.datasets[oracle.dataset]),
        }
        return made | {"per_seed": True} if oracle.per_seed else made
    if configuration.kind == "shuffled":
        return {"shuffled": oracle_identity(suite, oracle_for(suite, configuration.backbone, dataset), dataset)}
    named = {"configuration": {"name": configuration.name}}
    return named | {"weights": oracle_state(configuration).name} if configuration.has_weights else named


def adapter_of(cell: Cell) -> Adapter:
    """The adapter of a cell. InputError where its file isn't what it was when the cell was made."""
    found = find_adapter(cell.adapter)
    refuse_changed(cell, found.origin)
    return found


def adapter_module(cell: Cell) -> str:
    """The module that holds a cell's detector. InputError as `adapter_of`."""
    found = known_detector(cell.adapter)
    refuse_changed(cell, found.origin)
    return found.module


def refuse_changed(cell: Cell, origin: Mapping[str, str] | None) -> None:
    """InputError where a detector doesn't come from where it came from when its cell was made."""
    if origin != cell.identity.detector_meta.get("origin"):
        raise InputError(f"{cell.adapter}: changed while the suite ran; run `bench` again")


def dataset_identity(name: str, dataset: DatasetPart) -> dict[str, Any]:
    """What identifies a dataset before it is opened: the key of a rendered one, the name of a real one.

    The content of a real dataset is part of the phases' keys, once it is at hand.
    """
    if dataset.rendered is not None:
        return {"rendered": dataset_key(dataset.rendered)}
    own = {"image_size": dataset.image_size, "lane_width": dataset.lane_width}
    declared = {key: value for key, value in own.items() if value is not None}
    return {"real": dataset.root or name, "form": dataset.form, **declared}
