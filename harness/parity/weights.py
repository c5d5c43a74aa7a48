"""Random weights under which two models can't agree by accident."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def randomise(model: nn.Module, forward: Callable[[], object]) -> None:
    """Give a model of random weights in evaluation mode the rest of what a trained one has. Draws from torch's global generator.

    Normalisations get random scales and shifts; statistics of batch normalisation become those of `forward`, a run of the model, and
    are disturbed, so that activations stay in range through deep networks and yet another order or place of the statistics shows.
    Other parameters that are zero throughout, which would hide what they multiply, become small random numbers.
    """
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1 and _is_scale(parameter):
                parameter.uniform_(0.6, 1.4)
            elif not parameter.any():
                parameter.normal_(std=0.05)
        for module in model.modules():
            if _has_statistics(module) and not isinstance(module, nn.modules.batchnorm._BatchNorm):
                _frozen(module)
        _take_statistics(model, forward)


def _is_scale(parameter: Tensor) -> bool:
    return bool((parameter == 1).all())


def _has_statistics(module: nn.Module) -> bool:
    return isinstance(getattr(module, "running_var", None), Tensor)


def _frozen(module: nn.Module) -> None:
    """A batch normalisation that is all buffers."""
    for name, value in module.named_buffers(recurse=False):
        if name in {"weight", "running_var"}:
            value.uniform_(0.6, 1.4)
        elif value.is_floating_point():
            value.normal_(std=0.1)


def _take_statistics(model: nn.Module, forward: Callable[[], object]) -> None:
    layers = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    layers = [layer for layer in layers if layer.running_var is not None]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.train()
        layer.momentum = 1.0
    try:
        forward()
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.eval()
            layer.momentum = momentum
    for layer in layers:
        mean, variance = layer.get_buffer("running_mean"), layer.get_buffer("running_var")
        mean += 0.1 * variance.sqrt() * torch.randn_like(mean)
        variance *= torch.empty_like(variance).uniform_(0.8, 1.25)
