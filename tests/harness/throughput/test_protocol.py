"""Protocol lane-latency/1: its numbers, and with a fake clock its warm-up, its timing and what is made of the times."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import asdict

import numpy as np
import pytest

from harness.throughput.protocol import PROTOCOLS, drifted, latency_of, timed, warm_up

FULL, SHORT = PROTOCOLS["lane-latency/1"], PROTOCOLS["lane-latency/1-short"]
MILLISECOND = 1_000_000


def test_the_numbers_are_those_that_published_rows_were_measured_by() -> None:
    # Another number would be another protocol, which needs another name.
    assert asdict(FULL) == {
        "name": "lane-latency/1",
        **{"warm_iterations": 50, "warm_seconds": 3.0, "window": 50, "tolerance": 0.02, "warm_cap_seconds": 60.0},
        **{"iterations": 512, "seconds": 10.0, "region_iterations": 512, "file_iterations": 128, "repeats": 3},
        **{"reference_warm_iterations": 10, "reference_iterations": 50},
        **{"batch_sizes": (1, 2, 4, 8, 16, 32, 64, 128)},
        **{"batch_warm_iterations": 3, "batch_iterations": 10, "batch_seconds": 2.0},
        **{"cost_warm_blocks": 5, "cost_blocks": 40},
    }
    assert (SHORT.warm_iterations, SHORT.iterations, SHORT.region_iterations, SHORT.repeats) == (10, 100, 50, 1)
    assert (SHORT.window, SHORT.seconds, SHORT.file_iterations, SHORT.batch_sizes) == (0, 0.0, 0, ())
    assert (SHORT.reference_iterations, SHORT.cost_blocks) == (5, 40)


def steps(durations: Iterable[float]) -> Callable[[], int]:
    """Steps that take so many milliseconds, one after the other."""
    upcoming = iter(durations)
    return lambda: round(next(upcoming) * MILLISECOND)


def test_warm_up_takes_three_seconds_even_where_windows_agree_at_once() -> None:
    warm = warm_up(steps(itertools.repeat(10.0)), FULL)
    assert (warm.iterations, warm.stable) == (300, True)
    assert warm.seconds == pytest.approx(3.0)


def test_warm_up_takes_two_windows_even_where_they_last_long() -> None:
    assert warm_up(steps(itertools.repeat(100.0)), FULL).iterations == 100


def test_warm_up_goes_on_while_the_medians_of_windows_differ_by_two_percent() -> None:
    # Windows of 50 at 100, 97, 95.5, 95.5 ms: 3 % and 1.5 % apart.
    windows = [duration for duration in (100.0, 97.0, 95.5, 95.5) for _ in range(50)]
    assert warm_up(steps(windows), FULL).iterations == 150


def test_warm_up_is_given_up_after_a_minute_and_says_so() -> None:
    growing = (100.0 * 1.001**index for index in itertools.count())
    warm = warm_up(steps(growing), FULL)
    assert not warm.stable
    assert 60.0 <= warm.seconds < 61.0


@pytest.mark.parametrize("iterations", [60.0, 200.0, 600.0])
def test_what_warm_up_leaves_of_an_exponential_settling_is_bounded(iterations: float) -> None:
    """From twice the final time down with that time constant: windows that differ by less than 2 % of the one before leave less than
    2 % r / (1 - r) of it, where r is what a window leaves of the excess.
    """
    series = (20.0 * (1 + np.exp(-index / iterations)) for index in itertools.count())
    seen: list[float] = []

    def step() -> int:
        seen.append(next(series))
        return round(seen[-1] * MILLISECOND)

    assert warm_up(step, FULL).stable
    left = np.exp(-FULL.window / iterations)
    before, last = np.median(seen[-2 * FULL.window : -FULL.window]), np.median(seen[-FULL.window :])
    assert last - 20.0 < FULL.tolerance * before * left / (1 - left)


def test_warm_up_of_steady_times_with_noise_seldom_takes_long() -> None:
    """Medians of 50 times with a lognormal SD of 3 % have one of .53 %, and differences of two .75 %: below 2 % in 99 % of windows."""
    rng = np.random.default_rng(5)
    waits = [warm_up(steps(40.0 * rng.lognormal(0.0, 0.03, 2000)), FULL).iterations for _ in range(100)]
    assert np.mean([wait == 100 for wait in waits]) > 0.95
    assert max(waits) <= 200


def test_short_warm_up_is_ten_iterations() -> None:
    assert warm_up(steps(itertools.repeat(5.0)), SHORT).iterations == 10


def test_full_timing_takes_512_iterations_and_ten_seconds() -> None:
    assert len(timed(steps(itertools.repeat(100.0)), FULL)) == 512
    assert len(timed(steps(itertools.repeat(10.0)), FULL)) == 1000


def test_short_timing_is_a_hundred_iterations() -> None:
    assert len(timed(steps(itertools.repeat(1.0)), SHORT)) == 100


def test_percentiles_of_one_to_a_hundred_and_one() -> None:
    latency = latency_of([index * MILLISECOND for index in range(101, 0, -1)])
    assert (latency.p50, latency.p90, latency.p95, latency.p99) == pytest.approx((51, 91, 96, 100))
    assert (latency.mean, latency.minimum) == pytest.approx((51, 1))
    assert latency.iqr == pytest.approx(76 - 26)


@pytest.mark.parametrize(("after", "flagged"), [(103.1, True), (96.9, True), (102.9, False), (97.1, False)])
def test_drift_is_more_than_three_percent_either_way(after: float, flagged: bool) -> None:
    assert drifted(100.0, after) is flagged
