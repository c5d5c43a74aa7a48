"""The points of TuSimple's lanes, for looking at them; scores are counted without them (`tusimple`)."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from harness.metrics.lane_text import Floats
from harness.metrics.tusimple_text import read_lines

ABSENT = re.compile(rb"\[\s*(?:-[\d.]+|NaN)(?:\s*,\s*(?:-[\d.]+|NaN))*\s*\]")
"""A list that is nothing but negative numbers, as a lane is that has no point."""


def tusimple_points(labels: Path, predictions: Path, images: int) -> tuple[list[Floats], list[Floats]]:
    """The points of labelled and of predicted lanes, (N, 2) each, of at most so many images, evenly over files that were scored."""
    labelled, predicted = read_lines(labels, ()), read_lines(predictions, ())
    line_of = {name: line for line, name in enumerate(labelled.names)}
    found: tuple[list[Floats], list[Floats]] = ([], [])
    for line in range(0, len(predicted), -(-len(predicted) // images)):
        label = labelled.content(line_of[predicted.names[line]])
        for lanes, points in zip((label["lanes"], predicted.content(line)["lanes"]), found, strict=True):
            for lane in lanes:
                # The official script has an answer for values that are no points, too.
                with suppress(ValueError, TypeError, OverflowError):
                    points.append(points_of(lane, label["h_samples"]))
    return found


def lanes_without_points(file: Path) -> tuple[int, int]:
    """How many lanes of a file that was scored have no point at any row, and of how many in all; (0, 0) where none is such."""
    if ABSENT.search(file.read_bytes()) is None:  # parsing the file again takes longer than scoring it
        return 0, 0
    lines, pointless, lanes = read_lines(file, ()), 0, 0
    for number in range(len(lines)):
        found = lines.content(number).get("lanes")
        # What isn't a list of numbers has been told of.
        for lane in found if isinstance(found, list) else ():
            lanes += 1
            pointless += (
                bool(lane) and isinstance(lane, list) and all(type(x) in (int, float) and not x >= 0 for x in lane)
            )
    return pointless, lanes


def points_of(lane: Any, rows: Any) -> Floats:
    """A lane as points (N, 2), of the rows where it has one."""
    points = np.stack([np.array(lane, np.float32), np.array(rows, np.float32)], axis=1)
    return points[points[:, 0] >= 0]
