"""UFLD's losses are the published ones, finite, and least where outputs say what labels say."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from detectors.ufld import shape_loss, similarity_loss
from harness.lanes import Lane
from tests.detectors.promises import finite_terms, unmoved
from tests.detectors.roads import batch_of, road
from tests.detectors.small.ufld import ARCHITECTURES, DETECTORS, build, perfect_outputs, published


def published_losses(outputs: dict[str, torch.Tensor], cells: torch.Tensor, mask: torch.Tensor) -> dict[str, float]:
    """Upstream's four losses, written out row by row. cells: (B, rows, lanes), the last choice where a lane is absent."""
    logits = outputs["location"]
    images, choices, rows, lanes = logits.shape
    focal, steps = [], []
    for image, row, lane in np.ndindex(images, rows, lanes):
        probability = float(logits[image, :, row, lane].softmax(0)[cells[image, row, lane]])
        focal.append(-((1 - probability) ** 2) * math.log(probability))
    for row in range(rows - 1):
        steps.append(F.smooth_l1_loss(logits[:, :, row], logits[:, :, row + 1]))
    place = torch.einsum("bkrl,k->brl", logits[:, :-1].softmax(1), torch.arange(choices - 1.0))
    bends = [
        ((place[:, row] - place[:, row + 1]) - (place[:, row + 1] - place[:, row + 2])).abs().mean()
        for row in range(rows // 2 - 1)
    ]
    return {
        "location": float(np.mean(focal)),
        "segmentation": float(F.cross_entropy(outputs["segmentation"], mask.long())),
        "similarity": float(torch.stack(steps).mean()),
        "shape": float(torch.stack(bends).mean()),
    }


def test_losses_are_the_published_ones() -> None:
    detector = build("as published", similarity=0.5, shape=0.25).train()
    left = Lane(np.array([[0, 589], [0, 240]], dtype=np.float32))  # where the first cell begins
    batch = batch_of(detector, [road(), [left, *road(-100.0)[1:3]]])
    assert (batch.targets["position"] == 0).any()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        outputs = {k: 3 * torch.randn(v.shape, generator=generator) for k, v in detector(batch.images).items()}
    terms = detector.losses(outputs, batch)
    positions = batch.targets["position"]
    cells = torch.where(positions < 0, 200, positions.floor()).long()
    expected = published_losses(outputs, cells, batch.targets["mask"])
    expected["similarity"] *= 0.5
    expected["shape"] *= 0.25
    assert {name: float(term) for name, term in terms.items()} == pytest.approx(expected, rel=1e-4)


def test_published_weights_of_the_structural_losses() -> None:
    culane, tusimple = (published("ufld_resnet18", form).options for form in ("culane", "tusimple"))
    assert (culane.similarity, culane.shape) == (0.0, 0.0)
    assert (tusimple.similarity, tusimple.shape) == (1.0, 0.0)


def test_structural_losses_are_zero_for_straight_lanes_that_are_sure() -> None:
    cells, rows = 30, 8
    place = 4 + 2 * torch.arange(rows)[:, None] + torch.zeros(rows, 4)
    straight = 60.0 * (torch.arange(cells + 1)[:, None, None] == place)[None].float()
    assert float(shape_loss(straight)) == pytest.approx(0.0, abs=1e-5)
    assert float(similarity_loss(straight[:, :, :1].expand(-1, -1, rows, -1))) == 0.0
    assert float(similarity_loss(straight)) > 0.1


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_losses_and_gradients_are_finite_without_any_lane(name: str) -> None:
    detector = build(name)
    finite_terms(detector, batch_of(detector, [[], []]))


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_every_parameter_learns_from_a_batch_with_lanes(name: str) -> None:
    detector = build(name)
    assert unmoved(detector, batch_of(detector, [road(), road(60.0)]), detector.backbone.parameters()) == set()


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_perfect_outputs_cost_less_than_any_others(name: str) -> None:
    detector = DETECTORS[name]
    batch = batch_of(detector, [road()])
    perfect = perfect_outputs(detector, batch.targets)
    best = detector.losses(perfect, batch)
    other = detector.losses({key: value.roll(3, 1) for key, value in perfect.items()}, batch)
    assert all(best[term] < other[term] for term in best if term in ("location", "segmentation"))
