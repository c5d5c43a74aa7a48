"""CULane's layout: list/*.txt, list/test_split/test<n>_<scenario>.txt, and a .lines.txt beside each image.

Rendered data and datasets of one's own in this layout are read likewise, at any image size.
Layout: https://xingangpan.github.io/projects/CULane.html.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from harness.datasets.base import Frame, read_bytes
from harness.datasets.images import read_size
from harness.datasets.index import LabelIndex, cached_index, index_of, place_of, rebuilt_index, stat_signature
from harness.datasets.lines import LABEL_ENDING, label_name, parse_lines
from harness.datasets.predictions import read_predictions, write_predictions
from harness.datasets.rendering import rendered_key
from harness.errors import InputError, InputWarning, did_you_mean
from harness.files.stored import sha256_of_json
from harness.lanes import Lane, archived

LISTS = {"train": ("train.txt", "train_gt.txt"), "val": ("val.txt", "val_gt.txt"), "test": ("test.txt",)}
"""Split -> the names that its list may have, in list/; the first that is there is read."""

FEWEST_POINTS = 2
"""A label of fewer points is no curve: nothing can be trained on it."""

_LONGEST_PATH, _LONGEST_NAME = 4095, 255
"""In bytes, as Linux has it: whatever asks for a file of a longer path fails otherwise."""

EMPTY_SCENARIO = "cross"
"""CULane's scenario whose images have no lanes: as the official evaluation does, tables count its false positives alone."""

_SPLIT_FILE = re.compile(r"test\d+_(\w+)\.txt")


def scenario_of_list(name: str) -> str | None:
    """The scenario of a list in list/test_split, by its file's name; None where that isn't one of those."""
    match = _SPLIT_FILE.fullmatch(name)
    return match[1] if match else None


