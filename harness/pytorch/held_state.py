"""Whether a module's parameters and buffers are still what they were."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def held_state(module: nn.Module) -> dict[str, Tensor]:
    """A copy of a module's parameters and buffers, by name."""
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def changed_tensors(module: nn.Module, before: Mapping[str, Tensor]) -> list[str]:
    """The names of `before` under which a module has nothing, or something else, by now; what it has besides is no change."""
    now = module.state_dict()
    return [
        name for name, tensor in before.items() if name not in now or not same_tensor(now[name].cpu(), tensor.cpu())
    ]


def same_tensor(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are of one kind and hold the same values; a value that isn't a number is like another."""
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    return (
        torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)
        if one.is_floating_point()
        else torch.equal(one, other)
    )
