"""LLAMAS: lanes from marker JSON, as the official scripts make rows of them.

Format and rules: https://github.com/karstenBehrendt/unsupervised_llamas, label_scripts and culane_metric. Images are 1276x717;
labels of the test split are private.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from harness.datasets.base import Frame, read_bytes
from harness.datasets.images import read_size
from harness.datasets.index import LabelIndex, cached_index, index_of_files, place_of, rebuilt_index, stat_signature
from harness.datasets.lines import COORDINATE_LIMIT, lines_text
from harness.datasets.predictions import read_lines_files
from harness.datasets.rendering import SCENARIOS_FILE, rendered_key, scenarios_of
from harness.errors import InputError, did_you_mean, why_unread
from harness.files.stored import sha256_of_json
from harness.lanes import Lane, Points, archived

Kind = TypeVar("Kind")

HEIGHT, WIDTH = 717, 1276
"""The size that the official scripts have built in."""

LANES = ("l1", "l0", "r0", "r1")
"""The lanes that are evaluated, from left to right."""

SPLITS = {"train": "train", "val": "valid", "test": "test"}
"""Split -> its folder below labels/ and color_images/."""

IMAGE_SUFFIX = "_color_rect.png"

FRAMES_OF_A_CLIP = 100
"""Consecutive frames of a recording that count as one clip."""

FIRST_SCORED_ROW = 300
"""The official metric looks at rows from here down (culane_metric/evaluate.py: add_ys)."""

_SHORTEST_LANE = 20  # rows between the nearest and the farthest marker start: official _filter_lanes_by_size
_FEWEST_MARKERS = 2
_TALL_MARKER = 2  # markers of more rows than this contribute all their rows


class Marker(NamedTuple):
    """One painted dash: image points (x, y) of its near and far end in whole pixels, and the depths of the two in metres."""

    start: tuple[int, int]
    end: tuple[int, int]
    depth: float
    end_depth: float


def prediction_name(label: str) -> str:
    """Where the official evaluator looks for a prediction: the label's last folder and name, with .lines.txt."""
    folder, _, name = label.rpartition("/")
    return f"{folder.rpartition('/')[2]}/{name.removesuffix('.json')}.lines.txt"


def prediction_path(folder: Path, frame: Frame) -> Path:
    """Where a frame's prediction lies in a folder of predictions."""
    return folder / prediction_name(frame.id.removesuffix(IMAGE_SUFFIX) + ".json")


def lane_rows(data: bytes, *, source: str) -> dict[str, npt.NDArray[np.float64]]:
    """Lane id (of LANES) -> x at each of the 717 rows, NaN where there is none, from the bytes of a label file.

    Raises InputError, naming file, lane and marker, on what the official scripts can't read: other text than UTF-8, missing keys,
    values that aren't numbers, markers outside the rows, a lane without a single slanted marker or whose nearest has no depth.
    """
    try:
        content = json.loads(data.decode())  # as text: json would take UTF-16 and a byte order mark
        lanes = _named_lanes(content)
        if "projection_matrix" not in content:
            raise ValueError("the label has no 'projection_matrix'")
        # Lanes further out aren't evaluated, but the official scripts raise on them all the same.
        rows = {name: _rows(_extended(markers, name), name) for name, markers in lanes.items()}
        return {name: rows[name] for name in LANES if name in rows}
    except (ValueError, RecursionError, OverflowError) as error:
        raise InputError(f"{source}: {why_unread(error)}; restore the label from the dataset's source") from None


def _named_lanes(content: object) -> dict[str, list[Marker]]:
    """The lanes that are long enough, numbered afresh on either side."""
    lanes = _field(content, "lanes", list, "the label")
    kept: list[tuple[str, list[Marker]]] = []
    for number, lane in enumerate(lanes, start=1):
        where = f"lane {number}"
        name = _field(lane, "lane_id", str, where)
        markers = []
        for place, marker in enumerate(_field(lane, "markers", list, where), start=1):
            try:
                markers.append(_marker(marker))
            except ValueError as error:  # said here, because there are hundreds of markers a file and rarely a fault
                raise ValueError(f"{where}, marker {place}{error}") from None
        if not markers:
            raise ValueError(f"{where} has no markers")
        starts = [marker.start[1] for marker in markers]
        if max(starts) - min(starts) >= _SHORTEST_LANE and len(markers) >= _FEWEST_MARKERS:
            kept.append((name, markers))
    renamed: dict[str, str] = {}
    for side in "lr":
        names = sorted(name for name, _ in kept if name[:1] == side)
        renamed |= {name: f"{side}{number}" for number, name in enumerate(names)}
    unknown = [name for name, _ in kept if name not in renamed]
    if unknown:
        raise ValueError(f"lane_id {unknown[0]!r} begins neither with l nor with r")
    return {renamed[name]: markers for name, markers in kept}