def read_list(path: Path) -> list[str]:
    """The image ids of a list file, in order; a leading slash and the masks and flags of a *_gt.txt are left off.

    Raises InputError with file and line on a path that leaves the dataset's folder, has an empty part or the part `.`, has no
    extension, is longer than paths may be, is that of a label, is listed twice, or has the label file of another.
    """
    only_first_word = path.stem.endswith("_gt")
    listed: dict[str, tuple[str, int]] = {}
    for number, raw in enumerate(read_bytes(path).removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        try:
            line = raw.decode().strip()
        except UnicodeDecodeError:
            raise InputError(f"{path}:{number}: not UTF-8 text; restore the list from the dataset's source") from None
        if not line:
            continue
        image = (line.split()[0] if only_first_word else line).lstrip("/")
        parts = image.split("/")
        if ".." in parts or not image.isprintable():
            raise InputError(f"{path}:{number}: {line!r} isn't a path inside the dataset; correct the line")
        if "" in parts or "." in parts:  # else one image could be listed twice
            raise InputError(f"{path}:{number}: {line!r} has a part that is empty or '.'; leave it out")
        if len(image.encode()) > _LONGEST_PATH or max(len(part.encode()) for part in parts) > _LONGEST_NAME:
            start = f"{line[:60]}..."
            raise InputError(
                f"{path}:{number}: {start!r} is longer than a path may be; write one image a line, nothing else"
            )
        if image.endswith(LABEL_ENDING):
            raise InputError(
                f"{path}:{number}: {line!r} is a label; name its image, beside which the label is looked for"
            )
        if "." not in parts[-1]:
            raise InputError(f"{path}:{number}: {line!r} isn't an image file: it has no extension; correct the line")
        labels = label_name(image)
        other, line_of_other = listed.setdefault(labels, (image, number))
        if line_of_other != number:
            fix = "delete one of the two lines"
            if image != other:
                raise InputError(
                    f"{path}:{number}: {image} has the label file of {other}, {labels}: rename one of the images, or {fix}"
                )
            raise InputError(f"{path}:{number}: {image} is already on line {line_of_other}; {fix}")
    return [image for image, _ in listed.values()]


class CULane:
    """A dataset in CULane's layout.

    Frames of the test split carry the scenario of the one test_split file that lists them; without a folder test_split they
    carry none. Labels are read through the cached index, so that the first use reads all labels of a split and refuses
    damaged ones before anything is trained or scored.
    """

    form = "culane"

    def __init__(
        self,
        root: Path,
        *,
        name: str = "culane",
        image_size: tuple[int, int] | None = None,
        rehash: bool = False,
        lane_width: int | None = None,
    ) -> None:
        """Open the folder; see `open_dataset`. Nothing but the folder's existence is checked yet."""
        self.lane_width = lane_width
        self.root = root.resolve()
        self.name = name
        self._image_size = image_size
        self._rehash = rehash
        self._frames: dict[str, tuple[Frame, ...]] = {}
        self._rows: dict[str, dict[str, int]] = {}
        self._indices: dict[str, LabelIndex] = {}
        if not (self.root / "list").is_dir():
            known = f"{self.root} isn't in CULane's layout: it has no folder list/"
            raise InputError(f"{known}; name the folder that holds list/ and the driver_* folders")

    @cached_property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels: as given when opened, else read from the first listed image."""
        return self._image_size or read_size(self.frames(self.splits()[0])[0].image)

    def size_fault(self, frame: Frame, size: tuple[int, int]) -> str | None:
        """All images are of the dataset's size."""
        if size == self.image_size:
            return None
        (height, width), (expected_height, expected_width) = size, self.image_size
        return f"{width} x {height} pixels, but the dataset's images are {expected_width} x {expected_height}"

    def splits(self) -> tuple[str, ...]:
        """The splits that have a list. Raises InputError if none has."""
        found = tuple(split for split in LISTS if self._list_path(split))
        if not found:
            names = ", ".join(name for names in LISTS.values() for name in names)
            raise InputError(
                f"{self.root / 'list'} has none of the lists {names}; restore them from the dataset's source"
            )
        return found

    def _list_path(self, split: str) -> Path | None:
        paths = [self.root / "list" / name for name in LISTS[split]]
        return next((path for path in paths if path.is_file()), None)

    def images(self, split: str) -> list[str]:
        """The ids of a split's frames in the order of its list. Raises InputError as `read_list` does and on an empty list."""
        if split not in self._rows:
            path = self._existing_list(split)
            images = read_list(path)
            if not images:
                raise InputError(f"{path}: no image is listed; restore the list from the dataset's source")
            self._rows[split] = {image: row for row, image in enumerate(images)}
        return list(self._rows[split])

    def _existing_list(self, split: str) -> Path:
        if split not in LISTS:
            raise InputError(f"unknown split {split!r} of {self.name}; {did_you_mean(split, list(LISTS))}")
        path = self._list_path(split)
        if path is None:
            expected = " or ".join(LISTS[split])
            raise InputError(
                f"{self.root / 'list'}: no {expected}, the list of split {split}; restore it from the source"
            )
        return path

    def frames(self, split: str) -> tuple[Frame, ...]:
        """The images of a split in the order of its list. Raises InputError as `images` does."""
        if split not in self._frames:
            images = self.images(split)
            scenarios = self._scenarios(self._existing_list(split), images) if split == "test" else {}
            self._frames[split] = tuple(
                Frame(image, self.root / image, scenarios.get(image), image.rpartition("/")[0]) for image in images
            )
        return self._frames[split]

    def _scenarios(self, test_list: Path, images: list[str]) -> dict[str, str]:
        if not (test_list.parent / "test_split").is_dir():
            return {}
        listed = set(images)
        origin: dict[str, Path] = {}
        scenarios: dict[str, str] = {}
        for path in self._split_files(test_list):
            for image in read_list(path):
                if image in origin:
                    raise InputError(
                        f"{path}: {image} is also in {origin[image].name}; an image has one scenario: delete one"
                    )
                if image not in listed:
                    raise InputError(f"{path}: {image} isn't in {test_list}; add it there or delete it here")
                origin[image] = path
                scenarios[image] = path.stem.partition("_")[2]
        folder = test_list.parent / "test_split"
        for image in images:
            if image not in scenarios:
                others = sorted(path.name for path in folder.glob("*.txt") if not _SPLIT_FILE.fullmatch(path.name))
                fix = "add it to the list of its scenario"
                if others:
                    fix = (
                        f"rename {', '.join(others)}, which isn't read: a scenario's list is called test<number>_<scenario>.txt, "
                        "and its name has letters, digits and _ only"
                    )
                raise InputError(
                    f"{test_list}: {image} is in no file of {folder}{' that is read' * bool(others)}; {fix}"
                )
        return scenarios

    def _split_files(self, test_list: Path) -> list[Path]:
        """The lists of scenarios, sorted; none without the folder of them."""
        folder = test_list.parent / "test_split"
        return sorted(path for path in folder.iterdir() if _SPLIT_FILE.fullmatch(path.name)) if folder.is_dir() else []

    def labels(self, split: str) -> LabelIndex:
        """The index of a split's labels, one row a frame of `frames(split)`, with every line of every file.

        Real labels hold blank lines and lanes of one point, which the official evaluator counts as lanes: the index has them, a
        warning says how many there are, and `lanes` leaves them out. Another says how many images of scenario cross have lanes,
        where `frames` was called before. Raises InputError on a label that is missing or damaged.
        """
        if split not in self._indices:
            names = [label_name(image) for image in self.images(split)]
            key = sha256_of_json([names, stat_signature(self.root, names)])
            fetch = rebuilt_index if self._rehash else cached_index
            index = fetch(place_of(self.form, self.root, split), key, lambda: self._read_labels(names))
            if short := index.short_lanes():
                what = f"{short} lanes of split {split} have fewer than two points: they aren't trained on, but scored"
                warnings.warn(f"{self.root}: {what}", InputWarning, stacklevel=2)
            if crossings := self._crossings_with_lanes(split, index):
                warnings.warn(
                    f"{self.root}: {crossings} images of scenario {EMPTY_SCENARIO} have lanes, but of it false positives alone are "
                    "counted, as officially; give the scenario another name to have its F1",
                    InputWarning,
                    stacklevel=2,
                )
            self._indices[split] = index
        return self._indices[split]

    def _crossings_with_lanes(self, split: str, index: LabelIndex) -> int:
        # Scenarios are known once the frames were asked for: labels alone never depend on test_split.
        lanes = np.diff(index.frame_starts)
        frames = self._frames.get(split, ())
        return sum(frame.scenario == EMPTY_SCENARIO and lanes[row] > 0 for row, frame in enumerate(frames))

    def _read_labels(self, names: list[str]) -> LabelIndex:
        paths = [f"{self.root}/{name}" for name in names]
        return index_of(parse_lines(read_bytes(path), source=path) for path in paths)

    def lanes(self, frame: Frame) -> list[Lane]:
        """The labels of a frame of any split that have two points or more, from near to far, in pixels of the image file."""
        # Splits that were opened already come first: a training never depends on the other lists.
        for split in dict.fromkeys([*self._rows, *self.splits()]):
            self.images(split)
            row = self._rows[split].get(frame.id)
            if row is not None:
                return [lane for lane in self.labels(split).lanes(row) if len(lane) >= FEWEST_POINTS]
        raise InputError(f"{frame.id} is on no list of {self.root / 'list'}; add it to one or drop the frame")

    def has_labels(self, split: str) -> bool:
        """Always: CULane's labels are public."""
        return True

    def archived(self, frames: Sequence[Frame], lanes_of_frames: Iterable[Sequence[Lane]]) -> list[list[Lane]]:
        """The decoded points themselves, in 1/8 px, without repetitions."""
        return [archived(lanes) for _, lanes in zip(frames, lanes_of_frames, strict=True)]

    def write_predictions(
        self, folder: Path, frames: Sequence[Frame], lanes_of_frames: Iterable[Sequence[Lane]]
    ) -> None:
        """One .lines.txt a frame: `folder/<image path with .lines.txt for its extension>`."""
        write_predictions(folder, frames, lanes_of_frames)

    def read_predictions(self, folder: Path, frames: Sequence[Frame]) -> list[list[Lane]]:
        """From one .lines.txt a frame."""
        return read_predictions(folder, frames)

    def scored_files(self, split: str) -> list[str]:
        """The split's list, for test the lists of scenarios, and the labels."""
        lists = [self._existing_list(split)]
        if split == "test":
            lists += self._split_files(lists[0])
        return [*(path.relative_to(self.root).as_posix() for path in lists), *map(label_name, self.images(split))]

    def content_key(self) -> str:
        """sha256 over lists, scenarios and parsed labels of all splits; of rendered data, its "dataset_key".

        Neither the folder's place nor white space, line ends or leading slashes matter.
        """
        return rendered_key(self.root) or sha256_of_json(
            {
                split: [[[frame.id, frame.scenario] for frame in self.frames(split)], self.labels(split).content]
                for split in self.splits()
            }
        )
