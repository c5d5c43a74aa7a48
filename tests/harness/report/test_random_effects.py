"""Random effects against a published meta-analysis and against closed forms."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import linalg, stats

from harness.report.random_effects import averaged_within, clip_covariance, random_effects

BCG = np.array(
    [
        [4, 119, 11, 128],
        [6, 300, 29, 274],
        [3, 228, 11, 209],
        [62, 13536, 248, 12619],
        [33, 5036, 47, 5761],
        [180, 1361, 372, 1079],
        [8, 2537, 10, 619],
        [505, 87886, 499, 87892],
        [29, 7470, 45, 7232],
        [17, 1699, 65, 1600],
        [186, 50448, 141, 27197],
        [5, 2493, 3, 2338],
        [27, 16886, 29, 17825],
    ],
    dtype=float,
)
"""Thirteen trials of the BCG vaccine (Colditz et al. 1994): cases and others among vaccinated and not vaccinated."""


def test_the_bcg_trials_give_the_published_reml_and_hartung_knapp_figures() -> None:
    ill, well, control_ill, control_well = BCG.T
    ratios = np.log(ill / (ill + well)) - np.log(control_ill / (control_ill + control_well))
    variances = 1 / ill - 1 / (ill + well) + 1 / control_ill - 1 / (control_ill + control_well)
    result = random_effects(ratios, np.diag(variances))
    # As R's metafor gives them for these data: rma(yi, vi, data = dat.bcg, test = "knha").
    assert result.between_variance == pytest.approx(0.313243258137274, rel=1e-4)
    assert result.mean == pytest.approx(-0.714532342158211, abs=1e-5)
    half = stats.t.ppf(0.975, 12) * result.standard_error
    assert (result.mean - half, result.mean + half) == pytest.approx((-1.10844371368566, -0.320620970630764), abs=1e-5)
    prediction = stats.t.ppf(0.975, 12) * math.sqrt(result.between_variance + result.standard_error**2)
    assert (result.low, result.high) == pytest.approx((result.mean - prediction, result.mean + prediction))


def test_equal_variances_have_a_closed_form() -> None:
    differences = np.array([0.1, 0.5, -0.2, 0.4, 0.9])
    result = random_effects(differences, 0.01 * np.eye(5))
    assert result.mean == pytest.approx(differences.mean())
    assert result.between_variance == pytest.approx(differences.var(ddof=1) - 0.01, rel=1e-5)
    assert result.standard_error == pytest.approx(math.sqrt(differences.var(ddof=1) / 5), rel=1e-6)


def test_rows_that_differ_less_than_their_own_noise_have_no_variance_between_them() -> None:
    result = random_effects(np.array([0.10, 0.11, 0.09, 0.10]), 0.04 * np.eye(4))
    assert result.between_variance == 0.0
    assert result.mean == pytest.approx(0.10)


def test_shared_clips_are_not_counted_as_independent_evidence() -> None:
    # Rows 1 and 2 share all of their clip noise, so together they weigh as one row, and row 3 as much as both.
    shared = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]) + 1e-6 * np.eye(3)
    result = random_effects(np.array([0.2, 0.2, 0.8]), shared)
    assert result.between_variance == 0.0
    assert result.mean == pytest.approx(0.5, abs=1e-3)


def test_rows_without_any_variance_of_their_own_are_summarised_too() -> None:
    result = random_effects(np.array([0.1, 0.2, 0.3]), np.zeros((3, 3)))
    assert result.mean == pytest.approx(0.2)
    assert result.standard_error == pytest.approx(0.1 / math.sqrt(3), rel=1e-4)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("rows", [2, 5])
@pytest.mark.parametrize("gain", [0.0, 0.01])
def test_rows_among_and_in_which_nothing_varies_show_their_gain_without_an_error(rows: int, gain: float) -> None:
    result = random_effects(np.full(rows, gain), np.zeros((rows, rows)))
    assert (result.mean, result.low, result.high) == pytest.approx((gain, gain, gain))
    assert (result.rows, result.standard_error, result.between_variance) == (rows, 0.0, 0.0)


def test_rows_that_differ_by_rounding_alone_do_not_differ() -> None:
    result = random_effects(np.array([0.1 + 0.2, 0.3, 0.3]), np.zeros((3, 3)))
    assert (result.mean, result.standard_error, result.between_variance) == (pytest.approx(0.3), 0.0, 0.0)
    assert result.low == result.mean == result.high


def test_clip_covariance_of_two_rows_by_hand() -> None:
    covariance = clip_covariance([np.array([0.1, -0.1]), np.array([0.2, -0.2])])
    assert covariance == pytest.approx(np.array([[0.04, 0.08], [0.08, 0.16]]))


def test_backbones_are_averaged_within_a_detector_with_their_covariance() -> None:
    mean, covariance = averaged_within(np.array([0.1, 0.3, 0.5]), np.diag([4.0, 8.0, 1.0]), ["a", "a", "b"])
    assert mean == pytest.approx([0.2, 0.5])
    assert covariance == pytest.approx(np.diag([3.0, 1.0]))


def test_without_variance_between_rows_the_error_is_the_spread_of_the_rows_however_small() -> None:
    """q isn't raised to 1: rows that agree better than their noise says keep the small error that they show."""
    differences = np.array([0.10, 0.11, 0.09, 0.10])
    result = random_effects(differences, 0.04 * np.eye(4))
    assert result.standard_error == pytest.approx(math.sqrt(differences.var(ddof=1) / 4), rel=1e-6)
    assert result.high - result.mean == pytest.approx(stats.t.ppf(0.975, 3) * result.standard_error, rel=1e-6)


