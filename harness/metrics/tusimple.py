"""The TuSimple metric as the official script counts it: `tusimple/official`.

Source: TuSimple/tusimple-benchmark, evaluate/lane.py. A predicted lane is compared with a label at every row of the label's
h_samples; the share of rows within 20 px (measured across the lane) is its accuracy, and 85 % make a match.
Ordinary lanes are compared by compiled code. Whatever else the script has an answer for, or whose answer hangs on the last digit,
is compared as it does it, value by value (`tusimple_lanes.careful_accuracies`).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.errors import InputError
from harness.metrics.oddities import Oddity, refuse
from harness.metrics.tusimple_lanes import accuracies

METRIC = "tusimple/official"

MATCH_ACCURACY = 0.85
RUN_TIME_LIMIT = 200
"""Milliseconds; a slower frame counts as one without a right lane."""

MANTISSA = re.compile(r'"(?:[^"\\]|\\.)*"|(?<![\w.+-])(-?)(\d*)(\.?)(\d*)(?![\d.])', re.DOTALL)
"""A JSON text, or what could be the mantissa of a number: sign, digits, point, digits."""

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Object = dict[str, Any]


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
        """F1 from the mean FP and FN with 1 - FP as the true positives (what CLRNet prints); None if undefined."""
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
    predicted = list(json_lines(predictions, ("raw_file", "lanes", "run_time")))
    labelled = list(json_lines(labels, ("raw_file",)))
    if len(predicted) != len(labelled):
        raise InputError(
            f"{predictions}: {len(predicted)} lines for the {len(labelled)} of {labels}: give one line an image"
        )
    if not labelled:
        raise InputError(f"{labels}: no line: give the labels as JSON lines")
    label_of = {label["raw_file"]: label for label in labelled}
    oddities = []
    seen: set[Hashable] = set()
    rows = []
    for line, prediction in enumerate(predicted, start=1):
        name = prediction["raw_file"]
        if name not in label_of or (isinstance(name, float) and math.isnan(name)):  # no NaN is another
            raise InputError(f"{predictions}, line {line}: raw_file {name!r} is not in {labels}: remove the line")
        if name in seen:
            oddities.append(
                Oddity(predictions, line, f"{name} is predicted again: it is counted again, and another is missing")
            )
        seen.add(name)
        label = label_of[name]
        missing = [key for key in ("lanes", "h_samples") if key not in label]
        if missing:
            raise InputError(f"{labels}: the line of {name} has no key {missing[0]!r}: add it")
        try:
            rows.append(score_image(prediction["lanes"], label, prediction["run_time"]))
        except (ValueError, TypeError, IndexError, KeyError, ArithmeticError) as error:
            what = f"{error}: correct the lanes of {name} here, or in {labels}"
            raise InputError(f"{predictions}, line {line}: {' '.join(what.split())}") from error
        if np.isnan(rows[-1][0]):
            oddities.append(Oddity(predictions, line, f"{name} has no h_samples: its accuracy is undefined"))
    if strict:
        refuse(oddities)
    accuracy, fp, fn, matched, n_gt, n_pred = zip(*rows, strict=True)
    counts = TusimpleCounts(
        images=tuple(str(prediction["raw_file"]) for prediction in predicted),
        accuracy=np.array(accuracy, np.float64),
        fp=np.array(fp, np.float64),
        fn=np.array(fn, np.float64),
        matched=np.array(matched, np.int64),
        n_gt=np.array(n_gt, np.int64),
        n_pred=np.array(n_pred, np.int64),
        labelled=len(label_of),
    )
    return counts, tuple(oddities)


def json_lines(file: Path, keys: tuple[str, ...]) -> Iterator[Object]:
    """The objects of a file of JSON lines, each with the given keys. Raises InputError for any other line."""
    try:
        with open(file, encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    value = parsed(line)
                except (ValueError, RecursionError) as error:
                    raise InputError(f"{file}, line {number}: not JSON ({error}): write one object a line") from error
                if not isinstance(value, dict):
                    raise InputError(f"{file}, line {number}: not a JSON object: write one object a line")
                missing = [key for key in keys if key not in value]
                if missing:
                    raise InputError(f"{file}, line {number}: no key {missing[0]!r}: add it")
                if not isinstance(value["raw_file"], Hashable):
                    raise InputError(f"{file}, line {number}: raw_file is no text: give the image's path")
                yield value
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}: give a file of JSON lines") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not UTF-8 text: give a file of JSON lines") from error


def parsed(line: str) -> Any:
    """A line of JSON, read as leniently as ujson 6 does, which the official script uses. Raises ValueError for any other line.

    ujson takes control characters in texts, and numbers with leading zeros, with a sign but no digit, or with none after the point.
    """
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return json.loads(MANTISSA.sub(plain_mantissa, line), strict=False)


def plain_mantissa(match: re.Match[str]) -> str:
    """The same number as JSON has it; texts, and what is no number for ujson either, as they are."""
    sign, whole, point, rest = match.groups()
    no_digit = not whole and not rest and (point or match.string[match.end() : match.end() + 1].isalpha())
    if no_digit or (not sign and not whole):
        return match.group()
    return f"{sign}{whole.lstrip('0') or '0'}{point}{rest or ('0' if point else '')}"


def score_image(lanes: Any, label: Object, run_time: Any) -> tuple[float, float, float, int, int, int]:
    """Accuracy, fp, fn, matched, n_gt and n_pred of one image. Raises what Python and numpy raise on what cannot be scored."""
    rows, truths = label["h_samples"], label["lanes"]
    height = len(rows)
    for lane in lanes:
        if len(lane) != height:
            raise ValueError(f"a lane of {len(lane)} values for {height} rows")
    n_gt, n_pred = len(truths), len(lanes)
    if run_time > RUN_TIME_LIMIT or n_pred > n_gt + 2:
        return 0.0, 0.0, 1.0, 0, n_gt, n_pred
    best = accuracies(lanes, truths, rows) if n_gt else []
    matched = sum(not accuracy < MATCH_ACCURACY for accuracy in best)
    missed, most, total = n_gt - matched, max(min(4, n_gt), 1), 0.0
    for accuracy in best:
        total += accuracy
    if n_gt > 4:
        missed -= missed > 0
        total -= min(best)
    return total / most, (n_pred - matched) / n_pred if n_pred else 0.0, missed / most, matched, n_gt, n_pred
