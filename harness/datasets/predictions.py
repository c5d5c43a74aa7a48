"""Predictions on disk: a compact archive that is kept and published, and the official layouts, which scorers read.

Both hold the same values, rounded to 1/8 px and clipped to +-4,000 px. A file an image, which CULane's layout is, is laid out only
while it is read: a matrix would leave millions, and shared file systems of clusters count them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from harness.datasets.base import Dataset, Frame, read_bytes
from harness.datasets.lines import label_name, lines_text, parse_lines
from harness.errors import InputError
from harness.files.arrays import DAMAGE, Arrays, read_arrays, write_arrays
from harness.files.scratch import scratch_folder
from harness.files.stored import located
from harness.lanes import PIXEL_FRACTION, Lane, archived_points

PREDICTIONS_FILE = "predictions.npz"
"""The archive of a phase `predict`."""


def write_predictions(folder: Path, frames: Sequence[Frame], lanes_of_frames: Iterable[Sequence[Lane]]) -> None:
    """Write predictions in CULane's layout: `folder/<image path with .lines.txt for its extension>`, one file a frame.

    Plain writes: the caller makes the folder's appearance atomic. Raises ValueError on NaN coordinates, naming the frame, and
    if there aren't as many predictions as frames.
    """
    made: set[Path] = set()
    for frame, lanes in zip(frames, lanes_of_frames, strict=True):
        path = folder / label_name(frame.id)
        if path.parent not in made:
            path.parent.mkdir(parents=True, exist_ok=True)
            made.add(path.parent)
        try:
            text = lines_text(lanes)
        except ValueError as error:
            raise ValueError(f"prediction for {frame.id}: {error}") from None
        path.write_bytes(text.encode("ascii"))


def read_predictions(folder: Path, frames: Iterable[Frame]) -> list[list[Lane]]:
    """Read what `write_predictions` wrote; lanes of any number of points, without scores.

    Raises InputError on a missing or damaged file. Scorers read the raw files themselves.
    """
    return read_lines_files([folder / label_name(frame.id) for frame in frames])


def read_lines_files(paths: Sequence[Path]) -> list[list[Lane]]:
    """The lanes of predicted .lines.txt files. InputError tells how many are missing, or what is wrong with the first damaged one."""
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise InputError(
            f"{len(missing)} of {len(paths)} images have no predictions, the first would be {missing[0]}; an image without lanes "
            "has an empty file"
        )
    return [[Lane(points) for points in parse_lines(read_bytes(path), source=str(path))] for path in paths]


def keep_predictions(folder: Path, dataset: Dataset, frames: Sequence[Frame], found: Sequence[Sequence[Lane]]) -> str:
    """Write the lanes that were found in frames of a dataset, as they are scored, as the archive `folder/predictions.npz`; gives their
    `predictions_sha256`.
    """
    ids, lanes = [frame.id for frame in frames], dataset.archived(frames, found)
    pack_predictions(folder / PREDICTIONS_FILE, ids, lanes)
    return predictions_sha256(ids, lanes)


@contextmanager
def in_official_format(archive: Path, dataset: Dataset, split: str) -> Iterator[Path]:
    """The folder in which the archived predictions of a split lie as its official evaluator reads them, on the machine's own disk
    (`scratch_folder`) for as long as it is used. InputError for a damaged archive and one of other images.
    """
    ids, lanes = unpack_predictions(archive)
    frames = dataset.frames(split)
    if ids != [frame.id for frame in frames]:
        raise InputError(
            f"{archive}: of other images than split {split!r} of {dataset.root}; predict again or restore it"
        )
    with scratch_folder() as folder:
        with located(folder):  # whoever called works in a folder of another disk, which isn't full
            dataset.write_predictions(folder, frames, lanes)
        yield folder


def pack_predictions(path: Path, ids: Sequence[str], lanes_of_frames: Iterable[Sequence[Lane]]) -> None:
    """Write an archive of predictions, atomically; equal content gives equal bytes with one zlib.

    Coordinates are int16 in 1/8 px, scores (kept only if every lane has one) float32. Raises ValueError on NaN coordinates,
    on an id with a line end or given twice, and if there aren't as many predictions as ids.
    """
    quantized, points_of_lane, lanes_of_frame, scores = _flat(ids, lanes_of_frames)
    arrays: Arrays = {
        "ids": np.frombuffer("\n".join(ids).encode(), np.uint8),
        "lanes": lanes_of_frame,
        "points": points_of_lane,
        # Second differences along a lane are small, so they compress several times better; int16 wraps around, which the
        # sums undo exactly. Lanes needn't be told apart for it.
        "coordinates": _differences(_differences(quantized)),
    }
    if scores is not None:
        arrays["scores"] = scores
    write_arrays(path, arrays)


def predictions_sha256(ids: Sequence[str], lanes_of_frames: Iterable[Sequence[Lane]]) -> str:
    """sha256 of archived predictions: of ids, counts and coordinates in 1/8 px, not of scores or of any file's bytes."""
    quantized, points_of_lane, lanes_of_frame, _ = _flat(ids, lanes_of_frames)
    digest = hashlib.sha256("\n".join(ids).encode())
    for array in (lanes_of_frame, points_of_lane, quantized):
        digest.update(b"\0" + array.astype(array.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()


def unpack_predictions(path: Path) -> tuple[list[str], list[list[Lane]]]:
    """Read an archive: ids, and the lanes of each in the same order, exactly as archived.

    Safe on archives from strangers: nothing is unpickled, extracted or trusted. Raises InputError on any damage.
    """
    try:
        return _unflat(read_arrays(path))
    except FileNotFoundError:
        raise InputError(f"{path} is missing; predict again or restore it") from None
    except DAMAGE as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path}: not a whole archive of predictions ({reason}); predict again or restore it"
        ) from None


