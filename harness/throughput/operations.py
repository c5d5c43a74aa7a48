"""Floating-point operations of one forward pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

_COSTLY = (
    "grid_sampler",
    "_rnn",
    "lstm",
    "gru",
    "_fft_",
    "scaled_dot_product",
    "cdist",
    "linalg_",
    "conv",
    "quantized",
)
"""Parts of the names of ATen operators that multiply and add as much as a layer does. Pointwise work, normalisation, pooling and
resizing count as nothing, as everywhere in this field."""


class _Seen(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Collects the operators that run under it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operators: set[Any] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operators.add(func.overloadpacket)
        return func(*args, **(kwargs or {}))


def count_operations(model: nn.Module, images: Tensor) -> tuple[float, bool]:
    """GFLOPs of `model(images)`, a multiply-add being two operations, and whether that is only a lower bound.

    It is one where an operator ran whose cost isn't known: one from outside ATen, or a costly one that torch's counter leaves out.
    """
    seen = _Seen()
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter, seen:
        model(images)
    return counter.get_total_flops() / 1e9, any(cost_is_unknown(operator) for operator in seen.operators)


def cost_is_unknown(operator: Any) -> bool:
    """Whether an operator costs something that torch's counter doesn't know."""
    if operator in flop_registry:
        return False
    namespace, _, name = str(operator).partition(".")
    return namespace not in {"aten", "prim", "prims"} or any(part in name for part in _COSTLY)
