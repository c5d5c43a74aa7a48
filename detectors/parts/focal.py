"""The focal loss of two classes: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, as lane detectors have it."""

from __future__ import annotations

import torch
from torch import Tensor

ALPHA, GAMMA, EPSILON = 0.25, 2.0, 1e-6
"""Weight of both classes alike, focusing, and what is added to shares and labels: Turoad/CLRNet, clrnet/models/losses/focal_loss.py,
which is kornia's."""


def focal_errors(logits: Tensor, positive: Tensor) -> Tensor:
    """Logits (..., 2) of negative and positive, and bool (...), which it is -> the loss of each (...)."""
    shares = logits.softmax(dim=-1) + EPSILON
    labels = torch.stack([~positive, positive], dim=-1).to(shares.dtype) + EPSILON
    return -ALPHA * (labels * (1 - shares) ** GAMMA * shares.log()).sum(dim=-1)
