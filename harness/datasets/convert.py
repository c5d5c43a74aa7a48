"""One form of dataset written as another: labels translated, images linked or copied as they are.

Points are kept (CULane's layout, in 1/8 px) or, for TuSimple, interpolated linearly at its rows; nothing else is resampled, and images
keep their size. LLAMAS is no target: its markers have world coordinates and are single dashes, which no other form knows.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from harness.datasets.base import Frame
from harness.datasets.images import read_size
from harness.datasets.index import LabelIndex
from harness.datasets.lines import label_name, write_lines_file
from harness.datasets.rendering import SCENARIOS_FILE
from harness.datasets.sizes import sizes_of
from harness.datasets.tusimple import at_rows, write_labels
from harness.errors import InputError
from harness.files.stored import write_json
from harness.files.whole import refuse_existing, whole_folder
from harness.lanes import Lane

Images = Literal["link", "copy", "symlink"]
Target = Literal["culane", "tusimple"]
Labelled = list[tuple[Frame, list[Lane]]]

ROW_STEP = 10
TOP_ROW = 160 / 720
"""TuSimple's rows are every tenth from 160 to 710 of 720; images of another height get the same share."""

CULANE_SCENARIOS = ("normal", "crowd", "hlight", "shadow", "noline", "arrow", "curve", "cross", "night")
"""The order of CULane's list/test_split files; other scenarios come after them."""

REFUSED = {
    "llamas": "markers of LLAMAS are single dashes with world coordinates, which the other forms don't have: nothing honest can be "
    "written; give --to culane or tusimple"
}
"""Form -> why it can't be written."""


class Source(Protocol):
    """What conversion needs of a dataset."""

    @property
    def root(self) -> Path:
        """The dataset's folder, absolute."""

    def splits(self) -> tuple[str, ...]:
        """The splits that are there."""

    def has_labels(self, split: str) -> bool:
        """Whether a split has labels."""

    def frames(self, split: str) -> tuple[Frame, ...]:
        """The images of a split."""

    def labels(self, split: str) -> LabelIndex:
        """Their labels, one row a frame."""


def convert(
    source: Source, out: Path, to: Target, *, images: Images = "link", size: tuple[int, int] | None = None
) -> list[str]:
    """Write a dataset at `out`, all of it or nothing; returns what was left out, in words, one line each.

    size: take only images of this (height, width), for sources of mixed sizes. Raises InputError if `out` exists, if the labelled
    images have several sizes and none is given, or none of them has the given one, if an image is missing or can't be linked, on
    damaged labels, if nothing is left, and if `out` lies in the source or the source in `out`.
    """
    if out.resolve().is_relative_to(source.root):
        raise InputError(f"{out}: lies in its source {source.root}, which is never written; give a folder outside")
    if source.root.is_relative_to(out.resolve()):
        raise InputError(f"{out}: its source {source.root} lies in it; give a folder outside")
    refuse_existing(out)
    said = [
        f"split {split}: left out, for its labels are private"
        for split in source.splits()
        if not source.has_labels(split)
    ]
    content = {split: _labelled(source, split) for split in source.splits() if source.has_labels(split)}
    said += _keep_one_size(content, size, out)
    content = {split: rows for split, rows in content.items() if rows}
    if not content:
        raise InputError(
            f"{out}: no labelled image is left to be written; look at the source with `samiro-bench data doctor`"
        )
    _make_unique(content)
    with whole_folder(out) as folder:
        for rows in content.values():
            for frame, _ in rows:
                _place(frame.image, folder / frame.id, images)
        said += WRITERS[to](folder, content)
    return said


def _keep_one_size(content: dict[str, Labelled], size: tuple[int, int] | None, out: Path) -> list[str]:
    """Take out images of another size than the one asked for, and say so; refuse several sizes where none was asked for."""
    sizes = {
        split: [(int(height), int(width)) for height, width in sizes_of([frame for frame, _ in rows])]
        for split, rows in content.items()
    }
    counts = Counter(found for of_split in sizes.values() for found in of_split)
    named = ", ".join(f"{height}x{width} ({count:,})" for (height, width), count in counts.most_common(6))
    if size is None and len(counts) > 1:
        height, width = counts.most_common(1)[0][0]
        raise InputError(
            f"{out}: a dataset has one image size, but the source's images are, in height x width, {named}; say which to take, as in "
            f"--size {height}x{width}"
        )
    if size is not None and counts and size not in counts:
        swapped = "; the height comes first" if size[::-1] in counts else ""
        raise InputError(
            f"{out}: no labelled image is {size[0]} high and {size[1]} wide: they are, in height x width, {named}"
            f"{swapped or '; give one of these sizes'}"
        )
    said = []
    for split, rows in content.items():
        kept = [row for row, found in zip(rows, sizes[split], strict=True) if size in (None, found)]
        if len(kept) < len(rows):
            said.append(f"split {split}: {len(rows) - len(kept):,} images of another size left out")
        content[split] = kept
    return said


