"""What SAMIRO costs a training step and an inference: the cost tables of docs/performance.md. `-s` prints their rows.

DETECTORS="name:batch ..." measures others than the micro detectors, in the first form of each; THREADS, PRECISION (fp32, bf16) and
DEVICE as they say. COMPILE=1: the steps, and the networks whose inference is timed, go through torch.compile. COUNTS="1 16":
images of an inference; BLOCKS=40: its turns. The oracle is as large as the detector's backbone.
"""

from __future__ import annotations

import os
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from scipy.stats import binom

from detectors.base import Detector
from detectors.meta import Normalisation
from harness.conformance.subject import Subject, forms_of, subject_of
from harness.methods.attach import attach
from harness.methods.base import TrainingModel
from harness.methods.config import method_configuration
from harness.methods.oracle import Oracle, drawn_backbone, oracle_taps
from harness.methods.pairing import tap_pairs
from harness.methods.statistics import target_statistics
from harness.pytorch.compilation import compile_in_place
from harness.throughput.devices import ratio_timer_of
from harness.throughput.interleaved import turns
from harness.training.loop import TrainingPlan
from harness.training.step_cost import measure_step_cost

DETECTORS = os.environ.get("DETECTORS", "ufldv2_micro:16 resa_micro:16 lstr_micro:16").split()
THREADS = int(os.environ.get("THREADS", "1"))
PRECISION: Any = os.environ.get("PRECISION", "fp32")
DEVICE = torch.device(os.environ.get("DEVICE", "cpu"))
COMPILE = os.environ.get("COMPILE", "0") == "1"
BUDGETS = {"cpu": {1.0: 1.7, 0.5: 1.4}, "cuda": {1.0: 1.4, 0.5: 1.25}}
"""The most that a step may cost with an oracle at that share of the resolution, over a step without."""
SLACK = 1.15
"""Only what got much dearer fails: single runs on a machine with neighbours differ by several percent."""
INFERENCE_BLOCKS = int(os.environ.get("BLOCKS", "40"))
COUNTS = [int(count) for count in os.environ.get("COUNTS", "1 16").split()]


def subject(name: str, folder: Path) -> Subject:
    return subject_of(name, forms_of(name, None)[0], folder)


def samiro(subject: Subject, images: torch.Tensor, scale: float) -> TrainingModel:
    """SAMIRO with a random oracle of the backbone's size: a step's time doesn't depend on the weights."""
    detector = subject.build()
    method = method_configuration("samiro", {"oracle": "random", "oracle_scale": scale})
    assert method.kind == "samiro"
    backbone = drawn_backbone(subject.adapter.meta.backbone, 0)
    oracle = Oracle(backbone, oracle_taps(backbone), Normalisation())
    statistics = target_statistics(oracle, tap_pairs(detector, oracle, method), method, [images])
    generator = torch.Generator().manual_seed(0)
    return attach(detector, method, oracle=oracle, statistics=statistics, generator=generator, total_steps=100)


@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("detector", DETECTORS)
def test_a_step_with_samiro_over_one_without(
    benchmark: BenchmarkFixture, detector: str, scale: float, tmp_path: Path
) -> None:
    name, size = detector.split(":")
    shown = subject(name, tmp_path)
    batch = shown.batch(shown.build(), count=min(int(size), 8))
    batch = repeated(shown, int(size)) if int(size) > 8 else batch
    recipe = shown.configuration.recipe.model_copy(update={"batch_size": int(size)})
    plan = TrainingPlan(recipe, 1000, precision=PRECISION, compiled=COMPILE)
    cost = benchmark.pedantic(
        lambda: measure_step_cost(
            lambda: shown.model("baseline"),
            lambda: samiro(shown, batch.images, scale),
            [batch],
            plan,
            device=DEVICE,
            threads=THREADS,
        ),
        rounds=1,
    )
    benchmark.extra_info |= cost.model_dump()
    print(
        f"\n| {name} | {subject_size(shown)} | {size} | {cost.precision} | {scale:g} | {1e3 * cost.baseline_seconds_per_step:.0f} "
        f"| {1e3 * cost.seconds_per_step:.0f} | {cost.ratio:.2f} | {cost.ratio_low:.2f} to {cost.ratio_high:.2f} | {mebibytes(cost)} |"
    )
    assert cost.ratio < SLACK * BUDGETS[DEVICE.type][scale]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("detector", DETECTORS)
def test_an_inference_with_attention_over_one_without(
    benchmark: BenchmarkFixture, detector: str, count: int, tmp_path: Path
) -> None:
    name = detector.split(":")[0]
    shown = subject(name, tmp_path)
    images = torch.randint(0, 256, (count, 3, *shown.configuration.input.network)).to(torch.uint8).to(DEVICE)
    plain = shown.build().eval().to(DEVICE)
    attended: Detector = samiro(shown, images[:1].cpu(), 1.0).inference_model().eval().to(DEVICE)
    if COMPILE:
        compile_in_place(plain)
        compile_in_place(attended)
    timer, threads = ratio_timer_of(DEVICE, THREADS), torch.get_num_threads()

    def measured() -> list[float]:
        torch.set_num_threads(THREADS)
        try:
            with torch.inference_mode():
                for _ in range(5):
                    turns(lambda: plain(images), lambda: attended(images), timer)
                blocks = [
                    turns(lambda: plain(images), lambda: attended(images), timer) for _ in range(INFERENCE_BLOCKS)
                ]
        finally:
            torch.set_num_threads(threads)
        return [sum(ours) / sum(theirs) for theirs, ours in blocks]

    ratios = sorted(benchmark.pedantic(measured, rounds=1))
    benchmark.extra_info["ratio"] = median(ratios)
    # Between these order statistics lies the median with 95 % at least (of 40: the 14th and the 27th).
    outside = int(binom.ppf(0.025, len(ratios), 0.5))
    low, high = ratios[outside - 1], ratios[-outside]
    mode = "compiled" if COMPILE else "eager"
    print(f"\n| {name} | {count} | {mode} | {median(ratios):.3f} | {low:.3f} to {high:.3f} |")
    assert median(ratios) < 1.5


def repeated(shown: Subject, size: int) -> Any:
    """A batch of `size` samples, the frames over and over."""
    from dataclasses import replace

    one = shown.batch(shown.build())
    times = -(-size // len(one.ids))

    def tiled(value: torch.Tensor) -> torch.Tensor:
        return value.repeat(times, *[1] * (value.ndim - 1))[:size]

    return replace(
        one,
        images=tiled(one.images),
        targets={key: tiled(value) for key, value in one.targets.items()},
        lanes=tiled(one.lanes),
        lane_counts=tiled(one.lane_counts),
        point_counts=tiled(one.point_counts),
        geometries=(one.geometries * times)[:size],
        ids=(one.ids * times)[:size],
    )


def subject_size(shown: Subject) -> str:
    height, width = shown.configuration.input.network
    return f"{height}x{width}"


def mebibytes(cost: Any) -> str:
    if cost.peak_memory_bytes is None:
        return ""
    return f"{cost.baseline_peak_memory_bytes / 2**20:.0f}, {cost.peak_memory_bytes / 2**20:.0f} MiB"
