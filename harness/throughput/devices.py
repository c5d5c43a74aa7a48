"""Clocks of CPU and CUDA devices, the settings under which they are timed, and whether something else uses them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import torch

from harness.throughput.gpu import gpu_is_shared

CPU_SHARE_OF_A_QUIET_RUN = 0.95
"""A process that computes all the time has at least this much CPU time a second of wall time, unless others take the cores; and each of
its threads waits for a core during no more than the rest.
"""

TASKS = Path("/proc/self/task")
"""Linux's folder of this process's threads. Elsewhere nothing tells how long each of them waited."""


class Timer(Protocol):
    """A device's clock. `mark` notes a point of the device's own work; `between` two marks, after `synchronise`, are nanoseconds."""

    def now(self) -> int:
        """Wall clock in nanoseconds."""
        ...

    def synchronise(self) -> None:
        """Wait until the device has done all that it was given."""
        ...

    def mark(self) -> Any:
        """A point in the device's work."""
        ...

    def between(self, start: Any, end: Any) -> int:
        """Nanoseconds from one mark to another."""
        ...


class CpuTimer:
    """The CPU works in step with the program: its marks are wall clock."""

    def now(self) -> int:
        """Wall clock in nanoseconds."""
        return time.perf_counter_ns()

    def synchronise(self) -> None:
        """Nothing to wait for."""

    def mark(self) -> int:
        """The present time."""
        return time.perf_counter_ns()

    def between(self, start: int, end: int) -> int:
        """Nanoseconds from one mark to another."""
        return end - start


class SingleThreadTimer(CpuTimer):
    """CPU time of the process. On one thread it is the wall time of an idle machine, and a busy one moves it far less."""

    def now(self) -> int:
        """CPU time in nanoseconds."""
        return time.process_time_ns()


class CudaTimer:
    """Wall clock with synchronisation; marks are CUDA events on the current stream."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def now(self) -> int:
        """Wall clock in nanoseconds."""
        return time.perf_counter_ns()

    def synchronise(self) -> None:
        """Wait for all kernels of the device."""
        torch.cuda.synchronize(self.device)

    def mark(self) -> torch.cuda.Event:
        """A recorded event."""
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self.device))
        return event

    def between(self, start: torch.cuda.Event, end: torch.cuda.Event) -> int:
        """Nanoseconds from one event to another."""
        return round(float(start.elapsed_time(end)) * 1e6)


def timer_of(device: torch.device) -> Timer:
    """The clock of a device."""
    return CudaTimer(device) if device.type == "cuda" else CpuTimer()


def ratio_timer_of(device: torch.device, threads: int) -> Timer:
    """The clock for the ratio of two arms: wall time, but CPU time where everything runs on one CPU thread."""
    return SingleThreadTimer() if device.type == "cpu" and threads == 1 else timer_of(device)


def device_name(device: torch.device) -> str:
    """`cpu`, or the name of the GPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


@contextmanager
def timing_settings(*, threads: int, tf32: bool) -> Iterator[None]:
    """Threads of torch, TF32 and cuDNN as the protocol asks for (benchmark on, deterministic off), images decoded and resized by one
    thread; all put back at the end.
    """
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = (torch.get_num_threads(), matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic)
    decoding = cv2.getNumThreads()
    algorithms = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        torch.set_num_threads(threads)
        cv2.setNumThreads(1)
        matmul.allow_tf32 = cudnn.allow_tf32 = tf32
        cudnn.benchmark, cudnn.deterministic = True, False
        torch.use_deterministic_algorithms(False)
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(decoding)
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic = before[1:]
        torch.use_deterministic_algorithms(algorithms[0], warn_only=algorithms[1])


@dataclass(frozen=True)
class Usage:
    """What the process has used up to a moment, in seconds. wall: of a clock. cpu: of all threads together.

    waited: of each thread by its number, how long it could have run but had no core; empty where the system doesn't tell.
    """

    wall: float
    cpu: float
    waited: Mapping[str, float]


def usage() -> Usage:
    """What the process has used so far."""
    waited = {}
    for task in TASKS.glob("*/schedstat"):
        # A thread that has ended since it was listed isn't one of those that are timed.
        with suppress(FileNotFoundError, ProcessLookupError):
            waited[task.parent.name] = int(task.read_text().split()[1]) / 1e9
    return Usage(time.perf_counter(), time.process_time(), waited)


def noise_flags(device: torch.device, start: Usage, end: Usage) -> list[str]:
    """Flags for a measurement that others disturbed between two moments, the timed part.

    On a CPU the process as a whole tells what one thread lacked; of several each has to be looked at, for all wait for the slowest.
    """
    if device.type == "cuda":
        shared = gpu_is_shared(device)
        return ["noisy"] if shared else ["load of the GPU unknown"] if shared is None else []
    wall = end.wall - start.wall
    waited = max((seconds - start.waited.get(task, 0.0) for task, seconds in end.waited.items()), default=0.0)
    took_its_time = end.cpu - start.cpu >= CPU_SHARE_OF_A_QUIET_RUN * wall
    return [] if took_its_time and waited <= (1 - CPU_SHARE_OF_A_QUIET_RUN) * wall else ["noisy"]
