"""Sheets of overlays of every form."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import cv2
import numpy as np

from harness.datasets.base import open_dataset
from harness.publishing.pictures import TILE_WIDTH, median_images, overlay_sheet
from harness.records.counts import AccuracyCounts


def rated(accuracy: list[float], scenario: list[str]) -> AccuracyCounts:
    count = len(accuracy)
    ones = np.ones(count, np.int32)
    names = np.array([f"{index}.jpg" for index in range(count)])
    rates = np.array(accuracy)
    return AccuracyCounts(names, names, np.array(scenario), ones, ones, ones, rates, 1 - rates, 1 - rates)


def test_the_median_image_of_tusimple_is_by_accuracy() -> None:
    counts = rated([0.2, 0.9, 0.5, 0.1, 0.7], ["day", "day", "day", "night", "night"])
    assert median_images(counts) == {"day": "2.jpg", "night": "3.jpg"}
    assert median_images(rated([0.9, 0.5, 0.5, 0.5], ["day"] * 4)) == {"day": "1.jpg"}, "of equals the first"


def test_tiles_keep_the_proportions_of_the_frames(trees: ModuleType, tmp_path: Path) -> None:
    trees.write_tusimple(tmp_path, {"test": 4})
    dataset = open_dataset("tusimple", tmp_path)
    frames = dataset.frames("test")
    lanes = {frame.id: dataset.lanes(frame) for frame in frames}
    overlay_sheet(tmp_path / "sheet.jpg", dataset, frames, {str(k): frame.id for k, frame in enumerate(frames)}, lanes)
    assert cv2.imread(str(tmp_path / "sheet.jpg")).shape == (2 * 360, 3 * TILE_WIDTH, 3)