def _flat(
    ids: Sequence[str], lanes_of_frames: Iterable[Sequence[Lane]]
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.float32] | None]:
    """Coordinates (2, P) in 1/8 px, points of each lane, lanes of each frame, and the scores if every lane has one."""
    if len(set(ids)) != len(ids) or any("\n" in name or not name for name in ids):
        raise ValueError("ids of predictions must be different, not empty and of one line")
    lanes: list[Lane] = []
    lanes_of_frame = []
    for _, found in zip(ids, lanes_of_frames, strict=True):
        lanes.extend(found)
        lanes_of_frame.append(len(found))
    points = np.concatenate([np.zeros((0, 2)), *(lane.points for lane in lanes)])
    if np.isnan(points).any():
        broken = next(place for place, lane in enumerate(lanes) if np.isnan(lane.points).any())
        name = ids[int(np.searchsorted(np.cumsum(lanes_of_frame), broken, side="right"))]
        raise ValueError(f"prediction for {name}: a lane has NaN coordinates")
    quantized = (archived_points(points) * PIXEL_FRACTION).astype(np.int16).T
    scores = [lane.score for lane in lanes if lane.score is not None]
    return (
        np.ascontiguousarray(quantized),
        np.array([len(lane) for lane in lanes], dtype=np.int32),
        np.array(lanes_of_frame, dtype=np.int32),
        np.array(scores, dtype=np.float32) if lanes and len(scores) == len(lanes) else None,
    )


def _differences(values: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    return np.diff(values, axis=1, prepend=np.int16(0))


def _sums(values: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    return np.cumsum(values, axis=1, dtype=np.int16)


def _unflat(arrays: Arrays) -> tuple[list[str], list[list[Lane]]]:
    kinds = {"ids": np.uint8, "lanes": np.int32, "points": np.int32, "coordinates": np.int16, "scores": np.float32}
    for name, kind in kinds.items():
        if name in arrays and arrays[name].dtype != np.dtype(kind):
            raise ValueError(f"{name} is of type {arrays[name].dtype}")
    ids = bytes(arrays["ids"].tobytes()).decode().split("\n") if arrays["ids"].size else []
    lanes_of_frame, points_of_lane = arrays["lanes"].astype(np.int64), arrays["points"].astype(np.int64)
    quantized = _sums(_sums(arrays["coordinates"].astype(np.int16)))
    scores = arrays.get("scores")
    consistent = (
        lanes_of_frame.shape == (len(ids),)
        and points_of_lane.shape == (lanes_of_frame.sum(),)
        and quantized.shape == (2, points_of_lane.sum())
        and (lanes_of_frame >= 0).all()
        and (points_of_lane >= 0).all()
        and (scores is None or scores.shape == points_of_lane.shape)
        and len(set(ids)) == len(ids)
        and all(name and not name.startswith("/") and ".." not in name.split("/") for name in ids)
    )
    if not consistent:
        raise ValueError("its parts contradict each other")
    points = (quantized.T / np.float32(PIXEL_FRACTION)).astype(np.float32)
    pieces = np.split(points, np.cumsum(points_of_lane)[:-1]) if len(points_of_lane) else []
    values = [None] * len(pieces) if scores is None else scores.astype(np.float64).tolist()
    lanes = [Lane(piece.copy(), score) for piece, score in zip(pieces, values, strict=True)]
    stops = np.cumsum(lanes_of_frame).tolist()
    return ids, [lanes[stop - count : stop] for stop, count in zip(stops, lanes_of_frame.tolist(), strict=True)]
