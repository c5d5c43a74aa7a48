"""The text form of lanes that CULane and LLAMAS share: a .lines.txt, one lane a line, `x y x y ...` in pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness.errors import InputError
from harness.lanes import Lane, Points, archived_points

LABEL_ENDING = ".lines.txt"

COORDINATE_LIMIT = 1e6
"""A label further out than this many pixels is damage, not a lane that leaves the image."""

_NUMBER_BYTES = b"0123456789+-.eE \t\r\n\v\f"


def label_name(image: str) -> str:
    """The path of an image's .lines.txt, as the official evaluator makes it: the last extension is replaced."""
    return image.rpartition(".")[0] + LABEL_ENDING


def lines_text(lanes: Sequence[Lane]) -> str:
    """The text of a .lines.txt: one lane a line, archived to 1/8 px, at most three decimals, no trailing zeros.

    A lane without points is an empty line. Raises ValueError on NaN coordinates.
    """
    rows = []
    for number, lane in enumerate(lanes):
        values = archived_points(lane.points).ravel() + 0.0  # + 0.0 turns -0 into 0
        if np.isnan(values).any():
            raise ValueError(f"lane {number} has NaN coordinates, which no format can hold")
        # Seven significant digits hold every archived value, 3999.875 being the longest.
        rows.append(" ".join([f"{value:.7g}" for value in values.tolist()]) + "\n")
    return "".join(rows)


def write_lines_file(path: Path, lanes: Sequence[Lane]) -> None:
    """Write lanes as a .lines.txt: ASCII, LF, a plain (not atomic) write into a folder that exists."""
    path.write_bytes(lines_text(lanes).encode("ascii"))


def parse_lines(data: bytes, *, source: str) -> list[Points]:
    """Parse the bytes of a .lines.txt strictly; one float32 (N, 2) array a text line, in the file's order.

    `source` names the file in messages. Raises InputError with `source:line` on anything but finite decimal numbers within
    +-COORDINATE_LIMIT and on an odd count; a lane may have any number of points, also none.
    """
    if data.translate(None, _NUMBER_BYTES):
        raise _first_fault(data, source)
    lanes = []
    # Only "\n" ends a line, as getline has it in the official evaluator; a "\r" before it is white space.
    for row in data.removesuffix(b"\n").split(b"\n") if data else []:
        try:
            points = np.array([float(word) for word in row.split()]).reshape(-1, 2)
        except ValueError:  # not a number, or an odd count
            raise _first_fault(data, source) from None
        if (np.abs(points) > COORDINATE_LIMIT).any():
            raise _first_fault(data, source)
        lanes.append(points.astype(np.float32))
    return lanes


def _first_fault(data: bytes, source: str) -> InputError:
    """The message on the first line that `parse_lines` refuses; slow, and only called when there is one."""
    for number, row in enumerate(data.removesuffix(b"\n").split(b"\n"), start=1):
        fault = _fault(row)
        if fault:
            return InputError(f"{source}:{number}: {fault}; correct the line or restore the file from its source")
    raise AssertionError(f"{source}: refused, but no line of it is at fault")


def _fault(row: bytes) -> str | None:
    words = row.split()
    for place, word in enumerate(words, start=1):
        text = ascii(word.decode("utf-8", "replace"))[:40]
        try:
            if word.translate(None, _NUMBER_BYTES):
                raise ValueError
            value = float(word)
        except ValueError:
            return f"value {place} is {text}, not a decimal number"
        if abs(value) > COORDINATE_LIMIT:
            return f"value {place} is {text}, further out than any image"
    if len(words) % 2:
        return f"{len(words)} numbers, an odd count, but x and y come in pairs"
    return None
