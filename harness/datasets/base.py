"""The seam of every dataset: frames, their lanes, and an identity that doesn't depend on where the files lie."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from harness.errors import InputError, did_you_mean
from harness.lanes import Lane

if TYPE_CHECKING:
    from harness.datasets.index import LabelIndex


@dataclass(frozen=True, slots=True)
class Frame:
    """One image of a split.

    id: posix path of the image as the format names it, without a leading slash; unique in a split, and the same wherever and
    in whatever layout the files lie. image: absolute path of the image file. scenario: e.g. "night"; None where the format or
    the split names none. clip: the stretch of video that the image is from, within which images aren't independent: the
    cluster of intervals.
    """

    id: str
    image: Path
    scenario: str | None
    clip: str


class Dataset(Protocol):
    """What training, evaluation and reports know of a dataset. Its folder is never written."""

    @property
    def name(self) -> str:
        """The name under which suites and leaderboards list it."""

    @property
    def form(self) -> str:
        """The format: a key of FORMS."""

    @property
    def root(self) -> Path:
        """The dataset's folder, absolute."""

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of its images in pixels."""

    def splits(self) -> tuple[str, ...]:
        """The splits that are there, out of train, val and test."""

    def frames(self, split: str) -> tuple[Frame, ...]:
        """The images of a split in the order of its list. Raises InputError on a split that isn't there."""

    def lanes(self, frame: Frame) -> list[Lane]:
        """The labels of a frame, from near to far, in pixels of the image file.

        Raises InputError on a label that is missing or damaged.
        """

    def labels(self, split: str) -> LabelIndex:
        """All labels of a split, one row a frame of `frames(split)`. Raises InputError on a label that is missing or damaged."""

    def has_labels(self, split: str) -> bool:
        """Whether a split that is there can be scored here: LLAMAS keeps the labels of its test split to itself."""

    def size_fault(self, frame: Frame, size: tuple[int, int]) -> str | None:
        """What is wrong with an image of (height, width), given what its label is made for; None where nothing is.

        `harness.datasets.sizes` says it with the file and the fix.
        """

    def archived(self, frames: Sequence[Frame], lanes_of_frames: Iterable[Sequence[Lane]]) -> list[list[Lane]]:
        """Predictions as `write_predictions` will write them, so that the archive holds what is scored; scores stay."""

    def write_predictions(
        self, folder: Path, frames: Sequence[Frame], lanes_of_frames: Iterable[Sequence[Lane]]
    ) -> None:
        """Write predictions into a folder of their own as the official evaluator reads them.

        Plain writes: the caller makes the folder's appearance atomic. Raises ValueError on NaN coordinates and if there aren't as
        many predictions as frames.
        """

    def read_predictions(self, folder: Path, frames: Sequence[Frame]) -> list[list[Lane]]:
        """Read what `write_predictions`, or somebody else's program, wrote for these frames; lanes without scores.

        Raises InputError, which names file and line, on what is missing or damaged.
        """

    def scored_files(self, split: str) -> list[str]:
        """What scoring a split reads of the dataset, as paths below `root`: lists, scenarios and labels, never images.

        A folder that holds these alone is opened and scored like the whole, given the images' size. Raises InputError on a split
        that isn't there.
        """

    def content_key(self) -> str:
        """sha256 over lists and labels (of rendered data: the key of its specification), wherever and whenever stored."""


FORMS = {
    "culane": "harness.datasets.culane:CULane",
    "tusimple": "harness.datasets.tusimple:TuSimple",
    "llamas": "harness.datasets.llamas:LLAMAS",
}
"""Format -> `module:class`, imported when first asked for."""


def reader_module(form: str) -> str:
    """The module that reads datasets of a format."""
    return FORMS[form].partition(":")[0]


def open_dataset(
    form: str,
    root: Path,
    *,
    name: str | None = None,
    image_size: tuple[int, int] | None = None,
    rehash: bool = False,
    lane_width: int | None = None,
) -> Dataset:
    """Open the dataset of a format at a folder.

    name: defaults to the format's. image_size: (height, width), for formats whose images may have any size; None reads it
    from an image. rehash: read all labels afresh instead of trusting sizes and modification times. lane_width: pixels that
    lanes are painted wide when a dataset of form culane is scored. Raises InputError on an unknown format and on a folder that
    isn't such a dataset.
    """
    if form not in FORMS:
        raise InputError(f"unknown dataset format {form!r}; {did_you_mean(form, list(FORMS))}")
    module, _, attribute = FORMS[form].partition(":")
    own = {} if lane_width is None else {"lane_width": lane_width}
    dataset: Dataset = getattr(import_module(module), attribute)(
        root, name=name or form, image_size=image_size, rehash=rehash, **own
    )
    return dataset


POINTER = b"version https://git-lfs.github.com/spec/"
"""How the text begins that stands in place of a file of Git LFS that wasn't fetched (github.com/git-lfs/git-lfs, docs/spec.md)."""


def read_bytes(path: Path | str) -> bytes:
    """The bytes of a file of a dataset; InputError if it is missing, unreadable, UTF-16 text or a pointer in place of the file."""
    try:
        with open(path, "rb") as stream:
            data = stream.read()
    except FileNotFoundError:
        raise InputError(f"{path} is missing; restore it from the dataset's source, or take it off the list") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} can't be read ({error}); check the path and its permissions") from error
    if data.startswith(POINTER):
        raise InputError(f"{path}: a pointer of Git LFS in place of the file; fetch it by `git lfs pull`")
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # no image of a known format begins so
        raise InputError(f"{path}: UTF-16 text; save it as UTF-8, or restore it from the dataset's source")
    return data
