"""UFLDv2's losses are the published ones, finite, and least where outputs say what labels say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from harness.lanes import Lane
from tests.detectors.promises import finite_terms, unmoved
from tests.detectors.roads import batch_of, road
from tests.detectors.small.ufldv2 import ARCHITECTURES, DETECTORS, build, perfect_outputs


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_losses_and_gradients_are_finite_without_any_lane(name: str) -> None:
    detector = build(name)
    terms = finite_terms(detector, batch_of(detector, [[], []]))
    assert all(value == 0 or term.endswith("existence") for term, value in terms.items())


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_every_parameter_learns_from_a_batch_with_lanes(name: str) -> None:
    detector = build(name)
    assert unmoved(detector, batch_of(detector, [road(), road(60.0)]), detector.backbone.parameters()) == set()


def published_losses(location: torch.Tensor, existence: torch.Tensor, labels: torch.Tensor) -> list[float]:
    """Upstream's three losses of one family, written anchor by anchor. labels: (B, anchors, lanes), cell or -1."""
    cells, focal, distance = location.shape[1], [], []
    for image, anchor, lane in np.argwhere(labels.numpy() >= 0):
        label = int(labels[image, anchor, lane])
        target = torch.zeros(cells)
        for neighbour, mass in ((label - 1, 0.05), (label, 0.9), (label + 1, 0.05)):
            target[min(max(neighbour, 0), cells - 1)] += mass
        probability = location[image, :, anchor, lane].softmax(0)
        focal.append(float(-(target * (1 - probability) ** 2 * probability.log()).sum()))
        expectation = (probability * torch.arange(cells)).sum()
        distance.append(float(F.smooth_l1_loss(expectation, torch.tensor(float(label)))))
    exist = float(F.cross_entropy(existence, (labels >= 0).long()))
    return [float(np.mean(focal)), exist, 0.05 * float(np.mean(distance))]


def test_losses_with_cell_labels_are_the_published_ones() -> None:
    detector = DETECTORS["fully connected"]
    left = Lane(np.array([[0, 589], [0, 260]], dtype=np.float32))  # where the first cell begins
    labels = [[left, *road()[2:]], road(-100.0)]
    batch = batch_of(detector, labels)
    assert (batch.targets["row"] == 0).any()
    generator = torch.Generator().manual_seed(1)
    shapes = {key: value.shape for key, value in detector(batch.images).items()}
    outputs = {key: torch.randn(shape, generator=generator) * 3 for key, shape in shapes.items()}
    terms = detector.losses(outputs, batch)
    for family in ("row", "column"):
        cells = torch.where(batch.targets[family] >= 0, batch.targets[family].floor(), -1)
        expected = published_losses(outputs[f"{family}_location"], outputs[f"{family}_existence"], cells)
        measured = [float(terms[f"{family}_{term}"]) for term in ("location", "existence", "expectation")]
        assert measured == pytest.approx(expected, rel=1e-4)
    assert set(terms) == {f"{f}_{t}" for f in ("row", "column") for t in ("location", "existence", "expectation")}


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_perfect_outputs_cost_less_than_any_others(name: str) -> None:
    detector = DETECTORS[name]
    batch = batch_of(detector, [road()])
    best = detector.losses(perfect_outputs(detector, batch.targets), batch)
    other = detector.losses(
        {k: torch.roll(v, 3, 1) for k, v in perfect_outputs(detector, batch.targets).items()}, batch
    )
    for term in best:
        assert best[term] < other[term]
        assert not term.endswith(("expectation", "existence")) or best[term] < 1e-3
