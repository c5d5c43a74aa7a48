"""Lists of images, and where the lanes of an image lie."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import InputError
from harness.metrics.oddities import Oddity

LANES_SUFFIX = ".lines.txt"


@dataclass(frozen=True)
class ImageList:
    """A split: its name (of the list file, without suffix), the file, and the images in order, without a leading slash."""

    name: str
    file: Path
    images: tuple[str, ...]
    oddities: tuple[Oddity, ...]


def lanes_file(root: Path, image: str) -> str:
    """The path of an image's lanes: the name up to its last dot, then `.lines.txt`, below the root."""
    return os.path.join(root, image.rpartition(".")[0] or image) + LANES_SUFFIX


def read_list(file: Path) -> ImageList:
    """Read a list: one image a line, relative to the dataset's root, with or without a leading slash.

    Blank lines are passed over and repeated images counted again, both as oddities. Raises InputError for a file that is missing,
    unreadable, not UTF-8 or without an image.
    """
    try:
        text = file.read_bytes().decode()
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}: give the path of a list of images") from error
    except UnicodeDecodeError as error:
        bad = 1 + error.object[: error.start].count(b"\n")
        raise InputError(f"{file}, line {bad}: not UTF-8 text: give a list with one image path a line") from error
    images: list[str] = []
    oddities: list[Oddity] = []
    seen: set[str] = set()
    for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
        image = line.strip().lstrip("/")
        if not image:
            oddities.append(Oddity(file, number, "a blank line: it is passed over"))
            continue
        if "\0" in image:
            raise InputError(
                f"{file}, line {number}: a NUL in the name of an image: give a list with one image path a line"
            )
        if image in seen:
            oddities.append(Oddity(file, number, f"{image} is listed again: it is counted again"))
        seen.add(image)
        images.append(image)
    if not images:
        raise InputError(f"{file}: no image in this list: give one image path a line")
    return ImageList(file.stem, file, tuple(images), tuple(oddities))


def read_lists(files: Sequence[Path]) -> list[ImageList]:
    """Read several splits. Raises InputError for two of one name and for an image that is in two of them."""
    if not files:
        raise InputError("no list of images: give at least one")
    lists = [read_list(file) for file in files]
    by_name: dict[str, Path] = {}
    by_image: dict[str, Path] = {}
    for split in lists:
        if split.name in by_name:
            raise InputError(
                f"{split.file}: a list named {split.name} was given already ({by_name[split.name]}): rename one"
            )
        by_name[split.name] = split.file
        for image in split.images:
            if by_image.setdefault(image, split.file) != split.file:
                raise InputError(
                    f"{split.file}: {image} is in {by_image[image]} too: lists that overlap cannot be summed"
                )
    return lists
