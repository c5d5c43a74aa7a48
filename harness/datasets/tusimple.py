"""TuSimple: JSON lines with the x of each lane at given rows.

Format: https://github.com/TuSimple/tusimple-benchmark/blob/master/doc/lane_detection/readme.md. Splits as the field makes them:
train from the labels of 0313 and 0601 (3,268 frames), val from 0531 (358), test 2,782.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.datasets.base import Frame, read_bytes
from harness.datasets.images import read_size
from harness.datasets.index import LabelIndex, index_of
from harness.datasets.lines import COORDINATE_LIMIT
from harness.datasets.rendering import SCENARIOS_FILE, rendered_key, scenarios_of
from harness.errors import InputError, did_you_mean, why_unread
from harness.files.stored import sha256_of_json, write_text
from harness.lanes import Lane, Points, archived_points, near_to_far

Rows = npt.NDArray[np.float64]

LABELS = {
    "train": ("label_data_0313.json", "label_data_0601.json"),
    "val": ("label_data_0531.json",),
    "test": ("test_label.json",),
}
"""Split -> its label files, which lie in the root or in one of FOLDERS."""

FOLDERS = ("", "train_set", "test_set")
"""Where label files and clips/ lie: all in one folder, or as the two archives unpack."""

ABSENT = -2
"""What a file says where a lane has no point."""

PREDICTIONS_FILE = "predictions.json"
"""What `TuSimple.write_predictions` calls its file."""

CLIP_GAP = 30 * 10**9
"""Nanoseconds without a labelled frame that part two clips: the test set's 2,782 frames are 98 drives then."""

_TIMESTAMP = re.compile(r"(\d{19})(?:_\d+)?")
"""A clip's folder that is named after its time in nanoseconds since 1970, as 1492626760788443246_0."""


@dataclass(frozen=True, eq=False)
class Labelled:
    """One line of a label file. raw_file: as the line has it. rows: the h_samples. xs: float64 (lanes, rows), negative where there is
    no point."""

    raw_file: str
    rows: Rows
    xs: Rows


def at_rows(lane: Lane, rows: npt.ArrayLike) -> Rows:
    """The x of a lane at rows, linearly between its points, in 1/8 px; NaN beyond its ends.

    Where a lane crosses a row more than once, the crossing nearest to its near end counts. What this gives at its own rows
    is itself, so that archived samples are scored as they are.
    """
    asked = np.asarray(rows, dtype=np.float64)
    points = lane.points.astype(np.float64)
    if not len(points):
        return np.full(asked.shape, np.nan)
    starts, ends = (points[:-1], points[1:]) if len(points) > 1 else (points, points)
    hit = (np.minimum(starts, ends)[:, 1:] <= asked) & (asked <= np.maximum(starts, ends)[:, 1:])
    segment = hit.argmax(axis=0)
    (x, y), (end_x, end_y) = starts[segment].T, ends[segment].T
    share = (asked - y) / np.where(end_y == y, np.inf, end_y - y)
    crossing = np.where(share == 1.0, end_x, x + share * (end_x - x))
    return archived_points(np.where(hit.any(axis=0), crossing, np.nan))


def sampled(lanes: Sequence[Lane], rows: npt.ArrayLike) -> list[Lane]:
    """Lanes as points at the rows that they reach, near to far: what is archived and scored. Scores stay."""
    asked = np.sort(np.asarray(rows, dtype=np.float64))[::-1]
    found = []
    for lane in lanes:
        x = at_rows(lane, asked)
        there = ~np.isnan(x)
        found.append(Lane(np.stack([x[there], asked[there]], axis=1).astype(np.float32), lane.score))
    return found


def line_text(raw_file: str, lanes: Sequence[Lane], rows: npt.ArrayLike, **more: Any) -> str:
    """One line of a file of labels or predictions; -2 where a lane has no point or lies left of the image.

    `more` is added as it is: h_samples for labels, run_time for predictions.
    """
    xs = [np.nan_to_num(at_rows(lane, rows), nan=ABSENT) for lane in lanes]
    plain = [[ABSENT if x < 0 else int(x) if x == int(x) else float(x) for x in lane.tolist()] for lane in xs]
    return json.dumps({"raw_file": raw_file, "lanes": plain, **more}, allow_nan=False) + "\n"


