"""How fast frames are rendered, against the JPEG encoding of the same frames in the same run."""

from __future__ import annotations

import time

import cv2
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from harness.rendered.frame import Stage, prepare, render_frame
from harness.rendered.sampling import sample_scene
from harness.rendered.spec import SCENARIOS


@pytest.fixture(scope="module")
def stages() -> list[Stage]:
    found = [prepare(sample_scene(scenario, 0.5, seed, 2)) for scenario in SCENARIOS for seed in (1, 2)]
    for stage in found:
        render_frame(stage, 0, width=1640, height=590)
    return found


def test_rendering_costs_at_most_twenty_times_the_encoding(benchmark: BenchmarkFixture, stages: list[Stage]) -> None:
    """CULane-sized frames of all scenarios on one core; a quiet core encodes one in about 3 ms."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        frames = benchmark.pedantic(
            lambda: [render_frame(stage, 1, width=1640, height=590) for stage in stages], rounds=3, warmup_rounds=1
        )
        start = time.process_time()
        for frame in frames:
            cv2.imencode(".jpg", frame.image, [cv2.IMWRITE_JPEG_QUALITY, 92])
        encoding = (time.process_time() - start) / len(frames)
        start = time.process_time()
        for stage in stages:
            render_frame(stage, 1, width=1640, height=590)
        rendering = (time.process_time() - start) / len(stages)
    finally:
        cv2.setNumThreads(threads)
    benchmark.extra_info["renderings_per_encoding"] = encoding / rendering
    benchmark.extra_info["images_per_cpu_second"] = 1.0 / rendering
    assert rendering < 20 * encoding
