"""The numbers of lane-latency/1: another one would be another protocol, which needs another name."""

from __future__ import annotations

from dataclasses import asdict

from harness.throughput.protocol import PROTOCOLS


def test_the_numbers_are_those_that_published_rows_were_measured_by() -> None:
    assert asdict(PROTOCOLS["lane-latency/1"]) == {
        "name": "lane-latency/1",
        **{"warm_iterations": 50, "warm_seconds": 3.0, "window": 50, "tolerance": 0.02, "warm_cap_seconds": 60.0},
        **{"iterations": 512, "seconds": 10.0, "region_iterations": 512, "file_iterations": 128, "repeats": 3},
        **{"reference_warm_iterations": 10, "reference_iterations": 50},
        **{"batch_sizes": (1, 2, 4, 8, 16, 32, 64, 128)},
        **{"batch_warm_iterations": 3, "batch_iterations": 10, "batch_seconds": 2.0},
        **{"cost_warm_blocks": 5, "cost_blocks": 40},
    }
    short = PROTOCOLS["lane-latency/1-short"]
    assert (short.warm_iterations, short.iterations, short.region_iterations, short.repeats) == (10, 100, 50, 1)
    assert (short.window, short.seconds, short.file_iterations, short.batch_sizes) == (0, 0.0, 0, ())
    assert (short.reference_iterations, short.cost_blocks) == (5, 40)