def _field(value: object, key: str, kind: type[Kind], where: str) -> Kind:
    found = value.get(key) if isinstance(value, dict) else None
    if not isinstance(found, kind):
        raise ValueError(f"{where} has no {key!r} that is a {kind.__name__}")
    return found


def _marker(marker: object) -> Marker:
    start, end = _field(marker, "pixel_start", dict, ""), _field(marker, "pixel_end", dict, "")
    return Marker(
        (_whole(start, "x", ", pixel_start"), _whole(start, "y", ", pixel_start")),
        (_whole(end, "x", ", pixel_end"), _whole(end, "y", ", pixel_end")),
        _decimal(_field(marker, "world_start", dict, ""), "z", ", world_start"),
        _decimal(_field(marker, "world_end", dict, ""), "z", ", world_end"),
    )


def _whole(point: dict[str, object], key: str, where: str) -> int:
    text = point.get(key)
    try:
        value = int(text) if isinstance(text, (str, int)) else None
    except ValueError:
        value = None
    if value is None or abs(value) > COORDINATE_LIMIT:
        raise ValueError(f"{where}: {key} is {str(text)[:40]!r}, not a whole number of pixels")
    return value


def _decimal(point: dict[str, object], key: str, where: str) -> float:
    text = point.get(key)
    try:
        value = float(text) if isinstance(text, (str, int, float)) else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{where}: {key} is {str(text)[:40]!r}, not a number")
    return value


def _extended(markers: list[Marker], name: str) -> list[Marker]:
    """The markers with one more in front, from the nearest slanted marker straight on to the border of the image."""
    slanted = [marker for marker in markers if marker.start[0] != marker.end[0] and marker.start[1] != marker.end[1]]
    if not slanted:
        raise ValueError(f"lane {name} has no slanted marker, so it can't be extended")
    nearest = min(slanted, key=lambda marker: marker.depth)
    if nearest.depth < 0:
        return markers
    if nearest.depth == nearest.end_depth:
        raise ValueError(f"lane {name}: a marker without depth, its nearest slanted one")
    (x, y), (end_x, end_y) = nearest.start, nearest.end
    across, down = (end_x - x) / (end_y - y), (end_y - y) / (end_x - x)
    bottom_x = x + (HEIGHT - 1 - y) * across
    if bottom_x < 0:
        border = (0.0, y - x * down)
    elif bottom_x > WIDTH:
        border = (float(WIDTH), y + (WIDTH - x) * down)
    else:
        border = (bottom_x, float(HEIGHT - 1))
    return [Marker((round(border[0]), round(border[1])), nearest.start, 1.0, nearest.depth), *markers]


def _rows(markers: list[Marker], name: str) -> npt.NDArray[np.float64]:
    """The mean x of the markers in each row; rows between markers are filled from top to bottom."""
    found: list[list[int]] = [[] for _ in range(HEIGHT)]
    for marker in markers:
        (x, y), (end_x, end_y) = marker.start, marker.end
        if not (0 <= y < HEIGHT and (0 <= end_y < HEIGHT or y - end_y <= _TALL_MARKER)):
            raise ValueError(f"lane {name} has a marker from row {y} to row {end_y}, outside the image's {HEIGHT} rows")
        found[y].append(x)
        height = y - end_y
        if height > _TALL_MARKER:
            slope = (end_x - x) / height
            for step in range(height + 1):
                found[y - step].append(round(x + slope * step))
    values = np.array([sum(xs) / len(xs) if xs else np.nan for xs in found])
    values[values == -1.0] = np.nan  # what the official scripts mark a row without a point by
    there = np.flatnonzero(~np.isnan(values))
    for above, below in pairwise(there.tolist()):
        for row in range(above + 1, below):
            # The official fill steps by 1/(rows left + 1), a touch short of the straight line.
            values[row] = values[row - 1] + (values[below] - values[row - 1]) / (below - row + 1)
    return values


