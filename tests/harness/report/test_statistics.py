"""Intervals, p-values, verdicts and power against closed forms, hand-made examples and resampling."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.report.estimates import Estimates, f1_estimates
from harness.report.how_to_read import HOW_TO_READ_GAINS
from harness.report.statistics import (
    Comparison,
    clip_quantile,
    compare,
    detectable_difference,
    effective_clips,
    half_widths,
    holm,
    p_value,
    pooled_half_width,
    seed_pool,
    t_quantile,
    variance,
    verdict,
    why_no_verdict,
)


def comparison(
    differences: list[float],
    *,
    clip_sd: float = 0.0,
    clips: int = 100,
    effective: float | None = None,
    interaction: float = 0.0,
) -> Comparison:
    """A comparison with given differences whose V_clip is clip_sd squared; without `effective` all clips are of one size."""
    signs = np.where(np.arange(clips) % 2, 1.0, -1.0)
    if clips % 2:
        signs[-1] = 0.0
    scale = clip_sd / math.sqrt(clips / (clips - 1) * float((signs**2).sum())) if clips > 1 else 0.0
    values = np.array(differences)
    return Comparison(
        differences=values,
        clip_influence=signs * scale,
        effective_clips=effective if effective is not None else float(clips),
        seed_variance=variance(values) / len(values) if len(values) > 1 else None,
        clip_variance=clip_sd**2 if clips > 1 else None,
        interaction_variance=interaction,
        correlation=None,
    )


def test_variances_of_two_seeds_and_two_clips_by_hand() -> None:
    method = Estimates(np.array([0.5, 0.7]), np.array([[0.03, -0.03], [0.01, -0.01]]), np.array([3, 1]))
    baseline = Estimates(np.array([0.4, 0.4]), np.zeros((2, 2)), np.array([3, 1]))
    result = compare(method, baseline)
    assert result.differences == pytest.approx([0.1, 0.3])
    assert result.mean == pytest.approx(0.2)
    assert result.seed_variance == pytest.approx(0.02 / 2)
    assert result.seed_sd == pytest.approx(math.sqrt(0.02))
    # Mean influences .02 and -.02: V_clip = 2/1 * (.0004 + .0004). Deviations .01 four times: V_int = 2 * .0004 / (2 * 1).
    assert result.clip_variance == pytest.approx(0.0016)
    assert result.interaction_variance == pytest.approx(0.0004)
    assert result.pure_clip_variance == pytest.approx(0.0012)
    # (3 + 1)^2 / (9 + 1).
    assert result.effective_clips == pytest.approx(1.6)


def test_interval_adds_squared_half_widths_of_seeds_and_clips() -> None:
    result = half_widths(comparison([0.1, 0.2, 0.6], clip_sd=0.05, interaction=0.0009))
    assert result is not None
    assert result.kind == "quadrature"
    seed = stats.t.ppf(0.975, 2) * math.sqrt(np.var([0.1, 0.2, 0.6], ddof=1) / 3)
    clip = stats.norm.ppf(0.975) * math.sqrt(0.0025 - 0.0009)
    assert result.total == pytest.approx(math.sqrt(seed**2 + clip**2))
    assert result.seed == pytest.approx(seed)
    assert result.clip == pytest.approx(stats.norm.ppf(0.975) * 0.05)


def test_without_clip_variance_interval_and_p_are_the_paired_t_tests() -> None:
    method, baseline = np.array([0.81, 0.83, 0.80, 0.84]), np.array([0.80, 0.81, 0.80, 0.82])
    expected = stats.ttest_rel(method, baseline)
    result = comparison((method - baseline).tolist())
    assert p_value(result) == pytest.approx(expected.pvalue, rel=1e-9)
    half = half_widths(result)
    assert half is not None
    interval = expected.confidence_interval(0.95)
    assert result.mean - half.total == pytest.approx(interval.low)
    assert result.mean + half.total == pytest.approx(interval.high)


def test_without_seed_variance_p_is_the_normal_one() -> None:
    assert p_value(comparison([0.1, 0.1, 0.1], clip_sd=0.05)) == pytest.approx(2 * stats.norm.sf(2.0), rel=1e-9)


def test_p_and_the_pooled_interval_leave_out_what_the_seeds_already_contain_of_the_clips() -> None:
    # sqrt(.0025 - .0009) = .04, so that .1 is 2.5 of it and not 2.
    still = comparison([0.1, 0.1, 0.1], clip_sd=0.05, interaction=0.0009)
    assert p_value(still) == pytest.approx(2 * stats.norm.sf(2.5), rel=1e-9)
    moving = comparison([0.0, 0.1, 0.2], clip_sd=0.05, interaction=0.0009)
    seed = stats.t.ppf(0.975, 2) * 0.1 / math.sqrt(3)
    expected = math.hypot(seed, stats.norm.ppf(0.975) * 0.04)
    assert pooled_half_width(moving, seed_pool([moving])) == pytest.approx(expected)


def test_under_fifty_clips_quantiles_are_students_with_one_degree_less_than_clips() -> None:
    assert p_value(comparison([0.1] * 3, clip_sd=0.05, clips=49)) == pytest.approx(2 * stats.t.sf(2.0, 48), rel=1e-9)
    assert p_value(comparison([0.1] * 3, clip_sd=0.05, clips=50)) == pytest.approx(2 * stats.norm.sf(2.0), rel=1e-9)


@pytest.mark.parametrize("clips", [2, 10, 49, 50, 419])
@pytest.mark.parametrize("images", [1, 7, 83])
def test_equal_clips_are_as_many_as_they_are(clips: int, images: int) -> None:
    assert effective_clips(np.full(clips, images)) == clips
    tail = 0.025
    old = stats.t.isf(tail, clips - 1) if clips < 50 else stats.norm.isf(tail)
    assert clip_quantile(tail, effective_clips(np.full(clips, images))) == pytest.approx(old, rel=1e-9)


def test_quantiles_of_uneven_clips_go_by_the_equal_ones_of_their_weight() -> None:
    # 80 clips of one image and 20 of 16: (80 + 320)^2 / (80 + 20 * 256) = 30.77.
    effective = effective_clips(np.array([1] * 80 + [16] * 20))
    assert effective == pytest.approx(160_000 / 5_200)
    quantile = stats.t.ppf(0.975, 160_000 / 5_200 - 1)
    uneven = comparison([0.1, 0.2, 0.6], clip_sd=0.05, clips=100, effective=effective)
    half = half_widths(uneven)
    assert half is not None
    assert half.clip == pytest.approx(quantile * 0.05)
    assert half.seed is not None
    assert half.total == pytest.approx(math.hypot(half.seed, quantile * 0.05))
    assert pooled_half_width(uneven, seed_pool([uneven])) == pytest.approx(half.total)
    one = half_widths(comparison([0.1], clip_sd=0.05, clips=100, effective=effective))
    assert one is not None
    assert one.total == pytest.approx(quantile * 0.05)
    same = comparison([0.1] * 3, clip_sd=0.05, clips=100, effective=effective)
    assert p_value(same) == pytest.approx(2 * stats.t.sf(2.0, 160_000 / 5_200 - 1), rel=1e-9)
    assert detectable_difference(same) == pytest.approx(0.05 * (quantile + stats.norm.ppf(0.8)), rel=1e-4)


def test_clips_of_the_weight_of_fewer_than_two_have_no_interval_no_verdict_and_no_power() -> None:
    uneven = comparison([0.1, 0.2, 0.3], clip_sd=0.05, clips=12, effective=1.94)
    assert half_widths(uneven) is None
    assert p_value(uneven) is None
    assert detectable_difference(uneven) is None
    assert pooled_half_width(uneven, seed_pool([uneven])) is None
    assert why_no_verdict(uneven) == "no verdict: 12 clips, as good as 1.9 equal ones"
    barely = half_widths(comparison([0.1, 0.2, 0.3], clip_sd=0.05, clips=12, effective=2.0))
    assert barely is not None
    assert barely.clip == pytest.approx(stats.t.ppf(0.975, 1) * 0.05)


def test_under_ten_clips_there_is_no_interval_no_verdict_and_no_power() -> None:
    few = comparison([0.1, 0.2, 0.3], clip_sd=0.05, clips=9)
    assert half_widths(few) is None
    assert p_value(few) is None
    assert detectable_difference(few) is None
    assert pooled_half_width(few, seed_pool([few])) is None
    assert why_no_verdict(few) == "no verdict: 9 clips"
    assert half_widths(comparison([0.1, 0.2, 0.3], clip_sd=0.05, clips=10)) is not None


def test_one_clip_tells_nothing_of_clips_and_keeps_the_difference_of_the_seeds() -> None:
    """As a scenario that was filmed on one road: shown, without an interval."""
    images, still = np.array([7]), np.zeros((3, 1))
    method = Estimates(np.array([0.5, 0.6, 0.7]), still, images)
    result = compare(method, Estimates(np.array([0.4, 0.4, 0.4]), still, images))
    assert (result.clips, result.clip_variance, result.interaction_variance) == (1, None, 0.0)
    assert (result.mean, result.seed_sd) == pytest.approx((0.2, 0.1))
    assert half_widths(result) is None
    assert (p_value(result), why_no_verdict(result)) == (None, "no verdict: 1 clip")


def test_one_seed_has_the_clip_interval_alone() -> None:
    one = comparison([0.1], clip_sd=0.05)
    half = half_widths(one)
    assert half is not None
    assert (half.kind, half.seed) == ("clip", None)
    assert half.total == half.clip == pytest.approx(1.959964 * 0.05, rel=1e-6)
    assert p_value(one) is None
    assert why_no_verdict(one) == "no verdict: 1 seed"
    assert pooled_half_width(one, seed_pool([one])) is None


def test_two_seeds_have_an_interval_but_no_verdict() -> None:
    two = comparison([0.1, 0.2], clip_sd=0.05)
    half = half_widths(two)
    assert half is not None
    assert half.kind == "quadrature"
    assert (p_value(two), why_no_verdict(two)) == (None, "no verdict: 2 seeds")


def test_zero_variance_means_p_of_one_or_no_verdict() -> None:
    assert p_value(comparison([0.0, 0.0, 0.0])) == 1.0
    assert p_value(comparison([0.1, 0.1, 0.1])) is None
    assert why_no_verdict(comparison([0.1, 0.1, 0.1])) == "no verdict: no variance"
    # Noise of the last digit would make the largest of all verdicts.
    assert why_no_verdict(comparison([0.1, 0.1, 0.1], clip_sd=1e-15)) == "no verdict: no variance"
    assert detectable_difference(comparison([0.0, 0.0, 0.0])) is None


def test_rounding_is_no_variance() -> None:
    assert variance(np.array([0.1 + 0.2, 0.3, 0.3])) == 0.0
    assert variance(np.array([0.3, 0.3, 0.3 + 5e-13])) == 0.0
    assert variance(np.array([0.3, 0.3, 0.3 + 1e-9])) > 0.0


def test_differences_and_clips_of_whatever_size_beyond_rounding_have_the_same_p() -> None:
    for unit in (1e-10, 1e-7, 1.0):
        assert p_value(comparison([2 * unit] * 3, clip_sd=unit)) == pytest.approx(2 * stats.norm.sf(2.0), rel=1e-9)


def test_overwhelming_differences_have_a_tiny_p_rather_than_an_error() -> None:
    p = p_value(comparison([10.0, 10.0, 10.0], clip_sd=1e-3))
    assert p is not None
    assert p == pytest.approx(1e-100)


@pytest.mark.parametrize("degrees", [1, 1.3, 2, 3, 4, 8.3, 9, 13, 30, 47.6, 48, 99])
def test_quantiles_are_right_as_far_out_as_p_values_are_looked_for(degrees: float) -> None:
    for tail in (0.4, 0.025, 1e-6, 1e-20, 1e-60, 5e-101):
        assert stats.t.logsf(t_quantile(tail, degrees), degrees) == pytest.approx(math.log(tail), rel=1e-6)


@given(
    st.lists(st.floats(-1, 1, allow_subnormal=False), min_size=3, max_size=6),
    st.floats(1e-3, 1),
    st.integers(10, 80),
    st.floats(0.2, 1),
)
def test_p_is_below_five_percent_exactly_where_the_interval_leaves_out_zero(
    differences: list[float], clip_sd: float, clips: int, share: float
) -> None:
    result = comparison(differences, clip_sd=clip_sd, clips=clips, effective=share * clips)
    half, p = half_widths(result), p_value(result)
    assert half is not None
    assert p is not None
    if abs(p - 0.05) > 1e-9:
        assert (p < 0.05) == (abs(result.mean) > half.total)


def test_holm_by_hand() -> None:
    # Sorted .01, .03, .04 times 3, 2, 1: .03, .06, .04, the last raised to .06.
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=8), st.floats(0.001, 0.5))
def test_holm_rejects_what_the_step_down_procedure_rejects(p_values: list[float], level: float) -> None:
    rejected = set()
    for step, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[index] * (len(p_values) - step) > level:
            break
        rejected.add(index)
    assert {index for index, p in enumerate(holm(p_values)) if p <= level} == rejected


def test_verdicts_follow_the_adjusted_p_and_the_sign() -> None:
    up, down = comparison([0.1, 0.2, 0.3]), comparison([-0.1, -0.2, -0.3])
    assert [verdict(up, 0.049), verdict(down, 0.049), verdict(up, 0.05)] == ["better", "worse", "not separated"]


def test_detectable_difference_is_the_t_tests_where_clips_add_nothing() -> None:
    result = comparison([0.0, 0.1, 0.2, 0.1])
    found = detectable_difference(result)
    assert found is not None
    noncentral = stats.nct(3, found / math.sqrt(result.seed_variance or 0))
    critical = stats.t.ppf(0.975, 3)
    assert noncentral.sf(critical) + noncentral.cdf(-critical) == pytest.approx(0.8, abs=1e-3)


def test_detectable_difference_is_the_z_tests_where_seeds_add_nothing() -> None:
    found = detectable_difference(comparison([0.1, 0.1, 0.1], clip_sd=0.02))
    assert found == pytest.approx(0.02 * (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)), rel=1e-4)


def test_detectable_difference_is_found_in_four_of_five_simulations() -> None:
    seed_sd, clip_sd, seeds = 0.02, 0.01, 4
    offsets = np.array([-1.0, 1.0, -1.0, 1.0]) * seed_sd / math.sqrt(4 / 3)
    true = detectable_difference(comparison(offsets.tolist(), clip_sd=clip_sd))
    assert true is not None
    rng = np.random.default_rng(5)
    draws = true + rng.normal(0, seed_sd, (4000, seeds)) + rng.normal(0, clip_sd, (4000, 1))
    found = 0
    for draw in draws:
        half = half_widths(comparison(draw.tolist(), clip_sd=clip_sd))
        assert half is not None
        found += abs(draw.mean()) > half.total
    assert found / 4000 == pytest.approx(0.8, abs=4 * math.sqrt(0.8 * 0.2 / 4000))


def test_pooled_interval_uses_the_mean_seed_variance_and_all_its_degrees_of_freedom() -> None:
    first, second = comparison([0.0, 0.1, 0.2]), comparison([0.0, 0.3, 0.6])
    pooled = (np.var([0.0, 0.1, 0.2], ddof=1) + np.var([0.0, 0.3, 0.6], ddof=1)) / 2
    expected = stats.t.ppf(0.975, 4) * math.sqrt(pooled / 3)
    assert pooled_half_width(first, seed_pool([first, second])) == pytest.approx(expected)


def test_rows_of_more_seeds_weigh_more_in_the_pool_and_keep_their_own_number() -> None:
    # Variances .01 with 2 degrees of freedom and .025 with 4: (2 * .01 + 4 * .025) / 6 = .02 with 6.
    three, five = comparison([0.0, 0.1, 0.2]), comparison([0.0, 0.1, 0.2, 0.3, 0.4])
    pool = seed_pool([three, five, comparison([0.7], clip_sd=0.05)])
    assert pooled_half_width(three, pool) == pytest.approx(stats.t.ppf(0.975, 6) * math.sqrt(0.02 / 3))
    assert pooled_half_width(five, pool) == pytest.approx(stats.t.ppf(0.975, 6) * math.sqrt(0.02 / 5))
    assert pooled_half_width(comparison([0.7], clip_sd=0.05), pool) is None


def test_correlation_of_paired_seeds_is_pearsons() -> None:
    ours, theirs = np.array([0.81, 0.85, 0.80]), np.array([0.80, 0.82, 0.81])
    result = compare(*(Estimates(values, np.zeros((3, 12)), np.ones(12)) for values in (ours, theirs)))
    assert result.correlation == pytest.approx(stats.pearsonr(ours, theirs).statistic)
    flat = compare(*(Estimates(values, np.zeros((3, 12)), np.ones(12)) for values in (ours, np.full(3, 0.8))))
    assert flat.correlation is None
    turned = compare(*(Estimates(values, np.zeros((3, 12)), np.ones(12)) for values in (np.full(3, 0.8), ours)))
    assert turned.correlation is None
    # Any two points lie on a line: their correlation is 1 or -1, whatever the seeds are.
    two = compare(*(Estimates(values[:2], np.zeros((2, 12)), np.ones(12)) for values in (ours, theirs)))
    assert two.correlation is None


def test_clip_variance_is_that_of_ten_thousand_clip_resamples() -> None:
    rng = np.random.default_rng(11)
    clips, seeds = 120, 3
    labels = rng.integers(5, 40, clips)
    hard = rng.beta(8, 2, clips)
    ours = rng.binomial(labels, np.clip(hard + 0.05 * rng.normal(size=clips), 0, 1), (seeds, clips))
    theirs = rng.binomial(labels, hard, (seeds, clips))
    ours_predicted, theirs_predicted = ours + rng.poisson(2, ours.shape), theirs + rng.poisson(2, ours.shape)
    images = np.ones(clips)
    one = f1_estimates(ours, labels, ours_predicted, images)
    other = f1_estimates(theirs, labels, theirs_predicted, images)
    assert one is not None
    assert other is not None
    weights = rng.multinomial(clips, np.full(clips, 1 / clips), 10_000).T

    def resampled(true_positives: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        return (2 * true_positives @ weights / ((predicted + labels) @ weights)).mean(axis=0)

    drawn = resampled(ours, ours_predicted) - resampled(theirs, theirs_predicted)
    # 10,000 draws give a variance to about 1.4 %; the jackknife's linear form is a little off too.
    assert compare(one, other).clip_variance == pytest.approx(float(drawn.var(ddof=1)), rel=0.06)


def test_a_difference_of_rounding_alone_is_no_difference() -> None:
    assert p_value(comparison([1e-17, 1e-17, 1e-17])) == 1.0
    assert why_no_verdict(comparison([1e-17, 1e-17, 1e-17])) is None


@pytest.mark.parametrize(("seeds", "told"), [(3, ".58"), (5, ".31")])
def test_the_correlation_from_which_pairing_pays_is_where_the_paired_t_is_as_narrow_as_the_unpaired(
    seeds: int, told: str
) -> None:
    # t_{S-1} sqrt(2 (1 - rho) / S) = t_{2S-2} sqrt(2 / S), for arms of equal variance.
    rho = 1 - (stats.t.ppf(0.975, 2 * seeds - 2) / stats.t.ppf(0.975, seeds - 1)) ** 2
    assert f"{rho:.2f}"[1:] == told
    assert f"{told} with {seeds}" in " ".join(HOW_TO_READ_GAINS.split())


def test_seeds_that_do_nothing_are_no_seeds() -> None:
    """Each arm scores the same at every seed; where they merely differ by the same amount, the clips give a verdict."""
    clips = np.tile(np.where(np.arange(60) % 2, 0.001, -0.001), (3, 1))
    images, still = np.ones(60), np.array([0.5, 0.5, 0.5])
    base = Estimates(still, clips * 0, images)
    assert why_no_verdict(compare(Estimates(still + 0.1, clips, images), base)) == "no verdict: identical seeds"
    moving = Estimates(np.array([0.4, 0.5, 0.6]), clips * 0, images)
    assert why_no_verdict(compare(Estimates(moving.values + 0.1, clips, images), moving)) is None
    # One arm alone that stands still is no sign of it: the other's seeds do something.
    assert why_no_verdict(compare(Estimates(moving.values + 0.1, clips, images), base)) is None
    assert why_no_verdict(compare(Estimates(still + 0.1, clips, images), moving)) is None
