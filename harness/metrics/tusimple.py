"""The TuSimple metric as the official script counts it: `tusimple/official`.

Source: TuSimple/tusimple-benchmark, evaluate/lane.py. A predicted lane is compared with a label at every row of the label's
h_samples; the share of rows within 20 px (measured across the lane) is its accuracy, and 85 % make a match.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import lstsq

from harness.errors import InputError
from harness.metrics.compiled import compiled
from harness.metrics.oddities import Oddity, refuse

METRIC = "tusimple/official"

PIXEL_THRESHOLD = 20.0
MATCH_ACCURACY = 0.85
RUN_TIME_LIMIT = 200
"""Milliseconds; a slower frame counts as one without a right lane."""

DOUBT = 1e-9
"""Pixels: a distance this near to the threshold is decided with the official script's own arithmetic."""

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
        """The official mean of one of the rates, summed in order."""
        return float(sum(rates.tolist()) / self.labelled)

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
    labelled = list(json_lines(labels, ("raw_file", "lanes", "h_samples")))
    if len(predicted) != len(labelled):
        raise InputError(
            f"{predictions}: {len(predicted)} lines for the {len(labelled)} of {labels}: give one line an image"
        )
    if not labelled:
        raise InputError(f"{labels}: no line: give the labels as JSON lines")
    label_of = {label["raw_file"]: label for label in labelled}
    oddities = []
    seen: set[str] = set()
    rows = []
    for line, prediction in enumerate(predicted, start=1):
        name = prediction["raw_file"]
        if name not in label_of:
            raise InputError(f"{predictions}, line {line}: raw_file {name!r} is not in {labels}: remove the line")
        if name in seen:
            oddities.append(
                Oddity(predictions, line, f"{name} is predicted again: it is counted again, and another is missing")
            )
        seen.add(name)
        try:
            rows.append(score_image(prediction["lanes"], label_of[name], prediction["run_time"]))
        except (ValueError, TypeError) as error:
            raise InputError(f"{predictions}, line {line}: {error}: correct the lanes of {name}") from error
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
                    value = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise InputError(f"{file}, line {number}: not JSON ({error}): write one object a line") from error
                if not isinstance(value, dict):
                    raise InputError(f"{file}, line {number}: not a JSON object: write one object a line")
                missing = [key for key in keys if key not in value]
                if missing:
                    raise InputError(f"{file}, line {number}: no key {missing[0]!r}: add it")
                if not isinstance(value["raw_file"], str):
                    raise InputError(f"{file}, line {number}: raw_file is no text: give the image's path")
                yield value
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}: give a file of JSON lines") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not UTF-8 text: give a file of JSON lines") from error


def score_image(lanes: Any, label: Object, run_time: Any) -> tuple[float, float, float, int, int, int]:
    """Accuracy, fp, fn, matched, n_gt and n_pred of one image. Raises ValueError or TypeError for what cannot be scored."""
    rows, label_lanes = label["h_samples"], label["lanes"]
    n_gt, n_pred, height = len(label_lanes), len(lanes), len(rows)
    for lane in lanes:
        if len(lane) != height:
            raise ValueError(f"a lane of {len(lane)} values for {height} rows")
    if run_time > RUN_TIME_LIMIT or n_pred > n_gt + 2:
        return 0.0, 0.0, 1.0, 0, n_gt, n_pred
    if n_gt == 0:
        return 0.0, (1.0 if n_pred else 0.0), 0.0, 0, 0, n_pred
    if height == 0:
        raise ValueError("a label without h_samples")
    ys, truths = numbers(rows, "h_samples", (height,)), numbers(label_lanes, "label lanes", (n_gt, height))
    predictions = numbers(lanes, "lanes", (n_pred, height))
    best, doubtful = best_accuracies(predictions, truths, ys, slopes(truths, ys))
    if doubtful:
        exact = np.array([official_slope(truth, ys) for truth in truths])
        best, _ = best_accuracies(predictions, truths, ys, exact)
    accuracies = best.tolist()
    matched = sum(not accuracy < MATCH_ACCURACY for accuracy in accuracies)
    missed = n_gt - matched
    total = sum(accuracies)
    if n_gt > 4:
        missed -= missed > 0
        total -= min(accuracies)
    return (
        total / min(4, n_gt),
        (n_pred - matched) / n_pred if n_pred else 0.0,
        missed / min(4, n_gt),
        matched,
        n_gt,
        n_pred,
    )


def numbers(values: Any, what: str, shape: tuple[int, ...]) -> Floats:
    """The values as an array of that shape. Raises ValueError if they are anything but numbers, or of another shape."""
    array = np.array(values) if len(values) else np.zeros(shape)
    if array.dtype.kind not in "iufb" or array.shape != shape:
        raise ValueError(f"{what} that are not numbers, or not {shape[-1]} each")
    return array.astype(np.float64)


@compiled
def slopes(truths: Floats, ys: Floats) -> Floats:
    """The slope dx/dy of each label's least-squares line through its points with x >= 0; 0 for fewer than two."""
    found = np.zeros(len(truths))
    for lane in range(len(truths)):
        count, x_mean, y_mean = 0, 0.0, 0.0
        for row in range(len(ys)):
            if truths[lane, row] >= 0:
                count += 1
                x_mean += truths[lane, row]
                y_mean += ys[row]
        if count < 2:
            continue
        x_mean /= count
        y_mean /= count
        products = squares = 0.0
        for row in range(len(ys)):
            if truths[lane, row] >= 0:
                products += (truths[lane, row] - x_mean) * (ys[row] - y_mean)
                squares += (ys[row] - y_mean) ** 2
        found[lane] = products / squares if squares > 0 else 0.0
    return found


def official_slope(truth: Floats, ys: Floats) -> float:
    """The same slope with the arithmetic of scikit-learn's LinearRegression, which the official script uses."""
    valid = truth >= 0
    if valid.sum() < 2:
        return 0.0
    columns, xs = ys[valid][:, None], truth[valid]
    centred = columns - np.average(columns, axis=0)
    return float(lstsq(centred, xs - np.average(xs))[0][0])


@compiled
def best_accuracies(predictions: Floats, truths: Floats, ys: Floats, slope: Floats) -> tuple[Floats, bool]:
    """For each label the accuracy of the prediction that fits it best (0 without predictions), and whether a row was in doubt."""
    best = np.zeros(len(truths))
    doubtful = False
    for lane in range(len(truths)):
        threshold = PIXEL_THRESHOLD / np.cos(np.arctan(slope[lane]))
        for other in range(len(predictions)):
            right = 0
            for row in range(len(ys)):
                truth = truths[lane, row] if truths[lane, row] >= 0 else -100.0
                found = predictions[other, row] if predictions[other, row] >= 0 else -100.0
                distance = abs(found - truth)
                right += int(distance < threshold)
                doubtful |= slope[lane] != 0.0 and abs(distance - threshold) < DOUBT
            best[lane] = max(best[lane], right / len(ys))
    return best, doubtful
