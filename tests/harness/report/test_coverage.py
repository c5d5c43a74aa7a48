"""Coverage, family-wise error and power of the whole procedure, on simulated test sets whose truth is known.

docs/statistics.md has the same at full size. Bounds leave room for three Monte-Carlo standard errors.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from typer.testing import CliRunner

from harness.report.simulation.__main__ import app
from harness.report.simulation.drawn import (
    CLIPS_ALONE,
    FEW_CLIPS,
    GRID,
    OF_60,
    OF_500,
    ONE_SEED,
    TUSIMPLE,
    UNEVEN_CLIPS,
    Setting,
    draw,
)
from harness.report.simulation.measured import REGIMES, ROWS, Regime, Share, measure, normal_rows, power, predicted
from harness.report.simulation.rivals import BY_NUMBER
from harness.report.summary import covariance_of

SEEDS_DOMINATE = Setting(3, 60, "uneven", OF_60[0])
CLIPS_DOMINATE = Setting(5, 60, "uneven", OF_60[1])


def lies(share: Share, low: float, high: float) -> bool:
    """Whether a share is within bounds, three standard errors of it allowed."""
    return low - 3 * share.error <= share.value <= high + 3 * share.error


def name_of(setting: Setting) -> str:
    return f"{setting.seeds} seeds, {setting.clips} {setting.sizes} clips, {setting.mix.name}"


def test_simulated_rows_have_no_true_difference_and_vary_by_what_they_should() -> None:
    for setting, dominant in ((SEEDS_DOMINATE, 0), (CLIPS_DOMINATE, 1), (Setting(3, 60, "uneven", OF_60[2]), 2)):
        found = measure(setting, 30, seed=4)
        assert int(np.argmax(found.variance_shares)) == dominant
    rng = np.random.default_rng(7)
    rows = [row for _ in range(30) for row in draw(rng, SEEDS_DOMINATE, ROWS)]
    means = np.array([row.comparison.mean for row in rows])
    assert abs(means.mean()) < 4 * means.std() / math.sqrt(len(means))


def test_a_gain_of_the_simulation_moves_the_difference_up() -> None:
    (row,) = draw(np.random.default_rng(1), Setting(3, 500, "even", OF_500[1]), 1, gain=1.0)
    assert row.comparison.mean > 0.05


def test_intervals_cover_with_three_seeds_in_a_small_simulation() -> None:
    for setting in (SEEDS_DOMINATE, CLIPS_DOMINATE):
        found = measure(setting, 60, seed=1)
        assert lies(found.ours.coverage, 0.93, 0.98), name_of(setting)


def test_the_usual_recipes_would_not_have_covered() -> None:
    by_seeds = measure(SEEDS_DOMINATE, 60, seed=2, rivals=60).rivals
    assert by_seeds["percentile bootstrap, seeds and clips crossed"].coverage.value < 0.9
    by_clips = measure(Setting(5, 60, "uneven", CLIPS_ALONE), 60, seed=2, rivals=60).rivals
    assert by_clips["paired t over seeds"].coverage.value < 0.8
    assert by_clips["paired t over seeds"].family_error.value > 0.2


def test_to_count_all_clips_alike_would_not_have_covered_on_clips_of_tusimples_sizes() -> None:
    setting = Setting(3, len(TUSIMPLE), "of TuSimple's sizes", CLIPS_ALONE)
    found = measure(setting, 60, seed=3, rivals=60)
    assert found.rivals[BY_NUMBER].coverage.value < 0.91
    assert lies(found.ours.coverage, 0.93, 0.98)


def test_the_command_prints_the_same_table_for_the_same_seed() -> None:
    texts = [
        CliRunner().invoke(app, ["prediction", "--matrices", "16", "--seed", str(seed)]).stdout for seed in (1, 1, 2)
    ]
    assert texts[0] == texts[1] != texts[2]
    assert "| detectors" in texts[0]
    assert len(texts[0].splitlines()) == 2 + len(REGIMES) + 1


@pytest.mark.slow
@pytest.mark.parametrize("setting", GRID, ids=name_of)
def test_intervals_cover_between_93_and_98_percent_and_families_err_in_at_most_5(setting: Setting) -> None:
    matrices = 250
    found = measure(setting, matrices, seed=100).ours
    assert lies(found.coverage, 0.93, 0.98)
    assert found.family_error.value <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / matrices)


@pytest.mark.slow
@pytest.mark.parametrize("setting", FEW_CLIPS, ids=name_of)
def test_intervals_of_scenarios_with_few_clips_cover_at_least_93_percent(setting: Setting) -> None:
    assert lies(measure(setting, 200, seed=101).ours.coverage, 0.93, 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("setting", [setting for setting in UNEVEN_CLIPS if setting.clips == 98], ids=name_of)
def test_intervals_of_very_uneven_clips_cover_and_their_families_err_in_at_most_5_percent(setting: Setting) -> None:
    matrices = 250
    found = measure(setting, matrices, seed=105).ours
    assert lies(found.coverage, 0.93, 0.99)
    assert found.family_error.value <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / matrices)


@pytest.mark.slow
@pytest.mark.parametrize("setting", [setting for setting in ONE_SEED if setting.clips >= 60], ids=name_of)
@pytest.mark.parametrize("gain", [0.0, 0.3])
def test_the_clip_interval_of_one_seed_covers_what_that_seeds_networks_score(setting: Setting, gain: float) -> None:
    assert lies(measure(setting, 250, seed=102, gain=gain).ours.coverage, 0.93, 0.98)


@pytest.mark.slow
@pytest.mark.parametrize("setting", [setting for setting in GRID if setting.clips == 60], ids=name_of)
def test_the_detectable_difference_is_seen_about_four_times_in_five(setting: Setting) -> None:
    assert lies(power(setting, 200, seed=103).separated, 0.75, 0.86)


def test_rows_of_a_regime_vary_by_1_and_by_their_seeds_as_much_as_it_says() -> None:
    rng = np.random.default_rng(8)
    for by_seeds, by_both in ((0.5, 0.0), (0.95, 0.0), (0.4, 0.3)):
        rows = [
            normal_rows(rng, np.zeros(1), by_seeds=by_seeds, by_both=by_both, seeds=3, clips=100)[0]
            for _ in range(2000)
        ]
        assert np.var([row.mean for row in rows]) == pytest.approx(1.0, abs=0.1)
        assert np.mean([row.seed_variance for row in rows]) == pytest.approx(by_seeds + by_both, abs=0.06)
        assert np.mean([row.clip_variance for row in rows]) == pytest.approx(1 - by_seeds, abs=0.03)
        assert np.mean([row.interaction_variance for row in rows]) == pytest.approx(by_both, abs=0.03)


def test_what_seeds_do_to_single_clips_counts_once_in_a_summary() -> None:
    """The diagonal of Sigma is the variance of a row's difference: here 1, and 1.3 if V_seed and V_clip both had it."""
    rng = np.random.default_rng(9)
    rows = [normal_rows(rng, np.zeros(1), by_seeds=0.4, by_both=0.3, seeds=3, clips=100) for _ in range(2000)]
    assert np.mean([covariance_of(row)[0, 0] for row in rows]) == pytest.approx(1.0, abs=0.12)


