"""Records: what one cell showed, and the counts per image that every figure of a leaderboard is made from.

A record is one JSON file, `<id>.json`, that carries a hash of itself (`harness.records.text`); beside it lies one
`<id>.<evaluation>.counts.npz` an evaluation. Records and counts hold fractions and plain counts; points (x 100) exist only in tables.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, StringConstraints, Tag, ValidationError, model_validator

from harness.errors import InputError
from harness.files.arrays import ARCHIVE_LIMIT
from harness.files.stored import canonical_json, no_collection, read_bounded, sha256_of_json, written_aside
from harness.files.validation import plain_complaint
from harness.records.bounds import Amount, Measured
from harness.records.counts import AccuracyCounts, AccuracyScores, Counts, OverlapScores, Stored, counts_in, unused
from harness.records.text import read_text, with_hash
from harness.records.timings import InferenceCost, OwnTiming, StepCost, Throughput

FileName = Annotated[str, StringConstraints(pattern=r"^[^/\\\x00]+$")]
"""A name that is part of a file's name: it can't lead out of a folder."""

CorruptionText = Annotated[str, StringConstraints(pattern=r"^[a-z_]+-[1-9]$")]
"""What befell the images and how badly: `fog-3`."""


def hashable(value: dict[str, Any]) -> dict[str, Any]:
    """The mapping; ValueError if a number in it is NaN or infinite, and so none that identities are hashed from."""
    canonical_json(value)
    return value


Resolved = Annotated[dict[str, Any], AfterValidator(hashable)]


class Identity(Stored):
    """What makes a cell the cell it is. Never paths, engine or worker counts.

    Each of detector, method, dataset, recipe, selection and confidence is fully resolved (no defaults left open). `threads` are the CPU
    threads of torch. `weights` names the start of the backbone. `micro_batch_size`: samples that went through the model at once, None
    for all of a process's. `processes`: among how many a batch was shared out. `validations`: how often a training was validated
    to choose its best step.
    """

    detector: str
    detector_meta: Resolved
    form: str
    method: str
    method_configuration: Resolved
    oracle: Resolved | None
    dataset: str
    dataset_key: Resolved
    recipe: Resolved
    weights: str
    precision: Literal["fp32", "bf16", "fp16"]
    threads: int
    selection: Literal["last", "val-best"]
    confidence: Literal["published", "val-best"]
    seed: int
    micro_batch_size: int | None = unused(None)
    channels_last: bool = unused(False)
    compiled: bool = unused(False)
    processes: int = unused(1)
    validations: int | None = unused(None)


def _tag(value: Any) -> str:
    """Which kind of scores a stored mapping, or a model, is."""
    accurate = "accuracy" in value if isinstance(value, dict) else isinstance(value, AccuracyScores)
    return "<accuracy>" if accurate else "<overlap>"


Scores = Annotated[
    Annotated[OverlapScores, Tag("<overlap>")] | Annotated[AccuracyScores, Tag("<accuracy>")], Discriminator(_tag)
]


class Evaluation(Stored):
    """One scoring of a cell's predictions. `confidence_threshold` is the one that was used, in the detector's own scores.

    `dataset` is the one that was tested, which need not be the one that was trained on. `corruption` of its images: `fog-3`, with the
    severity; None for clean ones.

    The metric's family, what stands before the `/` of its name, says which kind of scores it has: `tusimple` has AccuracyScores, every
    other OverlapScores.
    """

    name: FileName
    dataset: FileName
    dataset_sha256: str
    split: FileName
    corruption: CorruptionText | None
    metric: str
    confidence_threshold: float
    total: Scores
    scenarios: dict[str, Scores]
    counts_file: str
    counts_sha256: str
    predictions_sha256: str
    warnings: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _scores_of_the_metric(self) -> Self:
        kind = AccuracyScores if self.metric.partition("/")[0] == "tusimple" else OverlapScores
        if not all(isinstance(scores, kind) for scores in (self.total, *self.scenarios.values())):
            raise ValueError(f"scores of another kind than metric {self.metric!r} gives")
        return self


class Submission(Stored):
    """Predictions on a split that can't be scored here, written for whoever can. `why`: labels that only a server has."""

    name: FileName
    dataset: FileName
    dataset_sha256: str
    split: FileName
    corruption: CorruptionText | None
    why: Literal["labels private"]
    confidence_threshold: float
    predictions_sha256: str


class TrainingCost(Stored):
    """What the training took. Seconds are wall time of the steps alone, over all resumed parts.

    skipped_steps: those without an update, because fp16 gradients overflowed. best_step, best_score: of a training whose best step on
    the validation split was chosen, in fractions of the headline metric.
    """

    steps: Amount
    images: Amount
    batch_size: Amount
    micro_batch_size: Amount
    seconds: Measured
    seconds_per_step: Measured
    peak_memory_bytes: Amount | None
    resumed: Amount
    final_losses: dict[str, float]
    final_diagnostics: dict[str, float]
    skipped_steps: Amount = unused(0)
    best_step: Amount | None = unused(None)
    best_score: float | None = unused(None)


class Artefact(Stored):
    """A prerequisite that was built or fetched: rendered dataset, oracle, target statistics, backbone weights."""

    kind: str
    name: str
    key: str
    sha256: str
    facts: dict[str, Any] = Field(default={})


