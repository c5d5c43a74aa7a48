"""The label index: all labels of a split, parsed once, in one file outside the dataset's folder.

The file is a JSON header, the arrays as they lie in memory, and the sha256 of all that, so that it is read without parsing and
damage of any kind is seen before a byte of it is believed.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from harness.errors import InputError, InputWarning
from harness.files.stored import cache_folder, sha256_of_text, written_aside
from harness.lanes import Lane, Points, near_to_far
from harness.processes.children import die_with_parent
from harness.processes.limits import available_cores

INDEX_VERSION = 3
"""Part of every index's key: raise it when the index or the parsing of labels changes."""

_CHUNK = 512
"""Label files a task: arrays of some hundred kB travel back."""
_MANY_FILES = 4096
"""Fewer files than this are read before other processes have started."""
_DIGEST_BYTES = 32
_HEADER_BYTES = 512


class NotStoredWarning(InputWarning):
    """An index was built and is good, but the cache couldn't take it."""


@dataclass(frozen=True, eq=False)
class LabelIndex:
    """The lanes of all frames of a split, flat.

    points: float32 (P, 2), in the files' order. lane_starts: int64 (L + 1), the first point of each lane, then P.
    frame_starts: int64 (F + 1), the first lane of each frame, then L. content: sha256 of the three.
    """

    points: Points
    lane_starts: npt.NDArray[np.int64]
    frame_starts: npt.NDArray[np.int64]
    content: str

    def __len__(self) -> int:
        return len(self.frame_starts) - 1

    def short_lanes(self) -> int:
        """How many lanes have fewer than two points."""
        return int((np.diff(self.lane_starts) < 2).sum())

    def lanes(self, row: int) -> list[Lane]:
        """The lanes of one frame, each from near to far; the points are copies."""
        first, last = self.frame_starts[row : row + 2]
        starts = self.lane_starts[first : last + 1]
        return [Lane(near_to_far(self.points[start:stop].copy())) for start, stop in pairwise(starts)]


def index_of(frames: Iterable[Sequence[Points]]) -> LabelIndex:
    """Index the lanes of frames, given as one sequence of (N, 2) arrays a frame."""
    points: list[Points] = []
    lanes_of_frame = []
    for lanes in frames:
        points.extend(lanes)
        lanes_of_frame.append(len(lanes))
    flat = np.concatenate(points).astype(np.float32, copy=False) if points else np.zeros((0, 2), np.float32)
    return _with_content(flat, _starts([len(lane) for lane in points]), _starts(lanes_of_frame))


def joined(parts: Sequence[LabelIndex]) -> LabelIndex:
    """One index of the frames of several, in order."""
    if not parts:
        return index_of([])
    return _with_content(
        np.concatenate([part.points for part in parts]),
        _starts(np.concatenate([np.diff(part.lane_starts) for part in parts])),
        _starts(np.concatenate([np.diff(part.frame_starts) for part in parts])),
    )


def index_of_files(paths: Sequence[str], read: Callable[[str], Sequence[Points]]) -> LabelIndex:
    """Index label files, on all cores where there are many; the fault of the first damaged file is raised.

    read: the lanes of one file, as (N, 2) arrays; a function of a module, so that other processes find it.
    """
    cores = available_cores()
    chunks = [paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK)]
    # A daemon may have no children of its own.
    if cores < 2 or len(paths) < _MANY_FILES or multiprocessing.current_process().daemon:
        return joined([_index_of_chunk(chunk, read) for chunk in chunks])
    # Fresh processes: a fork of one that runs threads (torch, numba, OpenCV) may hang.
    # A pool doesn't notice that whoever waits for it was killed.
    context = multiprocessing.get_context("spawn")
    ending = (signal.SIGKILL, os.getpid())
    with ProcessPoolExecutor(cores, context, initializer=die_with_parent, initargs=ending) as pool:
        tasks = [pool.submit(_index_of_chunk, chunk, read) for chunk in chunks]
        try:
            return joined([task.result() for task in tasks])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _index_of_chunk(paths: Sequence[str], read: Callable[[str], Sequence[Points]]) -> LabelIndex:
    return index_of(read(path) for path in paths)


def _starts(lengths: npt.ArrayLike) -> npt.NDArray[np.int64]:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(np.asarray(lengths, dtype=np.int64))])


