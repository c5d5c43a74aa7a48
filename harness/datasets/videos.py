"""Video files, a frame at a time: reading them, and writing pictures as one.

Whatever FFmpeg decodes is read, as it is shown (turned by its orientation tag). Only a few frames are ever in memory.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np

from harness.datasets.images import Image
from harness.errors import InputError
from harness.files.stored import sync_folder

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"})
"""How the names of video files end, in small letters."""

WRITTEN_SUFFIX = ".mp4"
CODEC = "mp4v"
"""MPEG-4 part 2: the one codec for .mp4 that every wheel of OpenCV encodes fast. VP9 takes a hundred times as long."""

FASTEST = 600.0
"""Frames a second beyond which, and below 0, a file's own rate isn't believed (the codec's clock ends at 65,535 / 100)."""

USUAL_RATE = 25.0
"""Frames a second of a file that doesn't say."""

SILENT = 0
"""OpenCV's LOG_LEVEL_SILENT (opencv2/core/utils/logger.defines.hpp)."""


class Video:
    """An opened video file. `frames` is how many it says it has, 0 where it doesn't say; `rate` is frames a second."""

    def __init__(self, path: Path) -> None:
        """Open a file. InputError if it is missing, or is no video with a frame in it."""
        if not path.is_file():
            raise InputError(f"{path} is missing; give the path of a video file")
        with _quiet():
            self._capture = cv2.VideoCapture(_for_opencv(path), cv2.CAP_FFMPEG)
            there = self._capture.isOpened() and self._capture.grab()
        if not there:
            raise InputError(f"{path}: not a video that can be decoded, or one without a frame; copy it again")
        self.path = path
        self.frames = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = rate if math.isfinite(rate) and 0 < rate <= FASTEST else USUAL_RATE

    def every(self, step: int) -> Iterator[tuple[int, Image]]:
        """Frame numbers 0, step, 2 step, ... with their pictures, uint8 RGB (H, W, 3). To be asked for once.

        Raises InputError behind the last frame if the file ends more than a second before it says it does (containers that hold no
        count tell a duration, which may be a little long), or if nothing can be decoded.
        """
        number = 0
        while number == 0 or self._capture.grab():
            if number % step == 0:
                decoded, picture = self._capture.retrieve()
                if not decoded:
                    raise InputError(f"{self.path}: frame {number} can't be decoded; copy the file again")
                yield number, np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), dtype=np.uint8)
            number += 1
        self.close()
        if self.frames - number > self.rate:
            raise InputError(f"{self.path}: ends after {number} of {self.frames} frames; copy the file again")

    def close(self) -> None:
        """Give the file back; harmless when done twice."""
        self._capture.release()


@contextmanager
def written_video(path: Path, rate: float) -> Iterator[Callable[[Image], None]]:
    """Yield what takes the pictures (uint8 RGB, all of one size), one after the other; `path` appears, whole, at the end.

    Nothing appears if there was no picture or the block raises. path: ends in WRITTEN_SUFFIX. An odd last column or row is cut off.
    Raises OSError if the video can't be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", suffix=".part", dir=path.parent) as folder:
        # OpenCV takes the container from the name's end.
        aside = Path(folder) / path.name
        writer = cv2.VideoWriter()
        pictures = 0

        def write(picture: Image) -> None:
            nonlocal pictures
            if not pictures:
                size = (picture.shape[1], picture.shape[0])
                with _quiet():
                    writer.open(
                        _for_opencv(aside), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*CODEC), round(rate, 2), size
                    )
                if not writer.isOpened():
                    raise OSError(f"{path}: this build of OpenCV can't write {CODEC} video; install the pinned wheel")
            writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
            pictures += 1

        try:
            yield write
        finally:
            writer.release()
        if pictures:
            # OpenCV says nothing when a write fails, but then the file's index at its end is missing or short.
            _check_written(aside, pictures, path)
            with open(aside, "rb+") as stream:
                os.fsync(stream.fileno())
            aside.replace(path)
            sync_folder(path.parent)


def _for_opencv(path: Path) -> Any:
    """A path as OpenCV takes it: text, but bytes where it isn't UTF-8, for such a text ends the process. InputError where this release
    takes no bytes.
    """
    text, no_name = str(path), cast(Any, b"")
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        pass
    try:
        cv2.VideoCapture(no_name, cv2.CAP_FFMPEG)
    except cv2.error:
        raise InputError(
            f"{text!r}: OpenCV {cv2.__version__} takes no name of a video that isn't UTF-8; rename it, or install OpenCV 4.13 or newer"
        ) from None
    return os.fsencode(path)


def _check_written(aside: Path, pictures: int, path: Path) -> None:
    with _quiet():
        capture = cv2.VideoCapture(_for_opencv(aside), cv2.CAP_FFMPEG)
        found = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
        capture.release()
    if found != pictures:
        raise OSError(f"{path}: only {max(0, found)} of {pictures} frames could be written: is the disk full?")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep OpenCV and FFmpeg from writing lines of their own to standard error: what is wrong is said once, by us."""
    # FFmpeg's own level is read when it is first used.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    # Before 4.13 these were functions of cv2 itself.
    logging: Any = getattr(cv2.utils, "logging", cv2)
    before = logging.getLogLevel()
    logging.setLogLevel(SILENT)
    try:
        yield
    finally:
        logging.setLogLevel(before)
