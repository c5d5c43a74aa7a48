"""Images that are opened: do they decode, are they of one size and read as they look; and a sheet of them with their labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from harness.datasets.base import Dataset, Frame
from harness.datasets.doctor.findings import Finding, grouped
from harness.datasets.drawing import draw_lanes
from harness.datasets.headers import UPRIGHT, bits_and_orientation
from harness.datasets.images import Image, read_image
from harness.datasets.sheets import tile, write_sheet
from harness.errors import InputError

COLUMNS = 4
TILES = 24
TILE_WIDTH = 480
DARK = 128
"""No image by day of all bits stays below this value of 255."""
CAPTION_SIZE = 0.45
"""A frame's id is long."""


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


@dataclass(frozen=True)
class Picture:
    """An opened image: (height, width), bits a channel of its file, its brightest value as it is read (of 255), its orientation tag."""

    size: tuple[int, int]
    bits: int = 8
    brightest: int = 255
    orientation: int = UPRIGHT


def decoded(frames: Sequence[Frame]) -> dict[str, Picture | InputError]:
    """Frame id -> its image, or why it can't be read."""

    def opened(frame: Frame) -> Picture | InputError:
        try:
            image = read_image(frame.image)
        except InputError as error:
            return error
        bits, orientation = bits_and_orientation(frame.image)
        height, width = image.shape[:2]
        return Picture((height, width), bits, int(image.max()) if bits > 8 else 255, orientation)

    with ThreadPoolExecutor() as pool:
        return dict(zip([frame.id for frame in frames], pool.map(opened, frames), strict=True))


def image_findings(
    found: Mapping[str, Picture | InputError], expected: tuple[int, int] | None
) -> tuple[list[Finding], tuple[int, int] | None]:
    """Findings on opened images, and (height, width) of the dataset: as expected, else the commonest."""
    sizes = Counter(picture.size for picture in found.values() if not isinstance(picture, InputError))
    size = expected or (sizes.most_common(1)[0][0] if sizes else None)
    findings = []
    broken = [name for name, fault in found.items() if isinstance(fault, InputError)]
    for name in broken[:1]:
        reason = str(found[name]).partition("; restore")[0].rpartition(": ")[2]
        findings += grouped("error", "broken-image", broken, f"opened images can't be read ({reason})", "restore them")
    if size is not None:
        odd = [name for name, other in found.items() if not isinstance(other, InputError) and other.size != size]
        others = ", ".join(f"{width} x {height}" for height, width in sizes if (height, width) != size)
        findings += grouped(
            "error", "image-size", odd, f"opened images are {others}, not {size[1]} x {size[0]}",
            "one dataset has one image size: restore them, or make a dataset of each size",
        )  # fmt: skip
    return findings, size


def header_findings(found: Mapping[str, Picture | InputError]) -> list[Finding]:
    """Opened images of more than 8 bits a channel, and those that viewers turn: both look otherwise elsewhere."""
    pictures = {name: picture for name, picture in found.items() if not isinstance(picture, InputError)}
    deep = [name for name, picture in pictures.items() if picture.bits > 8]
    brightest = max((pictures[name].brightest for name in deep), default=255)
    findings = []
    if brightest < DARK:
        findings += grouped(
            "warning", "bit-depth", deep,
            f"opened images have 16 bits a channel, of which the upper 8 are read, and none is brighter than {brightest} of 255 then",
            "spread their values over all 16 bits or, better, write them with 8: value >> (bits of the camera - 8)",
        )  # fmt: skip
    else:
        findings += grouped(
            "note", "bit-depth", deep, "opened images have 16 bits a channel", "nothing: the upper 8 of them are read"
        )
    turned = [name for name, picture in pictures.items() if picture.orientation != UPRIGHT]
    return findings + grouped(
        "warning", "orientation", turned,
        "opened images have an orientation tag: viewers and programs to label with turn them, the harness reads them as stored",
        "look whether labels lie on the lanes (--sheet FILE); then take the tag away, as exiftool -Orientation= -r . does",
    )  # fmt: skip


def write_labelled_sheet(path: Path, dataset: Dataset, frames: Sequence[Frame]) -> None:
    """Write a JPEG with up to TILES of the frames, labels drawn on them. For private use: licensed images aren't published."""
    tiles = [_tile(dataset, frame) for frame in sample(frames, TILES) if frame.image.is_file()]
    if not tiles:
        raise InputError(f"{dataset.root}: no image is there to draw a sheet of")
    write_sheet(path, tiles, COLUMNS)


def _tile(dataset: Dataset, frame: Frame) -> Image:
    try:
        image = draw_lanes(read_image(frame.image), dataset.lanes(frame))
    except InputError as error:
        image = np.full((TILE_WIDTH * 9 // 16, TILE_WIDTH, 3), 90, np.uint8)
        cv2.putText(image, str(error)[-60:], (8, 60), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 90, 90), 1, cv2.LINE_AA)
    return tile(image, TILE_WIDTH, frame.id[-52:], CAPTION_SIZE)