def write_labels(path: Path, labelled: Iterable[tuple[str, Sequence[Lane], Sequence[int]]]) -> None:
    """Write a label file, atomically, from (raw_file, lanes, rows) of each frame."""
    write_text(path, "".join(line_text(name, lanes, rows, h_samples=list(rows)) for name, lanes, rows in labelled))


def write_predictions(path: Path, predicted: Iterable[tuple[str, Sequence[Lane], npt.ArrayLike]]) -> None:
    """Write a prediction file, atomically, from (raw_file, lanes, rows) of each frame; run_time is 0 as design has it."""
    write_text(path, "".join(line_text(name, lanes, rows, run_time=0) for name, lanes, rows in predicted))


def read_predictions(path: Path, rows_of: Mapping[str, Rows]) -> list[list[Lane]]:
    """The lanes of a prediction file for each raw_file of `rows_of`, in its order; lanes without a point are kept, empty.

    rows_of: the rows of each frame's label, at which predictions are given. A leading slash of a line's raw_file is left off. Raises
    InputError with file and line on anything but one sound line a frame.
    """
    found: dict[str, list[Lane]] = {}
    for number, line in _lines(path):
        try:
            entry = json.loads(line)
            name = str(entry["raw_file"]).lstrip("/") if isinstance(entry, dict) and "raw_file" in entry else ""
            if name not in rows_of or name in found:
                raise ValueError(
                    f"raw_file {name!r:.80} is {'there already' if name in found else 'none of the images'}"
                )
            labelled = _labelled(entry | {"h_samples": rows_of[name].tolist()})
        except (ValueError, RecursionError, OverflowError) as error:
            raise InputError(f"{path}:{number}: {why_unread(error)}; predict again, one line an image") from None
        there = [xs >= 0 for xs in labelled.xs]
        found[name] = [
            Lane(near_to_far(np.stack([xs[seen], labelled.rows[seen]], axis=1)))
            for xs, seen in zip(labelled.xs, there, strict=True)
        ]
    missing = [name for name in rows_of if name not in found]
    if missing:
        raise InputError(f"{path}: {len(missing)} of {len(rows_of)} images have no line, the first is {missing[0]}")
    return [found[name] for name in rows_of]


