"""Scoring a published row again, from its archived predictions and the labels it was scored on."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np

from harness.datasets.base import Dataset, open_dataset
from harness.datasets.predictions import predictions_sha256, unpack_predictions
from harness.datasets.roots import dataset_root
from harness.errors import InputError
from harness.files.scratch import scratch_folder
from harness.files.stored import canonical_json, sha256_of_file
from harness.lanes import Lane
from harness.metrics.canvas import LANE_WIDTH
from harness.publishing.checksums import RESTORE
from harness.publishing.labels import doubt_of, labels_name, laid_out, unpack_labels
from harness.records.counts import UNNAMED, Counts, ScopeScores, read_counts, scope_scores
from harness.records.record import Evaluation, Record, Submission, counts_path
from harness.scoring import SCORINGS, scoring_on

Outcome = Literal["verified", "differs", "unverified"]

LONGEST_SIDE = 20_000
THINNEST_LANE, WIDEST_LANE = 2, 1_000
"""Pixels: beyond them a record states no size of images and no width of lanes."""

ABSENT = "labels absent: counts checked, row unverified here"
OTHERS = "the labels at hand aren't those that were scored: counts checked, row unverified here"
DAMAGED = "the labels at hand can't be read: counts checked, row unverified here"


@dataclass(frozen=True)
class Source:
    """The labels of a row, None if they aren't at hand; and why it is unverified all the same or therefore, None if it isn't."""

    dataset: Dataset | None
    doubt: str | None


class LabelSource:
    """The datasets, opened once each, that the rows of a publication are scored on.

    A context: archived labels lie in a temporary folder meanwhile.
    """

    def __init__(self, folder: Path) -> None:
        """folder: the publication's, with its archives in labels/."""
        self.folder = folder / "labels"
        self._opened: dict[tuple[str, ...], Source | InputError] = {}
        self._stack = ExitStack()

    def __enter__(self) -> LabelSource:
        self._temporary = self._stack.enter_context(scratch_folder())
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def of(self, record: Record, evaluation: Evaluation) -> Source:
        """The labels of a row. InputError if archived labels are damaged, missing, or not those of their specification."""
        name = labels_name(evaluation.dataset, evaluation.split, evaluation.dataset_sha256)
        own = evaluation.dataset == record.identity.dataset
        rendered = "rendered" in record.identity.dataset_key if own else (self.folder / name).is_file()
        told = () if rendered else (record.identity.dataset, canonical_json(record.identity.dataset_key))
        key = (name, evaluation.dataset_sha256, *told)
        if key not in self._opened:
            try:
                self._opened[key] = self._archived(name, evaluation) if rendered else at_hand(record, evaluation)
            except InputError as error:
                self._opened[key] = error
        found = self._opened[key]
        if isinstance(found, InputError):
            raise found
        return found

    def predictions(self, dataset: Dataset) -> Path:
        """The folder that predictions on a dataset are laid out in: one for all rows, each of which writes the same files."""
        place = self._temporary / f"predictions-{id(dataset)}"
        place.mkdir(exist_ok=True)
        return place

    def _new_folder(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self._temporary))

    def _archived(self, name: str, evaluation: Evaluation) -> Source:
        labels = unpack_labels(plain(self.folder / name))
        facts = labels.facts
        stated = {"dataset": facts.dataset, "split": facts.split}
        for fact, value in stated.items():
            if value != getattr(evaluation, fact):
                raise InputError(
                    f"{self.folder / name}: its {fact} is {value[:80]!r}, not {getattr(evaluation, fact)!r}; {RESTORE}"
                )
        # First: files are laid out that a stranger's archive names, and as many as it names.
        doubt = doubt_of(labels, evaluation.dataset_sha256, self._new_folder())
        return Source(laid_out(labels, self._new_folder()), doubt)


def at_hand(record: Record, evaluation: Evaluation) -> Source:
    """A licensed dataset on this machine with the content that a row was scored on, or why there is none."""
    key = record.identity.dataset_key
    if evaluation.dataset != record.identity.dataset or "real" not in key:
        return Source(None, f"{ABSENT} (the record doesn't say where {evaluation.dataset} is from)")
    try:
        dataset = open_dataset(
            record.identity.form,
            dataset_root(str(key["real"])),
            name=evaluation.dataset,
            image_size=stated_size(key.get("image_size")),
            lane_width=stated_width(key.get("lane_width")),
        )
    except InputError as error:
        return Source(None, f"{ABSENT} ({error})")
    try:
        content = dataset.content_key()
    except InputError as error:
        return Source(None, f"{DAMAGED} ({error})")
    if content != evaluation.dataset_sha256:
        hashes = f"lists and labels of {dataset.root} have sha256 {content[:12]}, the record has {evaluation.dataset_sha256[:12]}"
        return Source(None, f"{OTHERS} ({hashes})")
    return Source(dataset, None)


def stated_size(value: object) -> tuple[int, int] | None:
    """The size of images as a record states it, (height, width). InputError unless it is None or two lengths that images have."""
    if value is None:
        return None
    if (
        not isinstance(value, Sequence)
        or len(value) != 2
        or not all(plausible(side, 1, LONGEST_SIDE) for side in value)
    ):
        raise InputError(f"key 'dataset_key.image_size' is {value!r:.40}; give [height, width] in pixels")
    return value[0], value[1]


def stated_width(value: object) -> int | None:
    """The width that lanes are painted in as a record states it. InputError unless it is None or one that lanes have."""
    if value is None:
        return None
    if not isinstance(value, int) or not plausible(value, THINNEST_LANE, WIDEST_LANE):
        raise InputError(f"key 'dataset_key.lane_width' is {value!r:.40}; give {THINNEST_LANE} to {WIDEST_LANE} pixels")
    return value


