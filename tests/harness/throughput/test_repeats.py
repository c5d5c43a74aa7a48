"""Figures over repeats in fresh processes."""

from __future__ import annotations

from typing import Any

import pytest

from harness.records.timings import GpuState, Latency, Throughput
from harness.throughput.repeats import over_repeats


def run(p50: float, *flags: str, **changes: Any) -> Throughput:
    latency = Latency(p50=p50, p90=p50 + 1, p95=p50 + 2, p99=p50 + 3, mean=p50, minimum=p50 - 1, iqr=0.5)
    values: dict[str, Any] = {
        "protocol": "lane-latency/1", "device": "cpu", "threads": 1, "precision": "fp32-strict", "images": 8, "iterations": 512,
        "latency_ms": latency, "model_ms": latency, "post_ms": latency, "fps": 1000 / p50, "reference_ms": (20.0 + p50, 21.0),
        "parameters": 10, "gflops": 1.0, "gflops_is_lower_bound": False, "peak_memory_bytes": None,
        "flags": ("cpu", *flags, "1 of 3 repeats"), "warm_iterations": 100, "cpu_ms": p50, "peak_resident_bytes": round(p50),
    }  # fmt: skip
    return Throughput(**(values | changes))


def test_every_figure_is_the_median_over_the_processes_and_the_range_is_told() -> None:
    found = over_repeats([run(12.0), run(10.0), run(17.0)])
    assert (found.latency_ms.p50, found.latency_ms.p99, found.latency_ms.minimum) == (12.0, 15.0, 9.0)
    assert found.p50_range_ms == (10.0, 17.0)
    assert found.fps == pytest.approx(1000 / 12)
    assert (found.iterations, found.repeats, found.reference_ms) == (1536, 3, (32.0, 21.0))
    assert (found.cpu_ms, found.peak_resident_bytes, found.peak_memory_bytes) == (12.0, 17, None)
    assert found.pre_ms is None


def test_every_figure_that_a_gpu_or_a_file_adds_is_combined_likewise() -> None:
    def latency(p50: float) -> Latency:
        return Latency(p50=p50, p90=p50, p95=p50, p99=p50, mean=p50, minimum=p50)

    def state(watts: float) -> GpuState:
        nothing: dict[str, Any] = dict.fromkeys(GpuState.model_fields)
        return GpuState(**(nothing | {"power_watts": watts}))

    # Neither the first nor the last is the median.
    found = over_repeats(
        [
            run(
                p50, model_ms=latency(2 * p50), post_ms=latency(3 * p50), pre_ms=latency(4 * p50), h2d_ms=latency(5 * p50),
                end_to_end_ms=latency(6 * p50), compile_seconds=7 * p50, peak_memory_bytes=round(8 * p50),
                peak_reserved_bytes=round(9 * p50), warm_iterations=round(p50), gpu=(state(p50), state(p50 + 100)),
            )
            for p50 in (17.0, 12.0, 10.0)
        ]
    )  # fmt: skip
    figures = (found.model_ms, found.post_ms, found.pre_ms, found.h2d_ms, found.end_to_end_ms)
    assert [figure and figure.p50 for figure in (found.latency_ms, *figures)] == [12, 24, 36, 48, 60, 72]
    assert (found.fps, found.compile_seconds) == (pytest.approx(1000 / 12), 84)
    assert (found.peak_memory_bytes, found.peak_reserved_bytes, found.warm_iterations) == (136, 153, 39)
    # The GPU as the first found it and the last left it.
    assert found.gpu is not None
    assert [one.power_watts for one in found.gpu] == [17, 110]


def test_the_third_repeat_takes_the_flag_of_too_few_away_and_no_other() -> None:
    assert over_repeats([run(10.0), run(10.0, "drift"), run(10.0)]).flags == ("cpu", "drift")
    assert over_repeats([run(10.0), run(10.0, "noisy")]).flags == ("cpu", "noisy", "2 of 3 repeats")
    assert over_repeats([run(10.0)] * 4).flags == ("cpu",)


def test_frames_a_second_are_those_of_the_median_and_no_median_of_their_own() -> None:
    assert over_repeats([run(10.0), run(30.0)]).fps == pytest.approx(1000 / 20)


def test_a_record_from_before_there_were_repeats_says_nothing_of_them() -> None:
    """Stored text without the newer fields is what it was: hashes of old records hold."""
    newer = {name for name, field in Throughput.model_fields.items() if field.exclude_if is not None}
    assert {"repeats", "batches", "score_change", "gpu"} <= newer
    old = run(10.0).model_dump(exclude=newer)
    old["latency_ms"].pop("iqr")
    read = Throughput.model_validate(old)
    assert not newer & read.model_dump().keys()
    assert "iqr" not in read.model_dump()["latency_ms"]
