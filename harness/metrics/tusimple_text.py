"""TuSimple's JSON lines: what each holds, read by compiled code where a line is of the ordinary form, and else by `json`.

Ordinary is an object with no other keys than raw_file, lanes, h_samples and run_time, each at most once, in ASCII without escapes, with
numbers without exponent and of a modest size, and lanes of equal length. Everything else is left to `json`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.errors import InputError
from harness.metrics.compiled import ZERO, compiled
from harness.metrics.oddities import Oddity
from harness.metrics.tusimple_oddities import KeyedObject, odd_parts

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

BEGIN, STOP, ORDINARY, NAME, NAME_STOP, LANES, LANE_COUNT, LANE_SIZE, ROWS, ROW_COUNT, RUN_TIME = range(11)
"""Columns of the table of lines: where a line begins and stops in the text, whether it is ordinary, where its raw_file does, and where
its lanes, h_samples and run_time begin among the values (-1: it has none), how many lanes of which size, how many rows."""

KEYS = np.array([list(name.ljust(9).encode()) for name in ("raw_file", "lanes", "h_samples", "run_time")], np.uint8)
"""The ordinary keys, padded with spaces."""

LARGEST = 1e5
"""Numbers beyond this are not ordinary."""

DIGITS = 10**17
"""Digits of a number are read until they make up this much."""

POWERS = np.array([10.0**k for k in range(23)])
"""Powers of ten that a double holds exactly."""

MANTISSA = re.compile(r'"(?:[^"\\]|\\.)*"|(?<![\w.+-])(-?)(\d*)(\.?)(\d*)(?![\d.])', re.DOTALL)
"""A JSON text, or what could be the mantissa of a number: sign, digits, point, digits."""


@dataclass(frozen=True, eq=False)
class Lines:
    """The lines of a file. names: the raw_file of each. table: int64 (lines, 11), see `BEGIN`. values: float64, all their numbers.

    oddities: what is odd about the lines that are not ordinary.
    """

    file: Path
    text: bytes
    names: list[Hashable]
    table: Integers
    values: Floats
    oddities: list[Oddity]

    def __len__(self) -> int:
        return len(self.names)

    def content(self, line: int) -> KeyedObject:
        """The object on a line, counted from 0. Raises InputError if there is none."""
        return json_object(self.text[self.table[line, BEGIN] : self.table[line, STOP]].decode(), self.file, line)

    def rows(self, line: int) -> Any:
        """The h_samples on a line, counted from 0, as a list of floats if it is ordinary and else as they are; None if it has none."""
        row = self.table[line]
        if not row[ORDINARY]:
            return self.content(line).get("h_samples")
        return self.values[row[ROWS] : row[ROWS] + row[ROW_COUNT]].tolist() if row[ROWS] >= 0 else None


def read_lines(file: Path, keys: Sequence[str]) -> Lines:
    """Read a file of JSON lines. Raises InputError, naming file and line, for a line that is no object with a raw_file.

    keys: those whose values count, and are noted where they are odd.
    """
    try:
        text = file.read_bytes()
        if not text.isascii():
            text.decode()
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}: give a file of JSON lines") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not UTF-8 text: give a file of JSON lines") from error
    if b"\r" in text:  # any line end is one, as for Python
        text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    table, values = scan(np.frombuffer(text, np.uint8), KEYS, POWERS)
    lines = Lines(file, text, [], table, values, [])
    for line, row in enumerate(table.tolist()):
        if row[ORDINARY]:
            lines.names.append(text[row[NAME] : row[NAME_STOP]].decode())
        else:
            content = lines.content(line)
            lines.names.append(content["raw_file"])
            lines.oddities.extend(Oddity(file, line + 1, what) for what in odd_parts(content, keys))
    return lines


def json_object(text: str, file: Path, line: int) -> KeyedObject:
    """The object in a text. Raises InputError, naming file and line (counted from 0), if it is none or has no usable raw_file."""
    where = f"{file}, line {line + 1}"
    if not text.strip():
        raise InputError(f"{where}: a blank line: delete it")
    try:
        value = parsed(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON ({error}): write one object a line") from error
    if not isinstance(value, KeyedObject):
        raise InputError(f"{where}: not a JSON object: write one object a line")
    if "raw_file" not in value:
        raise InputError(f"{where}: no key 'raw_file': add it")
    if not isinstance(value["raw_file"], Hashable):
        raise InputError(f"{where}: raw_file is no text: give the image's path")
    return value


def parsed(line: str) -> Any:
    """A line of JSON, read as leniently as ujson 6 does, which the official script uses. Raises ValueError for any other line.

    ujson takes control characters in texts, and numbers with leading zeros, with a sign but no digit, or with none after the point.
    """
    try:
        return json.loads(line, object_pairs_hook=KeyedObject)
    except json.JSONDecodeError:
        return json.loads(MANTISSA.sub(plain_mantissa, line), strict=False, object_pairs_hook=KeyedObject)


def plain_mantissa(match: re.Match[str]) -> str:
    """The same number as JSON has it; texts, and what is no number for ujson either, as they are."""
    sign, whole, point, rest = match.groups()
    no_digit = not whole and not rest and (point or match.string[match.end() : match.end() + 1].isalpha())
    if no_digit or (not sign and not whole):
        return match.group()
    return f"{sign}{whole.lstrip('0') or '0'}{point}{rest or ('0' if point else '')}"


@compiled
def scan(text: Bytes, keys: Bytes, powers: Floats) -> tuple[Integers, Floats]:
    """The table of lines and the values of the ordinary ones among them."""
    lines = int(len(text) > 0 and text[len(text) - 1] != 10)
    for i in range(len(text)):
        lines += int(text[i] == 10)
    table, values = np.full((lines, 11), -1), np.empty(len(text) // 2 + 1)
    begin = used = ZERO
    for line in range(lines):
        stop = begin
        while stop < len(text) and text[stop] != 10:
            stop += 1
        row = table[line]
        row[BEGIN], row[STOP] = begin, stop
        after = scan_object(text, begin, stop, keys, powers, row, values, used)
        row[ORDINARY] = int(after >= 0)
        if after < 0:
            row[NAME:] = -1
        used = max(used, after)
        begin = stop + 1
    return table, values[:used].copy()


@compiled
def scan_object(
    text: Bytes, at: int, stop: int, keys: Bytes, powers: Floats, row: Integers, values: Floats, used: int
) -> int:
    """Read a line into its row of the table and the values from `used` on; how many values there are then, -1 if not ordinary."""
    at = past_space(text, at, stop)
    if at == stop or text[at] != 123:
        return -1
    while True:
        at = past_space(text, at + 1, stop)
        begin, at = at + 1, text_end(text, at, stop)
        if at < 0:
            return -1
        key = -1
        for known in range(len(keys)):
            equal = at - begin <= keys.shape[1]
            for i in range(keys.shape[1]):
                equal &= equal and (text[begin + i] if begin + i < at else 32) == keys[known, i]
            key = known if equal else key
        at = past_space(text, at + 1, stop)
        if key < 0 or at == stop or text[at] != 58:
            return -1
        at = past_space(text, at + 1, stop)
        if key == 0 and row[NAME] < 0:
            row[NAME], at = at + 1, text_end(text, at, stop)
            row[NAME_STOP] = at
            at = at + 1 if at >= 0 else -1
        elif key == 1 and row[LANES] < 0:
            row[LANES] = used
            at, used = scan_lanes(text, at, stop, powers, row, values, used)
        elif key == 2 and row[ROWS] < 0:
            row[ROWS] = used
            at, used = scan_list(text, at, stop, powers, values, used)
            row[ROW_COUNT] = used - row[ROWS]
        elif key == 3 and row[RUN_TIME] < 0:
            row[RUN_TIME] = used
            at, values[used] = scan_number(text, at, stop, powers)
            used += 1
        else:
            return -1
        if at < 0:
            return -1
        at = past_space(text, at, stop)
        if at == stop or (text[at] != 44 and text[at] != 125):
            return -1
        if text[at] == 125:
            return used if past_space(text, at + 1, stop) == stop and row[NAME] >= 0 else -1


@compiled
def past_space(text: Bytes, at: int, stop: int) -> int:
    """The first place from `at` on that is no space or tab."""
    while at < stop and (text[at] == 32 or text[at] == 9):
        at += 1
    return at


@compiled
def text_end(text: Bytes, at: int, stop: int) -> int:
    """The closing quote of a text that opens at `at`; -1 if none does, or if it is not plain printable ASCII."""
    if at >= stop or text[at] != 34:
        return -1
    for i in range(at + 1, stop):
        if text[i] == 34:
            return i
        if text[i] == 92 or text[i] < 32 or text[i] > 126:
            return -1
    return -1


@compiled
def scan_lanes(
    text: Bytes, at: int, stop: int, powers: Floats, row: Integers, values: Floats, used: int
) -> tuple[int, int]:
    """Read a list of lists of numbers, all of one length: where it ends (-1 if it is none), how many values there are then."""
    if at == stop or text[at] != 91:
        return -1, used
    row[LANE_COUNT] = 0
    at = past_space(text, at + 1, stop)
    if at < stop and text[at] == 93:
        return at + 1, used
    while True:
        first = used
        at, used = scan_list(text, at, stop, powers, values, used)
        if at < 0 or (row[LANE_COUNT] > 0 and used - first != row[LANE_SIZE]):
            return -1, used
        row[LANE_COUNT] += 1
        row[LANE_SIZE] = used - first
        at = past_space(text, at, stop)
        if at == stop or (text[at] != 44 and text[at] != 93):
            return -1, used
        if text[at] == 93:
            return at + 1, used
        at = past_space(text, at + 1, stop)


@compiled
def scan_list(text: Bytes, at: int, stop: int, powers: Floats, values: Floats, used: int) -> tuple[int, int]:
    """Read a list of one number and more: where it ends (-1 if it is none), and how many values there are then.

    Short whole numbers, which most are, are read here, since calls cost more than digits; the others by `scan_number`.
    """
    if at == stop or text[at] != 91:
        return -1, used
    while True:
        at += 1
        while at < stop and (text[at] == 32 or text[at] == 9):
            at += 1
        first = at + int(at < stop and text[at] == 45)
        place, whole = first, 0
        while place < stop and place < first + 5 and 48 <= text[place] <= 57:
            whole = whole * 10 + (int(text[place]) - 48)
            place += 1
        plain = place < stop and (text[place] == 44 or text[place] == 93) and place > first
        if plain and (text[first] != 48 or place == first + 1):
            values[used] = -float(whole) if first > at else float(whole)
            at = place
        else:
            at, values[used] = scan_number(text, at, stop, powers)
            if at < 0:
                return -1, used
            while at < stop and (text[at] == 32 or text[at] == 9):
                at += 1
        used += 1
        if at == stop or (text[at] != 44 and text[at] != 93):
            return -1, used
        if text[at] == 93:
            return at + 1, used


@compiled
def scan_number(text: Bytes, at: int, stop: int, powers: Floats) -> tuple[int, float]:
    """Read a number of JSON without exponent: where it ends (-1 if it is none, or not ordinary), and the number.

    It is right to within two units of the last digit; what hangs on that is decided by other means.
    """
    negative = at < stop and text[at] == 45
    at += int(negative)
    first = at
    mantissa, places, point = 0, 0, -1
    while at < stop:
        digit = int(text[at]) - 48
        if 0 <= digit <= 9:
            if mantissa < DIGITS:
                mantissa = mantissa * 10 + digit
                places += int(point >= 0)
            elif point < 0:
                places -= 1
        elif text[at] == 46 and point < 0 and at > first:
            point = at
        else:
            break
        at += 1
    padded = at - first > 1 and text[first] == 48 and point != first + 1
    if at == first or point == at - 1 or padded or not 0 <= places <= 22:
        return -1, 0.0
    if at < stop and (text[at] == 101 or text[at] == 69):
        return -1, 0.0
    value = float(mantissa) / powers[places] if places else float(mantissa)
    return (at if value <= LARGEST else -1), (-value if negative else value)
