"""Images with instance masks become a dataset in CULane's layout: labels to score on where a dataset has pixels and no curves.

A mask has one grey value a lane and 0 elsewhere, as MaybeShewill-CV/lanenet-lane-detection (tools/generate_tusimple_dataset.py) draws
TuSimple's labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from harness.datasets.images import read_image, whole_bytes, write_encoded
from harness.datasets.lines import label_name, write_lines_file
from harness.errors import InputError
from harness.files.whole import refuse_existing, whole_folder
from harness.lanes import Lane, Part, apply_matrix, resize_matrix

Mask = npt.NDArray[np.integer]

ROW_STEP = 8
"""Rows of a mask from one sample of a lane to the next."""

MOST_LANES = 20
"""A mask with more values than this isn't one of instances: it was resampled, or is a picture."""

CULANE_SIZE = (590, 1640)
"""Height and width of CULane's frames, on which its metric paints lanes."""

MASK_PATTERN = "gt_instance_{name}.png"
"""How a mask is called after its image, from the image's folder."""

IMAGE_FOLDER = "images"
LIST = Path("list", "test.txt")


def mask_lanes(mask: Mask) -> list[Lane]:
    """The lanes of a mask (H, W), near to far, in its pixels: on every ROW_STEP-th row the mean column of one value.

    Values in their order; one that fewer than two of these rows show is no lane. ValueError, in words for its user, for an array that
    isn't an instance mask: more than MOST_LANES values, or one value in several places of most of its rows, as in a binary mask.
    """
    values = np.unique(mask)
    values = values[values > 0]
    if len(values) > MOST_LANES:
        raise ValueError(f"{len(values)} values, more than a road has lanes: not a mask of instances")
    lanes = []
    for value in values:
        rows = mask[::ROW_STEP] == value
        seen = np.flatnonzero(rows.any(axis=1))
        if len(seen) < 2:
            continue
        runs = (np.diff(rows[seen].astype(np.int8), axis=1, prepend=0) == 1).sum(axis=1)
        if (runs > 1).mean() > 0.5:
            raise ValueError(f"value {value} marks several places in most of its rows: not a mask of instances")
        columns = [np.flatnonzero(row).mean() for row in rows[seen]]
        lanes.append(Lane(np.stack([columns, seen * ROW_STEP], axis=1)[::-1]))
    return lanes


def read_mask(path: Path) -> Mask:
    """Read a mask of one channel, 8 or 16 bit. InputError if it is missing, damaged, or has colours."""
    mask = cv2.imdecode(np.frombuffer(whole_bytes(path), np.uint8), cv2.IMREAD_UNCHANGED)
    if mask is None:
        raise InputError(f"{path}: not an image that can be decoded; restore it from its source")
    if mask.ndim != 2 or not np.issubdtype(mask.dtype, np.integer):
        raise InputError(f"{path}: has channels of colour; give a mask with one grey value a lane and 0 elsewhere")
    return np.asarray(mask)


def find_masks(folder: Path, pattern: str = MASK_PATTERN) -> list[tuple[Path, Path]]:
    """(image, mask) of each image file in a folder that has one, in order.

    pattern: the mask's path from the image's folder, with {name} for the image's name without extension. Raises InputError for a
    folder that isn't there, a pattern without {name}, and if no image has a mask.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give the one that holds the images")
    if "{name}" not in pattern:
        raise InputError(
            f"pattern {pattern!r}: has no {{name}}, the place of the image's name; {MASK_PATTERN!r} is one"
        )
    pairs = []
    for image in sorted(folder.iterdir()):
        mask = folder / pattern.replace("{name}", image.stem)
        if image.is_file() and mask != image and mask.is_file():
            pairs.append((image, mask))
    if not pairs:
        raise InputError(f"{folder}: no image here has a mask called {pattern}; say how they are called")
    return pairs


def write_culane_labels(
    pairs: Sequence[tuple[Path, Path]], out: Path, *, size: tuple[int, int] = CULANE_SIZE, part: Part | None = None
) -> list[list[Lane]]:
    """Write images and the lanes of their masks as the test split of a dataset in CULane's layout; returns the labels.

    Images are stretched to `size` (height, width) and stored as PNG, lanes with them, so that CULane's metric, which paints 30 pixels
    on 1640x590, measures them. part: what of each image and mask is taken; by default all. All of `out` appears or nothing. Raises
    InputError if `out` exists, for two images of one name, and for an image or mask that is damaged, doesn't fit the other or the
    part, or isn't a mask.
    """
    refuse_existing(out)
    names = [f"{IMAGE_FOLDER}/{image.stem}.png" for image, _ in pairs]
    if len(set(names)) < len(names):
        raise InputError(f"{pairs[0][0].parent}: two images have one name but for their extension; rename one")
    unlisted = next((image for image, _ in pairs if not image.stem.isprintable()), None)
    if unlisted is not None:
        raise InputError(f"{str(unlisted)!r}: a list of images can't hold this name; rename the file")
    with whole_folder(out) as folder:
        (folder / IMAGE_FOLDER).mkdir()
        labels = []
        for name, (image, mask) in zip(names, pairs, strict=True):
            picture, lanes = _stretched(image, mask, size, part)
            write_encoded(folder / name, picture)
            write_lines_file(folder / label_name(name), lanes)
            labels.append(lanes)
        (folder / LIST).parent.mkdir()
        (folder / LIST).write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    return labels


def _stretched(
    image: Path, mask_file: Path, size: tuple[int, int], part: Part | None
) -> tuple[npt.NDArray[np.uint8], list[Lane]]:
    """An image (or a part) in OpenCV's order of channels and the lanes of its mask, both at `size`."""
    picture, mask = read_image(image), read_mask(mask_file)
    if picture.shape[:2] != mask.shape:
        sizes = f"{mask.shape[1]}x{mask.shape[0]}, not {picture.shape[1]}x{picture.shape[0]}"
        raise InputError(f"{mask_file}: is {sizes} like {image}; give the mask of this image")
    part = part or Part(mask.shape[1], mask.shape[0], 0, 0)
    if not part.fits(mask.shape):
        raise InputError(f"{image}: {mask.shape[1]}x{mask.shape[0]} pixels, too small for the crop {part}")
    inside = slice(part.top, part.top + part.height), slice(part.left, part.left + part.width)
    picture, mask = picture[inside], mask[inside]
    try:
        lanes = mask_lanes(mask)
    except ValueError as error:
        raise InputError(f"{mask_file}: {error}; give a mask with one grey value a lane") from None
    matrix = resize_matrix((0, 0, part.height, part.width), size)
    stretched = cv2.resize(picture, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    drawn = [Lane(apply_matrix(matrix, lane.points).astype(np.float32)) for lane in lanes]
    return np.asarray(cv2.cvtColor(stretched, cv2.COLOR_RGB2BGR), dtype=np.uint8), drawn
