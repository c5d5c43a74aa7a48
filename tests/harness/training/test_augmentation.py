from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from detectors.meta import Augmentation
from harness.lanes import apply_matrix, plain_geometry
from harness.training.augmentation import (
    ReducedImage,
    augmented_geometry,
    blurred,
    drawn_change,
    gaussian_kernel,
    planes,
    read_reduced,
    recoloured,
    reduced_size,
    sample_blur,
    sample_colour_matrix,
    streak_kernel,
    warped,
)

EVERYTHING = Augmentation(flip=0.5, rotation=10, shift_x=0.1, shift_y=0.1, scale=0.2)
CROPPED = EVERYTHING.model_copy(update={"crop": 0.3})
FRAME = (240, 480)
CROP = (40, 0, 240, 480)


def plain(network: tuple[int, int], crop=CROP):
    return lambda size: plain_geometry(size, crop, network)


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


def test_without_augmentation_the_matrix_is_the_plain_one_bit_for_bit():
    base = plain((128, 320))(FRAME)
    for seed in range(20):
        geometry = augmented_geometry(base, Augmentation(), np.random.default_rng(seed))
        assert np.array_equal(geometry.matrix, base.matrix)


def test_a_flip_mirrors_the_crop_onto_itself():
    base = plain((100, 200), crop=(40, 60, 240, 460))(FRAME)
    geometry = augmented_geometry(base, Augmentation(flip=1.0), np.random.default_rng(0))
    x = np.array([59.5, 100.0, 459.5])
    points = np.stack([x, np.full(3, 77.0)], axis=1)
    mirrored = np.stack([59.5 + 459.5 - x, np.full(3, 77.0)], axis=1)
    assert geometry.to_network(points) == pytest.approx(base.to_network(mirrored))


def test_flips_come_as_often_as_asked():
    base = plain((100, 200))(FRAME)
    flips = [
        np.linalg.det(augmented_geometry(base, Augmentation(flip=0.3), np.random.default_rng(seed)).matrix) < 0
        for seed in range(1000)
    ]
    assert 0.25 < np.mean(flips) < 0.35


@given(seed=st.integers(0, 2**32))
def test_draws_stay_in_their_ranges_about_the_centre_of_the_crop(seed):
    base = plain((200, 480))(FRAME)
    matrix = np.linalg.inv(base.matrix) @ augmented_geometry(base, EVERYTHING, np.random.default_rng(seed)).matrix
    centre = np.array([239.5, 139.5])
    shift = (apply_matrix(matrix, centre) - centre) / (480, 240)
    assert np.abs(shift).max() <= 0.1 + 1e-9
    assert 0.8 - 1e-9 <= math.sqrt(abs(np.linalg.det(matrix))) <= 1.2 + 1e-9
    upright = matrix[:2, :2] @ [0, 1]
    assert abs(math.degrees(math.atan2(-upright[0], upright[1]))) <= 10 + 1e-9


@given(seed=st.integers(0, 2**32))
def test_in_the_view_draws_stay_in_their_ranges_about_its_centre_whatever_crop_and_resize_do(seed):
    height, width = 100, 480
    base = plain((height, width))(FRAME)
    within = EVERYTHING.model_copy(update={"in_view": True})
    matrix = augmented_geometry(base, within, np.random.default_rng(seed)).matrix @ np.linalg.inv(base.matrix)
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    assert np.abs((apply_matrix(matrix, centre) - centre) / (width, height)).max() <= 0.1 + 1e-9
    assert matrix[:2, 0] @ matrix[:2, 1] == pytest.approx(0.0, abs=1e-9), "a turn of the view, no shear"
    upright = matrix[:2, :2] @ [0, 1]
    assert abs(math.degrees(math.atan2(-upright[0], upright[1]))) <= 10 + 1e-9


def test_one_setting_does_not_change_the_draw_of_another():
    base = plain((200, 480))(FRAME)
    for seed in range(5):
        alone, together = (
            augmented_geometry(base, augmentation, np.random.default_rng(seed)).to_network([239.5, 139.5])
            for augmentation in (Augmentation(shift_x=0.1), Augmentation(shift_x=0.1, rotation=9, scale=0.2, flip=1))
        )
        assert alone == pytest.approx(together)


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


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(40, 180, (20, 30, 3), dtype=np.uint8)


