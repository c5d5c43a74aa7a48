"""How fast frames are rendered, against the JPEG encoding of the same frames in the same run, and labels without them."""

from __future__ import annotations

import time

import cv2
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from harness.rendered.frame import Stage, prepare, render_frame
from harness.rendered.sampling import sample_scene, sample_street
from harness.rendered.spec import SCENARIOS


@pytest.fixture(scope="module")
def stages() -> list[Stage]:
    found = [prepare(sample_scene(scenario, 0.5, seed, 2)) for scenario in SCENARIOS for seed in (1, 2)]
    for stage in found:
        render_frame(stage, 0, width=1640, height=590)
    return found


MOST_ENCODINGS = 30
"""About twice what was measured: only a rendering that got much slower fails."""


def test_rendering_costs_at_most_thirty_times_the_encoding(benchmark: BenchmarkFixture, stages: list[Stage]) -> None:
    """CULane-sized frames of all scenarios on one core; the ratio is that of the least times of several turns, since
    other work on the machine slows both."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    encoding, rendering = [], []

    def turn() -> None:
        start = time.process_time()
        frames = [render_frame(stage, 1, width=1640, height=590) for stage in stages]
        rendered = time.process_time()
        for frame in frames:
            cv2.imencode(".jpg", frame.image, [cv2.IMWRITE_JPEG_QUALITY, 92])
        rendering.append((rendered - start) / len(stages))
        encoding.append((time.process_time() - rendered) / len(stages))

    try:
        benchmark.pedantic(turn, rounds=3, warmup_rounds=1)
    finally:
        cv2.setNumThreads(threads)
    ratio = min(rendering) / min(encoding)
    benchmark.extra_info["encodings_per_rendering"] = ratio
    benchmark.extra_info["images_per_cpu_second"] = 1.0 / min(rendering)
    assert ratio < MOST_ENCODINGS


LARGEST_SHARE = 0.45
"""Of a scene's time what its labels depend on; about 1.5 times what was measured."""


def test_labels_are_made_without_most_of_the_scene(benchmark: BenchmarkFixture) -> None:
    """Scenes of all scenarios with and without what stands behind the roadside, on one core; least times of several turns."""
    with_it, without = [], []

    def turn() -> None:
        for times, sample in ((with_it, sample_scene), (without, sample_street)):
            start = time.process_time()
            for seed in range(3):
                for scenario in SCENARIOS:
                    sample(scenario, 0.5, seed, 3)
            times.append((time.process_time() - start) / (3 * len(SCENARIOS)))

    benchmark.pedantic(turn, rounds=3, warmup_rounds=1)
    share = min(without) / min(with_it)
    benchmark.extra_info["share"] = share
    benchmark.extra_info["milliseconds_a_clip"] = 1000 * min(without)
    assert share < LARGEST_SHARE
