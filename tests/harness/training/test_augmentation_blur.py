"""Blurs keep brightness and place, and come in the kinds, sizes and shares that were asked for."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.meta import Augmentation
from harness.training.augmentation import blurred, gaussian_kernel, sample_blur, streak_kernel


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


def test_streaks_lie_in_every_direction():
    slants = []
    for seed in range(200):
        kernel = sample_blur(Augmentation(blur=1.0, blur_length=20.0), np.random.default_rng(seed))
        offsets = np.arange(len(kernel)) - len(kernel) // 2
        down, across, both = (
            float((kernel * product).sum())
            for product in (offsets[:, None] ** 2, offsets**2, offsets[:, None] * offsets)
        )
        slants.append((down > across, both > 0))
    # Steep or flat, and rising or falling.
    assert np.mean(slants, axis=0) == pytest.approx(0.5, abs=0.15)


def test_a_blur_needs_how_often_and_how_much():
    for half in ({"blur": 0.5}, {"blur_sigma": 1.0}, {"blur_length": 3.0}):
        with pytest.raises(ValueError, match="give both or neither"):
            Augmentation(**half)
