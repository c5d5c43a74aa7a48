"""Images to files. Plain writes: a rendered dataset appears under its name at once, when all of it is written."""

from __future__ import annotations

from pathlib import Path

import cv2

from harness.datasets.images import write_encoded
from harness.rendered.kernels import Bytes

JPEG_QUALITY = 92


def write_jpeg(path: Path, image: Bytes) -> None:
    """Write an image (H, W, 3) in OpenCV's BGR order. Raises OSError if that fails."""
    write_encoded(path, image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])


def write_png(path: Path, image: Bytes) -> None:
    """Write an image or mask without loss, in little time rather than little space. Raises OSError if that fails."""
    write_encoded(path, image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
