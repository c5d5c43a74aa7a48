"""LaneATT's losses are the published ones, of the anchors that take part, and every parameter learns from them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.base import Batch
from detectors.laneatt import LABELS, LaneATT
from tests.detectors.roads import batch_of, noise, road
from tests.detectors.small.laneatt import DETECTOR, SUPPRESSING, build


def outputs_for(detector: LaneATT, seed: int, images: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    places = detector.get_buffer("anchor_places")
    count, rows = places.shape
    return {
        "logits": torch.randn(images, count, 2, generator=generator),
        "lengths": torch.rand(images, count, generator=generator) * rows,
        "places": places + torch.randn(images, count, rows, generator=generator) * 4,
    }


def losses_in_words(detector: LaneATT, outputs: dict[str, torch.Tensor], batch: Batch) -> tuple[float, float]:
    """The two terms of the paper's equation 6, image by image, anchor by anchor and row by row, with all anchors taking part."""
    starts = (detector.get_buffer("anchor_starts") * 23).round().int().tolist()
    anchors = detector.get_buffer("anchor_places").double().numpy()
    values = {name: value.double().numpy() for name, value in outputs.items()}
    targets = {name: value.numpy() for name, value in batch.targets.items()}
    classification = regression = 0.0
    images = len(values["logits"])
    for image in range(images):
        labels = [index for index in range(LABELS) if targets["count"][image, index]]
        kinds: list[int | None] = []
        errors: list[float] = []
        for anchor, start in enumerate(starts):
            best, nearest = math.inf, -1
            for label in labels:
                first = int(targets["first"][image, label])
                rows = range(max(first, start), first + int(targets["count"][image, label]))
                if len(rows):
                    apart = [abs(anchors[anchor, row] - targets["places"][image, label, row]) for row in rows]
                    if np.mean(apart) < best:
                        best, nearest = float(np.mean(apart)), label
            kinds.append(1 if best < 15 else 0 if best > 20 else None)
            if kinds[-1] == 1:
                last = int(targets["first"][image, nearest] + targets["count"][image, nearest])
                off = [values["lengths"][image, anchor] - (last - start)]
                off += [
                    values["places"][image, anchor, row] - targets["places"][image, nearest, row]
                    for row in range(start, last)
                ]
                errors.append(sum(e * e / 2 if abs(e) < 1 else abs(e) - 0.5 for e in off) / 25)
        if not errors:
            kinds = [0] * len(kinds)
        focal = 0.0
        for anchor, kind in enumerate(kinds):
            if kind is not None:
                share = np.exp(values["logits"][image, anchor])
                share = share[kind] / share.sum()
                focal -= 0.25 * (1 - share) ** 2 * math.log(share)
        classification += 10 * focal / max(1, len(errors)) / images
        regression += sum(errors) / max(1, len(errors)) / images
    return classification, regression


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**20), st.floats(-150, 150), st.floats(-100, 100))
def test_losses_are_the_published_ones(seed: int, offset: float, bend: float) -> None:
    batch = batch_of(DETECTOR, [road(offset, bend), [], road(-offset)[1:3]])
    outputs = outputs_for(DETECTOR, seed, 3)
    terms = DETECTOR.losses(outputs, batch)
    classification, regression = losses_in_words(DETECTOR, outputs, batch)
    assert float(terms["classification"]) == pytest.approx(classification, rel=1e-4)
    assert float(terms["regression"]) == pytest.approx(regression, rel=1e-4)


def test_an_image_without_a_positive_counts_all_its_anchors_as_negatives() -> None:
    # No anchor is near enough to be the lane, and none far enough to be no lane.
    detector = build(positive=1e-6, negative=1e6).eval()
    outputs = outputs_for(detector, 0, 1)
    terms = detector.losses(outputs, batch_of(detector, [road()]))
    none = outputs["logits"].double().softmax(-1)[..., 0]
    assert float(terms["classification"]) == pytest.approx(
        float(-10 * 0.25 * ((1 - none) ** 2 * none.log()).sum()), rel=1e-4
    )
    assert float(terms["regression"]) == 0


def test_anchors_whose_lanes_were_suppressed_are_not_learned_from() -> None:
    outputs = outputs_for(SUPPRESSING, 1, 1)
    outputs["lengths"] = torch.full_like(outputs["lengths"], 24.0)
    logits = outputs["logits"].clone().requires_grad_()
    # Without a label every anchor that takes part is a negative.
    terms = SUPPRESSING.losses({**outputs, "logits": logits}, batch_of(SUPPRESSING, [[]]))
    terms["classification"].backward()
    assert logits.grad is not None
    learned = logits.grad[0].abs().sum(dim=-1) > 0
    assert 0 < int(learned.sum()) < len(learned)
    scores = outputs["logits"][0].softmax(dim=-1)[:, 1]
    starts = (SUPPRESSING.get_buffer("anchor_starts") * 23).round().int()
    for anchor in range(len(learned)):
        distances = (outputs["places"][0] - outputs["places"][0, anchor]).abs()
        from_row = torch.maximum(starts, starts[anchor]).tolist()
        mean = torch.stack([row[first:].mean() for row, first in zip(distances, from_row, strict=True)])
        likelier = learned & (scores > scores[anchor]) & (mean < 7.5)
        assert bool(learned[anchor]) != bool(likelier.any())


def test_losses_are_finite_without_any_lane_and_every_parameter_learns_with_some() -> None:
    detector = build(initial_deviation=0.05)
    with torch.no_grad():
        for parameter in detector.backbone.parameters():
            # timm starts the last normalisation of every block at zero: one step later its convolutions get gradient, too.
            parameter.add_(0.01)
    terms = detector.losses(detector(noise(2)), batch_of(detector, [[], []]))
    assert float(terms["regression"].detach()) == 0
    assert torch.isfinite(terms["classification"])
    sum(detector.losses(detector(noise(2)), batch_of(detector, [road(), []])).values(), torch.zeros(())).backward()
    assert [n for n, p in detector.named_parameters() if p.grad is None or not p.grad.any()] == []
