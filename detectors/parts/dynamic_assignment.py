"""Which label each of a detector's lane priors learns: the dynamic-k assignment of CLRNet and CLRerNet, on whole batches.

Every lane of the labels claims the k priors of least cost, k being about how many of them lie on it already; a prior that several
lanes claim goes to the one it costs least.

Predictions are (B, P, 6 + rows): two logits (background, lane), start y as a share of the height from the bottom, start x, angle over
pi, length as a share of the rows, and an x on each row from the bottom up; x are shares of the image's width - 1. Targets are
(B, M, 6 + rows) in the same order, M >= 1 places of which those with a 1 in column `PRESENT` hold a lane; x in pixels, far outside the
image where there is none, lengths in rows. All of it is detached: an assignment has no gradient.

Sources: Zheng et al., CVPR 2022 and Turoad/CLRNet, clrnet/models/utils/dynamic_assign.py; Honda and Uchida, WACV 2024 and
hirotomusiker/CLRerNet, libs/core/bbox/assigners/dynamic_topk_assigner.py and libs/core/bbox/match_costs/match_cost.py. CLRNet's code
means to give a prior claimed twice to the lane it costs least, as its successor's does, but clears the first lane's claim only: there,
of the other claimants, the first keeps the prior. Here it goes by cost for both.
"""

from __future__ import annotations

import torch
from torch import Tensor

from detectors.parts.line_iou import inside
from harness.pytorch.constants import constant

PRESENT, START_Y, START_X, THETA, LENGTH = 1, 2, 3, 4, 5
"""Columns of predictions and targets; column PRESENT of predictions is the logit of a lane."""

XS = slice(6, None)
"""Columns of the x on the rows."""

UNASSIGNED = -1
"""The lane of a prior that learns none."""

CANDIDATES = 4
"""How many of the best overlaps with a lane add up to its k; so many priors can it have at most."""

SIMILARITY_WEIGHT = 3.0
"""Weight of similarity in a cost, against 1 of classification."""

FOCAL_ALPHA, FOCAL_GAMMA, FOCAL_EPSILON = 0.25, 2, 1e-12
"""Of the focal cost."""

FLOOR = 1e-2
"""Similarity of the least similar pair, where 1 + FLOOR is that of a perfect one."""


def present_lanes(targets: Tensor) -> Tensor:
    """Which places of targets (B, M, 6 + rows) hold a lane, bool (B, M)."""
    return targets[..., PRESENT] == 1


@torch.no_grad()
def assign_dynamic_k(costs: Tensor, overlaps: Tensor, present: Tensor) -> Tensor:
    """The lane that each prior learns, int64 (B, P): a place in 0..M - 1 that holds a lane, or UNASSIGNED.

    costs, overlaps: (B, P, M), of every prior and place; overlaps up to 1, what is below 0 counts as 0. present: bool (B, M). Of equal
    costs the lower index wins, on every device. A lane may end without a prior, where others claimed all of its own.
    """
    costs = torch.where(present[:, None, :], costs, float("inf"))
    best = overlaps.clamp_min(0).topk(min(CANDIDATES, overlaps.shape[1]), dim=1).values
    wanted = best.sum(dim=1, keepdim=True).int().clamp_min(1)
    ranks = costs.argsort(dim=1, stable=True).argsort(dim=1)
    claims = (ranks < wanted) & present[:, None, :]
    claimants = claims.sum(dim=-1)
    lane = torch.where(claimants > 1, costs.argmin(dim=-1), claims.int().argmax(dim=-1))
    return torch.where(claimants > 0, lane, UNASSIGNED)


