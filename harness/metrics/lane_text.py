"""The text of `.lines.txt` files, read as the CULane C++ evaluator reads it: `while (stream >> x >> y)` on every text line.

One lane a text line, `x y x y ...`. Reading of a line stops at the first thing that libstdc++ does not take for a number (it knows
neither nan, inf nor hexadecimal, and takes no number beyond the range of a double); an x without a y is dropped. A line without a
point is a lane all the same. Points are read as double and kept as float32.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.metrics.compiled import compiled

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

NOT_A_NUMBER, DANGLING, EMPTY, ONE_POINT, NOT_FINITE, REPEATED = range(1, 7)

ODDITIES = {
    NOT_A_NUMBER: "something that is no number: the line is read up to there",
    DANGLING: "an x without a y: it is ignored",
    EMPTY: "no point: it counts as a lane that matches nothing",
    ONE_POINT: "a single point: it counts as a lane that matches nothing",
    NOT_FINITE: "a coordinate beyond the range of a float: it is infinite",
    REPEATED: "two equal points in a row: the official curve is undefined there, only a stub of the lane is painted",
}
"""What can be odd about a text line, in words."""

EXACT_POWERS = np.array([10.0**k for k in range(23)])
"""Powers of ten that a double holds exactly, so that one multiplication or division by them rounds correctly."""

LARGEST_EXACT = 1 << 53

SPACE = b" \t\v\f\r"
NUMBER = re.compile(rb"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE]([+-]?\d*))?")


@dataclass(frozen=True, eq=False)
class LaneText:
    """The lanes of one file: points float32 (N, 2); lane i is points[ends[i - 1]:ends[i]]; odd[i] an oddity's number or 0."""

    points: Floats
    ends: Integers
    odd: Integers

    def lanes(self) -> list[Floats]:
        """The lanes one by one."""
        return np.split(self.points, self.ends[:-1]) if len(self.ends) else []


def read_lanes(text: bytes) -> LaneText:
    """Parse the bytes of a `.lines.txt` file; whatever they are, something is read."""
    exact, points, ends, odd = scan(np.frombuffer(text, np.uint8), EXACT_POWERS)
    if not exact:
        points, ends, odd = scan_long_numbers(text)
    note_odd_lanes(points, ends, odd)
    return LaneText(points, ends, odd)


@compiled
def scan_number(text: Bytes, at: int, stop: int, powers: npt.NDArray[np.float64]) -> tuple[int, float, int]:
    """Read a number that starts at `at`: 1, the number and where it ends; 0 if there is none; -1 if only strtod could round it."""
    negative = text[at] == 45
    if negative or text[at] == 43:
        at += 1
    mantissa, digits, scale = 0, 0, 0
    point = False
    while at < stop:
        character = int(text[at])
        if 48 <= character <= 57:
            digits += 1
            if mantissa <= LARGEST_EXACT:
                mantissa = mantissa * 10 + (character - 48)
                scale -= int(point)
            else:
                scale += int(not point)
        elif character == 46 and not point:
            point = True
        else:
            break
        at += 1
    if digits == 0:
        return 0, 0.0, at
    if at < stop and (text[at] == 101 or text[at] == 69):
        at += 1
        down = at < stop and text[at] == 45
        if at < stop and (text[at] == 45 or text[at] == 43):
            at += 1
        exponent, digits = 0, 0
        while at < stop and 48 <= text[at] <= 57:
            exponent = min(exponent * 10 + int(text[at] - 48), 100000)
            digits += 1
            at += 1
        if digits == 0:
            return 0, 0.0, at
        scale += -exponent if down else exponent
    if mantissa > LARGEST_EXACT or abs(scale) > 22:
        return -1, 0.0, at
    value = float(mantissa) * powers[scale] if scale >= 0 else float(mantissa) / powers[-scale]
    return 1, -value if negative else value, at


@compiled
def scan(text: Bytes, powers: npt.NDArray[np.float64]) -> tuple[bool, Floats, Integers, Integers]:
    """Points, ends and oddities of a text; the first result is False, and the others void, if a number needs correct rounding."""
    lines = 0
    for i in range(len(text)):
        lines += int(text[i] == 10)
    lines += int(len(text) > 0 and text[len(text) - 1] != 10)
    points = np.empty((len(text) // 4 + 1, 2), np.float32)
    ends, odd = np.zeros(lines, np.int64), np.zeros(lines, np.int64)
    count = at = 0
    for line in range(lines):
        stop = at
        while stop < len(text) and text[stop] != 10:
            stop += 1
        has_x, x = False, 0.0
        while True:
            while at < stop and (text[at] == 32 or 9 <= text[at] <= 13):
                at += 1
            if at == stop:
                if has_x:
                    odd[line] = DANGLING
                break
            found, value, at = scan_number(text, at, stop, powers)
            if found < 0:
                return False, points, ends, odd
            if found == 0:
                odd[line] = NOT_A_NUMBER
                break
            if has_x:
                points[count, 0], points[count, 1] = x, value
                count += 1
            has_x, x = not has_x, value
        ends[line] = count
        at = stop + 1
    return True, points[:count], ends, odd


def scan_long_numbers(text: bytes) -> tuple[Floats, Integers, Integers]:
    """What `scan` gives, for numbers of any length: slower, and rounded by Python's float()."""
    points: list[float] = []
    ends, odd = [], []
    for line in text.removesuffix(b"\n").split(b"\n"):
        values: list[float] = []
        rest, problem = line.lstrip(SPACE), 0
        while rest:
            match = NUMBER.match(rest)
            value = (
                float(match.group()) if match and (match.group(1) is None or match.group(1)[-1:].isdigit()) else np.inf
            )
            if match is None or np.isinf(value):
                problem = NOT_A_NUMBER
                break
            values.append(value)
            rest = rest[match.end() :].lstrip(SPACE)
        if len(values) % 2:
            values.pop()
            problem = problem or DANGLING
        points += values
        ends.append(len(points) // 2)
        odd.append(problem)
    with np.errstate(over="ignore"):
        return np.array(points).astype(np.float32).reshape(-1, 2), np.array(ends, np.int64), np.array(odd, np.int64)


@compiled
def note_odd_lanes(points: Floats, ends: Integers, odd: Integers) -> None:
    """Note in `odd` what is odd about the points of lanes whose text is not."""
    start = 0
    for lane in range(len(ends)):
        size = ends[lane] - start
        if odd[lane] == 0 and size < 2:
            odd[lane] = EMPTY if size == 0 else ONE_POINT
        for i in range(start, ends[lane]):
            if odd[lane] != 0:
                break
            if not (np.isfinite(points[i, 0]) and np.isfinite(points[i, 1])):
                odd[lane] = NOT_FINITE
            elif i > start and size > 2 and points[i, 0] == points[i - 1, 0] and points[i, 1] == points[i - 1, 1]:
                odd[lane] = REPEATED
        start = ends[lane]
