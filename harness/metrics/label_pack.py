"""Painted labels, kept between runs in one file for every list of images, each found by the content of its label file.

A pack holds one record a label file: what is odd in it, and the runs of its lanes (`thick_line`). The key of a record is the sha256 of
the label file's bytes; the pack as a whole belongs to an image size, a lane width and the code that reads and paints lanes. Nothing is
believed that doesn't bear the sha256 it was written with. The file: the records, a table of them, a trailer that vouches for the table.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np

from harness.errors import InputError, InputWarning
from harness.files.fingerprint import fingerprint
from harness.files.stored import sha256_of_json, written_aside
from harness.metrics.painted_lanes import Integers, PaintedLanes

PACKS = "painted"
"""The folder of packs within the cache folder."""

PACK_VERSION = 1
"""Raise it when the form of the file changes; the code that makes what is in it is told apart by its fingerprint."""

PAINTING = ("harness.metrics.lane_text", "harness.metrics.natural_spline", "harness.metrics.overlaps")
"""The modules that, with what they import, make a painted label from the bytes of a file."""

LARGEST_RECORD = 1 << 16
"""Bytes that a painted label may take to be kept; one of CULane's takes about 4,000. With the table: at most 66 kB an image."""

TABLE = np.dtype([("label", "V32"), ("record", "V32"), ("begin", "<i8"), ("size", "<i8")])
"""sha256 of the label file and of the record, and where the record lies."""

Place = tuple[bytes, int, int]
"""The sha256 of a record, where it begins and its bytes."""

TRAILER_BYTES = 72
"""The owner of the pack (32 bytes), the number of records (8), and the sha256 of the table and these two."""


@dataclass(frozen=True, eq=False)
class PaintedLabel:
    """A label file: its painted lanes, and for each line of it (a line is a lane) the number of its oddity or 0 (`lane_text`)."""

    lanes: PaintedLanes
    odd: Integers


class LabelPack:
    """The painted labels of a list of images: those that were kept, and those that are new. For any number of threads.

    What is wrong with the file or its folder is told in `troubles` and never raised: a label that can't be had is painted again.
    """

    def __init__(self, path: Path, owner: bytes) -> None:
        """Open the pack at `path`, if there is one, it is sound, and it belongs to `owner` (32 bytes)."""
        self.path, self.owner = path, owner
        self.troubles: list[str] = []
        self._lock = threading.Lock()
        self._stream: BinaryIO | None = None
        self._kept: dict[bytes, Place] = {}
        self._used: set[bytes] = set()
        self._spool: IO[bytes] | None = None
        self._full = False
        self._added: dict[bytes, Place] = {}
        try:
            self._open()
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            self.troubles.append(f"can't be read ({error.strerror}); painting the labels afresh")

    def _open(self) -> None:
        self._stream = open(self.path, "rb", buffering=0)  # noqa: SIM115 (until `close`)
        size = os.fstat(self._stream.fileno()).st_size
        trailer = self._read(max(size - TRAILER_BYTES, 0), TRAILER_BYTES)
        begin = size - TRAILER_BYTES - int.from_bytes(trailer[32:40], "little") * TABLE.itemsize
        table = self._read(begin, size - TRAILER_BYTES - begin) if begin >= 0 else b""
        if hashlib.sha256(table + trailer[:40]).digest() != trailer[40:]:
            self.troubles.append("is damaged; painting the labels afresh")
        elif trailer[:32] == self.owner:
            self._kept = {key: (check, begin, size) for key, check, begin, size in np.frombuffer(table, TABLE).tolist()}

    def _read(self, begin: int, size: int) -> bytes:
        assert self._stream is not None
        return os.pread(self._stream.fileno(), size, begin)

    def find(self, text: bytes) -> PaintedLabel | None:
        """The painted label of a file with these bytes, if it was kept."""
        key = hashlib.sha256(text).digest()
        if key not in self._kept:
            return None
        check, begin, size = self._kept[key]
        try:
            record = self._read(begin, size)
        except OSError:
            record = b""
        if hashlib.sha256(record).digest() != check:
            with self._lock:
                if not self.troubles:
                    self.troubles.append("is damaged; painting labels afresh")
            return None
        self._used.add(key)
        return unpacked(record)

    def add(self, text: bytes, label: PaintedLabel) -> None:
        """Keep the painted label of a file with these bytes, for which `find` gave None."""
        key, record = hashlib.sha256(text).digest(), packed(label)
        check = hashlib.sha256(record).digest()
        with self._lock:
            if self._full or len(record) > LARGEST_RECORD or key in self._added:
                return
            try:
                if self._spool is None:
                    self.path.parent.mkdir(parents=True, exist_ok=True)
                    # Without a name, so that it vanishes with this process however that ends.
                    self._spool = tempfile.TemporaryFile(buffering=1 << 20, dir=self.path.parent)  # noqa: SIM115
                begin = self._spool.tell()
                self._spool.write(record)
            except OSError as error:
                self._give_up(error)
            else:
                self._added[key] = check, begin, len(record)

    def _give_up(self, error: OSError | InputError) -> None:
        cause = error if isinstance(error, OSError) else error.__cause__
        reason = cause.strerror if isinstance(cause, OSError) and cause.strerror else error
        self.troubles.append(f"can't be written ({reason}); the labels will be painted again next time")
        self._full = True

    def store(self) -> None:
        """Put what was used and what is new in the place of the old pack; without anything new that one stays."""
        if self._spool is None or self._full:
            return
        try:
            with written_aside(self.path) as aside, open(aside, "wb") as stream:
                self._spool.seek(0)
                shutil.copyfileobj(self._spool, stream, 1 << 20)
                rows = dict(self._added)
                for key, (check, begin, size) in self._kept.items():
                    if key in self._used and key not in rows:
                        rows[key] = check, stream.tell(), size
                        stream.write(self._read(begin, size))
                table = np.array([(key, *rest) for key, rest in rows.items()], TABLE).tobytes()
                head = self.owner + len(rows).to_bytes(8, "little")
                stream.write(table + head + hashlib.sha256(table + head).digest())
        except (OSError, InputError) as error:
            self._give_up(error)

    def close(self) -> None:
        """Close what is open."""
        for stream in (self._stream, self._spool):
            if stream is not None:
                with suppress(OSError):  # what is still to be written may find no room, and is of no use now
                    stream.close()