def plausible(value: object, least: int, most: int) -> bool:
    """Whether a value is a whole number from `least` to `most`."""
    return type(value) is int and least <= value <= most


def plain(path: Path) -> Path:
    """The path, unless it is a link: InputError, for it may lead anywhere."""
    if path.is_symlink():
        raise InputError(f"{path}: a link, and a publication has none; {RESTORE}")
    return path


def check_predictions(
    folder: Path, record: Record, predicted: Evaluation | Submission
) -> tuple[list[str], list[list[Lane]]]:
    """Ids and lanes of an archive of predictions. InputError if it isn't the one that the record names."""
    path = folder / "predictions" / f"{record.id}.{predicted.name}.npz"
    ids, lanes = unpack_predictions(plain(path))
    made = predictions_sha256(ids, lanes)
    if made != predicted.predictions_sha256:
        raise InputError(
            f"{path}: key 'predictions_sha256' of {record.id}.json is {predicted.predictions_sha256[:12]}, the archive gives "
            f"{made[:12]}"
        )
    return ids, lanes


def check_counts(folder: Path, record: Record, evaluation: Evaluation) -> tuple[Counts | None, list[str]]:
    """The published counts of a row, None if they can't be read; and all that is wrong with them, a line each."""
    name = counts_path(folder, record.id, evaluation.name).name
    if evaluation.counts_file != name:
        return None, [f"key 'counts_file' is {evaluation.counts_file[:80]!r}, not {name!r}"]
    path = folder / "records" / name
    try:
        counts = read_counts(plain(path))
        made = sha256_of_file(path)
    except (InputError, OSError) as error:
        return None, [str(error)]
    wrong = []
    if made != evaluation.counts_sha256:
        wrong.append(f"{path}: key 'counts_sha256' is {evaluation.counts_sha256[:12]}, the file gives {made[:12]}")
    return counts, wrong


def scored_again(
    dataset: Dataset, evaluation: Evaluation, ids: list[str], lanes: list[list[Lane]], place: Path
) -> Counts:
    """The counts of archived predictions, laid out in the folder `place`, by the metric that the record names.

    InputError if they can't be scored by it.
    """
    frames = dataset.frames(evaluation.split)
    if [frame.id for frame in frames] != ids:
        raise InputError("the archived predictions are of other images than the labels, or in another order")
    metric = metric_of(dataset)
    if metric != evaluation.metric:
        raise InputError(f"key 'metric' is {evaluation.metric!r}, but these labels are scored by {metric!r}")
    scorer = SCORINGS[dataset.form].scorer
    try:
        dataset.write_predictions(place, frames, lanes)
        counts, _ = scorer(dataset, evaluation.split, place, progress=lambda done: None, workers=1)
    except (OSError, ValueError, MemoryError) as error:
        # Labels and predictions are those of strangers: what they make these raise says that they can't be scored.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"the archived predictions can't be scored on these labels ({reason})") from error
    return counts


def metric_of(dataset: Dataset) -> str:
    """The name of the metric that a dataset's labels are scored by in the matrix."""
    scoring = SCORINGS[dataset.form]
    if dataset.form != "culane":
        return scoring.metric
    return scoring_on(scoring, dataset.image_size, getattr(dataset, "lane_width", None) or LANE_WIDTH).metric


def different_counts(recorded: Counts, made: Counts) -> list[str]:
    """Where two counts aren't equal bit by bit, a line an array that names the first image."""
    if type(recorded) is not type(made):
        return ["counts: of another metric than scoring gives"]
    if len(recorded.image) != len(made.image):
        return [f"counts: recorded of {len(recorded.image)} images, re-scored of {len(made.image)}"]
    told = []
    for field in fields(recorded):
        one, other = getattr(recorded, field.name), getattr(made, field.name)
        unequal = (one != other).reshape(len(one), -1).any(axis=1)
        if unequal.any():
            row = int(np.flatnonzero(unequal)[0])
            told.append(
                f"counts of {made.image[row]}: {field.name}: recorded {value_of(one[row])}, re-scored {value_of(other[row])} "
                f"({int(unequal.sum())} images differ)"
            )
    return told


def value_of(value: Any) -> Any:
    """A number, text or list of numbers out of numpy."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def different_scores(evaluation: Evaluation, counts: Counts, made_by: str) -> list[str]:
    """The recorded scores that aren't exactly what counts give, a line a key: recorded and made."""
    told = []
    recorded: dict[str, tuple[str | None, ScopeScores]] = {"total": (None, evaluation.total)}
    recorded |= {f"scenarios.{name}": (name, scores) for name, scores in evaluation.scenarios.items()}
    for path, (scenario, scores) in recorded.items():
        rows = slice(None) if scenario is None else counts.scenario == scenario
        made = scope_scores(counts, rows)
        if type(made) is not type(scores):
            return [f"evaluations.{evaluation.name}.{path}: scores of another metric than {made_by} gives"]
        for field in type(scores).model_fields:
            one, other = getattr(scores, field), getattr(made, field)
            if one != other:
                told.append(f"evaluations.{evaluation.name}.{path}.{field}: recorded {one}, {made_by} {other}")
    lacking = sorted(set(counts.scenario.tolist()) - {UNNAMED} - set(evaluation.scenarios))
    return [*told, *(f"evaluations.{evaluation.name}.scenarios.{name}: not recorded" for name in lacking)]
