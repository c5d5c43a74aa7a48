"""Images that are opened: do they decode, are they of one size; and a sheet of them with their labels drawn on top."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from harness.datasets.base import Dataset, Frame
from harness.datasets.doctor.findings import Finding, grouped
from harness.datasets.images import Image, read_image, write_jpeg
from harness.errors import InputError

COLUMNS = 4
TILES = 24
TILE_WIDTH = 480
JPEG_QUALITY = 88
COLOURS = ((0, 190, 255), (255, 176, 0), (120, 220, 60), (255, 84, 112), (178, 110, 255))


def sample(frames: Sequence[Frame], count: int) -> list[Frame]:
    """At most `count` frames: first one of every clip, evenly over the clips, then further ones evenly over the list; 0 is all."""
    if not count or len(frames) <= count:
        return list(frames)
    first_of: dict[str, int] = {}
    for place, frame in enumerate(frames):
        first_of.setdefault(frame.clip, place)
    first, others = [*first_of.values()], sorted({*range(len(frames))} - {*first_of.values()})
    places = _evenly(first, min(count, len(first))) + _evenly(others, max(0, count - len(first)))
    return [frames[place] for place in sorted(places)]


def _evenly(places: Sequence[int], count: int) -> list[int]:
    return [places[number * len(places) // count] for number in range(count)]


def decoded(frames: Sequence[Frame]) -> dict[str, tuple[int, int] | InputError]:
    """Frame id -> (height, width) of the image, or why it can't be read."""

    def size(frame: Frame) -> tuple[int, int] | InputError:
        try:
            height, width = read_image(frame.image).shape[:2]
        except InputError as error:
            return error
        return height, width

    with ThreadPoolExecutor() as pool:
        return dict(zip([frame.id for frame in frames], pool.map(size, frames), strict=True))


def image_findings(
    found: dict[str, tuple[int, int] | InputError], expected: tuple[int, int] | None
) -> tuple[list[Finding], tuple[int, int] | None]:
    """Findings on opened images, and (height, width) of the dataset: as expected, else the commonest."""
    sizes = Counter(size for size in found.values() if not isinstance(size, InputError))
    size = expected or (sizes.most_common(1)[0][0] if sizes else None)
    findings = []
    broken = [name for name, fault in found.items() if isinstance(fault, InputError)]
    for name in broken[:1]:
        reason = str(found[name]).partition("; restore")[0].rpartition(": ")[2]
        findings += grouped("error", "broken-image", broken, f"opened images can't be read ({reason})", "restore them")
    if size is not None:
        odd = [name for name, other in found.items() if not isinstance(other, InputError) and other != size]
        others = ", ".join(f"{width} x {height}" for height, width in sizes if (height, width) != size)
        findings += grouped(
            "error", "image-size", odd, f"opened images are {others}, not {size[1]} x {size[0]}",
            "one dataset has one image size: restore them, or make a dataset of each size",
        )  # fmt: skip
    return findings, size


def write_sheet(path: Path, dataset: Dataset, frames: Sequence[Frame]) -> None:
    """Write a JPEG with up to TILES of the frames, labels drawn on them. For private use: licensed images aren't published."""
    tiles = [_tile(dataset, frame) for frame in sample(frames, TILES) if frame.image.is_file()]
    if not tiles:
        raise InputError(f"{dataset.root}: no image is there to draw a sheet of")
    height = max(len(tile) for tile in tiles)
    tiles = [np.pad(tile, ((0, height - len(tile)), (0, 0), (0, 0))) for tile in tiles]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % COLUMNS)
    rows = [np.hstack(tiles[start : start + COLUMNS]) for start in range(0, len(tiles), COLUMNS)]
    write_jpeg(path, np.vstack(rows), JPEG_QUALITY)


def _tile(dataset: Dataset, frame: Frame) -> Image:
    try:
        image = np.ascontiguousarray(read_image(frame.image))
        lanes = dataset.lanes(frame)
    except InputError as error:
        image, lanes = np.full((TILE_WIDTH * 9 // 16, TILE_WIDTH, 3), 90, np.uint8), []
        cv2.putText(image, str(error)[-60:], (8, 60), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 90, 90), 1, cv2.LINE_AA)
    for number, lane in enumerate(lanes):
        points = np.round(np.clip(lane.points, -1e5, 1e5) * 16).astype(np.int32)
        cv2.polylines(
            image,
            [points[:, None]],
            False,
            COLOURS[number % len(COLOURS)],
            max(2, image.shape[1] // 240),
            cv2.LINE_AA,
            4,
        )
    size = (TILE_WIDTH, round(TILE_WIDTH * image.shape[0] / image.shape[1]))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(small, frame.id[-52:], (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, thickness, cv2.LINE_AA)
    return np.asarray(small, dtype=np.uint8)
