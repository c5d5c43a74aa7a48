"""LaneATT: its published variants, its anchors and its attention, upstream's code beside it, and what every detector promises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from detectors.meta import Form
from harness.errors import InputError
from tests.checkouts import checkout_of
from tests.detectors.promises import assert_taps, size_of
from tests.detectors.roads import noise
from tests.detectors.small.laneatt import DETECTOR, build

# Metadata


@pytest.mark.parametrize(
    ("name", "parameters", "entries"),
    # Counted in LaneATT's own models.
    [
        ("laneatt_resnet18", 12_019_314, 128),
        ("laneatt_resnet34", 22_127_474, 224),
        ("laneatt_resnet122", 8_545_218, 734),
    ],
)
@pytest.mark.parametrize("form", ["culane", "tusimple", "llamas"])
def test_published_variants_have_the_published_number_of_parameters(
    name: str, form: Form, parameters: int, entries: int
) -> None:
    assert size_of(name, form) == (parameters, entries)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"anchor": "grid"}, r"laneatt_micro.*anchor.*did you mean 'anchors'"),
        ({"anchors": "curvelanes"}, "anchors"),
        ({"convergence": 1e-9}, "convergence"),
    ],
)
def test_impossible_architectures_are_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(**options)


def test_anchors_that_converge_cross_the_middle_of_the_upper_edge() -> None:
    kept = build(lateral=12, bottom=20, convergence=0.5).get_buffer("anchor_places")
    every = build(lateral=12, bottom=20, convergence=100.0).get_buffer("anchor_places")
    at_the_top = every[:, -1]
    assert torch.equal(kept, every[(at_the_top >= 80) & (at_the_top <= 240)])


# Forward


def test_answers_are_those_of_attention_written_out_anchor_by_anchor() -> None:
    detector = build(initial_deviation=0.3, lateral=3, bottom=4, channels=3)
    images = noise(2)
    seen: list[torch.Tensor] = []
    handle = detector.reduce.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        outputs = detector(images)
    handle.remove()
    maps = seen[0].double().numpy()
    starts, places = detector.get_buffer("anchor_starts").numpy(), detector.get_buffer("anchor_places").numpy()
    weights = {name: value.double().numpy() for name, value in detector.state_dict().items()}
    batch, channels, rows, columns = maps.shape
    stride = detector.taps()[-1].stride
    count = len(starts)
    for image in range(batch):
        features = np.zeros((count, channels, rows))
        for anchor in range(count):
            # The ray as a line through its first and its last row; rows of the map are spread from the top to the bottom.
            low, high = places[anchor, 0].astype(float), places[anchor, -1].astype(float)
            for row in range(rows):
                column = round((high + (low - high) * row / (rows - 1)) / stride)
                if 0 <= column <= columns:
                    features[anchor, :, row] = maps[image, :, row, min(column, columns - 1)]
        flat = features.reshape(count, -1)
        logits = flat @ weights["attend.weight"].T + weights["attend.bias"]
        for anchor in range(count):
            shares = np.exp(logits[anchor] - logits[anchor].max())
            shares /= shares.sum()
            others = [other for other in range(count) if other != anchor]
            attended = sum(share * flat[other] for share, other in zip(shares, others, strict=True))
            both = np.concatenate([attended, flat[anchor]])
            classes = weights["classify.weight"] @ both + weights["classify.bias"]
            offsets = weights["regress.weight"] @ both + weights["regress.bias"]
            np.testing.assert_allclose(outputs["logits"][image, anchor], classes, atol=1e-4)
            np.testing.assert_allclose(outputs["lengths"][image, anchor], offsets[0], atol=1e-4)
            np.testing.assert_allclose(outputs["places"][image, anchor], places[anchor] + offsets[1:], atol=1e-3)


# The module


def test_taps_fire_once_and_deliver_the_stated_shapes() -> None:
    assert_taps(DETECTOR)


def test_one_seed_gives_one_detector_whose_state_dict_restores_it() -> None:
    one, other = build(), build(seed=1)
    one(noise(2))  # moves the running statistics
    with torch.no_grad():
        before = one.eval()(noise(1))
        assert not torch.equal(before["logits"], other.eval()(noise(1))["logits"])
        other.load_state_dict(one.state_dict(), strict=True)
        assert all(torch.equal(value, other(noise(1))[name]) for name, value in before.items())
    again, same = build().state_dict(), build().state_dict()
    assert all(torch.equal(value, same[name]) for name, value in again.items())


# Upstream


@pytest.fixture(scope="module")
def checkout() -> Path:
    return checkout_of("LaneATT")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "form"), [("laneatt_resnet18", "culane"), ("laneatt_resnet34", "tusimple")])
def test_everything_is_as_upstream_has_it(name: str, form: Form, checkout: Path) -> None:
    from harness.parity.compare import parity

    found = parity(name, form, checkout)
    assert {layer.name: layer.outcome for layer in found.layers if layer.outcome == "differs"} == {}
    assert {"raw logits", "raw places", "lanes", "loss classification", "loss regression"} <= {
        layer.name for layer in found.layers if layer.outcome == "agrees"
    }


@pytest.mark.slow
@pytest.mark.parametrize("dataset", ["culane", "tusimple", "llamas"])
def test_published_anchors_are_the_most_frequent_of_upstreams_count(dataset: str, checkout: Path) -> None:
    from detectors.parts.line_anchors import PUBLISHED

    frequencies = torch.load(checkout / "data" / f"{dataset}_anchors_freq.pt", weights_only=True)
    expected = frequencies.sort(descending=True, stable=True).indices[:1000]
    assert [int(rank) for rank in PUBLISHED[dataset].split()] == expected.tolist()
