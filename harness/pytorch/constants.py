"""Numbers of the program on the device that computes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def constant(values: Any, device: torch.device) -> Tensor:
    """A number, or nested sequences of numbers, as float32 on a device.

    `torch.tensor(values, device=device)` waits until a GPU has done all that it was asked to do before, and so leaves it without work
    afterwards. This doesn't: a copy of up to 64 KB is on its way before the call returns.
    """
    return torch.tensor(values, dtype=torch.float32).to(device, non_blocking=True)
