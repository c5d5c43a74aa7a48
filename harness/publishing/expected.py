"""What a suite of this repository demands of a submitted record: it is one of its cells, with all of its evaluations.

The demands are made of trusted files alone (`harness.publishing.demands`) and handed to the process that examines a stranger's records.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import Field

from harness.publishing.labels import LabelFacts
from harness.records.counts import Stored
from harness.records.oracles import own_oracle
from harness.records.record import Evaluation, Identity, Record, Submission, identity_hash

FOREIGN = "not this repository's detector"
OWN_TO_A_DETECTOR = ("detector", "detector_meta", "recipe", "weights", "micro_batch_size")
"""The keys of an identity that a detector from elsewhere brings along."""

SHOWN = 60


class ExpectedEvaluation(Stored):
    """How a cell is evaluated. dataset_sha256: None of a dataset whose content this repository doesn't fix. private: has no labels.

    images: how many the split has, where that is known without the dataset: nobody scores here again what a licensed one gave.
    """

    dataset: str
    dataset_sha256: str | None
    split: str
    corruption: str | None
    metric: str
    private: bool
    images: int | None = None


class ExpectedCell(Stored):
    """A cell of the suite. code: phase -> the fingerprint of the code that makes it today, as `ExpectedSuite.code` calls it."""

    identity: Identity
    evaluations: dict[str, ExpectedEvaluation]
    code: dict[str, str] = Field(default={})


class ExpectedSuite(Stored):
    """A suite as this repository has it. labels: archive -> what it has to say of itself. detectors: those of this repository.

    training_images: dataset -> images that it trains on, where that is known without the dataset. code: fingerprint -> file -> hash.
    """

    name: str
    cells: tuple[ExpectedCell, ...]
    labels: dict[str, LabelFacts]
    detectors: tuple[str, ...]
    training_images: dict[str, int]
    code: dict[str, dict[str, str]] = Field(default={})


class Differs(Exception):
    """Why a record is no cell of the suite; a line."""


def record_faults(record: Record, suite: ExpectedSuite) -> tuple[list[str], list[str]]:
    """What of a record isn't as the suite has it, a line a key; and the marks that it gets though it is accepted."""
    try:
        cell, marks = cell_of(record.identity, suite)
    except Differs as error:
        return [str(error)], []
    faults = [] if record.suite == suite.name else [unlike("suite", record.suite, suite.name)]
    own = () if marks else ("micro_batch_size",)
    left_out = OWN_TO_A_DETECTOR if marks else own
    ours, theirs = (one.model_dump(mode="json", exclude=set(left_out)) for one in (cell.identity, record.identity))
    faults += [unlike(f"identity.{key}", one, other) for key, one, other in differing(theirs, ours)]
    if not marks and not possible_micro_batch(record.identity, cell.identity):
        faults.append(
            unlike("identity.micro_batch_size", record.identity.micro_batch_size, "that of the suite or less")
        )
    faults += id_faults(record)
    faults += [*step_faults(record, suite), *oracle_faults(record, suite), *evaluation_faults(record, cell)]
    return faults, marks


