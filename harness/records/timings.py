"""What was measured of time and memory, as records hold it.

Fields that are newer than the first records are left out where they have their default, so that old records keep their hashes.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, model_validator

from harness.records.bounds import SHORTEST, Amount, Elapsed, Measured, Positive, Ratio
from harness.records.counts import Stored, unused

ProtocolName = Literal["lane-latency/1", "lane-latency/1-short"]

COMMON_SIZE = 16
"""The batch size that is measured of every detector, so that rows compare."""


class Latency(Stored):
    """Milliseconds over the timed iterations. iqr: the upper quartile minus the lower."""

    p50: Measured
    p90: Measured
    p95: Measured
    p99: Measured
    mean: Measured
    minimum: Measured
    iqr: Measured | None = unused(None)


def some_time(value: Latency) -> Latency:
    """The latency; ValueError if its median is no time at all, which rates can't be made of."""
    if value.p50 < SHORTEST:
        raise ValueError(f"p50 is {value.p50} ms, less than a clock of nanoseconds tells")
    return value


Timed = Annotated[Latency, AfterValidator(some_time)]


class BatchPoint(Stored):
    """Images that go from host memory to lanes together: how many, the median time of all, and how many a second that makes.

    Peak memory: of tensors on a CUDA device, weights included, and of what torch reserved for them; None on a CPU.
    """

    size: Positive
    batch_ms: Measured
    images_per_second: Measured
    peak_memory_bytes: Amount | None
    peak_reserved_bytes: Amount | None


class GpuState(Stored):
    """What nvidia-smi told of a GPU at one moment; None is what it didn't tell. The GPU's UUID only as its sha256."""

    uuid_sha256: str | None
    sm_clock_mhz: float | None
    memory_clock_mhz: float | None
    power_watts: float | None
    temperature_celsius: float | None
    throttle_reasons: str | None
    mig: str | None


class Throughput(Stored):
    """A detector's times under one lane-latency protocol, mode and number of threads (docs/throughput.md).

    latency_ms: batch 1, region L1 = host-to-device + model + post-processing. `h2d`, `model` and `post` are the regions by themselves,
    from a second pass; `pre` (decoding, cropping and resizing the image's file) and `end_to_end` (from file to lanes) from a third.
    precision: the mode, `fp32-strict` or `amp-bf16+channels_last`. reference_ms: median of the fixed reference model before and after.
    gflops counts a multiply-add as two operations. cpu_ms: CPU time of the process an iteration.

    repeats: how many fresh processes were measured; every figure is the median over them, iterations their sum, and p50_range_ms the
    lowest and highest p50. batches: images at once, in a process of their own, and why no larger ones were tried. Peak memory is that
    of batch 1: allocated and reserved on a CUDA device, resident of the whole process. score_change: the headline score in this mode
    minus that in fp32-strict, a fraction, over score_images images.
    """

    protocol: ProtocolName
    device: str
    threads: Amount
    precision: str
    images: Amount
    iterations: Amount
    latency_ms: Timed
    model_ms: Latency
    post_ms: Latency
    fps: Measured
    reference_ms: tuple[Elapsed, Elapsed]
    parameters: Amount
    gflops: Measured | None
    gflops_is_lower_bound: bool
    peak_memory_bytes: Amount | None
    flags: tuple[str, ...] = ()
    repeats: Amount = unused(1)
    p50_range_ms: tuple[Measured, Measured] | None = unused(None)
    warm_iterations: Amount | None = unused(None)
    cpu_ms: Measured | None = unused(None)
    pre_ms: Latency | None = unused(None)
    h2d_ms: Latency | None = unused(None)
    end_to_end_ms: Latency | None = unused(None)
    compile_seconds: Measured | None = unused(None)
    peak_reserved_bytes: Amount | None = unused(None)
    peak_resident_bytes: Amount | None = unused(None)
    batches: tuple[BatchPoint, ...] = unused(())
    batches_ended: str | None = unused(None)
    score_change: float | None = unused(None)
    score_images: Amount | None = unused(None)
    gpu: tuple[GpuState, GpuState] | None = unused(None)


class OwnTiming(Stored):
    """How long a program that isn't run in this process took an image, by its own clock and its own idea of what counts.

    Not comparable with a lane-latency protocol, nor with another program's.
    """

    protocol: Literal["program/1"]
    device: str
    threads: Amount
    images: Amount
    latency_ms: Latency


class StepCost(Stored):
    """Time of a training step with the method over that without, both at the same precision, measured in turns in one process.

    The protocol is described in harness/training/step_cost.py. ratio: median over `blocks`, ratio_low and ratio_high the lowest and
    highest of them. seconds_per_step: medians. Peak memory: of tensors on a CUDA device, each arm as if it were alone; None on a CPU,
    where torch doesn't count it. step-cost/1 left out what lambda_mode `ratio` measures, and is the same for all else.
    """

    protocol: Literal["step-cost/1", "step-cost/2"]
    device: str
    threads: Amount
    precision: Literal["fp32", "bf16", "fp16"]
    batch_size: Amount
    micro_batch_size: Amount
    blocks: Amount
    ratio: Ratio
    ratio_low: Ratio
    ratio_high: Ratio
    seconds_per_step: Measured
    baseline_seconds_per_step: Measured
    peak_memory_bytes: Amount | None
    baseline_peak_memory_bytes: Amount | None
    flags: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _ratio_within(self) -> Self:
        if not self.ratio_low <= self.ratio <= self.ratio_high:
            raise ValueError(
                f"key 'ratio' is {self.ratio}, not from ratio_low {self.ratio_low} to ratio_high {self.ratio_high}"
            )
        return self


class InferenceCost(Stored):
    """Time of the network with what a method left in it over that of the same network without, measured in turns in one process.

    ratio: median over `blocks` of with, over without; ratio_low and ratio_high bound its 95 % bootstrap interval. Batch 1, from uint8
    images on the device to the network's outputs, in fp32-strict. graph: how the network runs: `eager` as it is, `exported` by
    torch.export, which `compiled` and `cuda-graph` start from.
    """

    protocol: ProtocolName
    graph: Literal["eager", "exported", "compiled", "cuda-graph"]
    device: str
    threads: Amount
    blocks: Amount
    ratio: Ratio
    ratio_low: Ratio
    ratio_high: Ratio
    model_ms: Measured
    baseline_model_ms: Measured
    flags: tuple[str, ...] = ()
