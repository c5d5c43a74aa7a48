"""Coverage and family-wise error of the whole procedure on simulated counts.

Both arms are drawn from one distribution, so the true difference is exactly 0, whatever the seeds and clips vary by.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import pytest

from harness.report.estimates import Estimates, f1_estimates
from harness.report.statistics import Comparison, compare, half_widths, holm, p_value

NOMINAL = 0.95


@dataclass(frozen=True)
class Mix:
    """Standard deviations, in logits of a lane being found, of an arm's seeds, of its clips, and of both together."""

    seed: float
    clip: float
    interaction: float


MIXES = {
    "seeds dominate": Mix(0.10, 0.05, 0.05),
    "clips dominate": Mix(0.01, 0.60, 0.05),
    "interactions dominate": Mix(0.01, 0.05, 0.60),
    "all alike": Mix(0.05, 0.30, 0.30),
}
GRID = list(itertools.product((3, 5), (60, 500), MIXES))


def clip_sizes(rng: np.random.Generator, clips: int) -> np.ndarray:
    """Labels a clip: 60 clips have heavy tails, 500 are nearly of one size."""
    return 10 + np.floor(20 * rng.pareto(2.5, clips)).astype(int) if clips == 60 else rng.poisson(80, clips) + 1


def arm(rng: np.random.Generator, labels: np.ndarray, difficulty: np.ndarray, seeds: int, mix: Mix) -> Estimates:
    """F1 of one arm over fresh seeds: its own taste for clips, its own luck of seeds and of both."""
    clips = len(labels)
    logits = (
        difficulty
        + mix.clip * rng.normal(size=clips)
        + mix.seed * rng.normal(size=(seeds, 1))
        + mix.interaction * rng.normal(size=(seeds, clips))
    )
    found = rng.binomial(labels, 1 / (1 + np.exp(-logits)))
    estimates = f1_estimates(found, labels, found + rng.poisson(0.2 * labels, found.shape))
    assert estimates is not None
    return estimates


def null_rows(rng: np.random.Generator, seeds: int, clips: int, mix: Mix, rows: int) -> list[Comparison]:
    """Comparisons of several rows, scored on the same clips, none of which has a true gain."""
    labels = clip_sizes(rng, clips)
    difficulty = 1.5 + 0.8 * rng.normal(size=clips)
    return [
        compare(arm(rng, labels, difficulty, seeds, mix), arm(rng, labels, difficulty, seeds, mix)) for _ in range(rows)
    ]


def coverage(seeds: int, clips: int, mix: Mix, matrices: int, seed: int) -> float:
    rng = np.random.default_rng(seed)
    covered = 0
    for _ in range(matrices):
        (row,) = null_rows(rng, seeds, clips, mix, 1)
        half = half_widths(row)
        assert half is not None
        covered += abs(row.mean) <= half.total
    return covered / matrices


def monte_carlo_error(share: float, matrices: int) -> float:
    """Three standard errors of a share."""
    return 3 * math.sqrt(share * (1 - share) / matrices)


def test_intervals_cover_with_three_seeds_in_a_small_simulation() -> None:
    for name in ("seeds dominate", "clips dominate"):
        found = coverage(3, 60, MIXES[name], 250, seed=1)
        assert found >= 0.93 - monte_carlo_error(NOMINAL, 250), name


def test_a_t_test_over_seeds_alone_would_not_have_covered() -> None:
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(150):
        (row,) = null_rows(rng, 5, 60, MIXES["clips dominate"], 1)
        half = half_widths(row)
        assert half is not None
        assert half.seed is not None
        covered += abs(row.mean) <= half.seed
    assert covered / 150 < 0.8


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "clips", "name"), GRID)
def test_intervals_cover_between_93_and_98_percent(seeds: int, clips: int, name: str) -> None:
    matrices = 1000
    found = coverage(seeds, clips, MIXES[name], matrices, seed=100 + seeds + clips)
    assert 0.93 - monte_carlo_error(0.93, matrices) <= found <= 0.98 + monte_carlo_error(0.98, matrices)


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "clips", "name"), GRID)
def test_family_wise_error_of_eight_null_rows_is_at_most_five_percent(seeds: int, clips: int, name: str) -> None:
    matrices = 120
    rng = np.random.default_rng(200 + seeds + clips)
    wrong = 0
    for _ in range(matrices):
        p_values = [p_value(row) for row in null_rows(rng, seeds, clips, MIXES[name], 8)]
        wrong += min(holm([p for p in p_values if p is not None])) < 0.05
    assert wrong / matrices <= 0.05 + monte_carlo_error(0.05, matrices)
