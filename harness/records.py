"""Records: what one cell showed, and the counts per image that every figure of a leaderboard is made from.

A record is one JSON file, `<id>.json`; beside it lies one `<id>.<evaluation>.counts.npz` an evaluation. Records and counts hold
fractions and plain counts; points (x 100) exist only in tables.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from harness.errors import InputError
from harness.files import sha256_of_file, write_text, written_aside

SCHEMA_VERSION = 1

THRESHOLDS: tuple[float, ...] = (0.50, 0.55, 0.60, 0.65, 0.70, 0.75, 0.80, 0.85, 0.90, 0.95)
"""The IoU thresholds of the columns of `Counts.true_positives`: COCO's ten, as CLRNet's mF1 uses them."""


class Stored(BaseModel):
    """Base of all stored models: frozen, unknown keys refused, NaN and infinity refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Identity(Stored):
    """What makes a cell the cell it is. Never paths, engine or worker counts.

    Each of detector, method, dataset, recipe, selection and confidence is fully resolved (no defaults left open). `threads` are the CPU
    threads of torch. `weights` names the start of the backbone.
    """

    detector: str
    detector_meta: dict[str, Any]
    form: str
    method: str
    method_configuration: dict[str, Any]
    oracle: dict[str, Any] | None
    dataset: str
    dataset_key: dict[str, Any]
    recipe: dict[str, Any]
    weights: str
    precision: Literal["fp32", "bf16", "fp16"]
    threads: int
    selection: Literal["last", "val-best"]
    confidence: Literal["published", "val-best"]
    seed: int


class ScopeScores(Stored):
    """Sums over one scope (the whole split or one scenario) and the fractions made of them; None is undefined (0/0).

    true_positives: at the ten THRESHOLDS. mf1 is the mean of the ten F1, an undefined one counting 0.
    """

    images: int
    labels: int
    predictions: int
    true_positives: tuple[int, ...]
    f1_50: float | None
    f1_75: float | None
    mf1: float


class Evaluation(Stored):
    """One scoring of a cell's predictions. `confidence_threshold` is the one that was used, in the detector's own scores."""

    name: str
    dataset: str
    dataset_sha256: str
    split: str
    corruption: str | None
    metric: str
    confidence_threshold: float
    total: ScopeScores
    scenarios: dict[str, ScopeScores]
    counts_file: str
    counts_sha256: str
    predictions_sha256: str
    warnings: tuple[str, ...] = ()


class Latency(Stored):
    """Milliseconds over the timed iterations."""

    p50: float
    p90: float
    p95: float
    p99: float
    mean: float
    minimum: float


class Throughput(Stored):
    """One run of a lane-latency protocol: batch 1, region L1 = host-to-device + model + post-processing.

    `model` and `post` are the regions by themselves, from a second pass. `reference_ms`: median of the fixed reference model before and
    after. `gflops` counts a multiply-add as two operations.
    """

    protocol: Literal["lane-latency/1", "lane-latency/1-short"]
    device: str
    threads: int
    precision: str
    images: int
    iterations: int
    latency_ms: Latency
    model_ms: Latency
    post_ms: Latency
    fps: float
    reference_ms: tuple[float, float]
    parameters: int
    gflops: float | None
    gflops_is_lower_bound: bool
    peak_memory_bytes: int | None
    flags: tuple[str, ...] = ()


class TrainingCost(Stored):
    """What the training took. Seconds are wall time of the steps alone, over all resumed parts."""

    steps: int
    images: int
    batch_size: int
    micro_batch_size: int
    seconds: float
    seconds_per_step: float
    peak_memory_bytes: int | None
    resumed: int
    final_losses: dict[str, float]
    final_diagnostics: dict[str, float]


class Artefact(Stored):
    """A prerequisite that was built or fetched: rendered dataset, oracle, target statistics, backbone weights."""

    kind: str
    name: str
    key: str
    sha256: str
    facts: dict[str, Any] = {}


class Environment(Stored):
    """Where a cell ran."""

    device: str
    cpu: str
    cores: int
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
    """Everything that one cell showed. `selected_on`: the split its checkpoint was chosen on, None for the last step."""

    schema_version: Literal[1] = 1
    id: str
    suite: str
    identity: Identity
    fingerprints: dict[str, dict[str, str]]
    checkpoint_sha256: str
    selected_on: str | None
    evaluations: tuple[Evaluation, ...]
    throughput: tuple[Throughput, ...]
    training: TrainingCost
    artefacts: tuple[Artefact, ...]
    environment: Environment
    flags: tuple[str, ...] = ()
    """Why a row isn't ranked or a pair isn't used (`stale accepted`, `oracle failed its gate`, ...): plain words."""


