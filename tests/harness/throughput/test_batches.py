"""The batch sweep: where it ends, and what it always holds."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch

from harness.records.timings import BatchPoint
from harness.throughput.batches import batch_curve, measure_batches
from harness.throughput.modes import Mode
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


def test_a_batch_takes_the_median_of_ten_and_of_two_seconds_after_its_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image takes 10 ms; the first three batches of a size a minute, and every fifth seven times as long as it should."""
    taken: dict[int, list[int]] = {}
    forgotten: list[int] = []
    settings: list[dict[str, Any]] = []

    def noted(**given: Any) -> Any:
        settings.append(given)
        return nullcontext()

    class Pipeline:
        def __init__(self, *given: Any) -> None:
            pass

        def whole(self, timer: Any, size: int) -> int:
            times = taken.setdefault(size, [])
            milliseconds = 60_000 if len(times) < 3 else 70 * size if len(times) % 5 == 0 else 10 * size
            times.append(10**6 * milliseconds)
            return times[-1]

    for name, stand_in in {
        "Pipeline": Pipeline,
        "frames_of": lambda *given, **options: [],
        "deployed": lambda *given: nullcontext(),
        "timing_settings": noted,
        "check_mode": lambda *given: None,  # which would ask for a GPU
        "forget_peak": lambda device: forgotten.append(len(taken)),
        "peak_memory": lambda device: (100 * len(taken), 200 * len(taken)),
    }.items():
        monkeypatch.setattr(f"harness.throughput.batches.{name}", stand_in)
    detector: Any = None
    points, why = measure_batches(
        detector,
        detector,
        1,
        protocol="lane-latency/1",
        device=torch.device("cpu"),
        threads=1,
        mode=Mode(precision="tf32"),
    )
    assert settings == [{"threads": 1, "tf32": True}]
    assert why == "gain below 3 %"
    assert [(point.size, point.batch_ms, point.images_per_second) for point in points] == [
        (1, 10.0, 100.0),
        (2, 20.0, 100.0),
        (16, 160.0, 100.0),
    ]
    for times in taken.values():
        timed = times[3:]
        assert len(timed) >= 10
        assert sum(timed) >= 2e9
        assert len(timed) == 10 or sum(timed[:-1]) < 2e9
    # Each size has the peak of its own, forgotten before it begins.
    assert forgotten == [0, 1, 2]
    assert [(point.peak_memory_bytes, point.peak_reserved_bytes) for point in points] == [
        (100, 200), (200, 400), (300, 600)
    ]  # fmt: skip
