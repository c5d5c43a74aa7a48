"""Rendered TuSimple labels against the real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.datasets.tusimple import points_of, read_labels
from harness.lanes import Lane
from harness.rendered.calibration import REAL, REAL_LANES, lanes_a_frame, quantiles, rendered_labels

Labels = dict[str, list[list[Lane]]]

TOLERANCES = {
    "topmost row": (10, 10, 10, 10, 10),
    "vanishing row": (4, 3, 3, 3, 4),
    "ego width at row 720, px": (25, 10, 10, 10, 25),
    "visible rows of a lane": (30, 10, 20, 20, 10),
    "quadratic coefficient, px per (100 rows)^2": (5.0, 1.0, 0.5, 1.0, 5.0),
}
"""How far rendered quantiles may be off: a step of the rows where rows are counted, else what sets of some hundred frames vary by."""


@pytest.fixture(scope="module")
def labels() -> Labels:
    return rendered_labels(1000, seed=41)


@pytest.mark.slow
@pytest.mark.parametrize("quantity", REAL)
def test_quantiles_are_those_of_the_real_labels(labels: Labels, quantity: str) -> None:
    measured = quantiles(labels["train"] + labels["test"])[quantity]
    assert (np.abs(measured - REAL[quantity]) <= TOLERANCES[quantity]).all(), measured


@pytest.mark.slow
@pytest.mark.parametrize("split", ["train", "test"])
def test_there_are_as_many_lanes_a_frame_as_in_the_real_labels(labels: Labels, split: str) -> None:
    found = lanes_a_frame(labels[split])
    assert set(found) <= {2, 3, 4, 5}
    for count, share in REAL_LANES[split].items():
        assert found[count] == pytest.approx(share, abs=0.07)


def test_the_stated_facts_are_those_of_the_real_files(shared: Path) -> None:
    folder = shared / "real" / "tusimple"
    files = {"test": ["test_label.json"], "train": ["train_three.json", "train_four.json", "train_five.json"]}
    lines = {split: [line for file in names for line in read_labels(folder / file)] for split, names in files.items()}
    frames = [[Lane(points) for points in points_of(line)] for found in lines.values() for line in found]
    assert len(frames) == 6407
    for name, measured in quantiles(frames).items():
        np.testing.assert_allclose(measured, REAL[name], atol=0.06 if "quadratic" in name else 0.6)
    for split, found in lines.items():
        # As the files and the official evaluator count: also lanes without a point, of which the training set has many.
        counts = [len(line.xs) for line in found]
        for count, share in REAL_LANES[split].items():
            assert counts.count(count) / len(counts) == pytest.approx(share, abs=0.006)
