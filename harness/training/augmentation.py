"""From an image file to a network's input: reduced decoding, one warp, perhaps a blur, one colour matrix.

Pixel centres lie at integers on every grid, as in harness.lanes and as `cv2.warpAffine` samples. So the same 3x3 matrix moves image
and lanes. Training and evaluation go through the same `warped`; evaluation's geometry just has no augmentation in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from detectors.meta import Augmentation
from harness.datasets.images import REDUCTIONS, Image, read_image, read_size, reduction_matrix
from harness.lanes import Geometry, Matrix

FrameGeometry = Callable[[tuple[int, int]], Geometry]
"""(height, width) of a frame -> its geometry without augmentation: `Detector.geometry_of`."""

_GEOMETRY, _COLOUR, _BLUR, _LIFT = range(4)
"""Keys of the generators that settings newer than the first records draw from, so that they leave all other draws as they are."""

WHITE = 255.0
"""The highest grey level."""

LUMA = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue in a grey value (ITU-R BT.601)."""


@dataclass(frozen=True, eq=False)
class ReducedImage:
    """An image decoded no larger than its network needs it.

    pixels: uint8 RGB (h, w, 3). original: (height, width) of the file. matrix: 3x3 from original to reduced pixels.
    """

    pixels: Image
    original: tuple[int, int]
    matrix: Matrix


def read_reduced(path: Path, geometry_of: FrameGeometry) -> ReducedImage:
    """Read an image, averaged over whole blocks so that what is left for the warp is a downscale of less than 2 on both axes.

    Bilinear sampling sees every pixel below a downscale of 2, so this is all the antialiasing that there has to be. As far as
    both axes allow it the blocks are the JPEG decoder's own (1/2, 1/4, 1/8), which is much the fastest. The scale is that of
    the plain geometry: an augmentation that shrinks the image further doesn't change the blocks, so they can be cached.
    Raises InputError on a file that is missing, truncated or no image.
    """
    original = read_size(path)
    scale = _downscale(geometry_of(original))
    reduction = _reduction(scale)
    return _reduced(read_image(path, reduction), reduction, original, scale)


def reduced(picture: Image, geometry_of: FrameGeometry) -> ReducedImage:
    """A picture in memory, uint8 RGB (H, W, 3), averaged over whole blocks as `read_reduced` does."""
    original = (picture.shape[0], picture.shape[1])
    return _reduced(picture, 1, original, _downscale(geometry_of(original)))


def _reduced(pixels: Image, reduction: int, original: tuple[int, int], scale: tuple[float, float]) -> ReducedImage:
    block_y, block_x = (_block(along, reduction) for along in scale)
    if (block_y, block_x) != (1, 1):
        pixels = _block_means(pixels, block_y, block_x)
    return ReducedImage(pixels, original, _block_matrix(block_y, block_x) @ reduction_matrix(reduction))


@dataclass(frozen=True, eq=False)
class Change:
    """What one sample goes through: its geometry, then a blur's kernel (k, k), then a colour matrix; None where there is none."""

    geometry: Geometry
    kernel: npt.NDArray[np.float32] | None
    colours: npt.NDArray[np.float64] | None


def drawn_change(plain: Geometry, augmentation: Augmentation, generator: np.random.Generator) -> Change:
    """Draw all of a sample's changes. The generator has to be fresh from its seed, on which every draw depends."""
    geometry = augmented_geometry(plain, augmentation, generator)
    colours = sample_colour_matrix(augmentation, generator)
    return Change(geometry, sample_blur(augmentation, generator), colours)


def view_of(image: ReducedImage, change: Change) -> Image:
    """The network's view of an image after all of a sample's changes: uint8 RGB (H, W, 3)."""
    return recoloured(blurred(warped(image, change.geometry), change.kernel), change.colours)


def augmented_geometry(plain: Geometry, augmentation: Augmentation, generator: np.random.Generator) -> Geometry:
    """Draw flip, scale, rotation and shift, applied in this order in original pixels about the centre of the crop, then a crop.

    With `in_view` they are applied in network pixels about the centre of the view. Always draws the same count of numbers, so that
    one setting's value doesn't change another's draws. Without augmentation the matrix is `plain`'s, bit for bit.
    """
    flipped = generator.random() < augmentation.flip
    turn, growth, right, down = generator.uniform(-1.0, 1.0, 4)
    chance, cut, *place = _own(generator, _GEOMETRY).random(4) if _rarer_or_cropped(augmentation) else (0.0,) * 4
    if chance >= augmentation.geometric_probability:
        turn = growth = right = down = cut = 0.0
    angle = math.radians(augmentation.rotation * turn)
    scale = 1.0 + augmentation.scale * growth
    cosine, sine = scale * math.cos(angle), scale * math.sin(angle)
    mirror = -1.0 if flipped else 1.0
    top, left, bottom, end = (0, 0, *plain.network) if augmentation.in_view else plain.crop
    centre_x, centre_y = (left + end - 1) / 2, (top + bottom - 1) / 2
    height, width = plain.network if augmentation.in_view else plain.original
    to_centre = np.array([[1.0, 0.0, -centre_x], [0.0, 1.0, -centre_y], [0.0, 0.0, 1.0]])
    about_centre = np.array(
        [
            [cosine * mirror, -sine, centre_x + augmentation.shift_x * right * width],
            [sine * mirror, cosine, centre_y + augmentation.shift_y * down * height],
            [0.0, 0.0, 1.0],
        ]
    )
    about = about_centre @ to_centre
    moved = about @ plain.matrix if augmentation.in_view else plain.matrix @ about
    taken = augmentation.crop * cut
    return replace(plain, matrix=_cropping(plain.network, taken, place) @ moved if taken else moved)


