"""How much two lanes overlap, lanes being x coordinates on the same rows: LineIoU and LaneIoU.

Each lane is widened to a band, and the rows' overlaps and unions are summed before they are divided. On a row where two bands don't
meet the overlap is negative, minus the gap, so that the measure goes on falling (and has a gradient) with distance.

All functions broadcast their leading dimensions: lanes (N, rows) against (N, rows) are N aligned pairs, (B, P, 1, rows) against
(B, 1, M, rows) all pairs (B, P, M) of each image. x is -1e5, or anything else outside the image, where a label has no point.
"""

from __future__ import annotations

import torch
from torch import Tensor

LONGEST_STEP = 1e4
"""Pixels between two rows above which a label's lane doesn't run from one to the other, but begins or ends in between.

Source: hirotomusiker/CLRerNet, libs/models/losses/iou_loss.py (`max_dx`)."""


def line_iou(predicted: Tensor, labelled: Tensor, *, radius: float, width: float) -> Tensor:
    """LineIoU of CLRNet (Zheng et al., CVPR 2022): bands of half-width `radius`, on the rows where the label is in the image.

    predicted, labelled: x (..., rows) in the same unit as `radius` and as `width`, that of the image. Returns (...), at most 1; 0
    where the label is on no row.
    """
    overlap, union = _bands(predicted, labelled, radius, radius)
    return _ratio(overlap, union, inside(labelled, width))


def lane_iou(predicted: Tensor, labelled: Tensor, predicted_radii: Tensor, labelled_radii: Tensor) -> Tensor:
    """LaneIoU of CLRerNet (Honda and Uchida, WACV 2024): as LineIoU, but a band is as wide across the lane whatever its angle.

    predicted, labelled: x (..., rows) as shares of the image's width. The radii are what `lane_radii` gives of them, or of another
    lane. Returns (...), at most 1; 0 where the label is on no row.
    """
    overlap, union = _bands(predicted, labelled, predicted_radii, labelled_radii)
    return _ratio(overlap, union, inside(labelled, 1.0))


def lane_iou_of_ranges(
    predicted: Tensor, labelled: Tensor, predicted_radii: Tensor, labelled_radii: Tensor, covered: Tensor
) -> Tensor:
    """LaneIoU that counts how far the prediction reaches: a row with only one of both lanes adds that lane's band to the union.

    covered: bool (..., rows), the rows on which the prediction claims to be; where it is outside the image it is not. The rest as
    in `lane_iou`.
    """
    overlap, union = _bands(predicted, labelled, predicted_radii, labelled_radii)
    here, there = inside(predicted, 1.0) & covered, inside(labelled, 1.0)
    alone = torch.where(here & ~there, 2 * predicted_radii, 0.0) + torch.where(there & ~here, 2 * labelled_radii, 0.0)
    return _ratio(overlap, torch.where(here & there, union, alone), here & there, here | there)


def inside(xs: Tensor, width: float) -> Tensor:
    """Which x lie in an image of that width, bool of the same shape."""
    return (xs >= 0) & (xs < width)


def lane_radii(xs: Tensor, *, radius: float, frame: tuple[float, float], longest_step: float = float("inf")) -> Tensor:
    """Half-widths along the rows of bands that are 2 x `radius` wide across the lane, of the lane's shape and without gradient.

    xs: x (..., rows), at least three, as shares of the width; rows are spread evenly over the height. frame: (height, width) of what
    the network sees, in pixels of the original image, where angles are measured; a row's angle is taken between its neighbours, the
    two at the ends have their neighbour's. Where those are further apart than `longest_step` pixels, the lane is taken as upright;
    labels need LONGEST_STEP.
    """
    height, width = frame
    rise = 2 * height / (xs.shape[-1] - 1)
    xs = xs.detach()
    step = (xs[..., 2:] - xs[..., :-2]) * width
    step = torch.where(step.abs() > longest_step, 0.0, step)
    inner = radius * (step.square() + rise**2).sqrt() / rise
    return torch.cat([inner[..., :1], inner, inner[..., -1:]], dim=-1)


def _bands(
    predicted: Tensor, labelled: Tensor, predicted_radii: Tensor | float, labelled_radii: Tensor | float
) -> tuple[Tensor, Tensor]:
    """Signed overlap and union of two lanes' bands on each row, (..., rows)."""
    left, right = predicted - predicted_radii, predicted + predicted_radii
    label_left, label_right = labelled - labelled_radii, labelled + labelled_radii
    overlap = torch.minimum(right, label_right) - torch.maximum(left, label_left)
    union = torch.maximum(right, label_right) - torch.minimum(left, label_left)
    return overlap, union


def _ratio(overlap: Tensor, union: Tensor, meeting: Tensor, counted: Tensor | None = None) -> Tensor:
    """Overlap of the `meeting` rows over union of the `counted` ones, which are the same where nothing else is said."""
    counted = meeting if counted is None else counted
    return torch.where(meeting, overlap, 0.0).sum(-1) / (torch.where(counted, union, 0.0).sum(-1) + 1e-9)
