"""The CUDA kernel that LaneATT, CLRNet and others suppress lanes with, on the host.

Source of the rule: lucastabelini/LaneATT (MIT), lib/nms/src/nms_kernel.cu, copied into the others. It stands in for the compiled
module `nms` or `nms_impl` where upstream's code is run without a GPU.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Floats = npt.NDArray[np.floating[Any]]


def nms(boxes: Tensor, scores: Tensor, overlap: float, top_k: int) -> tuple[Tensor, Tensor, None]:
    """Lanes (N, 5 + rows), which are two logits, start as a share, start x, length in rows and x, all single precision -> (kept
    indices (N,), best score first, and their count; what comes behind that many is nothing).
    """
    lanes = boxes.detach().float().cpu().numpy()
    rows = lanes.shape[1] - 5
    # C's conversion to a whole number cuts towards zero.
    first = np.trunc((lanes[:, 2] * np.float32(rows - 1)).astype(np.float64) + 0.5)
    last = np.trunc((first.astype(np.float32) + lanes[:, 4] - 1).astype(np.float64) + 0.5 - (lanes[:, 4] < 1))
    return _kept(first, last, lanes[:, 5:], scores, overlap, top_k)


def nms_of_ends(boxes: Tensor, scores: Tensor, overlap: float, top_k: int) -> tuple[Tensor, Tensor, None]:
    """The same for lanes (N, 4 + rows), which are two logits, first and last row, and x: srlane/ops/csrc of passerer/SRLane."""
    lanes = boxes.detach().float().cpu().numpy()
    first, last = np.trunc(lanes[:, 2:4].astype(np.float64) + 0.5).T
    return _kept(first, last, lanes[:, 4:], scores, overlap, top_k)


def _kept(
    first: Floats, last: Floats, places: Floats, scores: Tensor, overlap: float, top_k: int
) -> tuple[Tensor, Tensor, None]:
    """The answer for lanes on rows `first` to `last`, with x (N, rows)."""
    count, kept, gone = len(places), list[int](), np.zeros(len(places), dtype=np.bool_)
    for index in np.argsort(-scores.detach().cpu().numpy(), kind="stable"):
        if len(kept) == top_k:
            break
        if not gone[index]:
            kept.append(int(index))
            gone |= _close(index, first, last, places, overlap)
    indices = torch.zeros(count, dtype=torch.long)
    indices[: len(kept)] = torch.tensor(kept, dtype=torch.long)
    return indices.to(scores.device), torch.tensor(len(kept)), None


def _close(index: int, first: Floats, last: Floats, places: Floats, overlap: float) -> npt.NDArray[np.bool_]:
    """Which lanes lie beside the one at `index` on the rows that both are on: (N,)."""
    begin, end = np.maximum(first, max(first[index], 0)), np.minimum(last, min(last[index], places.shape[1] - 1))
    rows = np.arange(places.shape[1])
    common = (rows >= begin[:, None]) & (rows <= end[:, None])
    distance = np.where(common, np.abs(places - places[index]), 0).sum(axis=1)
    close: npt.NDArray[np.bool_] = (end >= begin) & (distance < overlap * (end - begin + 1))
    return close
