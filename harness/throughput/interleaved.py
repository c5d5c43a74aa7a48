"""Two arms that take turns, so that a drift of the machine falls on both alike: what every ratio between arms is taken from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from harness.throughput.devices import Timer


def turns(first: Callable[[], Any], second: Callable[[], Any], timer: Timer) -> tuple[list[int], list[int]]:
    """One block, first, second, second, first: nanoseconds of the first arm's two runs and of the second's."""
    early, ours = timed(first, timer), [timed(second, timer), timed(second, timer)]
    return [early, timed(first, timer)], ours


def timed(run: Callable[[], Any], timer: Timer) -> int:
    """The timer's nanoseconds of one run, the device idle before and after."""
    timer.synchronise()
    start = timer.now()
    run()
    timer.synchronise()
    return timer.now() - start


RESAMPLES = 9_999


def ratio_interval(blocks: Sequence[tuple[Sequence[int], Sequence[int]]]) -> tuple[float, float, float]:
    """The second arm's time over the first's: the median over blocks of `turns`, and its 95 % percentile bootstrap interval.

    A block's ratio is that of its two sums, so that a linear drift within a block cancels; blocks are what is drawn again.
    """
    ratios = np.array([sum(second) / sum(first) for first, second in blocks])
    drawn = np.random.default_rng(0).integers(len(ratios), size=(RESAMPLES, len(ratios)))
    low, high = np.percentile(np.median(ratios[drawn], axis=1), [2.5, 97.5])
    return float(np.median(ratios)), float(low), float(high)
