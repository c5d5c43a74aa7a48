"""A contact sheet of a rendered dataset: what its own reader finds in the files, labels drawn on the images."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from harness.datasets.base import Dataset, Frame, open_dataset
from harness.datasets.images import read_image, write_jpeg
from harness.rendered.kernels import Bytes
from harness.rendered.spec import RenderSpec

COLUMNS = 3
TILE_WIDTH = 640
LEAST_TILES = 9
"""Where a form has fewer scenarios, further clips of them are shown."""
JPEG_QUALITY = 90
COLORS = ((255, 60, 60), (60, 220, 60), (40, 120, 255), (255, 220, 40), (220, 80, 255))


def write_sheet(path: Path, root: Path, spec: RenderSpec) -> None:
    """Write a JPEG with frames of every scenario of a rendered dataset, each of another clip, with their labels."""
    dataset = open_dataset(spec.form, root, image_size=(spec.height, spec.width))
    tiles = [_tile(dataset, frame, spec) for frame in chosen_frames(dataset)]
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % COLUMNS)
    rows = [np.hstack(tiles[start : start + COLUMNS]) for start in range(0, len(tiles), COLUMNS)]
    write_jpeg(path, np.vstack(rows), JPEG_QUALITY)


def chosen_frames(dataset: Dataset) -> list[Frame]:
    """One labelled frame of every scenario, then of further clips until there are `LEAST_TILES`; in the order of scenarios."""
    # Of CULane's splits the test split alone names scenarios.
    frames = [frame for split in dataset.splits() if dataset.has_labels(split) for frame in dataset.frames(split)]
    named = [frame for frame in frames if frame.scenario is not None] or frames
    first_of_clip = list({frame.clip: frame for frame in reversed(named)}.values())[::-1]
    first_of_scenario = list({frame.scenario: frame for frame in reversed(first_of_clip)}.values())
    more = [frame for frame in first_of_clip if frame not in first_of_scenario]
    chosen = first_of_scenario + more[: max(LEAST_TILES - len(first_of_scenario), 0)]
    return sorted(chosen, key=lambda frame: frame.scenario or "")


def _tile(dataset: Dataset, frame: Frame, spec: RenderSpec) -> Bytes:
    image = read_image(frame.image)
    for number, lane in enumerate(dataset.lanes(frame)):
        points = np.round(lane.points * 16).astype(np.int32)
        cv2.polylines(image, [points], False, COLORS[number % len(COLORS)], 3, cv2.LINE_AA, 4)
    size = (TILE_WIDTH, round(TILE_WIDTH * spec.height / spec.width))
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    for color, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(small, frame.scenario or "", (10, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.7, color, thickness, cv2.LINE_AA)
    return small