def factor_for(name: str, seed: int, size: float) -> tuple[np.ndarray, float]:
    """The result of one colour change, and the factor that was drawn for it (from the numbers' documented order)."""
    order = ["brightness", "contrast", "saturation", "hue"]
    drawn = np.random.default_rng(seed).uniform(-1, 1, 4)[order.index(name)]
    matrix = sample_colour_matrix(Augmentation(**{name: size}), np.random.default_rng(seed))
    return recoloured(picture(), matrix), 1 + size * float(drawn)


@pytest.mark.parametrize(
    ("name", "enhancer"),
    [("brightness", ImageEnhance.Brightness), ("contrast", ImageEnhance.Contrast), ("saturation", ImageEnhance.Color)],
)
@pytest.mark.parametrize("seed", range(4))
def test_colour_changes_are_those_of_pillow(name, enhancer, seed):
    result, factor = factor_for(name, seed, 0.4)
    reference = np.asarray(enhancer(Image.fromarray(picture())).enhance(factor), dtype=int)
    assert np.abs(result - reference).max() <= 1  # Pillow rounds the grey first, and cuts instead of rounding


def test_brightness_multiplies_what_contrast_made_of_a_pixel():
    both = Augmentation(brightness=0.5, contrast=0.5)
    grey = np.full((4, 4, 3), 100, np.uint8)
    for seed in range(10):
        brightness = 1 + 0.5 * np.random.default_rng(seed).uniform(-1, 1, 4)[0]
        # Contrast leaves a picture of one grey.
        result = recoloured(grey, sample_colour_matrix(both, np.random.default_rng(seed)))
        assert np.abs(result - 100 * brightness).max() <= 1


@pytest.mark.parametrize("seed", range(4))
def test_a_lift_adds_one_share_of_white_to_every_channel_and_is_cut_at_its_ends(seed):
    matrix = sample_colour_matrix(Augmentation(lift=0.3), np.random.default_rng(seed))
    assert np.array_equal(matrix[:, :4], np.eye(3, 4))
    (share,) = set(matrix[:, 4])
    assert 0 < abs(share) < 0.3
    expected = np.clip(np.round(picture() + 255.0 * share), 0, 255)
    assert np.abs(recoloured(picture(), matrix) - expected).max() <= 1
    black_and_white = np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8)
    assert {0, 255} & set(recoloured(black_and_white, matrix).ravel().tolist())


def test_lifts_are_spread_evenly_over_their_range():
    shares = [sample_colour_matrix(Augmentation(lift=0.2), np.random.default_rng(seed))[0, 4] for seed in range(400)]
    assert (min(shares), max(shares)) == pytest.approx((-0.2, 0.2), abs=0.005)
    assert np.mean(shares) == pytest.approx(0, abs=0.02)


def test_a_lift_comes_on_top_of_the_other_colours():
    others = {"brightness": 0.3, "contrast": 0.3, "saturation": 0.3, "hue": 20.0}
    plainer, lifted = (
        sample_colour_matrix(Augmentation(**others, **more), np.random.default_rng(5)) for more in ({}, {"lift": 0.2})
    )
    assert np.array_equal(plainer[:, :4], lifted[:, :4])
    assert (plainer[:, 4] == 0).all()
    assert (lifted[:, 4] != 0).all()


def test_hue_keeps_greys_and_the_sum_of_channels():
    matrix = sample_colour_matrix(Augmentation(hue=60), np.random.default_rng(2))
    greys = np.repeat(np.arange(0, 256, 5, dtype=np.uint8)[None, :, None], 3, axis=2)
    assert np.abs(recoloured(greys, matrix).astype(int) - greys).max() <= 1
    turned = recoloured(picture(), matrix)
    assert np.abs(turned.astype(int) - picture()).max() > 20
    assert np.abs(turned.sum(axis=2, dtype=int) - picture().sum(axis=2, dtype=int)).max() <= 2


def test_a_third_of_the_hue_circle_turns_red_into_another_primary():
    class Full:
        def uniform(self, *_):
            return np.array([0.0, 0.0, 0.0, 1.0])

    matrix = sample_colour_matrix(Augmentation(hue=120), Full())
    assert recoloured(np.array([[[200, 0, 0]]], np.uint8), matrix).tolist() == [[[0, 200, 0]]]


