"""A whole measurement of a small detector on the CPU: its regions, its settings, and what it reports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from detectors.base import Batch, Detector, Tap
from detectors.meta import Configuration, DetectorMeta, InputSize, Recipe
from harness.lanes import Geometry, Lane, plain_geometry
from harness.throughput.devices import CpuTimer, Usage, timing_settings
from harness.throughput.measurement import measure
from harness.throughput.modes import HEADLINE, Mode
from harness.throughput.operations import count_operations
from harness.throughput.pipeline import Pipeline, frames_of
from harness.throughput.protocol import PROTOCOLS
from harness.throughput.reference import reference_model

FULL, SHORT = PROTOCOLS["lane-latency/1"], PROTOCOLS["lane-latency/1-short"]
MILLISECOND = 1_000_000


def test_settings_are_put_back_also_after_an_error() -> None:
    def state() -> tuple[Any, ...]:
        cudnn = torch.backends.cudnn
        return (
            torch.get_num_threads(),
            torch.backends.cuda.matmul.allow_tf32,
            cudnn.allow_tf32,
            cudnn.benchmark,
            cudnn.deterministic,
            torch.are_deterministic_algorithms_enabled(),
        )

    def fail_inside() -> None:
        with timing_settings(threads=1, tf32=False):
            assert state() == (1, False, False, True, False, False)
            raise KeyError

    before = state()
    with pytest.raises(KeyError):
        fail_inside()
    assert state() == before


NETWORK = (32, 64)


class Toy(Detector):
    """One convolution, one lane an image."""

    metas = {}  # noqa: RUF012

    def __init__(self, channels: int = 4) -> None:
        size = InputSize(frame=(590, 1640), crop=(0, 0, 590, 1640), network=NETWORK)
        recipe = Recipe(optimizer="adamw", learning_rate=1e-3, schedule="constant", steps=1, batch_size=1)
        meta = DetectorMeta(
            name="toy", paper="none", year=2024, family="row-wise", backbone="none", upstream="none", licence="none",
            configurations={"culane": Configuration(input=size, recipe=recipe)},
        )  # fmt: skip
        super().__init__(meta, "culane")
        self.convolution = nn.Conv2d(3, channels, 3, padding=1)
        self.seen: list[Tensor] = []
        self.modes: set[tuple[bool, bool]] = set()

    def taps(self) -> tuple[Tap, ...]:
        return ()

    def encode_targets(self, lanes: Sequence[Lane], geometry: Geometry) -> dict[str, Any]:
        return {}

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(images)
        self.modes.add((self.training, torch.is_grad_enabled()))
        return self.convolution(images.float() / 255)

    def losses(self, outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
        return {}

    def decode(self, outputs: Tensor, geometries: Sequence[Geometry]) -> list[list[Lane]]:
        assert outputs.shape[0] == len(geometries) == 1
        return [[Lane(np.array([[0.0, 500.0], [1.0, 300.0]], dtype=np.float32), 0.9)]]


def view(index: int) -> tuple[np.ndarray, Geometry]:
    """An image whose every value is its position."""
    return np.full((3, *NETWORK), index, dtype=np.uint8), plain_geometry((590, 1640), (0, 0, 590, 1640), NETWORK)


def pipeline_of(detector: Detector, count: int, mode: Mode = HEADLINE) -> Pipeline:
    return Pipeline(detector, view, frames_of(view, count, pin=False), torch.device("cpu"), mode)


@pytest.fixture
def small_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference model on a small input: its time doesn't matter here."""
    monkeypatch.setattr("harness.throughput.reference.REFERENCE_INPUT", (1, 3, 32, 32))


