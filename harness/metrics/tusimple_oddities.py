"""What is odd about a line of TuSimple's JSON, though the official script has an answer for it.

Source of the answers: TuSimple/tusimple-benchmark, evaluate/lane.py, which takes whatever Python compares and numpy subtracts.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any

COUNTED = "the official script counts with it all the same"

KINDS = {bool: "a truth value", str: "a text", list: "a list", type(None): "null"}


class KeyedObject(dict[str, Any]):
    """A JSON object that knows which keys its text has more than once; of their values it holds the last."""

    def __init__(self, pairs: Sequence[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.repeated: tuple[str, ...] = ()
        if len(self) < len(pairs):
            keys = [key for key, _ in pairs]
            self.repeated = tuple(key for key in self if keys.count(key) > 1)


def odd_parts(content: KeyedObject, keys: Sequence[str]) -> Iterator[str]:
    """A word on each key of an object with a raw_file that is there twice, and on each of `keys` that holds what it should not.

    keys: of lanes, h_samples and run_time; one that is missing is passed over.
    """
    for key in content.repeated:
        yield f"key {reprlib.repr(key)} is there more than once: the last one counts"
    if not isinstance(content["raw_file"], str):
        yield f"raw_file is {reprlib.repr(content['raw_file'])}, not a text: {COUNTED}"
    for key in keys:
        if key in content:
            what = ODD_VALUES[key](content[key])
            if what is not None:
                yield f"{key}: {what}: {COUNTED}"


def odd_number(value: Any) -> str | None:
    """What is odd about a value that should be a finite number; None for nothing."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return f"{kind(value)}, not a number"
    return None if isinstance(value, int) or math.isfinite(value) else f"{value} is not finite"


def odd_numbers(values: Any) -> str | None:
    """What is odd about a value that should be a list of finite numbers; None for nothing."""
    if not isinstance(values, list):
        return f"{kind(values)}, not a list of numbers"
    if all(type(value) is int or (type(value) is float and math.isfinite(value)) for value in values):
        return None
    return next(filter(None, map(odd_number, values)))


def odd_lanes(lanes: Any) -> str | None:
    """What is odd about a value that should be a list of lists of finite numbers; None for nothing."""
    if not isinstance(lanes, list):
        return f"{kind(lanes)}, not a list of lanes"
    return next(filter(None, map(odd_numbers, lanes)), None)


def other_rows(given: Any, of_label: Any) -> str | None:
    """What is odd about a prediction's own h_samples, which nobody reads, beside those of its label; None for nothing."""
    if not isinstance(given, list) or not isinstance(of_label, list) or given == of_label:
        return None
    how = f"{len(given)} rows, and its label has {len(of_label)}"
    if len(given) == len(of_label):
        place, row, expected = next(
            (place, *rows)
            for place, rows in enumerate(zip(given, of_label, strict=True), start=1)
            if rows[0] != rows[1]
        )
        how = f"row {place} is {_number(row)}, and its label's {_number(expected)}"
    return f"h_samples: {how}: the official script ignores them and takes each x for one at the label's row"


def worded(error: Exception, *sides: Any) -> str:
    """Why the lanes of two sides can't be compared: what was raised, but of null, which many write for no point, in words."""
    lanes = [lane for side in sides if isinstance(side, list) for lane in side if isinstance(lane, list)]
    null = isinstance(error, TypeError) and any(None in lane for lane in lanes)
    return "a value is null; -2 means no point" if null else str(error)


def meant(name: Hashable, labelled: Iterable[Hashable]) -> str | None:
    """The label that an unknown raw_file seems to mean: with another folder in front, in other letters or with backslashes."""

    def plain(text: str) -> str:
        return "/" + text.replace("\\", "/").lower().lstrip("/")

    if not isinstance(name, str) or not name.strip("/\\"):
        return None
    wanted = plain(name)
    known = ((label, plain(label)) for label in labelled if isinstance(label, str) and label.strip("/\\"))
    return next((label for label, text in known if wanted.endswith(text) or text.endswith(wanted)), None)


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else reprlib.repr(value)


ODD_VALUES = {"lanes": odd_lanes, "h_samples": odd_numbers, "run_time": odd_number}


def kind(value: Any) -> str:
    """What a value of JSON that is no number is."""
    return KINDS.get(type(value), "an object")
