"""The batch sweep: where it ends, and what it always holds."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from harness.records.timings import BatchPoint
from harness.throughput.batches import batch_curve
from harness.throughput.protocol import PROTOCOLS

SIZES = PROTOCOLS["lane-latency/1"].batch_sizes


FULL = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
)
"""How a device says that it has no room: torch itself, and the libraries that it calls."""


def device(rate: Callable[[int], float], room: int = 1000, error: Exception = FULL[0]) -> Callable[[int], BatchPoint]:
    """A device that takes `rate(size)` images a second, and has room for so many at once, else an error."""

    def point(size: int) -> BatchPoint:
        if size > room:
            raise error
        return BatchPoint(
            size=size,
            batch_ms=1e3 * size / rate(size),
            images_per_second=rate(size),
            peak_memory_bytes=None,
            peak_reserved_bytes=None,
        )

    return point


@pytest.mark.parametrize(
    ("rate", "room", "sizes", "ended"),
    [
        (lambda size: 10.0 * size, 1000, [1, 2, 4, 8, 16, 32, 64, 128], "largest size"),
        # A launch of 10 ms and a millisecond an image: 1000 n / (10 + n); 64 gains 13 %, 128 7 %.
        (lambda size: 1000 * size / (10 + size), 1000, [1, 2, 4, 8, 16, 32, 64, 128], "largest size"),
        (lambda size: 10.0 * min(size, 32), 1000, [1, 2, 4, 8, 16, 32, 64], "gain below 3 %"),
        (lambda size: 10.0, 1000, [1, 2, 16], "gain below 3 %"),
        # 4 % more is a gain, 2 % isn't.
        (lambda size: {1: 100.0, 2: 104.0, 4: 106.0}.get(size, 200.0), 1000, [1, 2, 4, 16], "gain below 3 %"),
        # The size that all have is the last one already.
        (lambda size: 10.0 * min(size, 8), 1000, [1, 2, 4, 8, 16], "gain below 3 %"),
        (lambda size: 10.0 * size, 40, [1, 2, 4, 8, 16, 32], "out of memory"),
        (lambda size: 10.0, 8, [1, 2], "out of memory"),
        (lambda size: 10.0, 0, [], "out of memory"),
    ],
)
def test_sizes_rise_until_there_is_no_gain_or_no_room(
    rate: Callable[[int], float], room: int, sizes: list[int], ended: str
) -> None:
    points, why = batch_curve(device(rate, room), SIZES)
    assert [point.size for point in points] == sizes
    assert why == ended


@pytest.mark.parametrize("error", FULL)
@pytest.mark.parametrize("rate", [lambda size: 10.0 * size, lambda size: 10.0])
def test_a_device_is_full_whoever_says_so(rate: Callable[[int], float], error: Exception) -> None:
    assert batch_curve(device(rate, 8, error), SIZES)[1] == "out of memory"


@pytest.mark.parametrize("rate", [lambda size: 10.0 * size, lambda size: 10.0])
def test_another_error_ends_the_sweep(rate: Callable[[int], float]) -> None:
    error = RuntimeError("CUDA error: an illegal memory access was encountered")
    with pytest.raises(RuntimeError, match="illegal memory access"):
        batch_curve(device(rate, 8, error), SIZES)
