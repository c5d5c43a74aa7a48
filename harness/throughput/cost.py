"""What a method costs at inference: the network with what it left inside over the same network without, in turns in one process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from detectors.base import Detector
from harness.pytorch.compilation import compiled
from harness.records.timings import InferenceCost, ProtocolName
from harness.throughput.devices import device_name, noise_flags, ratio_timer_of, timing_settings, usage
from harness.throughput.interleaved import ratio_interval, turns
from harness.throughput.modes import HEADLINE
from harness.throughput.pipeline import View, deployed, frames_of
from harness.throughput.protocol import PROTOCOLS

Graph = Literal["eager", "exported", "compiled", "cuda-graph"]
Network = Callable[[Tensor], Any]


def graphs_of(protocol: ProtocolName, device: torch.device) -> tuple[Graph, ...]:
    """The ways to run a network in which a protocol measures the cost."""
    if protocol == "lane-latency/1-short":
        return ("eager",)
    return ("eager", "exported", "compiled", *(("cuda-graph",) if device.type == "cuda" else ()))


def measure_inference_cost(
    baseline: Detector,
    detector: Detector,
    view: View,
    count: int,
    *,
    protocol: ProtocolName,
    device: torch.device,
    threads: int,
) -> tuple[InferenceCost, ...]:
    """The cost in every graph of the protocol: batch 1, uint8 images that lie on the device, both arms the same one after another.

    What torch can't export or compile of a network is told by a flag of the eager figure. Other arguments as for `measure`.
    """
    rules, timer = PROTOCOLS[protocol], ratio_timer_of(device, threads)
    found: list[InferenceCost] = []
    impossible: list[str] = []
    settings = timing_settings(threads=threads, tf32=False)
    with deployed(baseline, device, HEADLINE), deployed(detector, device, HEADLINE), settings, torch.no_grad():
        images = [image.to(device) for image, _ in frames_of(view, min(count, rules.cost_blocks), pin=False)]
        for graph in graphs_of(protocol, device):
            try:
                arms = [network_of(arm, images[0], graph) for arm in (baseline, detector)]
            except RuntimeError as error:
                impossible.append(f"{graph}: not possible ({type(error).__name__})")
                continue
            coming = cycle(images)
            for _ in range(rules.cost_warm_blocks):
                block_of(arms, next(coming), timer)
            start = usage()
            blocks = [block_of(arms, next(coming), timer) for _ in range(rules.cost_blocks)]
            end = usage()
            ratio, low, high = ratio_interval(blocks)
            without, within = (float(np.median([block[arm] for block in blocks])) / 1e6 for arm in (0, 1))
            found.append(
                InferenceCost(
                    protocol=protocol,
                    graph=graph,
                    device=device_name(device),
                    threads=threads,
                    blocks=len(blocks),
                    ratio=ratio,
                    ratio_low=low,
                    ratio_high=high,
                    model_ms=within,
                    baseline_model_ms=without,
                    flags=tuple(noise_flags(device, start, end)),
                )
            )
    if impossible:
        found[0] = found[0].model_copy(update={"flags": (*found[0].flags, *impossible)})
    return tuple(found)


def block_of(arms: Sequence[Network], image: Tensor, timer: Any) -> tuple[list[int], list[int]]:
    """One block of turns on one image."""
    first, second = arms
    return turns(partial(first, image), partial(second, image), timer)


def network_of(detector: Detector, image: Tensor, graph: Graph) -> Network:
    """A detector's network as a graph, tried on an image. RuntimeError where torch can't make one."""
    if graph == "eager":
        return detector
    exported = torch.export.export(detector, (image,)).module()
    if graph == "compiled":
        network: Network = compiled(exported)
        network(image)
        return network
    return exported if graph == "exported" else replayed(exported, image)


def replayed(network: Network, image: Tensor) -> Network:
    """A network whose kernels were captured once as a CUDA graph: it copies an image into place and replays them."""
    place = image.clone()
    beside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(3):
            network(place)
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = network(place)

    def replay(another: Tensor) -> Any:
        place.copy_(another)
        graph.replay()
        return outputs

    return replay
