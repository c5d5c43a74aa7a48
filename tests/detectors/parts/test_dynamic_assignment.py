from __future__ import annotations

import importlib.util
import math
import sys
from types import ModuleType

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from detectors.parts.dynamic_assignment import (
    LENGTH,
    START_Y,
    UNASSIGNED,
    XS,
    assign_dynamic_k,
    clrernet_costs,
    clrnet_costs,
    covered_rows,
    focal_cost,
    present_lanes,
    with_every_lane,
)
from detectors.parts.line_iou import line_iou
from tests.checkouts import checkout_of

NETWORK = (320, 800)


def prediction_of(generator: torch.Generator, priors: int, rows: int) -> Tensor:
    """Priors (priors, 6 + rows) as a network gives them: straight lanes with noise."""
    parts = torch.rand(priors, 6, generator=generator)
    parts[:, :2] = torch.randn(priors, 2, generator=generator)
    up = torch.linspace(0, 1, rows)
    slope = torch.randn(priors, 1, generator=generator)
    xs = parts[:, 3:4] + 0.4 * slope * (up - parts[:, 2:3]) + 0.01 * torch.randn(priors, rows, generator=generator)
    return torch.cat([parts, xs], dim=1)


def target_of(generator: torch.Generator, present: list[bool], rows: int) -> Tensor:
    """Labels (len(present), 6 + rows): straight lanes from some row on; places without a lane hold what encoders leave there."""
    targets = torch.full((len(present), 6 + rows), -1e5)
    targets[:, 0], targets[:, 1] = 1.0, 0.0
    for index in [place for place, here in enumerate(present) if here]:
        first = int(torch.randint(0, rows // 3, (1,), generator=generator))
        x, slope = torch.rand(2, generator=generator).tolist()
        row = torch.arange(first, rows)
        targets[index, :6] = torch.tensor([0.0, 1.0, first / (rows - 1), x * 800, 0.2 + slope / 2, float(rows - first)])
        targets[index, 6 + first :] = (x + (slope - 0.5) * (row - first) / rows) * 800
    return targets


def batch(seed: int, *, priors: int = 24, rows: int = 12, images: int = 3) -> tuple[Tensor, Tensor]:
    """A batch whose images hold two lanes with a gap between them, none, and four."""
    generator = torch.Generator().manual_seed(seed)
    presence = [[True, False, True, False], [False] * 4, [True] * 4][:images]
    predictions = torch.stack([prediction_of(generator, priors, rows) for _ in presence])
    return predictions, torch.stack([target_of(generator, present, rows) for present in presence])


def slow_clrnet_costs(predictions: list[list[float]], lanes: list[list[float]]) -> list[list[float]]:
    """CLRNet's costs of one image, pair by pair, from the paper's equations 2 and 3 with upstream's normalisation."""
    height, width = NETWORK
    distances, starts, turns = [], [], []
    for prior in predictions:
        distances.append([])
        starts.append([])
        turns.append([])
        for lane in lanes:
            rows = [(p * (width - 1), t) for p, t in zip(prior[6:], lane[6:], strict=True) if 0 <= t < width]
            distances[-1].append(sum(abs(p - t) for p, t in rows) / len(rows) if rows else 0.0)
            rise = (prior[2] - lane[2]) * (height - 1)
            starts[-1].append(math.hypot(rise, prior[3] * (width - 1) - lane[3]))
            turns[-1].append(180 * abs(prior[4] - lane[4]))
    costs = []
    for p, prior in enumerate(predictions):
        score = 1 / (1 + math.exp(-prior[1]))
        positive = -0.25 * (1 - score) ** 2 * math.log(score)
        negative = -0.75 * score**2 * math.log(1 - score)
        costs.append([])
        for m in range(len(lanes)):
            likeness = 1.0
            for table in (distances, starts, turns):
                likeness *= 1.01 - table[p][m] / max(max(row) for row in table)
            costs[-1].append(positive - negative - 3 * likeness**2)
    return costs


def slow_assignment(costs: Tensor, overlaps: Tensor, lanes: list[int]) -> list[int]:
    """The rule of `assign_dynamic_k` for one image, lane by lane and prior by prior."""
    claims: list[list[int]] = [[] for _ in range(len(costs))]
    for lane in lanes:
        good = sorted((max(0.0, float(value)) for value in overlaps[:, lane]), reverse=True)[:4]
        k = max(1, int(torch.tensor(good, dtype=overlaps.dtype).sum()))
        for prior in sorted(range(len(costs)), key=lambda prior: (float(costs[prior, lane]), prior))[:k]:
            claims[prior].append(lane)
    chosen = []
    for prior, claimants in enumerate(claims):
        if len(claimants) > 1:
            claimants = [min(lanes, key=lambda lane: (float(costs[prior, lane]), lane))]
        chosen.append(claimants[0] if claimants else UNASSIGNED)
    return chosen


@pytest.mark.parametrize("seed", range(3))
def test_clrnets_costs_are_the_papers_for_each_image_of_a_batch(seed: int) -> None:
    predictions, targets = (tensor.double() for tensor in batch(seed))
    costs = clrnet_costs(predictions, targets, NETWORK)
    assert costs.shape == (3, 24, 4)
    assert torch.isfinite(costs).all()
    for image in range(3):
        lanes = present_lanes(targets)[image].nonzero().flatten()
        expected = slow_clrnet_costs(predictions[image].tolist(), targets[image, lanes].tolist())
        found = costs[image][:, lanes]
        assert torch.allclose(found, torch.tensor(expected, dtype=torch.float64).reshape(found.shape), atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_clrernets_costs_are_classification_less_what_overlaps_are_worth_in_their_image(seed: int) -> None:
    predictions, targets = batch(seed)
    overlaps = 1.5 * torch.rand(3, 24, 4, generator=torch.Generator().manual_seed(seed)) - 0.5
    costs = clrernet_costs(predictions, overlaps, present_lanes(targets))
    assert torch.isfinite(costs).all()
    for image in range(3):
        lanes = present_lanes(targets)[image].nonzero().flatten().tolist()
        for lane in lanes:
            worst = max(float(1 - overlaps[image, p, m]) for p in range(24) for m in lanes)
            for p in range(24):
                likeness = 1.01 - (1 - float(overlaps[image, p, lane])) / worst
                expected = float(focal_cost(predictions[image, p, 1])) - 3 * likeness
                assert float(costs[image, p, lane]) == pytest.approx(expected, abs=1e-5)


def test_a_prediction_covers_the_rows_from_its_start_for_its_length_within_the_image() -> None:
    generator = torch.Generator().manual_seed(0)
    predictions = torch.zeros(2, 50, 6 + 12)
    predictions[..., START_Y] = 1.6 * torch.rand(2, 50, generator=generator) - 0.3
    predictions[..., LENGTH] = 1.6 * torch.rand(2, 50, generator=generator) - 0.3
    covered = covered_rows(predictions)
    for prior, rows in zip(predictions.flatten(0, 1).tolist(), covered.flatten(0, 1).tolist(), strict=True):
        start = min(max(prior[START_Y], 0.0), 1.0)
        end = min(max(start + prior[LENGTH], 0.0), 1.0)
        assert rows == [int(start * 11) <= row < int(end * 11) for row in range(12)]


@given(st.integers(0, 2**20), st.integers(1, 12), st.integers(1, 5), st.booleans())
def test_an_assignment_is_what_lanes_claim_one_after_the_other(
    seed: int, priors: int, places: int, coarse: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    costs = torch.randn(3, priors, places, generator=generator)
    costs = costs.round() if coarse else costs
    overlaps = 1.5 * torch.rand(3, priors, places, generator=generator) - 0.5
    present = torch.rand(3, places, generator=generator) < 0.6
    assigned = assign_dynamic_k(costs, overlaps.clamp_max(1), present)
    assert assigned.dtype == torch.int64
    for image in range(3):
        lanes = present[image].nonzero().flatten().tolist()
        assert assigned[image].tolist() == slow_assignment(costs[image], overlaps[image].clamp_max(1), lanes)


def test_without_a_lane_no_prior_learns_one() -> None:
    predictions, targets = batch(5)
    targets = targets[[1, 1]]
    costs = clrnet_costs(predictions[:2], targets, NETWORK)
    assigned = assign_dynamic_k(costs, torch.zeros(2, 24, 4), present_lanes(targets))
    assert assigned.tolist() == [[UNASSIGNED] * 24] * 2


def test_a_lane_that_is_met_by_no_prior_still_gets_one() -> None:
    costs = torch.tensor([[[3.0], [1.0], [2.0]]])
    assigned = assign_dynamic_k(costs, torch.full((1, 3, 1), -0.5), torch.tensor([[True]]))
    assert assigned.tolist() == [[UNASSIGNED, 0, UNASSIGNED]]


def test_a_prior_that_two_later_lanes_claim_goes_to_the_one_it_costs_least() -> None:
    # Where upstream's CLRNet gives it to the second lane, whose claim comes first.
    costs = torch.tensor([[[9.0, 2.0, 1.0], [1.0, 5.0, 5.0]]])
    assigned = assign_dynamic_k(costs, torch.zeros(1, 2, 3), torch.ones(1, 3, dtype=torch.bool))
    assert assigned.tolist() == [[2, 0]]


def test_predictions_that_are_perfect_give_finite_costs() -> None:
    _, targets = batch(7)
    predictions = targets.clone()
    predictions[..., 3] /= 799
    predictions[..., XS] /= 799
    single = present_lanes(targets).clone()
    single[:, 1:] = False
    targets[..., 1] = single.float()
    assert torch.isfinite(clrnet_costs(predictions[2:, :1], targets[2:], NETWORK)).all()
    assert torch.isfinite(clrernet_costs(predictions[2:, :1], torch.ones(1, 1, 4), present_lanes(targets[2:]))).all()


def test_no_gradient_goes_through_an_assignment() -> None:
    predictions, targets = batch(8)
    predictions.requires_grad_()
    assert not clrnet_costs(predictions, targets, NETWORK).requires_grad
    overlaps = torch.zeros(3, 24, 4, requires_grad=True)
    assert not clrernet_costs(predictions, overlaps, present_lanes(targets)).requires_grad


@pytest.fixture
def upstream_assignment() -> ModuleType:
    """CLRNet's module of assignment from a checkout; it needs only torch and the module of LineIoU, which it imports by name."""
    folder = checkout_of("CLRNet") / "clrnet" / "models"
    names = [
        ("clrnet.models.losses.lineiou_loss", folder / "losses" / "lineiou_loss.py"),
        ("upstream_dynamic_assign", folder / "utils" / "dynamic_assign.py"),
    ]
    packages = ["clrnet", "clrnet.models", "clrnet.models.losses"]
    before = dict(sys.modules)
    try:
        sys.modules |= {name: ModuleType(name) for name in packages}
        for name, path in names:
            specification = importlib.util.spec_from_file_location(name, path)
            assert specification is not None
            assert specification.loader is not None
            module = importlib.util.module_from_spec(specification)
            sys.modules[name] = module
            specification.loader.exec_module(module)
        return module
    finally:
        for name in set(sys.modules) - set(before):
            del sys.modules[name]


@pytest.mark.slow
def test_clrnets_assignment_is_upstreams_but_for_its_mistake_in_clashes(upstream_assignment: ModuleType) -> None:
    height, width = NETWORK
    alike = 0
    for seed in range(40):
        predictions, targets = batch(seed, priors=192, rows=72)
        costs = clrnet_costs(predictions, targets, NETWORK)
        overlaps = line_iou(predictions[:, :, None, XS] * (width - 1), targets[:, None, :, XS], radius=15, width=width)
        assigned = assign_dynamic_k(costs, overlaps, present_lanes(targets))
        for image in (0, 2):
            lanes = present_lanes(targets)[image].nonzero().flatten()
            priors, indices = upstream_assignment.assign(predictions[image], targets[image, lanes], width, height)
            expected = torch.full((192,), UNASSIGNED)
            expected[priors] = lanes[indices]
            clash = (assigned[image] >= 0) & (expected >= 0) & (assigned[image] != expected)
            alike += int(torch.equal(assigned[image], expected))
            assert torch.equal(torch.where(clash, assigned[image], expected), assigned[image])
    assert alike >= 70


def test_a_lane_that_lost_all_its_claims_gets_the_cheapest_prior_that_is_free() -> None:
    # Every lane claims prior 0, which costs the second least; the third place is empty.
    costs = torch.tensor([[[-3.0, -4.0, 9.0], [1.0, 2.0, 0.0], [0.5, 3.0, 0.0], [2.0, 1.0, 0.0]]])
    present = torch.tensor([[True, True, False]])
    assigned = assign_dynamic_k(costs, torch.zeros(1, 4, 3), present)
    assert assigned.tolist() == [[1, UNASSIGNED, UNASSIGNED, UNASSIGNED]]
    assert with_every_lane(assigned, costs, present).tolist() == [[1, UNASSIGNED, 0, UNASSIGNED]]
    # Where each has one, and where no prior is free, nothing changes.
    for settled in ([[0, 1, UNASSIGNED, 1]], [[1, 1, 1, 1]]):
        assert with_every_lane(torch.tensor(settled), costs, present).tolist() == settled


def test_lanes_that_were_left_out_get_different_priors() -> None:
    costs = torch.tensor([[[0.0, 1.0, 2.0], [5.0, 5.0, 5.0], [6.0, 6.0, 6.0]]])
    assigned = torch.full((1, 3), UNASSIGNED)
    given = with_every_lane(assigned, costs, torch.ones(1, 3, dtype=torch.bool))
    assert given.tolist() == [[0, 1, 2]]
