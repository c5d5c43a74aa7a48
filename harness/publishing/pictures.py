"""Pictures of predictions for a published suite. Only rendered images may be shown: those of licensed datasets are never published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from harness.datasets.base import Dataset, Frame
from harness.datasets.images import Image, read_image, write_jpeg
from harness.inference.drawing import draw_lanes
from harness.lanes import Lane
from harness.records.counts import UNNAMED, Counts

TILE_WIDTH = 640
"""Of one frame in the sheet; its height is in proportion."""

COLUMNS = 3
JPEG_QUALITY = 88


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
    tiles = [tile(dataset, by_id[image], scenario, lanes_of[image]) for scenario, image in chosen.items()]
    blank = np.full_like(tiles[0], 255)
    tiles += [blank] * (-len(tiles) % COLUMNS)
    rows = [np.hstack(tiles[start : start + COLUMNS]) for start in range(0, len(tiles), COLUMNS)]
    write_jpeg(path, np.asarray(np.vstack(rows), dtype=np.uint8), JPEG_QUALITY)


def tile(dataset: Dataset, frame: Frame, scenario: str, lanes: Sequence[Lane]) -> Image:
    """One frame with its lanes and the scenario's name."""
    drawn = draw_lanes(read_image(frame.image), lanes, dataset.lanes(frame))
    height = round(TILE_WIDTH * drawn.shape[0] / drawn.shape[1])
    small = cv2.resize(drawn, (TILE_WIDTH, height), interpolation=cv2.INTER_AREA)
    told = "" if scenario == UNNAMED else scenario
    for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(small, told, (10, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.7, colour, thickness, cv2.LINE_AA)
    return np.asarray(small, dtype=np.uint8)
