"""Where a training step makes the host wait for the device, counted without a GPU, on the second device.

A GPU works while the host is ahead of it. Whatever reads a number back, or needs one to know a size, waits until all that was asked for
is done; meanwhile the host asks for nothing more, and the GPU is idle until the next operations have reached it.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from harness.conformance.second_device import ACROSS, INDEXED_FROM_HOST, SECOND_DEVICE, lies_there

OUTSIDE = (str(Path(torch.__file__).parent), str(Path(__file__).parent))
"""Where code isn't the adapter's, nor the harness's that calls it."""


class _Waits(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = dict(kwargs or {})
        if _waits(operation, args, named):
            self.found[f"{_place()} {operation}"] += 1
        return operation(*args, **named)


@contextmanager
def host_waits() -> Iterator[Counter[str]]:
    """Within `second_device()`: a count, complete afterwards, by source line and operation, of what made the host wait.

    Copies to the device count where they aren't `non_blocking`: others wait neither from page-locked memory, as batches lie in, nor of
    a few numbers. Not seen is what a GPU's kernels wait for by themselves.
    """
    with _Waits() as waits:
        yield waits.found


def told_waits(found: Counter[str]) -> list[str]:
    """How often losses made the host wait, and where most often, in one sentence; none where it never did."""
    if not found:
        return []
    (line, _), *_ = found.most_common(1)
    place, _, operation = line.partition(" ")
    times = "once" if found.total() == 1 else f"{found.total()} times"
    return [f"the losses make the host wait for a GPU {times}, most often for {operation} at {Path(place).name}"]


def _waits(operation: Any, args: Sequence[Any], named: Mapping[str, Any]) -> bool:
    if operation in ACROSS:
        return _copies(operation, args, named)
    if not any(map(lies_there, pytree.tree_leaves((args, named)))):
        return False
    if operation in INDEXED_FROM_HOST:
        # A single number that is put where a mask says is a fill.
        masks = () if len(args) > 2 and args[2].numel() == 1 else (torch.bool, torch.uint8)
        return any(not lies_there(index) or index.dtype in masks for index in args[1] if index is not None)
    if named.get("output_size") is not None:
        return False
    return torch.Tag.dynamic_output_shape in operation.tags or torch.Tag.data_dependent_output in operation.tags


def _copies(operation: Any, args: Sequence[Any], named: Mapping[str, Any]) -> bool:
    """Whether the host waits for a copy from one to the other."""
    if operation is torch.ops.aten.copy_.default:
        target, source = map(lies_there, args[:2])
        non_blocking = len(args) > 2 and args[2]
    else:
        source, device = lies_there(args[0]), named.get("device")
        target = source if device is None else torch.device(device) == SECOND_DEVICE
        non_blocking = named.get("non_blocking", False)
    return source != target and not (target and non_blocking)


def _place() -> str:
    """The innermost line that is neither torch's nor of this package."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_code.co_filename.startswith(OUTSIDE):
        frame = frame.f_back
    return "?" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"