@dataclass(frozen=True, eq=False)
class Counts:
    """Counts of one evaluation, one row an image.

    image, clip, scenario: str arrays (N,). labels, predictions: int32 (N,). true_positives: int32 (N, 10) at THRESHOLDS.
    """

    image: npt.NDArray[np.str_]
    clip: npt.NDArray[np.str_]
    scenario: npt.NDArray[np.str_]
    labels: npt.NDArray[np.int32]
    predictions: npt.NDArray[np.int32]
    true_positives: npt.NDArray[np.int32]


def write_record(folder: Path, record: Record) -> Path:
    """Write `<id>.json` atomically; returns its path."""
    path = folder / f"{record.id}.json"
    write_text(path, record.model_dump_json(indent=1) + "\n")
    return path


def read_record(path: Path) -> Record:
    """Read one record. InputError names the file and key for anything that isn't a record of this schema."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(
            f"{path}: not a readable record ({error}); restore it or delete it and run `bench` again"
        ) from error
    if isinstance(value, dict) and value.get("schema_version") != SCHEMA_VERSION:
        raise InputError(
            f"{path}: key 'schema_version' is {value.get('schema_version')!r}, this program reads {SCHEMA_VERSION}; "
            "use the version that wrote it, or move the file away and run `bench` again"
        )
    try:
        return Record.model_validate_json(json.dumps(value))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{path}: key '{key}': {first['msg']}; move the file away and run `bench` again") from error


def read_records(folder: Path) -> list[Record]:
    """All records of a folder, in the order of their ids; an empty or missing folder gives none."""
    return [read_record(path) for path in sorted(folder.glob("*.json"))]


def counts_path(folder: Path, record_id: str, evaluation: str) -> Path:
    """Where the counts of an evaluation lie beside their record."""
    return folder / f"{record_id}.{evaluation}.counts.npz"


def write_counts(path: Path, counts: Counts) -> None:
    """Write counts atomically, compressed."""
    with written_aside(path) as aside, open(aside, "wb") as stream:
        np.savez_compressed(
            stream,
            image=counts.image,
            clip=counts.clip,
            scenario=counts.scenario,
            labels=counts.labels,
            predictions=counts.predictions,
            true_positives=counts.true_positives,
        )


def read_counts(path: Path) -> Counts:
    """Read counts; InputError names the file where it is missing, broken, or its arrays disagree in length or type."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            counts = Counts(**{name: archive[name] for name in Counts.__dataclass_fields__})
    except Exception as error:  # numpy raises half a dozen unrelated types for a broken archive
        raise InputError(
            f"{path}: not a readable counts file ({error}); run `bench` again to score the cell"
        ) from error
    images = len(counts.image)
    arrays = (counts.clip, counts.scenario, counts.labels, counts.predictions)
    if any(array.shape != (images,) for array in arrays) or counts.true_positives.shape != (images, len(THRESHOLDS)):
        raise InputError(f"{path}: its arrays disagree in length; run `bench` again to score the cell")
    return counts


def read_checked_counts(folder: Path, record: Record, evaluation: Evaluation) -> Counts:
    """The counts that a record names, refused if their sha256 isn't the recorded one."""
    if evaluation.counts_file != counts_path(folder, record.id, evaluation.name).name:
        raise InputError(
            f"{record.id}.json: key 'counts_file' is {evaluation.counts_file!r}, not a file beside the record"
        )
    path = folder / evaluation.counts_file
    if not path.is_file():
        raise InputError(f"{path}: missing, though {record.id}.json names it under 'counts_file'; run `bench` again")
    if sha256_of_file(path) != evaluation.counts_sha256:
        raise InputError(
            f"{path}: differs from key 'counts_sha256' of {record.id}.json; run `bench` again to score the cell"
        )
    return read_counts(path)


def f1_score(true_positives: int, labels: int, predictions: int) -> float | None:
    """F1 = 2 TP / (labels + predictions); None where there is nothing to find: there only false positives mean something."""
    return 2.0 * true_positives / (labels + predictions) if labels else None


def scope_scores(counts: Counts, rows: npt.NDArray[np.bool_] | slice = slice(None)) -> ScopeScores:
    """Micro-averaged scores over some images of `counts`."""
    labels, predictions = int(counts.labels[rows].sum()), int(counts.predictions[rows].sum())
    true_positives = tuple(int(value) for value in counts.true_positives[rows].sum(axis=0))
    scores = [f1_score(value, labels, predictions) for value in true_positives]
    return ScopeScores(
        images=len(counts.image[rows]),
        labels=labels,
        predictions=predictions,
        true_positives=true_positives,
        f1_50=scores[0],
        f1_75=scores[5],
        mf1=sum(value or 0.0 for value in scores) / len(scores),
    )
