"""Counts of one evaluation, one row an image, and the scores that follow from their sums.

There are two kinds, after what a metric counts: matched lanes at ten overlaps (CULane, LLAMAS), or the official rates of every image
(TuSimple). Whatever is done with counts elsewhere, their sums are all that scores are made from.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from harness.errors import InputError
from harness.files.arrays import ARCHIVE_LIMIT, DAMAGE, arrays_of, write_arrays
from harness.files.stored import read_bounded
from harness.sums import added_in_order

THRESHOLDS: tuple[float, ...] = (0.50, 0.55, 0.60, 0.65, 0.70, 0.75, 0.80, 0.85, 0.90, 0.95)
"""The IoU thresholds of the columns of `OverlapCounts.true_positives`: COCO's ten, as CLRNet's mF1 uses them."""

COUNTS_FILE = "counts.npz"
"""Of phase `score`: counts of every image."""

SUBMISSION_FILE = "submission.zip"
"""Of phase `score` instead: predictions on a split whose labels are private."""

UNNAMED = "unnamed"
"""The scenario of images that have none."""

NAMES = ("image", "clip", "scenario")
RATES = ("accuracy", "fp", "fn")
"""The arrays that hold text, and those that hold fractions; the others hold whole numbers."""

Values: TypeAlias = npt.NDArray[np.int64] | npt.NDArray[np.float64]
Sums: TypeAlias = Mapping[str, Any]
"""What `Counts.summands` names -> its sum over some images: a number, or one for each IoU threshold."""


class Stored(BaseModel):
    """Base of all stored models: frozen, unknown keys refused, NaN and infinity refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def unused(default: Any) -> Any:
    """A field that is left out where it has its default: what was stored before there was such an option keeps its hash."""
    return Field(default, exclude_if=lambda value: value == default)


class OverlapScores(Stored):
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


class AccuracyScores(Stored):
    """TuSimple's official means over the images of one scope, and two definitions of an F1; None is undefined (0/0).

    accuracy, fp, fn: means of the images' rates. matched: lanes of the labels that were found; predictions - matched may be negative,
    as a prediction may match several. f1_clrnet: from the means (`clrnet_f1`). f1_matched: of the pooled lanes.
    """

    images: int
    labels: int
    predictions: int
    matched: int
    accuracy: float
    fp: float
    fn: float
    f1_clrnet: float | None
    f1_matched: float | None
    images_with_negative_fp: int


ScopeScores: TypeAlias = OverlapScores | AccuracyScores


@dataclass(frozen=True, eq=False)
class Counts(ABC):
    """What is known of every image whatever the metric. image, clip, scenario: str (N,). labels, predictions: lanes, int32 (N,)."""

    image: npt.NDArray[np.str_]
    clip: npt.NDArray[np.str_]
    scenario: npt.NDArray[np.str_]
    labels: npt.NDArray[np.int32]
    predictions: npt.NDArray[np.int32]

    widths: ClassVar[Mapping[str, int]] = {}
    """The arrays that have a second axis -> its length."""

    @abstractmethod
    def summands(self) -> dict[str, Values]:
        """What is summed over images, (N,) or (N, T); "images" is 1 for each."""

    @staticmethod
    @abstractmethod
    def scores(sums: Sums) -> ScopeScores:
        """The scores of some images from the sums of their summands."""

    @abstractmethod
    def possible(self) -> npt.NDArray[np.bool_]:
        """Whether the metric can give such values, for each image, (N,)."""

    @abstractmethod
    def quality(self) -> npt.NDArray[np.float64]:
        """One figure in [0, 1] for each image, (N,): the better, the higher."""


@dataclass(frozen=True, eq=False)
class OverlapCounts(Counts):
    """Counts of a metric that matches lanes by their overlap. true_positives: int32 (N, 10) at THRESHOLDS."""

    true_positives: npt.NDArray[np.int32]

    widths: ClassVar[Mapping[str, int]] = {"true_positives": len(THRESHOLDS)}

    def summands(self) -> dict[str, Values]:
        """Images, labels, predictions, and true positives at the ten thresholds."""
        return {**summed_by_all(self), "true_positives": self.true_positives.astype(np.int64)}

    @staticmethod
    def scores(sums: Sums) -> OverlapScores:
        """Micro-averaged scores."""
        labels, predictions = int(sums["labels"]), int(sums["predictions"])
        true_positives = tuple(np.asarray(sums["true_positives"]).tolist())
        f1 = [f1_score(value, labels, predictions) for value in true_positives]
        return OverlapScores(
            images=int(sums["images"]),
            labels=labels,
            predictions=predictions,
            true_positives=true_positives,
            f1_50=f1[THRESHOLDS.index(0.50)],
            f1_75=f1[THRESHOLDS.index(0.75)],
            mf1=math.fsum(value or 0.0 for value in f1) / len(f1),
        )

    def possible(self) -> npt.NDArray[np.bool_]:
        """No lane is found twice, nor by two."""
        most = np.minimum(self.labels, self.predictions)
        return np.asarray(((self.true_positives >= 0) & (self.true_positives <= most[:, None])).all(axis=1))

    def quality(self) -> npt.NDArray[np.float64]:
        """F1@50 of each image; 1 where there is nothing to find and nothing was."""
        total = self.labels + self.predictions
        return np.asarray(np.where(total > 0, 2.0 * self.true_positives[:, 0] / np.maximum(total, 1), 1.0))


