"""What the header of an image file says beside its size: how many bits a channel has, and how a viewer should turn it.

JPEG (Exif), PNG and TIFF: the TIFF structure of Exif is in CIPA DC-008, section 4.6; PNG's eXIf chunk holds the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from harness.datasets.images import PNG_START, TIFF_STARTS, jpeg_segments

UPRIGHT = 1
"""The orientation of an image that is shown as it is stored."""

_ORIENTATION, _BITS = 0x0112, 0x0102
_SHORT = 3
_EXIF = b"Exif\0\0"
_EXIF_SEGMENT = 0xE1


def bits_and_orientation(path: Path) -> tuple[int, int]:
    """Bits a channel, and the orientation from 1 to 8; 8 and UPRIGHT where the file says nothing. OSError if it can't be read."""
    with open(path, "rb") as stream:
        start = stream.read(32)
        if start.startswith(PNG_START) and len(start) == 32:
            return start[24], _oriented(_png_exif(stream))
        if start.startswith(TIFF_STARTS):
            stream.seek(0)
            tiff = stream.read()
            return _short(tiff, _BITS) or 8, _oriented(tiff)
        return 8, _oriented(_jpeg_exif(stream))


def _oriented(tiff: bytes) -> int:
    value = _short(tiff, _ORIENTATION)
    return value if value is not None and 1 <= value <= 8 else UPRIGHT


def _jpeg_exif(stream: BinaryIO) -> bytes:
    stream.seek(0)
    if stream.read(2) != b"\xff\xd8":
        return b""
    for marker, start, end in jpeg_segments(stream):
        if marker == _EXIF_SEGMENT:
            stream.seek(start)
            body = stream.read(end - start)
            if body.startswith(_EXIF):
                return body.removeprefix(_EXIF)
    return b""


def _png_exif(stream: BinaryIO) -> bytes:
    stream.seek(len(PNG_START))
    while len(head := stream.read(8)) == 8 and head[4:] not in (b"IDAT", b"IEND"):
        length = int.from_bytes(head[:4], "big")
        if head[4:] == b"eXIf":
            return stream.read(length)
        stream.seek(length + 4, 1)
    return b""


def _short(tiff: bytes, tag: int) -> int | None:
    """The first value of a 16-bit tag of a TIFF structure's first directory; None if there is none."""
    if not tiff.startswith(TIFF_STARTS):
        return None

    def number(place: int, length: int) -> int:
        return int.from_bytes(tiff[place : place + length], "little" if tiff.startswith(b"II") else "big")

    directory = number(4, 4)
    for entry in range(directory + 2, min(directory + 2 + 12 * number(directory, 2), len(tiff) - 11), 12):
        if number(entry, 2) == tag and number(entry + 2, 2) == _SHORT:
            # Two values fit into the entry itself.
            return number(entry + 8 if number(entry + 4, 4) <= 2 else number(entry + 8, 4), 2)
    return None