def _with_content(
    points: Points, lane_starts: npt.NDArray[np.int64], frame_starts: npt.NDArray[np.int64]
) -> LabelIndex:
    index = LabelIndex(points, lane_starts, frame_starts, "")
    digest = hashlib.sha256()
    for array in _arrays(index):
        digest.update(array.data)
    return replace(index, content=digest.hexdigest())


def _arrays(index: LabelIndex) -> list[npt.NDArray[np.generic]]:
    """The index's arrays in the order and byte order in which they are hashed and stored."""
    return [
        np.ascontiguousarray(index.frame_starts, "<i8"),
        np.ascontiguousarray(index.lane_starts, "<i8"),
        np.ascontiguousarray(index.points, "<f4"),
    ]


def stat_signature(folder: Path, files: Iterable[str]) -> str:
    """sha256 of size and modification time of files given relative to a folder; a missing file counts as size -1."""
    prefix = f"{folder}{os.sep}"
    facts: list[int] = []
    for file in files:
        try:
            stat = os.stat(prefix + file)
            facts += (stat.st_size, stat.st_mtime_ns)
        except OSError:  # the build, which opens the file, says what is wrong with it
            facts += (-1, 0)
    return hashlib.sha256(np.array(facts, dtype="<i8").tobytes()).hexdigest()


def cached_index(place: str, key: str, build: Callable[[], LabelIndex]) -> LabelIndex:
    """The index of `place` from the cache if it was stored under `key`; otherwise built, stored and returned.

    place: what is indexed (format, folder and split): one file each, so that an index that went stale is replaced.
    key: what the labels depend on. A damaged file is rebuilt with a warning; a cache that can't be written is a warning too.
    """
    found = _read(index_path(place), key)
    return found if found is not None else rebuilt_index(place, key, build)


def rebuilt_index(place: str, key: str, build: Callable[[], LabelIndex]) -> LabelIndex:
    """Like `cached_index`, but the labels are read whatever the cache holds."""
    index = build()
    path = index_path(place)
    try:
        _write(path, key, index)
    except (OSError, InputError) as error:
        # A folder that takes no file is refused by name; what the system said of it is the cause.
        cause = error if isinstance(error, OSError) else error.__cause__
        reason = cause.strerror if isinstance(cause, OSError) and cause.strerror else error
        warnings.warn(
            f"the label index can't be stored in {path.parent} ({reason}), so the labels will be read again "
            "next time; point XDG_CACHE_HOME at a folder with room",
            NotStoredWarning,
            stacklevel=2,
        )
    return index


def place_of(form: str, root: Path, split: str) -> str:
    """The `place` of a split's index."""
    return f"{form} {root} {split}"


def index_path(place: str) -> Path:
    """Where the index of `place` is cached."""
    return cache_folder() / "labels" / f"{sha256_of_text(place)[:32]}.index"


def _write(path: Path, key: str, index: LabelIndex) -> None:
    arrays = _arrays(index)
    facts = {
        "key": f"{INDEX_VERSION}:{key}",
        "content": index.content,
        "counts": [len(index.frame_starts), len(index.lane_starts), len(index.points)],
    }
    header = json.dumps(facts).encode()
    digest = hashlib.sha256()
    with written_aside(path) as aside, open(aside, "wb") as stream:
        for piece in [header.ljust(_HEADER_BYTES - 1) + b"\n", *(array.tobytes() for array in arrays)]:
            digest.update(piece)
            stream.write(piece)
        stream.write(digest.digest())


def _read(path: Path, key: str) -> LabelIndex | None:
    """The stored index, or None if there is none, it is stale, or (with a warning) damaged."""
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        warnings.warn(
            f"label index {path} can't be read ({error}); reading the labels instead", InputWarning, stacklevel=3
        )
        return None
    body = memoryview(data)[:-_DIGEST_BYTES]
    if hashlib.sha256(body).digest() != data[-_DIGEST_BYTES:]:
        warnings.warn(f"label index {path} is damaged; reading the labels afresh", InputWarning, stacklevel=3)
        return None
    facts = json.loads(data[:_HEADER_BYTES])
    if facts["key"] != f"{INDEX_VERSION}:{key}":
        return None
    frames, lanes, points = facts["counts"]
    frame_starts = np.frombuffer(body, "<i8", frames, _HEADER_BYTES)
    lane_starts = np.frombuffer(body, "<i8", lanes, _HEADER_BYTES + 8 * frames)
    flat = np.frombuffer(body, "<f4", 2 * points, _HEADER_BYTES + 8 * (frames + lanes)).reshape(-1, 2)
    return LabelIndex(flat, lane_starts, frame_starts, facts["content"])
