"""RESA's losses are the published ones, finite, and least where outputs say what labels say."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tests.detectors.promises import finite_terms, unmoved
from tests.detectors.roads import batch_of, road
from tests.detectors.small.resa import ARCHITECTURES, DETECTORS, build, perfect_outputs


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_losses_and_gradients_are_finite_without_any_lane(name: str) -> None:
    detector = build(name)
    assert set(finite_terms(detector, batch_of(detector, [[], []]))) == {"mask", "existence"}


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_every_parameter_learns_from_a_batch_with_lanes(name: str) -> None:
    detector = build(name)
    assert unmoved(detector, batch_of(detector, [road(), road(60.0)]), detector.backbone.parameters()) == set()


def test_losses_at_full_resolution_are_the_published_ones() -> None:
    detector = DETECTORS["full resolution"]
    batch = batch_of(detector, [road(), road(-100.0)[1:3]])
    generator = torch.Generator().manual_seed(1)
    outputs = {
        "mask": torch.randn(2, 5, 128, 320, generator=generator) * 3,
        "existence": torch.randn(2, 4, generator=generator),
    }
    terms = detector.losses(outputs, batch)
    weight = torch.tensor([0.4, 1.0, 1.0, 1.0, 1.0])
    expected = F.cross_entropy(outputs["mask"], batch.targets["mask"].long(), weight=weight)
    assert float(terms["mask"]) == pytest.approx(float(expected), rel=1e-5)
    exists = F.binary_cross_entropy_with_logits(outputs["existence"], batch.targets["existence"])
    assert float(terms["existence"]) == pytest.approx(0.1 * float(exists), rel=1e-5)


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_perfect_outputs_cost_less_than_any_others(name: str) -> None:
    detector = DETECTORS[name]
    batch = batch_of(detector, [road()[1:]])
    perfect = perfect_outputs(detector, batch.targets)
    best = detector.losses(perfect, batch)
    for other in (
        {"mask": perfect["mask"].roll(3, dims=3), "existence": perfect["existence"].roll(1)},
        {"mask": 0.5 * perfect["mask"], "existence": 0.1 * perfect["existence"]},
    ):
        worse = detector.losses(other, batch)
        assert all(best[term] < worse[term] for term in best)
