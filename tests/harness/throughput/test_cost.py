"""What a method costs at inference: both arms on the same images, in every graph that torch can make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from detectors.base import Batch, Detector, Tap
from detectors.meta import Configuration, DetectorMeta, InputSize, Recipe
from harness.lanes import Geometry, Lane, plain_geometry
from harness.throughput.cost import graphs_of, measure_inference_cost, network_of
from harness.throughput.devices import CpuTimer, SingleThreadTimer
from harness.throughput.protocol import PROTOCOLS

NETWORK = (32, 64)
CPU = torch.device("cpu")


class Layers(Detector):
    """As many equal convolutions as asked for."""

    metas = {}  # noqa: RUF012

    def __init__(self, count: int) -> None:
        size = InputSize(frame=(590, 1640), crop=(0, 0, 590, 1640), network=NETWORK)
        recipe = Recipe(optimizer="adamw", learning_rate=1e-3, schedule="constant", steps=1, batch_size=1)
        meta = DetectorMeta(
            name="layers", paper="none", year=2024, family="row-wise", backbone="none", upstream="none", licence="none",
            configurations={"culane": Configuration(input=size, recipe=recipe)},
        )  # fmt: skip
        super().__init__(meta, "culane")
        self.layers = nn.Sequential(*(nn.Conv2d(3, 3, 9, padding=4) for _ in range(count)))
        self.seen: list[int] = []

    def taps(self) -> tuple[Tap, ...]:
        return ()

    def encode_targets(self, lanes: Sequence[Lane], geometry: Geometry) -> dict[str, Any]:
        return {}

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.layers(images.float() / 255)
        return found

    def losses(self, outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
        return {}

    def decode(self, outputs: Tensor, geometries: Sequence[Geometry]) -> list[list[Lane]]:
        raise AssertionError("decoding is no part of the network's cost")


class Undecided(Layers):
    """A network that looks at its values before it goes on, which torch.export can't follow. It notes which image it got."""

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(int(images[0, 0, 0, 0]))
        return super().forward(images if self.seen[-1] > 1 else images + 0)


def view(index: int) -> tuple[np.ndarray, Geometry]:
    return np.full((3, *NETWORK), index, dtype=np.uint8), plain_geometry((590, 1640), (0, 0, 590, 1640), NETWORK)


def test_a_network_of_eight_times_the_layers_costs_a_multiple() -> None:
    (more,) = measure_inference_cost(
        Layers(2), Layers(16), view, 3, protocol="lane-latency/1-short", device=CPU, threads=1
    )
    assert (more.graph, more.blocks, more.device, more.threads) == ("eager", 40, "cpu", 1)
    assert more.ratio_low <= more.ratio <= more.ratio_high
    assert more.ratio > 1.5
    assert more.model_ms > more.baseline_model_ms > 0


def test_the_times_of_both_arms_are_medians_in_milliseconds_on_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []

    def block(arms: Any, image: Tensor, timer: Any) -> tuple[list[int], list[int]]:
        seen.append(image)
        slow = 50 if len(seen) % 9 == 0 else 1
        return [2_000_000 * slow, 2_000_000], [5_000_000, 5_000_000 * slow]

    monkeypatch.setattr("harness.throughput.cost.block_of", block)
    (found,) = measure_inference_cost(
        Layers(1), Layers(1), view, 3, protocol="lane-latency/1-short", device=CPU, threads=1
    )
    assert (found.baseline_model_ms, found.model_ms, found.ratio) == (2.0, 5.0, 2.5)
    assert {(image.dtype, tuple(image.shape)) for image in seen} == {(torch.uint8, (1, 3, *NETWORK))}


def test_several_threads_are_timed_by_the_wall_clock_and_one_by_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    timers: list[Any] = []

    def block(arms: Any, image: Tensor, timer: Any) -> tuple[list[int], list[int]]:
        timers.append(type(timer))
        return [1, 1], [1, 1]

    monkeypatch.setattr("harness.throughput.cost.block_of", block)
    for threads, timer in ((1, SingleThreadTimer), (2, CpuTimer)):
        timers.clear()
        measure_inference_cost(
            Layers(1), Layers(1), view, 1, protocol="lane-latency/1-short", device=CPU, threads=threads
        )
        assert set(timers) == {timer}


def test_both_arms_see_the_same_images_first_second_second_first() -> None:
    baseline, method = Undecided(1), Undecided(1)
    measure_inference_cost(baseline, method, view, 3, protocol="lane-latency/1-short", device=CPU, threads=1)
    assert baseline.seen == method.seen
    assert baseline.seen[:8] == [0, 0, 1, 1, 2, 2, 0, 0]
    assert len(baseline.seen) == 2 * (5 + 40)  # blocks of warm-up, blocks that count


def test_what_torch_cannot_export_is_told_beside_the_figure_that_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.throughput.cost.noise_flags", lambda *given: ["noisy"])
    few = replace(PROTOCOLS["lane-latency/1"], cost_warm_blocks=1, cost_blocks=5)
    monkeypatch.setitem(PROTOCOLS, "lane-latency/1", few)
    (found,) = measure_inference_cost(
        Undecided(1), Undecided(1), view, 1, protocol="lane-latency/1", device=CPU, threads=1
    )
    assert [flag.partition(" (")[0] for flag in found.flags] == [
        "noisy",
        "exported: not possible",
        "compiled: not possible",
    ]


def test_an_exported_network_gives_the_same_outputs() -> None:
    detector = Layers(2).eval()
    image = torch.from_numpy(view(7)[0])[None]
    with torch.no_grad():
        assert torch.allclose(network_of(detector, image, "exported")(image), detector(image), atol=1e-6)


def test_the_whole_protocol_asks_for_a_cuda_graph_where_there_is_cuda() -> None:
    assert graphs_of("lane-latency/1", torch.device("cuda")) == ("eager", "exported", "compiled", "cuda-graph")
    assert graphs_of("lane-latency/1", CPU) == ("eager", "exported", "compiled")
    assert graphs_of("lane-latency/1-short", torch.device("cuda")) == ("eager",)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_cuda_graph_gives_the_outputs_of_each_image() -> None:
    detector = Layers(2).eval().cuda()
    first, second = (torch.from_numpy(view(value)[0])[None].cuda() for value in (7, 9))
    with torch.no_grad():
        replay = network_of(detector, first, "cuda-graph")
        assert torch.allclose(replay(second), detector(second), atol=1e-5)
