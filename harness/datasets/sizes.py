"""Image files by the thousand without decoding one: which they are and of what size, held against what labels are made for.

Sizes are read from headers, by several threads because the wait is that of a network's file system, and remembered as long as the files
are the same: their bytes and times are asked for each time, their headers read once.
"""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt

from harness.datasets.base import Dataset, Frame
from harness.datasets.images import read_size
from harness.datasets.index import NotStoredWarning, place_of
from harness.errors import InputError
from harness.files.arrays import DAMAGE, read_arrays, write_arrays
from harness.files.stored import cache_folder, sha256_of_json, sha256_of_text

SIZES_VERSION = 1
"""Part of what sizes are remembered under: raise it when reading headers changes."""

THREADS = 16
"""What a file system far away answers at once; on a disk of this machine more than a few gain nothing."""

CHUNK = 256
"""Files a task."""

RESTORE_ONE = "restore the image from the dataset's source, or leave it out"
RESTORE_ALL = "restore the images from the dataset's source, or leave them out"

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """The image files of some frames, a row each.

    files: int64 (F, 4), device, number on it, bytes and time of change in nanoseconds: two equal rows are one file, whatever names and
    links lead to it. sizes: int64 (F, 2), height and width.
    """

    files: Numbers
    sizes: Numbers


def image_files(dataset: Dataset, split: str) -> ImageFiles:
    """The image files of a split, all of which have to be there.

    Raises InputError where some are missing, which tells how many, and for the first whose size can't be read.
    """
    frames = dataset.frames(split)
    files = _files_of(split, frames)
    # Where a disk is mounted again its number is another one, and its files are the same.
    signature = hashlib.sha256(files[:, 2:].tobytes()).hexdigest()
    key = sha256_of_json([SIZES_VERSION, [str(frame.image) for frame in frames], signature])
    path = cache_folder() / "sizes" / f"{sha256_of_text(place_of(dataset.form, dataset.root, split))[:32]}.npz"
    found = _remembered(path, key, len(frames))
    if found is None:
        found = sizes_of(frames)
        _remember(path, key, found)
    return ImageFiles(files, found)


def sizes_of(frames: Sequence[Frame]) -> Numbers:
    """(height, width) of the images of some frames, int64 (F, 2), from their headers. InputError for the first that can't be read."""
    return _rows(lambda frame: read_size(frame.image), frames, 2)


def check_sizes(dataset: Dataset, frames: Iterable[Frame]) -> None:
    """Raise InputError on images that are there and of another size than their labels are made for: they would score wrongly."""
    there = [frame for frame in frames if frame.image.is_file()]
    refuse_odd_sizes(dataset, there, sizes_of(there))


def refuse_odd_sizes(dataset: Dataset, frames: Sequence[Frame], sizes: Numbers) -> None:
    """Raise InputError where images of some frames, whose sizes are given, don't fit their labels.

    It names the first, tells how many have which size, and what to do: with a few odd ones that isn't to change the suite.
    """
    odd: list[tuple[Frame, str]] = []
    found: Counter[tuple[int, int]] = Counter()
    for frame, (height, width) in zip(frames, sizes.tolist(), strict=True):
        fault = dataset.size_fault(frame, (height, width))
        if fault is not None:
            odd.append((frame, fault))
            found[height, width] += 1
    if not odd:
        return
    first, fault = odd[0]
    ((size, most),) = found.most_common(1)
    if dataset.form == "culane" and 2 * most > len(frames):
        fix = f"say `image_size: [{size[0]}, {size[1]}]` in the suite"
        fix += "" if most == len(frames) else ", if that is the dataset's size, and leave the others out"
    else:
        fix = RESTORE_ONE if len(odd) == 1 else RESTORE_ALL
    told = f" ({told_sizes(found)}, of {len(frames):,} images)" if len(frames) > 1 else ""
    raise InputError(f"{first.image}: {fault}{told}; {fix}")


def told_sizes(sizes: Counter[tuple[int, int]]) -> str:
    """How many images have which size, the most frequent first and at most three sizes by name."""
    shown = [
        f"{count:,} {'has' if count == 1 else 'have'} {size[1]} x {size[0]}" for size, count in sizes.most_common(3)
    ]
    more = len(sizes) - len(shown)
    return ", ".join([*shown, *([f"{more} more sizes"] if more else [])])


def check_decoded(dataset: Dataset, frame: Frame, size: tuple[int, int]) -> None:
    """Raise InputError where an image that was just decoded, of (height, width), doesn't fit its label."""
    fault = dataset.size_fault(frame, size)
    if fault is not None:
        raise InputError(f"{frame.image}: {fault}; {RESTORE_ONE}")


def _files_of(split: str, frames: Sequence[Frame]) -> Numbers:
    files = _rows(_file_of, frames, 4)
    missing = np.flatnonzero(files[:, 2] < 0)
    if len(missing):
        first = frames[int(missing[0])].image
        whose = f"{len(missing):,} of the {len(frames):,} images of split {split} are" if len(missing) > 1 else "it is"
        raise InputError(
            f"{first}: {whose} missing; restore from the dataset's source what isn't there, or take it off the list"
        )
    return files


def _file_of(frame: Frame) -> tuple[int, ...]:
    try:
        stat = frame.image.stat()
    except OSError:
        return 0, 0, -1, 0
    # Device numbers of some network drives don't fit an int64 with a sign.
    return stat.st_dev % 2**63, stat.st_ino % 2**63, stat.st_size, stat.st_mtime_ns


def _rows(fact: Callable[[Frame], Sequence[int]], frames: Sequence[Frame], columns: int) -> Numbers:
    """A fact of each frame, by several threads; the first fault is raised."""
    chunks = [frames[start : start + CHUNK] for start in range(0, len(frames), CHUNK)]
    if len(chunks) < 2:
        found = [[fact(frame) for frame in frames]]
    else:
        with ThreadPoolExecutor(min(THREADS, len(chunks))) as pool:
            tasks = [pool.submit(lambda chunk: [fact(frame) for frame in chunk], chunk) for chunk in chunks]
            try:
                found = [task.result() for task in tasks]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return np.array([*chain.from_iterable(found)], np.int64).reshape(-1, columns)


def _remembered(path: Path, key: str, count: int) -> Numbers | None:
    # What is damaged is read again: an archive of sizes costs seconds, nothing else.
    with suppress(InputError, *DAMAGE):
        arrays = read_arrays(path)
        if bytes(arrays["key"].tobytes()).decode() == key and arrays["sizes"].shape == (count, 2):
            return arrays["sizes"].astype(np.int64)
    return None


def _remember(path: Path, key: str, sizes: Numbers) -> None:
    try:
        write_arrays(path, {"key": np.frombuffer(key.encode(), np.uint8), "sizes": sizes.astype(np.int32)})
    except (OSError, InputError) as error:
        warnings.warn(
            f"the sizes of images can't be kept in {path.parent} ({error}), so they will be read again next time",
            NotStoredWarning,
            stacklevel=3,
        )
