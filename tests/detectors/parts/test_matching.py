from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.parts.matching import matched_pairs


def least_cost(cost: np.ndarray, labels: list[int]) -> float:
    """The least total cost of giving each label a prediction of its own, or each prediction a label, by trying them all."""
    predictions = range(len(cost))
    if len(labels) <= len(cost):
        choices = itertools.permutations(predictions, len(labels))
        return min(sum(cost[p, m] for p, m in zip(choice, labels, strict=True)) for choice in choices)
    chosen = itertools.permutations(labels, len(cost))
    return min(sum(cost[p, m] for p, m in zip(predictions, choice, strict=True)) for choice in chosen)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.integers(0, 5), st.integers(0, 2**20), st.integers(1, 3))
def test_a_matching_costs_as_little_as_the_best_of_all(predictions: int, places: int, seed: int, layers: int) -> None:
    generator = np.random.default_rng(seed)
    costs = generator.normal(size=(2, layers, predictions, places)).round(1)
    present = generator.random((2, 1, places)) < 0.7
    pairs = matched_pairs(torch.from_numpy(costs), torch.from_numpy(present)).numpy()
    assert pairs.shape == costs.shape
    assert pairs.dtype == np.bool_
    for image, layer in itertools.product(range(2), range(layers)):
        pair, cost = pairs[image, layer], costs[image, layer]
        labels = np.flatnonzero(present[image, 0]).tolist()
        assert (pair.sum(axis=0) <= 1).all()
        assert (pair.sum(axis=1) <= 1).all()
        assert pair.sum() == min(len(labels), predictions)
        assert not pair[:, ~present[image, 0]].any()
        assert cost[pair].sum() == pytest.approx(least_cost(cost, labels))


def test_costs_that_are_no_numbers_are_avoided_and_carry_no_gradient() -> None:
    costs = torch.tensor([[math.nan, 3.0], [1.0, math.inf]], requires_grad=True)
    pairs = matched_pairs(costs, torch.tensor([True, True]))
    assert pairs.tolist() == [[False, True], [True, False]]
    assert matched_pairs(torch.full((2, 2), math.nan), torch.tensor([True, True])).sum() == 2
