"""The pixels of an augmented view are the frame's, averaged and sampled where the geometry says, and black beyond it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.meta import Augmentation
from harness.lanes import apply_matrix, plain_geometry
from harness.training.augmentation import (
    ReducedImage,
    augmented_geometry,
    planes,
    read_reduced,
    reduced,
    reduced_size,
    warped,
)
from tests.harness.training.augmentations import CROPPED, EVERYTHING, FRAME, picture, plain


def dot_picture(x: float, y: float, sigma: float) -> np.ndarray:
    """A soft white dot on black whose centre of mass lies at (x, y), pixel centres at integers."""
    rows, columns = np.mgrid[: FRAME[0], : FRAME[1]]
    dot = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))
    return np.repeat(np.round(dot).astype(np.uint8)[:, :, None], 3, axis=2)


def centre_of_mass(image: np.ndarray) -> tuple[float, float]:
    weights = image.mean(axis=2).astype(np.float64)
    weights[weights < 8] = 0
    rows, columns = np.mgrid[: weights.shape[0], : weights.shape[1]]
    return (weights * columns).sum() / weights.sum(), (weights * rows).sum() / weights.sum()


def sampled_slowly(image: ReducedImage, geometry) -> np.ndarray:
    """Bilinear sampling at the inverse matrix, black outside, pixel by pixel, as the definition says."""
    inverse = image.matrix @ np.linalg.inv(geometry.matrix)
    height, width = geometry.network
    result = np.zeros((height, width, 3))
    for row in range(height):
        for column in range(width):
            x, y = apply_matrix(inverse, [column, row])
            left, top = math.floor(x), math.floor(y)
            for source_row, source_column in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
                inside = 0 <= source_row < image.pixels.shape[0] and 0 <= source_column < image.pixels.shape[1]
                weight = (1 - abs(x - source_column)) * (1 - abs(y - source_row))
                if inside:
                    result[row, column] += weight * image.pixels[source_row, source_column]
    return result


# Network sizes whose downscale (down, across) is: 1 x 1, 1.25 x 1.25, 1.25 x 3.75 (blocks of 1 x 3), 2.5, 4.2 x 4, 8.3 x 8, .8
NETWORKS = [(200, 480), (160, 384), (160, 128), (80, 192), (48, 120), (24, 60), (250, 600)]


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@settings(max_examples=12, deadline=None)
@given(
    x=st.floats(150, 330),
    y=st.floats(110, 170),
    seed=st.integers(0, 2**32),
    flip=st.sampled_from([0.0, 1.0]),
    far=st.sampled_from([Augmentation(), EVERYTHING, CROPPED]),
)
def test_a_painted_dot_lands_where_the_geometry_says(tmp_path_factory, network, suffix, x, y, seed, flip, far):
    path = tmp_path_factory.getbasetemp() / f"dot{suffix}"
    blur = max(3.0, 1.5 * FRAME[1] / network[1])
    cv2.imwrite(str(path), dot_picture(x, y, blur), [cv2.IMWRITE_JPEG_QUALITY, 98])
    image = read_reduced(path, plain(network))
    augmentation = far.model_copy(update={"flip": flip})
    geometry = augmented_geometry(plain(network)(FRAME), augmentation, np.random.default_rng(seed))
    expected = geometry.to_network([x, y])
    reach = 3 * blur * network[0] / 200 * 1.3 / (1 - augmentation.crop)
    border = np.array([network[1], network[0]])
    if (expected < reach).any() or (expected > border - 1 - reach).any():
        return  # cut by the border: its centre of mass moves
    assert centre_of_mass(warped(image, geometry)) == pytest.approx(tuple(expected), abs=0.12)


@pytest.mark.parametrize("seed", range(4))
def test_the_warp_is_bilinear_sampling_at_the_inverse_matrix(tmp_path, seed):
    generator = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(generator.integers(0, 256, (60, 90, 3), dtype=np.uint8), (0, 0), 1.0)
    cv2.imwrite(str(tmp_path / "noise.png"), noise)
    geometry_of = plain((24, 40), crop=(12, 0, 60, 80))
    image = read_reduced(tmp_path / "noise.png", geometry_of)
    geometry = augmented_geometry(geometry_of((60, 90)), EVERYTHING, generator)
    difference = np.abs(warped(image, geometry) - sampled_slowly(image, geometry))
    assert difference.max() <= 3  # OpenCV's interpolation weights are coarser than a double's


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("network", NETWORKS)
def test_what_is_left_to_the_warp_is_a_downscale_below_two(tmp_path, network, suffix):
    cv2.imwrite(str(tmp_path / f"a{suffix}"), np.zeros((*FRAME, 3), np.uint8))
    image = read_reduced(tmp_path / f"a{suffix}", plain(network))
    left = plain(network)(FRAME).matrix @ np.linalg.inv(image.matrix)
    assert min(left[0, 0], left[1, 1]) > 0.5
    if min(200 / network[0], 480 / network[1]) >= 1:
        assert max(left[0, 0], left[1, 1]) <= 1 + 1e-9, "decoded smaller than the network sees it"


def test_fine_stripes_average_out_instead_of_beating(tmp_path):
    stripes = np.zeros((*FRAME, 3), np.uint8)
    stripes[:, ::2] = 200
    cv2.imwrite(str(tmp_path / "stripes.png"), stripes)
    geometry_of = plain((40, 96))
    view = warped(read_reduced(tmp_path / "stripes.png", geometry_of), geometry_of(FRAME))
    assert np.abs(view.astype(int) - 100).max() <= 40  # of +-100


def test_what_lies_beyond_the_frame_is_black_and_its_edges_are_not(tmp_path):
    cv2.imwrite(str(tmp_path / "white.png"), np.full((*FRAME, 3), 255, np.uint8))
    geometry_of = plain((300, 720), crop=(40, 0, 240, 480))
    image = read_reduced(tmp_path / "white.png", geometry_of)
    base = geometry_of(FRAME)
    assert warped(image, base).min() == 255
    shifted = augmented_geometry(base, Augmentation(shift_x=0.4), np.random.default_rng(1))
    corner = shifted.to_original([[0, 0], [719, 0]])
    assert ((corner[:, 0] < -2) | (corner[:, 0] > 481)).any()
    assert warped(image, shifted).min() == 0


@pytest.mark.parametrize("moved", [(-3, 0), (3, 0), (0, -3), (0, 3)])
def test_a_view_beyond_any_edge_of_the_frame_is_black_there(moved):
    base = plain_geometry(FRAME, (0, 0, *FRAME), FRAME)
    white = ReducedImage(np.full((*FRAME, 3), 255, np.uint8), FRAME, np.eye(3))
    shift = np.array([[1.0, 0.0, moved[0]], [0.0, 1.0, moved[1]], [0.0, 0.0, 1.0]])
    view = warped(white, replace(base, matrix=shift @ base.matrix))
    assert (view == 0).sum() == 3 * 3 * (FRAME[0] if moved[0] else FRAME[1])
    assert warped(white, base).min() == 255


def test_planes_are_contiguous_channels_first():
    image = picture()
    result = planes(image)
    assert result.shape == (3, 20, 30)
    assert result.flags.c_contiguous
    assert np.array_equal(result[1], image[:, :, 1])


def test_frames_of_another_size_are_cropped_in_proportion(tmp_path: Path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((120, 240, 3), np.uint8))
    seen = []

    def geometry_of(size):
        seen.append(size)
        return plain_geometry(size, (20, 0, 120, 240), (50, 120))

    image = read_reduced(tmp_path / "a.png", geometry_of)
    assert set(seen) == {(120, 240)}
    assert image.pixels.shape == (60, 120, 3)


@pytest.mark.parametrize(
    ("network", "block"), [((200, 240), (1, 2)), ((100, 480), (2, 1)), ((67, 240), (2, 2)), ((200, 160), (1, 3))]
)
def test_reduction_averages_whole_blocks(tmp_path, network, block):
    noise = np.random.default_rng(0).integers(0, 256, (*FRAME, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "noise.png"), noise[:, :, ::-1])
    reduced = read_reduced(tmp_path / "noise.png", plain(network)).pixels
    height, width = FRAME[0] // block[0], FRAME[1] // block[1]
    means = noise.reshape(height, block[0], width, block[1], 3).mean(axis=(1, 3))
    assert reduced.shape == means.shape
    assert np.abs(reduced - means).max() <= 1


@pytest.mark.parametrize(("network", "block"), [((80, 192), 2), ((66, 158), 3)])
def test_the_last_blocks_of_a_side_that_they_do_not_divide_are_of_the_frames_own_pixels(network, block):
    height, width = size = (239, 475)
    noise = np.random.default_rng(0).integers(100, 256, (*size, 3), dtype=np.uint8)
    whole = np.pad(noise, ((0, -height % block), (0, -width % block), (0, 0)), mode="edge")
    assert all(side > given for side, given in zip(whole.shape, size, strict=False))
    rows, columns = whole.shape[0] // block, whole.shape[1] // block
    means = whole.reshape(rows, block, columns, block, 3).mean(axis=(1, 3))
    found = reduced(noise, plain(network, crop=(40, 0, *size))).pixels
    assert found.shape == means.shape
    assert np.abs(found - means).max() <= 1


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("size", [FRAME, (239, 477)])
def test_the_size_of_a_reduced_image_is_known_without_it(tmp_path, network, suffix, size):
    cv2.imwrite(str(tmp_path / f"a{suffix}"), np.zeros((*size, 3), np.uint8))
    geometry_of = plain(network, crop=(40, 0, size[0], size[1]))
    assert read_reduced(tmp_path / f"a{suffix}", geometry_of).pixels.shape[:2] == reduced_size(geometry_of(size))
