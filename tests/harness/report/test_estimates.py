"""Scores and influences against hand-made sums and numerical derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.report.estimates import (
    Estimates,
    clrnet_f1_estimates,
    difference,
    f1_estimates,
    mean_estimates,
    mean_f1_estimates,
    mean_over,
    share_of,
)

RNG = np.random.default_rng(7)


def sums(seeds: int = 3, clips: int = 11) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    labels = RNG.integers(1, 30, clips)
    true_positives = RNG.binomial(labels, 0.8, (seeds, clips))
    return true_positives, labels, true_positives + RNG.poisson(2, (seeds, clips))


def test_f1_of_two_clips_by_hand() -> None:
    # Clip 1: 4 labels, 3 predictions, 3 right. Clip 2: 2 labels, 3 predictions, 1 right. F1 = 2 * 4 / (6 + 6) = 2/3.
    estimates = f1_estimates(np.array([[3, 1]]), np.array([4, 2]), np.array([[3, 3]]), np.array([1, 1]))
    assert estimates is not None
    assert estimates.values == pytest.approx([2 / 3])
    # [2 * 3 - 2/3 * 7] / 12 = 1/9 and [2 * 1 - 2/3 * 5] / 12 = -1/9.
    assert estimates.influence == pytest.approx(np.array([[1 / 9, -1 / 9]]))


def test_f1_without_labels_is_undefined_and_without_predictions_zero() -> None:
    assert f1_estimates(np.zeros((2, 3)), np.zeros(3), np.ones((2, 3)), np.ones(3)) is None
    nothing_found = f1_estimates(np.zeros((2, 3)), np.ones(3), np.zeros((2, 3)), np.ones(3))
    assert nothing_found is not None
    assert nothing_found.values.tolist() == [0, 0]


@given(st.integers(0, 2**32 - 1))
def test_influences_sum_to_zero(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 9, 12)
    labels[0] += 1
    true_positives = rng.binomial(labels, 0.7, (2, 12))
    estimates = f1_estimates(true_positives, labels, true_positives + rng.poisson(1, (2, 12)), np.ones(12))
    assert estimates is not None
    assert estimates.influence.sum(axis=1) == pytest.approx(0, abs=1e-12)
    assert mean_estimates(true_positives, labels).influence.sum(axis=1) == pytest.approx(0, abs=1e-12)


def test_influence_is_the_derivative_by_a_clips_weight() -> None:
    true_positives, labels, predictions = sums()

    def f1(weights: np.ndarray) -> np.ndarray:
        return 2 * (true_positives @ weights) / ((predictions + labels) @ weights)

    estimates = f1_estimates(true_positives, labels, predictions, np.ones(len(labels)))
    assert estimates is not None
    step = 1e-6
    for clip in range(len(labels)):
        up, down = np.ones(len(labels)), np.ones(len(labels))
        up[clip], down[clip] = 1 + step, 1 - step
        assert estimates.influence[:, clip] == pytest.approx((f1(up) - f1(down)) / (2 * step), abs=1e-8)


def test_mf1_is_the_mean_of_the_ten_f1_and_of_their_influences() -> None:
    labels = RNG.integers(1, 30, 8)
    true_positives = np.sort(RNG.binomial(labels[None, :, None], 0.7, (2, 8, 10)), axis=2)[:, :, ::-1]
    predictions = true_positives[:, :, 0] + 1
    ten = [f1_estimates(true_positives[:, :, index], labels, predictions, np.ones(8)) for index in range(10)]
    together = mean_f1_estimates(true_positives, labels, predictions, np.ones(8))
    assert together is not None
    assert together.values == pytest.approx(np.mean([part.values for part in ten if part], axis=0))
    assert together.influence == pytest.approx(np.mean([part.influence for part in ten if part], axis=0))


def test_mean_over_images_and_its_paired_influence_follow_the_images() -> None:
    # d_si: two clips with images (1, 3) and (2,); D = 2; u = (1 - 2 + 3 - 2) / 3 = 0 and (2 - 2) / 3 = 0.
    flat = mean_estimates(np.array([[4, 2]]), np.array([2, 1]))
    assert flat.values == pytest.approx([2.0])
    assert flat.influence == pytest.approx(np.array([[0.0, 0.0]]))
    tilted = mean_estimates(np.array([[6, 0]]), np.array([2, 1]))
    assert tilted.influence == pytest.approx(np.array([[2 / 3, -2 / 3]]))
    assert difference(tilted, flat).influence == pytest.approx(np.array([[2 / 3, -2 / 3]]))


def test_clrnets_tusimple_f1_by_hand_and_by_derivative() -> None:
    images = RNG.integers(1, 9, 10)
    wrong, missed = RNG.uniform(0, 0.3, (2, 10)) * images, RNG.uniform(0, 0.2, (2, 10)) * images

    def f1(weights: np.ndarray) -> np.ndarray:
        share = 1 - (wrong @ weights) / (images @ weights)
        return 2 * share / (share + (missed @ weights) / (images @ weights) + 1)

    estimates = clrnet_f1_estimates(mean_estimates(wrong, images), mean_estimates(missed, images))
    assert estimates.values == pytest.approx(f1(np.ones(10)))
    for clip in range(10):
        up, down = np.ones(10), np.ones(10)
        up[clip], down[clip] = 1 + 1e-6, 1 - 1e-6
        assert estimates.influence[:, clip] == pytest.approx((f1(up) - f1(down)) / 2e-6, abs=1e-8)
    # FP = .2, FN = .1: 2 * .8 / (.8 + .1 + 1) = 16/19, which is not the harmonic mean of .8 and .9.
    by_hand = clrnet_f1_estimates(
        mean_estimates(np.array([[0.2]]), np.array([1])), mean_estimates(np.array([[0.1]]), np.array([1]))
    )
    assert by_hand.values == pytest.approx([16 / 19])


def test_another_unit_scales_the_score_and_its_influences_alike() -> None:
    """The interval of a count (cross FP) is that of its mean times the images."""
    mean = mean_estimates(np.array([[6, 0]]), np.array([2, 1]))
    count = mean.scaled(3.0)
    assert count.values == pytest.approx([6.0])
    assert count.influence == pytest.approx(np.array([[2.0, -2.0]]))


def test_the_influence_of_a_share_is_its_derivative_by_a_clips_weight() -> None:
    rng = np.random.default_rng(4)
    labels, images = rng.integers(2, 9, 12), np.full(12, 3)
    clean, foggy = (rng.integers(0, labels + 1, (2, 12)) for _ in range(2))
    predictions = labels + rng.integers(0, 3, (2, 12))

    def estimates(found: Any, weights: Any) -> Estimates:
        made = f1_estimates(found * weights, labels * weights, predictions * weights, images)
        assert made is not None
        return made

    def share(weights: Any) -> Estimates:
        made = share_of(mean_over([estimates(foggy, weights), estimates(clean, weights)]), estimates(clean, weights))
        assert made is not None
        return made

    step, whole = 1e-6, share(np.ones(12))
    for clip in range(12):
        moved = share(np.where(np.arange(12) == clip, 1 + step, 1.0))
        assert (moved.values - whole.values) / step == pytest.approx(whole.influence[:, clip], rel=1e-4, abs=1e-7)


def test_a_share_of_nothing_is_no_share() -> None:
    nothing = Estimates(np.zeros(2), np.zeros((2, 3)), np.ones(3))
    assert share_of(nothing, nothing) is None
    one_seed_of_two = Estimates(np.array([0.5, 0.0]), np.zeros((2, 3)), np.ones(3))
    assert share_of(one_seed_of_two, one_seed_of_two) is None