def points_of(rows: dict[str, npt.NDArray[np.float64]]) -> list[Points]:
    """The lanes from left to right as points from near to far; negative x, which the official scripts take for none, left out."""
    lanes = []
    for name in LANES:
        if name in rows:
            y = np.flatnonzero(rows[name] >= 0)[::-1]
            if len(y) > 1:
                lanes.append(np.stack([rows[name][y], y], axis=1).astype(np.float32))
    return lanes


def read_points(path: str) -> list[Points]:
    """The lanes of a label file as `points_of` gives them. Raises InputError as `lane_rows` does."""
    return points_of(lane_rows(read_bytes(path), source=path))


def read_scored_points(path: str) -> list[Points]:
    """`read_points` of a split that is scored. Raises InputError also on a lane that the official metric has no two rows of."""
    rows = lane_rows(read_bytes(path), source=path)
    if any((x >= 0).sum() > 1 and (x[FIRST_SCORED_ROW:] >= 0).sum() < 2 for x in rows.values()):
        raise InputError(f"{path}: a lane with fewer than two rows from {FIRST_SCORED_ROW} down: remove it")
    return points_of(rows)


def write_predictions(folder: Path, frames: Sequence[Frame], lanes_of_frames: Iterable[Sequence[Lane]]) -> None:
    """Write predictions as the official evaluator reads them (and its server, for test): `folder/<clip>/<name>.lines.txt`.

    Plain writes: the caller makes the folder's appearance atomic.
    """
    for frame, lanes in zip(frames, lanes_of_frames, strict=True):
        path = prediction_path(folder, frame)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(lines_text(lanes).encode("ascii"))


def clips_of(images: Sequence[str]) -> list[str]:
    """The clip of each image of a split, which is in the order of recordings and names: `<recording>/<number of the hundred>`."""
    seen: dict[str, int] = {}
    clips = []
    for image in images:
        recording = image.split("/")[-2]
        place = seen[recording] = seen.get(recording, -1) + 1
        clips.append(f"{recording}/{place // FRAMES_OF_A_CLIP}")
    return clips


