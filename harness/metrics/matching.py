"""Which label lane goes with which predicted lane, as the CULane C++ evaluator decides it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from harness.metrics.compiled import compiled

Overlaps = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

SLACK = 1e-2
"""How far from tight an edge may be and still be used (XingangPan/SCNN, tools/lane_evaluation, hungarianGraph.hpp)."""

NO_EDGE = 1e10


@compiled
def augment(
    overlaps: Overlaps, left_weight: Overlaps, right_weight: Overlaps, right_match: Integers, seen: Integers, root: int
) -> bool:
    """Look depth first, in index order, for an augmenting path of tight edges from a free left node, and flip it.

    seen: (left + right,) flags, the left nodes first; set for every node that the search has reached.
    """
    left_size, right_size = overlaps.shape
    path, chosen = (
        np.empty(left_size, np.int64),
        np.full(left_size, -1),
    )  # a stack of left nodes and the edge tried at each
    depth = 0
    path[0] = root
    seen[root] = 1
    while depth >= 0:
        left = path[depth]
        chosen[depth] += 1
        right = chosen[depth]
        if right == right_size:
            depth -= 1
            continue
        if seen[left_size + right] or not abs(left_weight[left] + right_weight[right] - overlaps[left, right]) < SLACK:
            continue
        seen[left_size + right] = 1
        if right_match[right] < 0:
            for level in range(depth, -1, -1):
                right_match[chosen[level]] = path[level]
            return True
        depth += 1
        path[depth] = right_match[right]
        chosen[depth] = -1
        seen[right_match[right]] = 1
    return False


@compiled
def match_lanes(overlaps: Overlaps) -> Integers:
    """For each row of an IoU matrix (labels x predictions) the column it is matched with, or -1.

    The Kuhn-Munkres algorithm with the smaller side on the left, except that an edge counts as tight within 0.01: the sum of the
    IoUs is largest only to within that slack and depends on the order of the lanes. A NaN is never tight, and the matching ends
    at the first left node that nothing can be found for.
    """
    rows, columns = overlaps.shape
    swapped = rows > columns
    left_size, right_size = min(rows, columns), max(rows, columns)
    weights = np.empty((left_size, right_size))
    left_weight, right_weight = np.full(left_size, -1e5), np.zeros(right_size)
    for left in range(left_size):
        for right in range(right_size):
            value = overlaps[right, left] if swapped else overlaps[left, right]
            weights[left, right] = value
            if left_weight[left] < value:
                left_weight[left] = value
    right_match = np.full(right_size, -1)
    seen = np.empty(left_size + right_size, np.int64)
    for root in range(left_size):
        stuck = False
        while not stuck:
            seen[:] = 0
            if augment(weights, left_weight, right_weight, right_match, seen, root):
                break
            least = NO_EDGE
            for left in range(left_size):
                for right in range(right_size):
                    if seen[left] and not seen[left_size + right]:
                        gap = left_weight[left] + right_weight[right] - weights[left, right]
                        if gap < least:
                            least = gap
            stuck = least == NO_EDGE
            if not stuck:
                for left in range(left_size):
                    left_weight[left] -= least * seen[left]
                for right in range(right_size):
                    right_weight[right] += least * seen[left_size + right]
        if stuck:
            break
    matched = np.full(rows, -1)
    for right in range(right_size):
        left = right_match[right]
        if left >= 0:
            if swapped:
                matched[right] = left
            else:
                matched[left] = right
    return matched
