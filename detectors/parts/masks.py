"""Lanes as pixels: what segmentation learns."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from detectors.parts.slots import slots_of

SUBPIXEL_BITS = 4
FAR = 1e5
"""Precision in which lanes are drawn, and a distance in pixels beyond which OpenCV's fixed-point numbers would overflow."""


def slot_mask(
    polylines: Sequence[npt.NDArray[np.float64]], network: tuple[int, int], *, slots: int, width: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """Polylines (network pixels, two points or more), `width` pixels wide -> a mask (H, W) and the existence (slots,), 0 or 1, of each.

    The mask is 0 or 1 + the slot whose lane lies there. A lane without a pixel takes no slot. Where lanes cross, the inner one is seen.
    """
    drawn = [_drawn(polyline, network, width) for polyline in polylines]
    seen = [index for index, pixels in enumerate(drawn) if pixels.any()]
    placed = slots_of([polylines[index] for index in seen], network, slots=slots)
    mask = np.zeros(network, dtype=np.uint8)
    existence = np.zeros(slots, dtype=np.float32)
    for index, slot in sorted(placed.items(), key=lambda item: -abs(item[1] - (slots - 1) / 2)):
        mask[drawn[seen[index]]] = 1 + slot
        existence[slot] = 1.0
    return mask, existence


def _drawn(polyline: npt.NDArray[np.float64], network: tuple[int, int], width: int) -> npt.NDArray[np.bool_]:
    canvas = np.zeros(network, dtype=np.uint8)
    points = np.round(np.clip(polyline, -FAR, FAR) * 2**SUBPIXEL_BITS).astype(np.int32)
    cv2.polylines(canvas, [points[:, None]], False, 1, width, cv2.LINE_8, SUBPIXEL_BITS)
    return canvas > 0


def mask_cross_entropy(logits: Tensor, mask: Tensor, *, background: float) -> Tensor:
    """Cross-entropy of a mask's pixels, a scalar; those of the background count by that weight.

    logits: (B, classes, h, w), the background first, enlarged bilinearly to the mask's size. mask: (B, H, W), whole numbers.
    """
    logits = F.interpolate(logits, size=mask.shape[-2:], mode="bilinear", align_corners=False)
    classes = torch.arange(logits.shape[1], device=logits.device).view(1, -1, 1, 1)
    lies = (mask[:, None] == classes).float()
    weights = torch.where(classes == 0, background * lies, lies)
    # In a form whose CUDA kernels are deterministic.
    return -(weights * logits.log_softmax(dim=1)).sum() / weights.sum()
