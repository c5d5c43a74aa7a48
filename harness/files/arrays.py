"""Archives (.npz) of arrays. Read from strangers: nothing is unpickled or extracted, and no size is believed before it is bounded."""

from __future__ import annotations

import io
import struct
import tokenize
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from harness.files.stored import read_bounded, written_aside

ARCHIVE_LIMIT = 1 << 30
"""An archive that says it unpacks to more bytes than this is refused: the predictions of CULane's 34,680 images need about 20 MB."""

RATIO = 500
"""How many times its size an archive of more than RATIO_FROM bytes may unpack to: deflate can 1,032 times. Ours come to thirty, the
same lanes in all images, with a point in each of 717 rows, to 384.
"""

RATIO_FROM = 16 << 20
"""The sizes of two million images of one size have so many bytes, and nearly none once packed."""

SHARED_LIMIT = 16 << 20
"""Bytes of an array that is kept for the next archive; the names of CULane's test images have 8 MB."""

# What zipfile and numpy raise on damaged or hostile bytes, as fuzzing and their sources show. That memory is full says nothing of them.
DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    RuntimeError,
    OverflowError,
    SyntaxError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)

Arrays = dict[str, npt.NDArray[np.generic]]

_LOCAL_HEADER = 30  # bytes before the name: section 4.3.7 of the ZIP specification
_MAGIC_AND_LENGTH = {1: 10, 2: 12}


def write_arrays(path: Path, arrays: Arrays) -> None:
    """Write an archive, atomically; equal arrays give equal bytes with one zlib."""
    with written_aside(path) as aside, open(aside, "wb") as stream:
        # No option is given: what numpy 2.0 doesn't know as one, it writes as a further array.
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]


def read_arrays(path: Path) -> Arrays:
    """The arrays of an archive by name, read-only. Raises FileNotFoundError, InputError or one of DAMAGE."""
    return arrays_of(read_bounded(path, ARCHIVE_LIMIT))


def arrays_of(data: bytes) -> Arrays:
    """The arrays in the bytes of an archive by name, read-only. Raises one of DAMAGE.

    The archives of cells that were scored on the same images share most of their arrays: equal members that were read lately are one
    array.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
    total = sum(member.file_size for member in members)
    if total > ARCHIVE_LIMIT:
        raise ValueError(f"it would unpack to {total} bytes, of which {ARCHIVE_LIMIT} are the limit")
    if swollen(total, len(data)):
        raise ValueError(f"it would unpack from {len(data)} to {total} bytes, and the limit is {RATIO} times its size")
    arrays: Arrays = {}
    for member in members:
        name = member.filename.removesuffix(".npy")
        if name in arrays:
            raise ValueError(f"{name} stands twice in it")
        if not name.isidentifier():
            raise ValueError(f"{member.filename!r} is no array's name")
        array = _shared_array if member.file_size <= SHARED_LIMIT else _array
        arrays[name] = array(_member(data, member), member.compress_type, member.file_size, member.CRC)
    return arrays


def swollen(unpacked: int, stored: int) -> bool:
    """Whether an archive would unpack to more than any of so many bytes that was written here: a bomb of a megabyte fills a machine."""
    return unpacked > RATIO_FROM and unpacked > RATIO * stored


def _member(data: bytes, member: zipfile.ZipInfo) -> bytes:
    """The bytes of a member as they are stored: after its local header, whose last two fields are the lengths of what follows it."""
    name, extra = struct.unpack_from("<HH", data, member.header_offset + _LOCAL_HEADER - 4)
    start = member.header_offset + _LOCAL_HEADER + name + extra
    return data[start : start + member.compress_size]


def _array(stored: bytes, method: int, size: int, crc: int) -> npt.NDArray[np.generic]:
    if method == zipfile.ZIP_STORED:
        data = stored
    elif method == zipfile.ZIP_DEFLATED:
        data = _inflated(stored, size)
    else:
        raise ValueError("a member is compressed by another method than deflate")
    if len(data) != size or zlib.crc32(data) != crc:
        raise ValueError("a member isn't what the archive says of it")
    return _parsed(data)


def _inflated(stored: bytes, size: int) -> bytes:
    """What a deflate stream unpacks to: no more than `size` bytes, which were bounded before, and nothing is hidden behind it."""
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    data = stream.decompress(stored, size) if size else b""
    rest = stream.decompress(stream.unconsumed_tail, 1)
    if rest or not stream.eof or stream.unused_data:
        raise ValueError("a member has bytes beside its array")
    return data


_shared_array = lru_cache(maxsize=16)(_array)


def _parsed(data: bytes) -> npt.NDArray[np.generic]:
    major, _ = np.lib.format.read_magic(io.BytesIO(data))
    start = _MAGIC_AND_LENGTH[major]
    length = int.from_bytes(data[8:start], "little")
    shape, dtype = _header(data[: start + length])
    return np.frombuffer(data, dtype, offset=start + length).reshape(shape)


@lru_cache(maxsize=1024)
def _header(data: bytes) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    """Shape and type from a header; thousands of archives share a few of them, and parsing one takes longer than the rest."""
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
    try:
        shape, fortran, dtype = read_header(stream)
    except MemoryError:  # Python's word for an expression that is nested too deeply; there is no header of many bytes
        raise ValueError("an array's header is nested too deeply") from None
    # numpy takes True for a length.
    if dtype.hasobject or fortran or not all(type(length) is int for length in shape):
        raise ValueError("an array in it is of a kind that no writer here makes")
    return shape, dtype