class LLAMAS:
    """The LLAMAS dataset, or rendered data in its form.

    Scenarios it has none, rendered data may (scenarios.json). A clip is 100 consecutive frames of a recording's folder. The labels of
    the test split are private; rendered data may have them, in labels/test.
    """

    form = "llamas"

    def __init__(
        self,
        root: Path,
        *,
        name: str = "llamas",
        image_size: tuple[int, int] | None = None,
        rehash: bool = False,
    ) -> None:
        """Open the folder; see `open_dataset`."""
        self.root = root.resolve()
        self.name = name
        self._image_size = image_size
        self._rehash = rehash
        self._frames: dict[str, tuple[Frame, ...]] = {}
        self._indices: dict[str, LabelIndex] = {}
        if not self.splits():
            raise InputError(
                f"{self.root} isn't LLAMAS: no labels/train or labels/valid; name the folder that holds labels/"
            )

    @cached_property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels: as given when opened, else read from the first image."""
        return self._image_size or read_size(self.frames(self.splits()[0])[0].image)

    def size_fault(self, frame: Frame, size: tuple[int, int]) -> str | None:
        """Images are 1276x717, as labels and metric are."""
        fits = size == (HEIGHT, WIDTH)
        return None if fits else f"{size[1]} x {size[0]} pixels, but LLAMAS's labels are for {WIDTH} x {HEIGHT}"

    def _source(self, split: str) -> Path:
        """The folder that a split is listed from: its labels, or for test without labels its images."""
        labels = self.root / "labels" / SPLITS[split]
        return self.root / "color_images" / SPLITS[split] if split == "test" and not labels.is_dir() else labels

    def has_labels(self, split: str) -> bool:
        """Whether a split has a folder of labels: test has none but in rendered data."""
        return (self.root / "labels" / SPLITS[split]).is_dir()

    def splits(self) -> tuple[str, ...]:
        """The splits whose labels (of test: images) are there."""
        return tuple(split for split in SPLITS if self._source(split).is_dir())

    def frames(self, split: str) -> tuple[Frame, ...]:
        """The frames of a split, sorted by clip and name. Raises InputError on a split that isn't there or is empty."""
        if split not in SPLITS:
            raise InputError(f"unknown split {split!r} of {self.name}; {did_you_mean(split, list(SPLITS))}")
        if split not in self._frames:
            source = self._source(split)
            ending = ".json" if self.has_labels(split) else IMAGE_SUFFIX
            clips = sorted(path for path in source.iterdir() if path.is_dir()) if source.is_dir() else []
            names = [
                f"{clip.name}/{file.name.removesuffix(ending)}"
                for clip in clips
                for file in sorted(clip.iterdir())
                if file.name.endswith(ending)
                and not file.name.startswith(".")  # macOS's archivers leave ._NAME beside each
            ]
            if not names:
                raise InputError(
                    f"{source}: no <clip>/*{ending}, so there is no split {split}; restore it from the source"
                )
            images = [f"color_images/{SPLITS[split]}/{name}{IMAGE_SUFFIX}" for name in names]
            scenarios, parts = scenarios_of(self.root, images), clips_of(images)
            self._frames[split] = tuple(
                Frame(image, self.root / image, scenarios[image], clip)
                for image, clip in zip(images, parts, strict=True)
            )
        return self._frames[split]

    def label_name(self, frame: Frame) -> str:
        """The path of a frame's label below the root."""
        return f"labels/{frame.id.removeprefix('color_images/').removesuffix(IMAGE_SUFFIX)}.json"

    def labels(self, split: str) -> LabelIndex:
        """The index of a split's labels, one row a frame of `frames(split)`. Raises InputError on damage and for test."""
        if not self.has_labels(split):
            raise InputError(f"{self.name}: the labels of the {split} split are private; score val instead")
        if split not in self._indices:
            names = [self.label_name(frame) for frame in self.frames(split)]
            key = sha256_of_json([names, stat_signature(self.root, names)])
            fetch = rebuilt_index if self._rehash else cached_index
            self._indices[split] = fetch(
                place_of(self.form, self.root, split), key, lambda: self._read_labels(split, names)
            )
        return self._indices[split]

    def _read_labels(self, split: str, names: list[str]) -> LabelIndex:
        # Scoring would refuse the others only after the training.
        read = read_points if split == "train" else read_scored_points
        return index_of_files([f"{self.root}/{name}" for name in names], read)

    @cached_property
    def _rows(self) -> dict[str, tuple[str, int]]:
        return {
            frame.id: (split, row)
            for split in self.splits()
            if self.has_labels(split)
            for row, frame in enumerate(self.frames(split))
        }

    def lanes(self, frame: Frame) -> list[Lane]:
        """The labels of a frame from near to far, one point a row, lanes from left to right."""
        if frame.id not in self._rows:
            raise InputError(
                f"{frame.id} has no label below {self.root / 'labels'}; drop the frame or restore its label"
            )
        split, row = self._rows[frame.id]
        return self.labels(split).lanes(row)

    def archived(self, frames: Sequence[Frame], lanes_of_frames: Iterable[Sequence[Lane]]) -> list[list[Lane]]:
        """The decoded points themselves, in 1/8 px, without repetitions."""
        return [archived(lanes) for _, lanes in zip(frames, lanes_of_frames, strict=True)]

    def write_predictions(
        self, folder: Path, frames: Sequence[Frame], lanes_of_frames: Iterable[Sequence[Lane]]
    ) -> None:
        """One .lines.txt a frame: `folder/<recording>/<name>.lines.txt`, for val as for the server of test."""
        write_predictions(folder, frames, lanes_of_frames)

    def read_predictions(self, folder: Path, frames: Sequence[Frame]) -> list[list[Lane]]:
        """From one .lines.txt a frame, where the official evaluator looks for it."""
        return read_lines_files([prediction_path(folder, frame) for frame in frames])

    def scored_files(self, split: str) -> list[str]:
        """The split's labels, and the scenarios where there are any. InputError for a split whose labels are private."""
        if not self.has_labels(split):
            raise InputError(f"{self.name}: the labels of the {split} split are private; score val instead")
        scenarios = [SCENARIOS_FILE] if (self.root / SCENARIOS_FILE).is_file() else []
        return [*scenarios, *(self.label_name(frame) for frame in self.frames(split))]

    def content_key(self) -> str:
        """sha256 over frames and labels of train and val, and over the frames of test; of rendered data its "dataset_key"."""
        return rendered_key(self.root) or sha256_of_json(
            {
                split: [
                    [frame.id for frame in self.frames(split)],
                    self.labels(split).content if self.has_labels(split) else "",
                ]
                for split in self.splits()
            }
        )
