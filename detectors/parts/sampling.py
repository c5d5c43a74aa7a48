"""Reading maps of features between their places."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def linear_sampling(places: npt.NDArray[np.floating[Any]], size: int) -> Tensor:
    """The matrix (len(places), size) that reads a row of `size` features linearly at `places`, given in features; ends are prolonged.

    The i-th feature of a convolution with padding (kernel - 1) / 2 is centred on pixel stride * i, so place = pixel / stride.
    """
    inside = np.clip(places, 0, size - 1)
    return torch.from_numpy(np.maximum(0.0, 1.0 - np.abs(inside[:, None] - np.arange(size)))).float()
