"""Non-maximum suppression of lanes: of lanes that run beside each other, the one with the best score stays.

The rule is that of LaneATT's and CLRNet's CUDA kernel (lucastabelini/LaneATT, lib/nms/src/nms_kernel.cu; Turoad/CLRNet,
clrnet/ops/csrc/nms_kernel.cu), for whole batches, on any device, and without a loop over lanes. Two things differ: of equal scores the
first counts as the better (the kernel leaves it to an unstable sort), and rows below the first are no rows (where both lanes start
there, the kernel takes scores and starts for places).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Floats = npt.NDArray[np.float32]

FAR = 1e9
"""Stands for places that aren't finite, in pixels: who shares such a row with a lane isn't close to it, who doesn't is unaffected."""

BLOCK = 32, 128
"""Least and greatest number of lanes that are decided on together."""

MEMORY = {"cpu": 2**20, "accelerator": 2**26}
"""Numbers that are compared at once: what a processor's cache holds, what an accelerator's memory does."""


@dataclass(frozen=True, eq=False)
class Kept:
    """What is left of each image's lanes, best score first.

    indices: int64 (B, K), of lanes as they came; K is the largest number that an image keeps. present: bool (B, K), False behind an
    image's last one, where the index is 0.
    """

    indices: Tensor
    present: Tensor

    def of(self, lanes: int) -> Tensor:
        """bool (B, lanes): which of the lanes that there were are kept."""
        places = self.indices.where(self.present, lanes)
        kept = torch.zeros(len(places), lanes + 1, dtype=torch.bool, device=places.device)
        return kept.scatter_(1, places, True)[:, :lanes]


@dataclass(frozen=True, eq=False)
class _Lanes:
    """Lanes (B, N): first and last row, places (B, N, S), and 1 on the rows between, else 0."""

    first: Tensor
    last: Tensor
    places: Tensor
    covers: Tensor

    def at(self, indices: Tensor) -> _Lanes:
        """The lanes with `indices` (B, K) of each image."""
        rows = indices[..., None].expand(-1, -1, self.places.shape[-1])
        return _Lanes(
            self.first.gather(1, indices),
            self.last.gather(1, indices),
            self.places.gather(1, rows),
            self.covers.gather(1, rows),
        )


@torch.no_grad()
def suppressed(
    scores: Tensor,
    starts: Tensor,
    lengths: Tensor,
    places: Tensor,
    *,
    threshold: float,
    limit: int,
    candidates: Tensor | None = None,
) -> Kept:
    """Go through each image's lanes from the best score down and drop every lane that is close to one that was kept.

    scores: (B, N). starts: (B, N), the first row as a share of the S - 1 steps between rows. lengths: (B, N), in rows. places:
    (B, N, S), x on each row in pixels. Start and end are rounded half up to whole rows. Lanes are close when their mean distance over
    the rows that both cover is below `threshold` pixels; without a common row they never are. At most `limit` lanes of an image are
    kept. candidates: bool (B, N), which lanes take part; None is all. A lane whose score is NaN takes no part.
    """
    takes_part = scores.isfinite() if candidates is None else candidates & scores.isfinite()
    most = int(takes_part.sum(dim=1).max()) if takes_part.numel() else 0
    ranked = scores.float().masked_fill(~takes_part, -torch.inf).sort(dim=1, descending=True, stable=True).indices
    ranked = ranked[:, :most]
    alive = takes_part.gather(1, ranked)
    rows = ranked[..., None].expand(-1, -1, places.shape[-1])
    lanes = _lanes(starts.gather(1, ranked), lengths.gather(1, ranked), places.gather(1, rows))
    size = min(max(4 * limit, BLOCK[0]), BLOCK[1])
    kept = torch.zeros_like(ranked[:, :0])
    present = torch.zeros_like(alive[:, :0])
    for first in range(0, most, size):
        block = torch.arange(first, min(first + size, most), device=ranked.device).expand(len(ranked), -1)
        members = lanes.at(block)
        stays = alive.gather(1, block)
        if kept.shape[1]:
            stays = stays & ~(_close(lanes.at(kept), members, threshold) & present[..., None]).any(dim=1)
        stays = _undisturbed(stays, _close(members, members, threshold))
        kept, present = _packed(torch.cat([kept, block], dim=1), torch.cat([present, stays], dim=1), limit)
        if kept.shape[1] == limit and bool(present.all()):
            break
    return Kept(ranked.gather(1, kept) * present, present)