def _cropping(network: tuple[int, int], taken: float, place: Sequence[float]) -> Matrix:
    """The matrix that enlarges a part of the view, smaller by the share `taken`, to the whole; place: (down, across) in 0..1."""
    height, width = network
    top, left = place[0] * taken * height, place[1] * taken * width
    grown = 1.0 / (1.0 - taken)
    return np.array(
        [
            [grown, 0.0, (0.5 - left) * grown - 0.5],
            [0.0, grown, (0.5 - top) * grown - 0.5],
            [0.0, 0.0, 1.0],
        ]
    )


def warped(image: ReducedImage, geometry: Geometry) -> Image:
    """The network's view of an image: uint8 RGB (H, W, 3), sampled bilinearly. What lies beyond the frame is black."""
    height, width = geometry.network
    matrix = geometry.matrix @ np.linalg.inv(image.matrix)
    # A view that stays inside the frame may still sample up to half a pixel outside the outermost centres: that isn't "beyond".
    border = cv2.BORDER_REPLICATE if inside_frame(geometry) else cv2.BORDER_CONSTANT
    # OpenCV warps four channels in half the time of three, to the same bits.
    pixels = cv2.cvtColor(image.pixels, cv2.COLOR_RGB2RGBA)
    view = cv2.warpAffine(pixels, matrix[:2], (width, height), flags=cv2.INTER_LINEAR, borderMode=border)
    return np.asarray(cv2.cvtColor(view, cv2.COLOR_RGBA2RGB), dtype=np.uint8)


def sample_blur(augmentation: Augmentation, generator: np.random.Generator) -> npt.NDArray[np.float32] | None:
    """Draw a blur: its kernel, (k, k) with odd k and sum 1, None for none."""
    if not augmentation.blur:
        return None
    chance, kind, size, angle = _own(generator, _BLUR).random(4)
    if chance >= augmentation.blur:
        return None
    if augmentation.blur_sigma and (kind < 0.5 or not augmentation.blur_length):
        return gaussian_kernel(augmentation.blur_sigma * size)
    return streak_kernel(augmentation.blur_length * size, math.pi * angle)


def gaussian_kernel(sigma: float) -> npt.NDArray[np.float32]:
    """A Gaussian of that standard deviation in pixels, out to three of them: (k, k) with odd k and sum 1."""
    reach = np.arange(-math.ceil(3 * sigma), math.ceil(3 * sigma) + 1)
    profile = np.exp(-0.5 * (reach / max(sigma, 1e-6)) ** 2)
    kernel = np.outer(profile, profile)
    return np.asarray(kernel / kernel.sum(), dtype=np.float32)


def streak_kernel(length: float, angle: float) -> npt.NDArray[np.float32]:
    """What a point becomes while it moves evenly over `length` pixels at `angle` to the rows: (k, k) with odd k and sum 1."""
    reach = math.ceil(length / 2)
    kernel = np.zeros((2 * reach + 3, 2 * reach + 3))
    along = np.linspace(-length / 2, length / 2, 4 * reach + 1)
    x, y = reach + 1 + along * math.cos(angle), reach + 1 + along * math.sin(angle)
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        np.add.at(kernel, (top + row, left + column), (1 - abs(y - top - row)) * (1 - abs(x - left - column)))
    return np.asarray(kernel / kernel.sum(), dtype=np.float32)


def blurred(image: Image, kernel: npt.NDArray[np.float32] | None) -> Image:
    """uint8 RGB (H, W, 3) after a kernel of `sample_blur`, its edges prolonged; None leaves it as it is."""
    if kernel is None:
        return image
    return np.asarray(cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REPLICATE), dtype=np.uint8)


def sample_colour_matrix(augmentation: Augmentation, generator: np.random.Generator) -> npt.NDArray[np.float64] | None:
    """Draw brightness, contrast, saturation, hue and lift; None where all five ranges are zero or this sample keeps its colours.

    The result is a 3x5 matrix on (red, green, blue, grey of the whole image, white): saturation mixes a pixel with its own grey, hue
    turns its colour about the grey axis, contrast mixes it with the image's mean grey, brightness multiplies, lift adds white.
    Always draws four numbers.
    """
    brightness, contrast, saturation, hue = generator.uniform(-1.0, 1.0, 4)
    if not any(
        (augmentation.brightness, augmentation.contrast, augmentation.saturation, augmentation.hue, augmentation.lift)
    ):
        return None
    rarer = augmentation.colour_probability < 1
    if rarer and _own(generator, _COLOUR).random() >= augmentation.colour_probability:
        return None
    saturation = 1.0 + augmentation.saturation * saturation
    contrast = 1.0 + augmentation.contrast * contrast
    colour = _hue_rotation(math.radians(augmentation.hue * hue)) @ (
        saturation * np.eye(3) + (1.0 - saturation) * np.tile(LUMA, (3, 1))
    )
    matrix = np.zeros((3, 5))
    matrix[:, :3] = contrast * colour
    matrix[:, 3] = 1.0 - contrast
    matrix *= 1.0 + augmentation.brightness * brightness
    if augmentation.lift:
        matrix[:, 4] = augmentation.lift * _own(generator, _LIFT).uniform(-1.0, 1.0)
    return matrix


