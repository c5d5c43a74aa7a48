"""How well the predicted lanes of a TuSimple image fit its labels: the official script's accuracies, fast where lanes are ordinary.

Source: TuSimple/tusimple-benchmark, evaluate/lane.py, with scikit-learn's LinearRegression.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import lstsq

from harness.metrics.compiled import compiled
from harness.metrics.tusimple_text import LANE_COUNT, LANE_SIZE, LANES, ORDINARY, ROW_COUNT, ROWS, RUN_TIME, Lines

PIXEL_THRESHOLD = 20.0

ABSENT = -100.0
"""What every negative x becomes before lanes are compared."""

MODEST = 1e5
"""Lanes with values beyond this many pixels are compared carefully."""

DOUBT = 1e-9
"""A distance that is nearer to the threshold than this share of it is decided carefully."""

Floats = npt.NDArray[np.float64]
Anything = npt.NDArray[Any]


def ordinary_accuracies(
    predicted: Lines, labelled: Lines, pairs: npt.NDArray[np.int64]
) -> tuple[list[float], list[int], list[bool]]:
    """`accuracies` of each predicted line with the label on the line `pairs` names: flat, where each line's end, which are certain.

    A line is not certain if it or its label is not ordinary, lacks a key or has lanes of a wrong length, or if the last digit matters.
    """
    columns = [ORDINARY, LANES, LANE_COUNT, LANE_SIZE]
    ours, theirs = predicted.table, labelled.table[pairs]
    places = np.concatenate([ours[:, [*columns, RUN_TIME]], theirs[:, [*columns, ROWS, ROW_COUNT]]], axis=1)
    best, ends, certain = accuracies_of_lines(np.ascontiguousarray(places), predicted.values, labelled.values)
    return best.tolist(), ends.tolist(), certain.tolist()


@compiled
def accuracies_of_lines(
    places: npt.NDArray[np.int64], found: Floats, sought: Floats
) -> tuple[Floats, npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """See `ordinary_accuracies`; places: its columns, in order."""
    ends, certain = np.zeros(len(places), np.int64), np.zeros(len(places), np.bool_)
    best = np.zeros(max(places[:, 7].sum() + len(places), 1))  # -1 lanes where there are none
    used = 0
    for line in range(len(places)):
        at, count, size = places[line, 1], places[line, 2], places[line, 3]
        truth_at, truth_count, truth_size = places[line, 6], places[line, 7], places[line, 8]
        rows_at, height = places[line, 9], places[line, 10]
        complete = (
            min(places[line, 0], places[line, 5]) == 1 and min(places[line, 4], min(at, min(truth_at, rows_at))) >= 0
        )
        if complete and (count == 0 or size == height) and (truth_count == 0 or truth_size == height):
            lanes = found[at : at + count * height].reshape(count, height)
            truths = sought[truth_at : truth_at + truth_count * height].reshape(truth_count, height)
            accurate, sure = best_accuracies(lanes, truths, sought[rows_at : rows_at + height])
            certain[line] = sure
            for lane in range(truth_count):
                best[used] = accurate[lane]
                used += 1
        ends[line] = used
    return best, ends, certain


def accuracies(lanes: Any, truths: Any, rows: Any) -> list[float]:
    """For each label lane the accuracy of the prediction that fits it best; 0 without predictions, NaN without rows.

    Raises ValueError, TypeError, IndexError or OverflowError for what the official script fails on.
    """
    ys, sought = ordinary(rows, 1), ordinary(truths, 2)
    found = ordinary(lanes, 2) if lanes else np.empty((0, len(rows)))
    if ys is not None and found is not None and sought is not None and len(ys) == found.shape[1] == sought.shape[1]:
        best, certain = best_accuracies(found, sought, ys)
        if certain:
            return [float(accuracy) for accuracy in best]
    return careful_accuracies(lanes, truths, rows)


def ordinary(values: Any, dimensions: int) -> Floats | None:
    """A list of numbers, or of such lists of equal length, as an array; None for anything else, also for numbers of a wild size."""
    if type(values) is not list or not values:
        return None
    try:
        array = np.array(values)
    except (ValueError, OverflowError):
        return None
    if array.dtype.kind not in "if" or array.ndim != dimensions or array.size == 0:
        return None
    numbers = np.ascontiguousarray(array, np.float64)
    return numbers if np.abs(numbers).max() <= MODEST else None


@compiled
def best_accuracies(lanes: Floats, truths: Floats, ys: Floats) -> tuple[Floats, bool]:
    """For each label the accuracy of the prediction that fits it best, and whether the official arithmetic would give the same."""
    best = np.zeros(len(truths))
    certain = not (flags_only(lanes) and flags_only(truths))
    for lane in range(len(truths)):
        slope = fitted_slope(truths[lane], ys)
        threshold = PIXEL_THRESHOLD / np.cos(np.arctan(slope))
        doubt = DOUBT * threshold
        for other in range(len(lanes)):
            right = doubtful = 0
            for row in range(len(ys)):
                truth = truths[lane, row] if truths[lane, row] >= 0 else ABSENT
                found = lanes[other, row] if lanes[other, row] >= 0 else ABSENT
                distance = abs(found - truth)
                right += int(distance < threshold)
                doubtful += int(abs(distance - threshold) <= doubt)
            certain &= doubtful == 0
            best[lane] = max(best[lane], right / len(ys))
    return best, certain


@compiled
def flags_only(lanes: Floats) -> bool:
    """Whether some lane has no other values than 0 and 1: it may be made of true and false, which numpy doesn't subtract."""
    for lane in range(len(lanes)):
        flags = True
        for row in range(lanes.shape[1]):
            flags &= lanes[lane, row] == 0.0 or lanes[lane, row] == 1.0
        if flags:
            return True
    return False