@pytest.mark.usefixtures("small_reference")
def test_a_measurement_of_a_small_detector_holds_together() -> None:
    detector = Toy().train()
    threads = torch.get_num_threads()
    generator = torch.get_rng_state()
    result = measure(
        detector,
        view,
        3,
        protocol="lane-latency/1-short",
        device=torch.device("cpu"),
        threads=1,
        flags=("untrained",),
    )
    assert (result.protocol, result.device, result.threads, result.precision) == (
        "lane-latency/1-short", "cpu", 1, "fp32-strict",
    )  # fmt: skip
    assert (result.images, result.iterations) == (3, 100)
    latency = result.latency_ms
    assert 0 < latency.minimum <= latency.p50 <= latency.p90 <= latency.p95 <= latency.p99
    assert result.fps == pytest.approx(1000 / latency.p50)
    assert result.model_ms.minimum < latency.p99
    assert min(result.reference_ms) > 0
    assert result.parameters == 3 * 4 * 9 + 4
    assert result.gflops == pytest.approx(2 * 32 * 64 * 9 * 3 * 4 / 1e9)
    assert not result.gflops_is_lower_bound
    assert result.peak_memory_bytes is None
    assert result.flags[:2] == ("untrained", "cpu")
    assert set(result.flags) <= {"untrained", "cpu", "noisy", "drift"}
    assert detector.training
    assert detector.modes == {(False, False)}
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), generator)


@pytest.mark.usefixtures("small_reference")
def test_the_full_protocol_in_one_process_says_that_it_is_one_of_three_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    hurried = replace(FULL, warm_seconds=0.0, tolerance=10.0, iterations=20, seconds=0.0, region_iterations=5)
    monkeypatch.setitem(PROTOCOLS, "lane-latency/1", hurried)
    result = measure(Toy(), view, 1, protocol="lane-latency/1", device=torch.device("cpu"), threads=1)
    assert "1 of 3 repeats" in result.flags
    assert result.iterations == 20


def test_every_iteration_takes_the_next_image_and_batch_one_uint8() -> None:
    detector = Toy().eval()
    pipeline = pipeline_of(detector, 3)
    for _ in range(4):
        pipeline.whole(CpuTimer())
    assert [int(image[0, 0, 0, 0]) for image in detector.seen] == [0, 1, 2, 0]
    assert {(image.dtype, tuple(image.shape)) for image in detector.seen} == {(torch.uint8, (1, 3, *NETWORK))}


class FakeTimer:
    """A device whose clock ticks a millisecond at every look, and that finishes its work 5 ms after it was asked to."""

    def __init__(self) -> None:
        self.time = 0
        self.log: list[str] = []

    def now(self) -> int:
        self.log.append("now")
        self.time += MILLISECOND
        return self.time

    def synchronise(self) -> None:
        self.log.append("synchronise")
        self.time += 5 * MILLISECOND

    def mark(self) -> int:
        self.time += MILLISECOND
        return self.time

    def between(self, start: int, end: int) -> int:
        assert self.log[-1] == "synchronise"
        return end - start


def test_the_clock_is_read_only_after_the_device_has_finished() -> None:
    pipeline = pipeline_of(Toy().eval(), 1)
    timer = FakeTimer()
    assert pipeline.whole(timer) == 6 * MILLISECOND
    assert timer.log == ["synchronise", "now", "synchronise", "now"]
    assert pipeline.regions(timer) == (MILLISECOND, MILLISECOND, MILLISECOND)


class Clock(FakeTimer):
    """A clock of the host and of a device that works at once: it goes on by what happens, and by nothing else."""

    def now(self) -> int:
        return self.time

    mark = perf_counter_ns = now  # type: ignore[assignment]

    def synchronise(self) -> None:
        pass

    def between(self, start: int, end: int) -> int:
        return end - start

    def takes(self, milliseconds: float, work: Callable[..., Any]) -> Callable[..., Any]:
        """The same work, in a given time."""

        def done(*given: Any, **options: Any) -> Any:
            self.time += round(milliseconds * MILLISECOND)
            return work(*given, **options)

        return done


