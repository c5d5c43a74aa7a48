"""Pictures of predictions for a published suite. Only rendered images may be shown: those of licensed datasets are never published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from harness.datasets.base import Dataset, Frame
from harness.datasets.drawing import draw_lanes
from harness.datasets.images import Image, read_image
from harness.datasets.sheets import tile, write_sheet
from harness.lanes import Lane
from harness.records.counts import UNNAMED, Counts

TILE_WIDTH = 640
"""Of one frame in the sheet; its height is in proportion."""

COLUMNS = 3


def median_images(counts: Counts) -> dict[str, str]:
    """Scenario -> the image whose F1@50, or accuracy, is the median of its scenario (of equals the first in the list)."""
    found = {}
    quality = counts.quality()
    for scenario in dict.fromkeys(counts.scenario.tolist()):
        rows = np.flatnonzero(counts.scenario == scenario)
        score = quality[rows]
        order = np.argsort(score, kind="stable")
        middle = score[order[(len(order) - 1) // 2]]
        found[str(scenario)] = str(counts.image[rows[np.flatnonzero(score == middle)[0]]])
    return found


def overlay_sheet(
    path: Path,
    dataset: Dataset,
    frames: Sequence[Frame],
    chosen: Mapping[str, str],
    lanes_of: Mapping[str, Sequence[Lane]],
) -> None:
    """Write one JPEG with the chosen frame of every scenario: predicted lanes in colour, labels as thin white lines."""
    by_id = {frame.id: frame for frame in frames}
    tiles = [overlay(dataset, by_id[image], scenario, lanes_of[image]) for scenario, image in chosen.items()]
    write_sheet(path, tiles, COLUMNS)


def overlay(dataset: Dataset, frame: Frame, scenario: str, lanes: Sequence[Lane]) -> Image:
    """One frame with its lanes and the scenario's name."""
    drawn = draw_lanes(read_image(frame.image), lanes, dataset.lanes(frame))
    return tile(drawn, TILE_WIDTH, "" if scenario == UNNAMED else scenario)