@compiled
def fitted_slope(truth: Floats, ys: Floats) -> float:
    """The slope dx/dy of the least-squares line through the points with x >= 0; 0 for fewer than two."""
    count, x_mean, y_mean = 0, 0.0, 0.0
    for row in range(len(ys)):
        if truth[row] >= 0:
            count += 1
            x_mean += truth[row]
            y_mean += ys[row]
    if count < 2:
        return 0.0
    x_mean /= count
    y_mean /= count
    products = squares = 0.0
    for row in range(len(ys)):
        if truth[row] >= 0:
            products += (truth[row] - x_mean) * (ys[row] - y_mean)
            squares += (ys[row] - y_mean) ** 2
    return products / squares if squares > 0 else 0.0


def careful_accuracies(lanes: Any, truths: Any, rows: Any) -> list[float]:
    """The same for whatever JSON can hold, as numpy and scikit-learn take it in the official script, to the last digit."""
    best = []
    with np.errstate(all="ignore"):
        ys = np.array(rows)
        labels = [np.array(truth) for truth in truths]
        thresholds = [PIXEL_THRESHOLD / np.cos(np.arctan(official_slope(truth, ys))) for truth in labels]
        for truth, threshold in zip(labels, thresholds, strict=True):
            shares = [right_share(np.array(lane), truth, threshold) for lane in lanes]
            best.append(float(np.max(shares)) if shares else 0.0)
    return best


def right_share(lane: Anything, truth: Anything, threshold: float) -> Any:
    """The share of rows where a lane is nearer to a label than the threshold."""
    pair = [np.array([x if x >= 0 else int(ABSENT) for x in side]) for side in (lane, truth)]
    return np.sum(np.abs(pair[0] - pair[1]) < threshold) / np.float64(len(pair[1]))


def official_slope(truth: Anything, ys: Anything) -> float:
    """`fitted_slope` with scikit-learn's arithmetic and its refusal of whatever is no finite number."""
    there = truth >= 0
    xs, column = truth[there], ys[there][:, None]
    if len(xs) < 2:
        return 0.0
    if column.ndim != 2 or {column.dtype.kind, xs.dtype.kind} & set("USM"):
        raise ValueError("lanes or h_samples that are no numbers")
    rows, values = column.astype(np.float64), xs.astype(np.float64)
    if not (np.isfinite(rows).all() and np.isfinite(values).all()):
        raise ValueError("a label or h_samples with a value that is not finite")
    return float(lstsq(rows - np.average(rows, axis=0), values - np.average(values))[0][0])