def test_correlated_rows_give_what_the_likelihood_of_contrasts_gives() -> None:
    """REML by its definition: the normal likelihood of k - 1 contrasts that are free of the mean, on a fine grid of tau^2."""
    rng = np.random.default_rng(4)
    loading = rng.normal(size=(6, 3))
    covariance = 0.2 * loading @ loading.T + np.diag(rng.uniform(0.1, 0.4, 6))
    differences = rng.multivariate_normal(np.full(6, 0.5), covariance + 0.8 * np.eye(6))
    contrasts = linalg.null_space(np.ones((1, 6)))
    grid = np.linspace(0, 5, 5001)
    found = [
        stats.multivariate_normal.logpdf(
            contrasts.T @ differences, cov=contrasts.T @ (covariance + between * np.eye(6)) @ contrasts
        )
        for between in grid
    ]
    result = random_effects(differences, covariance)
    assert 0.1 < result.between_variance < 4.9
    assert result.between_variance == pytest.approx(grid[int(np.argmax(found))], abs=1e-3)
    weights = np.linalg.inv(covariance + result.between_variance * np.eye(6))
    ones = np.ones(6)
    mean = ones @ weights @ differences / (ones @ weights @ ones)
    q = (differences - mean) @ weights @ (differences - mean) / 5
    squared_error = q / (ones @ weights @ ones)
    assert result.mean == pytest.approx(mean)
    half = stats.t.ppf(0.975, 5) * math.sqrt(result.between_variance + squared_error)
    assert (result.low, result.high) == pytest.approx((mean - half, mean + half))


def test_variance_between_rows_may_exceed_all_that_the_rows_show_unweighted() -> None:
    """Two sure rows far apart among unsure ones: tau^2 is above the variance of the rows and above their mean noise."""
    differences, noise = np.array([-1.0, 1.0, 0.0, 0.0, 0.0, 0.0]), np.diag([0.01, 0.01, 0.5, 0.5, 0.5, 0.5])
    contrasts = linalg.null_space(np.ones((1, 6)))
    grid = np.linspace(0, 2, 2001)
    found = [
        stats.multivariate_normal.logpdf(
            contrasts.T @ differences, cov=contrasts.T @ (noise + between * np.eye(6)) @ contrasts
        )
        for between in grid
    ]
    result = random_effects(differences, noise)
    assert result.between_variance > max(differences.var(ddof=1), noise.trace() / 6)
    assert result.between_variance == pytest.approx(grid[int(np.argmax(found))], abs=1e-3)


def test_a_thousand_rows_take_one_decomposition_and_no_inverse(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 1,000 rows an inverse at every step of the likelihood's search took most of the time of a whole leaderboard."""
    calls: list[str] = []
    for name in ("inv", "slogdet", "solve", "eigh"):
        real = getattr(np.linalg, name)

        def counted(*arguments: Any, name: str = name, real: Any = real) -> Any:
            calls.append(name)
            return real(*arguments)

        monkeypatch.setattr(np.linalg, name, counted)
    random_effects(np.array([0.1, 0.3, 0.2, 0.5]), np.diag([0.01, 0.02, 0.01, 0.03]) + 0.005)
    assert calls == ["eigh"]
