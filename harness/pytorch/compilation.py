"""torch.compile for networks that methods hang hooks on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def compile_in_place(network: nn.Module) -> None:
    """Let torch.compile run a network from its next call on. Names and hooks stay as they are; hooks have to be there already."""
    guard_hooks()
    network.compile()


def compiled(network: nn.Module) -> Callable[[Tensor], Any]:
    """A network as torch.compile runs it; the network itself stays as it is."""
    guard_hooks()
    made: Callable[[Tensor], Any] = torch.compile(network)
    return made


def guard_hooks() -> None:
    """Have torch.compile tell networks of one class apart by their hooks, in this process from now on.

    By itself it doesn't, and says that this is unsafe (torch/_dynamo/config.py, `skip_nnmodule_hook_guards`): a detector with
    a method's attention would silently run as the one without it that the process compiled before.
    """
    from torch._dynamo import config

    config.skip_nnmodule_hook_guards = False  # type: ignore[attr-defined]
