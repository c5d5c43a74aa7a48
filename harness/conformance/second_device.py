"""A second device that needs no hardware: it computes on the CPU and, as a GPU does, with nothing but what lies on it.

Whoever writes an adapter without a GPU hears here of the `torch.arange` that forgot its `device=`, of the constant that no `.to` moves
since it is no buffer, and of the `.numpy()` that forgot its `.cpu()`, and not after hours in a queue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing

SECOND_DEVICE = torch.device("cpu", 1)
"""Of the CPU's kind, since torch's autograd and autocast take no other kind without its hardware; of an index that no CPU has."""

aten = torch.ops.aten

ACROSS = (aten._to_copy.default, aten.copy_.default)
"""What carries from one device to another."""

NUMBERS_FROM_HOST = (
    aten.fill_.Tensor,
    aten.masked_fill.Tensor,
    aten.masked_fill_.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._index_put_impl_.default,
)
"""Beside what works element by element: what takes a tensor without dimensions from the CPU into a GPU's."""

INDEXED_FROM_HOST = (
    aten.index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._index_put_impl_.default,
    aten._unsafe_index.Tensor,
    aten._unsafe_index_put.default,
)
"""What takes indices, its second argument, from the CPU into a GPU's tensor."""

MADE_ON_HOST = (torch.tensor, torch.as_tensor, torch.asarray)
"""What makes a tensor of numbers below the level at which devices are seen here, so that its device is looked at before."""


class MixedDevices(RuntimeError):
    """An operation was given tensors of two devices, or a tensor of the second one where only the host's memory can be read."""


class _There(Tensor):
    """A tensor on the second device: a shell that torch sees, around the tensor on the CPU that holds the values."""

    held: Tensor

    @staticmethod
    def __new__(cls, values: Tensor) -> _There:
        shell: _There = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            values.size(),
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device=SECOND_DEVICE,
        )
        shell.held = values
        return shell

    def __repr__(self) -> str:  # type: ignore[override]
        return f"{self.held!r} on {SECOND_DEVICE}"

    # As for torch's own parameters: results are of the kind that an operation gives, not of this one.
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls,
        operation: OpOverload[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return _dispatch(operation, tuple(args), dict(kwargs or {}))


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """What makes tensors out of nothing has none to be recognised by; its `device` is looked at here."""

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _dispatch(operation, tuple(args), dict(kwargs or {}))


class _Functions(TorchFunctionMode):
    """What torch does in its own memory before any operation is dispatched."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = dict(kwargs or {})
        own = args[0] if args and isinstance(args[0], _There) else None
        if own is not None and function in (Tensor.numpy, Tensor.__array__):
            raise MixedDevices("a tensor is read by NumPy where it is; take it to the host by .cpu() first")
        if own is not None and function is Tensor.tolist:
            return own.detach().cpu().tolist()
        if own is not None and function is Tensor.new_tensor:
            return self.__torch_function__(
                torch.tensor, types, args[1:], {"device": own.device, "dtype": own.dtype} | named
            )
        if function in MADE_ON_HOST and named.get("device") is not None:
            device = torch.device(named.pop("device"))
            return function(*args, **named).to(device)
        return function(*args, **named)


@contextmanager
def second_device() -> Iterator[None]:
    """Within this, `SECOND_DEVICE` is a device: modules, batches and tensors go there by `.to`, and come back by `.cpu()`.

    Raises MixedDevices from the operation that mixes it with the host.
    """
    future = torch.__future__
    before = future.get_swap_module_params_on_conversion()
    # As on a GPU a parameter stays the same object, for whoever holds it.
    future.set_swap_module_params_on_conversion(True)
    try:
        with _Functions(), _Operations():  # type: ignore[no-untyped-call]
            yield
    finally:
        future.set_swap_module_params_on_conversion(before)


def lies_there(value: Any) -> bool:
    """Whether it is a tensor on the second device."""
    return isinstance(value, _There)


def _dispatch(operation: OpOverload[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run an operation on the values; results are there if it is asked for there, or if what it was given is."""
    tensors = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    given = any(isinstance(tensor, _There) for tensor in tensors)
    if given and operation not in ACROSS:
        _same_device(operation, args, tensors)
    there = given
    if kwargs.get("device") is not None:
        there = torch.device(kwargs["device"]) == SECOND_DEVICE
        kwargs = kwargs | {"device": torch.device("cpu")}
    values = pytree.tree_map_only(_There, lambda shell: shell.held, (args, kwargs))
    results = operation(*values[0], **values[1])
    if operation is aten.copy_.default:
        return args[0]
    if not there:
        return results
    results = pytree.tree_map_only(Tensor, _There, results)
    if not given:
        return results
    return return_and_correct_aliasing(operation, args, kwargs, results)  # type: ignore[no-untyped-call]


def _same_device(operation: OpOverload[..., Any], args: tuple[Any, ...], tensors: Sequence[Tensor]) -> None:
    """MixedDevices where a tensor of the host is none of those that a GPU's operation takes."""
    target = args[0]
    changed = operation._schema.is_mutable and isinstance(target, Tensor)
    if changed and not isinstance(target, _There):
        raise MixedDevices(f"{operation} changes a tensor of the host by one of the device")
    numbers = torch.Tag.pointwise in operation.tags or operation in NUMBERS_FROM_HOST
    indices = (
        {id(leaf) for leaf in pytree.tree_leaves(args[1])}
        if operation in INDEXED_FROM_HOST and isinstance(target, _There)
        else set()
    )
    for tensor in tensors:
        if not isinstance(tensor, _There) and not (numbers and tensor.ndim == 0) and id(tensor) not in indices:
            shapes = ", ".join(
                f"{tuple(one.shape)} {'of the device' if isinstance(one, _There) else 'of the host'}" for one in tensors
            )
            raise MixedDevices(f"{operation} is given tensors of two devices: {shapes}")