@pytest.mark.parametrize("reference", [(100.0, 102.0), (100.0, 104.0)])
def test_every_region_of_a_measurement_has_the_time_that_was_spent_in_it(
    monkeypatch: pytest.MonkeyPatch, reference: tuple[float, float]
) -> None:
    """Reading takes 16 ms, the network 4 and post-processing 2; the process computes for 1.5 s of 100 images."""
    clock, module = Clock(), "harness.throughput.measurement"
    detector = Toy()
    detector.forward = clock.takes(4, detector.forward)  # type: ignore[method-assign]
    detector.decode = clock.takes(2, detector.decode)  # type: ignore[method-assign]
    moments, references = iter([Usage(0.0, 3.0, {}), Usage(1.0, 4.5, {})]), iter(reference)
    monkeypatch.setattr(f"{module}.timer_of", lambda device: clock)
    monkeypatch.setattr(f"{module}.usage", lambda: next(moments))
    monkeypatch.setattr(f"{module}.reference_milliseconds", lambda *given, **options: next(references))
    monkeypatch.setattr("harness.throughput.pipeline.time", clock)
    monkeypatch.setitem(PROTOCOLS, "lane-latency/1-short", replace(SHORT, file_iterations=3))
    found = measure(
        detector, clock.takes(16, view), 2, protocol="lane-latency/1-short", device=torch.device("cpu"), threads=1
    )
    assert found.pre_ms is not None
    assert found.h2d_ms is not None
    assert found.end_to_end_ms is not None
    regions = (found.h2d_ms, found.model_ms, found.post_ms, found.latency_ms, found.pre_ms, found.end_to_end_ms)
    assert [region.p50 for region in regions] == [0, 4, 2, 6, 16, 22]
    assert found.fps == pytest.approx(1000 / 6)
    assert found.cpu_ms == pytest.approx(15)
    assert found.reference_ms == reference
    assert found.flags == (("cpu",) if reference[1] == 102 else ("cpu", "drift"))


def test_a_warm_up_that_never_settled_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.throughput.reference.REFERENCE_INPUT", (1, 3, 32, 32))
    monkeypatch.setitem(PROTOCOLS, "lane-latency/1-short", replace(SHORT, warm_iterations=9, warm_cap_seconds=0.0))
    found = measure(Toy(), view, 1, protocol="lane-latency/1-short", device=torch.device("cpu"), threads=1)
    assert "warm-up not stable" in found.flags
    assert found.warm_iterations == 1


def test_mixed_precision_reaches_the_network() -> None:
    pipeline = pipeline_of(Toy().eval(), 1, Mode("amp-bf16"))
    assert pipeline.forward(torch.zeros(1, 3, *NETWORK, dtype=torch.uint8)).dtype == torch.bfloat16


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((3, *NETWORK), np.float32),
        np.zeros((*NETWORK, 3), np.uint8),
    ],
)
def test_images_that_do_not_fit_their_geometries_are_refused(image: Any) -> None:
    with pytest.raises(ValueError, match="geometry"):
        frames_of(lambda _: (image, view(0)[1]), 1, pin=False)


def test_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        frames_of(view, 0, pin=False)


def test_more_channels_cost_more_operations_and_a_multiply_add_is_two() -> None:
    image = torch.zeros(1, 3, *NETWORK, dtype=torch.uint8)
    few, many = count_operations(Toy(4).eval(), image), count_operations(Toy(8).eval(), image)
    assert few == (pytest.approx(2 * 32 * 64 * 27 * 4 / 1e9), False)
    assert many[0] == pytest.approx(2 * few[0])


def test_a_linear_layer_of_known_size_is_counted() -> None:
    gflops, bound = count_operations(nn.Sequential(nn.Linear(10, 20, bias=False), nn.ReLU()), torch.zeros(1, 10))
    assert (gflops, bound) == (pytest.approx(2 * 10 * 20 / 1e9), False)


class Sampler(nn.Module):
    """Resamples its input, which costs operations that torch's counter leaves out."""

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.grid_sample(images, torch.zeros(1, 4, 4, 2), align_corners=False)


def test_operators_of_unknown_cost_make_it_a_lower_bound() -> None:
    assert count_operations(Sampler(), torch.zeros(1, 3, 8, 8)) == (0.0, True)


def test_the_reference_model_is_resnet18_at_ufld_size_and_always_the_same() -> None:
    model, images = reference_model(torch.device("cpu"))
    assert tuple(images.shape) == (1, 3, 288, 800)
    # The parameters of ResNet-18 with 1,000 classes, as torchvision documents them.
    assert sum(parameter.numel() for parameter in model.parameters()) == 11_689_512
    assert torch.equal(images, reference_model(torch.device("cpu"))[1])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_measurement_on_a_gpu_reports_its_memory() -> None:
    result = measure(Toy(), view, 2, protocol="lane-latency/1-short", device=torch.device("cuda"), threads=1)
    assert result.device == torch.cuda.get_device_name()
    assert result.peak_memory_bytes
    assert "cpu" not in result.flags
