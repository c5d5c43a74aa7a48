"""What the Python evaluators of lanes have in common: how they read lanes, draw curves through them and match them.

They are LaneATT's and CLRNet's `culane_metric.py` and the LLAMAS authors' `culane_metric/evaluate.py`. Where they raise, InputError
is raised here.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.interpolate import splev, splprep
from scipy.optimize import linear_sum_assignment

from harness.errors import InputError
from harness.metrics.regular_files import read_regular

Floats = npt.NDArray[np.float64]
Points = list[tuple[float, float]]


def read_points(file: Path) -> list[Points]:
    """The lanes of a file, one a text line, `x y x y ...` in anything that Python's float() takes; also those without a point.

    Raises InputError for a file that is missing or not text, a word that is no number and an odd count of numbers.
    """
    lanes: list[Points] = []
    try:
        with io.StringIO(read_regular(file).decode(), newline=None) as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    values = [float(word) for word in line.split()]
                except ValueError as error:
                    raise InputError(f"{file}, line {number}: {error}: write x y x y ...") from error
                if len(values) % 2:
                    raise InputError(f"{file}, line {number}: an x without a y: write x y x y ...")
                lanes.append(list(zip(values[::2], values[1::2], strict=True)))
    except OSError as error:
        raise InputError(
            f"{file}: {error.strerror}: this metric needs a file, if an empty one, for every image"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not UTF-8 text: write x y x y ... on each line") from error
    return lanes


def curve(points: Points, *, samples_an_interval: int | None = None, samples: int = 0) -> Floats:
    """Points (N, 2) evenly spaced in the parameter of the interpolating B-spline of degree min(3, points - 1).

    Either `samples` in all, or `samples_an_interval` between two points and one more at the end. Raises ValueError (also scipy's
    other complaints) where there is no such spline: a single point, two equal points in a row, a coordinate that is not finite.
    """
    xs, ys = [x for x, _ in points], [y for _, y in points]
    try:
        spline, parameters = splprep([xs, ys], s=0, k=min(3, len(points) - 1), quiet=1)
    except (TypeError, IndexError) as error:
        raise ValueError(f"no spline through these points ({error})") from error
    if samples_an_interval is not None:
        samples = (len(parameters) - 1) * samples_an_interval + 1
    return np.array(splev(np.linspace(0.0, 1.0, samples), spline)).T


def truncated(lanes: Sequence[Floats]) -> list[npt.NDArray[np.int32]]:
    """Lanes with the fractions of their coordinates cut off, to be drawn.

    Lanes of equally many points become one array of Python numbers in the evaluators, and those refuse to overflow: OverflowError;
    elsewhere what a 32-bit integer cannot hold becomes its least value.
    """
    whole = [np.trunc(lane) for lane in lanes]
    numbers_fit = all(((lane >= -(2.0**31)) & (lane < 2.0**31)).all() for lane in whole)
    if len({len(lane) for lane in lanes}) == 1 and not numbers_fit:
        raise OverflowError("a coordinate beyond the range of an integer")
    with np.errstate(invalid="ignore"):
        return [lane.astype(np.int32) for lane in whole]


def matched_ious(ious: Floats) -> Floats:
    """The IoUs of the pairs in an assignment with the largest sum. Raises ValueError if one of the IoUs is undefined."""
    rows, columns = linear_sum_assignment(1 - ious)
    return np.asarray(ious[rows, columns])
