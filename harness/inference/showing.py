"""How the frames of an evaluation are shown to a detector: corrupted, or cropped for a dataset that it wasn't trained on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from detectors.meta import InputSize
from harness.datasets.base import Dataset, Frame
from harness.datasets.corruptions import corrupted
from harness.datasets.horizons import horizon_of
from harness.datasets.images import read_image
from harness.inference.predict import View
from harness.lanes import Geometry, plain_geometry
from harness.training.augmentation import FrameGeometry, planes, reduced, warped


def view_of_corrupted(
    frames: Sequence[Frame], geometry_of: FrameGeometry, *, corruption: str, severity: int, form: str
) -> View:
    """Frames of a dataset of a form, each corrupted as a whole, at the file's own size, before it is cropped and resized."""

    def view(index: int) -> tuple[npt.NDArray[np.uint8], Geometry]:
        frame = frames[index]
        picture = read_image(frame.image)
        horizon = horizon_of(form, (picture.shape[0], picture.shape[1]))
        image = reduced(corrupted(picture, corruption, severity, key=frame.id, horizon=horizon), geometry_of)
        geometry = geometry_of(image.original)
        return planes(warped(image, geometry)), geometry

    return view


def transferred_geometry(size: InputSize, trained: Dataset, tested: Dataset) -> FrameGeometry:
    """How frames of the dataset `tested` enter a detector whose input is that of the dataset `trained`.

    The network's size stays. The crop is laid so that the horizon comes to lie where it lay in training (`crop_by_horizon`); by the
    geometry lanes come back in pixels of the tested frame.
    """
    return partial(_geometry, size, trained.form, trained.image_size, tested.form)


def _geometry(
    size: InputSize, trained_form: str, trained_size: tuple[int, int], form: str, original: tuple[int, int]
) -> Geometry:
    crop = crop_by_horizon(
        size.crop_of(trained_size),
        trained_size,
        horizon_of(trained_form, trained_size),
        original,
        horizon_of(form, original),
    )
    return plain_geometry(original, crop, size.network)


def crop_by_horizon(
    crop: tuple[int, int, int, int],
    frame: tuple[int, int],
    horizon: float,
    other_frame: tuple[int, int],
    other_horizon: float,
) -> tuple[int, int, int, int]:
    """A crop (top, left, bottom, right) of a frame (height, width) for frames of another size and horizon.

    Sides and bottom keep their shares of the frame. The top is laid so that the horizon stands at the same share of the crop; where
    that would be above the frame the crop begins at its edge, for nothing is shown that no camera saw. Horizons are shares of the
    height.
    """
    top, left, bottom, right = crop
    height, width = other_frame
    foot = round(bottom * height / frame[0])
    share = (horizon * frame[0] - top) / (bottom - top)
    head = (other_horizon * height - share * foot) / (1.0 - share)
    scale = width / frame[1]
    return (min(max(round(head), 0), foot - 1), round(left * scale), foot, round(right * scale))