def step_faults(record: Record, suite: ExpectedSuite) -> Iterator[str]:
    """A training by epochs takes as many steps as the suite's training images give."""
    recipe, training = record.identity.recipe, record.training
    epochs, batch_size = recipe.get("epochs"), recipe.get("batch_size")
    images = suite.training_images.get(record.identity.dataset)
    if training is None or images is None or not isinstance(epochs, int) or not isinstance(batch_size, int):
        return
    if training.steps != epochs * max(1, images // max(1, batch_size)):
        yield (
            f"key 'training.steps' is {clipped(training.steps)}, not {clipped(epochs)} epochs of the {images} training images "
            f"of this repository's suite in batches of {clipped(batch_size)}"
        )


def oracle_faults(record: Record, suite: ExpectedSuite) -> Iterator[str]:
    """An oracle that was made of a dataset's training images saw no more of them than there are."""
    made_of = (own_oracle(record.identity) or {}).get("dataset")
    names = {cell.identity.dataset for cell in suite.cells if cell.identity.dataset_key == made_of}
    images = max((suite.training_images[name] for name in names if name in suite.training_images), default=None)
    if images is None:
        return
    for artefact in record.artefacts:
        data = artefact.facts.get("data")
        seen = data.get("images") if isinstance(data, dict) else None
        if artefact.kind == "oracle" and not (isinstance(seen, int) and 0 < seen <= images):
            yield (
                f"key 'artefacts.oracle.facts.data.images' is {clipped(seen)}, this repository's suite has {images} training "
                "images that it was made of"
            )


def unlike(key: str, submitted: object, expected: object) -> str:
    """A key that differs from what the suite has."""
    return f"key '{key}' is {clipped(submitted)}, this repository's suite gives {clipped(expected)}"


def clipped(value: object) -> str:
    """A value, escaped and not long."""
    text = ascii(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def cell_of(identity: Identity, suite: ExpectedSuite) -> tuple[ExpectedCell, list[str]]:
    """The cell of the suite that a record claims to be, and the mark of a detector from elsewhere. Raises Differs if there is none."""
    known = identity.detector in {cell.identity.detector for cell in suite.cells}
    if not known and identity.detector in suite.detectors:
        raise Differs(f"key 'identity.detector' is {clipped(identity.detector)}, which the suite doesn't have")
    named = identity.detector_meta.get("name")
    if not known and isinstance(named, str) and named in suite.detectors:
        raise Differs(
            f"key 'identity.detector' is {clipped(identity.detector)}, a name of its own for {named}, which is this repository's: its "
            "rows are those that the suite has"
        )
    wanted: dict[str, Any] = {"dataset": identity.dataset, "method": identity.method}
    wanted |= {"detector": identity.detector} if known else {}
    wanted |= {"seed": identity.seed}
    candidates: Sequence[ExpectedCell] = suite.cells
    for key, value in wanted.items():
        fitting = [cell for cell in candidates if getattr(cell.identity, key) == value]
        if not fitting:
            there = sorted({getattr(cell.identity, key) for cell in candidates})
            raise Differs(f"key 'identity.{key}' is {clipped(value)}, the suite has {', '.join(map(str, there))}")
        candidates = fitting
    mark = f"{FOREIGN}: {clipped(identity.detector)}, whose code was neither looked at nor run"
    return candidates[0], [] if known else [mark]


def possible_micro_batch(submitted: Identity, suites: Identity) -> bool:
    """Whether a micro-batch is the suite's, or a smaller one, as after running out of memory."""
    share = int(suites.recipe.get("batch_size", 1)) // suites.processes
    size = submitted.micro_batch_size
    return size == suites.micro_batch_size or (size is not None and 1 <= size < (suites.micro_batch_size or share))


def id_faults(record: Record) -> Iterator[str]:
    """A record's id says what it is of, and ends in the hash of its identity."""
    identity = record.identity
    digest = identity_hash(identity)[:10]
    start = f"{identity.dataset}-{identity.detector}-{identity.method}-"
    # Programs have no seeds.
    made = {f"{start}s{identity.seed}-{digest}", f"{start}{digest}"}
    if record.id not in made:
        yield f"key 'id' is {clipped(record.id)}, its identity gives {clipped(min(made, key=len))}"


def evaluation_faults(record: Record, cell: ExpectedCell) -> Iterator[str]:
    """What of the evaluations isn't as the suite has it: none is left out, and none is added."""
    everything: list[Evaluation | Submission] = [*record.evaluations, *record.submissions]
    names = [found.name for found in everything]
    if sorted(names) != sorted(cell.evaluations):
        yield unlike("evaluations", sorted(names), sorted(cell.evaluations))
        return
    for found in everything:
        expected = cell.evaluations[found.name]
        if isinstance(found, Submission) != expected.private:
            told = "has labels: it belongs under 'evaluations'" if not expected.private else "has no public labels"
            yield f"key '{found.name}': split {clipped(expected.split)} of {expected.dataset} {told}"
        for key in ("dataset", "dataset_sha256", "split", "corruption", "metric"):
            one, other = getattr(found, key, None), getattr(expected, key)
            if (
                one != other
                and not (key == "dataset_sha256" and other is None)
                and not (key == "metric" and one is None)
            ):
                yield unlike(f"evaluations.{found.name}.{key}", one, other)
        if isinstance(found, Evaluation) and expected.images not in (None, found.total.images):
            yield unlike(f"evaluations.{found.name}.total.images", found.total.images, expected.images)


def differing(one: Any, other: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The innermost keys at which two values differ, and what stands there; None where nothing does."""
    if isinstance(one, dict) and isinstance(other, dict):
        for name in sorted(one.keys() | other.keys()):
            yield from differing(one.get(name), other.get(name), f"{key}.{name}" if key else str(name))
    elif one != other or type(one) is not type(other):
        yield key, one, other
