"""LLAMAS labels: from the markers of a lane to its x in every row, as the authors' scripts make it.

Source: karstenBehrendt/unsupervised_llamas, label_scripts/label_file_scripts.py and spline_creator.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.errors import InputError
from harness.metrics.compiled import compiled
from harness.metrics.regular_files import read_regular

HEIGHT, WIDTH = 717, 1276

FIRST_ROW = 300
"""The metric looks at rows from here down (culane_metric/evaluate.py: add_ys)."""

SCORED_LANES = ("l1", "l0", "r0", "r1")

LEAST_HEIGHT = 20
"""Lanes whose marker starts span fewer rows are dropped."""

LEAST_MARKERS = 2

MISSING = -1.0

Object = dict[str, Any]
Rows = npt.NDArray[np.float64]
Markers = npt.NDArray[np.float64]


def read_label(file: Path) -> list[Rows]:
    """The scored lanes of a label as points (N, 2), top to bottom. Raises InputError where the official scripts raise."""
    lanes = []
    for rows in label_rows(file):
        if (rows >= 0).sum() <= 1:
            continue
        ys = FIRST_ROW + np.flatnonzero(rows[FIRST_ROW:] >= 0)
        if len(ys) < 2:
            raise InputError(f"{file}: a lane with fewer than two rows from {FIRST_ROW} down: remove it")
        lanes.append(np.stack([rows[ys], ys], axis=1))
    return lanes


def label_rows(file: Path) -> list[Rows]:
    """x in each of the 717 rows (-1: none) for l1, l0, r0 and r1, of those that the label has."""
    try:
        content = json.loads(read_regular(file).decode())  # as text: json would take UTF-16 and a byte order mark
        rows = {name: sampled_rows(extended(lane)) for name, lane in named_lanes(content)}
        return [rows[name] for name in SCORED_LANES if name in rows]
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}: make the label readable") from error
    except KeyError as error:
        raise InputError(f"{file}: no key or lane {error}: this is no LLAMAS label") from error
    except (ValueError, TypeError, IndexError, ArithmeticError, AttributeError, RecursionError) as error:
        raise InputError(f"{file}: {error}: the official scripts fail on this label, correct it") from error


def named_lanes(content: Object) -> list[tuple[str, list[Object]]]:
    """Name and markers, as numbers, of each lane that is large enough; l* and r* are counted from 0 in the order of their names.

    Lanes of one name both get the name that the last of them is due.
    """
    kept = []
    content["projection_matrix"]
    for lane in content["lanes"]:
        starts = [int(marker["pixel_start"]["y"]) for marker in lane["markers"]]
        if max(starts) - min(starts) >= LEAST_HEIGHT and len(starts) >= LEAST_MARKERS:
            kept.append(lane)
    counted = {"l": 0, "r": 0}
    name_of = {}
    for name in sorted(lane["lane_id"] for lane in kept):
        side = name[0]
        if side in counted:
            name_of[name] = f"{side}{counted[side]}"
            counted[side] += 1
    return [(name_of[lane["lane_id"]], [with_numbers(marker) for marker in lane["markers"]]) for lane in kept]


def with_numbers(marker: Object) -> Object:
    """A marker whose coordinates are numbers instead of texts."""
    return {
        **{end: {axis: int(value) for axis, value in marker[end].items()} for end in ("pixel_start", "pixel_end")},
        **{end: {axis: float(value) for axis, value in marker[end].items()} for end in ("world_start", "world_end")},
    }


def extended(markers: list[Object]) -> Markers:
    """The markers' starts and ends (x, y, x, y), before them one that prolongs the nearest to the border of the image.

    Raises ValueError without a marker that is neither horizontal nor vertical, ZeroDivisionError if the nearest has no depth.
    """
    slanted = [
        marker
        for marker in markers
        if marker["pixel_start"]["y"] != marker["pixel_end"]["y"]
        and marker["pixel_start"]["x"] != marker["pixel_end"]["x"]
    ]
    if not slanted:
        raise ValueError("a lane without a slanted marker")
    nearest = min(slanted, key=lambda marker: marker["world_start"]["z"])
    rows = [(*pixel(marker["pixel_start"]), *pixel(marker["pixel_end"])) for marker in markers]
    if not nearest["world_start"]["z"] < 0:
        start, end = ([nearest[which][axis] for axis in ("z", "x", "y")] for which in ("world_start", "world_end"))
        if end[0] - start[0] == 0:
            raise ZeroDivisionError("a marker without depth")
        x, y = pixel(nearest["pixel_start"])
        end_x, end_y = pixel(nearest["pixel_end"])
        border_x: float = x + (HEIGHT - 1 - y) * ((end_x - x) / (end_y - y))
        border_y: float = HEIGHT - 1
        if border_x < 0 or border_x > WIDTH:
            border_x = 0 if border_x < 0 else WIDTH
            border_y = y + (border_x - x) * ((end_y - y) / (end_x - x))
        rows.insert(0, (round(border_x), round(border_y), x, y))
    return np.array([[x, bounded(y), end_x, bounded(end_y)] for x, y, end_x, end_y in rows], np.float64)


def bounded(row: int) -> int:
    """The same row, or one that is as far beyond the image for every purpose."""
    return max(-10 * HEIGHT, min(row, 10 * HEIGHT))


def pixel(point: Object) -> tuple[int, int]:
    """x and y."""
    return point["x"], point["y"]


def sampled_rows(markers: Markers) -> Rows:
    """x in each row of a lane: the mean of its markers' pixels there, between them what the official script fills in.

    Raises IndexError for a marker beyond the rows of the image, or for a lane without a pixel.
    """
    rows = np.empty(HEIGHT)
    if not fill_rows(markers, rows):
        raise IndexError("a marker beyond the rows of the image, or no marker at all")
    return rows


@compiled
def fill_rows(markers: Markers, rows: Rows) -> bool:
    """`sampled_rows` into `rows`; False where that raises. Negative rows count from the bottom, as Python's indices do."""
    size = len(rows)
    sums, counts = np.zeros(size), np.zeros(size, np.int64)
    for marker in range(len(markers)):
        x, y, end_x, end_y = markers[marker, 0], int(markers[marker, 1]), markers[marker, 2], int(markers[marker, 3])
        height = y - end_y
        if not -size <= y < size or (height > 2 and end_y < -size):
            return False
        sums[y % size] += x
        counts[y % size] += 1
        if height > 2:
            slope = (end_x - x) / height
            for i in range(height + 1):
                sums[(y - i) % size] += np.rint(x + slope * i)
                counts[(y - i) % size] += 1
    for row in range(size):
        rows[row] = sums[row] / counts[row] if counts[row] else MISSING
    row = 0
    while row < size and rows[row] == MISSING:
        row += 1
    if row == size:
        return False
    after = 0
    while row < size:
        if rows[row] == MISSING:
            while after <= row or rows[after] == MISSING:
                after += 1
                if after >= size:
                    return True
            rows[row] = rows[row - 1] + (rows[after] - rows[row - 1]) / (after - row + 1)
        row += 1
    return True
