"""Measure a detector on a device: latency of batch 1 from host memory to lanes, its regions, size and operations.

Synchronising after every image lets the clocks of a GPU fall between images: the figures are those of a camera's stream, not of a
saturated device.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from detectors.base import Detector
from harness.lanes import Geometry
from harness.records import Throughput
from harness.throughput.devices import Timer, device_name, noise_flags, timer_of, timing_settings
from harness.throughput.operations import count_operations
from harness.throughput.protocol import PROTOCOLS, Protocol, ProtocolName, drifted, latency_of, timed, warm_up
from harness.torchvision_guard import ensure_torchvision

Precision = Literal["fp32-strict", "tf32", "amp-bf16", "amp-fp16"]

_AUTOCAST = {"amp-bf16": torch.bfloat16, "amp-fp16": torch.float16}

REFERENCE_INPUT = (1, 3, 288, 800)
"""What the reference model, torchvision's resnet18 in fp32-strict, is timed on: UFLD's input size."""


def measure(
    detector: Detector,
    images: Sequence[npt.NDArray[np.uint8]],
    geometries: Sequence[Geometry],
    *,
    protocol: ProtocolName,
    device: torch.device,
    threads: int,
    precision: Precision = "fp32-strict",
    flags: Sequence[str] = (),
) -> Throughput:
    """Time a detector by a lane-latency protocol, in this process.

    images: uint8 RGB (H, W, 3) frames of a test set, already cropped and resized to the detector's network size; geometries: how they
    became so. They are taken in turn. flags: what the caller knows (`untrained`). The detector is moved to `device` and put back into
    the mode (training or evaluation) that it was in. ValueError where images and geometries don't fit each other.

    Flags that it sets: `cpu`; `noisy` (others used the device); `drift` (the reference model's time changed by more than 3 %);
    `warm-up not stable`; `1 of 3 repeats` (the full protocol asks for three fresh processes, and this is one).
    """
    rules = PROTOCOLS[protocol]
    frames = frames_of(images, geometries, pin=device.type == "cuda")
    timer = timer_of(device)
    was_training = detector.training
    detector.eval().to(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    try:
        with timing_settings(threads=threads, tf32=False):
            reference_before = reference_milliseconds(device, timer, rules)
        with timing_settings(threads=threads, tf32=precision == "tf32"), torch.inference_mode():
            pipeline = Pipeline(detector, frames, device, precision)
            warm = warm_up(lambda: pipeline.whole(timer), rules)
            cpu_start, wall_start = time.process_time(), time.perf_counter()
            whole = timed(lambda: pipeline.whole(timer), rules)
            cpu_seconds, wall_seconds = time.process_time() - cpu_start, time.perf_counter() - wall_start
            regions = [pipeline.regions(timer) for _ in range(rules.region_iterations)]
        peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
        with timing_settings(threads=threads, tf32=False):
            reference_after = reference_milliseconds(device, timer, rules)
        gflops, lower_bound = count_operations(detector, frames[0][0].to(device))
    finally:
        detector.train(was_training)
    raised = [
        *(["cpu"] if device.type == "cpu" else []),
        *noise_flags(device, cpu_seconds=cpu_seconds, wall_seconds=wall_seconds),
        *(["drift"] if drifted(reference_before, reference_after) else []),
        *(["warm-up not stable"] if not warm.stable else []),
        *([f"1 of {rules.repeats} repeats"] if rules.repeats > 1 else []),
    ]
    latency = latency_of(whole)
    return Throughput(
        protocol=protocol,
        device=device_name(device),
        threads=threads,
        precision=precision,
        images=len(frames),
        iterations=len(whole),
        latency_ms=latency,
        model_ms=latency_of([model for model, _ in regions]),
        post_ms=latency_of([post for _, post in regions]),
        fps=1000.0 / latency.p50,
        reference_ms=(reference_before, reference_after),
        parameters=sum(parameter.numel() for parameter in detector.parameters()),
        gflops=gflops,
        gflops_is_lower_bound=lower_bound,
        peak_memory_bytes=peak,
        flags=tuple(dict.fromkeys([*flags, *raised])),
    )


Frame = tuple[Tensor, Geometry]


def frames_of(images: Sequence[npt.NDArray[np.uint8]], geometries: Sequence[Geometry], *, pin: bool) -> list[Frame]:
    """Images as uint8 tensors (1, 3, H, W), pinned for copies to a GPU, each with its geometry."""
    if not images or len(images) != len(geometries):
        raise ValueError(f"{len(images)} images and {len(geometries)} geometries: give at least one, and one each")
    frames = []
    for image, geometry in zip(images, geometries, strict=True):
        if image.dtype != np.uint8 or image.shape != (*geometry.network, 3):
            raise ValueError(f"image is {image.dtype} {image.shape}, its geometry wants uint8 {(*geometry.network, 3)}")
        tensor = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
        frames.append((tensor.pin_memory() if pin else tensor, geometry))
    return frames


class Pipeline:
    """A detector's way from an image in host memory to lanes in original pixels, one frame after the other, without end."""

    def __init__(self, detector: Detector, frames: Sequence[Frame], device: torch.device, precision: Precision) -> None:
        self.detector = detector
        self.frames = frames
        self.device = device
        self.precision = precision
        self.turn = 0

    def next_frame(self) -> Frame:
        """The next frame in turn."""
        frame = self.frames[self.turn % len(self.frames)]
        self.turn += 1
        return frame

    def forward(self, images: Tensor) -> Any:
        """The network at the precision that is measured."""
        dtype = _AUTOCAST.get(self.precision)
        context: AbstractContextManager[Any] = (
            torch.autocast(self.device.type, dtype=dtype) if dtype is not None else nullcontext()
        )
        with context:
            return self.detector(images)

    def whole(self, timer: Timer) -> int:
        """Nanoseconds of one frame from host memory to lanes."""
        image, geometry = self.next_frame()
        timer.synchronise()
        start = timer.now()
        outputs = self.forward(image.to(self.device, non_blocking=True))
        self.detector.decode(outputs, [geometry])
        timer.synchronise()
        return timer.now() - start

    def regions(self, timer: Timer) -> tuple[int, int]:
        """Nanoseconds of the model and of post-processing for one frame."""
        image, geometry = self.next_frame()
        timer.synchronise()
        on_device = image.to(self.device, non_blocking=True)
        marks = [timer.mark()]
        outputs = self.forward(on_device)
        marks.append(timer.mark())
        self.detector.decode(outputs, [geometry])
        marks.append(timer.mark())
        timer.synchronise()
        return timer.between(marks[0], marks[1]), timer.between(marks[1], marks[2])


def reference_milliseconds(device: torch.device, timer: Timer, rules: Protocol) -> float:
    """Median of the reference model: what this machine does at this moment with a network that never changes."""
    model, images = reference_model(device)

    def step() -> int:
        timer.synchronise()
        start = timer.now()
        model(images)
        timer.synchronise()
        return timer.now() - start

    with torch.inference_mode():
        for _ in range(rules.reference_warm_iterations):
            step()
        return float(np.median([step() for _ in range(rules.reference_iterations)])) / 1e6


def reference_model(device: torch.device) -> tuple[nn.Module, Tensor]:
    """The reference model and its input; the global random generators are left as they were."""
    ensure_torchvision()
    from torchvision.models import resnet18

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return resnet18(weights=None).eval().to(device), torch.rand(REFERENCE_INPUT).to(device)
