"""The TuSimple metric as the official script counts it: `tusimple/official`.

Source: TuSimple/tusimple-benchmark, evaluate/lane.py. A predicted lane is compared with a label at every row of the label's
h_samples; the share of rows within 20 px (measured across the lane) is its accuracy, and 85 % make a match.
Ordinary lines are read and compared by compiled code. Whatever else the script has an answer for, or whose answer hangs on the last
digit, is compared as it does it, value by value (`tusimple_lanes.careful_accuracies`).
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.errors import InputError
from harness.metrics.oddities import Oddity, refuse
from harness.metrics.tusimple_lanes import accuracies, ordinary_accuracies
from harness.metrics.tusimple_oddities import kind, meant, other_rows, worded
from harness.metrics.tusimple_text import LANE_COUNT, RUN_TIME, Lines, read_lines

METRIC = "tusimple/official"

MATCH_ACCURACY = 0.85
RUN_TIME_LIMIT = 200
"""Milliseconds; a slower frame counts as one without a right lane."""

DOUBT = 1e-9
"""Milliseconds: run times that are nearer to the limit are compared with care."""

LABEL_KEYS, PREDICTION_KEYS = ("lanes", "h_samples"), ("lanes", "run_time")
"""The keys beside raw_file that count."""

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Row = tuple[float, float, float, int, int, int]
"""Accuracy, fp and fn of an image, and its lanes matched, labelled and predicted."""


@dataclass(frozen=True, eq=False)
class TusimpleCounts:
    """One entry a predicted image, in the order of the prediction file.

    accuracy, fp, fn: the official rates of the image. matched: label lanes found; n_gt, n_pred: lanes in labels and predictions.
    labelled: the number of labelled images, which the official means are over.
    """

    images: tuple[str, ...]
    accuracy: Floats
    fp: Floats
    fn: Floats
    matched: Integers
    n_gt: Integers
    n_pred: Integers
    labelled: int

    def mean(self, rates: Floats) -> float:
        """The official mean of one of the rates, summed in order. NaN where a label without rows has lanes predicted."""
        return float(np.cumsum(rates)[-1] / self.labelled)

    @property
    def f1_clrnet(self) -> float | None:
        """F1 from the mean FP and FN with 1 - FP as the true positives (what CLRNet prints); None if undefined.

        Predictions without a lane have FP 0 and FN 1, of which that makes 2/3.
        """
        fp, fn = self.mean(self.fp), self.mean(self.fn)
        tp = 1.0 - fp
        if tp + fp == 0.0 or tp + fn == 0.0:
            return None
        precision, recall = tp / (tp + fp), tp / (tp + fn)
        return 2 * precision * recall / (precision + recall) if precision + recall else None

    @property
    def f1_matched(self) -> float | None:
        """F1 of the pooled counts: label lanes matched, predictions beyond them, label lanes missed; None if undefined."""
        matched, n_gt, n_pred = int(self.matched.sum()), int(self.n_gt.sum()), int(self.n_pred.sum())
        return 2 * matched / (n_gt + n_pred) if n_gt + n_pred else None

    @property
    def images_with_negative_fp(self) -> int:
        """Images where one prediction matched several labels and made up for false ones."""
        return int((self.fp < 0).sum())


def score_file(labels: Path, predictions: Path, *, strict: bool = False) -> tuple[TusimpleCounts, tuple[Oddity, ...]]:
    """Score a file of JSON lines. Raises InputError for whatever the official script raises on, and, when strict, for anything odd.

    That is: unequal numbers of lines, a line that is no JSON object or lacks a key, an unknown raw_file, a lane with another number
    of values than its label's h_samples, a value that is no number.
    """
    predicted, labelled = read_lines(predictions, PREDICTION_KEYS), read_lines(labels, LABEL_KEYS)
    if len(predicted) != len(labelled):
        raise InputError(
            f"{predictions}: {len(predicted)} lines for the {len(labelled)} of {labels}: give one line an image"
        )
    if not labelled.names:
        raise InputError(f"{labels}: no line: give the labels as JSON lines")
    line_of = {name: line for line, name in enumerate(labelled.names)}
    pairs, repeated = paired(predicted, line_of, labels)
    oddities = [*labelled.oddities, *repeated_labels(labelled, line_of), *predicted.oddities, *repeated]
    oddities += unlike_labels(predicted, labelled, pairs)
    best, ends, certain = ordinary_accuracies(predicted, labelled, np.array(pairs))
    run_times = predicted.values[predicted.table[:, RUN_TIME]].tolist() if len(predicted.values) else []
    n_preds, start = predicted.table[:, LANE_COUNT].tolist(), 0
    rows = []
    for line, (label_line, end, sure) in enumerate(zip(pairs, ends, certain, strict=True)):
        found = best[start:end]
        start = end
        if sure and abs(run_times[line] - RUN_TIME_LIMIT) > DOUBT:
            run_time = run_times[line]
            rows.append(rates(found, len(found), n_preds[line], run_time))
        else:
            run_time, row = score_lines(predicted, line, labelled, label_line)
            rows.append(row)
        if run_time > RUN_TIME_LIMIT:
            what = f"run_time {reprlib.repr(run_time)} is above {RUN_TIME_LIMIT}: the image counts as one without a right lane"
            oddities.append(Oddity(predictions, line + 1, what))
        if math.isnan(rows[-1][0]):
            what = f"{predicted.names[line]} has no h_samples: its accuracy is undefined"
            oddities.append(Oddity(predictions, line + 1, what))
    if strict:
        refuse(oddities)
    accuracy, fp, fn, matched, n_gt, n_pred = zip(*rows, strict=True)
    counts = TusimpleCounts(
        images=tuple(map(str, predicted.names)),
        accuracy=np.array(accuracy, np.float64),
        fp=np.array(fp, np.float64),
        fn=np.array(fn, np.float64),
        matched=np.array(matched, np.int64),
        n_gt=np.array(n_gt, np.int64),
        n_pred=np.array(n_pred, np.int64),
        labelled=len(line_of),
    )
    return counts, tuple(oddities)


def paired(predicted: Lines, line_of: dict[Hashable, int], labels: Path) -> tuple[list[int], list[Oddity]]:
    """The line of the label of each predicted image, and a word on images that are predicted again."""
    pairs, oddities = [], []
    seen: set[Hashable] = set()
    for line, name in enumerate(predicted.names, start=1):
        if name not in line_of or (isinstance(name, float) and math.isnan(name)):  # no NaN is another
            there = meant(name, line_of)
            fix = "remove the line" if there is None else f"name it {there!r}, as there"
            raise InputError(f"{predicted.file}, line {line}: raw_file {name!r} is not in {labels}: {fix}")
        if name in seen:
            what = f"{name} is predicted again: it is counted again, and another is missing"
            oddities.append(Oddity(predicted.file, line, what))
        seen.add(name)
        pairs.append(line_of[name])
    return pairs, oddities


def unlike_labels(predicted: Lines, labelled: Lines, pairs: Sequence[int]) -> list[Oddity]:
    """A word on predictions that say themselves at which rows they are, and say others than their label."""
    oddities = []
    for line, label_line in enumerate(pairs):
        given = predicted.rows(line)
        what = None if given is None else other_rows(given, labelled.rows(label_line))
        if what is not None:
            oddities.append(Oddity(predicted.file, line + 1, what))
    return oddities


def repeated_labels(labelled: Lines, line_of: dict[Hashable, int]) -> list[Oddity]:
    """A word on labels that are given again further down."""
    if len(line_of) == len(labelled):
        return []
    lines = enumerate(labelled.names)
    what = "{} is labelled again on line {}: the last label counts"
    return [
        Oddity(labelled.file, line + 1, what.format(name, line_of[name] + 1))
        for line, name in lines
        if line_of[name] != line
    ]


def score_lines(predicted: Lines, line: int, labelled: Lines, label_line: int) -> tuple[float, Row]:
    """The run time and the score of a line that is not ordinary, or whose label isn't.

    Raises InputError where it lacks a key or can't be scored.
    """
    prediction, label = predicted.content(line), labelled.content(label_line)
    for lines, number, content, keys in (
        (predicted, line, prediction, PREDICTION_KEYS),
        (labelled, label_line, label, LABEL_KEYS),
    ):
        missing = [key for key in keys if key not in content]
        if missing:
            raise InputError(f"{lines.file}, line {number + 1}: no key {missing[0]!r}: add it")
    run_time = prediction["run_time"]
    if not isinstance(run_time, (int, float)):
        raise InputError(
            f"{predicted.file}, line {line + 1}: run_time is {kind(run_time)}, not a number: give milliseconds"
        )
    try:
        return run_time, score_image(prediction["lanes"], label, run_time)
    except (ValueError, TypeError, IndexError, KeyError, ArithmeticError) as error:
        fault = worded(error, prediction["lanes"], label["lanes"])
        what = f"{fault}: correct the lanes here, or in {labelled.file}, line {label_line + 1}"
        raise InputError(f"{predicted.file}, line {line + 1}: {' '.join(what.split())}") from error


def score_image(lanes: Any, label: dict[str, Any], run_time: Any) -> Row:
    """Accuracy, fp, fn, matched, n_gt and n_pred of one image. Raises what Python and numpy raise on what cannot be scored."""
    rows, truths = label["h_samples"], label["lanes"]
    height = len(rows)
    for lane in lanes:
        if len(lane) != height:
            raise ValueError(f"a lane of {len(lane)} values for {height} rows")
    n_gt, n_pred = len(truths), len(lanes)
    best = [] if n_gt == 0 or failed(n_gt, n_pred, run_time) else accuracies(lanes, truths, rows)
    return rates(best, n_gt, n_pred, run_time)


def failed(n_gt: int, n_pred: int, run_time: Any) -> bool:
    """Whether an image counts as one without a right lane: it took too long, or has too many lanes."""
    return bool(run_time > RUN_TIME_LIMIT or n_pred > n_gt + 2)


def rates(best: list[float], n_gt: int, n_pred: int, run_time: Any) -> Row:
    """What follows from the accuracy of the best prediction for each label."""
    if failed(n_gt, n_pred, run_time):
        return 0.0, 0.0, 1.0, 0, n_gt, n_pred
    matched, total = 0, 0.0
    for accuracy in best:
        matched += not accuracy < MATCH_ACCURACY
        total += accuracy
    missed, most = n_gt - matched, max(min(4, n_gt), 1)
    if n_gt > 4:
        missed -= missed > 0
        total -= min(best)
    return total / most, (n_pred - matched) / n_pred if n_pred else 0.0, missed / most, matched, n_gt, n_pred
