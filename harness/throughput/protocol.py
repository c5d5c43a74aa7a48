"""The rules of protocol lane-latency/1, apart from any clock and device: when warm-up ends, how long to time, what is reported.

Changing a number here makes another protocol, which needs another name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from harness.records.timings import Latency, ProtocolName

REFERENCE_DRIFT = 0.03
"""The reference model's median may change by this share during a measurement before the result is flagged."""


@dataclass(frozen=True)
class Protocol:
    """How long to warm up, to time, and to time the reference model.

    Warm-up takes at least `warm_iterations` and `warm_seconds`, and, where there is a `window`, until the medians of the last two
    windows differ by less than `tolerance`; it is given up as unstable after `warm_cap_seconds`. Timing takes at least `iterations`
    and `seconds`; a second pass of `region_iterations` splits the time into regions, a third of `file_iterations` begins with the
    images' files. `repeats`: how many fresh processes the protocol asks for. Of each of `batch_sizes` at least `batch_iterations` and
    `batch_seconds` are timed after `batch_warm_iterations`. The inference cost of a method is taken from `cost_blocks` blocks of turns,
    after `cost_warm_blocks`.
    """

    name: ProtocolName
    warm_iterations: int
    warm_seconds: float
    window: int
    tolerance: float
    warm_cap_seconds: float
    iterations: int
    seconds: float
    region_iterations: int
    file_iterations: int
    reference_warm_iterations: int
    reference_iterations: int
    repeats: int
    batch_sizes: tuple[int, ...]
    batch_warm_iterations: int
    batch_iterations: int
    batch_seconds: float
    cost_warm_blocks: int
    cost_blocks: int


PROTOCOLS: dict[ProtocolName, Protocol] = {
    "lane-latency/1": Protocol(
        name="lane-latency/1",
        warm_iterations=50,
        warm_seconds=3.0,
        window=50,
        tolerance=0.02,
        warm_cap_seconds=60.0,
        iterations=512,
        seconds=10.0,
        region_iterations=512,
        file_iterations=128,
        reference_warm_iterations=10,
        reference_iterations=50,
        repeats=3,
        batch_sizes=(1, 2, 4, 8, 16, 32, 64, 128),
        batch_warm_iterations=3,
        batch_iterations=10,
        batch_seconds=2.0,
        cost_warm_blocks=5,
        cost_blocks=40,
    ),
    "lane-latency/1-short": Protocol(
        name="lane-latency/1-short",
        warm_iterations=10,
        warm_seconds=0.0,
        window=0,
        tolerance=0.0,
        warm_cap_seconds=60.0,
        iterations=100,
        seconds=0.0,
        region_iterations=50,
        file_iterations=0,
        reference_warm_iterations=1,
        reference_iterations=5,
        repeats=1,
        batch_sizes=(),
        batch_warm_iterations=0,
        batch_iterations=0,
        batch_seconds=0.0,
        cost_warm_blocks=5,
        cost_blocks=40,
    ),
}


@dataclass(frozen=True)
class WarmUp:
    """How warm-up went; not `stable` means that it was given up at the cap."""

    iterations: int
    seconds: float
    stable: bool


def warm_up(step: Callable[[], int], protocol: Protocol) -> WarmUp:
    """Run `step`, which returns its duration in nanoseconds, until the protocol calls it warm."""
    durations: list[int] = []
    elapsed = 0
    while True:
        durations.append(step())
        elapsed += durations[-1]
        seconds = elapsed / 1e9
        long_enough = len(durations) >= protocol.warm_iterations and seconds >= protocol.warm_seconds
        if long_enough and settled(durations, protocol):
            return WarmUp(len(durations), seconds, stable=True)
        if seconds >= protocol.warm_cap_seconds:
            return WarmUp(len(durations), seconds, stable=False)


def settled(durations: Sequence[int], protocol: Protocol) -> bool:
    """Whether the medians of the last two windows agree; looked at where a window ends, always true without windows."""
    window = protocol.window
    if window == 0:
        return True
    if len(durations) < 2 * window or len(durations) % window:
        return False
    before, last = np.median(durations[-2 * window : -window]), np.median(durations[-window:])
    return bool(abs(last - before) < protocol.tolerance * before)


def timed(step: Callable[[], int], protocol: Protocol) -> list[int]:
    """Durations in nanoseconds of as many steps as the protocol asks for."""
    durations: list[int] = []
    while len(durations) < protocol.iterations or sum(durations) < protocol.seconds * 1e9:
        durations.append(step())
    return durations


def latency_of(durations: Sequence[int]) -> Latency:
    """Percentiles (linear between order statistics), interquartile range, mean and minimum of durations in nanoseconds, as ms."""
    milliseconds = np.asarray(durations, dtype=np.float64) / 1e6
    p25, p50, p75, p90, p95, p99 = (float(value) for value in np.percentile(milliseconds, [25, 50, 75, 90, 95, 99]))
    mean, minimum = float(milliseconds.mean()), float(milliseconds.min())
    return Latency(p50=p50, p90=p90, p95=p95, p99=p99, mean=mean, minimum=minimum, iqr=p75 - p25)


def drifted(before: float, after: float) -> bool:
    """Whether the reference model's medians before and after a measurement are too far apart to trust it."""
    return abs(after / before - 1.0) > REFERENCE_DRIFT
