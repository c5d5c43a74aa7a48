"""Modes of a model that is compared with another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def training_without_dropout(model: nn.Module) -> Iterator[None]:
    """The model trains, but nothing of it is random. Afterwards it is in evaluation mode, with the buffers that it had.

    Dropout is a module's probability `p`, or a number: `dropout` as attention layers have it, `drop_prob` of timm's residual blocks.
    """
    # Copies take what training writes: the graph of the losses may still need them when the model has its own again.
    kept = [(module, dict(module._buffers)) for module in model.modules()]
    for module, buffers in kept:
        module._buffers.update({name: None if value is None else value.clone() for name, value in buffers.items()})
    chances: list[tuple[nn.Module, str, float]] = []
    for module in model.modules():
        numbers = ("p",) if isinstance(module, nn.modules.dropout._DropoutNd) else ("dropout", "drop_prob")
        for name in numbers:
            chance = getattr(module, name, None)
            if isinstance(chance, float):
                chances.append((module, name, chance))
                setattr(module, name, 0.0)
    model.train()
    try:
        yield
    finally:
        model.eval()
        for module, name, chance in chances:
            setattr(module, name, chance)
        for module, buffers in kept:
            module._buffers.update(buffers)
