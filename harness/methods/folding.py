"""A frozen network made faster: what a batch normalisation does at inference becomes part of the convolution before it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

TOLERANCE = 1e-3
"""A folded network's outputs may differ from the network's by this share of their largest value; rounding gives 1e-6."""


Network = TypeVar("Network", bound=nn.Module)


@torch.no_grad()
def folded(network: Network, run: Callable[[Network], Sequence[Tensor]]) -> Network:
    """A copy of a frozen network in eval mode with its batch normalisations folded into convolutions, its weights laid out for speed.

    `run` takes it, or a copy, through one forward, always of the same images, and gives its outputs: in it is seen which follows which.
    Equal but for rounding: where a convolution's result is used besides its normalisation, the outputs show it, and nothing is folded.
    Names of modules stay.
    """
    before = run(network)
    candidate = copy.deepcopy(network)
    for convolution, normalization in _followed(candidate, run):
        found = dict(candidate.named_modules())
        fused = fuse_conv_bn_eval(found[convolution], found[normalization])  # type: ignore[type-var]
        candidate.set_submodule(convolution, fused.requires_grad_(False))
        candidate.set_submodule(normalization, nn.Identity())
    after = run(candidate)
    same = all(
        float((one - other).abs().max()) <= TOLERANCE * float(one.abs().max())
        for one, other in zip(before, after, strict=True)
    )
    result = candidate if same else copy.deepcopy(network)
    if channels_last_is_safe(result):
        result.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return result


def channels_last_is_safe(network: nn.Module) -> bool:
    """Whether a network may run channels-last on any device.

    On some CPUs, torch 2.13 crashes in strided 1x1 convolutions of 8 or 12 input channels in that layout.
    """
    return not any(
        module.kernel_size == (1, 1) and module.stride != (1, 1) and module.in_channels < 16
        for module in network.modules()
        if isinstance(module, nn.Conv2d)
    )


def _followed(network: Network, run: Callable[[Network], Any]) -> list[tuple[str, str]]:
    """Names of each convolution and of the batch normalisation that takes its result, both called once."""
    results: dict[int, tuple[str, Tensor]] = {}
    pairs: list[tuple[str, str]] = []
    calls: list[str] = []

    def note(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        calls.append(name)
        if type(module) is nn.Conv2d:
            # Kept, so that no id is used twice.
            results[id(output)] = (name, output)
        elif id(inputs[0]) in results:
            pairs.append((results[id(inputs[0])][0], name))

    with _noting(network, note):
        run(network)
    return [pair for pair in pairs if calls.count(pair[0]) == calls.count(pair[1]) == 1]


@contextmanager
def _noting(network: nn.Module, note: Any) -> Iterator[None]:
    handles = []
    for name, module in network.named_modules():
        # Their own classes alone: timm's BatchNormAct2d is a batch normalisation that does more.
        if type(module) in (nn.Conv2d, nn.BatchNorm2d):

            def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any, name: str = name) -> None:
                note(name, module, inputs, output)

            handles.append(module.register_forward_hook(hook))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
