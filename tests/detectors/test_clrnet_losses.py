"""CLRNet's losses are the published ones, finite, and least where outputs say what labels say."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from detectors.base import Batch
from detectors.clrnet import CLRNet
from detectors.parts.dynamic_assignment import (
    LENGTH,
    PRESENT,
    START_X,
    START_Y,
    THETA,
    XS,
    assign_dynamic_k,
    present_lanes,
)
from tests.detectors.promises import finite_terms, unmoved
from tests.detectors.roads import batch_of, road
from tests.detectors.small.clrnet import MICRO, build, outputs_of


def by_hand(detector: CLRNet, outputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
    """The published losses, one image, stage and pair at a time."""
    options, width = detector.options, detector.configuration.input.network[1]
    strips = options.rows - 1
    terms: dict[str, list[Tensor]] = {"classification": [], "regression": [], "line": []}
    for stages, targets in zip(outputs["lanes"], batch.targets["lanes"], strict=True):
        lanes = [target for target in targets if target[PRESENT] == 1]
        for predicted in stages:
            costs, overlaps = detector.costs_and_overlaps(predicted[None], targets[None])
            assigned = assign_dynamic_k(costs, overlaps, present_lanes(targets[None]))[0]
            focal, regression, line = predicted.new_zeros(3)
            for prior, number in zip(predicted, assigned.tolist(), strict=True):
                share = prior[:2].softmax(0)[int(number >= 0)]
                focal = focal - 0.25 * (1 - share) ** 2 * share.log()
                if number < 0:
                    continue
                target = targets[number]
                late = (prior[START_Y] * strips).round().clamp(0, strips) - target[START_Y] * strips
                found = prior[2:6] * torch.tensor([strips, width - 1, 180, strips])
                wanted = torch.stack(
                    [target[START_Y] * strips, target[START_X], target[THETA] * 180, target[LENGTH] - late]
                )
                regression = regression + F.smooth_l1_loss(found, wanted)
                seen = (target[XS] >= 0) & (target[XS] < width)
                apart = (prior[XS] * (width - 1) - target[XS])[seen].abs()
                line = line + 1 - (2 * options.radius - apart).sum() / (2 * options.radius + apart).sum()
            count = max(1, int((assigned >= 0).sum()))
            terms["classification"].append(focal / max(1, len(lanes)))
            terms["regression"].append(regression / count)
            terms["line"].append(line / count)
    weight = torch.tensor([0.4] + [1.0] * options.slots)
    logits = F.interpolate(outputs["mask"], size=(128, 320), mode="bilinear")
    means = {name: torch.stack(values).mean() * getattr(options, name) for name, values in terms.items()}
    entropy = F.cross_entropy(logits, batch.targets["mask"].long(), weight=weight)
    return means | {"mask": options.mask * entropy}


def test_losses_are_the_published_ones() -> None:
    detector = build(every_lane=False, classification=6.0, regression=0.5, line=8.0, mask=0.7).train()
    batch = batch_of(detector, [road(), road(-100.0)[1:3], []])
    with torch.no_grad():
        outputs = detector(batch.images)
        generator = torch.Generator().manual_seed(1)
        # Random weights give lanes without length, all as sure as each other.
        outputs["lanes"] += 0.05 * torch.randn(outputs["lanes"].shape, generator=generator)
        outputs["lanes"][..., :2] += torch.randn(outputs["lanes"][..., :2].shape, generator=generator)
        outputs["lanes"][..., LENGTH] += 0.6
        measured, expected = detector.losses(outputs, batch), by_hand(detector, outputs, batch)
    assert set(measured) == set(expected)
    for name, value in expected.items():
        assert float(measured[name]) == pytest.approx(float(value), rel=2e-5), name


def test_losses_and_gradients_are_finite_without_any_lane() -> None:
    detector = build().train()
    terms = finite_terms(detector, batch_of(detector, [[], []]))
    assert set(terms) == {"classification", "regression", "line", "mask"}
    assert terms["regression"] == terms["line"] == 0.0


def test_every_parameter_learns_from_a_batch_with_lanes() -> None:
    detector = build().train()
    hiding = (*detector.backbone.parameters(), *detector.head.gathering.context.parameters())
    assert unmoved(detector, batch_of(detector, [road(), road(60.0)]), hiding) == set()


def test_perfect_outputs_cost_less_than_any_others() -> None:
    batch = batch_of(MICRO, [road()[1:]])
    perfect = outputs_of(MICRO, batch.targets["lanes"])
    best = MICRO.losses(perfect, batch)
    assert float(best["line"]) == pytest.approx(0.0, abs=1e-5)
    assert float(best["regression"]) == pytest.approx(0.0, abs=1e-5)
    for columns, by in ((slice(0, 2), 2.0), (slice(2, 6), 0.01), (XS, 0.01)):
        changed = perfect["lanes"].clone()
        changed[..., columns] += torch.tensor([by, -by] * 40)[: changed[..., columns].shape[-1]]
        worse = MICRO.losses({"lanes": changed}, batch)
        assert float(sum(worse.values())) > float(sum(best.values()))


def test_a_lane_whose_claims_go_to_others_is_learned_by_another_prior_where_that_is_asked_for() -> None:
    batch = batch_of(MICRO, [road()])
    outputs = outputs_of(MICRO, batch.targets["lanes"])
    # Nothing is sure but the first lane's prior, which every lane then claims; the others' lie far off.
    outputs["lanes"][0, 0, 1:, :2] = torch.tensor([6.0, -6.0])
    outputs["lanes"][0, 0, 1:, XS] += 0.5
    few, all_of_them = build(every_lane=False), build(every_lane=True)
    assert float(few.losses(outputs, batch)["line"]) == pytest.approx(0.0, abs=1e-5)
    assert float(all_of_them.losses(outputs, batch)["line"]) > 0.5