def recoloured(image: Image, matrix: npt.NDArray[np.float64] | None) -> Image:
    """uint8 RGB (H, W, 3) after a matrix of `sample_colour_matrix`, rounded and clipped to 0..255; None leaves it as it is."""
    if matrix is None:
        return image
    grey = float(LUMA @ np.asarray(cv2.mean(image)[:3]))
    change = matrix[:, :4].copy()
    change[:, 3] = change[:, 3] * grey + matrix[:, 4] * WHITE
    return np.asarray(cv2.transform(image, change.astype(np.float32)), dtype=np.uint8)


def planes(image: Image) -> npt.NDArray[np.uint8]:
    """(H, W, 3) -> contiguous (3, H, W), the order of a batch."""
    return np.stack(cv2.split(image))


def reduced_size(plain: Geometry) -> tuple[int, int]:
    """(height, width) of what `read_reduced` keeps of an image with this geometry."""
    scale = _downscale(plain)
    reduction = _reduction(scale)
    height, width = (
        math.ceil(math.ceil(side / reduction) / _block(along, reduction))
        for side, along in zip(plain.original, scale, strict=True)
    )
    return height, width


def _rarer_or_cropped(augmentation: Augmentation) -> bool:
    return augmentation.crop > 0 or augmentation.geometric_probability < 1


def _own(generator: np.random.Generator, key: int) -> np.random.Generator:
    """A generator that depends on another's seed and on `key`, whatever was drawn from the other."""
    sequence = generator.bit_generator.seed_seq
    assert isinstance(sequence, np.random.SeedSequence)
    return np.random.default_rng(np.random.SeedSequence(sequence.entropy, spawn_key=(*sequence.spawn_key, key)))


def _downscale(plain: Geometry) -> tuple[float, float]:
    """How many original pixels make one network pixel, (vertically, horizontally)."""
    top, left, bottom, right = plain.crop
    return (bottom - top) / plain.network[0], (right - left) / plain.network[1]


def _reduction(scale: tuple[float, float]) -> int:
    """How much of a downscale the JPEG decoder can take over."""
    return max((step for step in REDUCTIONS if step <= min(scale)), default=1)


def _block(along: float, reduction: int) -> int:
    """How many pixels, decoded at 1/reduction, are averaged along an axis whose downscale is `along`."""
    return max(1, int(along / reduction))


def _block_means(image: Image, block_y: int, block_x: int) -> Image:
    height, width = image.shape[:2]
    padded = cv2.copyMakeBorder(image, 0, -height % block_y, 0, -width % block_x, cv2.BORDER_REPLICATE)
    size = (padded.shape[1] // block_x, padded.shape[0] // block_y)
    # A bilinear sample in the middle of two pixels is their mean, and five times as fast as averaging an area.
    how = cv2.INTER_LINEAR if max(block_y, block_x) == 2 else cv2.INTER_AREA
    return np.asarray(cv2.resize(padded, size, interpolation=how), dtype=np.uint8)


def _block_matrix(block_y: int, block_x: int) -> Matrix:
    """Block i covers pixels block*i .. block*i + block - 1, so its centre is their mean."""
    return np.array(
        [[1.0 / block_x, 0.0, 0.5 / block_x - 0.5], [0.0, 1.0 / block_y, 0.5 / block_y - 0.5], [0.0, 0.0, 1.0]]
    )


def inside_frame(geometry: Geometry) -> bool:
    """Whether all of a view shows the frame, to the outer edges of its pixels."""
    height, width = geometry.network
    outer = np.array([[-0.5, -0.5], [width - 0.5, -0.5], [-0.5, height - 0.5], [width - 0.5, height - 0.5]])
    corners = geometry.to_original(outer)
    limits = np.array([geometry.original[1], geometry.original[0]]) - 0.5
    return bool((corners > -0.5 - 1e-6).all() and (corners < limits + 1e-6).all())


def _hue_rotation(angle: float) -> npt.NDArray[np.float64]:
    """Rotation of RGB space about (1, 1, 1) by `angle` in radians (Rodrigues' formula); greys stay."""
    axis = np.full(3, 1.0 / math.sqrt(3.0))
    cross = np.array([[0.0, -axis[2], axis[1]], [axis[2], 0.0, -axis[0]], [-axis[1], axis[0], 0.0]])
    return math.cos(angle) * np.eye(3) + math.sin(angle) * cross + (1.0 - math.cos(angle)) * np.outer(axis, axis)
