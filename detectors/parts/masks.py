"""Lanes as pixels: what segmentation learns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from detectors.parts.slots import slots_of
from harness.lanes import Geometry

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
    existence = np.zeros(slots, dtype=np.float32)
    existence[list(placed.values())] = 1.0
    return _painted({slot: drawn[seen[index]] for index, slot in placed.items()}, network, slots), existence


def placed_mask(
    polylines: Mapping[int, npt.NDArray[np.float64]], network: tuple[int, int], *, slots: int, width: int
) -> npt.NDArray[np.uint8]:
    """The mask of `slot_mask`, of polylines (network pixels, two points or more) whose slots are known already."""
    return _painted({slot: _drawn(line, network, width) for slot, line in polylines.items()}, network, slots)


def _painted(
    pixels: Mapping[int, npt.NDArray[np.bool_]], network: tuple[int, int], slots: int
) -> npt.NDArray[np.uint8]:
    mask = np.zeros(network, dtype=np.uint8)
    for slot in sorted(pixels, key=lambda slot: -abs(slot - (slots - 1) / 2)):
        mask[pixels[slot]] = 1 + slot
    return mask


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


def binary_mask(
    polylines: Sequence[npt.NDArray[np.float64]], geometry: Geometry, *, width: int, beyond: int
) -> npt.NDArray[np.uint8]:
    """Polylines (network pixels), `width` pixels wide -> a mask (H, W): 1 where one lies, else 0, `beyond` where no frame is seen."""
    height, across = geometry.original
    corners = [(-0.5, -0.5), (across - 0.5, -0.5), (across - 0.5, height - 0.5), (-0.5, height - 0.5)]
    outline = np.clip(geometry.to_network(corners), -FAR, FAR)
    mask = np.full(geometry.network, beyond, dtype=np.uint8)
    cv2.fillConvexPoly(mask, np.round(outline * 2**SUBPIXEL_BITS).astype(np.int32), 0, cv2.LINE_8, SUBPIXEL_BITS)
    seen = mask == 0
    for polyline in polylines:
        mask[_drawn(polyline, geometry.network, width) & seen] = 1
    return mask
