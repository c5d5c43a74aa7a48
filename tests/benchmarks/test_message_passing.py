"""SCNN's message passing beside upstream's own: the ratios of docs/performance.md. `-s` prints them.

SAMIRO_BENCH_UPSTREAM names a folder with a checkout of pytorch-auto-drive; THREADS and DEVICE as they say.
"""

from __future__ import annotations

import os
from importlib import import_module
from statistics import median

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import nn

from detectors.scnn import MessagePassing
from detectors.upstream.pytorch_auto_drive import isolated
from harness.throughput.devices import ratio_timer_of
from harness.throughput.interleaved import turns
from tests.checkouts import checkout_of

THREADS = int(os.environ.get("THREADS", "1"))
DEVICE = torch.device(os.environ.get("DEVICE", "cpu"))
BLOCKS = 12
GRID = (36, 100)
"""Of CULane's 288x800."""


def upstream(channels: int) -> nn.Module:
    with isolated(checkout_of("pytorch-auto-drive")):
        module: nn.Module = import_module("utils.models.common_models.plugins.spatial_conv").SpatialConv(channels)
    return module


@pytest.mark.parametrize("count", [1, 8])
@pytest.mark.parametrize("training", [False, True], ids=["forward", "training"])
def test_messages_over_upstreams(benchmark: BenchmarkFixture, count: int, training: bool) -> None:
    theirs = upstream(128).to(DEVICE)
    ours = MessagePassing(128).to(DEVICE)
    for convolution, name in zip(ours.convolutions, "durl", strict=True):
        convolution.load_state_dict(theirs.get_submodule(f"conv_{name}").state_dict())
    features = torch.rand(count, 128, *GRID, device=DEVICE, requires_grad=training)
    # As the reduction before leaves them in memory, each as its own network does.
    own = features.detach().contiguous(memory_format=torch.channels_last).requires_grad_(training)

    def run(module: nn.Module, given: torch.Tensor) -> None:
        with torch.set_grad_enabled(training):
            passed = module(given)
            if training:
                passed.sum().backward()

    timer, threads = ratio_timer_of(DEVICE, THREADS), torch.get_num_threads()

    def measured() -> list[float]:
        torch.set_num_threads(THREADS)
        try:
            turns(lambda: run(theirs, features), lambda: run(ours, own), timer)
            blocks = [turns(lambda: run(theirs, features), lambda: run(ours, own), timer) for _ in range(BLOCKS)]
        finally:
            torch.set_num_threads(threads)
        return [sum(mine) / sum(other) for other, mine in blocks]

    ratios = sorted(benchmark.pedantic(measured, rounds=1))
    benchmark.extra_info["ratio"] = median(ratios)
    # Between these order statistics of 12 lies the median with 96 %.
    print(
        f"\n| {count} | {'training' if training else 'forward'} | {median(ratios):.2f} | {ratios[2]:.2f} to {ratios[9]:.2f} |"
    )
    assert ratios[9] <= (0.8 if training else 1.05)