def test_no_colour_change_leaves_the_image_untouched():
    generator = np.random.default_rng(0)
    assert sample_colour_matrix(Augmentation(), generator) is None
    image = picture()
    assert recoloured(image, None) is image
    after = generator.random()
    other = np.random.default_rng(0)
    other.uniform(-1, 1, 4)
    assert after == other.random()


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


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("size", [FRAME, (239, 477)])
def test_the_size_of_a_reduced_image_is_known_without_it(tmp_path, network, suffix, size):
    cv2.imwrite(str(tmp_path / f"a{suffix}"), np.zeros((*size, 3), np.uint8))
    geometry_of = plain(network, crop=(40, 0, size[0], size[1]))
    assert read_reduced(tmp_path / f"a{suffix}", geometry_of).pixels.shape[:2] == reduced_size(geometry_of(size))


@given(seed=st.integers(0, 2**32))
def test_a_crop_shows_a_part_of_the_view_in_its_aspect(seed):
    base = plain((4, 8))(FRAME)  # so small that half a pixel is much of a crop
    geometry = augmented_geometry(base, Augmentation(crop=0.3), np.random.default_rng(seed))
    corners = base.to_network(geometry.to_original([[-0.5, -0.5], [7.5, 3.5]]))
    (left, top), (right, bottom) = corners
    assert corners.min() >= -0.5 - 1e-6
    assert right <= 7.5 + 1e-6
    assert bottom <= 3.5 + 1e-6
    assert 0.7 - 1e-6 <= (right - left) / 8 <= 1
    assert (right - left) / 8 == pytest.approx((bottom - top) / 4)


def test_crops_reach_every_corner_and_every_size():
    base = plain((200, 480))(FRAME)
    views = [
        base.to_network(
            augmented_geometry(base, Augmentation(crop=0.5), np.random.default_rng(seed)).to_original(
                [[-0.5, -0.5], [479.5, 199.5]]
            )
        )
        for seed in range(400)
    ]
    widths = np.array([(view[1, 0] - view[0, 0]) / 480 for view in views])
    assert widths.mean() == pytest.approx(0.75, abs=0.03)
    assert widths.min() < 0.53
    lefts, rights = (np.array([view[corner, 0] for view in views]) for corner in (0, 1))
    assert lefts.max() > 200
    assert rights.min() < 280
    # Across and down are drawn apart.
    across, down = (np.array([view[0, axis] + 0.5 for view in views]) for axis in (0, 1))
    room = np.maximum(1e-9, 1 - widths)
    assert abs(np.corrcoef(across / 480 / room, down / 200 / room)[0, 1]) < 0.2


NEW_SETTINGS = [
    {"crop": 0.2},
    {"blur": 0.5, "blur_sigma": 2.0},
    {"geometric_probability": 0.5},
    {"colour_probability": 0.5},
    {"in_view": True},
]


@pytest.mark.parametrize("changed", NEW_SETTINGS)
def test_a_later_setting_leaves_the_other_draws_as_they_are(changed):
    """With it, every sample has the colours or the geometry that it had, or is spared."""
    old = EVERYTHING.model_copy(update={"brightness": 0.3, "hue": 20.0})
    new = old.model_copy(update=changed)
    base = plain((200, 480))(FRAME)
    spared = 0
    for seed in range(40):
        before, after = (drawn_change(base, one, np.random.default_rng([7, seed])) for one in (old, new))
        assert before.kernel is None
        if not {"crop", "geometric_probability", "in_view"} & set(changed):
            assert np.array_equal(before.geometry.matrix, after.geometry.matrix)
        if after.colours is None:
            spared += 1
        else:
            assert np.array_equal(before.colours, after.colours)
    assert (5 < spared < 35) == ("colour_probability" in changed)


def test_a_share_of_the_samples_keeps_its_geometry_but_for_the_flip():
    base = plain((200, 480))(FRAME)
    rare = CROPPED.model_copy(update={"geometric_probability": 0.25})
    kept = [
        np.allclose(np.abs(augmented_geometry(base, rare, np.random.default_rng(seed)).matrix[:2, :2]), np.eye(2))
        for seed in range(1000)
    ]
    assert 0.7 < np.mean(kept) < 0.8
    flips = [
        np.linalg.det(augmented_geometry(base, rare, np.random.default_rng(seed)).matrix) < 0 for seed in range(1000)
    ]
    assert 0.45 < np.mean(flips) < 0.55


