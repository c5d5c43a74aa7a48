"""Measure a detector on a device: latency of batch 1 from host memory to lanes, its regions, size and operations.

Synchronising after every image lets the clocks of a GPU fall between images: the figures are those of a camera's stream, not of a
saturated device, for which there are batches (`harness.throughput.batches`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch

from detectors.base import Detector
from harness.records.timings import ProtocolName, Throughput
from harness.throughput.devices import device_name, noise_flags, timer_of, timing_settings, usage
from harness.throughput.gpu import gpu_state
from harness.throughput.modes import HEADLINE, Mode, check_mode
from harness.throughput.operations import count_operations
from harness.throughput.pipeline import Pipeline, View, deployed, frames_of
from harness.throughput.protocol import PROTOCOLS, drifted, latency_of, timed, warm_up
from harness.throughput.reference import reference_milliseconds


def measure(
    detector: Detector,
    view: View,
    count: int,
    *,
    protocol: ProtocolName,
    device: torch.device,
    threads: int,
    mode: Mode = HEADLINE,
    flags: Sequence[str] = (),
) -> Throughput:
    """Time a detector by a lane-latency protocol, in this process.

    view: what the detector sees of the files of `count` test images, which are taken in turn. flags: what the caller knows
    (`rendered images`). The detector is moved to `device` and otherwise left as it was. ValueError where an image and its geometry
    don't fit each other, InputError for a mode that the device hasn't. RuntimeError where a compiled network was compiled again while
    it was timed: that would be no measurement.

    Flags that it sets: `cpu`; `noisy` (others used the device); `drift` (the reference model's time changed by more than 3 %);
    `warm-up not stable`; `1 of 3 repeats` (the full protocol asks for three fresh processes, and this is one).
    """
    check_mode(mode, device)
    rules = PROTOCOLS[protocol]
    timer = timer_of(device)
    frames = frames_of(view, count, pin=device.type == "cuda")
    gpu_before = gpu_state(device)
    reference_before = reference_milliseconds(device, timer, rules, threads=threads)
    with deployed(detector, device, mode):
        with timing_settings(threads=threads, tf32=mode.precision == "tf32"), torch.inference_mode():
            pipeline = Pipeline(detector, view, frames, device, mode)
            forget_peak(device)
            first = pipeline.whole(timer)
            warm = warm_up(lambda: pipeline.whole(timer), rules)
            with no_compilation() if mode.compiled else nullcontext():
                start = usage()
                whole = timed(lambda: pipeline.whole(timer), rules)
                end = usage()
                regions = [pipeline.regions(timer) for _ in range(rules.region_iterations)]
                allocated, reserved = peak_memory(device)
                files = [pipeline.from_file(timer) for _ in range(rules.file_iterations)]
        gflops, lower_bound = count_operations(detector, frames[0][0].to(device))
    reference_after = reference_milliseconds(device, timer, rules, threads=threads)
    gpu_after = gpu_state(device)
    raised = [
        *(["cpu"] if device.type == "cpu" else []),
        *noise_flags(device, start, end),
        *(["drift"] if drifted(reference_before, reference_after) else []),
        *(["warm-up not stable"] if not warm.stable else []),
        *([f"1 of {rules.repeats} repeats"] if rules.repeats > 1 else []),
    ]
    latency = latency_of(whole)
    return Throughput(
        protocol=protocol,
        device=device_name(device),
        threads=threads,
        precision=str(mode),
        images=len(frames),
        iterations=len(whole),
        latency_ms=latency,
        model_ms=latency_of([model for _, model, _ in regions]),
        post_ms=latency_of([post for _, _, post in regions]),
        fps=1000.0 / latency.p50,
        reference_ms=(reference_before, reference_after),
        parameters=sum(parameter.numel() for parameter in detector.parameters()),
        gflops=gflops,
        gflops_is_lower_bound=lower_bound,
        peak_memory_bytes=allocated,
        flags=tuple(dict.fromkeys([*flags, *raised])),
        warm_iterations=warm.iterations,
        cpu_ms=1e3 * (end.cpu - start.cpu) / len(whole),
        pre_ms=latency_of([read for read, _ in files]) if files else None,
        h2d_ms=latency_of([copied for copied, _, _ in regions]),
        end_to_end_ms=latency_of([all_of_it for _, all_of_it in files]) if files else None,
        compile_seconds=first / 1e9 if mode.compiled else None,
        peak_reserved_bytes=reserved,
        gpu=(gpu_before, gpu_after) if gpu_before and gpu_after else None,
    )


@contextmanager
def no_compilation() -> Iterator[None]:
    """Refuse to compile a network again: what is timed is what was warm."""
    from torch._dynamo import config

    with config.patch(error_on_recompile=True):  # type: ignore[attr-defined]
        yield


def not_compiled(error: RuntimeError) -> str | None:
    """In a line, why torch.compile couldn't make anything of a network, or not once for all; None if something else is wrong."""
    from torch._dynamo.exc import TorchDynamoException

    if not isinstance(error, TorchDynamoException):
        return None
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def forget_peak(device: torch.device) -> None:
    """Begin a new peak of memory, without what torch reserved for others."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> tuple[int | None, int | None]:
    """Most bytes of tensors since `forget_peak`, and most that torch reserved for them; None on a CPU, where it doesn't count."""
    if device.type != "cuda":
        return None, None
    return torch.cuda.max_memory_allocated(device), torch.cuda.max_memory_reserved(device)
