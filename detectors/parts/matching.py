"""One-to-one matching of predictions with labels, which set prediction learns from."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

UNUSABLE = 1e9
"""Cost of a pair whose cost isn't a number."""


def matched_pairs(costs: Tensor, present: Tensor) -> Tensor:
    """The one-to-one matching of least total cost in each of many small problems, on the host, which waits for the device once.

    costs: (..., Q, M), of Q predictions and M places for labels. present: bool (..., M), which places hold a label; broadcast over
    the leading dimensions. Returns bool (..., Q, M): every label has one prediction, or every prediction one label where labels are
    more. Costs that aren't finite are as good as forbidden: it is for the loss to show them.
    """
    *leading, predictions, places = costs.shape
    count = math.prod(leading)
    problems = costs.detach().reshape(count, predictions, places).cpu().double().numpy()
    problems = np.nan_to_num(problems, nan=UNUSABLE, posinf=UNUSABLE, neginf=UNUSABLE)
    labels = present.expand(*leading, places).reshape(count, places).cpu().numpy()
    pairs = np.zeros(problems.shape, dtype=np.bool_)
    for pair, cost, here in zip(pairs, problems, labels, strict=True):
        held = np.flatnonzero(here)
        rows, columns = linear_sum_assignment(cost[:, held])
        pair[rows, held[columns]] = True
    return torch.from_numpy(pairs).to(costs.device, non_blocking=True).reshape(costs.shape)
