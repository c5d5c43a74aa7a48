"""A frozen network made faster: what a batch normalisation does at inference becomes part of the convolution before it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

TOLERANCE = 1e-3
"""A folded network's outputs may differ from the network's by this share of their largest value; rounding gives 1e-6."""


@torch.no_grad()
def folded(network: nn.Module, images: Tensor) -> nn.Module:
    """A copy of a frozen network in eval mode with its batch normalisations folded into convolutions, its weights laid out for speed.

    Which follows which is seen in one forward of `images`, what the network takes. Equal but for rounding: where a convolution's
    result is used besides its normalisation, the outputs on `images` show it, and nothing is folded. Names of modules stay.
    """
    before = _outputs(network, images)
    candidate = copy.deepcopy(network)
    for convolution, normalization in _followed(candidate, images):
        found = dict(candidate.named_modules())
        fused = fuse_conv_bn_eval(found[convolution], found[normalization])  # type: ignore[type-var]
        candidate.set_submodule(convolution, fused.requires_grad_(False))
        candidate.set_submodule(normalization, nn.Identity())
    after = _outputs(candidate, images)
    same = all(
        float((one - other).abs().max()) <= TOLERANCE * float(one.abs().max())
        for one, other in zip(before, after, strict=True)
    )
    result = candidate if same else copy.deepcopy(network)
    return result.to(memory_format=torch.channels_last) if channels_last_is_safe(result) else result  # type: ignore[call-overload, no-any-return]


def channels_last_is_safe(network: nn.Module) -> bool:
    """Whether a network may run channels-last on any device.

    On some CPUs, torch 2.13 crashes in strided 1x1 convolutions of 8 or 12 input channels in that layout.
    """
    return not any(
        module.kernel_size == (1, 1) and module.stride != (1, 1) and module.in_channels < 16
        for module in network.modules()
        if isinstance(module, nn.Conv2d)
    )


def _outputs(network: nn.Module, images: Tensor) -> list[Tensor]:
    # Copies: later layers may work in place on what was read before them.
    return [output.clone() for output in network(images)]


def _followed(network: nn.Module, images: Tensor) -> list[tuple[str, str]]:
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
        network(images)
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