def packed(label: PaintedLabel) -> bytes:
    """The record of a label: the number of its lanes; ends of runs, points and oddity of each; the runs."""
    lanes = label.lanes
    facts = np.concatenate([[len(lanes.ends)], lanes.ends, lanes.points, label.odd]).astype(np.int64)
    return facts.tobytes() + lanes.runs.tobytes()


def unpacked(record: bytes) -> PaintedLabel:
    """The label of a record."""
    # A copy that can be written: numba tells such arrays from others, and would compile everything again for those.
    data = bytearray(record)
    count = int.from_bytes(record[:8], sys.byteorder)
    ends, points, odd = np.frombuffer(data, np.int64, 3 * count, 8).reshape(3, count)
    return PaintedLabel(
        PaintedLanes(np.frombuffer(data, np.uint16, offset=8 + 24 * count).reshape(-1, 2), ends, points), odd
    )


@contextmanager
def kept_labels(
    folder: Path | None, labels: Path, images: Sequence[str], image_size: tuple[int, int], lane_width: int
) -> Iterator[LabelPack | None]:
    """The pack of a list of images in a folder of packs, stored at the end unless an error is raised; None without a folder.

    A pack that is damaged, or that can't be read or written, is said in one warning (InputWarning).
    """
    if folder is None:
        yield None
        return
    scene = [*image_size, lane_width]
    place = hashlib.sha256(repr(scene).encode())
    for name in (os.path.abspath(labels), *images):
        place.update(name.encode(errors="surrogatepass") + b"\n")
    owner = sha256_of_json([PACK_VERSION, sys.byteorder, scene, painting_code()])
    pack = LabelPack(folder / f"{place.hexdigest()[:32]}.painted", bytes.fromhex(owner))
    try:
        yield pack
        pack.store()
    finally:
        pack.close()
    if pack.troubles:
        warnings.warn(f"label cache {pack.path} {' and '.join(pack.troubles)}", InputWarning, stacklevel=3)


@cache
def painting_code() -> dict[str, str]:
    """The fingerprint of the code that makes painted labels."""
    return fingerprint(PAINTING)
