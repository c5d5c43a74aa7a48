"""What the conformance battery shows an adapter: a few rendered frames with exact labels, and labels that real files may hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from harness.datasets.base import Frame
from harness.datasets.images import write_encoded
from harness.datasets.lines import write_lines_file
from harness.lanes import Lane
from harness.metrics.canvas import IMAGE_SIZE, LANE_WIDTH
from harness.metrics.counts import LADDER
from harness.metrics.culane import score_images
from harness.rendered.frame import Frame as RenderedFrame
from harness.rendered.frame import prepare, render_frame
from harness.rendered.sampling import sample_scene

CLIPS = (("normal", 11), ("arrow", 12), ("curve", 13), ("crowd", 14))
"""Scenario and seed of each clip; none is a crossroad, which has no lanes."""

FRAMES_PER_CLIP = 2
DIFFICULTY = 0.2
WIDTH = 820
"""Frames are rendered this many pixels wide, half of CULane's: no adapter may rest on the size of the file."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Rendered frames as files below `root`: each frame's image and, beside it, its labels in CULane's format.

    size: (height, width) of the images.
    """

    root: Path
    frames: tuple[Frame, ...]
    labels: dict[str, list[Lane]]
    size: tuple[int, int]

    def lanes(self, frame: Frame) -> list[Lane]:
        """The labels of a frame, as `Dataset.lanes` gives them."""
        return self.labels[frame.id]

    def score(self, lanes: Sequence[Sequence[Lane]], folder: Path) -> float:
        """F1 at IoU 0.5 of the lanes found in the first frames, as `culane/official` counts at this size of image.

        The predictions' files are written below `folder`.
        """
        images = [frame.id for frame in self.frames[: len(lanes)]]
        folder.mkdir(parents=True, exist_ok=True)
        for image, found in zip(images, lanes, strict=True):
            write_lines_file(folder / image.replace(".jpg", ".lines.txt"), list(found))
        width = round(LANE_WIDTH * self.size[1] / IMAGE_SIZE[1])
        counts, _ = score_images(self.root, folder, images, image_size=self.size, lane_width=width, workers=1)
        return counts.sums(LADDER[0]).f1 or 0.0


def write_samples(root: Path, frame: tuple[int, int]) -> Samples:
    """Render the frames into the folder `root`, in the proportions of a frame of (height, width)."""
    size = (round(frame[0] * WIDTH / frame[1]), WIDTH)
    root.mkdir(parents=True, exist_ok=True)
    frames, labels = [], {}
    for number, rendered in enumerate(rendered_frames(size)):
        name = f"{number}.jpg"
        write_encoded(root / name, rendered.image, [cv2.IMWRITE_JPEG_QUALITY, 95])
        write_lines_file(root / f"{number}.lines.txt", rendered.lanes)
        # Copies: an adapter that changes labels must not change those of the next one.
        labels[name] = [Lane(lane.points.copy()) for lane in rendered.lanes]
        frames.append(Frame(name, root / name, None, f"clip {number // FRAMES_PER_CLIP}"))
    return Samples(root, tuple(frames), labels, size)


@cache
def rendered_frames(size: tuple[int, int]) -> tuple[RenderedFrame, ...]:
    """The frames at a size (height, width); rendered once a process."""
    height, width = size
    found = []
    for scenario, seed in CLIPS:
        stage = prepare(sample_scene(scenario, DIFFICULTY, seed, FRAMES_PER_CLIP))
        found += [render_frame(stage, number, width=width, height=height) for number in range(FRAMES_PER_CLIP)]
    return tuple(found)


def hostile_labels(size: tuple[int, int]) -> dict[str, list[Lane]]:
    """Sets of labels of an image of `size` (height, width), by what is unusual about them."""
    height, width = size
    rows = np.linspace(height - 1, 0.5 * height, 12)

    def line(near: float, far: float) -> Lane:
        return Lane(np.stack([np.linspace(near, far, len(rows)), rows], axis=1))

    def points(*values: tuple[float, float]) -> Lane:
        return Lane(np.array(values, dtype=np.float32).reshape(-1, 2))

    middle = line(0.3 * width, 0.5 * width)
    broken = middle.points.copy()
    broken[3], broken[7] = np.nan, np.inf
    return {
        "no lane": [],
        "a lane without a point": [points()],
        "a lane of one point": [points((0.5 * width, 0.8 * height))],
        "a lane of two equal points": [points((0.5 * width, 0.8 * height), (0.5 * width, 0.8 * height))],
        "points that aren't finite": [Lane(broken)],
        "a lane from far to near": [Lane(middle.points[::-1].copy())],
        "a level lane": [points((0.1 * width, 0.8 * height), (0.9 * width, 0.8 * height))],
        "a lane that turns back": [Lane(np.concatenate([middle.points, middle.points[::-1]]))],
        "a lane outside the image": [line(2.0 * width, 1.5 * width)],
        "coordinates of a million": [points((1e6, 1e6), (-1e6, -1e6))],
        "the same lane twice": [middle, middle],
        "twelve lanes": [line(share * width, 0.5 * width) for share in np.linspace(-0.5, 1.5, 12)],
    }