def suppressed_on_host(
    scores: Floats, starts: Floats, lengths: Floats, places: Floats, *, threshold: float, limit: int
) -> list[int]:
    """What `suppressed` keeps of the lanes of one image, as indices, best score first: for few lanes and a low `limit`.

    There the many small steps of batched code take longer than the lanes. scores, starts, lengths: float32 (N,); places: (N, S).
    """
    count = places.shape[1]
    order = np.argsort(-scores, kind="stable")
    order = order[np.isfinite(scores[order])]
    first = np.trunc((starts[order] * np.float32(count - 1)).astype(np.float64) + 0.5)
    lengths = lengths[order]
    last = np.trunc((first.astype(np.float32) + lengths - 1).astype(np.float64) + 0.5 - (lengths < 1))
    rows = np.arange(count)
    covers = (rows >= first[:, None]) & (rows <= last[:, None])
    places = np.fmax(np.fmin(places[order], np.float32(FAR)), np.float32(-FAR))
    stays = np.ones(len(order), dtype=np.bool_)
    kept: list[int] = []
    for rank, index in enumerate(order):
        if not stays[rank]:
            continue
        kept.append(int(index))
        if len(kept) == limit:
            break
        common = covers[rank + 1 :] & covers[rank]
        distance = (np.abs(places[rank + 1 :] - places[rank]) * common).sum(axis=1)
        reach = common.sum(axis=1)
        stays[rank + 1 :] &= (reach == 0) | (distance >= threshold * reach)
    return kept


def _lanes(starts: Tensor, lengths: Tensor, places: Tensor) -> _Lanes:
    """Rounded to rows in the kernel's order of operations and its precisions."""
    count = places.shape[-1]
    first = (starts.float() * (count - 1)).double().add(0.5).trunc()
    lengths = lengths.float()
    last = (first.float() + lengths - 1).double().add(0.5).sub((lengths < 1).double()).trunc()
    first = first.nan_to_num(nan=count).clamp(0, count).long()
    last = last.nan_to_num(nan=-1).clamp(-1, count - 1).long()
    rows = torch.arange(count, device=places.device)
    covers = (rows >= first[..., None]) & (rows <= last[..., None])
    return _Lanes(first, last, places.float().nan_to_num(FAR, FAR, -FAR), covers.float())


def _close(some: _Lanes, others: _Lanes, threshold: float) -> Tensor:
    """bool (B, P, Q): which of some (B, P) and others (B, Q) run closer to each other than `threshold`."""
    portion = max(1, MEMORY["cpu" if others.places.is_cpu else "accelerator"] // max(1, others.places.numel()))
    pairs = [
        (places[:, :, None] - others.places[:, None])
        .abs_()
        .mul_(covers[:, :, None])
        .mul_(others.covers[:, None])
        .sum(-1)
        for places, covers in zip(
            torch.split(some.places, portion, 1), torch.split(some.covers, portion, 1), strict=True
        )
    ]
    distance = torch.cat(pairs, dim=1)
    first = torch.maximum(some.first[:, :, None], others.first[:, None])
    last = torch.minimum(some.last[:, :, None], others.last[:, None])
    common = last - first + 1
    return (common > 0) & (distance < threshold * common)


def _undisturbed(stays: Tensor, close: Tensor) -> Tensor:
    """Which of the ranked lanes that `stays` (B, P) names are close to no better one that stays itself; close: (B, P, P).

    The rule is its own fixed point: each pass settles at least the next lane that wasn't, in practice a few passes settle them all.
    """
    better = close.triu(1)
    found = stays
    while True:
        disturbed = (found[..., None] & better).any(dim=1)
        following = stays & ~disturbed
        if torch.equal(following, found):
            return found
        found = following


def _packed(indices: Tensor, present: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """The present ones of (B, N) moved to the front in their order, at most `limit` of them; as wide as the longest."""
    longest = min(int(present.sum(dim=1).max()), limit)
    order = present.byte().sort(dim=1, descending=True, stable=True).indices[:, :longest]
    present = present.gather(1, order)
    return indices.gather(1, order) * present, present
