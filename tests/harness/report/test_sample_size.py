"""How many paired seeds a gain takes, by closed forms and by simulation."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import brentq

from harness.report.estimates import Estimates
from harness.report.sample_size import (
    Noise,
    SampleSize,
    at_upper_limits,
    detectable_with,
    least_detectable,
    noise_of,
    sample_size,
    seeds_for,
    why_no_noise,
)
from harness.report.statistics import Comparison, compare, detectable_difference, lack_of_clips

SEEDS_ALONE = Noise(of_pair=1.0, of_pair_and_clip=0.0, of_clip=0.0, clips=1000, effective_clips=1000)
CLIPS_TOO = Noise(of_pair=0.3, of_pair_and_clip=0.1, of_clip=0.01, clips=400, effective_clips=400)


def pilot(
    rng: np.random.Generator,
    *,
    seeds: int,
    clips: int,
    of_seed: float,
    of_clip: float,
    of_both: float,
    gain: float = 0.0,
) -> Comparison:
    """A comparison of one scene a clip, whose difference varies by seed, by clip, and by what a seed makes of a clip (all SDs)."""
    scenes = (
        gain
        + rng.normal(0, of_seed, (seeds, 1))
        + rng.normal(0, of_clip, (1, clips))
        + rng.normal(0, of_both, (seeds, clips))
    )
    values = scenes.mean(axis=1)
    ours = Estimates(values, (scenes - values[:, None]) / clips, np.ones(clips))
    return compare(ours, Estimates(np.zeros(seeds), np.zeros((seeds, clips)), np.ones(clips)))


# G*Power 3.1, "Means: difference between two dependent means", two-sided .05, power .80: the textbook's total sample sizes.
@pytest.mark.parametrize(("effect", "pairs"), [(0.2, 199), (0.3, 90), (0.5, 34), (0.8, 15), (1.0, 10)])
def test_where_clips_add_nothing_pairs_are_those_of_the_paired_t_test(effect: float, pairs: int) -> None:
    assert seeds_for(SEEDS_ALONE, effect) == pairs


def test_holms_strictest_step_is_a_t_test_at_its_level() -> None:
    def power(pairs: int) -> float:
        critical = stats.t.ppf(1 - 0.05 / 4 / 2, pairs - 1)
        shown = stats.nct(pairs - 1, 0.7 * math.sqrt(pairs))
        return float(shown.sf(critical) + shown.cdf(-critical))

    found = seeds_for(SEEDS_ALONE, 0.7, 0.05 / 4)
    assert found is not None
    assert power(found - 1) < 0.8 <= power(found) + 1e-4


def test_a_thousand_pairs_are_the_most_that_are_named() -> None:
    def power(effect: float, pairs: int) -> float:
        return float(stats.nct(pairs - 1, effect * math.sqrt(pairs)).sf(stats.t.ppf(0.975, pairs - 1)))

    effects = {
        pairs: brentq(lambda effect, n: power(effect, n) - 0.8, 0.05, 0.2, args=(pairs,)) for pairs in (999, 1000, 1001)
    }
    assert seeds_for(SEEDS_ALONE, (effects[999] + effects[1000]) / 2) == 1000
    assert seeds_for(SEEDS_ALONE, (effects[1000] + effects[1001]) / 2) is None


def test_as_many_pairs_on_as_many_clips_show_what_the_pilot_could() -> None:
    found = pilot(np.random.default_rng(3), seeds=5, clips=60, of_seed=0.5, of_clip=1.0, of_both=2.0)
    assert detectable_with(noise_of(found), 5) == pytest.approx(detectable_difference(found), rel=1e-12)


def test_a_pilots_noise_is_that_of_other_seeds_and_more_clips() -> None:
    rng = np.random.default_rng(11)
    sizes = {"of_seed": 1.5, "of_clip": 3.0, "of_both": 4.0}
    noises = [noise_of(pilot(rng, seeds=6, clips=40, **sizes), 3.0) for _ in range(600)]
    assert np.mean([noise.of_pair for noise in noises]) == pytest.approx(1.5**2, rel=0.1)
    assert np.mean([noise.of_pair_and_clip for noise in noises]) == pytest.approx(4.0**2 / 120, rel=0.1)
    assert np.mean([noise.of_clip for noise in noises]) == pytest.approx(3.0**2 / 120, rel=0.1)
    assert {(noise.clips, noise.effective_clips) for noise in noises} == {(120, 120)}


def test_the_pairs_of_the_true_noise_show_the_gain_in_four_of_five_experiments() -> None:
    clips, gain = 60, 0.35
    true = Noise(
        of_pair=0.4**2,
        of_pair_and_clip=2.0**2 / clips,
        of_clip=0.6**2 / clips,
        clips=clips,
        effective_clips=clips,
    )
    pairs = seeds_for(true, gain)
    assert pairs is not None
    assert 10 < pairs < 60
    rng, shown = np.random.default_rng(7), 0
    for _ in range(1000):
        found = pilot(rng, seeds=pairs, clips=clips, of_seed=0.4, of_clip=0.6, of_both=2.0, gain=gain)
        tail = stats.t.ppf(0.975, pairs - 1) ** 2 * (found.seed_variance or 0.0)
        shown += abs(found.mean) > math.sqrt(tail + stats.norm.ppf(0.975) ** 2 * found.pure_clip_variance)
    assert shown / 1000 == pytest.approx(0.8, abs=4 * math.sqrt(0.8 * 0.2 / 1000))


@pytest.mark.parametrize("clips", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("pairs", [3, 5, 10])
def test_the_cautious_number_is_enough_after_four_of_five_pilots_and_the_plain_one_after_fewer_than_half(
    pairs: int, clips: float
) -> None:
    true = Noise(
        of_pair=0.4**2,
        of_pair_and_clip=3.0**2 / 120 / clips,
        of_clip=0.0,
        clips=120 * clips,
        effective_clips=120 * clips,
    )
    gain = detectable_with(true, 10)
    rng, plain, careful = np.random.default_rng(pairs), 0, 0
    for _ in range(500):
        found = pilot(rng, seeds=pairs, clips=120, of_seed=0.4, of_clip=0.0, of_both=3.0)
        found = replace(found, clip_variance=0.0)
        plain += detectable_with(noise_of(found, clips), 10) >= gain
        careful += detectable_with(noise_of(at_upper_limits(found), clips), 10) >= gain
    assert careful / 500 == pytest.approx(0.8, abs=0.06)
    assert plain / 500 == pytest.approx(stats.chi2.sf(pairs - 1, pairs - 1), abs=0.08)


def test_a_careful_plan_raises_what_pairs_and_clips_show_and_not_what_both_do_together() -> None:
    found = pilot(np.random.default_rng(3), seeds=5, clips=60, of_seed=0.8, of_clip=1.0, of_both=2.0)
    plain, careful = noise_of(found, 4.0), noise_of(at_upper_limits(found), 4.0)
    of_pairs, of_clips = 4 / stats.chi2.ppf(0.2, 4), 59 / stats.chi2.ppf(0.2, 59)
    assert careful.of_pair - plain.of_pair == pytest.approx((of_pairs - 1) * 5 * (found.seed_variance or 0.0))
    assert careful.of_clip - plain.of_clip == pytest.approx((of_clips - 1) * (found.clip_variance or 0.0) / 4)
    assert replace(careful, of_pair=plain.of_pair, of_clip=plain.of_clip) == plain


def test_the_limit_of_the_clips_variance_is_not_exceeded_in_four_of_five_pilots() -> None:
    rng, below = np.random.default_rng(5), 0
    for _ in range(500):
        found = at_upper_limits(pilot(rng, seeds=3, clips=20, of_seed=0.0, of_clip=3.0, of_both=0.0))
        below += (found.clip_variance or 0.0) >= 3.0**2 / 20
    assert below / 500 == pytest.approx(0.8, abs=0.06)


def test_both_numbers_are_on_as_many_clips_as_are_asked_for() -> None:
    found = pilot(np.random.default_rng(3), seeds=5, clips=60, of_seed=0.3, of_clip=1.0, of_both=4.0)
    plain, careful = noise_of(found, 4.0), noise_of(at_upper_limits(found), 4.0)
    size = sample_size(found, 0.6, clips=4.0, significance=0.01)
    assert (size.pairs, size.cautious) == (seeds_for(plain, 0.6, 0.01), seeds_for(careful, 0.6, 0.01))
    assert size.pairs is not None
    assert size.cautious is not None
    assert size.pairs < size.cautious < (sample_size(found, 0.6, significance=0.01).cautious or math.inf)


def test_pairs_that_happen_to_agree_are_planned_with_what_clips_show_them_to_differ_by() -> None:
    found = pilot(np.random.default_rng(3), seeds=5, clips=60, of_seed=0.0, of_clip=0.0, of_both=5.0)
    agreed = noise_of(replace(found, seed_variance=1e-9))
    assert agreed.of_pair == 0
    assert agreed.of_pair_and_clip == pytest.approx(5.0**2 / 60, rel=0.2)


def test_what_clips_alone_hide_no_number_of_pairs_shows() -> None:
    least = least_detectable(CLIPS_TOO)
    assert least == pytest.approx(0.1 * (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)), rel=1e-3)
    assert least_detectable(SEEDS_ALONE) == 0.0
    found = pilot(np.random.default_rng(3), seeds=5, clips=60, of_seed=0.5, of_clip=3.0, of_both=2.0)
    least = least_detectable(noise_of(found))
    assert sample_size(found, 0.99 * least) == SampleSize(0.99 * least, None, None, hidden_by_clips=True)
    # Above it, and yet more than anybody trains.
    assert sample_size(found, 1.0001 * least) == SampleSize(1.0001 * least, None, None, hidden_by_clips=False)
    assert sample_size(found, 2 * least).pairs is not None
    assert not sample_size(found, 0.99 * least, clips=2.0).hidden_by_clips


@given(gain=st.floats(0.05, 5.0), more=st.floats(1.0, 4.0))
def test_a_larger_gain_and_more_clips_never_take_more_pairs(gain: float, more: float) -> None:
    def number(noise: Noise, asked: float) -> float:
        found = seeds_for(noise, asked)
        return math.inf if found is None else found

    rich = replace(
        CLIPS_TOO,
        of_pair_and_clip=CLIPS_TOO.of_pair_and_clip / more,
        of_clip=CLIPS_TOO.of_clip / more,
        clips=CLIPS_TOO.clips * more,
        effective_clips=CLIPS_TOO.effective_clips * more,
    )
    assert number(CLIPS_TOO, gain * more) <= number(CLIPS_TOO, gain)
    assert number(rich, gain) <= number(CLIPS_TOO, gain)


def test_less_than_three_pairs_and_arms_that_do_the_same_are_no_pilot() -> None:
    rng = np.random.default_rng(1)
    two = pilot(rng, seeds=2, clips=40, of_seed=1.0, of_clip=1.0, of_both=1.0)
    same = pilot(rng, seeds=3, clips=40, of_seed=0.0, of_clip=0.0, of_both=0.0)
    assert why_no_noise(two) == "2 seeds"
    assert why_no_noise(same) == "identical seeds"
    one = Estimates(rng.normal(0, 1, 3), rng.normal(0, 1, (3, 40)), np.ones(40))
    assert why_no_noise(compare(one, one)) == "no variance"
    assert why_no_noise(pilot(rng, seeds=3, clips=9, of_seed=1.0, of_clip=1.0, of_both=1.0)) == "9 clips"
    assert why_no_noise(pilot(rng, seeds=3, clips=40, of_seed=1.0, of_clip=1.0, of_both=1.0)) is None


def test_a_pilot_whose_pairs_or_whose_clips_alone_vary_is_one() -> None:
    rng = np.random.default_rng(1)
    gains, of_seeds, of_clips = rng.normal(0, 1, 4), rng.normal(0, 1, 4), rng.normal(0, 1, 40)
    none, images = np.zeros((4, 40)), np.ones(40)
    baseline = Estimates(of_seeds, none, images)
    pairs = compare(Estimates(of_seeds + gains, none, images), baseline)
    shared = np.tile((of_clips - of_clips.mean()) / 40, (4, 1))
    clips = compare(Estimates(of_seeds + 0.5, shared, images), baseline)
    assert why_no_noise(pairs) is None is why_no_noise(clips)
    by_pairs, by_clips = gains.var(ddof=1), of_clips.var(ddof=1) / 40
    assert noise_of(pairs) == Noise(pytest.approx(by_pairs), 0.0, 0.0, 40, 40)
    assert noise_of(clips) == Noise(0.0, 0.0, pytest.approx(by_clips), 40, 40)
    upper_pairs, upper_clips = 3 / stats.chi2.ppf(0.2, 3) * by_pairs, 39 / stats.chi2.ppf(0.2, 39) * by_clips
    assert noise_of(at_upper_limits(pairs)) == Noise(pytest.approx(upper_pairs), 0.0, 0.0, 40, 40)
    assert noise_of(at_upper_limits(clips)) == Noise(0.0, 0.0, pytest.approx(upper_clips), 40, 40)


def test_fewer_clips_than_an_interval_takes_are_told() -> None:
    noise = noise_of(pilot(np.random.default_rng(1), seeds=3, clips=40, of_seed=1.0, of_clip=1.0, of_both=1.0), 0.2)
    assert lack_of_clips(noise.clips, noise.effective_clips) == "8 clips"
    assert lack_of_clips(9.8, 9.8) == "9 clips"
    assert lack_of_clips(40, 1.5) == "40 clips, as good as 1.5 equal ones"
    assert lack_of_clips(40, 40) is None
