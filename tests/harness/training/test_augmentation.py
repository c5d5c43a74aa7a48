"""What is drawn of an augmentation: flips, turns, shifts and crops, how often they come, and which draws a setting leaves alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.meta import Augmentation
from harness.lanes import apply_matrix
from harness.training.augmentation import augmented_geometry, drawn_change
from tests.harness.training.augmentations import CROPPED, EVERYTHING, FRAME, plain


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


def test_draws_fill_their_ranges_to_both_ends_each_by_itself():
    base = plain((200, 480))(FRAME)
    upright = EVERYTHING.model_copy(update={"flip": 0.0})
    centre = np.array([239.5, 139.5])
    drawn = []
    for seed in range(400):
        moved = augmented_geometry(base, upright, np.random.default_rng(seed)).matrix
        matrix = np.linalg.inv(base.matrix) @ moved
        right, down = (apply_matrix(matrix, centre) - centre) / (480, 240)
        turn = math.degrees(math.atan2(matrix[1, 0], matrix[0, 0]))
        drawn.append((turn / 10, (math.sqrt(np.linalg.det(matrix)) - 1) / 0.2, right / 0.1, down / 0.1))
    shares = np.array(drawn)
    assert shares.min(axis=0) == pytest.approx(-1, abs=0.03)
    assert shares.max(axis=0) == pytest.approx(1, abs=0.03)
    assert shares.mean(axis=0) == pytest.approx(0, abs=0.1)
    assert np.abs(np.corrcoef(shares.T) - np.eye(4)).max() < 0.2


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


@pytest.mark.parametrize(("in_view", "centre"), [(False, (269.5, 139.5)), (True, (149.5, 49.5))])
def test_flips_turns_and_scales_leave_the_centre_of_the_crop_or_of_the_view_where_it_is(in_view, centre):
    base = plain((100, 300), crop=(40, 60, 240, 480))(FRAME)
    changes = Augmentation(flip=0.5, rotation=10, scale=0.2, in_view=in_view)
    there = np.array(centre) if in_view else base.to_network(centre)
    for seed in range(20):
        matrix = augmented_geometry(base, changes, np.random.default_rng(seed)).matrix @ np.linalg.inv(base.matrix)
        assert apply_matrix(matrix, there) == pytest.approx(there)


def test_one_setting_does_not_change_the_draw_of_another():
    base = plain((200, 480))(FRAME)
    for seed in range(5):
        alone, together = (
            augmented_geometry(base, augmentation, np.random.default_rng(seed)).to_network([239.5, 139.5])
            for augmentation in (Augmentation(shift_x=0.1), Augmentation(shift_x=0.1, rotation=9, scale=0.2, flip=1))
        )
        assert alone == pytest.approx(together)


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


def test_whether_geometry_and_colours_change_and_a_blur_comes_is_drawn_apart_and_so_is_the_lift():
    """Else the samples that are spared one change would be those that are spared the others."""
    base = plain((200, 480))(FRAME)
    half = Augmentation(
        rotation=10, geometric_probability=0.5, blur=0.5, blur_sigma=2.0, lift=0.2, colour_probability=0.5
    )
    lifted = half.model_copy(update={"colour_probability": 1.0})
    found = []
    for seed in range(400):
        one, other = (drawn_change(base, given, np.random.default_rng([7, seed])) for given in (half, lifted))
        still = np.array_equal(one.geometry.matrix, base.matrix)
        found.append((still, one.kernel is None, one.colours is None, other.colours[0, 4]))
    assert np.abs(np.corrcoef(np.array(found, dtype=float).T) - np.eye(4)).max() < 0.2


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


def test_settings_newer_than_the_first_records_are_dumped_only_where_they_do_something():
    first = {"flip", "rotation", "shift_x", "shift_y", "scale", "brightness", "contrast", "saturation", "hue"}
    assert set(Augmentation().model_dump()) == first
    for changed in NEW_SETTINGS:
        new = Augmentation(**changed)
        assert new.model_dump() == Augmentation().model_dump() | changed
        assert Augmentation.model_validate(new.model_dump(mode="json")) == new
