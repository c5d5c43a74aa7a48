"""The CUDA kernel that LaneATT, CLRNet and others suppress lanes with, one lane at a time on the host.

Source of the rule: lucastabelini/LaneATT (MIT), lib/nms/src/nms_kernel.cu, copied into the others. It stands in for the compiled
module `nms` or `nms_impl` where upstream's code is run without a GPU.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def nms(boxes: Tensor, scores: Tensor, overlap: float, top_k: int) -> tuple[Tensor, Tensor, None]:
    """Lanes (N, 5 + rows), which are two logits, start as a share, start x, length in rows and x, all single precision -> (kept
    indices (N,), best score first, and their count; what comes behind that many is nothing).
    """
    lanes = boxes.detach().float().numpy()
    rows = lanes.shape[1] - 5
    # C's conversion to a whole number cuts towards zero.
    first = np.trunc((lanes[:, 2] * np.float32(rows - 1)).astype(np.float64) + 0.5)
    last = np.trunc((first.astype(np.float32) + lanes[:, 4] - 1).astype(np.float64) + 0.5 - (lanes[:, 4] < 1))
    places, kept = lanes[:, 5:], list[int]()
    for index in np.argsort(-scores.detach().numpy(), kind="stable"):
        if len(kept) == top_k:
            break
        if not any(_close(index, other, first, last, places, overlap) for other in kept):
            kept.append(int(index))
    indices = torch.zeros(len(lanes), dtype=torch.long)
    indices[: len(kept)] = torch.tensor(kept, dtype=torch.long)
    return indices, torch.tensor(len(kept)), None


def _close(one: int, other: int, first: np.ndarray, last: np.ndarray, places: np.ndarray, overlap: float) -> bool:
    begin, end = int(max(first[one], first[other], 0)), int(min(last[one], last[other], places.shape[1] - 1))
    if end < begin:
        return False
    distance = np.abs(places[one, begin : end + 1] - places[other, begin : end + 1]).sum()
    return bool(distance < overlap * (end - begin + 1))
