"""LSTR's losses are the published ones, finite, and least where curves lie on their labels."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.detectors.promises import finite_terms, unmoved
from tests.detectors.roads import FRAME, batch_of, noise, road
from tests.detectors.small.lstr import MICRO, build, fitted_outputs


def published_losses(logits: torch.Tensor, curves: torch.Tensor, targets: dict[str, torch.Tensor]) -> dict[str, float]:
    """Upstream's loss of one decoder layer, lane by lane, with the matching found by trying all of them."""
    rows = torch.linspace(0, 1, targets["x"].shape[-1])
    lanes = [[int(m) for m in np.flatnonzero((x >= 0).any(dim=-1).numpy())] for x in targets["x"]]
    points = {(i, m): int((targets["x"][i, m] >= 0).sum()) for i, ms in enumerate(lanes) for m in ms}
    total, weights = sum(points.values()), {}
    for key, count in points.items():
        weights[key] = math.sqrt(total / count)
    weights = {key: weight / max(weights.values()) for key, weight in weights.items()}

    def terms(image: int, query: int, lane: int) -> tuple[float, float, float]:
        far, near, k, f, m, n, b1, b2 = curves[image, query].tolist()
        distance = 0.0
        for y, place in zip(rows.tolist(), targets["x"][image, lane].tolist(), strict=True):
            if place >= 0:
                distance += abs(k / (y - f) ** 2 + m / (y - f) + n + b1 * y - b2 - place)
        ends = targets["ends"][image, lane].tolist()
        return weights[image, lane] * distance, abs(far - ends[0]), abs(near - ends[1])

    sums, classes = np.zeros(3), torch.zeros(logits.shape[:2], dtype=torch.int64)
    for image, present in enumerate(lanes):
        probability = logits[image].softmax(-1)[:, 1].tolist()
        pairs = {
            (q, m): (-3 * probability[q] + float(np.dot([5, 2, 2], terms(image, q, m))))
            for q in range(logits.shape[1])
            for m in present
        }
        best = min(
            itertools.permutations(range(logits.shape[1]), len(present)),
            key=lambda chosen: sum(pairs[pair] for pair in zip(chosen, present, strict=True)),
        )
        for query, lane in zip(best, present, strict=True):
            sums += terms(image, query, lane)
            classes[image, query] = 1
    curve, far, near = sums / max(1, len(points))
    entropy = float(F.cross_entropy(logits.flatten(0, 1), classes.flatten()))
    return {"lane": 3 * entropy, "curve": 5 * curve, "far": 2 * far, "near": 2 * near}


@pytest.mark.parametrize("seed", range(4))
def test_losses_are_the_published_ones_summed_over_the_decoder_layers(seed: int) -> None:
    lanes = [road(20.0 * seed), road(-100.0)[1:3], [], road(0.0, 100.0)[:3]]
    batch = batch_of(MICRO, lanes)
    generator = torch.Generator().manual_seed(seed)
    outputs = {
        "logits": torch.randn(4, 2, 7, 2, generator=generator),
        "curves": torch.rand(4, 2, 7, 8, generator=generator) - torch.tensor([0, 0, 0, 1.2, 0, 0, 0, 0]),
    }
    expected = [
        published_losses(outputs["logits"][:, layer], outputs["curves"][:, layer], batch.targets) for layer in range(2)
    ]
    measured = {name: float(term) for name, term in MICRO.losses(outputs, batch).items()}
    assert measured == pytest.approx({name: expected[0][name] + expected[1][name] for name in measured}, rel=1e-4)
    assert set(measured) == set(expected[0])


def test_losses_and_gradients_are_finite_without_any_lane() -> None:
    detector = build()
    terms = finite_terms(detector, batch_of(detector, [[], []]))
    assert {name for name, value in terms.items() if value != 0} == {"lane"}


def test_every_parameter_learns_from_a_batch_with_lanes() -> None:
    detector = build()
    # DETR's decoder begins with nothing found, so its first self-attention has nothing to compare.
    expected = {"transformer.decoder.0.self_attention.in_proj_weight"}
    assert unmoved(detector, batch_of(detector, [road(), road(60.0)]), detector.parameters()) <= expected


def test_curves_on_their_labels_cost_less_than_any_others() -> None:
    batch = batch_of(MICRO, [road()])
    best = fitted_outputs(batch.targets)
    other = {"logits": best["logits"].flip(-1), "curves": best["curves"] + 0.1}
    cheap, dear = MICRO.losses(best, batch), MICRO.losses(other, batch)
    assert all(cheap[name] < dear[name] for name in cheap)
    assert sum(cheap.values()) < 0.01


def test_the_order_of_the_labels_makes_no_difference() -> None:
    images, geometry = noise(1), MICRO.geometry_of(FRAME)
    with torch.no_grad():
        outputs = MICRO(images)
        one, other = (
            MICRO.losses(outputs, batch_of(MICRO, [lanes], images=images, geometries=[geometry]))
            for lanes in (road(), road()[::-1])
        )
    assert {k: float(v) for k, v in one.items()} == pytest.approx({k: float(v) for k, v in other.items()}, rel=1e-5)


def test_outputs_that_are_no_numbers_show_in_the_loss() -> None:
    batch = batch_of(MICRO, [road()])
    outputs = fitted_outputs(batch.targets)
    outputs["curves"][0, 0, :, 5] = math.nan
    assert torch.isnan(MICRO.losses(outputs, batch)["curve"])
