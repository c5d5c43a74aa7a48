from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from detectors.parts.heat_maps import gaussian_peaks, heat_loss, local_maxima, probabilities


def test_a_peak_falls_off_like_a_gaussian_over_its_radius() -> None:
    peaks = gaussian_peaks(np.array([[7, 4]]), np.array([3]), (10, 20))
    assert peaks.shape == (10, 20)
    assert peaks.dtype == np.float32
    for y in range(10):
        for x in range(20):
            near = max(abs(x - 7), abs(y - 4)) <= 3
            expected = math.exp(-((x - 7) ** 2 + (y - 4) ** 2) / (2 * (7 / 6) ** 2)) if near else 0.0
            assert peaks[y, x] == pytest.approx(expected, rel=1e-6)


def test_where_peaks_meet_the_higher_counts_and_none_gives_an_empty_map() -> None:
    cells, radii = np.array([[2, 2], [5, 2], [19, 9]]), np.array([4, 1, 6])
    alone = [gaussian_peaks(cells[[index]], radii[[index]], (10, 20)) for index in range(3)]
    np.testing.assert_array_equal(gaussian_peaks(cells, radii, (10, 20)), np.max(alone, axis=0))
    empty = gaussian_peaks(np.empty((0, 2), dtype=np.int64), np.empty(0, dtype=np.int64), (10, 20))
    assert empty.shape == (10, 20)
    assert not empty.any()


def test_the_loss_is_cornernets_over_the_peaks_of_the_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(2, 6, 9, generator=generator)
    wanted = torch.from_numpy(
        np.stack(
            [
                gaussian_peaks(np.array([[2, 2], [7, 3]]), np.array([2, 2]), (6, 9)),
                gaussian_peaks(np.array([[0, 5]]), np.array([3]), (6, 9)),
            ]
        )
    )
    total = 0.0
    for logit, value in zip(logits.flatten().tolist(), wanted.flatten().tolist(), strict=True):
        share = min(max(1 / (1 + math.exp(-logit)), 1e-4), 1 - 1e-4)
        if value == 1:
            total -= (1 - share) ** 2 * math.log(share)
        else:
            total -= (1 - value) ** 4 * share**2 * math.log(1 - share)
    assert float(heat_loss(logits, wanted)) == pytest.approx(total / 3, rel=1e-5)


@pytest.mark.parametrize("level", [-1e4, -3.0, 0.0, 1e4])
def test_a_batch_without_peaks_teaches_that_there_are_none(level: float) -> None:
    logits = torch.full((2, 4, 5), level, requires_grad=True)
    loss = heat_loss(logits, torch.zeros(2, 4, 5))
    share = min(max(1 / (1 + math.exp(-level)), 1e-4), 1 - 1e-4) if level > -700 else 1e-4
    assert float(loss.detach()) == pytest.approx(-40 * share**2 * math.log(1 - share), rel=1e-3)
    loss.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_probabilities_stay_off_certainty() -> None:
    assert probabilities(torch.tensor([-1e3, 0.0, 1e3])).tolist() == pytest.approx([1e-4, 0.5, 1 - 1e-4])


def test_a_local_maximum_is_exceeded_by_none_of_its_neighbours() -> None:
    maps = torch.zeros(2, 5, 6)
    maps[0, 1, 1], maps[0, 2, 2], maps[0, 4, 5], maps[1, 0, 0] = 3.0, 2.0, 1.0, -1.0
    found = local_maxima(maps)
    for image, y, x in np.ndindex(*maps.shape):
        around = maps[image, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
        assert bool(found[image, y, x]) == bool(maps[image, y, x] == around.max())