@torch.no_grad()
def with_every_lane(assigned: Tensor, costs: Tensor, present: Tensor) -> Tensor:
    """What `assign_dynamic_k` gave, but with a prior for each lane that has none: of those that learn nothing, the one it costs least.

    Not of the papers. There, a lane claims a prior that is sure to be another lane's rather than one near it that isn't sure of
    anything, and goes without: what is found already keeps what isn't from being found.
    """
    priors = torch.arange(assigned.shape[1], device=assigned.device)
    for lane in range(costs.shape[-1]):
        free = assigned == UNASSIGNED
        left_out = present[:, lane] & ~(assigned == lane).any(dim=1)
        cheapest = costs[..., lane].masked_fill(~free, float("inf")).argmin(dim=1)
        given = left_out[:, None] & free & (priors == cheapest[:, None])
        assigned = torch.where(given, lane, assigned)
    return assigned


@torch.no_grad()
def clrnet_costs(predictions: Tensor, targets: Tensor, network: tuple[int, int]) -> Tensor:
    """CLRNet's costs (B, P, M): classification, less the similarities in distance, start and angle multiplied and squared.

    network: (height, width) of the image in pixels. Each similarity is relative to the worst pair of the image's own lanes; costs of
    places without a lane mean nothing.
    """
    height, width = network
    scale = constant([height - 1, 1.0], predictions.device)
    priors, lanes = predictions[:, :, None], targets[:, None]
    present = present_lanes(targets)

    labelled = inside(lanes[..., XS], width)
    gaps = (priors[..., XS] * (width - 1) - lanes[..., XS]).abs()
    distance = torch.where(labelled, gaps, 0.0).sum(-1) / (labelled.sum(-1) + 1e-9)
    reach = torch.stack([priors[..., START_Y], priors[..., START_X] * (width - 1)], dim=-1)
    start = ((reach - lanes[..., START_Y : START_X + 1]) * scale).norm(dim=-1)
    turn = (priors[..., THETA] - lanes[..., THETA]).abs()

    likeness = _similarity(distance, present) * _similarity(start, present) * _similarity(turn, present)
    return focal_cost(predictions[..., PRESENT])[..., None] - SIMILARITY_WEIGHT * likeness.square()


@torch.no_grad()
def clrernet_costs(predictions: Tensor, overlaps: Tensor, present: Tensor) -> Tensor:
    """CLRerNet's costs (B, P, M): classification, less the similarity in LaneIoU, which `overlaps` (B, P, M) are.

    present: bool (B, M). The similarity is relative to the worst pair of the image's own lanes; costs of places without a lane mean
    nothing.
    """
    likeness = _similarity(1 - overlaps, present)
    return focal_cost(predictions[..., PRESENT])[..., None] - SIMILARITY_WEIGHT * likeness


@torch.no_grad()
def covered_rows(predictions: Tensor) -> Tensor:
    """The rows on which predictions (B, P, 6 + rows) claim to be, from their starts for their lengths: bool (B, P, rows)."""
    strips = predictions.shape[-1] - XS.start - 1
    start = predictions[..., START_Y].clamp(0, 1)
    end = (start + predictions[..., LENGTH]).clamp(0, 1)
    first, last = ((place * strips).long()[..., None] for place in (start, end))
    rows = torch.arange(strips + 1, device=predictions.device)
    return (rows >= first) & (rows < last)


def focal_cost(logits: Tensor) -> Tensor:
    """What it costs, in focal loss, to call a prior of that logit a lane rather than background; of the same shape."""
    probability = logits.sigmoid()
    lane = -(probability + FOCAL_EPSILON).log() * FOCAL_ALPHA * (1 - probability) ** FOCAL_GAMMA
    background = -(1 - probability + FOCAL_EPSILON).log() * (1 - FOCAL_ALPHA) * probability**FOCAL_GAMMA
    return lane - background


def _similarity(differences: Tensor, present: Tensor) -> Tensor:
    """Differences (B, P, M) >= 0 -> 1 + FLOOR for none down to FLOOR for the largest of the image."""
    differences = torch.where(present[:, None, :], differences, 0.0)
    largest = differences.amax(dim=(1, 2), keepdim=True).clamp_min(torch.finfo(differences.dtype).tiny)
    return 1 - differences / largest + FLOOR
