"""Throughput over batch sizes: how many images a second a detector takes when it gets many at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from detectors.base import Detector
from harness.processes.faults import is_out_of_memory
from harness.records.timings import COMMON_SIZE, BatchPoint, ProtocolName
from harness.throughput.devices import timer_of, timing_settings
from harness.throughput.measurement import forget_peak, peak_memory
from harness.throughput.modes import HEADLINE, Mode, check_mode
from harness.throughput.pipeline import Pipeline, View, deployed, frames_of
from harness.throughput.protocol import PROTOCOLS

GAIN = 1.03
"""A batch twice as large has to bring this many times the images a second, or larger ones aren't tried."""

OUT_OF_MEMORY, NO_GAIN, LARGEST = "out of memory", "gain below 3 %", "largest size"


def measure_batches(
    detector: Detector,
    view: View,
    count: int,
    *,
    protocol: ProtocolName,
    device: torch.device,
    threads: int,
    mode: Mode = HEADLINE,
) -> tuple[tuple[BatchPoint, ...], str]:
    """Points of rising batch size, and why they end. Arguments as for `measure`; a compiled network isn't measured like this.

    Reading is left out, post-processing is in.
    """
    check_mode(mode, device)
    rules, timer = PROTOCOLS[protocol], timer_of(device)
    frames = frames_of(view, count, pin=device.type == "cuda")
    settings = timing_settings(threads=threads, tf32=mode.precision == "tf32")
    with deployed(detector, device, mode), settings, torch.inference_mode():
        pipeline = Pipeline(detector, view, frames, device, mode)

        def point(size: int) -> BatchPoint:
            forget_peak(device)
            for _ in range(rules.batch_warm_iterations):
                pipeline.whole(timer, size)
            times: list[int] = []
            while len(times) < rules.batch_iterations or sum(times) < 1e9 * rules.batch_seconds:
                times.append(pipeline.whole(timer, size))
            batch_ms = float(np.median(times)) / 1e6
            allocated, reserved = peak_memory(device)
            return BatchPoint(
                size=size,
                batch_ms=batch_ms,
                images_per_second=1e3 * size / batch_ms,
                peak_memory_bytes=allocated,
                peak_reserved_bytes=reserved,
            )

        return batch_curve(point, rules.batch_sizes)


def batch_curve(point: Callable[[int], BatchPoint], sizes: Sequence[int]) -> tuple[tuple[BatchPoint, ...], str]:
    """Points at sizes in rising order until memory runs out or a size gains less than 3 %; COMMON_SIZE in any case that has room."""
    points: list[BatchPoint] = []
    for size in sizes:
        try:
            points.append(point(size))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return tuple(points), OUT_OF_MEMORY
        if len(points) > 1 and points[-1].images_per_second < GAIN * points[-2].images_per_second:
            break
    else:
        return tuple(points), LARGEST
    if points[-1].size < COMMON_SIZE:
        try:
            points.append(point(COMMON_SIZE))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return tuple(points), OUT_OF_MEMORY
    return tuple(points), NO_GAIN
