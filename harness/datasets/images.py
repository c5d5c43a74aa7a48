"""Reading images so that damage is seen, at full size or reduced while decoding.

OpenCV may return a truncated JPEG (from a file always, from memory where zeros follow) with its missing part in grey, so
completeness is checked from the file's own structure; bytes changed in the middle aren't noticed. Orientation tags are
ignored: labels are in pixels of the file as it is stored.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
import numpy.typing as npt

from harness.datasets.base import read_bytes
from harness.errors import InputError
from harness.files.stored import located, written_aside
from harness.lanes import Matrix

Image = npt.NDArray[np.uint8]

REDUCTIONS = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}

_JPEG = b"\xff\xd8"
PNG_START = b"\x89PNG\r\n\x1a\n"
TIFF_STARTS = (b"II*\0", b"MM\0*")
"""How files of these formats begin."""
_SCAN = 0xDA
# Start-of-frame markers: C0-CF without DHT (C4), JPG (C8) and DAC (CC); ITU-T T.81, table B.1.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def whole_bytes(path: Path) -> bytes:
    """The bytes of an image file. Raises InputError on one that is missing, empty, or a JPEG or PNG that is cut short."""
    data = read_bytes(path)
    fault = _incomplete(data)
    if fault:
        raise InputError(f"{path}: {fault}; restore the image from the dataset's source")
    return data


def read_image(path: Path, reduction: int = 1) -> Image:
    """Read an image as uint8 RGB of shape (H, W, 3).

    reduction: 1, 2, 4 or 8; a JPEG is decoded straight at 1/reduction of its size, (ceil(H / r), ceil(W / r)), which is much
    faster; other formats are averaged over r x r blocks to the same size. Pixels map by `reduction_matrix`. Raises InputError
    on a file that is missing, truncated or no image.
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction is {reduction}, not one of {sorted(REDUCTIONS)}")
    data = whole_bytes(path)
    jpeg = data.startswith(_JPEG)
    flags = REDUCTIONS[reduction if jpeg else 1] | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise InputError(f"{path}: can't be decoded ({' '.join(str(error).split())}); restore the image") from None
    if decoded is None:
        raise InputError(f"{path}: not an image that can be decoded; restore it from the dataset's source")
    image = np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), dtype=np.uint8)
    return image if jpeg or reduction == 1 else _block_means(image, reduction)


def encoded(suffix: str, image: Image, options: Sequence[int] = ()) -> bytes:
    """What the file of an image holds: uint8 in OpenCV's BGR order (H, W, 3), or of one channel (H, W), as its name's suffix says.

    OpenCV isn't asked to write it: some releases take no path that isn't UTF-8, and none says why a file can't be written.
    """
    done, content = cv2.imencode(suffix, image, options)
    if not done:
        raise OSError(f"OpenCV could not encode a picture of shape {image.shape} as {suffix}")
    return content.tobytes()


def write_encoded(path: Path, image: Image, options: Sequence[int] = ()) -> None:
    """Write an image as `encoded` has it, not atomically; errors of the system name the file."""
    content = encoded(path.suffix, image, options)
    with located(path):
        path.write_bytes(content)


def write_jpeg(path: Path, image: Image, quality: int) -> None:
    """Write an image, uint8 RGB (H, W, 3), atomically; quality in 1 to 100."""
    pixels = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), np.uint8)
    content = encoded(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    with written_aside(path) as aside:
        aside.write_bytes(content)


def reduction_matrix(reduction: int) -> Matrix:
    """The 3x3 matrix from original to reduced pixels: reduced pixel i covers originals r*i .. r*i + r - 1."""
    shift = 0.5 / reduction - 0.5
    return np.array([[1.0 / reduction, 0.0, shift], [0.0, 1.0 / reduction, shift], [0.0, 0.0, 1.0]])


def read_size(path: Path) -> tuple[int, int]:
    """(height, width) of an image; from the header alone for JPEG and PNG. Raises InputError as `read_image` does."""
    try:
        with open(path, "rb") as stream:
            size = _header_size(stream)
    except OSError:
        read_bytes(path)
        raise
    if size is None:
        height, width = read_image(path).shape[:2]
        return height, width
    return size


def _header_size(stream: BinaryIO) -> tuple[int, int] | None:
    start = stream.read(24)
    if start.startswith(PNG_START) and start[12:16] == b"IHDR" and len(start) == 24:
        return int.from_bytes(start[20:24], "big"), int.from_bytes(start[16:20], "big")
    if start.startswith(_JPEG):
        for marker, place, _ in jpeg_segments(stream):
            if marker in _FRAMES:
                stream.seek(place + 1)
                body = stream.read(4)
                return int.from_bytes(body[:2], "big"), int.from_bytes(body[2:], "big")
    return None


def jpeg_segments(stream: BinaryIO) -> Iterator[tuple[int, int, int]]:
    """(marker, start of the body, end of the body) of each segment up to the first scan's header; ends early on damage."""
    place = 2
    while True:
        stream.seek(place)
        head = stream.read(4)
        if len(head) < 4 or head[0] != 0xFF:
            return
        if head[1] == 0xFF:  # a fill byte
            place += 1
            continue
        length = int.from_bytes(head[2:], "big")
        yield head[1], place + 4, place + 2 + length
        if head[1] == _SCAN:
            return
        place += 2 + length


def _incomplete(data: bytes) -> str | None:
    """What is missing at the end of a JPEG or PNG, or None."""
    if not data:
        return "the file is empty"
    if data.startswith(_JPEG):
        scans = [end for marker, _, end in jpeg_segments(io.BytesIO(data)) if marker == _SCAN]
        # Behind a scan's header FF is always followed by 0, so FF D9 can only be the end-of-image marker. Before it, an
        # embedded thumbnail may have one of its own.
        if not scans or data.rfind(b"\xff\xd9", scans[0]) < 0:
            return "truncated JPEG: it has no end-of-image marker"
    if data.startswith(PNG_START) and data.rfind(b"IEND\xaeB`\x82") < 0:
        return "truncated PNG: it has no end chunk"
    return None


def _block_means(image: Image, reduction: int) -> npt.NDArray[np.uint8]:
    height, width = image.shape[:2]
    padded = cv2.copyMakeBorder(image, 0, -height % reduction, 0, -width % reduction, cv2.BORDER_REPLICATE)
    size = (padded.shape[1] // reduction, padded.shape[0] // reduction)
    return np.asarray(cv2.resize(padded, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