def test_the_prediction_interval_of_five_detectors_is_too_short_where_seeds_are_nearly_all() -> None:
    assert predicted(Regime(0.95, 0.0, 5, 1.0), 600, seed=6).coverage.value < 0.92


PREDICTION_COVERS = {
    (0.5, 5): (0.925, 0.955),
    (0.5, 8): (0.925, 0.96),
    (0.5, 12): (0.935, 0.965),
    (0.95, 5): (0.875, 0.93),
    (0.95, 8): (0.905, 0.95),
    (0.95, 12): (0.93, 0.97),
    (0.4, 5): (0.87, 0.96),
    (0.4, 8): (0.88, 0.97),
    (0.4, 12): (0.91, 0.98),
}
"""Between which shares it does, by the share of variance that is from seeds and by detectors, whatever lies between these."""


@pytest.mark.slow
@pytest.mark.parametrize("regime", REGIMES, ids=str)
def test_a_new_detectors_gain_lies_in_the_prediction_interval_as_often_as_is_said(regime: Regime) -> None:
    found = predicted(regime, 1000, seed=104)
    assert lies(found.coverage, *PREDICTION_COVERS[regime.by_seeds, regime.detectors])
    assert lies(found.improves, 0.0, 0.035 if regime.by_seeds > 0.5 else 0.025)
