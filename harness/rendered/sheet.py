"""A contact sheet of a rendered dataset: what its own reader finds in the files, labels drawn on the images."""

from __future__ import annotations

from pathlib import Path

from harness.datasets.base import Dataset, Frame, open_dataset
from harness.datasets.drawing import draw_lanes
from harness.datasets.images import Image, read_image
from harness.datasets.sheets import tile, write_sheet
from harness.rendered.spec import RenderSpec

COLUMNS = 3
TILE_WIDTH = 640
LEAST_TILES = 9
"""Where a form has fewer scenarios, further clips of them are shown."""


def write_rendered_sheet(path: Path, root: Path, spec: RenderSpec) -> None:
    """Write a JPEG with frames of every scenario of a rendered dataset, each of another clip, with their labels."""
    dataset = open_dataset(spec.form, root, image_size=(spec.height, spec.width))
    write_sheet(path, [_tile(dataset, frame) for frame in chosen_frames(dataset)], COLUMNS)


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


def _tile(dataset: Dataset, frame: Frame) -> Image:
    return tile(draw_lanes(read_image(frame.image), dataset.lanes(frame)), TILE_WIDTH, frame.scenario or "")