def test_colours_change_in_the_share_of_the_samples_that_is_asked_for():
    rare = Augmentation(brightness=0.3, colour_probability=0.2)
    changed = [sample_colour_matrix(rare, np.random.default_rng(seed)) is not None for seed in range(500)]
    assert 0.15 < np.mean(changed) < 0.25


def test_blurs_are_of_every_size_up_to_the_one_that_is_given():
    for setting, largest in (({"blur_sigma": 3.0}, 2 * 9 + 1), ({"blur_length": 20.0}, 2 * 10 + 3)):
        blurs = [sample_blur(Augmentation(blur=1.0, **setting), np.random.default_rng(seed)) for seed in range(200)]
        sides = [len(kernel) for kernel in blurs]
        assert max(sides) == largest
        assert min(sides) <= 5
        assert np.mean(sides) == pytest.approx(largest / 2 + 2, abs=1.5)


def test_blurs_come_as_often_as_asked_and_either_kind_as_often():
    def kernels(**settings):
        return [sample_blur(Augmentation(blur=0.4, **settings), np.random.default_rng(seed)) for seed in range(500)]

    both = kernels(blur_sigma=3.0, blur_length=9.0)
    assert 0.34 < np.mean([kernel is not None for kernel in both]) < 0.46
    gaussian = [kernel for kernel in kernels(blur_sigma=3.0) if kernel is not None]
    streaks = [kernel for kernel in kernels(blur_length=9.0) if kernel is not None]
    assert all(np.allclose(kernel, kernel.T) and np.allclose(kernel, kernel[::-1]) for kernel in gaussian)
    assert sum(not np.allclose(kernel, kernel[::-1]) for kernel in streaks) > 0.8 * len(streaks)
    drawn = [kernel for kernel in both if kernel is not None]
    upright = np.mean([np.allclose(kernel, kernel[::-1]) for kernel in drawn])
    assert 0.35 < upright < 0.7
    assert sample_blur(Augmentation(), np.random.default_rng(0)) is None


@given(sigma=st.floats(0, 5), length=st.floats(0, 31), angle=st.floats(0, math.pi))
def test_kernels_are_odd_and_keep_brightness_and_place(sigma, length, angle):
    for kernel in (gaussian_kernel(sigma), streak_kernel(length, angle)):
        side = len(kernel)
        assert kernel.shape == (side, side)
        assert side % 2 == 1
        assert kernel.min() >= 0
        assert kernel.sum() == pytest.approx(1, abs=1e-5)
        offsets = np.arange(side) - side // 2
        assert float(kernel.sum(axis=0) @ offsets) == pytest.approx(0, abs=1e-3)
        assert float(kernel.sum(axis=1) @ offsets) == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.5, 5.0])
def test_a_gaussian_blur_is_opencvs(sigma):
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    side = 2 * math.ceil(3 * sigma) + 1
    reference = cv2.GaussianBlur(image, (side, side), sigma, borderType=cv2.BORDER_REPLICATE)
    assert np.abs(blurred(image, gaussian_kernel(sigma)).astype(int) - reference).max() <= 1


@pytest.mark.parametrize(("angle", "axis"), [(0.0, 1), (math.pi / 2, 0)])
def test_a_streak_spreads_a_dot_evenly_along_its_direction(angle, axis):
    dot = np.zeros((41, 41, 3), np.uint8)
    dot[20, 20] = 250
    streak = blurred(dot, streak_kernel(10.0, angle))[:, :, 0].astype(int)
    across = streak.sum(axis=axis)
    assert np.flatnonzero(across).tolist() == [20]
    along = streak.sum(axis=1 - axis)
    assert np.abs(np.flatnonzero(along > 5) - 20).max() in (5, 6)
    middle = along[17:24]
    assert middle.max() - middle.min() <= 3


def test_a_blur_needs_how_often_and_how_much():
    for half in ({"blur": 0.5}, {"blur_sigma": 1.0}, {"blur_length": 3.0}):
        with pytest.raises(ValueError, match="give both or neither"):
            Augmentation(**half)


def test_settings_newer_than_the_first_records_are_dumped_only_where_they_do_something():
    first = {"flip", "rotation", "shift_x", "shift_y", "scale", "brightness", "contrast", "saturation", "hue"}
    assert set(Augmentation().model_dump()) == first
    for changed in NEW_SETTINGS:
        new = Augmentation(**changed)
        assert new.model_dump() == Augmentation().model_dump() | changed
        assert Augmentation.model_validate(new.model_dump(mode="json")) == new
