"""Lists of images, and where the lanes of an image lie."""

from __future__ import annotations

import codecs
import os
import posixpath
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import InputError
from harness.metrics.oddities import Oddity

LANES_SUFFIX = ".lines.txt"

BYTE_ORDER_MARK = os.fsdecode(codecs.BOM_UTF8)
"""What some editors write in front of the first line."""

Entries = Callable[[bytes], list[str]]
"""From the bytes of a list to the image of each line; raises ValueError, worded to follow the file's name, where it can't."""


@dataclass(frozen=True)
class ImageList:
    """A split: its name (of the list file, without suffix), the file, and the images in order, without a leading slash."""

    name: str
    file: Path
    images: tuple[str, ...]
    oddities: tuple[Oddity, ...]


def lanes_file(root: Path, image: str) -> str:
    """The path of an image's lanes: the name up to its last dot, then `.lines.txt`, below the root.

    As in the C++ evaluator the dot may stand in a folder's name, and a NUL ends the path.
    """
    stem = image[: image.rfind(".")] if "." in image else image
    return f"{root}{os.sep}{stem}{LANES_SUFFIX}".partition("\0")[0]


def listed_images(text: bytes) -> list[str]:
    """The image of each line of a list as the C++ evaluator takes it: the bytes of the line up to its end, "" for a blank line.

    What follows the suffix is of no account and is cut off if it is white space; so are slashes at the front.
    """
    lines = text.removesuffix(b"\n").split(b"\n")
    names = [line.rstrip() if b"." in line or not line.strip() else line for line in lines]
    return [os.fsdecode(name.lstrip(b"/")) for name in names]


def same_path(image: str) -> str:
    """One text for all spellings of an image's path, by which images are compared, never opened."""
    return posixpath.normpath(image)


def read_list(file: Path, entries: Entries = listed_images) -> ImageList:
    """Read a list: one image a line, relative to the dataset's root, with or without a leading slash.

    entries: from the bytes of a list to the images of its lines, "" for none. Blank lines are passed over and repeated images
    counted again, both as oddities. Raises InputError for a file that is missing, unreadable or without an image.
    """
    try:
        names = entries(file.read_bytes())
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}: give the path of a list of images") from error
    except ValueError as error:
        raise InputError(f"{file}{error}") from error
    images: list[str] = []
    oddities: list[Oddity] = []
    seen: set[str] = set()
    for number, image in enumerate(names, start=1):
        if not image:
            oddities.append(Oddity(file, number, "a blank line: it is passed over"))
            continue
        if image.startswith(BYTE_ORDER_MARK):
            oddities.append(
                Oddity(file, number, "a byte order mark: it is part of the image's name; save it without one")
            )
        if "\0" in image:
            oddities.append(Oddity(file, number, "a NUL: the path of the lanes ends there"))
        if same_path(image) in seen:
            oddities.append(Oddity(file, number, f"{image} is listed again: it is counted again"))
        seen.add(same_path(image))
        images.append(image)
    if not images:
        raise InputError(f"{file}: no image in this list: give one image path a line")
    return ImageList(file.stem, file, tuple(images), tuple(oddities))


def read_lists(files: Sequence[Path], entries: Entries = listed_images) -> list[ImageList]:
    """Read several splits, each with `read_list`. Raises InputError for two of one name and for an image that is in two of them.

    Spellings of one path (`a//1.jpg`, `./a/1.jpg`) are one image.
    """
    if not files:
        raise InputError("no list of images: give at least one")
    lists = [read_list(file, entries) for file in files]
    by_name: dict[str, Path] = {}
    by_image: dict[str, Path] = {}
    for split in lists:
        if split.name in by_name:
            raise InputError(
                f"{split.file}: a list named {split.name} was given already ({by_name[split.name]}): rename one"
            )
        by_name[split.name] = split.file
        for image in split.images:
            if (other := by_image.setdefault(same_path(image), split.file)) != split.file:
                raise InputError(f"{split.file}: {image} is in {other} too: lists that overlap cannot be summed")
    return lists
