"""A Suite becomes Cells: the points of its matrix, fully resolved, each with its identity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from detectors.meta import Configuration, DetectorMeta, Form
from detectors.registry import Adapter, find_adapter
from harness.errors import InputError
from harness.files import sha256_of_json
from harness.methods.config import MethodConfiguration
from harness.records import Identity
from harness.rendered.spec import dataset_key
from harness.suite.overrides import resolved_meta
from harness.suite.schema import (
    DatasetPart,
    EvaluationPart,
    OraclePart,
    ProtocolName,
    Suite,
    TrainingPart,
    form_of,
    oracle_of,
)


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
        evaluations=suite.evaluations,
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
