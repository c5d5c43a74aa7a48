"""How often the host waits for the device in a forward, the losses and their gradients: a GPU is idle meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from detectors.parts import lane_suppression
from detectors.registry import detector_class
from harness.conformance.second_device import SECOND_DEVICE, second_device
from harness.conformance.waits import host_waits
from tests.detectors.roads import batch_of, road, variant

WAITS: dict[str, tuple[dict[str, Any], int]] = {
    "resa_micro": ({}, 0),
    "ufldv2_micro": ({"labels": "cell", "row_lanes": (1, 2), "column_anchors": 20, "column_cells": 30}, 0),
    "condlanenet_micro": ({}, 0),
    # Chains of anchors, each of which hangs on the one before, are looked at after 1, 3 and 7 links.
    "laneatt_micro": ({"training_suppression": 15.0}, 3),
}
"""Architecture options, and how often at most."""


@pytest.mark.parametrize("name", WAITS)
def test_the_host_waits_no_more_often_for_a_larger_batch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options, most = WAITS[name]
    monkeypatch.setattr(lane_suppression, "_kind", lambda values: "accelerator")
    torch.manual_seed(0)
    detector = detector_class(name)(variant(name, **options), "culane")
    batches = [batch_of(detector, [road(bend=10.0 * lanes)[:lanes] for lanes in range(size)]) for size in (1, 4)]
    with second_device():
        detector.to(SECOND_DEVICE)
        for batch in batches:
            there = batch.to(SECOND_DEVICE)
            with host_waits() as found:
                sum(detector.losses(detector(there.images), there).values()).backward()
            assert found.total() <= most, found