def _labelled(source: Source, split: str) -> Labelled:
    index = source.labels(split)
    return [(frame, index.lanes(row)) for row, frame in enumerate(source.frames(split))]


def _make_unique(content: dict[str, Labelled]) -> None:
    """Put the images of each split into a folder of its own where splits use the same names (TuSimple may)."""
    names = Counter(frame.id for rows in content.values() for frame, _ in rows)
    if max(names.values()) > 1:
        for split, rows in content.items():
            content[split] = [(replace(frame, id=f"{split}/{frame.id}"), lanes) for frame, lanes in rows]


def _place(image: Path, path: Path, images: Images) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        if images == "symlink":
            image.stat()
            path.symlink_to(image.resolve())
        elif images == "copy":
            shutil.copyfile(image, path)
        else:
            os.link(image.resolve(), path)
    except FileNotFoundError:
        raise InputError(f"{image} is missing; restore it, or see `samiro-bench data doctor`") from None
    except OSError as error:
        raise InputError(f"{image}: can't be put at {path} by {images} ({error.strerror}); try --images copy") from None


def _write_culane(folder: Path, content: dict[str, Labelled]) -> list[str]:
    (folder / "list").mkdir()
    for split, rows in content.items():
        (folder / f"list/{split}.txt").write_text("".join(f"/{frame.id}\n" for frame, _ in rows), encoding="utf-8")
        for frame, lanes in rows:
            write_lines_file(folder / label_name(frame.id), lanes)
    scenarios: dict[str, list[str]] = {}
    for frame, _ in content.get("test", []):
        if frame.scenario is not None:
            scenarios.setdefault(frame.scenario, []).append(frame.id)
    if scenarios:
        (folder / "list/test_split").mkdir()
    order = [name for name in CULANE_SCENARIOS if name in scenarios]
    order += [name for name in scenarios if name not in order]
    for number, name in enumerate(order):
        number = CULANE_SCENARIOS.index(name) if name in CULANE_SCENARIOS else number + len(CULANE_SCENARIOS)
        (folder / f"list/test_split/test{number}_{name}.txt").write_text(
            "".join(f"{image}\n" for image in scenarios[name]), encoding="utf-8"
        )
    return []


def rows_of(height: int) -> list[int]:
    """The rows of a TuSimple label on an image of a height: every tenth from its upper share on, 160 ... 710 of 720."""
    return list(range(int(TOP_ROW * height) // ROW_STEP * ROW_STEP, height, ROW_STEP))


def _write_tusimple(folder: Path, content: dict[str, Labelled]) -> list[str]:
    lost = cut = 0
    scenarios: dict[str, str] = {}
    for split, rows in content.items():
        sampled = []
        for frame, lanes in rows:
            if frame.scenario is not None:
                scenarios[frame.id] = frame.scenario
            asked = rows_of(read_size(frame.image)[0])
            kept = []
            for lane in lanes:
                x = at_rows(lane, asked)
                cut += int((x < 0).sum())
                kept += [lane] * bool((np.nan_to_num(x, nan=-1) >= 0).any())
            lost += len(lanes) - len(kept)
            sampled.append((frame.id, kept, asked))
        # What the field calls train is two files.
        half = (len(sampled) + 1) // 2
        parts = {"train": {"label_data_0313": sampled[:half], "label_data_0601": sampled[half:]},
                 "val": {"label_data_0531": sampled}, "test": {"test_label": sampled}}[split]  # fmt: skip
        for name, part in parts.items():
            if not part:
                raise InputError(f"split {split} has one image: TuSimple's form needs two to train on; add one")
            write_labels(folder / f"{name}.json", part)
    if scenarios:
        write_json(folder / SCENARIOS_FILE, scenarios)
    said = [f"{lost:,} lanes left out: they reach none of the rows"] * bool(lost)
    return said + [
        f"{cut:,} points left out: they lie left of the image, where TuSimple says that there is none"
    ] * bool(cut)


WRITERS: dict[Target, Callable[[Path, dict[str, Labelled]], Sequence[str]]] = {
    "culane": _write_culane,
    "tusimple": _write_tusimple,
}
"""Form -> what writes lists and labels of it; returns what it left out."""