class Environment(Stored):
    """Where a cell ran."""

    device: str
    cpu: str
    cores: Amount
    operating_system: str
    python: str
    torch: str
    timm: str
    numpy: str
    opencv: str
    cuda: str | None
    cudnn: str | None
    driver: str | None
    samiro_bench: str
    commit: str | None


class Record(Stored):
    """Everything that one cell showed. `selected_on`: the split its checkpoint or confidence threshold was chosen on, or None."""

    schema_version: Literal[2] = 2
    id: FileName
    suite: str
    identity: Identity
    fingerprints: dict[str, dict[str, str]]
    checkpoint_sha256: str
    selected_on: str | None
    evaluations: tuple[Evaluation, ...]
    submissions: tuple[Submission, ...] = ()
    throughput: tuple[Throughput, ...]
    training: TrainingCost | None
    """None of a program that was trained elsewhere."""
    own_timing: OwnTiming | None = unused(None)
    """Of a program, where it times itself."""
    step_cost: StepCost | None = None
    """None for the baseline, where both arms together didn't fit into memory, and in records from before it was measured."""
    inference_cost: tuple[InferenceCost, ...] = unused(())
    """Of a method that leaves something in the deployed network."""
    artefacts: tuple[Artefact, ...]
    environment: Environment
    flags: tuple[str, ...] = ()
    """Why a row isn't ranked or a pair isn't used (`stale accepted`, `oracle failed its gate`, ...): plain words."""


@dataclass(frozen=True)
class ReadRecord:
    """A record that was read. fault: why no figure may rest on it all the same, None if nothing is wrong."""

    record: Record
    fault: str | None


def corruption_text(name: str, severity: int) -> str:
    """How records name a corruption of some severity: `fog-3`."""
    return f"{name}-{severity}"


def corruption_of(text: str) -> tuple[str, int]:
    """The name and the severity of a corruption as records name it."""
    name, _, severity = text.rpartition("-")
    return name, int(severity)


def identity_hash(identity: Identity) -> str:
    """The sha256 that a cell's id ends in the beginning of."""
    return sha256_of_json(identity.model_dump(mode="json"))


def write_record(folder: Path, record: Record) -> Path:
    """Write `<id>.json` with its hash, atomically; returns its path."""
    path = folder / f"{record.id}.json"
    with written_aside(path) as aside:
        aside.write_bytes(with_hash(record.model_dump_json(indent=1) + "\n"))
    return path


def read_any_record(path: Path) -> ReadRecord:
    """Read one record, also one that was changed after it was written. InputError for anything that isn't a record."""
    text = read_text(path)
    try:
        record = Record.model_validate_json(text.body)
    except ValidationError as error:
        raise InputError(f"{path}: {plain_complaint(error)}; move the file away and run `bench` again") from error
    fault = text.fault
    if fault is None and f"{record.id}.json" != path.name:
        fault = f"key 'id' is {record.id!r}, so the file is a copy or was renamed"
    return ReadRecord(record, fault)


def read_record(path: Path) -> Record:
    """Read one record. InputError names the file and key for anything that isn't a record, or isn't as it was written."""
    read = read_any_record(path)
    if read.fault is not None:
        raise InputError(f"{path}: {read.fault}; restore it, or move it away and run `bench` again")
    return read.record


def read_records(folder: Path) -> list[Record]:
    """All records of a folder, in the order of their ids; an empty or missing folder gives none."""
    return [read_record(path) for path in sorted(folder.glob("*.json"))]


def read_sound_records(paths: Iterable[Path]) -> tuple[list[Record], list[str]]:
    """The records that can be read, in the order given, and for each of the others what is wrong with it, in a line."""
    records, faults = [], []
    with no_collection():
        for path in paths:
            try:
                records.append(read_record(path))
            except InputError as error:
                faults.append(str(error))
    return records, faults


def counts_path(folder: Path, record_id: str, evaluation: str) -> Path:
    """Where the counts of an evaluation lie beside their record."""
    return folder / f"{record_id}.{evaluation}.counts.npz"


def read_checked_counts(folder: Path, record: Record, evaluation: Evaluation) -> Counts:
    """The counts that a record names, refused if their sha256 isn't the recorded one or they are of another kind than its scores."""
    if evaluation.counts_file != counts_path(folder, record.id, evaluation.name).name:
        raise InputError(
            f"{record.id}.json: key 'counts_file' is {evaluation.counts_file!r}, not a file beside the record"
        )
    path = folder / evaluation.counts_file
    if not path.is_file():
        raise InputError(f"{path}: missing, though {record.id}.json names it under 'counts_file'; run `bench` again")
    data = read_bounded(path, ARCHIVE_LIMIT)
    if hashlib.sha256(data).hexdigest() != evaluation.counts_sha256:
        raise InputError(
            f"{path}: differs from key 'counts_sha256' of {record.id}.json; run `bench` again to score the cell"
        )
    counts = counts_in(data, path)
    if isinstance(evaluation.total, AccuracyScores) != isinstance(counts, AccuracyCounts):
        raise InputError(
            f"{path}: counts of another metric than {evaluation.metric}; run `bench` again to score the cell"
        )
    return counts
