"""One measurement out of several in fresh processes."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from harness.records.timings import Latency, Throughput
from harness.throughput.protocol import PROTOCOLS

MEDIANS = ("cpu_ms", "compile_seconds")
LATENCIES = ("latency_ms", "model_ms", "post_ms", "pre_ms", "h2d_ms", "end_to_end_ms")
PEAKS = ("peak_memory_bytes", "peak_reserved_bytes", "peak_resident_bytes")


def over_repeats(runs: Sequence[Throughput]) -> Throughput:
    """The median of every figure over repeats of one measurement, the largest peak of memory, and the range of p50.

    A flag of any repeat stays, but for `1 of 3 repeats`, which becomes how many there are and goes with the third.
    """
    first, wanted = runs[0], PROTOCOLS[runs[0].protocol].repeats
    changes: dict[str, Any] = {}
    for name in LATENCIES:
        found = [value for run in runs if (value := getattr(run, name)) is not None]
        changes[name] = median_latency(found) if found else None
    for name in MEDIANS:
        changes[name] = median(numbers) if (numbers := present(runs, name)) else None
    for name in PEAKS:
        changes[name] = max(numbers) if (numbers := present(runs, name)) else None
    p50s = [run.latency_ms.p50 for run in runs]
    of_one = f"1 of {wanted} repeats"
    flags = dict.fromkeys(flag for run in runs for flag in run.flags if flag != of_one)
    if len(runs) < wanted:
        flags |= {f"{len(runs)} of {wanted} repeats": None}
    changes |= {
        "iterations": sum(run.iterations for run in runs),
        "fps": 1000.0 / changes["latency_ms"].p50,
        "reference_ms": tuple(median(run.reference_ms[place] for run in runs) for place in (0, 1)),
        "warm_iterations": sum(run.warm_iterations or 0 for run in runs),
        "repeats": len(runs),
        "p50_range_ms": (min(p50s), max(p50s)),
        "gpu": (first.gpu[0], runs[-1].gpu[1]) if first.gpu and runs[-1].gpu else None,
        "flags": tuple(flags),
    }
    return first.model_copy(update=changes)


def median_latency(latencies: Sequence[Latency]) -> Latency:
    """The median of each figure that there is, but of the minima the least."""
    figures = {name: median(found) if (found := present(latencies, name)) else None for name in Latency.model_fields}
    return Latency(**(figures | {"minimum": min(one.minimum for one in latencies)}))


def present(runs: Sequence[Throughput | Latency], name: str) -> list[float]:
    """The values of a figure that there are."""
    return [value for run in runs if (value := getattr(run, name)) is not None]
