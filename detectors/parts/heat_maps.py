"""Maps that are 1 where something is: what teaches them, their loss, and their peaks.

As in Law and Deng, "CornerNet: Detecting Objects as Paired Keypoints", ECCV 2018. Numbers come from aliyun/conditional-lane-detection
(Apache-2.0), mmdet/models/losses/condlaneloss.py and mmdet/datasets/pipelines/lane_formating.py.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

FOCUS, NEARNESS = 2, 4
"""Exponents of how wrong a place is, and of how far it is from a peak."""

CERTAIN = 1e-4
"""Probabilities are kept so far from 0 and 1."""


def gaussian_peaks(
    cells: npt.NDArray[np.int64], radii: npt.NDArray[np.int64], grid: tuple[int, int]
) -> npt.NDArray[np.float32]:
    """Cells (N, 2), x and y, and a radius of each -> a map (height, width), 1 in the cells and falling off over their radius.

    The deviation is a sixth of 2 * radius + 1. Where peaks meet, the higher counts.
    """
    height, width = grid
    deviation = (2 * radii[:, None] + 1) / 6

    def fall(distance: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        near = np.exp(-(distance**2) / (2 * deviation**2))
        return np.where(np.abs(distance) <= radii[:, None], near, 0.0)

    across, down = fall(np.arange(width) - cells[:, :1]), fall(np.arange(height) - cells[:, 1:])
    peaks: npt.NDArray[np.float64] = (down[:, :, None] * across[:, None, :]).max(axis=0, initial=0.0)
    return peaks.astype(np.float32)


def probabilities(logits: Tensor) -> Tensor:
    """Logits -> probabilities, none of them nearer than CERTAIN to 0 or 1."""
    return logits.sigmoid().clamp(CERTAIN, 1 - CERTAIN)


def heat_loss(logits: Tensor, wanted: Tensor) -> Tensor:
    """The focal loss of a whole batch's maps over their peaks, a scalar; wanted: maps of `gaussian_peaks`.

    Without a peak it is the background's alone.
    """
    shares, peaks = probabilities(logits), wanted == 1
    found = shares.log() * (1 - shares) ** FOCUS
    empty = (1 - shares).log() * shares**FOCUS * (1 - wanted) ** NEARNESS
    return -torch.where(peaks, found, empty).sum() / peaks.sum().clamp(min=1)


def local_maxima(maps: Tensor) -> Tensor:
    """Which places of maps (B, h, w) none of their eight neighbours exceeds: bool (B, h, w)."""
    return F.max_pool2d(maps[:, None], 3, stride=1, padding=1)[:, 0] == maps
