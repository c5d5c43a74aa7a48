"""What inference costs beside upstream's own, decoding and suppression included, with the same random weights.

    SAMIRO_BENCH_UPSTREAM=~/checkouts DETECTORS="resa_resnet18 lstr_resnet34:culane" \
        pytest -s --benchmark-only tests/benchmarks/test_upstream_speed.py

The two take turns in one process, so that a drift of the machine falls on both alike; on one CPU thread CPU time is taken. Ours begins
with the bytes of the images, upstream with its normalised floats: what its loader does isn't counted. Upstream's suppression, where it
is compiled, is the reference's own on a CPU, so its figures say nothing there. What upstream's test leaves out (an auxiliary head) is
left out; where its only way from outputs to lanes is to write them to files, that is part of its decoding.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import replace
from statistics import mean, stdev
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from scipy import stats
from torch.utils._pytree import tree_map_only

from detectors.base import Detector
from detectors.upstream.reference import Reference
from harness.parity.compare import chosen_threshold, forms_of, imported, reference_class, with_threshold
from harness.parity.shown import Shown, frames_for
from harness.parity.weights import randomise
from harness.throughput.devices import Timer, ratio_timer_of, timing_settings
from harness.throughput.interleaved import turns
from harness.training.determinism import seed_everything
from tests.checkouts import checkout_of

DETECTORS = os.environ.get("DETECTORS", "lstr_resnet18s lstr_resnet18s_2x lstr_resnet34 resa_resnet18").split()
THREADS = int(os.environ.get("THREADS", "1"))
DEVICE = torch.device("cpu")
SECONDS = float(os.environ.get("SECONDS_EACH", "40"))
"""A measurement ends after so long, or after the most blocks, but not before the fewest."""
FEWEST_BLOCKS, MOST_BLOCKS = 6, 40
SLACK = 1.15
"""Only what got much dearer fails: single runs on a machine with neighbours differ by several percent."""


@pytest.fixture(scope="module", params=DETECTORS)
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Reference, Detector, Shown]:
    """A detector's name and form, its upstream model and itself with the same weights and a threshold that leaves lanes, and images."""
    name, _, asked = request.param.partition(":")
    build = reference_class(name)
    checkout = checkout_of(build.repository)
    form = forms_of(name, asked or None)[0]
    folder = tmp_path_factory.mktemp(name)
    seed_everything(0)
    reference = build(checkout, name, form)
    reference.make_comparable()
    shown = frames_for(imported(reference, name, form, folder), folder)
    randomise(reference.model, lambda: reference.forward(reference.normalised(shown.images)))
    detector = imported(reference, name, form, folder)
    if hasattr(reference.model, "use_aux"):
        # Upstream's programs that test and that measure speed have no auxiliary head.
        reference.model.use_aux = False
    if reference.threshold is not None:
        with torch.inference_mode():
            reference.threshold = chosen_threshold(detector, detector(shown.images), shown.size)
        detector = with_threshold(detector, reference.threshold)
    return f"{name}, {form}", reference, detector, fullest_first(detector, shown)


def fullest_first(detector: Detector, shown: Shown) -> Shown:
    """The images with the most lanes found first: what a batch of one decodes has to have lanes."""
    with torch.inference_mode():
        found = detector.decode(detector(shown.images), [detector.geometry_of(shown.size)] * len(shown.images))
    order = sorted(range(len(found)), key=lambda index: -len(found[index]))
    return replace(shown, images=shown.images[order])


@pytest.mark.parametrize("count", [1, 8])
def test_inference_is_as_fast_as_upstreams(
    benchmark: BenchmarkFixture, pair: tuple[str, Reference, Detector, Shown], count: int
) -> None:
    name, reference, detector, shown = pair
    images = shown.images.repeat(-(-count // len(shown.images)), 1, 1, 1)[:count].contiguous()
    prepared = reference.normalised(images)
    geometries = [detector.geometry_of(shown.size)] * count
    ratio, high = measured(
        benchmark,
        f"{name} | {count} | all",
        reference,
        lambda: reference.lanes(reference.forward(prepared)),
        lambda: detector.decode(detector(images), geometries),
    )
    assert high < SLACK * 1.05
    assert ratio > 0


@pytest.mark.parametrize("count", [1, 8])
def test_decoding_is_faster_than_upstreams(
    benchmark: BenchmarkFixture, pair: tuple[str, Reference, Detector, Shown], count: int
) -> None:
    name, reference, detector, shown = pair
    theirs, ours = outputs_of(reference, detector, shown, count)
    geometries = [detector.geometry_of(shown.size)] * count
    _, high = measured(
        benchmark,
        f"{name} | {count} | decoding",
        reference,
        lambda: reference.lanes(theirs),
        lambda: detector.decode(ours, geometries),
    )
    assert high < 1.0


def outputs_of(reference: Reference, detector: Detector, shown: Shown, count: int) -> tuple[Any, Any]:
    """The same outputs of `count` images as upstream and as ours give them, drawn ones where random ones can't be decoded."""
    drawn = reference.drawn()
    if drawn is None:
        images = shown.images.repeat(-(-count // len(shown.images)), 1, 1, 1)[:count]
        with torch.inference_mode():
            return reference.forward(reference.normalised(images)), detector(images)
    theirs, ours = drawn
    return repeated(theirs, count), repeated(ours, count)


def repeated(outputs: Any, count: int) -> Any:
    """Outputs of two images as those of `count`."""
    return tree_map_only(
        torch.Tensor,
        lambda value: value.repeat(-(-count // len(value)), *[1] * (value.ndim - 1))[:count].contiguous(),
        outputs,
    )


def measured(
    benchmark: BenchmarkFixture, what: str, reference: Reference, theirs: Callable[[], Any], ours: Callable[[], Any]
) -> tuple[float, float]:
    """The geometric mean of the blocks' ratios, ours over upstream's, and its upper 95 % bound by Student's t; prints a line."""

    def blocks() -> list[tuple[list[int], list[int]]]:
        timer: Timer = ratio_timer_of(DEVICE, THREADS)
        # Within the scope, so that entering it again and again, which no user of upstream does, costs next to nothing.
        with reference.upstream, torch.inference_mode(), timing_settings(threads=THREADS, tf32=False):
            turns(theirs, ours, timer)
            found, end = [], time.monotonic() + SECONDS
            while len(found) < FEWEST_BLOCKS or (len(found) < MOST_BLOCKS and time.monotonic() < end):
                found.append(turns(theirs, ours, timer))
        return found

    found = benchmark.pedantic(blocks, rounds=1)
    logs = [math.log(sum(native) / sum(upstream)) for upstream, native in found]
    half = float(stats.t.ppf(0.975, len(logs) - 1)) * stdev(logs) / math.sqrt(len(logs))
    ratio, low, high = math.exp(mean(logs)), math.exp(mean(logs) - half), math.exp(mean(logs) + half)
    upstream, native = (mean(sum(block[arm]) / 2e6 for block in found) for arm in (0, 1))
    benchmark.extra_info |= {"ratio": ratio, "low": low, "high": high, "blocks": len(logs)}
    print(f"\n| {what} | {upstream:.4g} | {native:.4g} | {ratio:.3f} | {low:.3f} to {high:.3f} | {len(logs)} |")
    return ratio, high