@dataclass(frozen=True, eq=False)
class AccuracyCounts(Counts):
    """Counts of TuSimple's metric. matched: int32 (N,), label lanes found. accuracy, fp, fn: float64 (N,), the official rates."""

    matched: npt.NDArray[np.int32]
    accuracy: npt.NDArray[np.float64]
    fp: npt.NDArray[np.float64]
    fn: npt.NDArray[np.float64]

    def summands(self) -> dict[str, Values]:
        """Images, labels, predictions, matched, images whose fp is negative, and the three rates."""
        return {
            **summed_by_all(self),
            "matched": self.matched.astype(np.int64),
            "negative_fp": (self.fp < 0).astype(np.int64),
            "accuracy": self.accuracy,
            "fp": self.fp,
            "fn": self.fn,
        }

    @staticmethod
    def scores(sums: Sums) -> AccuracyScores:
        """Means over the images, and both F1."""
        images = int(sums["images"])
        accuracy, fp, fn = (float(sums[name] / max(images, 1)) for name in ("accuracy", "fp", "fn"))
        labels, predictions, matched = int(sums["labels"]), int(sums["predictions"]), int(sums["matched"])
        return AccuracyScores(
            images=images,
            labels=labels,
            predictions=predictions,
            matched=matched,
            accuracy=accuracy,
            fp=fp,
            fn=fn,
            f1_clrnet=clrnet_f1(fp, fn),
            f1_matched=f1_score(matched, labels, predictions),
            images_with_negative_fp=int(sums["negative_fp"]),
        )

    def possible(self) -> npt.NDArray[np.bool_]:
        """Up to five labels, rates are at most 1; with more, the official script divides by four all the same.

        A prediction may match all labels, so that fp is at least 1 - labels.
        """
        most = np.maximum(1.0, (self.labels - 1) / 4)
        return np.asarray(
            (self.labels >= 0)
            & (self.predictions >= 0)
            & (self.matched >= 0)
            & (self.matched <= self.labels)
            & (self.accuracy >= 0)
            & (self.accuracy <= most)
            & (self.fn >= 0)
            & (self.fn <= most)
            & (self.fp >= np.minimum(0.0, 1.0 - self.labels))
            & (self.fp <= 1)
        )

    def quality(self) -> npt.NDArray[np.float64]:
        """The accuracy of each image."""
        return self.accuracy


def summed_by_all(counts: Counts) -> dict[str, Values]:
    """The summands that every kind has."""
    return {
        "images": np.ones(len(counts.image), np.int64),
        "labels": counts.labels.astype(np.int64),
        "predictions": counts.predictions.astype(np.int64),
    }


def scope_scores(counts: Counts, rows: npt.NDArray[np.bool_] | slice = slice(None)) -> ScopeScores:
    """The scores over some images of `counts`; rates are added one after another, as the official script adds them."""
    summands = {name: values[rows] for name, values in counts.summands().items()}
    return counts.scores(
        {name: added_in_order(v) if v.dtype.kind == "f" else v.sum(axis=0) for name, v in summands.items()}
    )


def f1_score(true_positives: int, labels: int, predictions: int) -> float | None:
    """F1 = 2 TP / (labels + predictions); None where there is nothing to find: there only false positives mean something."""
    return 2.0 * true_positives / (labels + predictions) if labels else None


def clrnet_f1(fp: float, fn: float) -> float | None:
    """TuSimple's F1 as CLRNet prints it, from the mean FP and FN with 1 - FP as true positives; None where it is undefined.

    Source: Turoad/CLRNet, clrnet/utils/tusimple_metric.py.
    """
    tp = 1.0 - fp
    if tp + fp == 0.0 or tp + fn == 0.0:
        return None
    precision, recall = tp / (tp + fp), tp / (tp + fn)
    return 2.0 * precision * recall / (precision + recall) if precision + recall else None


def write_counts(path: Path, counts: Counts) -> None:
    """Write counts atomically, compressed."""
    write_arrays(path, {field.name: getattr(counts, field.name) for field in fields(counts)})


def read_counts(path: Path) -> Counts:
    """Read counts of either kind; InputError names the file where it is missing, broken, or its arrays disagree in length or type."""
    try:
        data = read_bounded(path, ARCHIVE_LIMIT)
    except OSError as error:
        raise InputError(
            f"{path}: not a readable counts file ({error.strerror}); run `bench` again to score the cell"
        ) from error
    return counts_in(data, path)


def counts_in(data: bytes, path: Path) -> Counts:
    """The counts in the bytes of a file, which messages call `path`; else as `read_counts`."""
    try:
        arrays = arrays_of(data)
        kind: type[Counts] = AccuracyCounts if "accuracy" in arrays else OverlapCounts
        counts = kind(**{field.name: arrays[field.name] for field in fields(kind)})  # type: ignore[arg-type]
    except DAMAGE as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path}: not a readable counts file ({reason}); run `bench` again to score the cell"
        ) from error
    if counts.image.ndim != 1:
        raise InputError(f"{path}: 'image' holds something else; run `bench` again to score the cell")
    for field in fields(counts):
        array = getattr(counts, field.name)
        width = counts.widths.get(field.name)
        if array.shape != ((len(counts.image),) if width is None else (len(counts.image), width)):
            raise InputError(f"{path}: its arrays disagree in length; run `bench` again to score the cell")
        expected = "U" if field.name in NAMES else "f" if field.name in RATES else "i"
        large = expected == "i" and array.dtype.itemsize > 4
        if array.dtype.kind != expected or large or (expected == "f" and not np.isfinite(array).all()):
            raise InputError(f"{path}: {field.name!r} holds something else; run `bench` again to score the cell")
    possible = counts.possible()
    if not possible.all():
        image = str(counts.image[int(np.flatnonzero(~possible)[0])])
        raise InputError(
            f"{path}: counts of {image[:80]!r} that no scoring gives ({int((~possible).sum())} images); run `bench` again to "
            "score the cell"
        )
    return counts