def read_labels(path: Path) -> list[Labelled]:
    """Read a label file strictly. Raises InputError with file and line on anything but what the format allows."""
    found = []
    lines_of: dict[str, int] = {}
    for number, line in _lines(path):
        try:
            # As text, and every key once: json would take a byte order mark, and of two values the last.
            labelled = _labelled(json.loads(line.decode(), object_pairs_hook=_unrepeated))
        except (ValueError, RecursionError, OverflowError) as error:
            raise InputError(
                f"{path}:{number}: {why_unread(error)}; restore the file from the dataset's source"
            ) from None
        first = lines_of.setdefault(labelled.raw_file, number)
        if first != number:
            raise InputError(f"{path}:{number}: {labelled.raw_file} is already on line {first}; delete one of the two")
        found.append(labelled)
    return found


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file and their numbers. Raises InputError on one that is blank."""
    text = read_bytes(path).removesuffix(b"\n")
    for number, line in enumerate(text.split(b"\n"), start=1):
        if text and not line.strip():
            raise InputError(f"{path}:{number}: a blank line; delete it")
        yield number, line


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"key {key!r:.40} is there more than once")
        found[key] = value
    return found


def _labelled(entry: object) -> Labelled:
    if not isinstance(entry, dict):
        raise ValueError("not a JSON object")
    missing = [key for key in ("raw_file", "lanes", "h_samples") if key not in entry]
    if missing:
        raise ValueError(f"no {missing[0]!r}")
    raw_file = entry["raw_file"]
    if not isinstance(raw_file, str) or not raw_file.isprintable() or ".." in raw_file.split("/"):
        raise ValueError(f"raw_file {str(raw_file)[:80]!r} isn't a path inside the dataset")
    if not raw_file.strip("/"):
        raise ValueError("raw_file is empty")
    rows = _numbers(entry["h_samples"], "h_samples")
    if not isinstance(entry["lanes"], list):
        raise ValueError("'lanes' isn't a list")
    for number, lane in enumerate(entry["lanes"], start=1):
        if isinstance(lane, list) and None in lane:
            raise ValueError(f"a value of lane {number} is null; {ABSENT} means no point")
    xs = [_numbers(lane, f"lane {number}") for number, lane in enumerate(entry["lanes"], start=1)]
    for number, lane in enumerate(xs, start=1):
        if len(lane) != len(rows):
            raise ValueError(f"lane {number} has {len(lane)} values for {len(rows)} h_samples")
    return Labelled(raw_file, rows, np.array(xs, dtype=np.float64).reshape(len(xs), len(rows)))


def _numbers(values: object, what: str) -> Rows:
    if not isinstance(values, list) or not all(type(value) in (int, float) for value in values):
        raise ValueError(f"{what} isn't a list of numbers")
    array = np.array(values, dtype=np.float64)
    if not (np.abs(array) <= COORDINATE_LIMIT).all():
        raise ValueError(f"{what} has a value further out than any image")
    return array


def points_of(labelled: Labelled) -> list[Points]:
    """The lanes of a line as (N, 2) points in the order of its rows; lanes without a point are left out."""
    lanes = []
    for xs in labelled.xs:
        there = xs >= 0
        if there.any():
            lanes.append(np.stack([xs[there], labelled.rows[there]], axis=1).astype(np.float32))
    return lanes


def clips_of(images: Sequence[str]) -> dict[str, str]:
    """Image -> clip of a split: folders named after the time are parted where none follows within CLIP_GAP, on whatever day's folder
    they lie, and named after the first; any other folder is a clip by itself."""
    clips = {image: image.rpartition("/")[0] for image in images}
    timed = {
        folder: match[1] for folder in clips.values() if (match := _TIMESTAMP.fullmatch(folder.rpartition("/")[2]))
    }
    first_of: dict[str, str] = {}
    before = first = ""
    for stamp in sorted(set(timed.values())):
        if not before or int(stamp) - int(before) > CLIP_GAP:
            first = stamp
        first_of[stamp], before = first, stamp
    return {image: first_of[timed[folder]] if folder in timed else folder for image, folder in clips.items()}


class TuSimple:
    """The TuSimple lane dataset in any of its known layouts, or rendered data in its form.

    A frame's id is its raw_file, in every layout. Scenarios it has none, rendered data may (scenarios.json). A clip is a stretch of
    driving without a gap over 30 s between labelled frames, where folders are named after the time; elsewhere it is the folder.
    """

    form = "tusimple"

    def __init__(
        self,
        root: Path,
        *,
        name: str = "tusimple",
        image_size: tuple[int, int] | None = None,
        rehash: bool = False,
    ) -> None:
        """Open the folder; see `open_dataset`. Labels are always read whole, so `rehash` changes nothing."""
        self.root = root.resolve()
        self.name = name
        self._image_size = image_size
        self._labelled: dict[str, dict[str, Labelled]] = {}
        self._frames: dict[str, tuple[Frame, ...]] = {}
        if not any(self._label_paths(split) for split in LABELS):
            names = ", ".join(file for files in LABELS.values() for file in files)
            raise InputError(
                f"{self.root} isn't TuSimple: it has none of {names}; name the folder that holds them and clips/"
            )

    def _label_paths(self, split: str) -> list[Path]:
        """The label files of a split; none unless all of them are there."""
        paths = [
            next((path for folder in FOLDERS if (path := self.root / folder / file).is_file()), None)
            for file in LABELS[split]
        ]
        found = [path for path in paths if path is not None]
        return found if len(found) == len(paths) else []

    @cached_property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels: as given when opened, else read from the first listed image."""
        return self._image_size or read_size(self.frames(self.splits()[0])[0].image)

    def size_fault(self, frame: Frame, size: tuple[int, int]) -> str | None:
        """An image has every row of its label: else the label is of a larger one."""
        (height, width), lowest = size, self.labelled(frame).rows.max(initial=0)
        fits = height > lowest
        return None if fits else f"{width} x {height} pixels, but its label goes down to row {lowest:g}"

    def splits(self) -> tuple[str, ...]:
        """The splits whose label files are all there."""
        return tuple(split for split in LABELS if self._label_paths(split))

    def _read(self, split: str) -> dict[str, Labelled]:
        """Frame id -> its line, in the files' order."""
        if split not in LABELS:
            raise InputError(f"unknown split {split!r} of {self.name}; {did_you_mean(split, list(LABELS))}")
        if split not in self._labelled:
            paths = self._label_paths(split)
            if not paths:
                raise InputError(
                    f"{self.root}: no {' and '.join(LABELS[split])}, the labels of split {split}; restore them"
                )
            found: dict[str, Labelled] = {}
            for path in paths:
                for labelled in read_labels(path):
                    name = labelled.raw_file.lstrip("/")
                    if name in found:
                        raise InputError(f"{path}: {name} is also in {paths[0]}; delete one of the two lines")
                    found[name] = labelled
            self._labelled[split] = found
        return self._labelled[split]

    def _images(self, split: str) -> Path:
        """The folder that the raw_files of a split are relative to."""
        own = self.root / ("test_set" if split == "test" else "train_set")
        return own if (own / "clips").is_dir() else self.root

    def label_files(self, split: str) -> list[Path]:
        """The label files of a split. Raises InputError on a split that isn't there or is damaged."""
        self._read(split)
        return self._label_paths(split)

    def frames(self, split: str) -> tuple[Frame, ...]:
        """The frames of a split in the order of its label files. Raises InputError on damaged labels."""
        if split not in self._frames:
            names = list(self._read(split))
            scenarios, clips, folder = scenarios_of(self.root, names), clips_of(names), self._images(split)
            self._frames[split] = tuple(Frame(name, folder / name, scenarios[name], clips[name]) for name in names)
        return self._frames[split]

    def labelled(self, frame: Frame) -> Labelled:
        """A frame's line: its raw_file and rows are what a prediction file needs. Raises InputError on an unknown frame."""
        # Those that were read first: which others there are is asked of the disk, and this is called for each image that is decoded.
        for splits in (tuple(self._labelled), self.splits()):
            for split in splits:
                found = self._read(split).get(frame.id)
                if found is not None and self._images(split) / frame.id == frame.image:
                    return found
        raise InputError(f"{frame.id} is in no label file of {self.root}; add it or drop the frame")

    def lanes(self, frame: Frame) -> list[Lane]:
        """The labels of a frame from near to far; lanes of one point, which the real labels have, among them."""
        return index_of([points_of(self.labelled(frame))]).lanes(0)

    def labels(self, split: str) -> LabelIndex:
        """All labels of a split, one row a frame of `frames(split)`."""
        return index_of(points_of(labelled) for labelled in self._read(split).values())

    def has_labels(self, split: str) -> bool:
        """Always: a split is there only with its labels."""
        return True

    def archived(self, frames: Sequence[Frame], lanes_of_frames: Iterable[Sequence[Lane]]) -> list[list[Lane]]:
        """The lanes at the rows of each frame's label, linearly between their points and never beyond them."""
        pairs = zip(frames, lanes_of_frames, strict=True)
        return [sampled(lanes, self.labelled(frame).rows) for frame, lanes in pairs]

    def write_predictions(
        self, folder: Path, frames: Sequence[Frame], lanes_of_frames: Iterable[Sequence[Lane]]
    ) -> None:
        """All in one file of JSON lines, `folder/predictions.json`, at the rows of each frame's label."""
        labelled = [self.labelled(frame) for frame in frames]
        pairs = zip(labelled, lanes_of_frames, strict=True)
        write_predictions(folder / PREDICTIONS_FILE, ((one.raw_file, lanes, one.rows) for one, lanes in pairs))

    def read_predictions(self, folder: Path, frames: Sequence[Frame]) -> list[list[Lane]]:
        """From `folder/predictions.json`, at the rows of each frame's label."""
        return read_predictions(folder / PREDICTIONS_FILE, {frame.id: self.labelled(frame).rows for frame in frames})

    def scored_files(self, split: str) -> list[str]:
        """The split's label files, and the scenarios where there are any."""
        scenarios = self.root / SCENARIOS_FILE
        files = [*self.label_files(split), *([scenarios] if scenarios.is_file() else [])]
        return [path.relative_to(self.root).as_posix() for path in files]

    def content_key(self) -> str:
        """sha256 over frames, rows and lanes of all splits, wherever the files lie; of rendered data its "dataset_key"."""
        return rendered_key(self.root) or sha256_of_json(
            {
                split: [
                    [[name, labelled.rows.tolist()] for name, labelled in self._read(split).items()],
                    self.labels(split).content,
                ]
                for split in self.splits()
            }
        )
