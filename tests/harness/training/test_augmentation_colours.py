"""Changes of brightness, contrast, saturation, hue and lift are those that were asked for, and as frequent."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from detectors.meta import Augmentation
from harness.training.augmentation import recoloured, sample_colour_matrix
from tests.harness.training.augmentations import picture


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


def test_colours_change_in_the_share_of_the_samples_that_is_asked_for():
    rare = Augmentation(brightness=0.3, colour_probability=0.2)
    changed = [sample_colour_matrix(rare, np.random.default_rng(seed)) is not None for seed in range(500)]
    assert 0.15 < np.mean(changed) < 0.25
