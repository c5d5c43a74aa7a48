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
import torch.nn.functional as F
from torch import Tensor

Floats = npt.NDArray[np.float32]

FAR = 1e9
"""Stands for places that aren't finite, in pixels: who shares such a row with a lane isn't close to it, who doesn't is unaffected."""

SMALLEST_BLOCK = 32
LARGEST_BLOCK = {"cpu": 128, "accelerator": 1024}
"""Least and greatest number of lanes that are decided on together. A processor is spared comparisons with lanes that are gone; an
accelerator would wait for the host after each block, which costs more than these."""

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

    def part(self, first: int, last: int) -> _Lanes:
        """The lanes first .. last - 1 of each image."""
        return _Lanes(*(values[:, first:last] for values in (self.first, self.last, self.places, self.covers)))

    def at_once(self) -> int:
        """How many lanes can be compared with these at once."""
        return max(1, MEMORY[_kind(self.places)] // max(1, self.places.numel()))


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
    ranked, alive, lanes = _ranked(scores, takes_part, starts, lengths, places, most)
    size = min(max(4 * limit, SMALLEST_BLOCK), LARGEST_BLOCK[_kind(scores)])
    kept = torch.zeros_like(ranked[:, :0])
    present = torch.zeros_like(alive[:, :0])
    for first in range(0, most, size):
        stays = _block(lanes, alive, first, first + size, kept, present, threshold)
        kept, present = _joined(kept, present, first, stays, limit)
        if kept.shape[1] == limit and bool(present.all()):
            break
    return Kept(ranked.gather(1, kept) * present, present)


@torch.no_grad()
def unsuppressed(scores: Tensor, starts: Tensor, lengths: Tensor, places: Tensor, *, threshold: float) -> Tensor:
    """Which lanes `suppressed` keeps without a limit: bool (B, N).

    On an accelerator the host waits a few times for up to 1,024 lanes, whatever the batch: as often as the logarithm of their chains
    in which each one's fate hangs on the one before.
    """
    count = scores.shape[1]
    ranked, alive, lanes = _ranked(scores, scores.isfinite(), starts, lengths, places, count)
    size = LARGEST_BLOCK[_kind(scores)]
    kept = torch.zeros_like(ranked[:, :0])
    present = torch.zeros_like(alive[:, :0])
    found = [present]
    for first in range(0, count, size):
        if first:
            kept, present = _joined(kept, present, first - size, found[-1], count)
        found.append(_block(lanes, alive, first, first + size, kept, present, threshold))
    return torch.zeros_like(alive).scatter_(1, ranked, torch.cat(found, dim=1))


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


def _ranked(
    scores: Tensor, takes_part: Tensor, starts: Tensor, lengths: Tensor, places: Tensor, most: int
) -> tuple[Tensor, Tensor, _Lanes]:
    """The indices of the `most` best lanes that take part, best first, which of them do, and these lanes."""
    ranked = scores.float().masked_fill(~takes_part, -torch.inf).sort(dim=1, descending=True, stable=True).indices
    ranked = ranked[:, :most]
    rows = ranked[..., None].expand(-1, -1, places.shape[-1])
    lanes = _lanes(starts.gather(1, ranked), lengths.gather(1, ranked), places.gather(1, rows))
    return ranked, takes_part.gather(1, ranked), lanes


def _block(
    lanes: _Lanes, alive: Tensor, first: int, last: int, kept: Tensor, present: Tensor, threshold: float
) -> Tensor:
    """Which of the ranked lanes first .. last - 1 stay, given those before that are kept: their ranks, and whether they are any."""
    members, stays = lanes.part(first, last), alive[:, first:last]
    if kept.shape[1]:
        better, step = lanes.at(kept), members.at_once()
        close = [
            _close(better.part(index, index + step), members, threshold) for index in range(0, kept.shape[1], step)
        ]
        stays = stays & ~(torch.cat(close, dim=1) & present[..., None]).any(dim=1)
    return _undisturbed(stays, _close_to_better(members, threshold))


def _joined(kept: Tensor, present: Tensor, first: int, stays: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """The kept lanes before a block that begins at rank `first`, and those of it that stay; `_packed`."""
    block = torch.arange(first, first + stays.shape[1], device=kept.device).expand(len(kept), -1)
    return _packed(torch.cat([kept, block], dim=1), torch.cat([present, stays], dim=1), limit)


def _kind(values: Tensor) -> str:
    return "cpu" if values.is_cpu else "accelerator"


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
    apart = (some.places[:, :, None] - others.places[:, None]).abs_()
    distance = apart.mul_(some.covers[:, :, None]).mul_(others.covers[:, None]).sum(-1)
    first = torch.maximum(some.first[:, :, None], others.first[:, None])
    last = torch.minimum(some.last[:, :, None], others.last[:, None])
    common = last - first + 1
    return (common > 0) & (distance < threshold * common)


def _close_to_better(lanes: _Lanes, threshold: float) -> Tensor:
    """bool (B, P, P): which of the ranked lanes (last) are close to which better ones (middle)."""
    count, step = lanes.places.shape[1], lanes.at_once()
    close = [
        F.pad(_close(lanes.part(first, first + step), lanes.part(first, count), threshold), (first, 0))
        for first in range(0, count, step)
    ]
    return torch.cat(close, dim=1).triu(1)


def _undisturbed(stays: Tensor, better: Tensor) -> Tensor:
    """Which of the ranked lanes that `stays` (B, P) names are close to no better one that stays itself; better: `_close_to_better`.

    The rule is its own fixed point: each pass settles at least the next lane that wasn't, in practice a few passes settle them all.
    Whether they did is asked after 1, 3, 7 ... passes, since the host waits for the answer; passes too many change nothing.
    """
    found, passes = stays, 1
    # How many disturb a lane is a product of zeros and ones, which takes a fraction of the time of `any` over (B, P, P).
    disturbing = better.float()
    while True:
        for _ in range(passes):
            before, found = found, stays & (found[:, None].float() @ disturbing == 0)[:, 0]
        if torch.equal(before, found):
            return found
        passes *= 2


def _packed(indices: Tensor, present: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """The present ones of (B, N) moved to the front in their order, at most `limit` of them; as wide as the longest."""
    longest = min(int(present.sum(dim=1).max()), limit)
    order = present.byte().sort(dim=1, descending=True, stable=True).indices[:, :longest]
    present = present.gather(1, order)
    return indices.gather(1, order) * present, present
