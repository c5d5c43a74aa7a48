"""The files that are exchanged with a program: images and their names out; lanes in the official format, and timings, in.

Protocol `program/1`. `{images}` is a file of JSON lines `{"id": ..., "image": path, "height": ..., "width": ...}`; for TuSimple
`"h_samples"` as well. `{predictions}` is a folder that the program writes into: for CULane and LLAMAS one .lines.txt an image, where
the official evaluator looks for it (`"predictions"` of an image's line says where), an empty one for an image without lanes; for
TuSimple one predictions.json of all. `{timings}`, where the command has it, is a file of JSON lines
`{"id": ..., "milliseconds": ...}`, one an image; `{facts}` one JSON object of texts, which the record keeps.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.datasets.base import Dataset, Frame, read_bytes
from harness.datasets.images import read_size
from harness.datasets.lines import label_name
from harness.datasets.llamas import LLAMAS, prediction_path
from harness.datasets.tusimple import TuSimple
from harness.errors import InputError
from harness.files.stored import write_text

FACTS = 40
"""Facts that a program may state, of TEXT characters each."""

TEXT = 300

LONGEST = 1e12
"""Milliseconds, some thirty years: no image takes longer, and what does is no time."""


def write_images(path: Path, dataset: Dataset, frames: Sequence[Frame]) -> None:
    """Write the list of the images that a program is to look at."""
    lines = []
    for frame in frames:
        height, width = read_size(frame.image)
        entry: dict[str, Any] = {"id": frame.id, "image": str(frame.image), "height": height, "width": width}
        if isinstance(dataset, TuSimple):
            entry["h_samples"] = [int(row) for row in dataset.labelled(frame).rows]
        else:
            entry["predictions"] = prediction_name(dataset, frame)
        lines.append(json.dumps(entry) + "\n")
    write_text(path, "".join(lines))


def prediction_name(dataset: Dataset, frame: Frame) -> str:
    """Where the .lines.txt of an image lies in the folder of predictions."""
    return prediction_path(Path(), frame).as_posix() if isinstance(dataset, LLAMAS) else label_name(frame.id)


def read_timings(path: Path, frames: Sequence[Frame]) -> list[float]:
    """Milliseconds of each image, in the order of `frames`. InputError on anything but one sound line an image."""
    ids = {frame.id for frame in frames}
    found: dict[str, float] = {}
    for number, entry in json_lines(path):
        name, value = entry.get("id"), entry.get("milliseconds")
        if not isinstance(name, str) or name not in ids:
            raise InputError(f"{path}:{number}: 'id' is {str(name)!r:.80}, none of the images")
        if name in found:
            raise InputError(f"{path}:{number}: {name} was timed already; the program writes one line an image")
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < LONGEST:
            raise InputError(
                f"{path}:{number}: 'milliseconds' is {value!r:.80}, not a positive number below {LONGEST:.0e}"
            )
        found[name] = float(value)
    if len(found) < len(frames):
        first = next(frame.id for frame in frames if frame.id not in found)
        raise InputError(
            f"{path}: {len(frames) - len(found)} of {len(frames)} images weren't timed, the first is {first}; a program that has "
            "'{timings}' in its command writes a line for every image"
        )
    return [found[frame.id] for frame in frames]


def read_facts(path: Path) -> dict[str, str]:
    """What a program says of its environment. InputError on anything but a JSON object of short texts."""
    try:
        value = json.loads(read_bytes(path))
        sound = isinstance(value, dict) and len(value) <= FACTS
        if not sound or not all(isinstance(one, str) and len(one) <= TEXT for pair in value.items() for one in pair):
            raise ValueError(f"not an object of at most {FACTS} texts of at most {TEXT} characters")
        # Half a surrogate pair is JSON and no text: no record could hold it.
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: {error}; the program writes one JSON object there") from error
    return dict(value)


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file of JSON lines with the numbers of their lines. InputError with file and line on anything else."""
    for number, line in enumerate(read_bytes(path).removesuffix(b"\n").split(b"\n"), start=1):
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}:{number}: not JSON ({error}); was the program stopped while it wrote?") from error
        if not isinstance(entry, dict):
            raise InputError(f"{path}:{number}: not a JSON object")
        yield number, entry
