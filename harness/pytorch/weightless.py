"""Networks without weights: their names, shapes and numbers of parameters, for no memory and little time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import torch
from torch.overrides import TorchFunctionMode

Made = TypeVar("Made")

META = torch.device("meta")

FILLING = frozenset({"normal_", "uniform_", "trunc_normal_", "bernoulli_", "fill_", "zero_", "erfinv_"})
"""Methods of tensors that change nothing but values."""

INITIALISERS = frozenset(
    function for name, function in vars(torch.nn.init).items() if name.endswith("_") and not name.startswith("_")
)
"""Functions of torch.nn.init; torch asks a mode about some of them before they look at their tensor."""


@contextmanager
def weightless() -> Iterator[None]:
    """What is built within has no memory for its tensors, and nothing is drawn for them; torch's generators stay where they are.

    Tensors that ask for another device by name are as ever. Without memory torch works out a draw's shape and type in Python, which
    takes most of the time that building a network does: so these draws are left out.
    """
    with META, _WithoutDraws():
        yield


def weightless_if_possible(work: Callable[[], Made]) -> Made:
    """What `work` gives within `weightless`; where that fails, what it gives with memory, or raises in earnest.

    Not every operation can be run without memory. torch's generators stay where they are.
    """
    with torch.random.fork_rng(devices=[]):
        with suppress(Exception), weightless():
            return work()
        return work()


class _WithoutDraws(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = kwargs or {}
        if func in INITIALISERS or getattr(func, "__name__", None) in FILLING:
            filled = args[0] if args else named.get("tensor")
            if isinstance(filled, torch.Tensor) and filled.device == META:
                return filled
        return func(*args, **named)
