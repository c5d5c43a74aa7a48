"""Ratios of two arms that take turns: what drift does to them, and how often their interval holds the true ratio."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from harness.throughput.interleaved import ratio_interval, timed, turns

BLOCKS = 40


class Clock:
    """A clock that the arms move; every run takes longer by a constant than the one before."""

    def __init__(self, drift: int) -> None:
        self.time, self.drift, self.runs = 0, drift, 0

    def now(self) -> int:
        return self.time

    def synchronise(self) -> None:
        pass

    def run(self, nanoseconds: int) -> None:
        self.time += nanoseconds + self.drift * self.runs
        self.runs += 1


def test_a_linear_drift_within_a_block_falls_on_both_arms_alike() -> None:
    clock = Clock(drift=7)
    first, second = turns(lambda: clock.run(1000), lambda: clock.run(1000), clock)  # type: ignore[arg-type]
    assert sum(first) == sum(second) == 2000 + 3 * 7


def test_a_run_is_what_the_device_does_between_two_rests() -> None:
    """A device that works off what it was asked for when it is waited for, as a GPU does."""

    class Device(Clock):
        asked = 0

        def ask(self, nanoseconds: int) -> None:
            self.asked += nanoseconds

        def synchronise(self) -> None:
            self.time, self.asked = self.time + self.asked, 0

    device = Device(drift=0)
    device.ask(500)  # by whatever ran before
    assert timed(lambda: device.ask(1000), device) == 1000  # type: ignore[arg-type]


def blocks(ratio: float, rng: np.random.Generator) -> list[tuple[list[int], list[int]]]:
    """Times with 3 % of lognormal noise, a twentieth of them disturbed up to fivefold, and a slow drift over the blocks."""
    mean = 1e6 * np.array([1.0, ratio, ratio, 1.0]) * np.linspace(1.0, 1.2, BLOCKS)[:, None]
    times = mean * rng.lognormal(0.0, 0.03, mean.shape)
    times *= np.where(rng.random(mean.shape) < 0.05, rng.uniform(1, 5, mean.shape), 1.0)
    return [([round(a), round(d)], [round(b), round(c)]) for a, b, c, d in times]


@pytest.mark.parametrize("ratio", [1.0, 1.04])
def test_the_interval_holds_the_true_ratio_about_as_often_as_it_says(
    monkeypatch: pytest.MonkeyPatch, ratio: float
) -> None:
    monkeypatch.setattr("harness.throughput.interleaved.RESAMPLES", 999)
    rng = np.random.default_rng(11)
    intervals = [ratio_interval(blocks(ratio, rng)) for _ in range(300)]
    held = np.mean([low <= ratio <= high for _, low, high in intervals])
    # 95 % of 300, give or take three standard deviations of a binomial, and what a percentile bootstrap of 40 blocks may miss.
    assert 0.90 <= held <= 0.99
    assert abs(np.mean([middle for middle, _, _ in intervals]) - ratio) < 0.005
    # Wide enough to be honest, narrow enough to see a cost of 4 %.
    assert np.median([high - low for _, low, high in intervals]) < 0.04


def test_equal_times_have_an_interval_without_width() -> None:
    assert ratio_interval([([100, 100], [150, 150])] * BLOCKS) == (1.5, 1.5, 1.5)


def test_a_blocks_ratio_is_of_its_sums_and_the_figure_is_the_median_over_blocks() -> None:
    assert ratio_interval([([100, 300], [200, 240])] * BLOCKS) == (1.1, 1.1, 1.1)
    disturbed = [([100, 100], [100, 100])] * 21 + [([100, 100], [900, 900])] * 19
    assert ratio_interval(disturbed)[0] == 1.0


def test_the_interval_of_the_same_times_is_always_the_same() -> None:
    times = blocks(1.0, np.random.default_rng(0))
    first, second = itertools.repeat(times, 2)
    assert ratio_interval(first) == ratio_interval(second)
