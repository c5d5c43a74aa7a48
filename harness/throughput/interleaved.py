"""Two arms that take turns, so that a drift of the machine falls on both alike: what every ratio between arms is taken from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
